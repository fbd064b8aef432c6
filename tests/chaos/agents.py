"""Real agents, one per namespace: starting, stopping, and reading what they say of themselves.

What is judged comes from four places: events.jsonl (every change of membership, with time, accuser and evidence),
metrics.jsonl (steps, mixes, tokens), the control socket (status, snapshot) and the kernel (/proc: descriptors)."""
import array
import json
import math
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time

PORT = 7946
FASHION = "data/fashion-mnist"
LIGHT = {"task": "softmax", "data": "mixture:rows=2000", "algorithm": "gossip:every=5", "pace": 50, "steps": 0,
         "report-every": 0.25, "patience": 2}


class Lacking(Exception):
    """The program under test has no such feature yet: the row fails."""


class Failure(Exception):
    """An expectation without which the rest of the row makes no sense did not hold."""


def wait_for(condition, timeout, every=0.05):
    """Asks until the answer is true or the time is over; returns (answer, seconds it took)."""
    began = time.monotonic()
    while True:
        answer = condition()
        now = time.monotonic()
        if answer or now - began > timeout:
            return answer, now - began
        time.sleep(every)


def whole_lines(path):
    """The objects of a JSON Lines file that may just be written."""
    try:
        text = pathlib.Path(path).read_text()
    except OSError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Program:
    """The gadabout under test: what its `agent` can be told."""

    def __init__(self, path):
        self.path = str(path)
        text = subprocess.run([self.path, "agent", "--help"], capture_output=True, text=True, check=True).stdout
        self.options = {name: True for name in re.findall(r"--([a-z][a-z-]+)", text)}

    def has(self, option):
        """Options that help does not show are tried."""
        if option not in self.options:
            words = [self.path, "agent", f"--{option}="]
            tried = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
            self.options[option] = "unknown option" not in tried.stderr
        return self.options[option]


class Agent:
    """One member over all its lives. Each life has its own run directory and log; the state directory stays."""

    def __init__(self, cluster, index, number):
        self.cluster, self.index, self.id = cluster, index, number
        self.folder = cluster.place / f"node{index}"
        self.folder.mkdir()
        self.life = 0
        self.process = None
        self.control = self.folder / "control"

    # -- life ---------------------------------------------------------------------------------------

    @property
    def out(self):
        return self.folder / f"run{self.life}"

    @property
    def state(self):
        return self.folder / "state"

    def address(self):
        return f"{self.cluster.network.address(self.index)}:{PORT}"

    def contact(self):
        """Where others reach it: its own address, or its door in a proxy."""
        return self.cluster.contacts.get(self.index, self.address())

    def start(self, join=(), prefix=(), **options):
        program, network = self.cluster.program, self.cluster.network
        self.life += 1
        given = {**self.cluster.options, "id": self.id, "nodes": self.cluster.places, "out": self.out,
                 "listen": f"{network.address(self.index)}:{PORT}", **options}
        if self.index in self.cluster.contacts:
            given["advertise"] = self.contact()
        if program.has("state"):
            given.setdefault("state", self.state)
        if program.has("control"):
            given["control"] = self.control
        words = [f"--{key}={value}" for key, value in given.items() if value is not None]
        words += [f"--join={address}" for address in join]
        prefix = [*prefix, *self.cluster.prefixes.get(self.index, ())]
        command = network.command(self.index, *prefix, program.path, "agent", *words)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GADABOUT_")}
        environment["XDG_RUNTIME_DIR"] = str(self.cluster.place)
        with open(self.folder / f"log{self.life}", "w") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log,
                                            env=environment, cwd=self.cluster.root)
        return self

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL; returns the exit status, which is the proof."""
        self.signal(signal.SIGKILL)
        return self.process.wait()

    def stop(self):
        self.signal(signal.SIGSTOP)
        frozen, _ = wait_for(lambda: self.kernel_state() == "T", 5, 0.005)
        return bool(frozen)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def terminate(self, timeout=12):
        """SIGTERM; returns (exit status or None, seconds)."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        return self.process.poll(), time.monotonic() - began

    # -- the kernel's view --------------------------------------------------------------------------

    def kernel_state(self):
        try:
            text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return "gone"
        return text.rsplit(")", 1)[1].split()[0]

    def sockets(self):
        """How many TCP sockets the agent holds open."""
        count = 0
        for fd in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                count += os.readlink(fd).startswith("socket:")
            except OSError:
                pass
        return count

    def memory_kb(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))

    # -- what it writes -----------------------------------------------------------------------------

    def log(self):
        """All its logs, oldest life first."""
        return "".join((self.folder / f"log{i}").read_text(errors="replace") for i in range(1, self.life + 1))

    def metrics(self):
        return whole_lines(self.out / "metrics.jsonl")

    def newest(self, key):
        """The last value of one of the metrics, 0 before the first."""
        try:
            with open(self.out / "metrics.jsonl", "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().split(b"\n")
        except OSError:
            return 0
        return json.loads(lines[-2])[key] if len(lines) > 2 or len(lines) == 2 and lines[0][:1] == b"{" else 0

    def lags(self):
        """The greatest lag of its loop between two lines of metrics, in seconds, for all such spans of all its lives.
        The first two lines of a life are left out: rows are loaded then, and the loop waits for them."""
        found = []
        for life in range(1, self.life + 1):
            lines = whole_lines(self.folder / f"run{life}" / "metrics.jsonl")
            if any("loop_lag_p99_s" in m for m in lines):
                found += [m.get("loop_lag_max_s", 0.0) for m in lines[2:]]
        return found

    def events(self, since=0.0):
        """Changes of membership seen by this agent, over all lives, with unix time "t" >= since."""
        found = []
        for life in range(1, self.life + 1):
            found += whole_lines(self.folder / f"run{life}" / "events.jsonl")
        return [e for e in found if e["event"] == "member" and e["t"] >= since]

    # -- asking it ----------------------------------------------------------------------------------

    def ask(self, request, timeout=5.0):
        """One request to the control socket; None when nobody answers."""
        if not self.cluster.program.has("control"):
            raise Lacking("the agent has no control socket")
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(timeout)
                s.connect(str(self.control))
                s.sendall(json.dumps(request).encode() + b"\n")
                with s.makefile("rb") as answer:
                    line = answer.readline()
        except OSError:
            return None
        return json.loads(line) if line else None

    def status(self, timeout=5.0):
        return self.ask({"op": "status"}, timeout)

    def members(self):
        """{id: record} of status, itself left out; None when it does not answer."""
        status = self.status()
        if status is None:
            return None
        return {m["id"]: m for m in status["members"] if m["id"] != self.id}

    def view(self):
        """Ids of those it holds to be alive (suspects are), itself included."""
        status = self.status()
        if status is None:
            return None
        if not status.get("membership"):
            raise Lacking("status tells nothing of membership")
        return frozenset([self.id, *(m["id"] for m in status["members"] if m["state"] in ("alive", "suspect"))])

    def snapshot(self):
        """The floats of its present model."""
        path = self.folder / "snapshot.safetensors"
        answer = self.ask({"op": "snapshot", "path": str(path)}, 20)
        if not answer or not answer.get("ok"):
            raise Failure(f"node {self.index}: no snapshot: {answer}")
        data = path.read_bytes()
        header = int.from_bytes(data[:8], "little")
        first, last = json.loads(data[8:8 + header])["x"]["data_offsets"]
        return array.array("f", data[8 + header + first:8 + header + last])


class Cluster:
    """Agents in the namespaces of a network. Leaving the context kills what still runs."""

    def __init__(self, program, network, place, count, *, places=None, root=".", **options):
        self.program, self.network, self.place = program, network, pathlib.Path(place)
        self.places = places or count
        self.root = root
        self.contacts = {}
        self.late = set()   # indices of agents that a row makes late
        self.prefixes = {}  # index -> words before the program: env, unshare
        self.options = {**LIGHT, **{k.replace("_", "-"): v for k, v in options.items()}}
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
        self.agents = [Agent(self, i, i + 1) for i in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for agent in self.agents:
            if agent.alive:
                agent.signal(signal.SIGKILL)
        for agent in self.agents:
            if agent.process is not None:
                agent.process.wait()

    def __getitem__(self, index):
        return self.agents[index]

    def __len__(self):
        return len(self.agents)

    @property
    def living(self):
        return [a for a in self.agents if a.alive]

    def start(self, indices=None, seed=0, **options):
        """Starts these (all); they join agent `seed`."""
        chosen = self.agents if indices is None else [self.agents[i] for i in indices]
        for agent in chosen:
            agent.start([] if agent.index == seed else [self.agents[seed].contact()], **options)

    def wait_training(self, agents=None, timeout=30):
        """Until all these have made steps. Raises Failure."""
        agents = agents or self.agents
        done, took = wait_for(lambda: all(a.newest("steps") > 0 for a in agents), timeout, 0.1)
        if not done:
            silent = [a.index for a in agents if a.newest("steps") == 0]
            ended = [a.index for a in agents if not a.alive]
            raise Failure(f"no training within {timeout} s: no steps of {silent}, ended {ended}")
        return took

    # -- judging ------------------------------------------------------------------------------------

    def wait_views(self, agents, expected, timeout):
        """Until each of agents holds exactly `expected` (agents) to be alive. Returns (whether, seconds, text)."""
        wanted = frozenset(a.id for a in expected)
        views = {}

        def equal():
            for a in agents:
                views[a.index] = a.view()
                if views[a.index] != wanted:
                    return False
            return True
        done, took = wait_for(equal, timeout, 0.1)
        if done:
            return True, took, f"{len(agents)} equal views of {len(wanted)} after {took:.1f} s"
        odd = {i: None if v is None else {"lacks": sorted(wanted - v), "more": sorted(v - wanted)}
               for i, v in views.items() if v != wanted}
        return False, took, f"after {took:.0f} s: {odd}"

    def rates(self, agents, seconds, key="steps"):
        """{index: counts of key per second} over a window."""
        first = {a.index: (time.monotonic(), a.newest(key)) for a in agents}
        time.sleep(seconds)
        rate = {}
        for a in agents:
            began, count = first[a.index]
            rate[a.index] = (a.newest(key) - count) / (time.monotonic() - began)
        return rate

    def changes(self, since, to=None, about=None):
        """Events of all agents: (observer, event), filtered by new state and subject ids."""
        found = []
        for a in self.agents:
            for e in a.events(since):
                if (to is None or e["to"] == to) and (about is None or e["id"] in about):
                    found.append((a, e))
        return found

    def told_by(self, observers, about, to, since):
        """{(observer index, id): seconds after `since` of the first event that says so}."""
        first = {}
        for a in observers:
            for e in a.events(since):
                if e["to"] in to and e["id"] in about:
                    first.setdefault((a.index, e["id"]), e["t"] - since)
        return first

    def wait_told(self, observers, about, to, since, timeout):
        """Until every observer has told of every id; returns (whether, {pair: seconds})."""
        self.need_events()
        wanted = len(observers) * len(about)
        done, _ = wait_for(lambda: len(self.told_by(observers, about, to, since)) == wanted, timeout, 0.1)
        return bool(done), self.told_by(observers, about, to, since)

    def need_events(self):
        """Raises Lacking when no agent writes events at all."""
        done, _ = wait_for(lambda: any((a.out / "events.jsonl").exists() for a in self.agents), 3)
        if not done:
            raise Lacking("the agent writes no events.jsonl")


def consensus_distance(models):
    """Root of the mean over nodes of the squared distance to the mean model."""
    count, dim = len(models), len(models[0])
    total = 0.0
    for k in range(dim):
        values = [m[k] for m in models]
        mean = sum(values) / count
        total += sum((v - mean) ** 2 for v in values)
    return (total / count) ** 0.5


def percentile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
