#!/usr/bin/env python3
"""Thirty-two agents on two cores: memory, threads, descriptors, and Ctrl-C.

Goal: an agent needs at most the state of its model and 12 MB; nothing leaks; Ctrl-C ends all of it within two seconds
and leaves a whole run directory. Method: /proc is read twice while the agents train. Memory is RssAnon + RssShmem:
pages of the program and its libraries are shared by all agents. Sanitizers multiply memory and time, so figures are
those of a release build; it is looked for beside this build."""
import os
import pathlib
import re
import signal
import sys
import time

import harness
from harness import (FASHION, SKIPPED, Workplace, check, check_run_directory, finish, main, metrics, wait_for,
                     wait_for_training)

NODES = 32
DIM = 7850  # softmax, 784 features and a bias, 10 classes
MODEL_STATE = 4 * DIM * 16  # vectors of the algorithm, the trainer and the messages in flight
ALLOWED = MODEL_STATE + 12_000_000
STOP_S = 2.0


def release_program():
    """The release build: this one, or the one in the folder beside."""
    given = pathlib.Path(harness.program())
    if not harness.build_kind():
        return str(given)
    beside = given.parent.parent / "release" / given.name
    if beside.exists():
        return str(beside)
    print(f"SKIP: {given} is built with sanitizers and there is no {beside}")
    sys.exit(SKIPPED)


def memory_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return sum(int(kb) * 1024 for kb in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", text, flags=re.M))


OWN_DESCRIPTORS = 20  # the loop's, the run directory's, the listener, the control socket: 14 to 16


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def sample(pids):
    return {rank: (threads_of(pid), descriptors_of(pid), memory_of(pid)) for rank, pid in pids.items()}


def newest(folder, key):
    return {m["node"]: m[key] for m in metrics(folder)}


def everybody_moved(folder, since, steps):
    now = newest(folder, "steps")
    return all(now[v] >= since[v] + steps for v in since)


def many_agents_are_small_and_end_at_once():
    with Workplace() as place:
        folder = str(place.path / "run")
        process = place.start(["up", "-n", str(NODES), "--algorithm", "gossip", "--topology", "regular:d=4",
                               "--data", FASHION, "--steps", "0",
                               "--report-every", "0.5", "--out", folder], start_new_session=True)
        pids = wait_for_training(process, folder, NODES)
        check(len(pids) == NODES, f"{len(pids)} agents run")
        degree = 4  # connections of the first hello may take a moment to settle
        wait_for(lambda: set(newest(folder, "links").values()) == {degree}, "all links", process)
        first, steps = sample(pids), newest(folder, "steps")
        wait_for(lambda: everybody_moved(folder, steps, 200), "200 more steps of everybody", process)
        second = sample(pids)
        check(set(second) == set(pids), "an agent is gone")
        for rank in pids:
            check(first[rank][0] == second[rank][0], f"agent {rank}: {first[rank][0]} threads became {second[rank][0]}")
            check(second[rank][1] <= OWN_DESCRIPTORS + NODES,  # probes dial members and keep the link a while
                  f"agent {rank}: {second[rank][1]} descriptors, with a link to everybody {OWN_DESCRIPTORS + NODES}")
            check(second[rank][2] <= ALLOWED, f"agent {rank}: {second[rank][2]} bytes, allowed {ALLOWED}")
        print(f"     largest agent {max(m for _, _, m in second.values()) / 1e6:.1f} MB, "
              f"threads {second[1][0]}, descriptors {second[1][1]}")
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = finish(process, 30)
        took = time.monotonic() - began
        print(f"     Ctrl-C: ended after {took:.2f} s")
        check(process.returncode == 130, f"exit status {process.returncode}: {err}")
        check(took <= STOP_S, f"Ctrl-C took {took:.2f} s")
        summary = check_run_directory(folder, DIM)
        check(summary["stopped_by"] == "interrupt" and summary["lost"] == [], f"{summary['lost']}")
        check(0 < summary["memory_per_agent_max"] <= ALLOWED, f"{summary['memory_per_agent_max']} bytes")


if __name__ == "__main__":
    PROGRAM = release_program()
    harness.program = lambda: PROGRAM
    main([many_agents_are_small_and_end_at_once])
