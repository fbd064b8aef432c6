#!/usr/bin/env python3
"""Who exchanges with whom while members die: graphs that heal, and overlays.

Goal: of a ring of six two members that are no neighbours are killed: the four others are a ring again, and models go
over both gaps; without --topology the neighbours of ten agents are few, connect all of them, and do so again when three
are killed. Method: real agents over TCP; the neighbours that their algorithms have and the bytes of each link are asked
for at the control sockets; deaths are kill -9."""
import json
import os
import signal
import socket
import subprocess

from harness import FASHION, Workplace, check, clean_environment, main, program, wait_for

MODEL_BYTES = 4 * 7850
COMMON = ["--algorithm", "gossip", "--data", FASHION, "--steps", "0", "--time", "120", "--pace", "50", "--report-every",
          "0.5", "--patience", "2", "--baselines", "off"]


class Cluster(Workplace):
    def __init__(self, count, *options):
        self.count, self.options = count, options

    def __enter__(self):
        super().__enter__()
        self.environment = clean_environment()
        self.environment["XDG_RUNTIME_DIR"] = str(self.path)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{s.getsockname()[1]}"
        for i in range(self.count):
            self.start(["agent", *COMMON, "-n", str(self.count), *self.options, "--id", str(80000 + i), "--out",
                        str(self.path / f"run{i}"), *(["--join", address] if i > 0 else ["--listen", address])],
                       env=self.environment, stdout=subprocess.DEVNULL, stderr=open(self.path / f"log{i}", "w"))
        self.wait_for(lambda now: len(now) == self.count, "training of all")
        return self

    def now(self):
        """place -> agent, of those that train."""
        done = subprocess.run([program(), "status", "--json"], capture_output=True, text=True, timeout=20,
                              env=self.environment, check=False)
        agents = json.loads(done.stdout)["agents"] if done.returncode == 0 else []
        return {a["place"]: a for a in agents if a.get("phase") == "training" and a["steps"] > 0}

    def wait_for(self, condition, what):
        wait_for(lambda: condition(self.now()), what, timeout=60)

    def kill(self, *places):
        now = self.now()
        for place in places:
            os.kill(self.processes[now[place]["id"] - 80000].pid, signal.SIGKILL)


def neighbours(agent):
    """place -> link, of those that the algorithm has."""
    return {m["place"]: m for m in agent["members"] if m.get("neighbour")}


def edges(now):
    return {(a, b) for a in now for b in neighbours(now[a])}


def connected(now):
    reached = {min(now)} if now else set()
    while more := {b for a, b in edges(now) if a in reached} - reached:
        reached |= more
    return reached == set(now)


def models_over(now, a, b):
    return neighbours(now[a]).get(b, {"bytes_sent": 0})["bytes_sent"] / MODEL_BYTES


def a_ring_heals_over_two_gaps():
    with Cluster(6, "--topology", "ring") as c:
        c.wait_for(lambda now: edges(now) == {(a, (a + d) % 6) for a in range(6) for d in (1, 5)}, "a ring of six")
        c.kill(1, 4)
        gaps = [(0, 2), (3, 5)]
        ring = {(0, 2), (2, 3), (3, 5), (5, 0)}
        c.wait_for(lambda now: edges(now) == ring | {(b, a) for a, b in ring}, "a ring of four")
        c.wait_for(lambda now: all(min(models_over(now, a, b), models_over(now, b, a)) > 5 for a, b in gaps),
                   "models over both gaps, both ways")
        for place, agent in c.now().items():
            check(agent["neighbours"] == agent["neighbours_up"] == 2, f"neighbours of place {place}: {agent}")


def an_overlay_is_the_default_and_connects_who_lives():
    with Cluster(10, "--min-nodes", "10") as c:
        c.wait_for(lambda now: len(now) == 10 and connected(now), "all are connected")
        degrees = [len(neighbours(a)) for a in c.now().values()]
        check(max(degrees) <= 5, f"degrees {degrees}")
        c.kill(0, 3, 7)
        c.wait_for(lambda now: len(now) == 7 and edges(now) and connected(now) and
                   not any(b in (0, 3, 7) for _, b in edges(now)), "the seven that live are connected")


if __name__ == "__main__":
    main([a_ring_heals_over_two_gaps, an_overlay_is_the_default_and_connects_who_lives])
