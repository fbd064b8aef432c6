"""Row DK: ten containers by one service name; three are killed, two paused, one disconnected for 30 s.

Engine, base image and build are those of tests/docker/run; the cluster is docker/compose.yml with a command of its
own: places for all ten, a target that is about a minute away."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import shutil
import tempfile
import time

from agents import wait_for
from network import Missing
from rows import row

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES, KILLED, PAUSED = 10, 3, 2
TARGET = 0.70
COMMAND = """services:
  node:
    command: >-
      agent --join node:7946 --listen 0.0.0.0:7946 --nodes {nodes}
      --algorithm gossip:every=5 --task softmax --data /data/fashion-mnist --split iid
      --pace 20 --steps 0 --time 180 --target-accuracy {target} --step-size constant:value=0.002
"""


def docker_suite():
    """tests/docker/run as a module."""
    path = str(ROOT / "tests/docker/run")
    loader = importlib.machinery.SourceFileLoader("docker_suite", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("docker_suite", loader))
    loader.exec_module(module)
    return module


class Containers:
    """The cluster of docker/compose.yml under a name of our own, with engine and image if need be."""

    def __init__(self, suite, folder):
        self.suite, self.folder = suite, folder
        self.engine = None
        self.image = f"gadabout-chaos:{os.getpid()}"
        self.project = f"gadchaos{os.getpid()}"
        override = folder / "command.yml"
        override.write_text(COMMAND.format(nodes=NODES, target=TARGET))
        self.command = [*(suite.compose_command() or []), "-p", self.project, "-f", str(ROOT / "docker/compose.yml"),
                        "-f", str(override)]

    def open(self):
        suite = self.suite
        answers = suite.engine_answers()
        suite.install_missing(answers)
        if not answers:
            if os.geteuid() != 0:
                raise Missing("docker: no engine answers, and only root can start one")
            self.engine = suite.Engine(self.folder)
            self.engine.start()
        if not suite.has_base():
            made = suite.make_base(self.folder)
            if made.returncode != 0:
                raise Missing(f"docker: no base image: {suite.last_lines(made.stderr, 1)}")
        built = suite.build_image(self.image)
        if built.returncode != 0:
            raise Missing(f"docker: the image cannot be built: {suite.last_lines(built.stdout + built.stderr, 2)}")

    def compose(self, *words):
        return self.suite.run(*self.command, *words, env={"GADABOUT_IMAGE": self.image, "NODES": str(NODES)})

    def docker(self, *words):
        return self.suite.run("docker", *words)

    def ids(self):
        return self.compose("ps", "-a", "-q").stdout.split()

    def states(self):
        shown = self.docker("inspect", "-f", "{{.Id}} {{.State.Status}} {{.State.ExitCode}}", *self.ids()).stdout
        return {w[0]: (w[1], int(w[2])) for w in map(str.split, shown.splitlines())}

    def newest(self, name):
        """The last line of metrics of one container."""
        directory = re.search(r"results in (\S+)", self.log(name))
        if not directory:
            return None
        copy = self.folder / "metrics.jsonl"
        done = self.docker("cp", f"{name}:/results/{directory.group(1)}/metrics.jsonl", copy)
        lines = copy.read_text().split("\n")[:-1] if done.returncode == 0 else []
        return json.loads(lines[-1]) if lines else None

    def log(self, name):
        done = self.docker("logs", name)
        return done.stdout + done.stderr

    def close(self):
        self.compose("down", "-v", "--remove-orphans", "-t", "2")
        self.docker("image", "rm", self.image)
        if self.engine is not None:
            self.engine.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@row("DK", "ten containers: three killed, two paused, one disconnected for 30 s", (), backend="DK", alone=True,
     limit=1500)
def containers(r):
    suite = docker_suite()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gadchaos-docker-"))
    cluster = Containers(suite, folder)
    r.stack.callback(cluster.close)
    try:
        cluster.open()
    except suite.Skip as why:
        raise Missing(f"docker: {why}") from None
    r.note("image built")
    up = cluster.compose("up", "-d", "--no-build", "--scale", f"node={NODES}")
    names = cluster.ids()
    r.require("ten containers start", up.returncode == 0 and len(names) == NODES, suite.last_lines(up.stderr, 1))

    def train():
        newest = [cluster.newest(n) for n in names]
        return all(m and m["steps"] > 0 and m["links"] > 0 for m in newest)
    trained, took = wait_for(train, 90, 1)
    r.require("all ten found each other by one name, and train", trained, f"{took:.0f} s")
    r.figure("all_train_s", took)
    order = list(names)
    r.random.shuffle(order)
    killed, paused, cut = order[:KILLED], order[KILLED:KILLED + PAUSED], order[KILLED + PAUSED]
    rest = order[KILLED + PAUSED + 1:]
    network = f"{cluster.project}_default"
    cluster.docker("kill", *killed)
    cluster.docker("pause", *paused)
    cluster.docker("network", "disconnect", network, cut)
    states = cluster.states()
    r.proof("three are killed", all(states[n] == ("exited", 137) for n in killed))
    r.proof("two are paused", all(states[n][0] == "paused" for n in paused))
    shown = cluster.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", cut).stdout.strip()
    r.proof("one is off the network", network not in shown, shown)
    before = {n: cluster.newest(n)["steps"] for n in [*rest, cut]}
    time.sleep(30)
    during = {n: cluster.newest(n) for n in [*rest, cut]}
    r.check("the others and the one alone go on", all(during[n]["steps"] > before[n] for n in before))
    best = max(m["accuracy"] or 0 for m in during.values())
    r.check("the target was not reached before", best < TARGET, best)
    cluster.docker("unpause", *paused)
    cluster.docker("network", "connect", "--alias", "node", network, cut)
    survivors = [*rest, *paused, cut]
    ended, took = wait_for(lambda: all(cluster.states()[n][0] == "exited" for n in survivors), 300, 2)
    ends = {n[:8]: cluster.states()[n] for n in survivors}
    r.figure("ended_s", took)
    r.check("all seven that live reach the target (exit 0)", ended and all(e == ("exited", 0) for e in ends.values()),
            ends)
    words(r, cluster, rest)


def words(r, cluster, rest):
    """The log of each undisturbed agent tells in words who was lost, why, and who came back."""
    lost, back, sample = [], [], []
    for name in rest:
        text = cluster.log(name)
        lost.append(len(set(re.findall(r"node (\d+) is taken for dead: \S", text))))
        back.append(len(set(re.findall(r"node (\d+) is (?:back|alive)", text))))
        sample = [line for line in text.splitlines() if re.search(r"taken for dead|suspected|is back|is alive", line)]
    r.note("a log: " + " | ".join(sample[:12]))
    r.check("each log names at least the three that died, with the reason", min(lost) >= KILLED, lost)
    r.check("each log names those that came back", min(back) >= 1, back)
