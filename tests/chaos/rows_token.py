"""Rows 39 to 41: tokens of DIGEST that are lost, doubled, split.

What no real process can be made to hit (a death within one step of a hand-over, an acknowledgement lost just there) is
shown in the simulator, by the test programs of this build; beside it the same fault is done to real agents as near as
a signal or a filter gets."""
import re
import subprocess
import time

from agents import wait_for
from doors import Doors
from network import Missing
from rows import row

DIGEST = {"algorithm": "digest:streams=path,sync_every=10", "pace": 50, "patience": 1}


def simulate(r, program, *words):
    """Runs one of the build's test programs; its success is part of the row."""
    path = r.tools / program
    if not path.exists():
        raise Missing(f"{program}: not built (cmake --build, target {program})")
    done = subprocess.run([str(path), *words], capture_output=True, text=True, check=False, cwd=r.root, timeout=150)
    text = done.stdout + done.stderr
    passed = re.findall(r"\[\s+PASSED\s+\] (\d+)|(\d+) (?:storms|seeds)", text)
    r.check(f"SIM: {program} {' '.join(words)}", done.returncode == 0, text.strip().splitlines()[-1:])
    return text, passed


def total(c, key):
    return sum(a.newest(key) for a in c.living)


def quiet(r, c, window=6, timeout=60):
    """Repairs come to an end: no token is made anew and no stream re-based during a whole window."""
    def repairs():
        return total(c, "tokens_regenerated"), total(c, "rebases")
    began, last, since = time.monotonic(), repairs(), time.monotonic()
    while time.monotonic() - began < timeout:
        now = repairs()
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since >= window:
            break
        time.sleep(0.2)
    held = time.monotonic() - since >= window
    r.check(f"within {timeout} s no token is made anew any more", held, last)
    r.figure("repaired_s", since - began)


@row("39", "token lost: its holder dies between hops", ("netns",), pr=True, backend="NS+SIM")
def token_lost(r):
    simulate(r, "test_digest_faults")
    _, c = r.trained(8, **DIGEST)
    made, kills = total(c, "tokens_regenerated"), []
    order = list(range(1, 8))
    r.random.shuffle(order)
    for i in order[:5]:
        kills.append(c[i].kill())
        rest = c.living
        lost, _ = wait_for(lambda: total(c, "tokens_regenerated") > made, 8, 0.1)
        if lost:
            break
        c[i].start([c[0].address()])
        c.wait_training([c[i]])
        made = total(c, "tokens_regenerated")
    r.proof("a holder was killed: a token was made anew", kills and lost, f"{len(kills)} kills")
    quiet(r, c)
    r.goes_on(c, rest)
    for a in c.agents:
        if not a.alive:
            a.start([c[0].address()])
    r.same_views(c, 40)
    r.goes_on(c, timeout=30)


@row("40", "token doubled: its acknowledgement is lost", ("netns",), pr=True, backend="PX+SIM")
def token_doubled(r):
    simulate(r, "test_digest")
    net = r.network(7)
    doors = r.stack.enter_context(Doors(net, 6))
    c = r.cluster(net, 6, **DIGEST)
    c.contacts = {i: doors.address(i) for i in range(6)}
    c.start()
    c.wait_training()
    since, rounds = time.time(), 16 if r.full else 6
    swallowed = doors.total("swallowed")
    for i in range(rounds):
        node = 1 + i % 5
        doors.rule(node, swallow="down")
        time.sleep(0.7)
        doors.rule(node)
        doors.cut(node)
        time.sleep(0.8)
    swallowed = doors.total("swallowed") - swallowed
    r.proof("answers swallowed, then the connections cut", swallowed > 1000, f"{swallowed} bytes")
    quiet(r, c)
    r.figure("duplicates dropped", total(c, "duplicates_dropped"))
    r.figure("tokens made anew", total(c, "tokens_regenerated"))
    r.same_views(c, 40)
    r.goes_on(c)
    models = [a.snapshot() for a in c.agents]
    largest = max(abs(v) for m in models for v in m)
    r.check("no update was merged twice without end: models are finite and small", largest < 100, largest)
    r.nobody_dead(c, since)
    r.alive_still(c)


@row("41", "split with tokens on both sides, healed", ("netns", "iptables"), pr=True, backend="NS+SIM")
def token_split(r):
    simulate(r, "test_storm", "--seed", str(r.seed), "--count", "200", "--algorithm",
             "digest:streams=path,sync_every=10,reweigh=no")
    net, c = r.trained(8, **DIGEST)
    steps = {a.index: a.newest("steps_handed_over") for a in c.agents}
    made = total(c, "tokens_regenerated")
    net.cut(range(4), range(4, 8))
    time.sleep(60 if r.full else 20)
    apart = total(c, "tokens_regenerated") - made
    r.figure("tokens made anew while parted", apart)
    told = all(a.newest("steps_handed_over") > steps[a.index] for a in c.agents)
    r.check("both halves hand over updates while parted", told)
    caught = net.heal()
    r.proof("each of them dropped packets", all(n > 0 for n in caught.values()), sum(caught.values()))
    r.same_views(c, 40)
    quiet(r, c)
    r.goes_on(c)
    before = {a.index: a.newest("steps_handed_over") for a in c.agents}
    again, took = wait_for(lambda: all(a.newest("steps_handed_over") > before[a.index] for a in c.agents), 15)
    r.check("everybody's updates are handed over again", again)
    r.alive_still(c)
