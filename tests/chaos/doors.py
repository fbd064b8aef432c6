"""Speaks with proxy.py, which stands in a namespace of its own and has a door before each agent."""
import json
import pathlib
import sys

from agents import PORT
from helper import Helper

FIRST = 9000


class Doors(Helper):
    """Doors before the nodes 0..count-1 of a Network(count + 1); agents advertise their door's address."""
    name = "the proxy"

    def __init__(self, network, count):
        self.network, self.count = network, count
        self.host = network.address(count)

    def address(self, i):
        return f"{self.host}:{FIRST + i}"

    def __enter__(self):
        pairs = [f"{self.address(i)}={self.network.address(i)}:{PORT}" for i in range(self.count)]
        script = pathlib.Path(__file__).with_name("proxy.py")
        self.launch(self.network.command(self.count, sys.executable, script, *pairs))
        return self

    def ask(self, **order):
        return self.order(json.dumps(order))

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
