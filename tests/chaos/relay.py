"""Speaks with tap_relay (tap_relay.c): our netem, seeded."""
import json
import pathlib
import subprocess

from network import Broken, Missing, need


class Relay:
    """Joins the namespaces of a Network(ports=False). set() changes what happens to frames; stats() is the proof."""

    def __init__(self, network, program, seed=1):
        self.network, self.seed = network, seed
        self.program = pathlib.Path(program)
        self.process = None

    def __enter__(self):
        need("tap")
        if not self.program.exists():
            raise Missing(f"tap_relay: {self.program} is not built")
        ports = [f"{name}:eth0" for name in self.network.names]
        self.process = subprocess.Popen([str(self.program), "--seed", str(self.seed), *ports], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._answer()
            for i in range(self.network.count):
                self.network.attach(i)
        except BaseException:
            self.__exit__()
            raise
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
            raise Broken(f"tap_relay ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Broken(f"tap_relay: {answer['error']}")
        return answer

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def set(self, words, source="*", target="*"):
        """What happens to frames from source to target (numbers of nodes, * = all); "" = nothing."""
        self.ask(f"set {source} {target} {words}")

    def stats(self):
        return self.ask("stats")

    def total(self, name):
        """One of the counters of stats(), over all pairs."""
        return self.stats()["total"][name]
