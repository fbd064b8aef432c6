#!/usr/bin/env python3
"""Injected faults: one scenario file drives real agents and simulated ones; a running agent takes faults by command.

Goal: what the file says happens in `up` and in `sim` alike, at its time, and bites; the cluster is whole again
afterwards. Method: docs/scenario.yml (two halves of two, a restart, a slow link, a node that stands still) over four
nodes; faults.jsonl must tell of each begin and end, the metrics of links that fall to the own half and come back, of an
agent that starts again. The same checks are tried on a run without the file, in which they must fail."""
import json
import os
import pathlib

from harness import (Failure, Workplace, agents_of, check, check_run_directory, finish, main, metrics, run,
                     wait_for, wait_for_training)

DIM = 7850
SCENARIO = "docs/scenario.yml"
COMMON = ["-n", "4", "--algorithm", "gossip", "--topology", "complete", "--baselines", "off", "--report-every", "0.2"]


def faults_of(folder):
    path = pathlib.Path(folder, "faults.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def links_between(folder, first, last, start):
    """The fewest and most links that each node told of in a stretch of time after `start`."""
    told = {v: [m["links"] for m in metrics(folder) if m["node"] == v and first <= m["time_s"] - start <= last]
            for v in range(4)}
    check(all(told.values()), f"no metrics from {first} to {last}: {told}")
    return {v: (min(links), max(links)) for v, links in told.items()}


def check_scenario(folder, summary, start):
    lines = faults_of(folder)
    begun = [(line["fault"], line["time_s"]) for line in lines if line["event"] == "begins"]
    expected = [("partition", 2), ("restart", 9), ("delay", 13), ("stop", 16), ("stop", 17), ("stop", 18)]
    check([name for name, _ in begun] == [name for name, _ in expected], f"began: {begun}")
    for (name, at), (_, told) in zip(expected, begun):
        check(at <= told <= at + 2, f"{name} began at {told}, not at {at}")
    ended = [line for line in lines if line["event"] == "ends"]
    check(len(ended) == len(expected) and all(line["bit"] for line in ended), f"ended: {ended}")
    check(summary["faults"] == summary["faults_bit"] == len(expected), f"summary: {summary.get('faults')}")
    partition = next(line for line in ended if line["fault"] == "partition")
    check(partition["links_refused"] > 0 and partition["rules"] == 8, f"partition: {partition}")
    check(next(line for line in ended if line["fault"] == "delay")["bytes_slowed"] > 0, "nothing was slowed")
    cut = links_between(folder, 2, 6.1, start)
    check(all(low == 1 for low, _ in cut.values()), f"links while there were two halves: {cut}")
    whole = links_between(folder, 6, 9, start)
    check(all(most == 3 for _, most in whole.values()), f"links after it was healed: {whole}")
    last = links_between(folder, 18.6, 99, start)
    check(all(most == 3 for _, most in last.values()), f"links at the end: {last}")
    check(summary["lost"] == [], f"lost: {summary['lost']}")


def start_of_training(folder):
    """Wall time at which it began, by the first fault."""
    return min(m["time_s"] for m in metrics(folder) if m["steps"] > 0) - 0.2


def run_up(place, more):
    folder = str(place.path / "run")
    process = place.start(["up", *COMMON, "--steps", "0", "--time", "21", "--pace", "50", "--out", folder, *more])
    pids = wait_for_training(process, folder, 4)
    return folder, process, pids


def a_scenario_drives_real_agents():
    with Workplace() as place:
        folder, process, pids = run_up(place, ["--faults", SCENARIO])
        wait_for(lambda: agents_of(process).get(3, pids[3]) != pids[3], "another process for node 3", process, 30)
        check({v: p for v, p in agents_of(process).items() if v != 3} == {v: pids[v] for v in range(3)},
              "others were started again")
        _, err = finish(process, 60)
        check(process.returncode == 0, f"exit status {process.returncode}: {err}")
        summary = check_run_directory(folder, DIM)
        check_scenario(folder, summary, start_of_training(folder))
        for words in ("fault begins: partition of 0-1 | 2-3, for 4 s", "fault ends: partition of 0-1 | 2-3; ",
                      "agent 3 is killed by the scenario", "agent 3 is back", "fault begins: stop of 1"):
            check(words in err, f"the log lacks '{words}': {err}")
        check(pathlib.Path(folder, "nodes/3.before-1/metrics.jsonl").exists(), "the first life of 3 left nothing")
        check(pathlib.Path(folder, "nodes/3/model.safetensors").exists(), "the second life of 3 left no model")


def sim_arguments(folder, more):
    return ["sim", *COMMON, "--virtual-time", "21", "--latency", "uniform:low=1ms,high=3ms", "--step-time",
            "constant:value=50ms", "--patience", "2", "--out", folder, *more]


def the_same_file_drives_simulated_nodes():
    with Workplace() as place:
        traces = []
        for name in ("a", "b"):
            folder = str(place.path / name)
            done = run(sim_arguments(folder, ["--faults", SCENARIO]))
            check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
            summary = check_run_directory(folder, DIM)
            check_scenario(folder, summary, 0)
            check("fault begins: partition of 0-1 | 2-3, for 4 s" in done.stderr, "the log is silent")
            traces.append(summary["trace_sha256"])
        check(traces[0] == traces[1], "two runs of one seed and one scenario differ")


def the_checks_fail_where_nothing_was_injected():
    """Planted: the scenario is forgotten, or does something else."""
    with Workplace() as place:
        other = place.path / "other.yml"
        other.write_text(pathlib.Path(SCENARIO).read_text().replace("fault: partition, groups: [[0-1], [2-3]]",
                                                                   "fault: partition, groups: [[0-2], [3]]"))
        for name, more in (("none", []), ("other", ["--faults", str(other)])):
            folder = str(place.path / name)
            done = run(sim_arguments(folder, more))
            check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
            try:
                check_scenario(folder, json.loads(pathlib.Path(folder, "summary.json").read_text()), 0)
            except Failure:
                continue
            raise Failure(f"the checks are content with a run of scenario '{name}'")


def a_bad_file_is_told_before_anything_starts():
    with Workplace() as place:
        bad = place.path / "bad.yml"
        bad.write_text("- {at: 1s, fault: drop, nodes: [0-9]}\n")
        for command in ("up", "sim"):
            folder = place.path / f"run-{command}"
            done = run([command, "-n", "4", "--faults", str(bad), "--out", str(folder)])
            check(done.returncode == 2, f"{command}: exit status {done.returncode}")
            lines = done.stderr.strip().splitlines()
            check(len(lines) == 1 and f"{bad}:1: nodes: '0-9' must be" in lines[0], f"{command}: {lines}")
            check(not folder.exists(), f"{command} left {folder}")


def newest_links(folder, v):
    told = [m["links"] for m in metrics(folder) if m["node"] == v]
    return told[-1] if told else None


def a_running_agent_takes_faults():
    with Workplace() as place:
        os.environ["XDG_RUNTIME_DIR"] = str(place.path)  # sockets of this test's agents alone
        folder = str(place.path / "run")
        process = place.start(["up", "-n", "2", "--algorithm", "gossip", "--steps", "0", "--time", "60", "--pace", "50",
                               "--baselines", "off", "--report-every", "0.2", "--out", folder])
        wait_for_training(process, folder, 2)
        wait_for(lambda: newest_links(folder, 0) == 1, "a link", process)
        done = run(["fault", "--agent", "0", "--peer", "1", "--kind", "drop", "--for", "50s"])
        check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
        check(done.stdout == "fault 1: drop, both ways, with node 1, for 50 s\n", f"said {done.stdout}")
        for v in range(2):
            wait_for(lambda v=v: newest_links(folder, v) == 0, f"the loss of the link at {v}", process)
        told = json.loads(run(["fault", "--agent", "0", "--json"]).stdout)
        check(len(told["faults"]) == 1 and told["faults"][0]["bit"] is True, f"told {told}")
        check(0 < told["faults"][0]["left_s"] < 50, f"told {told}")
        done = run(["fault", "--agent", "0", "--heal"])
        check(done.returncode == 0 and done.stdout.endswith("\n1 healed\n"), f"said {done.stdout}{done.stderr}")
        for v in range(2):
            wait_for(lambda v=v: newest_links(folder, v) == 1, f"the link again at {v}", process)
        check("fault 1 (ended): drop" in run(["fault", "--agent", "0"]).stdout, "the ended fault is not told of")
        with open(f"{folder}/nodes/0/events.jsonl") as file:
            lines = [e for e in map(json.loads, file) if e["event"] == "fault"]
        check([(e["fault"], e["to"]) for e in lines] == [(1, "begun"), (1, "ended")], f"events.jsonl has {lines}")
        for arguments, status, words in (
                (["--agent", "0", "--kind", "dropp"], 2, "--kind: 'dropp' must be drop, delay"),
                (["--agent", "0", "--kind", "delay"], 2, "delay: a fault of kind delay needs it"),
                (["--agent", "0", "--kind", "drop", "--peer", "me"], 2, "--peer: 'me' must be"),
                (["--agent", "0", "--kind", "drop", "--direction", "up"], 2, "--direction: 'up' must be"),
                (["--agent", "0", "--for", "3s"], 2, "--kind: missing"),
                (["--agent", "0", "--heal", "--kind", "drop"], 2, "--heal: "),
                (["--agent", "777", "--kind", "drop"], 1, "777")):
            done = run(["fault", *arguments])
            lines = done.stderr.strip().splitlines()
            check(done.returncode == status and len(lines) == 1 and words in lines[0],
                  f"fault {arguments}: {done.returncode} {lines}")


if __name__ == "__main__":
    main([a_bad_file_is_told_before_anything_starts, the_same_file_drives_simulated_nodes,
          the_checks_fail_where_nothing_was_injected, a_scenario_drives_real_agents, a_running_agent_takes_faults])
