"""Rows 13, 16b, 17, 18: what a stream can do that packets cannot; a proxy stands before every agent."""
import time

from agents import PORT, wait_for
from doors import Doors
from rows import row

SHAPE = {"topology": "complete", "data": "mixture:rows=2000,features=800"}  # models of 32 kB


def behind_doors(r, count, **options):
    """(network, doors, cluster): every connection goes through the proxy."""
    net = r.network(count + 1)
    doors = r.stack.enter_context(Doors(net, count))
    c = r.cluster(net, count, **{**SHAPE, **options})
    c.contacts = {i: doors.address(i) for i in range(count)}
    c.start()
    c.wait_training()
    return net, doors, c


def open_links(doors):
    return doors.total("open")


@row("13", "slow receiver: a peer reads 10 kB/s", ("netns",), pr=True, backend="PX")
def slow_receiver(r):
    _, doors, c = behind_doors(r, 6)
    others = [a for a in c.agents if a.index != 3]
    r.proof("all links pass the proxy", open_links(doors) >= 5, open_links(doors))
    window = 20 if r.full else 8
    steps = c.rates(others, window)
    since = time.time()
    doors.rule(3, rate=10000)
    slowed = doors.total("slowed")
    began = time.monotonic()
    time.sleep(6)
    during = c.rates(others, window)
    longest = 0
    for _ in range(20):
        for a in others:
            queue = [m.get("queue_bytes") or 0 for i, m in (a.members() or {}).items() if i == c[3].id]
            longest = max([longest, *queue])
        time.sleep(0.2)
    share = min(during[i] / steps[i] for i in steps)
    passed = (doors.total("slowed") - slowed) / (time.monotonic() - began)
    r.proof("the proxy read slowly, with bytes waiting", 1000 < passed < 10 * 10 * 10000, f"{passed:.0f} B/s")
    r.figure("others' steps, least share of before", share)
    r.check("the others train on, at most 5 % slower", share >= 0.95, f"{share:.2f}")
    r.check("queues to it stay within 8 MiB", longest <= 8 * 2**20 + 2**16, longest)
    r.figure("queue to it, kB", longest / 1000)
    r.goes_on(c, others)
    r.nobody_dead(c, since)
    doors.rule(3)
    r.whole_again(c)


def sweep(r, net, doors, c):
    """Every prefix of what node 4 said to node 0, each on a connection of its own, from node 4's namespace."""
    kept = max(doors.captured(0), key=len, default=b"")
    r.proof("a real dialogue was recorded", len(kept) >= 500, f"{len(kept)} bytes")
    target, step = net.address(0), 1 if r.full or len(kept) < 1500 else 2
    program = ("import socket, struct, sys\n"
               "data = bytes.fromhex(sys.stdin.read())\n"
               f"for n in range(1, len(data) + 1, {step}):\n"
               f"    s = socket.create_connection(('{target}', {PORT}), 5)\n"
               "    s.sendall(data[:n])\n"
               "    if n % 2:\n"
               "        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
               "    s.close()\n"
               "print(n)\n")
    done = net.inside(net.names[4], "python3", "-c", program, input=kept.hex())
    r.proof("connections cut after byte n, for every n", int(done) >= len(kept) - step, int(done))
    r.check("node 0 lives on", c[0].alive)


@row("16b", "cut at byte n, for every n", ("netns",), pr=True, backend="PX")
def cut_at_every_byte(r):
    net = r.network(6)
    doors = r.stack.enter_context(Doors(net, 5))
    c = r.cluster(net, 5, **SHAPE)
    c.contacts = {i: doors.address(i) for i in range(5)}
    doors.ask(door=0, rules={"capture": 4000 if r.full else 2000})
    c.start()
    c.wait_training()
    since = time.time()
    c[4].kill()
    sweep(r, net, doors, c)
    r.goes_on(c, c.agents[:4])
    c[4].start([c[0].contact()])
    c.wait_training([c[4]])
    doors.door(0)
    doors.rule(1, cut_at=200, cut_step=1777)
    doors.cut(1)
    # Agent 1 dials the others as well, through doors that do not cut: it may have all its links after two.
    wait_for(lambda: doors.counts(1)["cuts"] >= (6 if r.full else 3), 15)
    cuts = doors.counts(1)["cuts"]
    r.proof("live connections cut in the middle", cuts >= 2, cuts)
    doors.rule(1)
    r.same_views(c, 40)
    r.goes_on(c)
    r.nobody_dead(c, since, [a for a in c.agents if a.index != 4])
    r.alive_still(c)


@row("17", "slicer: segments of one byte", ("netns",), backend="PX")
def slicer(r):
    _, doors, c = behind_doors(r, 4, data="mixture:rows=2000")
    since = time.time()
    doors.rule(2, slice=0)
    time.sleep(15)
    r.proof("single bytes passed back to back", doors.total("slices") > 5000, doors.total("slices"))
    r.goes_on(c)
    r.nobody_dead(c, since)
    said = [a.index for a in c.agents if "protocol" in a.log().lower()]
    r.check("nobody complains of malformed frames", not said, said or None)
    doors.rule(2, slice=0.001)
    time.sleep(20)
    r.goes_on(c, [a for a in c.agents if a.index != 2])
    doors.rule(2)
    r.whole_again(c)


@row("18", "connections flap: cut every 2 s", ("netns",), pr=True, backend="PX")
def flapping(r):
    _, doors, c = behind_doors(r, 6)
    since, window = time.time(), 40 if r.full else 16
    before = {i: dict(doors.counts(i)["dials"]) for i in range(6)}
    cuts = doors.total("cuts")
    end = time.monotonic() + window
    while time.monotonic() < end:
        doors.cut(2)
        time.sleep(2)
    dials = {i: doors.counts(i)["dials"] for i in range(6)}
    pairs = {(source, i): n - before[i].get(source, 0) for i in dials for source, n in dials[i].items()}
    most = max(pairs.values(), default=0) / window
    r.figure("dials/s of one node to one peer, most", most)
    r.check("no reconnect storm: at most one dial per second and peer", most <= 1.0, f"{most:.2f}")
    cuts = doors.total("cuts") - cuts
    r.proof("connections cut", cuts >= window / 2, cuts)
    r.nobody_dead(c, since)
    r.goes_on(c, [a for a in c.agents if a.index != 2])
    back, took = wait_for(lambda: any(m["linked"] for m in (c[2].members() or {}).values()), 30)
    r.check("its links come back within 30 s", back)
    r.figure("reconnect_s", took)
    r.whole_again(c)
