#!/usr/bin/env python3
"""An agent comes back from its state directory.

Goal: after SIGTERM nothing is lost, after kill -9 what came after the last save; a damaged generation costs the steps
since the one before; what cannot be resumed is refused or begun anew, in words; a sick disk costs neither training nor
the last generation. Method: real agents; the files of the state directory are read here by their documented layout
and compared with what the next life says; a preloaded library (disk_shim.c) makes fsync and write fail or hang."""
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import sys
import time

from harness import Workplace, check, clean_environment, finish, main, metrics, program, read_model, run, wait_for

DATA = "mixture:rows=600,features=6,classes=3,test=150,separation=2"


def arguments(state, out, *more):
    return ["agent", "-n", "1", "--data", DATA, "--steps", "0", "--pace", "300", "--report-every", "0.1",
            "--momentum", "0.9", "--save-every", "0.2", "--state", str(state), "--out", str(out), *more]


def read_checkpoint(path):
    """(generation, steps) of a whole file, None of another."""
    try:
        data = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < 200 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        return None
    count, = struct.unpack_from("<I", data, 12)
    generation, = struct.unpack_from("<Q", data, 40)
    counters = 72 + 24 * count + 8
    steps, = struct.unpack_from("<Q", data, counters + 16)
    return generation, steps


def newest(state):
    """(generation, steps, file) of the greatest generation, (0, 0, None) when there is none."""
    found = [(*read, path) for path in sorted(pathlib.Path(state).glob("checkpoint-?"))
             if (read := read_checkpoint(path)) is not None]
    return max(found, key=lambda f: f[0]) if found else (0, 0, None)


def other(path):
    return path.with_name("checkpoint-0" if path.name.endswith("1") else "checkpoint-1")


class Life:
    """One agent from start to end, with its stderr in a file."""

    def __init__(self, place, name, state, *more, **options):
        self.out = place.path / name
        self.err = place.path / f"{name}.err"
        with open(self.err, "w") as file:
            self.process = place.start(arguments(state, self.out, *more), stderr=file, **options)

    def text(self):
        return self.err.read_text()

    def steps(self):
        told = metrics(self.out)
        return told[-1]["steps"] if told else 0

    def wait_for_steps(self, count):
        wait_for(lambda: self.steps() >= count, f"{count} steps", self.process)

    def wait_for_text(self, text):
        wait_for(lambda: text in self.text(), f"the line '{text}'", self.process)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        finish(self.process, 30)
        check(self.process.returncode == 130, f"exit status {self.process.returncode}: {self.text()}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def resumed(self):
        """(generation, steps) that it says it has resumed from, or None."""
        found = re.search(r"resumed from generation (\d+): (\d+) steps, place 0", self.text())
        return (int(found[1]), int(found[2])) if found else None


def live(place, name, state, saves=2):
    """An agent that has saved so often; it still runs."""
    life = Life(place, name, state)
    before = newest(state)[0]
    wait_for(lambda: newest(state)[0] >= before + saves, f"{saves} saves", life.process)
    return life


def a_clean_stop_loses_nothing():
    with Workplace() as place:
        state = place.path / "state"
        told = 0
        for name in ("a", "b", "c"):
            life = Life(place, name, state)
            life.wait_for_steps(told + 60)
            first = metrics(life.out)[0]["steps"]
            check(first >= told, f"{name} begins with {first} steps after {told}")
            life.end()
            told = life.steps()
            generation, steps, _ = newest(state)
            check(f"saved as generation {generation}: {steps} steps" in life.text(), life.text())
            check(steps == told, f"{steps} steps are saved, {told} were told")
            check(all(m["checkpoint_ok"] == 1 for m in metrics(life.out)), "checkpoint_ok is not 1")
        check(life.resumed() is not None, life.text())
        check(not list(state.glob("*.tmp")), "half-written files")


EXACT = ["--steps", "400", "--algorithm", "gossip"]


def a_run_in_pieces_ends_with_the_model_of_one_in_a_piece():
    """With a pace every job is one step, so that the same sums are made in the same order; gossip of one node adds
    nothing else, where a token of DIGEST would come at other steps and round otherwise."""
    with Workplace() as place:
        result = run([*arguments(place.path / "whole", place.path / "a"), *EXACT])
        check(result.returncode == 0, result.stderr)
        for piece in range(3):
            life = Life(place, f"b{piece}", place.path / "pieces", *EXACT)
            life.wait_for_steps(100 * (piece + 1))
            life.end()
        result = run([*arguments(place.path / "pieces", place.path / "c"), *EXACT])
        check(result.returncode == 0, result.stderr)
        one, pieces = (read_model(place.path / name / "model.safetensors") for name in ("a", "c"))
        check(one == pieces, "the models differ")


def steps_that_a_kill_costs_are_done_again_alike():
    """Model, optimiser and random stream on disk are of one moment, so what is lost is repeated to the bit."""
    with Workplace() as place:
        result = run([*arguments(place.path / "whole", place.path / "a"), *EXACT])
        check(result.returncode == 0, result.stderr)
        state = place.path / "pieces"
        for piece in range(3):
            life = Life(place, f"b{piece}", state, *EXACT)
            life.wait_for_steps(100 * (piece + 1))
            life.kill()
            check(0 < newest(state)[1] < 400, f"{newest(state)[1]} steps are saved")
        result = run([*arguments(state, place.path / "c"), *EXACT])
        check(result.returncode == 0, result.stderr)
        one, pieces = (read_model(place.path / name / "model.safetensors") for name in ("a", "c"))
        check(one == pieces, "the models differ")


def read_section(path, wanted):
    """The bytes of one section of a checkpoint; None when it has none of that kind."""
    data = pathlib.Path(path).read_bytes()
    count, = struct.unpack_from("<I", data, 12)
    at = 72 + 24 * count + 8
    for i in range(count):
        kind, _, size = struct.unpack_from("<IIQ", data, 72 + 24 * i)
        if kind == wanted:
            return data[at:at + size]
        at += size
    return None


def the_methods_own_state_is_saved_and_taken_up():
    with Workplace() as place:
        state = place.path / "state"
        options = ("--algorithm", "def:every=3", "--compress", "block:fraction=0.25", "--topology", "complete")
        for name in ("a", "b"):
            life = Life(place, name, state, *options)
            life.wait_for_steps(60 if name == "a" else newest(state)[1] + 60)
            check("is not used" not in life.text(), life.text())
            check((life.resumed() is not None) == (name == "b"), life.text())
            life.end()
            section = read_section(newest(state)[2], 4)
            check(section is not None, "no section for the method")
            magic, version, rank, method, dim, last = struct.unpack_from("<8sII16sQQ", section)
            check(magic == b"gadabMTH" and method.rstrip(b"\0") == b"def", f"{magic} {method}")
            check((version, rank, last) == (1, 0, 1), f"{version} {rank} {last}")
            residual = struct.unpack_from(f"<{dim}f", section, 48 + 16)
            check(any(v != 0 for v in residual), "nothing is owed, though a quarter is sent each round")


def steps_are_counted_over_all_lives():
    with Workplace() as place:
        state = place.path / "state"
        for name, steps, total in (("a", 200, 200), ("b", 200, 200), ("c", 350, 350)):
            result = run([*arguments(state, place.path / name), "--steps", str(steps), "--pace", "0"])
            check(result.returncode == 0, f"{name}: exit status {result.returncode}: {result.stderr}")
            summary = json.loads((place.path / name / "summary.json").read_text())
            check(summary["steps_total"] == total, f"{name}: {summary['steps_total']} steps")
        models = [read_model(place.path / name / "model.safetensors") for name in ("a", "b", "c")]
        check(models[0] == models[1], "a model that is not trained on has changed")
        check(models[0] != models[2], "a model that is trained on has not")


def kill_loses_what_came_after_the_last_save():
    with Workplace() as place:
        state = place.path / "state"
        chance = random.Random(1)
        for i in range(50 if "--all" in sys.argv else 4):
            name = f"a{i}-"
            life = live(place, name, state)
            time.sleep(chance.uniform(0, 0.25))  # anywhere between two saves, or within one
            life.kill()
            generation, steps, _ = newest(state)
            check(steps > 0, "nothing was saved")
            after = Life(place, name + "2", state)
            after.wait_for_text("resumed")
            check(after.resumed() == (generation, steps), f"{generation}, {steps}: {after.text()}")
            after.wait_for_steps(steps + 1)
            after.kill()


def a_damaged_generation_costs_the_steps_since_the_one_before():
    with Workplace() as place:
        state = place.path / "state"
        live(place, "a", state).kill()
        generation, _, path = newest(state)
        data = bytearray(path.read_bytes())
        count, = struct.unpack_from("<I", data, 12)
        model = 72 + 24 * count + 8 + 40
        data[model + 5] ^= 4
        path.write_bytes(data)
        before = read_checkpoint(other(path))
        check(before is not None and before[0] == generation - 1, f"{before} before {generation}")
        life = Life(place, "b", state)
        life.wait_for_text("resumed")
        said = f"{path.name} is damaged (hash of section model); generation {generation - 1} used"
        check(said in life.text(), life.text())
        check(life.resumed() == before, f"{before}: {life.text()}")
        life.wait_for_steps(before[1] + 30)
        life.end()
        check(newest(state)[1] == life.steps(), "the last steps are not saved")


def without_a_whole_generation_the_node_begins_anew():
    with Workplace() as place:
        state = place.path / "state"
        live(place, "a", state).kill()
        identity = (state / "identity").read_bytes()
        (state / "checkpoint-0").write_bytes(b"")
        (state / "checkpoint-1").write_bytes(bytes(500))
        life = Life(place, "b", state)
        life.wait_for_text("the node begins anew")
        for said in ("checkpoint-0 is damaged", "checkpoint-1 is damaged"):
            check(said in life.text(), life.text())
        life.wait_for_steps(10)
        life.end()
        check((state / "identity").read_bytes() == identity, "another identity")
        check(newest(state)[1] == life.steps(), "the new steps are not saved")


def one_directory_serves_one_agent():
    with Workplace() as place:
        state = place.path / "state"
        life = live(place, "a", state, 1)
        second = run(arguments(state, place.path / "b"))
        check(second.returncode == 2, f"exit status {second.returncode}")
        line = second.stderr.strip()
        check("\n" not in line and f"process {life.process.pid}" in line and "--state" in line, line)
        check(not (place.path / "b").exists(), "the second one left a run directory")
        life.wait_for_steps(life.steps() + 20)
        life.end()


def refused(place, state, name, words, *more):
    before = {p.name: p.read_bytes() for p in state.iterdir() if p.name != "lock"}
    result = run(arguments(state, place.path / name, *more))
    line = result.stderr.strip()
    check(result.returncode == 2, f"{name}: exit status {result.returncode}: {line}")
    check("\n" not in line and all(w in line for w in words), f"{name}: {line}")
    after = {p.name: p.read_bytes() for p in state.iterdir() if p.name != "lock"}
    check(before == after, f"{name}: the state was changed")


def what_is_not_ours_to_resume_is_refused_and_left():
    with Workplace() as place:
        state = place.path / "state"
        live(place, "a", state).kill()
        refused(place, state, "b", ["--state", "another experiment"], "--seed", "2")
        refused(place, state, "c", ["--id: 5", "is of node"], "--id", "5")
        later = bytearray(newest(state)[2].read_bytes())
        struct.pack_into("<I", later, 8, 2)
        (state / "checkpoint-1").write_bytes(later)
        damaged = Life(place, "d", state)  # the hash of the first bytes does not agree: damaged, not later
        damaged.wait_for_text("checkpoint-1 is damaged")
        damaged.kill()
        (state / "identity").write_bytes(b"gadabout identity 1: 5 0\n")
        refused(place, state, "e", ["identity is damaged", "remove it"])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def a_cluster_that_restarts_goes_on():
    with Workplace() as place:
        told = {0: 0, 1: 0}
        ports = free_ports(2)
        for turn in range(2):
            lives, join = [], []
            listen = [["--listen", f"127.0.0.1:{port}"] for port in ports]
            for v in range(2):
                # the second time nobody is told where the other is: it is in the book
                more = ["-n", "2", "--algorithm", "gossip", *(join if turn == 0 else []), *listen[v]]
                life = Life(place, f"{turn}-{v}", place.path / f"state{v}", *more)
                life.wait_for_text("listening on")
                address = re.search(r"listening on ([\d.:]+)", life.text())[1]
                join = ["--join", address]
                lives.append(life)
            for v, life in enumerate(lives):
                wait_for(lambda: life.steps() >= told[v] + 40, "steps of both", life.process)
                check(metrics(life.out)[0]["steps"] >= told[v], f"node {v} has lost steps")
            for life in lives:
                life.process.send_signal(signal.SIGTERM)
            for v, life in enumerate(lives):
                finish(life.process, 30)
                told[v] = newest(place.path / f"state{v}")[1]
                check(told[v] >= life.steps() > 0, f"{told[v]} steps saved, {life.steps()} told")


def the_book_finds_members_when_the_seed_is_gone():
    with Workplace() as place:
        ports = free_ports(3)

        def begin(v, name, *more):
            return Life(place, name, place.path / f"state{v}", "-n", "3", "--min-nodes", "2", "--algorithm", "gossip",
                        "--listen", f"127.0.0.1:{ports[v]}", *more)
        seed = begin(0, "seed")
        seed.wait_for_text("listening on")
        lives = [seed] + [begin(v, f"a{v}", "--join", f"127.0.0.1:{ports[0]}") for v in (1, 2)]
        for life in lives:
            life.wait_for_steps(40)
        for v in (1, 2):  # who joined the seed alone has heard of the other
            other_address = f"127.0.0.1:{ports[3 - v]}".encode()
            wait_for(lambda: newest(place.path / f"state{v}")[2] is not None and
                     other_address in newest(place.path / f"state{v}")[2].read_bytes(), "the other in the book")
        for life in lives:
            life.kill()
        told = {v: newest(place.path / f"state{v}")[1] for v in (1, 2)}
        again = {v: begin(v, f"b{v}") for v in (1, 2)}  # no --join, and the seed does not come back
        for v, life in again.items():
            life.wait_for_steps(told[v] + 40)
            wait_for(lambda: metrics(life.out)[-1]["links"] >= 1, "a link", life.process)
        for life in again.values():
            life.kill()


# -- sick disks ------------------------------------------------------------------------------------


def shim_environment(folder):
    shim = pathlib.Path(program()).parent / "tests" / "libdisk_shim.so"
    check(shim.exists(), f"{shim} is not built")
    # the sanitizers' runtime wants to come first, and does without
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return {**clean_environment(), "LD_PRELOAD": str(shim), "DISK_SHIM": str(folder), "ASAN_OPTIONS": options}


def a_disk_that_fails(control, words):
    with Workplace() as place:
        state, shim = place.path / "state", place.path / "shim"
        shim.mkdir()
        life = Life(place, "a", state, env=shim_environment(shim))
        wait_for(lambda: newest(state)[0] >= 1, "a save", life.process)
        (shim / control).touch()
        life.wait_for_text("training goes on")
        wait_for(lambda: metrics(life.out)[-1]["checkpoint_ok"] == 0, "checkpoint_ok 0", life.process)
        generation, _, path = newest(state)
        whole = path.read_bytes()
        life.wait_for_steps(life.steps() + 400)  # some attempts later
        check(life.text().count("training goes on") == 1, life.text())
        check(words in life.text(), life.text())
        check(newest(state)[0] == generation and path.read_bytes() == whole, "the last generation has changed")
        check(not list(state.glob("*.tmp")), "half-written files")
        (shim / control).unlink()
        life.wait_for_text("the state is saved again")
        wait_for(lambda: metrics(life.out)[-1]["checkpoint_ok"] == 1, "checkpoint_ok 1", life.process)
        life.end()
        check(newest(state)[1] == life.steps(), "the last steps are not saved")


def a_failing_fsync_costs_neither_training_nor_the_last_generation():
    a_disk_that_fails("eio", "Input/output error")


def a_full_disk_costs_neither_training_nor_the_last_generation():
    a_disk_that_fails("full", "No space left")


def a_disk_that_hangs_delays_saves_only():
    with Workplace() as place:
        state, shim = place.path / "state", place.path / "shim"
        shim.mkdir()
        life = Life(place, "a", state, env=shim_environment(shim))
        wait_for(lambda: newest(state)[0] >= 1, "a save", life.process)
        (shim / "block").touch()
        wait_for(lambda: (shim / "blocked").exists(), "a save that hangs", life.process)
        generation, steps, lines = newest(state)[0], life.steps(), len(metrics(life.out))
        life.wait_for_steps(steps + 600)
        check(len(metrics(life.out)) >= lines + 10, "the loop stood still")
        check(newest(state)[0] == generation, "a save has ended meanwhile")
        (shim / "block").unlink()
        wait_for(lambda: newest(state)[0] > generation + 1, "saves again", life.process)
        life.end()


if __name__ == "__main__":
    main([a_clean_stop_loses_nothing, a_run_in_pieces_ends_with_the_model_of_one_in_a_piece,
          steps_that_a_kill_costs_are_done_again_alike, the_methods_own_state_is_saved_and_taken_up,
          steps_are_counted_over_all_lives, kill_loses_what_came_after_the_last_save,
          a_damaged_generation_costs_the_steps_since_the_one_before,
          without_a_whole_generation_the_node_begins_anew, one_directory_serves_one_agent,
          what_is_not_ours_to_resume_is_refused_and_left, a_cluster_that_restarts_goes_on,
          the_book_finds_members_when_the_seed_is_gone,
          a_failing_fsync_costs_neither_training_nor_the_last_generation,
          a_full_disk_costs_neither_training_nor_the_last_generation, a_disk_that_hangs_delays_saves_only])
