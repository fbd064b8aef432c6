#!/usr/bin/env python3
"""A member without data keeps the model and gives it to who comes.

Goal: a keeper holds no place and trains nothing, follows those who train, shows itself as a keeper, comes back from its
state directory, and when all trainers have been killed new ones with empty disks begin at its steps and accuracy, not at
the start. Method: real agents over TCP, kill -9; the keeper's data hold no rows, so that it cannot have trained."""
import gzip
import json
import os
import pathlib
import re
import shutil
import signal

from harness import FASHION, Workplace, check, finish, main, metrics, read_model, run, wait_for

SHARED = ["agent", "-n", "2", "--algorithm", "digest:streams=single", "--report-every", "0.1", "--patience", "1"]


class Agent:
    def __init__(self, place, name, join, *options):
        self.folder, self.said = str(place.path / name), place.path / f"{name}.stderr"
        with open(self.said, "w") as file:
            arguments = [*SHARED, "--out", self.folder, *options]
            self.process = place.start(arguments + (["--join", join] if join else []), stderr=file)
        wait_for(lambda: "listening on" in self.text(), f"address of {name}", self.process)
        self.address = re.search(r"listening on ([^ ,]+)", self.text()).group(1)

    def text(self):
        return self.said.read_text()

    def wait_for_line(self, line, timeout=40):
        return wait_for(lambda: re.search(line, self.text()), f"line '{line}'", self.process, timeout)

    def kept(self):
        return max([int(n) for n in re.findall(r"keeping a model of (\d+) steps", self.text())], default=0)

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        finish(self.process, 30)
        check(self.process.returncode == 130, f"exit status {self.process.returncode}: {self.text()}")
        return json.loads(pathlib.Path(self.folder, "summary.json").read_text())


def trainer(place, name, join, *options):
    return Agent(place, name, join, "--data", FASHION, "--steps", "0", "--pace", "200", *options)


def keeper(place, name, join, *options):
    """Its data have the labels, which say what the experiment is, and the held-out rows; but no row to train on."""
    data = place.path / "labels"
    if not data.exists():
        shutil.copytree(FASHION, data)
        images = data / "train-images-idx3-ubyte.gz"
        header = gzip.open(images).read(16)
        images.write_bytes(gzip.compress(header))
    return Agent(place, name, join, "--keeper", "--keep-every", "0.5", "--data", str(data), *options)


def events(agent, kind):
    lines = pathlib.Path(agent.folder, "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def fetched(agent):
    return int(agent.wait_for_line(r"the model of (\d+) steps has been fetched").group(1))


def check_begins_where_the_keeper_is(agents, kept):
    for agent in agents:
        agent.wait_for_line("training begins at place [01] of 2")
        check(fetched(agent) >= kept, f"{fetched(agent)} steps fetched, {kept} kept")
        known = wait_for(lambda agent=agent: [m for m in metrics(agent.folder) if m["accuracy"] is not None],
                         "an evaluation", agent.process)
        check(known[0]["accuracy"] > 0.6, f"its first accuracy is {known[0]['accuracy']}")


def new_trainers_begin_where_the_keeper_is_and_it_comes_back():
    with Workplace() as place:
        state = ["--state", str(place.path / "state")]
        first = trainer(place, "a", None)
        kept = keeper(place, "k", first.address, *state)
        first.wait_for_line("has joined as a keeper")
        check("training begins" not in first.text(), "the keeper counts for the founding")
        second = trainer(place, "b", kept.address)  # it knows all that the others know
        wait_for(lambda: kept.kept() > 100, "100 steps in the keeper", kept.process)
        check(any(m.get("keeper") for m in events(first, "member")), "no event tells that it is a keeper")
        for agent in (first, second):
            agent.kill()
        steps = kept.kept()
        new = [trainer(place, name, kept.address) for name in ("c", "d")]
        check_begins_where_the_keeper_is(new, steps)
        check(kept.kept() >= steps, "the keeper went back")
        for agent in new:
            agent.stop()
        summary = kept.stop()
        held = summary["model_steps"]
        check(held >= steps and summary["steps_total"] == 0 and summary["accuracy"] > 0.6, f"its summary: {summary}")
        check(not metrics(kept.folder), "a keeper makes no steps, and tells of none")
        again = keeper(place, "l", None, *state)
        again.wait_for_line(f"resumed from generation \\d+: {held} steps, no place")
        again.wait_for_line(f"keeping a model of {held} steps")
        again.stop()
        models = [read_model(pathlib.Path(a.folder, "model.safetensors")) for a in (kept, again)]
        check(models[0] == models[1], "another model came back")


def options_that_a_keeper_has_no_use_for_are_named():
    for more in (["--steps", "5"], ["--pace", "5"], ["--launched"], ["--baselines", "on"], ["--target-loss", "1"]):
        ended = run(["agent", "-n", "2", "--keeper", *more])
        check(ended.returncode == 2 and ended.stderr.startswith(f"gadabout: {more[0]}: does not go with --keeper"),
              f"{more}: {ended.stderr}")
        check(ended.stderr.count("\n") == 1, ended.stderr)


if __name__ == "__main__":
    main([new_trainers_begin_where_the_keeper_is_and_it_comes_back,
          options_that_a_keeper_has_no_use_for_are_named])
