#!/usr/bin/env python3
"""A TCP proxy in front of agents that does what packets cannot: cuts at byte n, dribbles, swallows, lies.

It knows nothing of the agents' frames, but for connections that begin under the rule "framed".
`proxy.py LISTEN:PORT=TARGET:PORT ...` prints {"ready": n} and obeys lines of JSON on stdin, each answered by one on stdout:

  {"door": D, "rules": {...}}   rules of door D (number of the argument, or "*"), for connections there now and later;
                                with, or instead, "source": ADDRESS of connections that come from there, by any door:
        "rate": bytes/s         both directions are read this fast and no faster, with small buffers
        "slice": s              one byte at a time, s seconds apart (0: back to back)
        "swallow": "up"|"down"|"both"   bytes of that direction (up: to the target) are read and thrown away
        "hold": "up"|"down"|"both"      bytes of that direction are not even read: both ends see a silent peer
        "cut_at": n             a new connection ends after its first n bytes upwards; "cut_step": adds that much to n
                                each time
        "refuse": true          new connections are closed at once
        "capture": n            keeps the first n bytes upwards of each connection
        "framed": true          what follows is obeyed for connections that begin from now on; both directions:
        "repeat": p             a whole message is passed on twice, with probability p
        "omit": p               a whole message is left out, with probability p
        "keep": n               the last n messages upwards are kept
        "version": "up"|"down"|"both"   hellos of that direction say the next version
        "future": true          messages have a field more, and frames of an unknown kind, to be ignored, before them
  {"inject": HEX, "door": D}    these bytes go upwards between two frames, in all framed connections of the door; with
                                "source": ADDRESS also downwards in those that come from there
  {"kept": D}                   messages kept, as hex, the newest last
  {"cut": D}                    ends all connections of door D with a reset; with "source" those from there too
  {"stats": true}               counters by door, the proof
  {"captured": D}               what was kept, as hex, by connection
"""
import collections
import json
import random
import selectors
import socket
import struct
import sys
import time

import frames

CHUNK = 65536
SMALL = 8192


class Flow:
    """One direction of one connection."""

    def __init__(self, source, sink, way):
        self.source, self.sink, self.way = source, sink, way
        self.waiting = b""
        self.passed = 0
        self.next_at = 0.0   # not before this time is anything moved
        self.ended = False   # the source has said its last
        self.told = False
        self.splitter = None  # of framed connections


class Connection:
    def __init__(self, door, down, up, source, cut_at):
        self.door, self.down, self.up, self.source = door, down, up, source
        self.flows = [Flow(down, up, "up"), Flow(up, down, "down")]
        self.connecting = True
        self.cut_at = cut_at
        self.kept = b""
        self.dead = False
        self.framed = False


class Door:
    def __init__(self, number, listen, target):
        self.number, self.target = number, target
        self.rules = {}
        self.cut_next = None
        self.kept = []
        self.messages = collections.deque(maxlen=256)
        self.counts = {"accepted": 0, "cuts": 0, "refused": 0, "swallowed": 0, "held": 0, "bytes": 0, "slices": 0,
                       "slowed": 0, "failed": 0, "repeated": 0, "omitted": 0, "rewritten": 0, "injected": 0,
                       "dials": {}}
        self.socket = socket.create_server(listen, backlog=128)
        self.socket.setblocking(False)


def reset(sock):
    """Closes with a reset rather than a goodbye."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


class Proxy:
    def __init__(self, doors):
        self.doors = doors
        self.connections = []
        self.sources = {}  # address -> rules
        self.random = random.Random(1)
        self.library = None  # of checksums, once a rule needs it

    def rules_of(self, c):
        return self.sources.get(c.source) or c.door.rules

    # -- connections ------------------------------------------------------------------------------

    def accept(self, door):
        try:
            down, peer = door.socket.accept()
        except OSError:
            return
        door.counts["accepted"] += 1
        door.counts["dials"][peer[0]] = door.counts["dials"].get(peer[0], 0) + 1
        if door.rules.get("refuse"):
            door.counts["refused"] += 1
            reset(down)
            return
        up = socket.socket()
        slow = "rate" in door.rules or "rate" in self.sources.get(peer[0], {})
        for sock in (down, up):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if slow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        up.connect_ex(door.target)
        cut_at = None
        if "cut_at" in door.rules:
            if door.cut_next is None:
                door.cut_next = door.rules["cut_at"]
            cut_at = door.cut_next
            door.cut_next += door.rules.get("cut_step", 0)
        c = Connection(door, down, up, peer[0], cut_at)
        if self.rules_of(c).get("framed"):
            c.framed = True
            for flow in c.flows:
                flow.splitter = frames.Splitter()
        self.connections.append(c)

    def end(self, c, hard):
        if c.dead:
            return
        c.dead = True
        for sock in (c.down, c.up):
            if hard:
                reset(sock)
            else:
                sock.close()
        if "capture" in c.door.rules and c.kept:
            c.door.kept.append(c.kept)

    def cut(self, doors, source):
        for c in self.connections:
            if (c.door in doors or c.source == source) and not c.dead:
                c.door.counts["cuts"] += 1
                self.end(c, True)

    # -- bytes ------------------------------------------------------------------------------------

    def read(self, c, flow, now):
        rules, door = self.rules_of(c), c.door
        if rules.get("hold") in (flow.way, "both"):
            door.counts["held"] += 1
            flow.next_at = now + 0.05
            return
        size = CHUNK if "rate" not in rules else max(1, min(CHUNK, int(rules["rate"] * 0.05)))
        try:
            data = flow.source.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self.end(c, True)
            return
        if not data:
            flow.ended = True
            return
        if "rate" in rules:
            flow.next_at = now + len(data) / rules["rate"]
            door.counts["slowed"] += len(data)
        if rules.get("swallow") in (flow.way, "both"):
            door.counts["swallowed"] += len(data)
            return
        if flow.way == "up":
            if len(c.kept) < rules.get("capture", 0):
                c.kept += data[: rules["capture"] - len(c.kept)]
            if c.cut_at is not None and flow.passed + len(data) >= c.cut_at:
                data = data[: max(0, c.cut_at - flow.passed)]
        flow.waiting += self.framed(c, flow, data) if c.framed else data

    def framed(self, c, flow, data):
        """What goes on of the frames that data completes."""
        out, rules = b"", self.rules_of(c)
        for unit, message in flow.splitter.feed(data):
            if rules.get("version") in (flow.way, "both") and frames.kind_of(unit) == frames.HELLO:
                unit = frames.later_version(unit, self.library)
                c.door.counts["rewritten"] += 1
            if message:
                unit = self.message(c, flow, unit, rules)
            out += unit
        return out

    def message(self, c, flow, unit, rules):
        if flow.way == "up" and rules.get("keep"):
            c.door.messages.append(unit)
        if rules.get("future"):
            changed = frames.from_the_future(unit, self.library)
            c.door.counts["rewritten"] += changed is not None
            unit = changed or unit
        if self.random.random() < rules.get("repeat", 0):
            c.door.counts["repeated"] += 1
            return unit + unit
        if self.random.random() < rules.get("omit", 0):
            c.door.counts["omitted"] += 1
            return b""
        return unit

    def inject(self, door, source, data):
        """Into all that goes to one node, over connections that it accepted and those that it opened."""
        for c in self.connections:
            if not c.framed or c.dead or c.connecting:
                continue
            for flow in [c.flows[0]] * (c.door is door) + [c.flows[1]] * (c.source == source):
                flow.waiting += data
                door.counts["injected"] += 1

    def write(self, c, flow, now):
        rules = self.rules_of(c)
        count = len(flow.waiting)
        if "slice" in rules:
            count = 1
            flow.next_at = now + rules["slice"]
            c.door.counts["slices"] += 1
        try:
            sent = flow.sink.send(flow.waiting[:count])
        except BlockingIOError:
            return
        except OSError:
            self.end(c, True)
            return
        flow.waiting = flow.waiting[sent:]
        flow.passed += sent
        c.door.counts["bytes"] += sent
        if flow.way == "up" and c.cut_at is not None and flow.passed >= c.cut_at:
            c.door.counts["cuts"] += 1
            self.end(c, True)

    def finish(self, c, flow):
        """The source's goodbye is passed on when all before it has been."""
        if flow.ended and not flow.waiting and not flow.told and not c.dead:
            flow.told = True
            try:
                flow.sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.end(c, True)
            if all(f.told for f in c.flows):
                self.end(c, False)

    def serve(self, c, ready, now):
        if c.connecting and c.up in ready:
            if c.up.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
                c.door.counts["failed"] += 1
                self.end(c, True)
                return
            c.connecting = False
        if c.connecting:
            return
        for flow in c.flows:
            if not c.dead and not flow.waiting and not flow.ended and flow.source in ready and now >= flow.next_at:
                self.read(c, flow, now)
            while not c.dead and flow.waiting and time.monotonic() >= flow.next_at:
                before = len(flow.waiting)
                self.write(c, flow, time.monotonic())
                if not c.dead and len(flow.waiting) == before:
                    break
            if not c.dead:
                self.finish(c, flow)

    # -- orders -----------------------------------------------------------------------------------

    def chosen(self, number):
        return self.doors if number == "*" else [self.doors[number]]

    def obey(self, order):
        if self.library is None and {"version", "future"} & set(order.get("rules", {})):
            self.library = frames.library()
        if "inject" in order:
            self.inject(self.doors[order["door"]], order.get("source"), bytes.fromhex(order["inject"]))
            return {"ok": True}
        if "kept" in order:
            return {"kept": [unit.hex() for unit in self.doors[order["kept"]].messages]}
        if "rules" in order:
            for door in self.chosen(order["door"]) if "door" in order else ():
                door.rules, door.cut_next = order["rules"], None
            if "source" in order:
                self.sources[order["source"]] = order["rules"]
            return {"ok": True}
        if "cut" in order:
            self.cut(self.chosen(order["cut"]), order.get("source"))
            return {"ok": True}
        if "captured" in order:
            door = self.doors[order["captured"]]
            open_ones = [c.kept for c in self.connections if c.door is door and not c.dead and c.kept]
            return {"captured": [kept.hex() for kept in door.kept + open_ones]}
        if "stats" in order:
            return {"doors": [dict(d.counts, open=sum(c.door is d and not c.dead for c in self.connections))
                              for d in self.doors]}
        return {"error": "rules, cut, inject, kept, captured or stats"}

    # -- the loop ---------------------------------------------------------------------------------

    def interest(self, selector, now):
        """Registers what can make progress; returns how long to wait at most."""
        wait = 1.0
        for c in self.connections:
            wanted = {c.down: 0, c.up: 0}
            if c.connecting:
                wanted[c.up] |= selectors.EVENT_WRITE
            for flow in () if c.connecting else c.flows:
                if now < flow.next_at:
                    wait = min(wait, flow.next_at - now)
                elif flow.waiting:
                    wanted[flow.sink] |= selectors.EVENT_WRITE
                elif not flow.ended:
                    wanted[flow.source] |= selectors.EVENT_READ
            for sock, events in wanted.items():
                if events:
                    selector.register(sock, events)
        return max(0.0, wait)

    def run(self):
        orders = b""
        print(json.dumps({"ready": len(self.doors)}), flush=True)
        while True:
            with selectors.DefaultSelector() as selector:
                selector.register(sys.stdin, selectors.EVENT_READ)
                for door in self.doors:
                    selector.register(door.socket, selectors.EVENT_READ)
                wait = self.interest(selector, time.monotonic())
                ready = {key.fileobj for key, _ in selector.select(wait)}
            if sys.stdin in ready:
                data = sys.stdin.buffer.raw.read(CHUNK)
                if not data:
                    return
                orders += data
                *lines, orders = orders.split(b"\n")
                for line in lines:
                    print(json.dumps(self.obey(json.loads(line))), flush=True)
            for door in self.doors:
                if door.socket in ready:
                    self.accept(door)
            now = time.monotonic()
            for c in self.connections:
                if not c.dead:
                    self.serve(c, ready, now)
            self.connections = [c for c in self.connections if not c.dead]


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    pairs = [argument.split("=") for argument in sys.argv[1:]]
    Proxy([Door(i, address(a), address(b)) for i, (a, b) in enumerate(pairs)]).run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
