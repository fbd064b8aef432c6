#!/usr/bin/env python3
"""Bad input and help.

Goal: every mistake a person can make is answered by one line that names the thing, with the right exit status, and
leaves nothing behind; help fits a screen, and its example is a command that is understood. Method: a table of
commands with broken files and options in a temporary folder; stderr and the folder are looked at afterwards."""
import gzip
import pathlib
import shlex
import socket
import struct
from resource import RLIMIT_NOFILE, setrlimit

from harness import FASHION, Workplace, check, finish, main, run

MAIN = pathlib.Path.cwd()
COMMANDS = ("up", "agent", "sim", "eval", "algorithms", "reproduce", "status", "doctor", "invite")



def idx_images(rows, magic=0x00000803):
    return struct.pack(">IIII", magic, rows, 4, 4) + bytes(range(16)) * rows


def idx_labels(labels, magic=0x00000801):
    return struct.pack(">II", magic, len(labels)) + bytes(labels)


def write_idx(folder, images=None, test_labels=None):
    """A set of twelve tiny images, and as many to test with."""
    folder.mkdir()
    labels = [i % 10 for i in range(12)]
    (folder / "train-images-idx3-ubyte").write_bytes(images if images is not None else idx_images(12))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_labels(labels))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_images(12))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_labels(test_labels if test_labels is not None else labels))
    return str(folder)


def truncated_gz(folder):
    folder.mkdir()
    packed = gzip.compress(b"".join(b"%d 1:0.5 2:%f\n" % (i % 2, i / 7) for i in range(2000)))
    (folder / "cut.gz").write_bytes(packed[: len(packed) // 2])
    return str(folder / "cut.gz")


def csv_with_nan(folder):
    folder.mkdir()
    path = folder / "rows.csv"
    path.write_text("0.5,1.0,0\n0.25,nan,1\n0.5,2.0,0\n")
    return str(path)


def cyclic_streams(folder):
    folder.mkdir()
    path = folder / "streams.txt"
    path.write_text("0 1\n1 2\n2 0\n")
    return str(path)


def bad_input(place):
    """(name, arguments, exit status, words that the line must hold)."""
    path = place.path
    wrong_magic = write_idx(path / "magic", images=idx_images(12, magic=0x12345678))
    bad_label = write_idx(path / "label", test_labels=[1, 2, 3, 200] * 3)
    cut = truncated_gz(path / "gz")
    nan = csv_with_nan(path / "csv")
    streams = cyclic_streams(path / "streams")
    (path / "wrong.yml").write_text("nodes: 4\nsede: 3\n")
    (path / "file").write_text("not a directory\n")
    full = path / "full"
    full.mkdir()
    (full / "precious").write_text("mine\n")
    small = ["-n", "3", "--topology", "complete"]
    return [
        ("missing file", ["--data", "/no/such/place"], 2, ["/no/such/place"]),
        ("truncated gz", ["--data", cut], 2, ["cut.gz"]),
        ("wrong magic", ["--data", wrong_magic], 2, ["train-images"]),
        ("label out of range", ["--data", bad_label], 2, ["t10k-labels", "200"]),
        ("NaN in a CSV", ["--data", nan], 2, ["rows.csv:2"]),
        ("unknown option", ["--stepz", "5"], 2, ["--stepz", "--steps"]),
        ("value out of range", ["-n", "0"], 2, ["--nodes", "0"]),
        ("wrong key in YAML", ["--config", str(path / "wrong.yml")], 2, ["wrong.yml:2", "sede", "seed"]),
        ("degree >= nodes", ["-n", "4", "--topology", "regular:d=4"], 2, ["--topology"]),
        ("streams form a cycle", [*small, "--algorithm", f"digest:file={streams}"], 2, ["streams", "cycle", "remove one"]),
        ("absent class", ["--classes", "3,77"], 2, ["77"]),
        ("model does not fit", ["--task", "logistic"], 2, ["logistic", "--classes"]),
        ("--out is a file", ["--out", str(path / "file")], 2, ["--out", str(path / "file")]),
        ("--out below a file", ["--out", str(path / "file" / "run")], 2, ["--out", "file"]),
        ("--out cannot be written, even by root", ["--out", "/proc/gadabout/run"], 2, ["--out", "/proc/gadabout"]),
        ("--out is too long", ["--out", str(path / ("/".join(["d" * 200] * 21)))], 2, ["--out", "too long"]),
        ("--out is not empty", ["--out", str(full)], 2, ["--out", str(full)]),
    ]


def tree(folder):
    return sorted(str(p) for p in pathlib.Path(folder).rglob("*"))


def check_refused(name, arguments, status, words, place):
    before = tree(place.path)
    done = run(arguments, timeout=60)
    text = done.stderr
    check(done.returncode == status, f"{name}: exit status {done.returncode}, not {status}: {text}")
    check(text.startswith("gadabout: ") and text.count("\n") == 1 and text.endswith("\n"), f"{name}: '{text}'")
    missing = [w for w in words if w not in text]
    check(not missing, f"{name}: '{text.strip()}' does not name {missing}")
    check(done.stdout == "", f"{name}: printed '{done.stdout}'")
    left = [p for p in tree(place.path) if p not in before]
    check(not left, f"{name}: left {left} behind")


def bad_input_is_one_line():
    for command in ("up", "agent", "sim"):
        with Workplace() as place:
            for name, arguments, status, words in bad_input(place):
                given = ["--steps", "5", *arguments]
                if "--data" not in given:
                    given += ["--data", FASHION]
                if "--out" not in given:
                    given += ["--out", str(place.path / "new" / "run")]
                if command == "agent" and "-n" not in given and "--config" not in given:
                    given += ["-n", "2"]
                check_refused(f"{command}, {name}", [command, *given], status, words, place)


def a_port_in_use_is_one_line():
    with Workplace() as place, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check_refused("port in use", ["agent", "-n", "2", "--listen", f"127.0.0.1:{port}", "--out",
                                      str(place.path / "run")], 2, ["--listen", str(port), "in use"], place)


def too_few_open_files_is_one_line():
    for command in ("up", "agent"):
        with Workplace() as place:
            for count in (5, 6, 7, 8, 12):
                process = place.start([command, "-n", "2", "--data", FASHION, "--out", str(place.path / "run")],
                                      preexec_fn=lambda n=count: setrlimit(RLIMIT_NOFILE, (n, n)))
                out, err = finish(process)
                check(process.returncode == 2 and out == "", f"{command}, {count}: {process.returncode} {out} {err}")
                check(err.startswith("gadabout: ") and err.count("\n") == 1, f"{command}, {count}: '{err}'")
                check("raise ulimit -n" in err, f"{command}, {count}: '{err}'")
                check(tree(place.path) == [], f"{command}, {count}: left {tree(place.path)}")


def agents_need_to_know_the_cluster():
    with Workplace() as place:
        check_refused("no -n", ["agent"], 2, ["--nodes"], place)
        check_refused("dials only, and whom?", ["agent", "-n", "2", "--listen", "none"], 2, ["--listen", "--join"], place)
        check_refused("not ours", ["agent", "-n", "2", "--listen", "192.0.2.1:0"], 2, ["--listen", "0.0.0.0"], place)
        out = str(place.path / "run")
        for option, value in (("--join", "nowhere"), ("--join", "localhost:0"), ("--advertise", "localhost:0"),
                              ("--advertise", "0.0.0.0:7946")):
            check_refused(f"{option} {value}", ["agent", "-n", "2", option, value, "--out", out], 2, [option, value],
                          place)


def divergence_is_one_line():
    """Too large a step size ends every agent; the first to tell is named with the remedy, exit 1."""
    with Workplace() as place:
        folder = str(place.path / "run")
        done = run(["up", "-n", "2", "--task", "quadratic", "--data", "mixture:rows=200,features=4", "--step-size",
                    "constant:value=1000000", "--steps", "100000", "--json", "--out", folder])
        check(done.returncode == 1, f"exit status {done.returncode}: {done.stderr}")
        check(done.stderr.count("\n") == 1 and "--step-size" in done.stderr, f"'{done.stderr}'")
        check(done.stdout == "", "printed something")
        check(not pathlib.Path(folder, "summary.json").exists(), "a failed run has a summary")


def help_fits_a_screen_and_its_example_works():
    for command in COMMANDS:
        done = run([command, "--help"])
        lines = done.stdout.splitlines()
        check(done.returncode == 0 and done.stderr == "", f"{command} --help: {done.stderr}")
        check(run(["help", command]).stdout == done.stdout, f"help {command} is not {command} --help")
        check(len(lines) <= 40, f"{command} --help has {len(lines)} lines")
        check(all(len(line) <= 80 for line in lines), f"{command} --help: a line of over 80 columns")
        example = "\n".join(lines[lines.index("Example:") + 1:])
        words = shlex.split(example.replace("\\\n", " "))
        check(words[:2] == ["gadabout", command], f"{command} --help has the example {words}")
        # the example with one thing that is wrong: an error that names only that says the rest was understood
        wrong = run([*words[1:], "--no-such-option", "1"])
        check(wrong.returncode == 2 and "--no-such-option" in wrong.stderr, f"{command}: {wrong.stderr}")
        if command in ("up", "sim", "agent"):
            taken = run([*words[1:], "--out", str(MAIN / "CMakeLists.txt")], timeout=60)
            check(taken.returncode == 2 and "--out" in taken.stderr, f"{command}: {taken.stderr}")


def an_unknown_command_is_one_line():
    for arguments, word in (([], "gadabout"), (["upp"], "up"), (["--hlep"], "--hlep")):
        done = run(arguments)
        check(done.returncode == 2 and word in done.stderr, f"{arguments}: {done.stderr}")
    check(run(["--help"]).returncode == 0 and run(["--version"]).stdout.startswith("gadabout "), "help, version")


if __name__ == "__main__":
    main([bad_input_is_one_line, a_port_in_use_is_one_line, too_few_open_files_is_one_line, agents_need_to_know_the_cluster,
          divergence_is_one_line, help_fits_a_screen_and_its_example_works, an_unknown_command_is_one_line])
