#!/usr/bin/env python3
"""Agents die by kill -9 while `up` trains; the rest reach the target.

Goal: nobody is indispensable, not even agent 0, whom all others joined. Method: eight real agents with iid rows and a
target that takes a few seconds to reach cannot have reached it when the first dies (its accuracy is looked at); then
agent 0 is killed, later three more; the run must end by the target and the summary must list exactly who was lost,
how, and what they had told of their work. A run whose agents all die must fail, with one line; one that can only wait
must say so."""
import json
import os
import signal

from harness import (FASHION, Failure, Workplace, agents_of, check, check_run_directory, finish, main, metrics, wait_for,
                     wait_for_training)

DIM = 7850  # softmax, 784 features and a bias, 10 classes
TARGET = 0.70


def arguments(folder, algorithm):
    # small steps: the target is some seconds away even for an optimised build
    return ["up", "-n", "8", "--algorithm", algorithm, "--data", FASHION, "--steps", "0", "--time", "60",
            "--target-accuracy", str(TARGET), "--step-size", "constant:value=0.0005", "--report-every", "0.2",
            "--patience", "1", "--baselines", "off", "--out", folder, "--json"]


def mean_accuracy(folder):
    newest = {m["node"]: m["accuracy"] for m in metrics(folder) if m["accuracy"] is not None}
    return sum(newest.values()) / len(newest) if newest else 0.0


def more_steps(folder, since, nodes):
    """Whether each of nodes has told of more steps than in since."""
    newest = {m["node"]: m["steps"] for m in metrics(folder)}
    return all(newest.get(v, 0) > since.get(v, 0) for v in nodes)


def kill(pids, ranks):
    for rank in ranks:
        os.kill(pids[rank], signal.SIGKILL)


def survive(algorithm):
    with Workplace() as place:
        folder = str(place.path / "run")
        process = place.start(arguments(folder, algorithm))
        pids = wait_for_training(process, folder, 8)
        check(len(pids) == 8, f"{len(pids)} agents run")
        check(mean_accuracy(folder) < TARGET, "the target was reached before anybody died: too easy a test")
        kill(pids, [0])
        wait_for(lambda: len(agents_of(process)) == 7, "the end of agent 0", process)
        told = {m["node"]: m["steps"] for m in metrics(folder)}
        wait_for(lambda: more_steps(folder, told, range(1, 8)), "steps of the seven others", process)
        kill(pids, [2, 5, 7])
        out, err = finish(process, 90)
        check(process.returncode == 0, f"exit status {process.returncode}: {err}")
        summary = check_run_directory(folder, DIM)
        check(json.loads(out) == summary, "stdout is not the summary")
        check(summary["stopped_by"] == "target", f"stopped by {summary['stopped_by']}")
        check(summary["accuracy"] >= TARGET - 0.03, f"accuracy {summary['accuracy']}")
        lost = summary["lost"]
        check(sorted(l["node"] for l in lost) == [0, 2, 5, 7] and lost[0]["node"] == 0, f"lost: {lost}")
        for entry in lost:
            check("signal 9" in entry["how"], f"lost: {entry}")
            check(entry["steps"] > 0 and 0 <= entry["steps_handed_over"] <= entry["steps"], f"lost: {entry}")
        check(not agents_of_nobody(folder), "agents are left behind")


def agents_of_nobody(folder):
    """Pids whose command line names the folder."""
    left = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if f"--out={folder}/nodes/".encode() in file.read():
                    left.append(int(name))
        except OSError:
            pass
    return left


def digest_survives_four_deaths():
    survive("digest:streams=path,sync_every=20")


def gossip_survives_four_deaths():
    survive("gossip")


def the_death_of_all_is_a_failure():
    with Workplace() as place:
        folder = str(place.path / "run")
        process = place.start(["up", "-n", "3", "--steps", "0", "--report-every", "0.1", "--out", folder])
        kill(wait_for_training(process, folder, 3), [0, 1, 2])
        _, err = finish(process, 20)
        check(process.returncode == 1, f"exit status {process.returncode}: {err}")
        last = err.strip().splitlines()[-1]
        check(last.startswith("gadabout: ") and "all agents are lost" in last, f"last line: {last}")


def a_minority_that_pauses_is_told_of():
    with Workplace() as place:
        folder, told = str(place.path / "run"), place.path / "stderr"
        with open(told, "w") as file:
            process = place.start(["up", "-n", "3", "--algorithm", "async", "--steps", "0", "--report-every", "0.1",
                                   "--patience", "0.5", "--baselines", "off", "--out", folder], stderr=file)
        kill(wait_for_training(process, folder, 3), [0, 1])
        line = "nobody has made a step for 10 s, 1 of 3 agents are left"
        wait_for(lambda: line in told.read_text(), "line that says so", process)
        process.send_signal(signal.SIGINT)
        finish(process, 20)
        check(process.returncode == 130, f"exit status {process.returncode}: {told.read_text()}")
        check(told.read_text().count("nobody has made a step") == 1, f"told more than once: {told.read_text()}")
        check_run_directory(folder, DIM)


def agents_end_with_their_launcher():
    with Workplace() as place:
        folder = str(place.path / "run")
        process = place.start(["up", "-n", "3", "--steps", "0", "--report-every", "0.1", "--out", folder])
        wait_for_training(process, folder, 3)
        process.kill()
        process.wait()
        try:
            wait_for(lambda: not agents_of_nobody(folder), "end of the orphans", timeout=20)
        except Failure:
            kill(dict(enumerate(agents_of_nobody(folder))), range(len(agents_of_nobody(folder))))
            raise


if __name__ == "__main__":
    main([digest_survives_four_deaths, gossip_survives_four_deaths, the_death_of_all_is_a_failure,
          a_minority_that_pauses_is_told_of,
          agents_end_with_their_launcher])
