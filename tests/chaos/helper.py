"""A program of ours beside the agents: it takes orders line by line and answers each with a line of JSON."""
import json
import subprocess

from network import Broken


class Helper:
    name = "the helper"  # in errors
    process = None

    def launch(self, command):
        """Starts it and waits for its first answer; __exit__ ends it."""
        self.process = subprocess.Popen([str(word) for word in command], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise

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
            raise Broken(f"{self.name} ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Broken(f"{self.name}: {answer['error']}")
        return answer

    def order(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()
