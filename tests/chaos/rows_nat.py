"""Row 49: members behind a NAT, whom nobody can dial."""
import subprocess
import sys
import time

from agents import PORT, wait_for
from rows import row

HUBS, NATTED = (0, 1, 2), (3, 4)


def relayer(agent, peer):
    """Id of the member that agent's link to peer goes through; None when there is no link, or a direct one."""
    return (agent.members() or {}).get(peer.id, {}).get("relayed_by")


def both_relayed(a, b, by):
    return relayer(a, b) in by and relayer(b, a) in by


def heard(agent, peer):
    """Bytes that came over agent's present link to peer."""
    return (agent.members() or {}).get(peer.id, {}).get("bytes_received") or 0


def exchange(r, a, b, what):
    """Both get more from each other: models, not only words."""
    before = heard(a, b), heard(b, a)
    more, took = wait_for(lambda: heard(a, b) > before[0] + 20000 and heard(b, a) > before[1] + 20000, 20, 0.2)
    r.check(f"the two exchange models {what}", more, f"20 kB each way after {took:.1f} s")


def knock(net, at, address):
    """Whether a connection from node `at` to the address opens within 2 s."""
    script = f"import socket; socket.create_connection(('{address}', {PORT}), 2)"
    return subprocess.run(net.command(at, sys.executable, "-c", script), capture_output=True, check=False).returncode == 0


@row("49", "two members behind a NAT; their relayer is killed", ("netns", "iptables"), pr=True)
def behind_a_nat(r):
    count = len(HUBS) + len(NATTED)
    net = r.network(count)
    for v in NATTED:  # what they open themselves comes back; nobody can open anything to them
        net.rule(v, "-p", "tcp", "--syn", "-j", "DROP")
    c = r.cluster(net, count, topology="complete", data="mixture:rows=2000,features=100")
    hubs, (a, b) = [c[v] for v in HUBS], (c[v] for v in NATTED)
    c.start([v for v in range(count) if v != a.index])
    c.start([a.index], listen="none")  # it knows; the other one believes that it can be dialled
    c.wait_training()
    r.proof("a connection to either of them does not open",
            not knock(net, 0, net.address(a.index)) and not knock(net, 0, net.address(b.index)))
    r.check("one to a member that is not behind a NAT does", knock(net, 1, net.address(0)))
    found, took = wait_for(lambda: both_relayed(a, b, {h.id for h in hubs}), 30, 0.2)
    r.require("the two are linked through a third", found, f"after {took:.1f} s")
    exchange(r, a, b, "through it")
    r.goes_on(c)
    first = next(h for h in hubs if h.id == relayer(a, b))
    status = first.status()
    r.check("the relayer says what it passes on", status["relays"] >= 1 and status["relayed_bytes"] > 40000,
            (status["relays"], status["relayed_bytes"]))
    since = time.time()
    r.proof("the relayer was killed", first.kill() == -9, first.index)
    rest = {h.id for h in hubs if h is not first}
    found, took = wait_for(lambda: both_relayed(a, b, rest), 30, 0.1)
    r.require("another one takes over", found, f"after {took:.1f} s")
    r.figure("relayed_again_s", took)
    exchange(r, a, b, "through another")
    r.nobody_dead(c, since)
    caught = net.heal(NATTED)
    r.proof("connections to each of them were dropped", all(caught[v] > 0 for v in NATTED), caught)
    r.same_views(c, 40)
    r.goes_on(c)
    r.alive_still(c, c.living)
