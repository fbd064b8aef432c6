#!/usr/bin/env python3
"""Derives the small data sets that ship from the public files.

    tests/make_data.py SET SOURCE_FOLDER OUTPUT_FOLDER

SET             SOURCE_FOLDER holds
fashion-mnist   t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz and LICENSE of zalandoresearch/fashion-mnist.
                Of every class the first 800 images, in the file's order, become the training part and the other
                200 the test part; each part keeps the order of the original file.
mnist-4-9       the four files of MNIST. Of both parts the rows labelled 4 or 9, in the file's order.
w7a-t           w7a.t.gz (LIBSVM). Its first 24,600 rows.

The output is a pure function of the input: gzip level 9, no name, no time. The unpacked input is checked against
the sums published for the data set (w7a-t: recorded when it was first fetched), and the script ends with the SHA-256
sums of what it wrote, which data/README.md lists.
"""
import gzip
import hashlib
import io
import pathlib
import shutil
import struct
import sys

FASHION_MD5 = {"t10k": ("8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965")}
MNIST_MD5 = {"train": ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
             "t10k": ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637")}
W7A_T_MD5 = "ebed6af3edd3171fba8dd24d7703d76e"
W7A_T_ROWS = 24600
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


def read_idx(source, part, md5):
    images = read(source / f"{part}-images-idx3-ubyte.gz", md5[0])[16:]
    return images, read(source / f"{part}-labels-idx1-ubyte.gz", md5[1])[8:]


def pack_idx(target, part, images, labels, rows):
    pixels = b"".join(images[row * PIXELS:(row + 1) * PIXELS] for row in rows)
    pack(target / f"{part}-images-idx3-ubyte.gz", struct.pack(">4I", 2051, len(rows), 28, 28) + pixels)
    chosen = bytes(labels[row] for row in rows)
    pack(target / f"{part}-labels-idx1-ubyte.gz", struct.pack(">2I", 2049, len(rows)) + chosen)


def make_fashion_mnist(source, target):
    images, labels = read_idx(source, "t10k", FASHION_MD5["t10k"])
    for part, rows in zip(("train", "t10k"), choose(labels)):
        pack_idx(target, part, images, labels, rows)
    shutil.copyfile(source / "LICENSE", target / "LICENSE")


def make_mnist_4_9(source, target):
    for part, md5 in MNIST_MD5.items():
        images, labels = read_idx(source, part, md5)
        pack_idx(target, part, images, labels, [row for row, label in enumerate(labels) if label in (4, 9)])


def make_w7a_t(source, target):
    lines = read(source / "w7a.t.gz", W7A_T_MD5).splitlines(keepends=True)
    pack(target / "w7a-t.gz", b"".join(lines[:W7A_T_ROWS]))


def main():
    makers = {"fashion-mnist": make_fashion_mnist, "mnist-4-9": make_mnist_4_9, "w7a-t": make_w7a_t}
    if len(sys.argv) != 4 or sys.argv[1] not in makers:
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[3])
    target.mkdir(parents=True, exist_ok=True)
    makers[sys.argv[1]](pathlib.Path(sys.argv[2]), target)


if __name__ == "__main__":
    main()
