#!/usr/bin/env python3
"""Derives data/fashion-mnist, the small Fashion-MNIST that ships, from the original 10,000-image test file.

    tests/make_data.py FOLDER_WITH_t10k_FILES OUTPUT_FOLDER

FOLDER_WITH_t10k_FILES holds t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz and LICENSE of
zalandoresearch/fashion-mnist. Of every class the first 800 images, in the file's order, become the training
part and the other 200 the test part; each part keeps the order of the original file. The output is a pure
function of the input: gzip level 9, no name, no time.

The unpacked input is checked against the MD5 sums published for the data set, and the script ends with the
SHA-256 sums of what it wrote, which data/README.md lists.
"""
import gzip
import hashlib
import io
import pathlib
import shutil
import struct
import sys

IMAGES_MD5 = "8181f5470baa50b63fa0f6fddb340f0a"
LABELS_MD5 = "15d484375f8d13e6eb1aabb0c3f46965"
TRAIN_PER_CLASS, TEST_PER_CLASS, CLASSES = 800, 200, 10
PIXELS = 28 * 28


def read(path, md5):
    data = gzip.decompress(path.read_bytes())
    found = hashlib.md5(data).hexdigest()
    if found != md5:
        sys.exit(f"{path}: MD5 of the unpacked data is {found}, not {md5}: not the original file")
    return data


def pack(path, data):
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as out:
        out.write(data)
    path.write_bytes(packed.getvalue())
    print(hashlib.sha256(packed.getvalue()).hexdigest(), path.name)
    print(hashlib.sha256(data).hexdigest(), path.name.removesuffix(".gz"))


def choose(labels):
    """Returns the rows of the training and of the test part, both ascending."""
    seen = [0] * CLASSES
    train, test = [], []
    for row, label in enumerate(labels):
        (train if seen[label] < TRAIN_PER_CLASS else test).append(row)
        seen[label] += 1
    if seen != [TRAIN_PER_CLASS + TEST_PER_CLASS] * CLASSES:
        sys.exit(f"classes are not balanced: {seen}")
    return train, test


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    images = read(source / "t10k-images-idx3-ubyte.gz", IMAGES_MD5)[16:]
    labels = read(source / "t10k-labels-idx1-ubyte.gz", LABELS_MD5)[8:]
    target.mkdir(parents=True, exist_ok=True)
    for part, rows in zip(("train", "t10k"), choose(labels)):
        pixels = b"".join(images[row * PIXELS:(row + 1) * PIXELS] for row in rows)
        pack(target / f"{part}-images-idx3-ubyte.gz", struct.pack(">4I", 2051, len(rows), 28, 28) + pixels)
        chosen = bytes(labels[row] for row in rows)
        pack(target / f"{part}-labels-idx1-ubyte.gz", struct.pack(">2I", 2049, len(rows)) + chosen)
    shutil.copyfile(source / "LICENSE", target / "LICENSE")


if __name__ == "__main__":
    main()
