"""Rows 1 to 12 and 14 to 16: links that drop, delay, lose, split, throttle; filters, tbf and the TAP relay."""
import time

from agents import Lacking, consensus_distance, wait_for, whole_lines
from rows import row

COMPLETE = {"topology": "complete"}
WIDE = {"data": "mixture:rows=2000,features=800"}  # models of 32 kB


def relayed_cluster(r, count, **options):
    net, relay = r.relayed(count)
    c = r.cluster(net, count, **options)
    c.start()
    c.wait_training()
    return relay, c


def suspicions(c, since):
    """Suspicions that an agent raised itself, not those it heard of."""
    c.need_events()
    return [(o.id, e["id"], e["evidence"]) for o, e in c.changes(since, "suspect")
            if e["accuser"] == o.id]


def linked(agent, peer):
    """Whether status shows a link from agent to peer; None when it cannot be told."""
    members = agent.members()
    if members is None:
        return None
    return bool(members.get(peer.id, {}).get("linked"))


def wait_link(a, b, state, timeout):
    """Until both ends say that the link between them is up (state True) or down."""
    return wait_for(lambda: linked(a, b) is state and linked(b, a) is state, timeout, 0.05)


def linked_again(r, c, a, b, since):
    up, took = wait_link(a, b, True, 30)
    r.check("the two are linked again within 30 s", up)
    r.figure("reconnect_s", took)
    r.whole_again(c, since)


@row("1", "link dropped, both ways", ("netns", "iptables"), pr=True)
def link_dropped(r):
    net, c = r.trained(8, **COMPLETE)
    a, b = c[2], c[5]
    since = time.time()
    net.cut([2], [5])
    down, took = wait_link(a, b, False, 8)
    r.check("both ends give the link up within 8 s", down, f"{took:.1f} s")
    time.sleep(25 if r.full else 12)
    r.goes_on(c)
    r.nobody_dead(c, since)
    caught = net.heal()
    r.proof("packets dropped at both ends", caught[2] > 0 and caught[5] > 0, (caught[2], caught[5]))
    linked_again(r, c, a, b, since)


@row("2", "one-way drop A to B", ("netns", "iptables"), pr=True)
def one_way(r):
    net, c = r.trained(8, **COMPLETE)
    a, b = c[1], c[6]
    since = time.time()
    net.drop(6, [1])
    down, took = wait_link(a, b, False, 10)
    r.check("the connection dies at both ends within 6 s", down and took <= 6.2, f"{took:.1f} s")
    r.figure("both_down_s", took)
    time.sleep(30 if r.full else 12)
    r.goes_on(c)
    r.nobody_dead(c, since)
    caught = net.heal()
    r.proof("packets from A dropped at B", caught[6] > 0, caught[6])
    linked_again(r, c, a, b, since)


def spread(c):
    return consensus_distance([a.snapshot() for a in c.agents])


@row("3", "bipartition, half against half", ("netns", "iptables"), pr=True)
def bipartition(r):
    count, cut_s = (16, 60) if r.full else (8, 25)
    half = count // 2
    net, c = r.trained(count, split="sorted", **COMPLETE)
    time.sleep(5)
    before = sum(spread(c) for _ in range(3)) / 3
    net.cut(range(half), range(half, count))
    time.sleep(cut_s)
    r.goes_on(c)
    parted = spread(c)
    parts = [{a.view() for a in c.agents[:half]}, {a.view() for a in c.agents[half:]}]
    r.figure("views in the halves", [sorted(len(v or ()) for v in p) for p in parts])
    healed, healed_at = time.time(), time.monotonic()
    caught = net.heal()
    r.proof("each of them dropped packets", all(n > 0 for n in caught.values()), sum(caught.values()))
    r.same_views(c, 40, since=healed_at)
    near, took = wait_for(lambda: spread(c) <= before, 60, 0.5)
    r.figure("distance before", before)
    r.figure("distance parted", parted)
    r.check("the models have parted", parted > 1.5 * before, f"{before:.3g} -> {parted:.3g}")
    r.check("consensus distance is back below its value before the cut within 60 s", near)
    r.figure("mixed_s", took + (0 if near else 1e9))
    r.goes_on(c)
    r.nobody_dead(c, healed + 40)
    r.alive_still(c)


@row("4", "majorities ring: everyone sees a majority, no two the same", ("netns", "iptables"), pr=True)
def majorities_ring(r):
    count, cut_s = 8, 60 if r.full else 30
    net, c = r.trained(count)
    net.drops({i: [(i + k) % count for k in (3, 4, 5)] for i in range(count)})
    time.sleep(10)  # until all links that were cut have been given up, and looked into
    began = time.time()
    time.sleep(cut_s - 10)
    r.goes_on(c)
    c.need_events()
    worst = 0.0
    for a in c.agents:
        told = {}
        for e in a.events(began):
            told[e["id"]] = told.get(e["id"], 0) + (e["from"] != e["to"])
        worst = max([worst, *(n * 10 / (time.time() - began) for n in told.values())])
    first = sum(len(a.events(began - 10)) - len(a.events(began)) for a in c.agents)
    r.figure("changes in the first 10 s, all nodes", first)
    r.figure("changes of one member at one node per 10 s, most", worst)
    r.check("no storm: then at most one change of a member's state per 10 s at any node", worst <= 1, f"{worst:.2f}")
    caught = net.heal()
    r.proof("each node dropped packets of the three opposite", all(n > 0 for n in caught.values()),
            sum(caught.values()))
    r.whole_again(c)


@row("5", "one node isolated", ("netns", "iptables"), pr=True)
def isolated(r):
    net, c = r.trained(8)
    lone, others = c[3], [a for a in c.agents if a.index != 3]
    since = time.time()
    net.cut([3], [a.index for a in others])
    told, when = c.wait_told(others, {lone.id}, ("dead",), since, 25)
    r.check("all others tell it dead within 13 s (M-3)", told and max(when.values()) <= 13,
            f"{len(when)} of 7, last after {max(when.values(), default=0):.1f} s")
    r.figure("all_know_s", max(when.values(), default=-1.0))
    steps = lone.newest("steps")
    grew, _ = wait_for(lambda: lone.newest("steps") > steps + 20, 10)
    r.check("it trains on alone", grew, f"{steps} -> {lone.newest('steps')}")
    r.goes_on(c, others)
    healed = time.monotonic()
    caught = net.heal()
    r.proof("packets dropped there and at the others", caught[3] > 0 and sum(caught.values()) > caught[3],
            (caught[3], sum(caught.values())))
    r.same_views(c, 40, since=healed)
    r.check("it came back without a restart", lone.life == 1 and lone.alive)
    r.goes_on(c)
    r.alive_still(c)


def round_trips(c):
    found = []
    for a in c.agents:
        members = a.members() or {}
        found += [m["round_trip_s"] for m in members.values() if m.get("round_trip_s")]
    return sorted(found)


@row("6", "fixed delay of 200 ms", ("netns", "tap"), pr=True)
def fixed_delay(r):
    relay, c = relayed_cluster(r, 8)
    since = time.time()
    relay.set("delay=200ms")
    time.sleep(40 if r.full else 10)
    rate = c.rates(c.agents, 15, "mixes")
    trips = round_trips(c)
    # An exchange holds both ends for a round trip; then a node is free for the 5 steps until its next one, and only
    # then does it accept. So 2 tries per second, of which idle / (idle + busy) find the other free, as many accepted.
    idle, busy = 5 / 50, 0.4
    computed = 2 * idle / (idle + busy) / (idle + busy)
    mean = sum(rate.values()) / len(rate)
    r.figure("exchanges/s of a node, mean", mean)
    r.figure("computed from the round trip", computed)
    r.check("exchanges go on, at least half as fast as computed, for every node", mean >= computed / 2 and
            min(rate.values()) > 0, rate)
    middle = trips[len(trips) // 2] if trips else 0.0
    r.figure("round_trip_s", middle)
    r.check("the round trip that status shows is about 400 ms", 0.38 <= middle <= 0.6, middle)
    doubts = suspicions(c, since)
    r.check("nobody is suspected", not doubts, doubts[:5] or None)
    r.proof("frames delayed by the relay", relay.total("delayed") > 1000, relay.total("delayed"))
    relay.set("")
    r.whole_again(c, since)


@row("7", "jitter, 50 +- 50 ms", ("netns", "tap"), pr=True)
def jitter(r):
    relay, c = relayed_cluster(r, 8)
    since = time.time()
    relay.set("delay=50ms jitter=50ms")
    worst = 0

    def health():
        told = [a.status() for a in c.agents]
        if any(t is None or t.get("health") is None for t in told):
            raise Lacking("status tells no health")
        return max(t["health"] for t in told)
    end = time.monotonic() + (60 if r.full else 20)
    while time.monotonic() < end:
        worst = max(worst, health())
        time.sleep(0.5)
    r.figure("health score, worst", worst)
    r.check("the health score stays at 2 or below", worst <= 2, worst)
    doubts = suspicions(c, since)
    r.check("nobody is suspected", not doubts, doubts[:5] or None)
    r.proof("frames delayed by the relay", relay.total("delayed") > 1000, relay.total("delayed"))
    relay.set("")
    well, took = wait_for(lambda: health() == 0, 20, 0.2)
    r.check("the score falls back to 0", well)
    r.figure("well_again_s", took)
    r.whole_again(c, since)


@row("8", "loss of 5 % and 20 %", ("netns", "tap"), pr=True)
def loss(r):
    relay, c = relayed_cluster(r, 8)
    window = 60 if r.full else 18
    for share, allowed in ((0.05, 1), (0.2, None)):
        since = time.time()
        lost, frames = relay.total("lost"), relay.total("frames")
        relay.set(f"loss={share}")
        time.sleep(window)
        r.goes_on(c)
        doubts = suspicions(c, since)
        r.figure(f"suspicions at {share:.0%}", len(doubts))
        if allowed is not None:
            r.check(f"at {share:.0%} at most {allowed} suspicion", len(doubts) <= allowed, doubts[:5] or None)
        r.nobody_dead(c, since)
        lost, frames = relay.total("lost") - lost, relay.total("frames") - frames
        r.proof(f"the relay lost about {share:.0%} of the frames", abs(lost / max(frames, 1) - share) < share / 3,
                f"{lost} of {frames}")
    relay.set("")
    r.whole_again(c)


@row("9", "burst loss, blackouts of 2 s", ("netns", "tap"))
def bursts(r):
    relay, c = relayed_cluster(r, 8)
    since = time.time()
    relay.set("burst=2s/10s/1")
    time.sleep(60 if r.full else 30)
    r.goes_on(c, timeout=30)
    r.nobody_dead(c, since)
    r.figure("suspicions", len(suspicions(c, since)))
    r.proof("frames lost in bursts", relay.total("burst_lost") > 100, relay.total("burst_lost"))
    relay.set("")
    r.whole_again(c)


@row("10", "reordered and duplicated packets", ("netns", "tap"), pr=True)
def reorder(r):
    relay, c = relayed_cluster(r, 8)
    since = time.time()
    relay.set("delay=5ms reorder=0.2 duplicate=0.05")
    time.sleep(40 if r.full else 12)
    r.goes_on(c)
    counts = relay.stats()["total"]
    r.proof("frames overtaken and repeated", counts["reordered"] > 100 and counts["duplicated"] > 50,
            (counts["reordered"], counts["duplicated"]))
    doubts = suspicions(c, since)
    r.check("TCP hides it: nobody is suspected", not doubts, doubts[:5] or None)
    dropped = sum(a.newest("duplicates_dropped") for a in c.agents)
    r.check("the agents see no duplicate", dropped == 0, dropped)
    relay.set("")
    r.whole_again(c)


@row("11", "bit errors with matching TCP checksums", ("netns", "tap"), pr=True)
def bit_errors(r):
    relay, c = relayed_cluster(r, 8)
    relay.set("corrupt=0.01")
    time.sleep(40 if r.full else 12)
    relay.set("")
    r.proof("frames damaged, checksum corrected", relay.total("corrupted") > 20, relay.total("corrupted"))
    r.same_views(c, 60)
    r.goes_on(c)
    models = [a.snapshot() for a in c.agents]
    largest = max(abs(v) for m in models for v in m)
    r.check("no damaged value was merged: all are finite and small", largest < 100, largest)
    said = sum("checksum" in a.log() for a in c.agents)
    r.check("the log says that a checksum did not match", said > 0, f"{said} of 8")
    r.alive_still(c)


@row("12", "one node at 1 Mbit/s", ("netns", "tbf"), pr=True)
def narrow(r):
    net, c = r.trained(8, **COMPLETE, **WIDE)
    others = [a for a in c.agents if a.index != 4]
    window = 20 if r.full else 10
    time.sleep(3)
    since = time.time()
    steps, mixes = c.rates(others, window), sum(a.newest("mixes") for a in others)
    mixes = c.rates(others, window, "mixes")
    net.limit(4, "1mbit")
    time.sleep(4)
    longest = 0
    end = time.monotonic() + window
    limited_from = {a.index: (time.monotonic(), a.newest("steps"), a.newest("mixes")) for a in others}
    while time.monotonic() < end:
        queues = [m.get("queue_bytes") or 0 for a in others for i, m in (a.members() or {}).items() if i == c[4].id]
        longest = max([longest, *queues])
        time.sleep(0.25)
    now = time.monotonic()
    slow = [((a.newest("steps") - limited_from[a.index][1]) / (now - limited_from[a.index][0])) / steps[a.index]
            for a in others]
    mixing = sum((a.newest("mixes") - limited_from[a.index][2]) / (now - limited_from[a.index][0]) for a in others)
    r.figure("others' steps, least share of before", min(slow))
    r.figure("others' mixes, share of before", mixing / max(sum(mixes.values()), 1e-9))
    r.check("the others' step rate is at most 5 % lower", min(slow) >= 0.95, f"{min(slow):.2f}")
    r.figure("queue to it, MiB", longest / 2**20)
    r.check("queues to it stay within 8 MiB", longest <= 8 * 2**20 + 2**16, longest)
    over, dropped = net.held_back(4)
    r.proof("tbf held packets back", over > 100, (over, dropped))
    r.nobody_dead(c, since)
    net.unlimit(4)
    r.whole_again(c)


@row("14", "half-open: a peer's host vanishes in the middle of a transfer", ("netns", "iptables", "tbf"), pr=True)
def half_open(r):
    net, c = r.trained(5, data="mixture:rows=2000,features=8000", pace=20, **COMPLETE)
    gone, others = c[2], [c[i] for i in (0, 1, 3, 4)]
    net.limit(2, "4mbit")
    time.sleep(2)
    before = {a.index: a.sockets() for a in others}
    address = net.address(2)

    def under_way():
        return sum(b for a in others for _, _, b in net.connections(a.index, address + ":"))
    busy, _ = wait_for(lambda: under_way() > 20000, 10, 0.01)
    net.cut([2], [a.index for a in others])
    began = time.monotonic()
    stuck = under_way()
    r.proof("bytes were under way when the host vanished", busy and stuck > 0, stuck)
    down, _ = wait_for(lambda: all(linked(a, gone) is False for a in others), 12, 0.05)
    took = time.monotonic() - began
    r.check("every peer gives the connection up within 6 s", down and took <= 6.2, f"{took:.1f} s")
    r.figure("given_up_s", took)
    time.sleep(1)
    after = {a.index: a.sockets() for a in others}
    r.check("no descriptor leaks", all(after[i] <= before[i] + 1 for i in before), (before, after))
    r.goes_on(c, others)
    caught = net.heal()
    r.proof("packets dropped", sum(caught.values()) > 0, sum(caught.values()))
    net.unlimit(2)
    r.whole_again(c)


@row("15", "lost FIN", ("netns", "iptables"), pr=True)
def lost_fin(r):
    net, c = r.trained(5, **COMPLETE)
    others = [c[i] for i in (0, 1, 2, 4)]
    address = net.address(3) + ":"
    before = sum(len(net.connections(a.index, address)) for a in others)
    for a in others:
        net.rule(a.index, "-p", "tcp", "-s", net.address(3), "--tcp-flags", "FIN", "FIN", "-j", "DROP")
        net.rule(a.index, "-p", "tcp", "-s", net.address(3), "--tcp-flags", "RST", "RST", "-j", "DROP")
    status = c[3].kill()
    began = time.monotonic()
    r.proof("the others do not know", before > 0 and
            sum(len(net.connections(a.index, address)) for a in others) == before, f"{before} connections")
    clean, _ = wait_for(lambda: not any(net.connections(a.index, address) for a in others), 15, 0.1)
    took = time.monotonic() - began
    r.check("the dead connections are cleaned up within 10 s", clean and took <= 10.2, f"{took:.1f} s")
    r.figure("cleaned_s", took)
    fins = sum(net.counted(a.index)[0][0] for a in others)
    r.proof("FINs dropped, agent killed", fins > 0 and status == -9, fins)
    r.goes_on(c, others)
    net.heal()
    r.same_views(c, 40, others)
    r.alive_still(c, others)


@row("16", "RST in the middle of frames", ("netns", "iptables"), pr=True)
def resets(r):
    net, c = r.trained(6, **COMPLETE, **WIDE)
    since = time.time()
    net.rule(1, "-p", "tcp", "-s", net.address(4), "-m", "length", "--length", "1000:", "-j", "REJECT",
             "--reject-with", "tcp-reset")
    dials = 0
    net.watch_dials(1, net.address(4))
    net.watch_dials(4, net.address(1))
    window = 30 if r.full else 12
    time.sleep(window)
    dials = net.dials(1) + net.dials(4)
    r.figure("dials/s", dials / window)
    r.check("reconnects back off: at most one dial per second and side", dials / window <= 2, dials)
    r.goes_on(c)
    caught = net.heal()
    r.proof("segments answered with a reset", caught[1] > 0, caught[1])
    up, took = wait_link(c[1], c[4], True, 30)
    r.check("the two are linked again within 30 s", up)
    r.figure("reconnect_s", took)
    r.whole_again(c, since)


@row("48", "MTU black hole: packets over 1200 bytes vanish", ("netns", "iptables"), pr=True)
def black_hole(r):
    net, c = r.trained(6, **COMPLETE, **WIDE)
    since = time.time()
    for a, b in ((1, 4), (4, 1)):
        net.rule(a, "-p", "tcp", "-s", net.address(b), "-m", "length", "--length", "1200:", "-j", "DROP")

    def ends_at(a, other):  # they are linked again at once, since small packets pass: what is told counts
        return [e for e in whole_lines(a.out / "events.jsonl")
                if e["event"] == "link" and e["to"] == "down" and e["id"] == other.id and e["t"] >= since]
    down, _ = wait_for(lambda: ends_at(c[1], c[4]) and ends_at(c[4], c[1]), 20, 0.2)
    took = max(e[0]["t"] for e in (ends_at(c[1], c[4]), ends_at(c[4], c[1]))) - since if down else None
    r.check("the connection dies by a timeout, within 8 s: 2 until a large packet, and 6", down and took <= 8, took)
    r.figure("both_down_s", took)
    time.sleep(30 if r.full else 12)
    ends = [e["why"] for e in ends_at(c[1], c[4]) + ends_at(c[4], c[1])]
    r.figure("the link's ends", {why: ends.count(why) for why in set(ends)})
    r.check("... and is told as a path that fell silent", ends and set(ends) <= {"silent", "connection reset",
                                                                                "closed by the peer"}, ends[:4])
    held = [(a.members() or {}).get(other.id, {}).get("state") for a, other in ((c[1], c[4]), (c[4], c[1]))]
    r.check("both hold each other to be alive: small pings pass, and others reach them", held == ["alive"] * 2, held)
    r.goes_on(c)
    r.nobody_dead(c, since)
    caught = net.heal()
    r.proof("large packets dropped, both ways", caught[1] > 0 and caught[4] > 0, (caught[1], caught[4]))
    up, took = wait_link(c[1], c[4], True, 30)
    r.check("the two are linked again within 30 s", up)
    r.figure("reconnect_s", took)
    r.whole_again(c, since)
