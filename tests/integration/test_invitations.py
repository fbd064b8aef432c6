#!/usr/bin/env python3
"""Invitations, from one agent to another.

Goal: one line copied from a running agent is all that a newcomer with the same options needs; with other options, or a
damaged line, it stops before it dials and says why. Method: real agents on loopback with a runtime directory of their
own; stdout of `gadabout invite` goes into --join."""
import pathlib
import subprocess

from harness import Workplace, check, clean_environment, finish, main, program, wait_for

EXPERIMENT = ["-n", "2", "--task", "quadratic", "--data", "mixture:rows=200,features=8", "--steps", "50"]


class Place(Workplace):
    def __enter__(self):
        super().__enter__()
        self.environment = clean_environment()
        self.environment["XDG_RUNTIME_DIR"] = str(self.path)
        return self

    def agent(self, name, *more):
        return self.start(["agent", *EXPERIMENT, "--out", str(self.path / name), *more], env=self.environment)

    def invite(self, *more):
        return subprocess.run([program(), "invite", *more], capture_output=True, text=True, timeout=20,
                              env=self.environment, check=False)

    def invitation(self):
        wait_for(lambda: self.invite().returncode == 0, "an invitation")
        return self.invite().stdout.strip()


def the_line_is_enough_to_join():
    with Place() as place:
        first = place.agent("first", "--cluster", "lab-2")
        text = place.invitation()
        check(text.startswith("gadabout1:") and len(text) < 80 and " " not in text, f"'{text}'")
        check("only this machine" in place.invite().stderr, f"no note that it is loopback: {place.invite().stderr}")
        second = place.agent("second", "--join", text)  # --cluster comes with it
        for process in (second, first):
            _, err = finish(process)
            check(process.returncode == 0, f"exit status {process.returncode}: {err}")
        kept = pathlib.Path(place.path, "second", "config.yml").read_text()
        check("lab-2" in kept and "127.0.0.1:" in kept, f"config.yml keeps neither name nor address: {kept}")


def what_is_wrong_with_it_is_one_line():
    with Place() as place:
        place.agent("first")
        text = place.invitation()
        cases = (
            ("cut off", ["--join", text[:-3]], "cut off"),
            ("a character changed", ["--join", text[:20] + ("A" if text[20] != "A" else "B") + text[21:]], "checksum"),
            ("with its quotes", ["--join", f'"{text}"'], "--join"),
            ("another experiment", ["--join", text, "--seed", "77"], "other options"),
            ("another cluster's name", ["--join", text, "--cluster", "elsewhere"], "--cluster"),
        )
        for name, arguments, word in cases:
            done = place.agent("refused", *arguments)
            out, err = finish(done)
            check(done.returncode == 2, f"{name}: exit status {done.returncode}: {err}")
            check(err.count("\n") == 1 and word in err and out == "", f"{name}: '{err}'")
            check(not pathlib.Path(place.path, "refused").exists(), f"{name}: left a run directory")


def no_agent_no_invitation():
    with Place() as place:
        done = place.invite()
        check(done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == "", f"{done}")
        first = place.agent("first", "--listen", "0.0.0.0:0")  # which of its addresses others see is not known
        wait_for(lambda: "0.0.0.0" in place.invite().stderr, "an answer")
        check("--advertise" in place.invite().stderr, place.invite().stderr)
        first.terminate()
        finish(first)
        place.agent("second", "--listen", "0.0.0.0:0", "--advertise", "192.0.2.7:7946")
        text = place.invitation()
        check(place.invite().stderr == "", f"a note: {place.invite().stderr}")
        check(len(text) < 80, text)


if __name__ == "__main__":
    main([the_line_is_enough_to_join, what_is_wrong_with_it_is_one_line, no_agent_no_invitation])
