"""Rows 33 to 35, 42, 43: agents that come back: with an old, a damaged, no disk; elsewhere; all at once."""
import shutil
import signal
import time

from agents import Lacking, wait_for
from rows import row
from rows_process import saving, wait_saved


def need_state(r):
    if not r.program.has("state"):
        raise Lacking("agent has no --state")


def restart_all(r, c, contacts):
    """Starts all agents in random order, each with the contacts given for it."""
    order = list(c.agents)
    r.random.shuffle(order)
    r.note(f"order {[a.index for a in order]}")
    for a in order:
        a.start(contacts(a))


def goes_on_from(r, c, saved):
    """No agent begins again: the first steps each tells are at least those it had saved."""
    c.wait_training()
    first = {a.index: a.metrics()[0]["steps"] for a in c.agents}
    lost = {i: (saved[i], first[i]) for i in saved if first[i] < saved[i]}
    r.check("steps go on from what was saved", not lost, lost or None)


@row("33", "damaged checkpoint: bit flipped, truncated", ("netns",))
def damaged(r):
    need_state(r)
    _, c = r.trained(4, **saving(r))
    saved = wait_saved([c[2]])
    time.sleep(4)
    c[2].kill()
    files = sorted(c[2].state.glob("checkpoint-[01]"), key=lambda p: p.stat().st_mtime)
    data = bytearray(files[-1].read_bytes())
    data[len(data) // 2] ^= 4
    files[-1].write_bytes(data)
    r.proof("the newer generation has a flipped bit", len(files) == 2, [p.name for p in files])
    c[2].start([c[0].address()])
    c.wait_training([c[2]])
    said = [line for line in c[2].log().splitlines() if files[-1].name in line]
    r.check("the log names the damaged file", said, said[:1])
    first = c[2].metrics()[0]["steps"]
    r.check("the previous generation was taken", saved and first >= saved[2], (saved, first))
    r.same_views(c, 40)
    r.goes_on(c)
    c[2].kill()
    for p in files:
        with open(p, "r+b") as file:
            file.truncate(p.stat().st_size // 2)
    c[2].start([c[0].address()])
    ended, _ = wait_for(lambda: not c[2].alive or c[2].newest("steps") > 0, 30)
    r.check("both truncated: it says so, and starts empty or ends with a line",
            ended and any(p.name in c[2].log() for p in files), c[2].log().splitlines()[-1:])


@row("34", "restart with an empty disk, same identity", ("netns",), pr=True)
def empty_disk(r):
    _, c = r.trained(6)
    victim = c[3]
    status = victim.kill()
    existed = victim.state.exists()
    shutil.rmtree(victim.state, ignore_errors=True)
    r.proof("killed, and its state is gone", status == -9 and not victim.state.exists(), f"existed: {existed}")
    since = time.time()
    time.sleep(1)
    began = time.monotonic()
    victim.start([c[0].address()])
    c.wait_training([victim])
    r.same_views(c, 30, since=began)
    r.goes_on(c)
    last = {o.index: e for o, e in c.changes(since, "alive", {victim.id}) if o is not victim}
    wrong = [i for i, a in enumerate(c.agents) if a is not victim
             and (a.members() or {}).get(victim.id, {}).get("state") != "alive"]
    r.check("its new life is told by the others, or it was never doubted", not wrong, wrong or f"{len(last)} events")
    models = [a.snapshot() for a in c.agents]
    means = [sum(m) / len(m) for m in models]
    r.check("links are in step: all models are finite and near", all(m == m for m in means)
            and max(means) - min(means) < 1, f"{min(means):.3g}..{max(means):.3g}")
    r.alive_still(c)


@row("35", "restart under a new address", ("netns", "iptables"), pr=True)
def new_address(r):
    net, c = r.trained(6, topology="complete")
    victim, others = c[3], [c[i] for i in (0, 1, 2, 4, 5)]
    old = net.address(3)
    status = victim.kill()
    net.move(3, 103)
    began = time.monotonic()
    victim.start([c[0].address()])
    r.proof("killed, and back under another address", status == -9 and net.address(3) != old, net.address(3))

    def everybody_knows():
        return all((a.members() or {}).get(victim.id, {}).get("address", "").startswith(net.address(3) + ":")
                   for a in others)
    known, _ = wait_for(everybody_knows, 15)
    took = time.monotonic() - began
    r.check("all know its new address within 3 s (M-1)", known and took <= 3, f"{took:.1f} s")
    r.figure("known_s", took)
    time.sleep(8)
    for a in others:
        net.watch_dials(a.index, old)
    window = 40 if r.full else 15
    time.sleep(window)
    dials = sum(net.dials(a.index) for a in others)
    r.check("the old address is not dialled any more", dials == 0, f"{dials} dials in {window} s")
    r.whole_again(c)


@row("42", "all seeds are down", ("netns", "iptables"), pr=True)
def seeds_down(r):
    need_state(r)
    net = r.network(9)
    c = r.cluster(net, 9, **saving(r), **{"places": 8})
    first = c.agents[:8]
    seeds = [c[0].address(), c[1].address()]
    for a in first:
        a.start([s for s in seeds if s != a.address()])
    c.wait_training(first)
    r.check("the member that will restart has saved", wait_saved([c[5]]) is not None)
    rest = c.agents[2:8]
    r.proof("both seeds killed", [c[0].kill(), c[1].kill()] == [-9, -9])
    r.goes_on(c, rest)
    c[5].terminate()
    began = time.monotonic()
    c[5].start(seeds)
    joined, took, text = c.wait_views([c[5]], rest, 45)
    took = time.monotonic() - began
    knows = c[5].view() or frozenset()
    r.check("a restarted member finds the cluster within 30 s, from its address book",
            joined and took <= 30, text)
    r.figure("rejoined_s", took)
    new = c[8]
    net.watch_dials(8, net.address(0))
    net.watch_dials(8, net.address(1))
    new.start(seeds)
    time.sleep(30 if r.full else 15)
    dials = net.dials(8)
    r.check("a new one keeps trying", new.alive and dials >= 2, dials)
    r.check("... with back-off", dials <= 40, dials)
    r.check("... and says why", seeds[0] in new.log() or "cannot reach" in new.log(), new.log().splitlines()[-1:])
    r.figure("knew", len(knows))
    c[0].start([c[2].address()])
    met, _ = wait_for(lambda: len(new.view() or ()) >= 6, 35, 0.2)
    r.check("it joins when a seed is back, within 35 s", met)
    r.goes_on(c, rest)
    r.alive_still(c, [*rest, new])


@row("43", "the whole cluster restarts at once, in random order", ("netns",), pr=True)
def whole_restart(r):
    need_state(r)
    _, c = r.trained(8, algorithm="digest:streams=path,sync_every=20", **saving(r))
    saved = wait_saved(c.agents)
    r.check("all have saved", saved is not None)
    for a in c.agents:
        a.signal(signal.SIGKILL)
    statuses = [a.process.wait() for a in c.agents]
    r.proof("all killed at once", all(s == -9 for s in statuses), len(statuses))
    seeds = [c[0].address()]
    began = time.monotonic()
    restart_all(r, c, lambda a: [s for s in seeds if s != a.address()])
    held, _, text = c.wait_views(c.agents, c.agents, 30)
    r.check("one view within 30 s", held, text)
    r.figure("one_view_s", time.monotonic() - began)
    goes_on_from(r, c, saved or {})
    r.goes_on(c, timeout=30)
    r.alive_still(c)
