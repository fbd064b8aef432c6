"""Speaks with proxy.py, which stands in a namespace of its own and has a door before each agent."""
import json
import pathlib
import subprocess
import sys

from agents import PORT
from network import Broken

FIRST = 9000


class Doors:
    """Doors before the nodes 0..count-1 of a Network(count + 1); agents advertise their door's address."""

    def __init__(self, network, count):
        self.network, self.count = network, count
        self.host = network.address(count)
        self.process = None

    def address(self, i):
        return f"{self.host}:{FIRST + i}"

    def __enter__(self):
        pairs = [f"{self.address(i)}={self.network.address(i)}:{PORT}" for i in range(self.count)]
        script = pathlib.Path(__file__).with_name("proxy.py")
        command = self.network.command(self.count, sys.executable, script, *pairs)
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Broken(f"the proxy ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Broken(f"the proxy: {answer['error']}")
        return answer

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def rule(self, node, **rules):
        """What happens to all of a node's connections, whoever dialled them. No rules = nothing."""
        self.ask(door=node, source=self.network.address(node), rules=rules)

    def door(self, node, **rules):
        """What happens to connections that others open to a node."""
        self.ask(door=node, rules=rules)

    def cut(self, node):
        """Resets all of a node's connections."""
        self.ask(cut=node, source=self.network.address(node))

    def counts(self, node):
        return self.ask(stats=True)["doors"][node]

    def total(self, name):
        return sum(d[name] for d in self.ask(stats=True)["doors"])

    def captured(self, node):
        return [bytes.fromhex(text) for text in self.ask(captured=node)["captured"]]

    def kept(self, node):
        return [bytes.fromhex(text) for text in self.ask(kept=node)["kept"]]

    def inject(self, node, data):
        """Bytes to the node, between two frames of each of its connections."""
        self.ask(door=node, source=self.network.address(node), inject=data.hex())
