"""Rows 29 to 32: disks that are full, that fail, that hang, that lose power; a small file system of its own, and a
preloaded library. What is told of the disk's promises: docs/operations.md, the state directory."""
import re
import subprocess
import time

from agents import percentile, wait_for, whole_lines
from network import need, tool
from rows import row
from rows_token import simulate

MODEL = {"data": "mixture:rows=2000,features=4000", "pace": 20, "save-every": 1}  # checkpoints of some 50 kB


def checkpoint_ok(agent):
    """The last word on it; None before the first."""
    lines = agent.metrics()
    return lines[-1].get("checkpoint_ok") if lines else None


def saves(agent):
    """[(ok, generation)] of all attempts that have ended."""
    found = []
    for life in range(1, agent.life + 1):
        found += [e for e in whole_lines(agent.folder / f"run{life}" / "events.jsonl") if e["event"] == "saved"]
    return [(e["ok"], e["generation"]) for e in found]


def wait_more_saves(agent, timeout=20, ok=True):
    before = sum(good == ok for good, _ in saves(agent))
    return bool(wait_for(lambda: sum(good == ok for good, _ in saves(agent)) > before, timeout, 0.1)[0])


def resumed(agent):
    """Generation that its present life has begun from; 0 = none."""
    text = (agent.folder / f"log{agent.life}").read_text(errors="replace")
    found = re.findall(r"resumed from generation (\d+)", text)
    return int(found[-1]) if found else 0


def resumes(r, c, agent, least):
    """kill -9 and restart: it goes on from generation `least` or later."""
    status = agent.kill()
    agent.start([c[0].address()])
    c.wait_training([agent])
    r.check("after kill -9 it resumes from what was saved", status == -9 and resumed(agent) >= least > 0,
            (least, resumed(agent)))


class SmallDisk:
    """A file system of `size` bytes at an agent's state directory, in a mount namespace of that agent."""

    def __init__(self, r, agent, size):
        self.agent, self.image = agent, r.place / f"disk{agent.index}"
        agent.state.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(size)
        tool("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        script = f'mount -o loop "{self.image}" "{agent.state}" && exec "$@"'
        self.prefix = ["unshare", "-m", "sh", "-c", script, "sh"]

    def inside(self):
        """Its folder, as seen from outside."""
        return f"/proc/{self.agent.process.pid}/root{self.agent.state.resolve()}"

    def fill(self):
        """Writes until there is no room; returns the bytes."""
        done = 0
        try:
            with open(f"{self.inside()}/filler", "wb", buffering=0) as file:
                while True:
                    done += file.write(bytes(4096))
        except OSError as error:
            return done if error.errno == 28 else -1

    def empty(self):
        subprocess.run(["rm", f"{self.inside()}/filler"], check=True)


def trains_on(r, c, agent, since):
    """Whatever its disk does."""
    r.goes_on(c)
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect") if e["accuser"] == o.id]
    r.check("nobody is suspected", not doubts, doubts[:4] or None)
    r.nobody_dead(c, since)
    warned = agent.log().count("training goes on")
    r.check("it is said once", warned == 1, warned)


def after_it(r, c, agent):
    healed, _ = wait_for(lambda: checkpoint_ok(agent) == 1, 20, 0.1)
    r.check("it saves again", healed and wait_more_saves(agent))
    resumes(r, c, agent, max([g for ok, g in saves(agent) if ok], default=0))
    r.whole_again(c)


@row("29", "disk full", ("netns", "loop ext4"), pr=True, backend="FS")
def disk_full(r):
    net = r.network(4)
    c = r.cluster(net, 4, **MODEL)
    disk = SmallDisk(r, c[2], 4 << 20)
    c.prefixes = {2: disk.prefix}
    c.start()
    c.wait_training()
    r.check("it saves", wait_more_saves(c[2]))
    since = time.time()
    filled = disk.fill()
    r.proof("its file system has no byte left", filled > 1 << 20, f"{filled} bytes written until ENOSPC")
    told, took = wait_for(lambda: checkpoint_ok(c[2]) == 0, 10, 0.05)
    r.check("checkpoint_ok is 0", told, f"after {took:.1f} s")
    last = max([g for ok, g in saves(c[2]) if ok], default=0)
    r.check("it tries again", wait_more_saves(c[2], ok=False))
    trains_on(r, c, c[2], since)
    resumes(r, c, c[2], last)
    filled = disk.fill()
    r.check("and the disk is full still", filled == 0 or wait_more_saves(c[2], ok=False), filled)
    disk.empty()
    after_it(r, c, c[2])


def sick(r, index, control, count=4, **options):
    """(cluster, folder of the disk shim's controls): agent `index` has that disk."""
    need("netns")
    folder = r.place / "disk"
    folder.mkdir()
    (folder / "log").touch()
    words = ["env", f"LD_PRELOAD={r.shim('disk')}", f"DISK_SHIM={folder}"]
    _, c = r.trained(count, prefixes={index: words}, **{**MODEL, **options})
    r.check("it saves", wait_more_saves(c[index]))
    return c, folder


def fsynced_again(lines):
    """Whether, after an fsync that failed, the next one was of a file that had not been opened since."""
    failed = False
    for words in map(str.split, lines):
        if words[0] == "open":
            failed = False
        if words[0] == "fsync":
            if failed:
                return True
            failed = words[-1] != "0"
    return False


@row("30", "fsync fails with EIO", ("netns",), pr=True, backend="SH")
def fsync_eio(r):
    c, folder = sick(r, 1, "eio")
    since = time.time()
    (folder / "eio").touch()
    told, took = wait_for(lambda: checkpoint_ok(c[1]) == 0, 10, 0.05)
    r.check("checkpoint_ok is 0", told, f"after {took:.1f} s")
    tries = [wait_more_saves(c[1], ok=False) for _ in range(2)]
    r.check("it tries again, and again", all(tries))
    lines = (folder / "log").read_text().splitlines()
    failed = sum(line.startswith("fsync") and line.endswith("-1") for line in lines)
    r.proof("fsyncs failed with EIO", failed >= 2, failed)
    r.check("none is tried again on the same descriptor", not fsynced_again(lines), lines[-4:])
    trains_on(r, c, c[1], since)
    (folder / "eio").unlink()
    after_it(r, c, c[1])


@row("31", "the disk takes 10 s for each write", ("netns",), pr=True, backend="SH")
def disk_stall(r):
    c, folder = sick(r, 1, "stall")
    window = 40 if r.full else 10
    before = c.rates(c.agents, 5)
    since = time.time()
    attempts = len(saves(c[1]))
    (folder / "stall").write_text("10000")
    time.sleep(1.5)
    during = c.rates(c.agents, window)
    r.proof("no save ended, where ten were due", len(saves(c[1])) <= attempts + 1, len(saves(c[1])) - attempts)
    share = min(during[i] / before[i] for i in before)
    r.check("everybody keeps 95 % of its step rate, the sick one too", share >= 0.95, f"{share:.2f}")
    lags = c[1].lags()[-4 * window:]
    r.check("its loop does not wait: lag at most 50 ms (P-11)", lags and percentile(lags, 0.99) <= 0.05, max(lags))
    r.goes_on(c)
    doubts = [(o.id, e["id"]) for o, e in c.changes(since, "suspect") if e["accuser"] == o.id]
    r.check("nobody is suspected", not doubts, doubts[:4] or None)
    (folder / "stall").unlink()
    after_it(r, c, c[1])


OPERATIONS = 11  # of one save: open, six pieces, fsync, rename, fsync of the folder; and the first one of the next


@row("32", "power cut behind each operation of a save", ("netns",), pr=True, backend="SIM+SH")
def power_cut(r):
    simulate(r, "test_checkpoint_crash")
    count = OPERATIONS + 1
    folders = {i: r.place / f"power{i}" for i in range(1, count)}
    for folder in folders.values():
        folder.mkdir()
    shim = r.shim("power")
    _, c = r.trained(count, prefixes={i: ["env", f"LD_PRELOAD={shim}", f"POWER_SHIM={f}"] for i, f in folders.items()},
                     **{"save-every": 1, "min-nodes": 1})
    cuts = set()
    for variant in range(2):
        victims = c.agents[1:]
        for a in victims:
            r.check(f"agent {a.index} saves", wait_more_saves(a))
        for k, a in enumerate(victims, 1):
            (folders[a.index] / "crash").write_text(f"{k} {variant}")
        died, _ = wait_for(lambda: not any(a.alive for a in victims), 20, 0.05)
        statuses = {a.index: a.process.poll() for a in victims}
        r.check(f"all died of it, variant {variant}", died and set(statuses.values()) == {-9}, statuses)
        last = {a.index: max([g for ok, g in saves(a) if ok], default=0) for a in victims}
        for a in victims:
            cuts.add((folders[a.index] / "cut").read_text().strip())
            (folders[a.index] / "crash").unlink()
            (folders[a.index] / "cut").unlink()
            a.start([c[0].address()])
        c.wait_training(victims)
        wrong = {a.index: (last[a.index], resumed(a)) for a in victims
                 if not last[a.index] <= resumed(a) <= last[a.index] + 1}
        r.check("each resumes from the last generation it told of, or from the one under way", not wrong, wrong or None)
    r.proof("the power went behind every kind of operation", {"open", "write", "fsync", "rename",
                                                              "fsync of the folder"} <= cuts, sorted(cuts))
    r.same_views(c, 40)
    r.goes_on(c)
