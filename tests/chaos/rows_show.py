"""What issue 4 asks to be shown: S-2 one of three frozen or killed, S-3 a split under training, S-4 seeds that die,
newcomers, and everybody restarted."""
import json
import signal
import threading
import time

from agents import FASHION, Lacking, consensus_distance, wait_for
from network import tool
from rows import row
from rows_process import saving, wait_saved
from rows_restart import goes_on_from, need_state, restart_all

TRIO = {"topology": "complete", "pace": 50, "algorithm": "gossip:every=1"}


@row("S-2a", "SIGSTOP one of three for 60 s: the others' exchange rate", ("netns",), pr=True, alone=True, limit=260)
def frozen_third(r):
    _, c = r.trained(3, **TRIO)
    rest = [c[0], c[2]]
    c.late = {1}
    time.sleep(3)
    before = c.rates(rest, 15, "mixes")
    r.proof("stopped", c[1].stop(), c[1].kernel_state())
    after = c.rates(rest, 60, "mixes")
    share = {i: after[i] / before[i] for i in before}
    r.figure("exchanges/s before", min(before.values()))
    r.figure("least share of it, over the whole 60 s", min(share.values()))
    r.check("the other two keep 90 % of their exchange rate", min(share.values()) >= 0.9, share)
    c[1].go_on()
    r.whole_again(c)


class Mixes:
    """Times at which an agent's number of completed exchanges grows, asked at its control socket without pause."""

    def __init__(self, agents):
        self.agents = agents
        self.seen = {a.index: [] for a in agents}
        self.ends = threading.Event()
        self.threads = [threading.Thread(target=self._watch, args=(a,)) for a in agents]

    def _watch(self, agent):
        last = None
        while not self.ends.is_set():
            status = agent.status(1)
            now = time.monotonic()
            if status is None:
                continue
            if "mixes" not in status:
                self.seen[agent.index] = None
                return
            if status["mixes"] != last:
                self.seen[agent.index].append(now)
                last = status["mixes"]
            self.ends.wait(0.004)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        for t in self.threads:
            t.join()


@row("S-2b", "kill -9 one of three: the next exchange of each survivor", ("netns",), alone=True, pr=True)
def killed_third(r):
    _, c = r.trained(3, **TRIO)
    worst = []
    for k in range(20 if r.full else 6):
        victim = c[k % 3]
        rest = [a for a in c.agents if a is not victim]
        time.sleep(1.0 + r.random.random())
        with Mixes(rest) as mixes:
            time.sleep(0.5)
            status = victim.kill()
            killed = time.monotonic()
            time.sleep(1.5)
        if any(seen is None for seen in mixes.seen.values()):
            raise Lacking("status tells no mixes")
        after = [min([t - killed for t in seen if t > killed], default=9.9) for seen in mixes.seen.values()]
        worst.append(max(after))
        if status != -9:
            break
        victim.start([rest[0].address()])
        c.wait_training([victim])
        wait_for(lambda: all(len(a.view() or ()) == 3 for a in c.agents), 20)
    r.proof("killed", status == -9, len(worst))
    r.figure("kills", len(worst))
    r.figure("next exchange, ms, all kills", [round(w * 1000) for w in worst])
    r.check("each survivor completes its next exchange within 150 ms", max(worst) <= 0.15,
            f"{max(worst) * 1000:.0f} ms")
    r.goes_on(c)


def judged(r, c):
    """Mean over nodes of the accuracy of their present models, each on all rows of the test file."""
    found = []
    for a in c.agents:
        a.snapshot()
        words = [r.program.path, "eval", "--model", a.folder / "snapshot.safetensors", "--task", "softmax", "--data",
                 FASHION, "--json"]
        found.append(json.loads(tool(*words, cwd=r.root))["accuracy"])
    return sum(found) / len(found)


def train_split(r, count, split_s, steps):
    """Trains on real data until each has made `steps` steps, a step size that falls to 0 with them; split_s seconds of
    it in two halves. Returns figures."""
    options = {"task": "softmax", "data": FASHION, "algorithm": "gossip:every=2", "split": "label:k=3", "pace": 10,
               "step-size": f"cosine:value=0.05,steps={steps}", "report-every": 1}
    net, c = r.trained(count, **options)
    half, found = count // 2, {}

    def spread():
        return consensus_distance([a.snapshot() for a in c.agents])
    if split_s:
        time.sleep(20)
        found["before"] = sum(spread() for _ in range(3)) / 3
        net.cut(range(half), range(half, count))
        time.sleep(split_s)
        found["parted"] = spread()
        healed = time.monotonic()
        found["caught"] = net.heal()
        held, _, found["view"] = c.wait_views(c.agents, c.agents, 60)
        found["view_s"] = time.monotonic() - healed
        near, _ = wait_for(lambda: spread() <= found["before"], max(1, 90 - (time.monotonic() - healed)), 0.5)
        found["mixed_s"] = time.monotonic() - healed if near else 999.0
        found["held"] = held
    done, _ = wait_for(lambda: all(a.newest("steps") >= steps for a in c.agents), steps / 10 * 1.5 + 60, 0.5)
    r.check(f"all make {steps} steps in time: nobody is starved of the processor", done,
            min(a.newest("steps") for a in c.agents))
    time.sleep(5)  # they mix on
    found["accuracy"] = judged(r, c)
    found["apart"] = spread()
    return found


@row("S-3", "split for 60 s under training, healed: views, models, accuracy", ("netns", "iptables"), alone=True,
     limit=900)
def split_under_training(r):
    count, steps = (16, 2200) if r.full else (8, 1500)
    found = train_split(r, count, 60, steps)
    r.stack.close()
    clean = train_split(r, count, 0, steps)
    r.proof("each of them dropped packets", all(n > 0 for n in found["caught"].values()), sum(found["caught"].values()))
    r.figure("one_view_s", found["view_s"])
    r.figure("distance before", found["before"])
    r.figure("distance parted", found["parted"])
    r.figure("mixed_s", found["mixed_s"])
    r.figure("distance at the end", found["apart"])
    r.figure("accuracy", found["accuracy"])
    r.figure("accuracy undisturbed", clean["accuracy"])
    r.check("one view within 40 s", found["held"] and found["view_s"] <= 40, found["view"])
    r.check("the models had parted", found["parted"] > found["before"])
    r.check("consensus distance is below its value before the cut within 60 s", found["mixed_s"] <= 60)
    r.check("it has learnt something", clean["accuracy"] >= 0.7, f"{clean['accuracy']:.4f}")
    r.check("accuracy within 1 point of the undisturbed run", found["accuracy"] >= clean["accuracy"] - 0.01,
            f"{found['accuracy']:.4f} against {clean['accuracy']:.4f}")


@row("S-4", "start 8 of 12, kill the seed, add 4, restart all 12 in random order", ("netns",), pr=True, limit=260)
def come_and_go(r):
    need_state(r)
    net = r.network(12)
    c = r.cluster(net, 12, **{"min-nodes": 8}, **saving(r))
    c.start(range(8))
    c.wait_training(c.agents[:8])
    r.same_views(c, 20, c.agents[:8])
    r.proof("the seed is killed", c[0].kill() == -9)
    for i in range(8, 12):
        c[i].start([c[1 + r.random.randrange(7)].address()])
    c.wait_training(c.agents[8:], 40)
    rest = c.agents[1:]
    r.same_views(c, 40, rest)
    r.goes_on(c, rest)
    c[0].start([c[3].address()])
    c.wait_training([c[0]])
    r.same_views(c, 40, c.agents)
    saved = wait_saved(c.agents)
    r.check("all have saved", saved is not None)
    for a in c.agents:
        a.signal(signal.SIGKILL)
    statuses = [a.process.wait() for a in c.agents]
    r.proof("all 12 killed at once", all(s == -9 for s in statuses), len(statuses))
    began = time.monotonic()
    restart_all(r, c, lambda a: [])
    held, _, text = c.wait_views(c.agents, c.agents, 40)
    r.check("one cluster again, found from the address books alone", held, text)
    r.figure("one_view_s", time.monotonic() - began)
    goes_on_from(r, c, saved or {})
    r.goes_on(c, timeout=30)
    r.alive_still(c)
