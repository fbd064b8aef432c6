"""Rows 26, 27: clocks that jump and clocks that run at the wrong rate; a preloaded library answers for them."""
import contextlib
import shutil
import struct
import threading
import time

from agents import wait_for
from rows import row
from rows_process import saving, wait_saved

HOUR_NS = 3600 * 10**9


class Clock:
    """The clock of one agent."""

    def __init__(self, r, name, rate=None):
        self.path = r.place / f"clock{name}"
        self.path.write_bytes(bytes(16))
        words = [f"LD_PRELOAD={r.shim('clock')}", f"CLOCK_SHIM={self.path}"]
        self.prefix = ["env", *words, *([f"CLOCK_RATE={rate}"] if rate else [])]

    def jump(self, ns):
        """The wall clock is this far off from now on."""
        with open(self.path, "r+b", buffering=0) as file:
            file.write(struct.pack("<q", ns))

    def readings(self):
        """How many were falsified."""
        return struct.unpack("<Q", self.path.read_bytes()[8:16])[0]


@contextlib.contextmanager
def strobe(clock, every_s):
    """Between an hour ahead and an hour behind, again and again."""
    ends = threading.Event()

    def turn():
        sign = 1
        while not ends.wait(every_s):
            clock.jump(sign * HOUR_NS)
            sign = -sign
    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def own_times(agent):
    """The times it writes, as it believes them."""
    return [e["t"] for e in agent.events(-1e18)]


@row("26", "wall clock: an hour ahead, an hour behind, both in turn", ("netns",), pr=True, backend="SH")
def wall_clock(r):
    clocks = {2: Clock(r, 2), 5: Clock(r, 5), 6: Clock(r, 6)}
    _, c = r.trained(8, prefixes={i: k.prefix for i, k in clocks.items()}, **saving(r))
    since, window = time.time(), 30 if r.full else 8
    before = c.rates(c.agents, window)
    clocks[2].jump(HOUR_NS)
    clocks[5].jump(-HOUR_NS)
    with strobe(clocks[6], 0.03):
        during = c.rates(c.agents, window)
    share = min(during[i] / before[i] for i in before)
    r.figure("steps, least share of before", share)
    r.check("no timer fires early or late: everybody keeps 90 % of its step rate, and 110 %",
            0.9 <= share and max(during[i] / before[i] for i in before) <= 1.1, f"{share:.2f}")
    doubts = [(o.id, e["id"]) for o, e in c.changes(-1e18, "suspect") if e["accuser"] == o.id and e["t"] > since - 7200]
    r.check("nobody is suspected", not doubts, doubts[:5] or None)
    saved = wait_saved([c[5]])
    lost = c[6].kill()
    c[5].kill()
    shutil.rmtree(c[6].state, ignore_errors=True)
    clocks[6].jump(-HOUR_NS)
    c[5].start([c[0].address()])
    c[6].start([c[0].address()])
    c.wait_training([c[5], c[6]])
    r.same_views(c, 30)
    behind = [min(own_times(c[i]), default=0.0) for i in (5, 6)]
    r.proof("readings of all three were falsified, and two came back an hour behind",
            lost == -9 and all(k.readings() > 0 for k in clocks.values()) and
            all(0 < t < since - 3000 for t in behind), [k.readings() for k in clocks.values()])
    first = (c[5].metrics() or [{"steps": 0}])[0]["steps"]
    r.check("it goes on from what it had saved, an hour from now", saved is not None and first >= saved[5],
            f"{saved} -> {first}")
    wrong = [i for i in (5, 6) for a in c.agents if a.index != i and
             (a.members() or {}).get(c[i].id, {}).get("state") != "alive"]
    r.check("all hold those to be alive whose boot lies an hour back", not wrong, wrong or None)
    r.goes_on(c)
    r.alive_still(c)


@row("27", "clock rate: one node 10 % fast, one 10 % slow", ("netns",), pr=True, backend="SH")
def clock_rate(r):
    clocks = {2: Clock(r, 2, 1.1), 5: Clock(r, 5, 0.9)}
    _, c = r.trained(8, prefixes={i: k.prefix for i, k in clocks.items()})
    since, window = time.time(), 60 if r.full else 15
    began, first = time.monotonic(), [c[i].status()["uptime_s"] for i in (2, 5, 0)]
    time.sleep(window)
    passed, last = time.monotonic() - began, [c[i].status()["uptime_s"] for i in (2, 5, 0)]
    speed = [(b - a) / passed for a, b in zip(first, last)]
    r.proof("their clocks are fast and slow, a third's is right", abs(speed[0] - 1.1) < 0.01 and
            abs(speed[1] - 0.9) < 0.01 and abs(speed[2] - 1) < 0.01, [round(s, 3) for s in speed])
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect") if e["accuser"] == o.id]
    r.check("nobody is suspected", not doubts, doubts[:5] or None)
    r.nobody_dead(c, since)
    r.goes_on(c)
    others = [a for a in c.agents if a.index != 7]
    killed = time.time()
    c[7].kill()
    told, when = c.wait_told(others, {c[7].id}, ("dead",), killed, 20)
    last = max(when.values(), default=0.0)
    r.check("all tell a killed one dead within 7.7 s, the fast and the slow as well (M-2)", told and last <= 7.7,
            f"{len(when)} of 7, last after {last:.1f} s")
    r.figure("all_know_s", last)
    r.nobody_dead(c, since, others)
    r.same_views(c, 10, others)
    r.goes_on(c, others)
    r.alive_still(c, others)
