"""What a row is: a fault with its injector, proof that it bit, expectation, check, healing and final check.

A row is a function in one of the rows_*.py modules, entered into the table by @row. It is given a Run, tells proofs
and checks to it, and is judged by them: a row without a proof, or with one that failed, fails."""
import contextlib
import os
import pathlib
import random
import time

from agents import Cluster, Failure, percentile, wait_for
from network import Missing, Network, need
from relay import Relay

TABLE = {}
CROWD_MAX = 8  # agents a processor that are judged by their loops' lag
SLOW_MAX = 3.0  # times the reference's time


class Row:
    def __init__(self, function, name, title, needs, pr, alone, backend, limit, lag):
        self.function, self.name, self.title = function, name, title
        self.needs, self.pr, self.alone, self.backend, self.limit = needs, pr, alone, backend, limit
        self.lag = lag


def row(name, title, needs=("netns",), pr=False, alone=False, backend="NS", limit=200, lag=True):
    """Enters a row. pr: it is in the PR set; alone: measures times, so nothing runs beside it; limit: seconds; lag: the
    agents' loops must keep the bar C-8: the row takes no processor time away, or only from agents that say so."""
    def enter(function):
        TABLE[name] = Row(function, name, title, needs, pr, alone, backend, limit, lag)
        return function
    return enter


class Run:
    """One run of a row: its place on disk, what it made, what it found."""

    def __init__(self, row_, program, tools, place, root, seed, full):
        self.row, self.program, self.tools, self.root = row_, program, tools, root
        self.place = pathlib.Path(place)
        self.full = full  # the whole set: full sizes and times of the bars; else those of the PR set
        self.seed = seed
        self.random = random.Random(seed)
        self.proofs, self.checks, self.figures, self.timeline = [], [], {}, []
        self.began = time.monotonic()
        self.stack = contextlib.ExitStack()
        self.clusters = []

    # -- telling ------------------------------------------------------------------------------------

    def note(self, text):
        self.timeline.append(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def proof(self, text, held, figure=None):
        """The fault really bit."""
        self.proofs.append((bool(held), text, figure))
        self.note(f"proof {'ok' if held else 'MISSING'}: {text} {'' if figure is None else figure}")

    def check(self, text, held, figure=None):
        self.checks.append((bool(held), text, figure))
        self.note(f"{'ok' if held else 'FAIL'}: {text} {'' if figure is None else figure}")
        return bool(held)

    def require(self, text, held, figure=None):
        if not self.check(text, held, figure):
            raise Failure(text)

    def figure(self, name, value):
        self.figures[name] = value
        self.note(f"figure {name} = {value}")

    # -- making -------------------------------------------------------------------------------------

    def network(self, count, **options):
        return self.stack.enter_context(Network(count, **options))

    def relayed(self, count):
        """(network, relay)"""
        need("tap")
        net = self.network(count, ports=False)
        return net, self.stack.enter_context(Relay(net, self.tools / "tap_relay", self.seed))

    def cluster(self, network, count, **options):
        place = self.place / f"cluster{len(self.clusters) + 1}"
        place.mkdir()
        c = self.stack.enter_context(Cluster(self.program, network, place, count, root=self.root, **options))
        self.clusters.append(c)
        return c

    def shim(self, name):
        """The library to be preloaded."""
        path = self.tools / f"lib{name}_shim.so"
        if not path.exists():
            raise Missing(f"{name} shim: not built (cmake --build, target {name}_shim)")
        return path

    def trained(self, count, network=None, prefixes=None, **options):
        """(network, cluster): `count` agents that all train, with equal views where they can tell them."""
        net = network or self.network(count)
        c = self.cluster(net, count, **options)
        c.prefixes = prefixes or {}
        c.start()
        self.note(f"{count} agents train after {c.wait_training():.1f} s")
        return net, c

    # -- final checks -------------------------------------------------------------------------------

    def same_views(self, c, timeout, agents=None, since=None):
        """One view: all these hold each other, and nobody else, alive. With `since` (monotonic: when healing began)
        the figure one_view_s is taken from then on."""
        agents = agents or c.living
        held, _, text = c.wait_views(agents, agents, timeout)
        self.check(f"views are equal within {timeout} s", held, text)
        if since is not None:
            self.figure("one_view_s", time.monotonic() - since)

    def goes_on(self, c, agents=None, timeout=15):
        """Each of these makes more steps and more mixes."""
        agents = agents or c.living
        before = {a.index: (a.newest("steps"), a.newest("mixes")) for a in agents}

        def more():
            return all(a.newest("steps") > before[a.index][0] and a.newest("mixes") > before[a.index][1] + 1
                       for a in agents)
        done, took = wait_for(more, timeout, 0.1)
        stuck = [a.index for a in agents if a.newest("steps") <= before[a.index][0]]
        unmixed = [a.index for a in agents if a.newest("mixes") <= before[a.index][1] + 1]
        self.figures["exchanges_again_s"] = max(round(took, 2), self.figures.get("exchanges_again_s", 0))
        self.check("training goes on, with exchanges", done,
                   f"after {took:.1f} s" if done else f"no steps: {stuck}, no mixes: {unmixed}")

    def nobody_dead(self, c, since, about=None):
        """No agent has declared a living one dead since then."""
        c.need_events()
        ids = {a.id for a in about or c.living}
        dead = [(o.id, e["id"], e["evidence"]) for o, e in c.changes(since, "dead", ids)]
        self.check("no false death", not dead, f"(observer, member, evidence): {dead[:6]}" if dead else None)
        return len(dead)

    def alive_still(self, c, agents=None):
        """No crash: every agent that was not killed still runs."""
        ended = {a.index: a.process.returncode for a in agents or c.agents if not a.alive}
        self.check("no agent crashed", not ended, ended or None)

    def whole_again(self, c, since=None):
        """The end of most rows: one view within 40 s, training goes on, nobody crashed; with `since` (time) nobody
        was declared dead since then."""
        self.same_views(c, 40)
        self.goes_on(c)
        if since is not None:
            self.nobody_dead(c, since)
        self.alive_still(c)

    def loops_run(self, slow=1.0):
        """Bar C-8: no loop came late, but those of agents whose lag the row makes (c.late). A machine that took `slow`
        times the reference's time for a fixed piece of work is not judged by it: others had the processors. Nor is a
        cluster of more agents than CROWD_MAX a processor: they wait for each other."""
        crowd = CROWD_MAX * (os.cpu_count() or 1)
        found = [lag for c in self.clusters if len(c.agents) <= crowd
                 for a in c.agents if a.index not in c.late for lag in a.lags()]
        if not found:
            return
        p99, longest = percentile(found, 0.99), max(found)
        self.figure("loop_lag_p99_s", p99)
        self.figure("loop_lag_max_s", longest)
        if slow > SLOW_MAX:
            self.figure("loop lag not judged, the machine is slower by", slow)
        elif self.row is None or self.row.lag:
            self.check("loop lag: p99 at most 50 ms", p99 <= 0.05, f"{p99:.3f} s")
            self.check("loop lag: at most 500 ms", longest <= 0.5, f"{longest:.3f} s")

    # -- the verdict --------------------------------------------------------------------------------

    def failures(self):
        found = [f"{text} {'' if figure is None else figure}".strip() for held, text, figure in self.checks
                 if not held]
        found += [f"proof missing: {text} {'' if figure is None else figure}".strip()
                  for held, text, figure in self.proofs if not held]
        if not self.proofs:
            found.append("nothing proves that the fault bit")
        return found
