"""Rows 36 to 38, 45: frames that are repeated, replayed, left out inside a stream; agents of other versions.

No TCP does the first three: a repeat or a gap is a fault of a program, or somebody's attempt. The answer is one line, a
closed link and a new one, whose ends begin again (docs/protocol.md, section 4)."""
import ctypes
import time

import frames
from agents import wait_for, whole_lines
from doors import Doors
from network import Missing
from rows import row

FRAMED = {"framed": True}
SHAPE = {"topology": "complete", "data": "mixture:rows=2000"}


def framed(r, count, start=None, **options):
    """(network, doors, cluster): behind doors that know frames."""
    net = r.network(count + 1)
    doors = r.stack.enter_context(Doors(net, count))
    doors.ask(door="*", rules=FRAMED)
    c = r.cluster(net, count, **{**SHAPE, **options})
    c.contacts = {i: doors.address(i) for i in range(count)}
    c.start(start)
    c.wait_training([c[i] for i in start] if start else None)
    return net, doors, c


def broken(c, since, agents=None):
    """Links that ended because the other end broke the protocol, as their own ends tell it."""
    count = 0
    for a in agents or c.agents:
        for life in range(1, a.life + 1):
            lines = whole_lines(a.folder / f"run{life}" / "events.jsonl")
            count += sum(e["event"] == "link" and e["to"] == "down" and e["why"] == "protocol error" and e["t"] >= since
                         for e in lines)
    return count


def sound(r, c):
    """What was learnt is whole: models are finite, small and near each other."""
    models = [a.snapshot() for a in c.living]
    largest = max(abs(v) for m in models for v in m)
    means = [sum(m) / len(m) for m in models]
    r.check("models are finite and near: nothing was merged twice or by half", largest < 100 and
            max(means) - min(means) < 1, f"{largest:.3g}, {min(means):.3g}..{max(means):.3g}")


def healed(r, doors, c, since):
    doors.ask(door="*", rules=FRAMED)
    for i in range(len(c)):
        doors.ask(source=c.network.address(i), rules=FRAMED)
    r.same_views(c, 40)
    r.goes_on(c, timeout=30)
    sound(r, c)
    r.nobody_dead(c, since)
    r.alive_still(c)


@row("36", "frames repeated within a link", ("netns",), pr=True, backend="PX")
def repeated(r):
    _, doors, c = framed(r, 5)
    since = time.time()
    doors.rule(2, framed=True, repeat=0.02)
    time.sleep(30 if r.full else 10)
    count = doors.total("repeated")
    r.proof("messages were passed on twice", count >= 10, count)
    refused = broken(c, since)
    r.figure("repeated", count)
    r.figure("links closed for it", refused)
    r.check("links with a repeat are closed by who had it", count / 3 <= refused <= 2 * count, (count, refused))
    said = sum("lane after" in a.log() for a in c.agents)
    r.check("the log says which message came after which", said > 0, f"{said} of 5")
    r.goes_on(c, [a for a in c.agents if a.index != 2])
    healed(r, doors, c, since)


@row("37", "old frames replayed: same link, others, after a reconnect, after a restart", ("netns",), pr=True,
     backend="PX")
def replayed(r):
    _, doors, c = framed(r, 5)
    since = time.time()
    doors.ask(door=3, rules={**FRAMED, "keep": 200})
    wait_for(lambda: len(doors.kept(3)) >= 100, 10)
    old = doors.kept(3)
    doors.ask(door=3, rules=FRAMED)
    places = {a.index: a.status()["place"] for a in c.agents}
    sent = taken = 0

    def linked():
        return sum(m["linked"] for m in (c[3].members() or {}).values()) == 4
    for stage in ("same link and others", "after a reconnect", "after a restart"):
        if stage == "after a reconnect":
            doors.cut(3)
        if stage == "after a restart":
            c[3].kill()
            c[3].start([c[0].contact()])
            c.wait_training([c[3]])
        for unit in r.random.sample(old, 3):
            wait_for(linked, 20)
            time.sleep(1.5)  # whoever redials has said hello by then
            broke, counted = broken(c, since, [c[3]]), doors.counts(3)["injected"]
            doors.inject(3, unit)
            sent += doors.counts(3)["injected"] - counted
            wait_for(lambda: broken(c, since, [c[3]]) > broke, 3)
            taken += broken(c, since, [c[3]]) == broke
    r.proof("old messages were put into living links", sent >= 9, sent)
    r.check("each was refused with its link", taken == 0, taken)
    wrong = [(o.id, e["id"], e["to"]) for o, e in c.changes(since) if e["id"] != c[3].id and e["to"] != "alive"]
    r.check("what they said of members changed nothing", not wrong, wrong[:4] or None)
    r.check("nor of places", {a.index: a.status()["place"] for a in c.agents} == places, places)
    doors.ask(door="*", rules=FRAMED)
    r.same_views(c, 40)
    r.goes_on(c, timeout=30)
    sound(r, c)
    r.nobody_dead(c, since, [a for a in c.agents if a.index != 3])
    r.alive_still(c)


@row("38", "frames left out inside a living stream", ("netns",), pr=True, backend="PX")
def left_out(r):
    _, doors, c = framed(r, 5)
    since = time.time()
    doors.rule(2, framed=True, omit=0.02)
    time.sleep(30 if r.full else 10)
    count = doors.total("omitted")
    r.proof("messages were left out", count >= 10, count)
    time.sleep(1)
    refused = broken(c, since)
    r.figure("left out", count)
    r.figure("links closed for it", refused)
    r.check("a gap is never guessed over: its link is closed by who saw it", count / 3 <= refused <= 2 * count,
            (count, refused))
    r.goes_on(c, [a for a in c.agents if a.index != 2])
    healed(r, doors, c, since)


def need_checksums():
    try:
        frames.library()
    except (OSError, AttributeError, ctypes.ArgumentError) as error:
        raise Missing(f"libxxhash, which makes frames anew: {error}") from error


@row("45", "mixed versions: unknown fields and frames, another version", ("netns",), pr=True, backend="PX")
def versions(r):
    need_checksums()
    _, doors, c = framed(r, 6, range(4), **{"min-nodes": 4})
    first = c.agents[:4]
    since = time.time()
    doors.rule(1, framed=True, future=True)
    changed = doors.total("rewritten")
    time.sleep(15 if r.full else 6)
    changed = doors.total("rewritten") - changed
    r.proof("messages had unknown fields, with unknown frames before them", changed > 200, changed)
    r.check("links take them: none is closed", broken(c, since) == 0, broken(c, since))
    r.goes_on(c, first)
    doors.ask(door=1, source=c.network.address(1), rules=FRAMED)
    doors.ask(source=c.network.address(4), rules={**FRAMED, "version": "up"})
    doors.ask(door=4, rules={**FRAMED, "version": "down"})
    changed = doors.total("rewritten")
    newer, older = c[4], c[5]
    newer.start([c[0].contact(), c[1].contact()])
    ended, took = wait_for(lambda: not newer.alive, 20)
    said = newer.log().splitlines()[-1:]
    r.check("one of the next version is refused by all, and ends with a line that names both versions",
            ended and newer.process.returncode not in (0, -6, -11) and said and "version" in said[0], (took, said))
    doors.ask(source=c.network.address(4), rules={**FRAMED, "version": "up"})
    newer.start([])
    wait_for(lambda: newer.status() is not None, 10)
    older.start([newer.contact()])
    ended, took = wait_for(lambda: not older.alive, 20)
    said = older.log().splitlines()[-1:]
    r.check("and refuses one of this version, which says so too", ended and said and "version" in said[0], (took, said))
    r.proof("hellos said the next version", doors.total("rewritten") - changed >= 2,
            doors.total("rewritten") - changed)
    newer.kill()
    r.check("nobody else has heard of them", all(len(a.view() or ()) == 4 for a in first))
    r.goes_on(c, first)
    r.nobody_dead(c, since, first)
    r.alive_still(c, first)
