#!/usr/bin/env python3
"""Every method with every compressor that fits it comes to the known optimum, in the simulator and over TCP.

Goal: no pair of a method and a compressor is shown as fitting and does not work; the simulator and real agents compute the
same. Method: the deterministic quadratic on a small CSV written here, whose optimum is the mean of all rows, computed
here in float64. Rows are dealt out sorted, so that the nodes' own optima lie far apart. The table METHODS says what is
to be expected of which method; methods and compressors come from `gadabout algorithms --json`, and a method that the
table does not know fails the test. Without an argument a part of all pairs runs (each method, compressors in turn), as in
./run-tests; all of them:

    tests/integration/test_methods.py build/release/gadabout --all      or, among others: tests/acceptance/run
"""
import json
import math
import random
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import Workplace, check, finish, main, read_model, run

ROWS, FEATURES = 120, 8  # 120: equal shares for 4, 5 and 6 nodes
ALL = "--all" in sys.argv

# What to give a compressor so that it drops something of eight numbers.
COMPRESS = {"none": "none", "fp16": "fp16", "bf16": "bf16", "int8": "int8:block=4", "topk": "topk:fraction=0.4",
            "randk": "randk:fraction=0.5", "block": "block:fraction=0.5", "bernoulli": "bernoulli:p=0.5", "sign": "sign",
            "qsgd": "qsgd:bits=3", "powersgd": "powersgd:rank=1"}
CONSTANT, FALLING = "constant:value=0.1", "inverse:scale=10,offset=100"


class Expect:
    """How a method is run and where it ends.

    error: greatest distance of the result to the optimum, relative to the distance of the start. Methods that keep the
    nodes' mean are exact on this task even with a constant step size, as all nodes have the same Hessian: the mean of the
    models follows gradient descent on the mean. Others stay away by about the step size (heterogeneous data), so they
    get a falling one, and the error is what is left of it. spread: greatest consensus distance in the summary.
    even: all nodes are equally fast, as the method lets each train at its own pace, and who is still training when the
    others have done their steps pulls the model to its own optimum. repeats: TCP and simulator take the same course,
    whatever comes first on the wire, but for a relative difference of this; None = they do not. packed: the error with a
    compressor, where the result itself went through one; None = as without."""

    def __init__(self, text, error=1e-5, spread=0.6, step_size=CONSTANT, steps=400, even=False, repeats=None,
                 packed=None, nodes=(4, 5, 6)):
        self.text, self.error, self.spread, self.step_size, self.steps = text, error, spread, step_size, steps
        self.even, self.repeats, self.packed, self.nodes = even, repeats, packed, nodes


REPEATS = 2e-5  # rounding: `sim` sums in a fixed order, agents as the processor likes
UP_ERROR = 0.15
METHODS = {
    "digest": [Expect("digest:streams=single,sync_every=3", 0.03, 0.15, FALLING, 2000, even=True),
               Expect("digest:streams=path,sync_every=3", 0.03, 0.15, FALLING, 2000, even=True)],
    "gossip": [Expect("gossip:mode=sync", repeats=REPEATS), Expect("gossip:mode=async", 0.03, 0.5, FALLING, 1000, even=True)],
    "delicoco": [Expect("delicoco:q=2,gamma=0.3", repeats=REPEATS)],
    "choco": [Expect("choco:gamma=0.3", repeats=REPEATS)],
    "hsgd": [Expect("hsgd:periods=8-2", repeats=REPEATS)],
    "async": [Expect("async", 0.05, 0.3, FALLING, 2000, even=True, packed=0.1),
              Expect("async:rule=pure,b=4", 0.03, 0.3, FALLING, 1500, even=True, packed=0.1, nodes=(4,))],
    "dgd": [Expect("dgd", repeats=REPEATS)],
    "def": [Expect("def", spread=0, repeats=REPEATS), Expect("def:lam=0.5,every=2", spread=0, repeats=REPEATS)],
    "def-a": [Expect("def-a", repeats=REPEATS)],
    "ef-sgd": [Expect("ef-sgd", spread=0, repeats=REPEATS)],
    "step-ahead": [Expect("step-ahead", spread=0, repeats=REPEATS)],
    "ef21": [Expect("ef21", spread=0, repeats=REPEATS)],
    "allreduce": [Expect("allreduce", spread=0, repeats=REPEATS)],
    "walk": [Expect("walk:steps=1", 0.1, math.inf, FALLING, 6000)],
    "local": [Expect("local:every=4", repeats=REPEATS, packed=0.005)],
}


def write_rows(path):
    """Rows whose features follow the target, so that sorted blocks have means far apart. Returns the mean row."""
    rng = random.Random(1)
    rows = []
    for i in range(ROWS):
        drift = 4 * (i / ROWS - 0.5)
        rows.append([round(1 + j / 8 + (drift if j % 2 else -drift) + rng.gauss(0, 1), 4) for j in range(FEATURES)])
    lines = [",".join(map(str, row)) + f",{i}\n" for i, row in enumerate(rows)]
    path.write_text("".join(lines))
    return [math.fsum(column) / ROWS for column in zip(*rows)]


def distance(a, b):
    return math.dist(a, b)


def arguments(place, topology, expect, compress, nodes, steps):
    return ["-n", str(nodes), "--algorithm", expect.text, "--compress", compress, "--topology", topology,
            "--task", "quadratic:cond=4", "--batch", "0", "--data", str(place.rows), "--split", "sorted",
            "--step-size", expect.step_size, "--steps", str(steps), "--baselines", "off", "--json"]


def simulate(place, topology, expect, compress, nodes, steps):
    """Returns (summary, model)."""
    out = place.folder()
    step_time = "constant:value=20ms" if expect.even else "uniform:low=10ms,high=30ms"
    done = run(["sim", *arguments(place, topology, expect, compress, nodes, steps), "--latency", "exp:mean=10ms", "--step-time",
                step_time, "--out", out])
    check(done.returncode == 0, f"{expect.text}, {compress}: {done.stderr}")
    return json.loads(done.stdout), read_model(f"{out}/model.safetensors")


def known_methods():
    """{method: its entry of `gadabout algorithms --json`}, each with an expectation."""
    listed = json.loads(run(["algorithms", "--json"]).stdout)["algorithms"]
    unknown = [a["name"] for a in listed if a["name"] not in METHODS]
    check(not unknown, f"no expectation for {unknown}: add a line to METHODS in {Path(__file__).name}")
    stale = [name for name in METHODS if name not in {a["name"] for a in listed}]
    check(not stale, f"METHODS holds {stale}, which the program does not know")
    return {a["name"]: a for a in listed}


def chosen(entry, turn):
    """The compressors to try: all, or none and one in turn."""
    names = entry["compressors"]
    check(names[0] == "none", f"{entry['name']} does not go without a compressor")
    others = names[1:]
    if not ALL and others:
        others = [others[turn % len(others)]]
    return ["none", *others]


class Place(Workplace):
    def __enter__(self):
        super().__enter__()
        self.rows, self.count = self.path / "rows.csv", 0
        self.optimum = write_rows(self.rows)
        self.lock = threading.Lock()
        return self

    def folder(self):
        with self.lock:
            self.count += 1
            return str(self.path / f"run{self.count}")

    def error(self, model):
        return distance(model, self.optimum) / math.hypot(*self.optimum)


def methods_come_to_the_optimum():
    """Rings where any topology fits, four to six nodes."""
    with Place() as place:
        pairs = 0
        for turn, (name, entry) in enumerate(known_methods().items()):
            topology = "ring" if "ring" in entry["topologies"] else "complete"
            for expect in METHODS[name]:
                for k, compressor in enumerate(chosen(entry, turn)):
                    summary, model = simulate(place, topology, expect, COMPRESS[compressor],
                                              expect.nodes[k % len(expect.nodes)], expect.steps)
                    error, spread = place.error(model), summary["consensus_distance"]
                    print(f"     {expect.text:38} {COMPRESS[compressor]:20} error {error:.1e} spread {spread:.1e}")
                    most = expect.packed if expect.packed is not None and compressor != "none" else expect.error
                    check(error <= most, f"{expect.text}, {compressor}: error {error:.2e} > {most}")
                    check(spread <= expect.spread, f"{expect.text}, {compressor}: spread {spread:.2e} > {expect.spread}")
                    pairs += 1
        print(f"     {pairs} pairs")


def wrong_answers_are_seen():
    """The measure has power: nodes that never speak, and a run that is cut short, are far from what is asked."""
    with Place() as place:
        summary, model = simulate(place, "complete", Expect("local:every=0"), "none", 4, 400)
        check(summary["consensus_distance"] > 0.5, f"nodes on their own agree to {summary['consensus_distance']}")
        _, model = simulate(place, "complete", Expect("dgd"), "none", 4, 20)
        check(place.error(model) > 1e-3, f"20 steps come as near as {place.error(model)}")


def tcp_pairs():
    """(expectation, compressor) of those that repeat: without a compressor, and with one or all."""
    for turn, (name, entry) in enumerate(known_methods().items()):
        for expect in METHODS[name]:
            if expect.repeats is None:
                continue
            for compressor in chosen(entry, turn + 3)[0 if ALL or len(entry["compressors"]) == 1 else 1:]:
                yield entry, expect, compressor


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_agents(place, topology, expect, compress, nodes, steps):
    """A cluster of agents that do exactly so many steps each; returns the mean of their models."""
    port, folders = free_port(), [place.folder() for _ in range(nodes)]
    given = [w for w in arguments(place, topology, expect, compress, nodes, steps) if w != "--json"]
    agents = []
    for rank, folder in enumerate(folders):
        address = ["--listen", f"127.0.0.1:{port}"] if rank == 0 else ["--listen", "127.0.0.1:0", "--join", f"127.0.0.1:{port}"]
        agents.append(place.start(["agent", *given, *address, "--id", str(rank), "--out", folder]))
    for agent in agents:
        _, text = finish(agent)
        check(agent.returncode == 0, f"agent, {expect.text}, {compress}: {text}")
    models = [read_model(f"{folder}/model.safetensors") for folder in folders]
    return [math.fsum(column) / nodes for column in zip(*models)]


def compare_course(place, entry, expect, compress):
    """Far from the optimum still, so that equal results mean equal courses."""
    topology = "ring" if "ring" in entry["topologies"] else "complete"
    real = run_agents(place, topology, expect, compress, 4, 24)
    _, simulated = simulate(place, topology, expect, compress, 4, 24)
    gap = distance(real, simulated) / math.hypot(*place.optimum)
    print(f"     {expect.text:38} {compress:20} agents - sim {gap:.1e}", flush=True)
    check(place.error(simulated) > 1e-3, f"{expect.text}: 24 steps are too many to tell courses apart")
    check(gap <= expect.repeats, f"{expect.text}, {compress}: agents and sim differ by {gap:.2e}")


def side_by_side(jobs):
    """Runs calls at the same time: clusters mostly wait. Raises the first failure."""
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(*job) for job in jobs]:
            done.result()


def agents_and_simulator_agree():
    with Place() as place:
        side_by_side((compare_course, place, entry, expect, COMPRESS[compressor])
                     for entry, expect, compressor in tcp_pairs())


def launch(place, entry, expect, compress):
    out, topology = place.folder(), "ring" if "ring" in entry["topologies"] else "complete"
    falling = Expect(expect.text, step_size=FALLING)
    done = run(["up", *arguments(place, topology, falling, compress, 4, 1000), "--pace", "500", "--out", out])
    check(done.returncode == 0, f"up, {expect.text}, {compress}: {done.stderr}")
    error = place.error(read_model(f"{out}/model.safetensors"))
    print(f"     {expect.text:38} {compress:20} up: error {error:.1e}", flush=True)
    check(error <= UP_ERROR, f"up, {expect.text}, {compress}: error {error:.2e} > {UP_ERROR}")


def up_comes_to_the_optimum():
    """`up` ends the training of all at about the same time, not at the same step: a falling step size, and what is left. At
    an equal pace, as the fast would pull the model of some methods to their own optimum."""
    with Place() as place:
        side_by_side((launch, place, entry, expect, COMPRESS[compressor])
                     for turn, (name, entry) in enumerate(known_methods().items())
                     for expect in (METHODS[name] if ALL else METHODS[name][:1])
                     for compressor in (entry["compressors"] if ALL else chosen(entry, turn + 1)[-1:]))


def misfits():
    """(arguments, words that the line must hold) of what does not fit, from the program's own lists and by hand."""
    for name, entry in known_methods().items():
        text = METHODS[name][0].text
        for compressor in COMPRESS:
            if compressor not in entry["compressors"]:
                yield ["--algorithm", text, "--compress", compressor], ["--compress", f"'{compressor}'", name, "none"]
        if "ring" not in entry["topologies"]:
            yield ["--algorithm", text, "--topology", "ring"], ["--topology", "'ring'", name, "complete"]
    yield ["--algorithm", "choco:gamma=1.5"], ["gamma=1.5", "0", "1"]
    yield ["--algorithm", "choco:gamma=-0.1"], ["gamma=-0.1", "0", "1"]
    yield ["--algorithm", "delicoco:q=0"], ["q=0", "1"]
    yield ["--algorithm", "local:every=x"], ["every=x"]
    yield ["--algorithm", "hsgd:periods=10-4"], ["--algorithm", "10", "no multiple", "4", "2 would fit"]
    yield ["--algorithm", "hsgd:groups=3"], ["--algorithm", "groups=3", "4 nodes", "1, 2 or 4"]
    yield ["--algorithm", "async:b=99"], ["--algorithm", "b=99", "b=4 or less"]
    yield ["--algorithm", "async:rule=once,order=1-2-2-4"], ["--algorithm", "order=1-2-2-4", "permutation of 1..4"]
    yield ["--algorithm", "def:lam=2"], ["lam=2", "0", "1"]
    yield ["--algorithm", "walk:steps=0"], ["steps=0", "1"]
    yield ["--algorithm", "choco", "--compress", "topk:fraction=0"], ["--compress", "fraction=0"]
    yield ["--algorithm", "choco", "--compress", "topk:fraction=1.5"], ["--compress", "fraction=1.5", "1"]
    yield ["--algorithm", "choco", "--compress", "randk:fraction=0.2,variant=unbiased"], ["--compress", "variant=unbiased"]
    yield ["--algorithm", "dgd", "--step-size", "constant:value=-1"], ["--step-size", "value=-1"]


def what_does_not_fit_is_one_line():
    with Place() as place:
        count = 0
        for given, words in misfits():
            extra = [] if "--topology" in given else ["--topology", "complete"]
            out = place.folder()
            done = run(["sim", "-n", "4", "--task", "quadratic", "--data", str(place.rows), "--steps", "5", *extra, *given,
                        "--out", out])
            text, name = done.stderr, " ".join(given)
            check(done.returncode == 2, f"{name}: exit status {done.returncode}: {text}")
            check(text.startswith("gadabout: ") and text.count("\n") == 1, f"{name}: '{text}'")
            check(all(w in text for w in words), f"{name}: '{text.strip()}' does not name all of {words}")
            check(done.stdout == "" and not Path(out).exists(), f"{name}: left something behind")
            count += 1
        print(f"     {count} misfits")


if __name__ == "__main__":
    main([wrong_answers_are_seen, methods_come_to_the_optimum, agents_and_simulator_agree, up_comes_to_the_optimum, what_does_not_fit_is_one_line])
