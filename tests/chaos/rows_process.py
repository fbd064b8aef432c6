"""Rows 19 to 24, 28, 47: processes that die, freeze, starve."""
import pathlib
import random
import resource
import signal
import threading
import time

from agents import PORT, wait_for
from quota import Quota
from rows import row

SAVES = {"save-every": 2}


def saving(r):
    """Options that make checkpoints frequent, where the program has them."""
    return SAVES if r.program.has("save-every") else {}


def wait_saved(agents, timeout=15):
    """Until each has a checkpoint younger than this call. Returns the steps each had then at least."""
    began = time.time()

    def newest(a):
        return max((p.stat().st_mtime for p in a.state.glob("checkpoint-[01]")), default=0)
    before = {a.index: a.newest("steps") for a in agents}
    done, _ = wait_for(lambda: all(newest(a) > began + 0.5 for a in agents), timeout, 0.1)
    return before if done else None


@row("19", "SIGKILL one, and its restart", ("netns",), pr=True)
def kill_one(r):
    _, c = r.trained(8, **saving(r))
    victim, others = c[5], [a for a in c.agents if a.index != 5]
    saved = wait_saved([victim])
    r.check("it has saved its state", saved is not None)
    since = time.time()
    r.proof("killed", victim.kill() == -9)
    told, when = c.wait_told(others, {victim.id}, ("dead",), since, 20)
    last = max(when.values(), default=0.0)
    r.check("all others tell it dead within 7 s (M-2)", told and last <= 7,
            f"{len(when)} of 7, last after {last:.1f} s")
    r.figure("all_know_s", last)
    r.goes_on(c, others)
    began = time.monotonic()
    victim.start([c[0].address()])
    back, _ = wait_for(lambda: victim.newest("steps") > 0, 30)
    r.check("it trains again", back)
    r.figure("trains_again_s", time.monotonic() - began)
    first = (victim.metrics() or [{"steps": 0}])[0]["steps"]
    r.check("its steps go on from what was saved", saved is not None and first >= saved[5], f"{saved} -> {first}")
    r.same_views(c, 40, since=began)
    r.goes_on(c)
    r.alive_still(c)


@row("20", "SIGKILL half of all at once", ("netns",), pr=True)
def kill_half(r):
    count = 16 if r.full else 8
    _, c = r.trained(count)
    dead = r.random.sample(range(count), count // 2)
    victims, rest = [c[i] for i in dead], [a for a in c.agents if a.index not in dead]
    steps = c.rates(rest, 5)
    since = time.time()
    for v in victims:
        v.signal(signal.SIGKILL)
    statuses = [v.process.wait() for v in victims]
    r.proof("killed", all(s == -9 for s in statuses), len(statuses))
    limit = 2 * 7
    held, took, text = c.wait_views(rest, rest, limit + 10)
    r.check(f"survivors' views are right within {limit} s (twice M-2)", held and took <= limit, text)
    r.figure("right_s", time.time() - since)
    after = c.rates(rest, 5)
    share = min(after[i] / steps[i] for i in steps)
    r.figure("steps, least share of before", share)
    r.check("each survivor keeps 90 % of its step rate", share >= 0.9, f"{share:.2f}")
    r.goes_on(c, rest)
    r.alive_still(c, rest)


@row("21", "SIGSTOP for 30 s, then SIGCONT", ("netns",), pr=True)
def freeze(r):
    net, c = r.trained(8)
    frozen, others = c[2], [a for a in c.agents if a.index != 2]
    c.late = {2}
    since = time.time()
    r.proof("stopped", frozen.stop(), frozen.kernel_state())
    program = f"import socket; socket.create_connection(('{net.address(2)}', {PORT}), 3); print('yes')"
    said = net.inside(net.names[0], "python3", "-c", program).strip()
    r.proof("its kernel still takes connections", said == "yes", said)
    told, when = c.wait_told(others, {frozen.id}, ("dead",), since, 25)
    last = max(when.values(), default=0.0)
    r.check("all others tell it dead within 13 s (M-3)", told and last <= 13,
            f"{len(when)} of 7, last after {last:.1f} s")
    r.figure("all_know_s", last)
    r.goes_on(c, others)
    r.nobody_dead(c, since, others)
    time.sleep(max(0.0, 30 - (time.time() - since)))
    steps, woken, woken_at = frozen.newest("steps"), time.time(), time.monotonic()
    frozen.go_on()
    r.same_views(c, 40, since=woken_at)
    grew, _ = wait_for(lambda: frozen.newest("steps") > steps + 20, 20)
    r.check("it trains again, without a restart", grew and frozen.life == 1)
    r.goes_on(c)
    r.nobody_dead(c, woken + 1, others)
    r.alive_still(c)


class Cycles:
    """Stops and continues agents in cycles, each with a phase of its own; counts the stops that bit."""

    def __init__(self, agents, stopped_s, running_s, seed):
        """stopped_s: (least, most) of each stop in turn; running_s: (least, most) between them."""
        self.agents, self.stopped_s, self.running_s = agents, stopped_s, running_s
        self.random = random.Random(seed)
        self.ends = threading.Event()
        self.stops = 0
        self.last = 0.0
        self.threads = [threading.Thread(target=self._cycle, args=(a, self.random.random() * 2)) for a in agents]

    def _cycle(self, agent, phase):
        self.ends.wait(phase)
        turn = 0
        while not self.ends.is_set() and agent.alive:
            self.stops += agent.stop()
            self.ends.wait(self.random.uniform(*self.stopped_s[turn % len(self.stopped_s)]))
            turn += 1
            agent.go_on()
            self.last = max(self.last, time.time())
            self.ends.wait(self.random.uniform(*self.running_s))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        for t in self.threads:
            t.join()


SHORT = (((2.0, 2.0),), (0.2, 0.2))  # seconds of each stop in turn, seconds between them, each (least, most)


def gray(r, count, stalled, seconds, cycle=SHORT, **options):
    """Some of count cycle between stopped and running. Returns (cluster, {what was seen})."""
    _, c = r.trained(count, **options)
    healthy = c.agents[stalled:]
    since = time.time()
    with Cycles(c.agents[:stalled], *cycle, r.seed) as cycles:
        time.sleep(seconds)
    ids = {a.id for a in healthy}
    held, took, text = c.wait_views(c.agents, c.agents, 40)
    heard = [(o.id, e["id"]) for o, e in c.changes(since, "dead", ids)]
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect", ids) if e["accuser"] == o.id]
    return c, {"deaths": len(heard), "suspicions": len(doubts), "stops": cycles.stops,
               "one_view": held, "one_view_s": took, "text": text, "who": heard[:5]}


@row("22", "SIGSTOP 2 s, SIGCONT 0.2 s, in cycles", ("netns",), pr=True, lag=False)
def cycles(r):
    c, found = gray(r, 8, 2, 60 if r.full else 30)
    r.proof("agents were stopped again and again", found["stops"] >= 20, found["stops"])
    r.check("no death of a healthy one is declared (M-5)", found["deaths"] == 0, found["who"] or None)
    r.figure("suspicions of healthy ones", found["suspicions"])
    r.check("the stalled ones are alive in every view within 6 s", found["one_view"] and found["one_view_s"] <= 6,
            found["text"])
    r.figure("one_view_s", found["one_view_s"])
    r.goes_on(c)
    r.alive_still(c)


@row("23", "CPU of 5 %", ("netns", "cpu quota"), lag=False)
def starved(r):
    _, c = r.trained(8, data="mixture:rows=2000,test=200,features=12000", pace=20)
    since = time.time()
    with Quota(0.05) as quota:
        for i in (2, 6):
            quota.add(c[i].process.pid)
        time.sleep(60 if r.full else 25)
        r.proof("the starved agents had to wait for the processor", quota.throttled() > 20, quota.throttled())
        r.nobody_dead(c, since, [a for a in c.agents if a.index not in (2, 6)])
        accused = [e["id"] for o, e in c.changes(since, "suspect") if e["accuser"] in (c[2].id, c[6].id)]
        r.figure("accusations by the starved", len(accused))
        r.goes_on(c, [a for a in c.agents if a.index not in (2, 6)])
    r.whole_again(c)


@row("24", "one computer ten times slower", ("netns", "cpu quota"), pr=True, lag=False)
def slow_computer(r):
    _, c = r.trained(6, data="mixture:rows=2000,test=200,features=16000", pace=20)
    slow, others = c[4], [a for a in c.agents if a.index != 4]
    window = 20 if r.full else 10
    time.sleep(2)
    before = c.rates(c.agents, window)
    since = time.time()
    with Quota(0.014) as quota:
        quota.add(slow.process.pid)
        time.sleep(3)
        during = c.rates(c.agents, window)
        r.proof("it had to wait for the processor and is much slower",
                quota.throttled() > 20 and during[4] < before[4] / 4,
                f"{quota.throttled()} waits, {before[4]:.1f} -> {during[4]:.1f} steps/s")
        share = min(during[a.index] / before[a.index] for a in others)
        r.figure("slow one, share of its steps", during[4] / before[4])
        r.figure("others' steps, least share of before", share)
        r.check("the others keep 95 % of their step rate", share >= 0.95, f"{share:.2f}")
        r.goes_on(c, others)
        r.nobody_dead(c, since, others)
    r.whole_again(c)


@row("28", "all are suspended at once", ("netns",), lag=False)
def suspend(r):
    _, c = r.trained(8)
    held = [a.stop() for a in c.agents]
    time.sleep(60 if r.full else 20)
    since = time.time()
    for a in c.agents:
        a.go_on()
    r.proof("all were stopped", all(held), len(held))
    time.sleep(10)
    r.nobody_dead(c, since)
    r.whole_again(c)


@row("47", "descriptors run out (RLIMIT_NOFILE)", ("netns",))
def descriptors(r):
    net = r.network(8)
    c = r.cluster(net, 8, topology="complete")
    c.start()
    c.wait_training()
    since = time.time()
    few = c[3]
    used = max(int(p.name) for p in pathlib.Path(f"/proc/{few.process.pid}/fd").iterdir()) + 1
    before = resource.prlimit(few.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(few.process.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    program = ("import socket, time\nheld = []\nfor _ in range(40):\n"
               f"    held.append(socket.create_connection(('{net.address(3)}', {PORT}), 3))\n"
               "time.sleep(8)\nprint(len(held))\n")
    refused = int(net.inside(net.names[0], "python3", "-c", program).strip())
    r.proof("connections were opened to an agent that had no descriptor left", refused == 40, refused)
    r.nobody_dead(c, since)
    r.goes_on(c)
    resource.prlimit(few.process.pid, resource.RLIMIT_NOFILE, before)
    r.same_views(c, 40)
    r.alive_still(c)
