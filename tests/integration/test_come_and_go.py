#!/usr/bin/env python3
"""Members come and go while others train.

Goal: one line of command joins a cluster at any time; who dies is replaced, who comes back has its place, who leaves is
missed at once; nobody waits for anybody. Method: real agents over TCP; what they say on stderr and in metrics.jsonl is
looked at, deaths are kill -9. A late comer's loss must begin far below an untrained one's (2.3 with ten classes), or it
has fetched nothing."""
import os
import re
import signal
import time

from harness import FASHION, Workplace, check, check_run_directory, finish, main, metrics, wait_for

DIM = 7850
COMMON = ["agent", "-n", "4", "--min-nodes", "3", "--algorithm", "gossip", "--data", FASHION, "--steps", "0", "--time",
          "120", "--pace", "100", "--report-every", "0.2", "--patience", "1", "--baselines", "off"]


class Agent:
    def __init__(self, place, name, join, *options):
        self.folder, self.said = str(place.path / name), place.path / f"{name}.stderr"
        with open(self.said, "w") as file:
            arguments = [*COMMON, "--out", self.folder, *options]
            self.process = place.start(arguments + (["--join", join] if join else []), stderr=file)
        wait_for(lambda: "listening on" in self.text(), f"address of {name}", self.process)
        self.address = re.search(r"listening on ([^ ,]+)", self.text()).group(1)

    def text(self):
        return self.said.read_text()

    def steps(self):
        return max([m["steps"] for m in metrics(self.folder)], default=0)

    def wait_for_line(self, line, timeout=60):
        wait_for(lambda: line in self.text(), f"line '{line}'", self.process, timeout)

    def place(self):
        return int(re.findall(r"training begins at place (\d)", self.text())[-1])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        finish(self.process, 30)
        check(self.process.returncode == 130, f"exit status {self.process.returncode}: {self.text()}")
        return check_run_directory(self.folder, DIM)


def found(place):
    first = Agent(place, "a", None, "--id", "11")
    rest = [Agent(place, name, first.address, "--id", number) for name, number in (("b", "22"), ("c", "33"))]
    for agent in (first, *rest):
        agent.wait_for_line("training begins at place")
    return [first, *rest]


def all_make_steps(agents):
    before = [a.steps() for a in agents]
    wait_for(lambda: all(a.steps() > b for a, b in zip(agents, before)), "steps of all", timeout=30)


def late_comer_heir_and_return():
    with Workplace() as place:
        agents = found(place)
        check(sorted(a.place() for a in agents) == [0, 1, 2], "the founders' places")
        wait_for(lambda: min(a.steps() for a in agents) > 300, "300 steps of each")
        late = Agent(place, "d", agents[2].address, "--id", "44")
        late.wait_for_line("training begins at place 3 of 4")
        check("fetched" in late.text(), late.text())
        wait_for(lambda: late.steps() > 20, "steps of the late comer")
        loss = next(m["loss"] for m in metrics(late.folder) if m["steps"] > 0)
        check(loss < 1.2, f"its first loss is {loss}: it has fetched nothing of worth")
        agents.append(late)
        spare = Agent(place, "e", late.address, "--id", "55")
        spare.wait_for_line("all 4 places are taken")
        all_make_steps(agents)
        os.kill(agents[1].process.pid, signal.SIGKILL)  # its place goes to the spare
        spare.wait_for_line("training begins at place 1 of 4", 90)
        agents[1] = spare
        all_make_steps(agents)
        os.kill(agents[2].process.pid, signal.SIGKILL)  # comes back as itself
        agents[2] = Agent(place, "f", agents[0].address, "--id", "33")
        agents[2].wait_for_line("training begins at place 2 of 4", 60)
        all_make_steps(agents)
        os.kill(agents[0].process.pid, signal.SIGKILL)  # the first of all is nobody special
        all_make_steps(agents[1:])
        for agent in agents[1:]:
            check(agent.stop()["accuracy"] > 0.6, "accuracy of those who stayed")


def who_leaves_is_replaced_at_once():
    with Workplace() as place:
        agents = found(place)
        agents.append(Agent(place, "d", agents[0].address))
        agents[3].wait_for_line("training begins at place 3 of 4")
        spare = Agent(place, "e", agents[1].address)
        spare.wait_for_line("all 4 places are taken")
        agents[3].process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        spare.wait_for_line("this node takes place 3 of 4")
        took = time.monotonic() - began
        check(took < 4, f"it took {took:.1f} s to see that a member has left")  # a dead one takes longer
        print(f"a place that was left was taken after {took:.1f} s")
        finish(agents[3].process, 30)
        for agent in (*agents[:3], spare):
            agent.stop()


if __name__ == "__main__":
    main([late_comer_heir_and_return, who_leaves_is_replaced_at_once])
