"""The bars M-1 to M-11 and M-14, as they are written: times of membership.

In the PR set's size (the default for --rows without --set all) fewer repetitions; the figures say how many."""
import contextlib
import shutil
import time

from agents import Lacking, percentile, wait_for
from quota import Quota
from rows import row
from rows_process import gray

SPARSE = {"pace": 10, "algorithm": "gossip:every=5"}


def gather(r, c, agents, timeout=60):
    """Waits until all these have one view of each other."""
    held, took, text = c.wait_views(agents, agents, timeout)
    r.require(f"{len(agents)} agents have one view", held, text)
    return took


def times(r, name, values, unit="s"):
    r.figure(f"{name}_count", len(values))
    if values:
        r.figure(f"{name}_p50_{unit}", percentile(values, 0.5))
        r.figure(f"{name}_p99_{unit}", percentile(values, 0.99))
        r.figure(f"{name}_max_{unit}", max(values))


def heard_alive(c, who, others, since):
    """Seconds until the last of others holds `who` to be alive, by their events; None while one does not."""
    first = c.told_by(others, {who.id}, ("alive",), since)
    return max(first.values()) if len(first) == len(others) else None


def joins(r, count, repetitions, limit, **options):
    net = r.network(count)
    c = r.cluster(net, count, **{**SPARSE, "min-nodes": 2, **options})
    first, last = c.agents[:-1], c.agents[-1]
    c.start([a.index for a in first])
    gather(r, c, first)
    found = []
    for k in range(repetitions):
        last.id = 1000 + k
        shutil.rmtree(last.state, ignore_errors=True)
        since = time.time()
        last.start([c[0].address()])
        wait_for(lambda: heard_alive(c, last, first, since) is not None, limit * 4, 0.1)
        took = heard_alive(c, last, first, since)
        held, own, text = c.wait_views([last], c.agents, limit * 4)
        r.check(f"join {k} is seen by all", took is not None and held, text)
        if took is None:
            break
        found.append(max(took, 0.0))
        last.terminate()
        c.wait_views(first, first, 30)
    return found


@row("M-1", "join: every view equal", ("netns",), alone=True, limit=300)
def m1(r):
    if not r.program.has("min-nodes"):
        raise Lacking("agent has no --min-nodes: nobody can join a running cluster")
    found = joins(r, 16, 50 if r.full else 10, 3.0)
    r.proof("members joined", len(found) >= 10, len(found))
    times(r, "join16", found)
    r.check("N = 16: p99 of joins at most 3 s", found and percentile(found, 0.99) <= 3.0)
    if r.full:
        r.stack.close()
        found = joins(r, 64, 5, 5.0, pace=1)
        times(r, "join64", found)
        r.check("N = 64: at most 5 s", found and max(found) <= 5.0)
    cold(r, 64 if r.full else 32)


def cold(r, count):
    r.stack.close()
    net = r.network(count)
    c = r.cluster(net, count, pace=1, algorithm="gossip:every=5")
    began = time.monotonic()
    c.start()
    gather(r, c, c.agents, 60)
    took = time.monotonic() - began
    r.figure(f"cold{count}_s", took)
    r.check(f"{count} cold starts at once have one view within 20 s", took <= 20)


@row("M-2", "SIGKILL: all know", ("netns",), alone=True, limit=300)
def m2(r):
    net = r.network(16)
    c = r.cluster(net, 16, **SPARSE)
    c.start()
    gather(r, c, c.agents)
    found, statuses = [], []
    for k in range(50 if r.full else 10):
        victim = c[1 + r.random.randrange(15)]
        others = [a for a in c.agents if a is not victim]
        since = time.time()
        statuses.append(victim.kill())
        told, when = c.wait_told(others, {victim.id}, ("dead",), since, 25)
        if not r.check(f"kill {k} is known to all", told, f"{len(when)} of 15"):
            break
        found.append(max(when.values()))
        victim.start([c[0].address()])
        gather(r, c, c.agents)
    r.proof("killed", all(s == -9 for s in statuses), len(statuses))
    times(r, "known16", found)
    r.check("N = 16: p99 at most 7 s", found and percentile(found, 0.99) <= 7.0)
    if not r.full:
        return
    r.stack.close()
    _, c = large(r)
    found = []
    for k in range(5):
        victim = c[1 + r.random.randrange(63)]
        others = [a for a in c.agents if a is not victim]
        since = time.time()
        victim.kill()
        told, when = c.wait_told(others, {victim.id}, ("dead",), since, 40)
        if not r.check(f"N = 64: kill {k} is known to all", told, f"{len(when)} of 63"):
            break
        found.append(max(when.values()))
        victim.start([c[0].address()])
        gather(r, c, c.agents)
    times(r, "known64", found)
    r.check("N = 64: at most 11 s", len(found) == 5 and max(found) <= 11.0)


def large(r):
    """(network, cluster): 64 with one view."""
    net = r.network(64)
    c = r.cluster(net, 64, pace=1, algorithm="gossip:every=5")
    c.start()
    gather(r, c, c.agents, 90)
    return net, c


@row("M-3", "silent drop: all know", ("netns", "iptables"), alone=True, limit=400)
def m3(r):
    net = r.network(16)
    c = r.cluster(net, 16, **SPARSE)
    c.start()
    gather(r, c, c.agents)
    found, caught = [], 0
    for k in range(20 if r.full else 6):
        victim = c[r.random.randrange(16)]
        others = [a for a in c.agents if a is not victim]
        since = time.time()
        net.cut([victim.index], [a.index for a in others])
        told, when = c.wait_told(others, {victim.id}, ("dead",), since, 40)
        caught += sum(net.heal().values())
        if not r.check(f"drop {k} is known to all", told, f"{len(when)} of 15"):
            break
        found.append(max(when.values()))
        gather(r, c, c.agents)
    r.proof("packets dropped", caught > 0, caught)
    times(r, "known16", found)
    r.check("N = 16: p50 at most 9 s", found and percentile(found, 0.5) <= 9.0)
    r.check("N = 16: p99 at most 13 s", found and percentile(found, 0.99) <= 13.0)
    if not r.full:
        return
    r.stack.close()
    net, c = large(r)
    found = []
    for k in range(5):
        victim = c[r.random.randrange(64)]
        others = [a for a in c.agents if a is not victim]
        since = time.time()
        net.cut([victim.index], [a.index for a in others])
        told, when = c.wait_told(others, {victim.id}, ("dead",), since, 50)
        net.heal()
        if not r.check(f"N = 64: drop {k} is known to all", told, f"{len(when)} of 63"):
            break
        found.append(max(when.values()))
        gather(r, c, c.agents)
    times(r, "known64", found)
    r.check("N = 64: p50 at most 12 s", len(found) == 5 and percentile(found, 0.5) <= 12.0)
    r.check("N = 64: at most 19 s", len(found) == 5 and max(found) <= 19.0)


@row("M-4", "idle soak, N = 32, 30 minutes (--set all; else 2 minutes)", ("netns",), alone=True, limit=560)
def m4(r):
    net = r.network(32)
    c = r.cluster(net, 32, pace=2, algorithm="gossip:every=5")
    c.start()
    gather(r, c, c.agents)
    since, seconds = time.time(), 1800 if r.full else 120
    time.sleep(seconds)
    r.proof("nothing is injected; all ran all the time", len(c.living) == 32, seconds)
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect") if e["accuser"] == o.id]
    r.nobody_dead(c, since)
    r.figure("suspicions", len(doubts))
    r.check("at most 2 suspicions", len(doubts) <= 2, doubts[:4] or None)
    r.same_views(c, 5)


@row("M-5", "gray: 4 of 16 cycle SIGSTOP 2 s, SIGCONT 0.2 s; with and without Lifeguard", ("netns",), alone=True,
     limit=500, lag=False)
def m5(r):
    if not r.program.has("lifeguard"):
        raise Lacking("agent has no --lifeguard off for the control run")
    seconds = 120
    c, on = gray(r, 16, 4, seconds, **SPARSE)
    r.proof("agents were stopped again and again", on["stops"] >= 3 * seconds / 2.2, on["stops"])
    r.figure("deaths of the 12", on["deaths"])
    r.figure("suspicions of the 12", on["suspicions"])
    r.check("no death of the 12 healthy ones is declared", on["deaths"] == 0, on["who"] or None)
    r.check("the stalled ones are alive in every view within 6 s", on["one_view"] and on["one_view_s"] <= 6, on["text"])
    r.figure("one_view_s", on["one_view_s"])
    r.goes_on(c)
    r.stack.close()
    # The control: plain SWIM, no local health, a fixed time of suspicion. What it suspects is refuted before it kills,
    # if it suspects anybody: M-5b has the cycle in which it kills.
    _, off = gray(r, 16, 4, seconds, **SPARSE, lifeguard="off")
    r.figure("control: deaths of the 12", off["deaths"])
    r.figure("control: suspicions of the 12", off["suspicions"])
    r.check("at most a tenth of the control's suspicions, and none where it has none",
            10 * on["suspicions"] <= off["suspicions"], (on["suspicions"], off["suspicions"]))


BLINKS = (((6.0, 7.0),), (0.002, 0.015))


@row("M-5b", "gray: 4 of 16 cycle SIGSTOP 6 to 7 s, SIGCONT 2 to 15 ms; with and without Lifeguard", ("netns",),
     alone=True, limit=500, lag=False)
def m5b(r):
    seconds = 120 if r.full else 60
    c, on = gray(r, 16, 4, seconds, BLINKS, **SPARSE)
    r.proof("agents were stopped again and again", on["stops"] >= 3 * seconds / 7, on["stops"])
    r.figure("deaths of the 12", on["deaths"])
    r.figure("suspicions of the 12", on["suspicions"])
    r.check("no death of the 12 healthy ones is declared", on["deaths"] == 0, on["who"] or None)
    r.check("the stalled ones are alive in every view within 6 s", on["one_view"] and on["one_view_s"] <= 6, on["text"])
    r.figure("one_view_s", on["one_view_s"])
    r.goes_on(c)
    r.stack.close()
    _, off = gray(r, 16, 4, seconds, BLINKS, **SPARSE, lifeguard="off")
    r.figure("control: deaths of the 12", off["deaths"])
    r.figure("control: suspicions of the 12", off["suspicions"])
    r.check("the control, without Lifeguard, declares some of the 12 dead", off["deaths"] >= 1, off["deaths"])


def starve(r, seconds, **options):
    """4 of 16, which compute all the time, get 5 % of a processor: 50 ms of each second. Returns {what was seen of the
    12 others}."""
    net = r.network(16)
    c = r.cluster(net, 16, data="mixture:rows=1000,test=100,features=12000", algorithm="gossip:every=5", **options)
    c.start(range(4, 16), seed=15, pace=5)
    c.start(range(4), seed=15, pace=200)
    c.wait_training()
    healthy = c.agents[4:]
    ids, since = {a.id for a in healthy}, time.time()
    with contextlib.ExitStack() as quotas:
        held = [quotas.enter_context(Quota(0.05, 1000000)) for _ in range(4)]
        for a, quota in zip(c.agents, held):
            quota.add(a.process.pid)
        time.sleep(seconds)
        throttled = min(q.throttled() for q in held)
    late = min(max(a.lags(), default=0.0) for a in c.agents[:4])
    one_view, took, text = c.wait_views(c.agents, c.agents, 40)
    heard = [(o.id, e["id"]) for o, e in c.changes(since, "dead", ids)]
    accused = [(o.id, e["id"]) for o, e in c.changes(since, "suspect", ids) if e["accuser"] == o.id]
    r.goes_on(c)
    r.stack.close()
    return {"deaths": len(heard), "who": heard[:4], "accused": len(accused), "throttled": throttled, "late": late,
            "one_view": one_view, "text": text, "took": took}


@row("M-6", "4 of 16 at 5 % of a processor for 120 s; with and without Lifeguard", ("netns", "cpu quota"), alone=True,
     limit=500, lag=False)
def m6(r):
    seconds = 120 if r.full else 60
    on = starve(r, seconds)
    off = starve(r, seconds, lifeguard="off")
    r.proof("all four had to wait for the processor nearly every second, and their loops were late, in both runs",
            min(on["throttled"], off["throttled"]) > 0.8 * seconds and min(on["late"], off["late"]) > 0.4,
            (on["throttled"], off["throttled"], on["late"], off["late"]))
    for name, found in (("", on), ("control: ", off)):
        r.figure(name + "deaths of the 12", found["deaths"])
        r.figure(name + "accusations of the 12", found["accused"])
    r.check("no death of the 12 healthy ones is declared", on["deaths"] == 0, on["who"] or None)
    r.check("the starved are alive in every view within 6 s", on["one_view"] and on["took"] <= 6, on["text"])
    r.check("at most a tenth of the control's accusations, and none where it has none", 10 * on["accused"] <=
            off["accused"], (on["accused"], off["accused"]))


def idle_rate(r, count, seconds):
    """(bytes/s on the wire, packets/s), means over `count` agents that wait for one more; and the links of one."""
    net = r.network(count)
    c = r.cluster(net, count, places=count + 1, pace=1)
    c.start()
    gather(r, c, c.agents, 90)
    time.sleep(10)  # the joins' own traffic has ended
    before, began = [net.sent(i) for i in range(count)], time.monotonic()
    time.sleep(seconds)
    after, passed = [net.sent(i) for i in range(count)], time.monotonic() - began
    rates = [((b[0] - a[0]) / passed, (b[1] - a[1]) / passed) for a, b in zip(before, after)]
    links = sorted(a.status()["links"] for a in c.agents)
    trained = sum(a.newest("steps") for a in c.agents)
    r.check(f"N = {count}: nobody trains, all hold each other alive", trained == 0 and
            all(len(a.view() or ()) == count for a in c.agents), trained)
    r.stack.close()
    return (sum(b for b, _ in rates) / count, max(b for b, _ in rates), sum(p for _, p in rates) / count,
            links[count // 2])


@row("M-10", "idle traffic on the wire, N = 16 and 64", ("netns",), alone=True, limit=300)
def m10(r):
    seconds = 60 if r.full else 30
    found = {count: idle_rate(r, count, seconds) for count in (16, 64)}
    for count, (mean, most, packets, links) in found.items():
        r.figure(f"N={count}: bytes/s of a node, mean", mean)
        r.figure(f"N={count}: most", most)
        r.figure(f"N={count}: packets/s", packets)
        r.figure(f"N={count}: links of a node", links)
    r.proof("counted by the interfaces", all(f[2] > 1 for f in found.values()),
            [round(f[2], 1) for f in found.values()])
    r.check("a node sends at most 8 kB/s", max(f[0] for f in found.values()) <= 8000, [round(f[0]) for f in
                                                                                      found.values()])
    ratio = found[64][0] / found[16][0]
    r.figure("64 against 16", ratio)
    r.check("at N = 64 at most 1.3 times that of N = 16", ratio <= 1.3, f"{ratio:.2f}")


@row("M-7", "one-way partition between two of 16 for 60 s", ("netns", "iptables"), limit=300)
def m7(r):
    net, c = r.trained(16, **{**SPARSE, "topology": "complete"})
    since = time.time()
    net.drop(9, [4])
    time.sleep(60)
    r.goes_on(c)
    r.nobody_dead(c, since)
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect", {c[4].id, c[9].id})]
    r.figure("events of suspicion of the two", len(doubts))
    r.proof("packets from one to the other dropped", net.packets(9) > 0, net.packets(9))
    net.heal()
    r.same_views(c, 40)
    r.goes_on(c)


@row("M-8", "8/8 split for 60 s, healed", ("netns", "iptables"), limit=300)
def m8(r):
    net, c = r.trained(16, **SPARSE)
    before = incarnations(c)
    net.cut(range(8), range(8, 16))
    time.sleep(60)
    healed = time.monotonic()
    caught = net.heal()
    r.proof("each of them dropped packets", all(n > 0 for n in caught.values()), sum(caught.values()))
    r.same_views(c, 40, since=healed)
    after = incarnations(c)
    lives = {a.life for a in c.agents}
    r.check("no restart was needed", lives == {1})
    bumps = bumps_of(c, before)
    r.figure("incarnation bumps, most of one node", max(bumps.values(), default=0))
    r.check("at most 2 bumps of a node's incarnation", max(bumps.values(), default=0) <= 2, bumps)
    r.check("incarnations only grow", all(after[i] >= before[i] for i in before))
    r.goes_on(c)


def incarnations(c):
    """{id: its incarnation, as agent 0 (agent 1 for agent 0) knows it}"""
    known = {i: m.get("incarnation") for i, m in (c[0].members() or {}).items()}
    known.update({i: m.get("incarnation") for i, m in (c[1].members() or {}).items() if i == c[0].id})
    if any(v is None for v in known.values()):
        raise Lacking("status tells no incarnation of members")
    return known


def bumps_of(c, before):
    """How many incarnations of each member were seen beyond the one it had."""
    seen = {i: set() for i in before}
    for a in c.agents:
        for e in a.events():
            if e["id"] in seen and e["to"] == "alive" and e["incarnation"] > before[e["id"]]:
                seen[e["id"]].add(e["incarnation"])
    return {i: len(v) for i, v in seen.items()}


@row("M-9", "view hash equal after a storm", ("netns", "iptables"), limit=300)
def m9(r):
    count = 12
    net, c = r.trained(count, **SPARSE)
    kills = stops = cuts = 0
    end = time.monotonic() + (90 if r.full else 30)
    while time.monotonic() < end:
        i, what = r.random.randrange(1, count), r.random.randrange(3)
        if what == 0:
            c[i].kill()
            kills += 1
            time.sleep(r.random.uniform(0.5, 4))
            c[i].start([c[0].address()])
        elif what == 1:
            c.late.add(i)
            stops += c[i].stop()
            time.sleep(r.random.uniform(0.5, 6))
            c[i].go_on()
        else:
            others = [k for k in range(count) if k != i]
            net.cut([i], r.random.sample(others, count // 2))
            cuts += 1
            time.sleep(r.random.uniform(1, 6))
            net.heal()
    r.proof("killed, stopped and cut", kills + stops + cuts >= 6, (kills, stops, cuts))

    def hashes():
        return {None if t is None else t["membership"]["view"] for t in [a.status() for a in c.living]}
    equal, took = wait_for(lambda: len(hashes()) == 1 and None not in hashes(), 60, 0.2)
    r.check("view hash equal on all within 35 s", equal and took <= 35, f"{took:.1f} s")
    r.figure("equal_s", took)
    r.same_views(c, 5)
    r.goes_on(c, timeout=30)


@row("M-11", "64 MiB of model to a newcomer over a 10 Mbit/s link: pings go through", ("netns", "tbf"), limit=300)
def m11(r):
    if not r.program.has("min-nodes"):
        raise Lacking("agent has no --min-nodes: nobody can join a running cluster")
    net = r.network(3)
    # 100,000 features, 168 classes: 16.8 million parameters, 64 MiB
    c = r.cluster(net, 3, data="mixture:rows=64,test=8,features=100000,classes=168", pace=0.5, batch=1,
                  algorithm="gossip:every=100000", **{"min-nodes": 2, "report-every": 1})
    c.start([0, 1])
    c.wait_training(c.agents[:2])
    wait_for(lambda: all((m.get("model_steps") or 0) > 0 for a in c.agents[:2] for m in (a.members() or {}).values()), 30)
    since, began = time.time(), time.monotonic()
    net.limit(2, "10mbit", "50ms")
    c[2].start([c[0].address(), c[1].address()])
    trips, silent, received = [], [], 0
    wait_for(lambda: (c[2].status() or {}).get("phase") == "fetching", 20)
    time.sleep(3)
    while time.monotonic() - began < 120 and received < 66e6:
        for a in c.agents:
            status = a.status() or {"members": [], "bytes_received": 0}
            received = status["bytes_received"] if a is c[2] else received
            for m in status["members"]:
                if m.get("linked") and c[2].id in (a.id, m["id"]):
                    trips.append(m.get("round_trip_s") or 0)
                    silent.append(m.get("heard_s") or 0)
        time.sleep(0.1)
    over, _ = net.held_back(2)
    r.proof("the link was full of model", over > 1000 and received >= 60e6,
            f"{received / 1e6:.0f} MB, {over} times held back")
    r.figure("transfer_s", time.monotonic() - began)
    r.figure("ping_p50_s", percentile(trips or [9.9], 0.5))
    r.figure("ping_p99_s", percentile(trips or [9.9], 0.99))
    r.figure("ping_max_s", max(trips or [9.9]))
    r.figure("silence_max_s", max(silent or [9.9]))
    r.check("p99 of the pings' round trips at most 500 ms", trips and percentile(trips, 0.99) <= 0.5)
    doubts = [(o.id, e["id"], e["evidence"]) for o, e in c.changes(since, "suspect")]
    r.check("no suspicion", not doubts, doubts[:4] or None)
    r.nobody_dead(c, since)
    trains, _ = wait_for(lambda: c[2].newest("steps") > 0, 60)
    r.check("it trains then", trains)
    r.same_views(c, 20)


@row("M-14", "clean leave", ("netns",), pr=True)
def m14(r):
    _, c = r.trained(8, algorithm="digest:streams=path,sync_every=20")
    leaver, others = c[6], [a for a in c.agents if a.index != 6]
    since = time.time()
    status, took = leaver.terminate()
    r.proof("SIGTERM ended it", status in (0, 130), f"status {status} after {took:.1f} s")
    r.figure("ended_s", took)
    told, when = c.wait_told(others, {leaver.id}, ("left",), since, 10)
    last = max(when.values(), default=0.0)
    r.check("all others tell that it left, within 2 s", told and last <= 2, f"{len(when)} of 7, last {last:.2f} s")
    r.figure("left_s", last)
    wrong = [(o.id, e["to"]) for o, e in c.changes(since, None, {leaver.id}) if e["to"] in ("suspect", "dead")]
    r.check("nobody tells it suspect or dead", not wrong, wrong[:4] or None)
    time.sleep(3)
    made = sum(a.newest("tokens_regenerated") for a in others)
    r.figure("tokens made anew", made)
    r.same_views(c, 10, others)
    r.goes_on(c, others)
    r.alive_still(c, others)
