#!/usr/bin/env python3
"""Agents that can only dial out.

Goal: two agents that nobody can dial train and mix with each other through one that both have dialled; when that one is
killed they go on through another; an injected fault on one of them is on the relayed link. Method: real agents with --listen none; `gadabout status --json` says who is linked by
whom, and how far they are; what each receives from the other grows."""
import json
import signal
import socket
import subprocess

from harness import Workplace, check, clean_environment, main, program, wait_for

EXPERIMENT = ["--task", "quadratic", "--data", "mixture:rows=200,features=8", "--steps", "0", "--pace", "100",
              "--algorithm", "gossip", "--topology", "complete"]
FIRST = 70011


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster(Workplace):
    """`hubs` agents that listen, then two that do not."""

    def __init__(self, hubs):
        self.hubs = hubs

    def __enter__(self):
        super().__enter__()
        self.environment = clean_environment()
        self.environment["XDG_RUNTIME_DIR"] = str(self.path)
        self.agents = []
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(self.hubs)]
        for i in range(self.hubs + 2):
            listen = addresses[i] if i < self.hubs else "none"
            join = ["--join", ",".join(a for a in addresses if a != listen)] if len(addresses) > 1 or i >= self.hubs else []
            self.agents.append(self.start(
                ["agent", *EXPERIMENT, "-n", str(self.hubs + 2), "--id", str(FIRST + i), "--out",
                 str(self.path / f"run{i}"), "--listen", listen, *join],
                env=self.environment, stderr=open(self.path / f"log{i}", "w"), stdout=subprocess.DEVNULL))
        return self

    def status(self):
        done = subprocess.run([program(), "status", "--json"], capture_output=True, text=True, timeout=20,
                              env=self.environment, check=False)
        agents = json.loads(done.stdout)["agents"] if done.returncode == 0 else []
        return {a["id"]: a for a in agents if "id" in a}  # others are about to begin or gone

    def seen(self, of, who):
        """What agent `of` says of `who`; {} when nothing."""
        members = self.status().get(of, {}).get("members") or []
        return next((m for m in members if m["id"] == who), {})


def relayed(cluster, a, b, hubs):
    return all(cluster.seen(x, y).get("relayed_by") in hubs for x, y in ((a, b), (b, a)))


def received(cluster, of, who):
    return cluster.seen(of, who).get("bytes_received") or 0


def two_that_only_dial_mix_through_a_third():
    with Cluster(1) as cluster:
        hub, a, b = FIRST, FIRST + 1, FIRST + 2
        wait_for(lambda: relayed(cluster, a, b, {hub}), "a relayed link", cluster.agents[0])
        agents = cluster.status()
        check(agents[hub]["relays"] == 1, f"the hub relays one pair: {agents[hub]['relays']}")
        check(agents[a]["address"] in (None, ""), f"nobody can dial {a}: {agents[a]['address']}")
        for x, y in ((a, b), (b, a)):
            before = received(cluster, x, y)
            wait_for(lambda: received(cluster, x, y) > before + 10000, f"models from {y} at {x}", cluster.agents[0])
            check(cluster.status()[x]["neighbours_up"] == 2, f"{x} has two neighbours")
        text = subprocess.run([program(), "status"], capture_output=True, text=True, timeout=20, env=cluster.environment,
                              check=False).stdout
        check("relayed by" in text, f"status says so:\n{text}")


def a_fault_on_the_other_resets_their_relayed_link_alone():
    with Cluster(1) as cluster:
        hub, a, b = FIRST, FIRST + 1, FIRST + 2
        wait_for(lambda: relayed(cluster, a, b, {hub}), "a relayed link", cluster.agents[0])

        def fault(*words):
            done = subprocess.run([program(), "fault", "--agent", str(a), "--json", *words], capture_output=True, text=True,
                                  timeout=20, env=cluster.environment, check=False)
            check(done.returncode == 0, f"fault {words}: {done.returncode} {done.stderr}")
            return json.loads(done.stdout)

        before = cluster.seen(a, hub)["bytes_received"]
        fault("--peer", str(b), "--kind", "reset")
        wait_for(lambda: not cluster.seen(a, b).get("linked"), "the relayed link is reset", cluster.agents[1])
        wait_for(lambda: cluster.seen(a, hub)["bytes_received"] > before + 1000, "the hub's goes on", cluster.agents[1])
        text = json.dumps(fault())
        check('"links_reset": 0' not in text and "links_reset" in text, f"the fault has bitten: {text}")
        fault("--heal")
        wait_for(lambda: relayed(cluster, a, b, {hub}), "a relayed link again", cluster.agents[1])


def another_common_neighbour_takes_over():
    with Cluster(2) as cluster:
        hubs, a, b = {FIRST, FIRST + 1}, FIRST + 2, FIRST + 3
        wait_for(lambda: relayed(cluster, a, b, hubs), "a relayed link", cluster.agents[0])
        dead = cluster.seen(a, b)["relayed_by"]
        cluster.agents[dead - FIRST].send_signal(signal.SIGKILL)
        rest = hubs - {dead}
        wait_for(lambda: relayed(cluster, a, b, rest), "a link through the other one", cluster.agents[2])
        before = received(cluster, a, b)
        wait_for(lambda: received(cluster, a, b) > before + 10000, "models go on", cluster.agents[2])


def multicast_knows_that_nobody_can_dial():
    done = subprocess.run([program(), "agent", "-n", "2", "--task", "quadratic", "--listen", "none", "--multicast", "on"],
                          capture_output=True, text=True, timeout=20, env=clean_environment(), check=False)
    check(done.returncode == 2 and "--multicast" in done.stderr, f"refused: {done.returncode} {done.stderr}")


if __name__ == "__main__":
    main([two_that_only_dial_mix_through_a_third, a_fault_on_the_other_resets_their_relayed_link_alone,
          another_common_neighbour_takes_over,
          multicast_knows_that_nobody_can_dial])
