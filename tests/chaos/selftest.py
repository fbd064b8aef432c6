"""Goal: the suite's own judgement can fail. Method: planted errors (a view that differs, a death that was told, a row
without proof, a skipped row that was required) that each checker must find, and clean data that none may accuse; the
proxy on the loopback interface does what its rules say, also with frames."""
import json
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types

import frames
import report
from agents import Agent, Cluster, consensus_distance, percentile, whole_lines
from rows import Run
from rows_disk import fsynced_again


class Fake(Agent):
    """An agent that has said and seen what we plant."""

    def __init__(self, number, view, events=()):
        self.id, self.index, self.life = number, number - 1, 1
        self.planted_view, self.planted = view, list(events)
        self.process = types.SimpleNamespace(poll=lambda: None, returncode=None)

    def view(self):
        return frozenset(self.planted_view)

    def events(self, since=0.0):
        return [e for e in self.planted if e["t"] >= since]


class FakeCluster(Cluster):
    def __init__(self, agents):
        self.agents = agents

    def need_events(self):
        pass


def event(time_, number, to, accuser=0):
    return {"t": time_, "event": "member", "id": number, "from": "alive", "to": to, "accuser": accuser,
            "evidence": "timeout"}


def new_run():
    return Run(None, None, None, "/nonexistent", ".", 1, False)


def views():
    same = FakeCluster([Fake(1, {1, 2}), Fake(2, {1, 2})])
    odd = FakeCluster([Fake(1, {1, 2}), Fake(2, {2})])
    yield "equal views are equal", same.wait_views(same.agents, same.agents, 0)[0]
    yield "a view that lacks one is found", not odd.wait_views(odd.agents, odd.agents, 0)[0]
    yield "a view with a stranger is found", not same.wait_views(same.agents, same.agents[:1], 0)[0]


def verdicts():
    run = new_run()
    yield "a row without proof fails", run.failures() == ["nothing proves that the fault bit"]
    run.proof("bit", True)
    run.check("fine", True)
    yield "a proven row without a failed check passes", not run.failures()
    run.proof("bit again", False)
    yield "a missing proof fails the row", len(run.failures()) == 1
    run = new_run()
    run.proof("bit", True)
    run.check("wrong", False)
    yield "a failed check fails the row", len(run.failures()) == 1
    yield "all passed is a pass", report.verdict([{"row": "1", "state": "PASS"}], ["1"]) == 0
    yield "a skipped required row is no pass", report.verdict([{"row": "1", "state": "SKIP"}], ["1"]) == 1
    yield "a required row that did not run is no pass", report.verdict([], ["1"]) == 1
    yield "a failed row is no pass", report.verdict([{"row": "1", "state": "FAIL"}], []) == 1


def deaths():
    cluster = FakeCluster([Fake(1, {1, 2}, [event(10, 2, "suspect", 1), event(20, 2, "dead", 1)]), Fake(2, {1, 2})])
    run = new_run()
    run.nobody_dead(cluster, 5)
    yield "a false death is found", any(not held for held, _, _ in run.checks)
    run = new_run()
    run.nobody_dead(cluster, 25)
    yield "an older one is not counted", all(held for held, _, _ in run.checks)
    told = cluster.told_by(cluster.agents, {2}, ("dead",), 15)
    yield "who told when", told == {(0, 2): 5}
    yield "an observer that never told is missed", not cluster.wait_told(cluster.agents, {2}, ("dead",), 15, 0)[0]


def numbers():
    yield "percentiles are of the nearest rank", [percentile(range(1, 101), s) for s in (0.5, 0.99, 1)] == [50, 99, 100]
    yield "percentile of one", percentile([7], 0.99) == 7
    yield "equal models have no distance", consensus_distance([[1.0, 2.0], [1.0, 2.0]]) == 0
    yield "distance to the mean", abs(consensus_distance([[0.0, 0.0], [2.0, 0.0]]) - 1) < 1e-12
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "metrics.jsonl")
        path.write_text('{"steps": 1}\n{"steps": 2}\n{"ste')
        yield "a line half written is not read", [m["steps"] for m in whole_lines(path)] == [1, 2]


# -- the proxy --------------------------------------------------------------------------------------

class Echo:
    """A server that counts and keeps what each connection said."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.heard, self.pieces = [], []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            self.heard.append(b"")
            threading.Thread(target=self._hear, args=(s, len(self.heard) - 1), daemon=True).start()

    def _hear(self, s, at):
        try:
            while data := s.recv(4096):
                self.heard[at] += data
                self.pieces.append(len(data))
                s.sendall(data)
        except OSError:
            pass
        s.close()


class Proxied:
    def __enter__(self):
        self.echo = Echo()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        script = pathlib.Path(__file__).with_name("proxy.py")
        pair = f"127.0.0.1:{self.port}=127.0.0.1:{self.echo.port}"
        self.process = subprocess.Popen([sys.executable, str(script), pair], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        return self

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def talk(self, data, seconds=2.0):
        """Sends data; returns what came back until the end, a pause of a second, a reset (which a refusal may
        bring as early as the connect), or the time is over."""
        got = b""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.settimeout(1.0)
                s.sendall(data)
                end = time.monotonic() + seconds
                while len(got) < len(data) and time.monotonic() < end:
                    more = s.recv(65536)
                    if not more:
                        break
                    got += more
        except OSError:
            pass
        return got

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(5)
        self.echo.server.close()


def proxy():
    with Proxied() as p:
        data = bytes(range(256)) * 40
        yield "without rules all passes", p.talk(data) == data
        p.ask(door=0, rules={"cut_at": 100, "cut_step": 11})
        p.talk(data)
        p.talk(data)
        time.sleep(0.2)
        yield "cut after byte n, then n + step", [len(h) for h in p.echo.heard[1:]] == [100, 111]
        yield "cuts are counted", p.ask(stats=True)["doors"][0]["cuts"] == 2
        p.ask(door=0, rules={"slice": 0.0})
        p.echo.pieces.clear()
        yield "sliced bytes arrive whole", p.talk(data[:300], 20) == data[:300] and max(p.echo.pieces) < 300
        p.ask(door=0, rules={"rate": 2000})
        got = p.talk(data, 1.0)
        yield "slow is slow", 500 < len(got) < 4500
        p.ask(door=0, rules={"swallow": "down"})
        yield "swallowed answers do not come, questions do", p.talk(b"hello", 1) == b"" and p.echo.heard[-1] == b"hello"
        p.ask(door=0, rules={"hold": "up"})
        yield "held bytes do not come", p.talk(b"hello", 1) == b"" and p.echo.heard[-1] == b""
        p.ask(door=0, rules={"refuse": True})
        yield "refused", p.talk(b"hello", 1) == b""
        p.ask(door=0, rules={"capture": 3})
        p.talk(b"hello")
        yield "captured", bytes.fromhex(p.ask(captured=0)["captured"][-1]) == b"hel"


# -- frames: their checksums do not matter to the proxy, which looks at bounds ----------------------

def frame(kind, payload, flags=0, value=0):
    return struct.pack("<IBBHQQ", len(payload), kind, flags, 0, value, 7) + payload


def split():
    control, ping = frame(frames.HEAD_CONTROL, b"one"), frame(2, b"")
    bulk = [frame(frames.HEAD_BULK, b"two", frames.WITH_BODY, 5), frame(frames.BODY_BULK, b"abc"),
            frame(frames.BODY_BULK, b"de", value=3)]
    empty = frame(frames.HEAD_BULK, b"none", frames.WITH_BODY, 0)
    stream = control + bulk[0] + ping + bulk[1] + control + bulk[2] + empty + control[:10]
    wanted = [(control, True), (ping, False), (control, True), (b"".join(bulk), True), (empty, True)]
    for size in (1, 7, 24, 25, len(stream)):
        splitter = frames.Splitter()
        found = [unit for at in range(0, len(stream), size) for unit in splitter.feed(stream[at:at + size])]
        yield f"messages are whole, cut every {size}", found == wanted
    try:
        library = frames.library()
    except OSError:
        return
    yield "checksums are XXH3's", library.XXH3_64bits_withSeed(b"abc", 3, 0) == 8696274497037089104
    later = frames.later_version(frame(frames.HELLO, b"gadabout\x02\x00rest"), library)
    yield "a later version", later[frames.HEADER:] == b"gadabout\x03\x00rest"
    future = frames.from_the_future(frame(frames.HEAD_CONTROL, b"\x81\x00\x01"), library)
    units = frames.Splitter().feed(future)
    kinds = [unit[4] for unit, _ in units]
    yield "one key more, behind a frame that is unknown", kinds == [frames.STRANGE, frames.HEAD_CONTROL] \
        and units[1][0][frames.HEADER:] == b"\x82\x00\x01\x4d\xa5later"
    yield "no room for one key more", frames.from_the_future(frame(frames.HEAD_CONTROL, b"\x8f"), library) is None


def framed():
    message, other = frame(frames.HEAD_CONTROL, b"hello"), frame(2, b"")
    with Proxied() as p:
        p.ask(door=0, rules={"framed": True, "repeat": 1})
        yield "whole messages twice", p.talk(other + message, 1) and p.echo.heard[-1] == other + message * 2
        p.ask(door=0, rules={"framed": True, "omit": 1, "keep": 3})
        p.talk(message + other, 1)
        yield "messages left out, other frames not", p.echo.heard[-1] == other
        yield "both counted", [p.ask(stats=True)["doors"][0][k] for k in ("repeated", "omitted")] >= [1, 1]
        yield "messages kept", p.ask(kept=0)["kept"] == [message.hex()]
        p.ask(door=0, rules={"framed": True})
        with socket.create_connection(("127.0.0.1", p.port), 5) as s:
            s.sendall(other + message[:5])
            time.sleep(0.3)
            p.ask(door=0, inject=message.hex())
            s.sendall(message[5:])
            time.sleep(0.3)
        yield "put in between two frames", p.echo.heard[-1] == other + message * 2
        yield "and counted", p.ask(stats=True)["doors"][0]["injected"] == 1
        p.ask(door=0, rules={"repeat": 1})
        p.talk(message, 1)
        yield "connections that began without frames have none", p.echo.heard[-1] == message


# -- disks, loops -----------------------------------------------------------------------------------

def disks():
    opened, good, bad = "open checkpoint-0.tmp 9", "fsync of 0", "fsync of -1"
    yield "a new file after each failure is right", not fsynced_again([opened, bad, opened, bad, opened, good, good])
    yield "the same one again is found", fsynced_again([opened, good, opened, bad, bad])
    yield "... also when it goes well then", fsynced_again([opened, bad, good])


def loop_lags(lags, late=(), slow=1.0):
    """Failures of a row with one agent whose lines of metrics tell these lags."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run1")
        run.mkdir()
        lines = [json.dumps({"loop_lag_p99_s": 0.001, "loop_lag_max_s": lag}) + "\n" for lag in lags]
        (run / "metrics.jsonl").write_text("".join(lines))
        agent = Fake(1, {1})
        agent.folder = pathlib.Path(folder)
        cluster = FakeCluster([agent])
        cluster.late = set(late)
        row = new_run()
        row.clusters = [cluster]
        row.loops_run(slow)
        return sum(not held for held, _, _ in row.checks), len(row.checks)


def loops():
    yield "loops in time", loop_lags([0.001] * 200) == (0, 2)
    yield "one stall too long is found", loop_lags([0.001] * 200 + [0.6]) == (1, 2)
    yield "loops that are late all the time are found", loop_lags([0.1] * 200) == (1, 2)
    yield "the start of a life is left out", loop_lags([2.0, 2.0] + [0.001] * 200) == (0, 2)
    yield "a machine that others use is not judged", loop_lags([2.0] * 200, slow=4.0) == (0, 0)
    yield "as is an agent that is made late", loop_lags([2.0] * 200, {0}) == (0, 0)


def main():
    failed = count = 0
    for group in (views, verdicts, deaths, numbers, proxy, split, framed, disks, loops):
        for what, held in group():
            count += 1
            failed += not held
            if not held:
                print(f"FAIL {group.__name__}: {what}")
    print(f"{count} cases, {failed} failed")
    return 1 if failed else 0
