"""Rows 25, 44, 46: the machine around an agent: too little memory, names that change or fail, strangers in crowds."""
import json
import pathlib
import shutil
import subprocess
import sys
import time

from agents import PORT, percentile, wait_for
from quota import Memory
from rows import row
from rows_disk import MODEL, resumed, saves, wait_more_saves

# Takes memory in steps of a MiB until it is told to stop (stdin closes).
HOG = ("import select, sys\nheld = []\nprint('up', flush=True)\n"
       "while not select.select([sys.stdin], [], [], 0.05)[0]:\n    held.append(bytearray(1 << 20))\n")


@row("25", "memory runs out: a cgroup's limit", ("netns", "memory limit"), pr=True, backend="CG")
def memory(r):
    net = r.network(5)
    c = r.cluster(net, 5, **MODEL)
    group = r.stack.enter_context(Memory())
    c.prefixes = {2: group.prefix()}
    c.start()
    c.wait_training()
    pathlib.Path(f"/proc/{c[2].process.pid}/oom_score_adj").write_text("1000")  # it is the one to go
    victim, others = c[2], [a for a in c.agents if a.index != 2]
    r.check("it saves", wait_more_saves(victim))
    group.set(group.used() + (24 << 20))
    hog = subprocess.Popen([*group.prefix(), sys.executable, "-c", HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        hog.stdout.readline()
        pressed, _ = wait_for(lambda: group.pressed() > 0 or not victim.alive, 30, 0.01)
        since = time.time()
        died, _ = wait_for(lambda: not victim.alive, 30, 0.01)
        last = max([g for ok, g in saves(victim) if ok], default=0)
        r.proof("the limit was met, and the kernel killed it", pressed and died and group.kills() >= 1 and
                victim.process.poll() == -9, f"{group.pressed()} times at the limit, {group.kills()} killed")
        told, when = c.wait_told(others, {victim.id}, ("dead",), since, 20)
        slowest = max(when.values(), default=0.0)
        r.check("all others tell it dead within 7 s (M-2)", told and slowest <= 7, f"{slowest:.1f} s")
        r.goes_on(c, others)
    finally:
        hog.stdin.close()
        hog.wait()
    c.prefixes = {}
    victim.start([c[0].address()])
    c.wait_training([victim])
    r.check("it resumes from what was saved", last <= resumed(victim) <= last + 1 and last > 0, (last, resumed(victim)))
    r.same_views(c, 40)
    r.goes_on(c)
    r.nobody_dead(c, since, others)
    r.alive_still(c)


class Names:
    """What an agent finds under /etc/hosts; other names go to a server that does not answer."""

    def __init__(self, r, name, server):
        self.hosts, self.resolver = r.place / f"hosts{name}", r.place / f"resolv{name}"
        self.say("")
        self.resolver.write_text(f"nameserver {server}\n")
        binds = f'mount --bind "{self.hosts}" /etc/hosts && mount --bind "{self.resolver}" /etc/resolv.conf'
        self.prefix = ["unshare", "-m", "sh", "-c", binds + ' && exec "$@"', "sh"]

    def say(self, address):
        """SEED is at that address ("": nobody knows it). In place: the file is bound elsewhere."""
        with open(self.hosts, "w") as file:
            file.write("127.0.0.1 localhost\n" + (f"{address} {SEED}\n" if address else ""))


SEED = "seed.chaos.test"


@row("44", "a seed's name is unknown, changes, fails", ("netns", "iptables"), pr=True)
def seed_name(r):
    net = r.network(7)
    c = r.cluster(net, 7, **{"min-nodes": 6, "topology": "complete"})
    names = {i: Names(r, i, net.address(0)) for i in range(1, 7)}
    net.rule(0, "-p", "udp", "--dport", "53", "-j", "DROP")
    c.prefixes = {i: n.prefix for i, n in names.items()}
    seed, first = f"{SEED}:{PORT}", c.agents[:6]
    for i in range(1, 6):
        names[i].say(net.address(0))
    since = time.time()
    for a in first:
        a.start([] if a.index == 0 else [seed])
    c.wait_training(first)
    new = c[6]
    new.start([seed])
    time.sleep(20 if r.full else 8)
    lag = (new.status() or {}).get("loop_lag", {}).get("max_s", 9.9)
    r.check("one that cannot resolve it waits, and its loop does not", new.alive and lag <= 0.5, lag)
    said = [line for line in new.log().splitlines() if SEED in line]
    r.check("... and says so", said, new.log().splitlines()[-1:])
    names[6].say(net.address(0))
    began = time.monotonic()
    joined, _ = wait_for(lambda: len(new.view() or ()) == 7, 40, 0.1)
    took = time.monotonic() - began
    r.check("it joins within 35 s once the name is there", joined and took <= 35, f"{took:.1f} s")
    r.figure("joined_s", took)
    killed = [c[0].kill(), c[3].kill()]
    net.move(0, 100)
    shutil.rmtree(c[3].state, ignore_errors=True)
    for n in names.values():
        n.say(net.address(0))
    c[0].start([c[1].address()])
    began = time.monotonic()
    c[3].start([seed])  # it knows nothing but the name
    joined, _ = wait_for(lambda: len(c[3].view() or ()) == 7, 40, 0.1)
    r.check("the name is resolved anew: found at its new address", joined, f"{time.monotonic() - began:.1f} s")
    r.figure("found_s", time.monotonic() - began)
    asked = net.packets(0)
    for n in names.values():
        n.say("")
    time.sleep(15 if r.full else 6)
    r.goes_on(c)
    r.proof("the seed moved; the resolver's questions were dropped", killed == [-9, -9] and asked > 0 and
            net.packets(0) >= asked, f"{net.packets(0)} questions")
    r.same_views(c, 40)
    r.nobody_dead(c, since, [c[i] for i in (1, 2, 4, 5, 6)])
    r.goes_on(c)
    r.alive_still(c)


# Opens IDLE connections that say nothing, RATE more per second that say rubbish, and a few that say a byte per second
# where a hello belongs; prints what came of them.
FLOOD = """
import json, socket, sys, time
host, port, idle, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
def connect():
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((host, port))
    return s
began = time.monotonic()
slow = [[connect(), began, None] for _ in range(8)]
time.sleep(0.5)
held = [connect() for _ in range(idle)]
tried = answered = 0
recent = []
while time.monotonic() - began < seconds:
    now = time.monotonic()
    while tried < (now - began) * rate:
        s = connect()
        try:
            s.send(b"GET / HTTP/1.1\\r\\n\\r\\n")
        except OSError:
            pass
        recent.append(s)
        tried += 1
    while len(recent) > rate:
        recent.pop(0).close()
    for entry in slow:
        s, last, ended = entry
        if ended is None and now - last >= 1:
            entry[1] = now
            try:
                s.send(b"\\0")
                if s.recv(1) == b"":
                    entry[2] = now - began
            except BlockingIOError:
                pass
            except OSError:
                entry[2] = now - began
    time.sleep(0.005)
print(json.dumps({"idle": len(held), "tried": tried, "slow_ended": [e[2] for e in slow]}))
"""


@row("46", "a flood of strangers and slow ones during training", ("netns",), pr=True)
def flood(r):
    net = r.network(9)
    c = r.cluster(net, 8, **{"min-nodes": 7, "topology": "complete"})
    first, target, new = c.agents[:7], c[3], c[7]
    c.start(range(7))
    c.wait_training(first)
    time.sleep(2)
    since, window = time.time(), 60 if r.full else 20
    memory_kb, rates = target.memory_kb(), c.rates(first, 4)
    command = net.command(8, sys.executable, "-c", FLOOD, net.address(3), PORT, 1000, 200, window)
    flooding = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(3)
    trips, waits, most = [], [], 0
    during = {a.index: (time.monotonic(), a.newest("steps")) for a in first}
    began = time.monotonic()
    new.start([target.address()])
    joined = None
    while flooding.poll() is None and time.monotonic() - began < window:
        asked = time.monotonic()
        told = target.members() or {}
        waits.append(time.monotonic() - asked)
        trips += [m["round_trip_s"] for m in told.values() if m.get("round_trip_s")]
        most = max(most, target.memory_kb())
        if joined is None and new.alive and len(new.view() or ()) == 8:
            joined = time.monotonic() - began
        time.sleep(0.1)
    share = min((a.newest("steps") - during[a.index][1]) / (time.monotonic() - during[a.index][0]) / rates[a.index]
                for a in first)
    found = json.loads(flooding.communicate()[0])
    r.proof("1000 silent connections, 200 a second that say rubbish", found["idle"] == 1000 and
            found["tried"] >= 150 * window, found["tried"])
    ended = [t for t in found["slow_ended"] if t is not None]
    r.figure("slow hellos ended after, s", [round(t, 1) for t in ended])
    r.check("a byte per second is no hello: closed in its time, 5 s (S-10)", len(ended) == 8 and 4 <= min(ended) and
            max(ended) <= 8,
            found["slow_ended"])
    r.figure("ping_p99_s", percentile(trips or [9.9], 0.99))
    r.figure("status_p99_s", percentile(waits or [9.9], 0.99))
    r.check("pings of members: p99 at most 250 ms", trips and percentile(trips, 0.99) <= 0.25)
    r.figure("memory, MiB more", (most - memory_kb) / 1024)
    r.check("at most 32 MiB more of memory", most - memory_kb <= 32 * 1024, (memory_kb, most))
    r.check("a real member joins through the flooded one within 10 s", joined is not None and joined <= 10, joined)
    if joined is not None:
        r.figure("joined_s", joined)
    r.figure("steps, least share of before", share)
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect") if e["accuser"] == o.id]
    r.check("nobody is suspected", not doubts, doubts[:4] or None)
    r.nobody_dead(c, since)
    r.same_views(c, 20)
    r.goes_on(c)
    r.alive_still(c)
