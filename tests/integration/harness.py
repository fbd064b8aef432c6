"""What the integration tests share: running the program, looking at processes, reading what it wrote."""
import array
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FASHION = "data/fashion-mnist"
SKIPPED = 77


class Failure(Exception):
    """A check that did not hold."""


class Skipped(Exception):
    """This machine lacks what one test needs; the others go on."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def program():
    """The absolute path of the program under test: argv[1]."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} PATH-OF-GADABOUT")
    return str(pathlib.Path(sys.argv[1]).resolve())


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(SKIPPED)


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("GADABOUT_")}


def run(arguments, timeout=100, cwd=None):
    """Runs the program to its end; returns CompletedProcess with text."""
    return subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=timeout, cwd=cwd,
                          env=clean_environment())


def start(arguments, **options):
    """Starts the program with its output in pipes, or as options say."""
    settings = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment())
    settings.update(options)
    return subprocess.Popen([program(), *arguments], **settings)


def agents_of(process):
    """{rank: pid} of the agents that an `up` has started."""
    found = {}
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for pid in children.read_text().split():
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for word in words:
            if word.startswith(b"--id="):
                found[int(word[5:])] = int(pid)
    return found


def metrics(folder):
    """All whole lines of metrics.jsonl."""
    path = pathlib.Path(folder, "metrics.jsonl")
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def wait_for(condition, what, process=None, timeout=60):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        check(process is None or process.poll() is None, f"the run ended while waiting for {what}")
        time.sleep(0.02)
    raise Failure(f"no {what} within {timeout} s")


def wait_for_training(process, folder, nodes):
    """Waits until every node has reported steps; returns {rank: pid}."""
    def all_trained():
        return len({m["node"] for m in metrics(folder) if m["steps"] > 0}) == nodes
    wait_for(all_trained, "steps of every node", process)
    return agents_of(process)


def finish(process, timeout=60):
    """Waits for the end; returns (stdout, stderr)."""
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failure(f"the run did not end within {timeout} s") from None


def read_safetensors(path):
    """Returns (header, number of floats) and checks that the offsets span the file."""
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    check(size <= len(data) - 8, f"{path}: header of {size} bytes in a file of {len(data)}")
    header = json.loads(data[8:8 + size])
    tensor = header["x"]
    check(tensor["dtype"] == "F32" and len(tensor["shape"]) == 1, f"{path}: {tensor}")
    check(tensor["data_offsets"] == [0, 4 * tensor["shape"][0]], f"{path}: {tensor}")
    check(len(data) == 8 + size + 4 * tensor["shape"][0], f"{path}: {len(data)} bytes")
    return header, tensor["shape"][0]


def read_model(path):
    """The floats of a model file."""
    _, count = read_safetensors(path)
    return array.array("f", pathlib.Path(path).read_bytes()[-4 * count:]).tolist()


SUMMARY_KEYS = ("algorithm compress topology nodes task data split seed steps_total loss accuracy accuracy_min "
                "accuracy_alone consensus_distance bytes_sent model_transfers wall_s stopped_by lost "
                "memory_per_agent_max").split()


def check_run_directory(folder, dim):
    """All four files are there, whole and consistent; returns the summary."""
    names = {p.name for p in pathlib.Path(folder).iterdir()}
    check({"config.yml", "metrics.jsonl", "summary.json", "model.safetensors"} <= names, f"{folder} holds {names}")
    check(not [n for n in names if "tmp" in n], f"half-written files: {names}")
    summary = json.loads(pathlib.Path(folder, "summary.json").read_text())
    missing = [k for k in SUMMARY_KEYS if k not in summary]
    check(not missing, f"summary.json lacks {missing}")
    _, found = read_safetensors(pathlib.Path(folder, "model.safetensors"))
    check(found == dim, f"model of {found} parameters, not {dim}")
    for line in metrics(folder):
        check(0 <= line["node"] < summary["nodes"] and line["steps"] >= 0, f"metrics line {line}")
    return summary


def build_kind():
    """(sanitized, text) of the program under test."""
    symbols = subprocess.run(["nm", "-D", program()], capture_output=True, text=True, check=False).stdout
    return bool(re.search(r"__asan_init|__tsan_init", symbols))


class Workplace:
    """A temporary folder, removed at the end, with the processes started in it."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="gadabout-test-"))
        self.processes = []
        return self

    def start(self, arguments, **options):
        process = start(arguments, **options)
        self.processes.append(process)
        return process

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.path, ignore_errors=True)


def main(tests):
    """Runs the tests in order; exit status 1 at the first that fails. One that is skipped says why, and is not ok."""
    for test in tests:
        began = time.monotonic()
        try:
            test()
        except Failure as failure:
            print(f"FAIL {test.__name__}: {failure}")
            sys.exit(1)
        except Skipped as why:
            print(f"SKIP {test.__name__}: {why}", flush=True)
            continue
        print(f"ok   {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
