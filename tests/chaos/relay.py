"""Speaks with tap_relay (tap_relay.c): our netem, seeded."""
import pathlib

from helper import Helper
from network import Missing, need


class Relay(Helper):
    """Joins the namespaces of a Network(ports=False). set() changes what happens to frames; stats() is the proof."""
    name = "tap_relay"

    def __init__(self, network, program, seed=1):
        self.network, self.seed = network, seed
        self.program = pathlib.Path(program)

    def __enter__(self):
        need("tap")
        if not self.program.exists():
            raise Missing(f"tap_relay: {self.program} is not built")
        ports = [f"{name}:eth0" for name in self.network.names]
        self.launch([self.program, "--seed", self.seed, *ports])
        try:
            for i in range(self.network.count):
                self.network.attach(i)
        except BaseException:
            self.__exit__()
            raise
        return self

    def set(self, words, source="*", target="*"):
        """What happens to frames from source to target (numbers of nodes, * = all); "" = nothing."""
        self.order(f"set {source} {target} {words}")

    def stats(self):
        return self.order("stats")

    def total(self, name):
        """One of the counters of stats(), over all pairs."""
        return self.stats()["total"][name]
