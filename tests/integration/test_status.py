#!/usr/bin/env python3
"""The control socket and `gadabout status`.

Goal: a person sees at any time what the agents of a machine do and whom they know; the socket answers every request
with one line, whatever it is sent, and never harms or delays its agent. Method: real agents, a runtime directory of
their own; the socket is spoken to directly, with nonsense too; steps of the agent before and after tell that it goes on."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from harness import Workplace, check, clean_environment, finish, main, program, read_model, wait_for

EXPERIMENT = ["-n", "2", "--task", "quadratic", "--data", "mixture:rows=200,features=8", "--steps", "0", "--pace", "100"]


class Cluster(Workplace):
    """Two agents that train for as long as a test takes."""

    def __init__(self, count=2):
        self.count = count

    def __enter__(self):
        super().__enter__()
        self.environment = clean_environment()
        self.environment["XDG_RUNTIME_DIR"] = str(self.path)
        self.sockets = self.path / "gadabout"
        self.agents = []
        for i in range(self.count):
            self.agents.append(self.agent(i))
        return self

    def agent(self, i, *more):
        join = ["--join", f"127.0.0.1:{self.port}"] if i > 0 else []
        if i == 0:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                self.port = s.getsockname()[1]
            join = ["--listen", f"127.0.0.1:{self.port}"]
        number = len(self.processes)
        return self.start(["agent", *EXPERIMENT, "--id", str(70011 + i), "--out", str(self.path / f"run{number}"), *join,
                           *more], env=self.environment, stderr=open(self.path / f"log{number}", "w"),
                          stdout=subprocess.DEVNULL)

    def log(self, number):
        return (self.path / f"log{number}").read_text()

    def status(self, *arguments):
        return subprocess.run([program(), "status", *arguments], capture_output=True, text=True, timeout=20,
                              env=self.environment, check=False)

    def agents_now(self):
        done = self.status("--json")
        return json.loads(done.stdout)["agents"] if done.returncode == 0 else []

    def wait_for_training(self):
        wait_for(lambda: len(self.agents_now()) == self.count and
                 all(a.get("phase") == "training" and a["steps"] > 0 and a["links"] == self.count - 1 for a in self.agents_now()),
                 "training", self.agents[0])

    def path_of(self, i):
        return str(self.sockets / f"{70011 + i}.sock")

    def connect(self, i=0):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(self.path_of(i))
        return s

    def ask(self, request, i=0):
        """One request, one answer."""
        with self.connect(i) as s:
            s.sendall(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
            return json.loads(read_line(s))

    def steps(self, i=0):
        return self.ask({"op": "status"}, i)["steps"]

    def check_goes_on(self, what):
        before = self.steps()
        wait_for(lambda: self.steps() > before + 5, f"steps after {what}", self.agents[0], timeout=10)


def read_line(s):
    text = b""
    while not text.endswith(b"\n"):
        got = s.recv(65536)
        if not got:
            break
        text += got
    return text


def is_closed(s):
    """The end, or a reset: bytes of ours had not been read."""
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


def status_shows_agents_and_links():
    with Cluster() as c:
        c.wait_for_training()
        wait_for(lambda: all(m["round_trip_s"] for a in c.agents_now() for m in a["members"]), "round trips", c.agents[0])
        one, two = c.agents_now()
        check(one["id"] == 70011 and two["id"] == 70012, f"{one} {two}")
        check({one["place"], two["place"]} == {0, 1} and one["places"] == 2, f"{one} {two}")
        check(one["address"] == f"127.0.0.1:{c.port}" and one["memory_bytes"] > 1e6 and one["uptime_s"] > 0, f"{one}")
        member = one["members"][0]
        check(member["id"] == 70012 and member["address"] == two["address"], f"{member} {two}")
        check(0 < member["round_trip_s"] < 1 and member["heard_s"] < 2, f"{member}")
        check(member["bytes_sent"] > 0 and member["bytes_received"] > 0 and member["queue_bytes"] >= 0, f"{member}")
        done = c.status()
        lines = done.stdout.splitlines()
        check(done.returncode == 0 and done.stderr == "", done.stderr)
        check(all(len(line) <= 100 for line in lines), f"too wide: {lines}")
        for words in (["agent 70011", "of 2", "training", "steps", "loss", "1 links"], ["memory", "MB", "saved", "pid"], ["member", "round trip"],
                      ["70012", two["address"]]):
            check(any(all(w in line for w in words) for line in lines), f"no line with {words} in {done.stdout}")
        check(c.status("70012").stdout.startswith("agent 70012"), "status of one")
        check(c.status("--agent", c.path_of(1)).stdout.startswith("agent 70012"), "status by socket")
        check(c.status("7001").returncode == 2 and "2 agents" in c.status("7001").stderr, c.status("7001").stderr)
        check(c.status("5").returncode == 1 and "begins with 5" in c.status("5").stderr, c.status("5").stderr)


def status_shows_the_age_of_what_is_saved():
    with Cluster(0) as c:
        agent = c.agent(0, "-n", "1", "--save-every", "200ms")
        saved = wait_for(lambda: [a for a in c.agents_now() if a["checkpoint_age_s"] is not None], "a saved state", agent)
        check(0 <= saved[0]["checkpoint_age_s"] < 20 and saved[0]["checkpoint_ok"], f"{saved}")
        check(" ago" in c.status().stdout, c.status().stdout)


def events_tell_what_happened():
    with Cluster() as c:
        c.wait_for_training()

        def events(kind, number=0):
            path = c.path / f"run{number}" / "events.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            return [e for e in lines if e["event"] == kind]
        wait_for(lambda: [e["to"] for e in events("phase")][-1:] == ["training"], "a phase", c.agents[0])
        check(events("place")[0]["place"] in (0, 1), f"{events('place')}")
        check([e["to"] for e in events("link")] == ["up"] and events("link")[0]["id"] == 70012, f"{events('link')}")
        before = time.time()
        c.agents[1].kill()
        wait_for(lambda: events("link")[-1]["to"] == "down", "the end of the link", c.agents[0])
        down = events("link")[-1]
        check(down["id"] == 70012 and down["why"] and before - 1 < down["t"] < time.time() + 1, f"{down}")
        c.agents[0].terminate()
        c.agents[0].wait(timeout=20)
        check(events("left")[0]["why"] == "interrupt", f"{events('left')}")
        check(events("saved")[-1]["ok"] is True, f"{events('saved')}")


def status_says_why_a_member_is_doubted():
    """One of three stands still: suspected with its accuser and confirmations, dead, and alive again."""
    with Cluster(0) as c:
        c.count = 3
        for i in range(3):
            c.agents.append(c.agent(i, "-n", "3"))
        c.wait_for_training()

        def seen(state, by=0):
            return [m for m in c.ask({"op": "status"}, by)["members"] if m["id"] == 70013 and m["state"] == state]
        before = [a["membership"]["view"] for a in c.agents_now()]
        check(len(set(before)) == 1, f"views {before}")
        check(all(a["health"] == 0 and a["membership"]["alive"] == 3 for a in c.agents_now()), f"{c.agents_now()}")
        c.agents[2].send_signal(signal.SIGSTOP)
        doubted = wait_for(lambda: seen("suspect"), "a suspicion", c.agents[0], timeout=30)[0]["doubt"]
        check(doubted["accuser"] in (70011, 70012) and doubted["evidence"] in ("timeout", "silent"), f"{doubted}")
        check(doubted["since_s"] >= 0 and doubted["by"][0] == doubted["accuser"], f"{doubted}")
        text = c.status("70011").stdout
        check("suspect" in text and ("no answer to" in text or "fell silent" in text), text)
        silent = [m for m in c.ask({"op": "status"})["members"] if m["id"] == 70013][0]
        check(0.4 < silent["heard_s"] < 30, f"the age of its last word: {silent}")
        check(all(len(line) <= 100 for line in text.splitlines()), text)
        wait_for(lambda: seen("dead") and seen("dead", 1), "two who say it is dead", c.agents[0], timeout=60)
        check("taken for dead" in c.status("70011").stdout, c.status("70011").stdout)
        c.agents[2].send_signal(signal.SIGCONT)
        wait_for(lambda: seen("alive"), "its return", c.agents[0], timeout=60)
        wait_for(lambda: len({a["membership"]["view"] for a in c.agents_now()}) == 1, "one view", c.agents[0], timeout=60)

        lines = [json.loads(line) for line in (c.path / "run0" / "events.jsonl").read_text().splitlines()]
        story = [(e["from"], e["to"]) for e in lines if e["event"] == "member" and e["id"] == 70013]
        check(story[0][0] == "" and story[1:] == [("alive", "suspect"), ("suspect", "dead"), ("dead", "alive")], f"{story}")
        for e in lines:
            if e["event"] == "member" and e["to"] in ("suspect", "dead"):
                check(e["accuser"] in (70011, 70012) and e["evidence"] in ("timeout", "silent", "reset"), f"{e}")
                check(e["incarnation"] > 0 and e["confirmations"] >= 0, f"{e}")
        for words in ("node 70013 is suspected: ", "node 70013 is taken for dead: ", "node 70013 is back"):
            check(words in c.log(0), f"'{words}' is not in the log: {c.log(0)}")


def watch_repeats():
    with Cluster(1) as c:
        wait_for(c.agents_now, "an agent", c.agents[0])
        watch = c.start(["status", "--watch"], env=c.environment)
        time.sleep(2.5)
        watch.send_signal(signal.SIGINT)
        out, err = finish(watch)
        check(watch.returncode == 130 and err == "", f"{watch.returncode} {err}")
        check(2 <= out.count("agent 7001") <= 4, f"'{out}'")


def dead_and_frozen_agents():
    with Cluster() as c:
        c.wait_for_training()
        c.agents[1].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        done = c.status()
        check(time.monotonic() - began < 6, "status waited long for a stopped agent")
        check(done.returncode == 0 and "no answer" in done.stdout and "agent 70011" in done.stdout, done.stdout)
        c.agents[1].send_signal(signal.SIGCONT)
        for agent in c.agents:
            agent.kill()
            agent.wait()
        check(len(list(c.sockets.iterdir())) == 2, "a killed agent's socket went by itself")
        done = c.status()
        check(done.returncode == 1 and done.stderr == "gadabout: no agent of this user runs on this machine\n", done.stderr)
        check(not list(c.sockets.iterdir()), "stale sockets are still there")


def bad_requests_get_an_error_line():
    bad = [b"\n", b"x\n", b"{\n", b"[]\n", b"7\n", b"null\n", b'"op"\n', b"{}\n", b'{"op": 7}\n', b'{"op": "fly"}\n', b'{"op": null}\n',
           b'{"op": "status", "op": "status"}\n', b"\xff\xfe\x00\n", b'{"op": "\\u0000"}\n', b"[" * 5000 + b"\n",
           b'{"op": "' + b"a" * 60000 + b'"}\n', b'{"op": "snapshot"}\n', b'{"op": "snapshot", "path": 3}\n',
           b'{"op": "snapshot", "path": "here"}\n', b'{"op": "snapshot", "path": "/no/such/folder/x"}\n', b"\x00" * 100 + b"\n",
           b'{"op": "status"} trailing\n']
    with Cluster() as c:
        c.wait_for_training()
        with c.connect() as s:
            for request in bad:
                s.sendall(request)
                answer = json.loads(read_line(s))
                check(answer["ok"] is False and answer["error"], f"{request[:40]}: {answer}")
                check(len(answer["error"]) < 600 and "\n" not in answer["error"], f"{request[:40]}: {answer}")
            s.sendall(b'{"op": "status"}\n' * 20)  # in one piece: answered one by one
            reader = s.makefile("rb")
            for _ in range(20):
                check(json.loads(reader.readline())["ok"] is True, "one of twenty requests")
        with c.connect() as s:  # a line without an end
            try:
                s.sendall(b"a" * 200000)
            except OSError:
                pass  # it has hung up
            answer = json.loads(read_line(s))
            check(answer["ok"] is False and "64 KiB" in answer["error"], f"{answer}")
            check(is_closed(s), "the client of a long line was not closed")
        with c.connect() as s:  # one byte at a time
            for byte in b'{"op": "status"}\n':
                s.sendall(bytes([byte]))
            check(json.loads(read_line(s))["ok"] is True, "a slow writer")
        c.check_goes_on("bad requests")
        check(all(a.poll() is None for a in c.agents), "an agent ended")


def a_hundred_clients():
    with Cluster() as c:
        c.wait_for_training()
        clients = []
        for _ in range(100):
            try:
                clients.append(c.connect())
            except BlockingIOError:
                break  # the backlog is full
        served = refused = 0
        for s in clients:
            try:
                s.sendall(b'{"op": "status"}\n')
            except OSError:
                pass
            try:
                answer = json.loads(read_line(s) or b'{"ok": false, "error": "closed"}')
            except ConnectionResetError:
                answer = {"ok": False, "error": "reset"}
            served += answer["ok"]
            refused += not answer["ok"]
        check(served == 8 and refused == len(clients) - 8, f"{served} served, {refused} refused of {len(clients)}")
        for s in clients:
            s.close()
        wait_for(lambda: c.status().returncode == 0, "room for a client", c.agents[0])
        c.check_goes_on("a hundred clients")


def a_client_that_does_not_read():
    with Cluster() as c:
        c.wait_for_training()
        with c.connect() as s:
            s.setblocking(False)
            sent = 0
            try:
                while sent < 3000000:
                    sent += s.send(b'{"op": "status"}\n' * 500)
            except BlockingIOError:
                pass
            c.check_goes_on("requests whose answers nobody reads")

            def closed():
                try:
                    s.send(b" ")
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return False
            wait_for(closed, "the end of a client that does not read", c.agents[0], timeout=25)


def snapshot_and_leave():
    with Cluster() as c:
        c.wait_for_training()
        path = c.path / "model.safetensors"
        answer = c.ask({"op": "snapshot", "path": str(path)})
        check(answer["ok"] and answer["parameters"] == 8 and answer["steps"] > 0, f"{answer}")
        check(len(read_model(path)) == 8, "another model")
        check(c.ask({"op": "leave"}, 1)["ok"], "leave")
        c.agents[1].wait(timeout=20)
        check(c.agents[1].returncode == 0, f"exit status {c.agents[1].returncode} after leave: {c.log(1)}")
        summary = json.loads((c.path / "run1" / "summary.json").read_text())
        check(summary["stopped_by"] == "leave", f"{summary['stopped_by']}")
        check(not pathlib.Path(c.path_of(1)).exists(), "the socket is still there")
        states = [m["state"] for m in c.ask({"op": "status"})["members"]]
        check(states == ["left"], f"{states}")
        check("node 70012 has left" in c.log(0) and "suspected" not in c.log(0), c.log(0))
        c.check_goes_on("the other one left")


def sockets_are_safe():
    with Cluster() as c:
        c.wait_for_training()
        check(c.sockets.stat().st_mode & 0o777 == 0o700, "the directory lets others in")
        # the same id again: another name
        twin = c.agent(0, "--id", "70011")
        name = c.sockets / f"70011-{twin.pid}.sock"
        wait_for(name.exists, "a socket of the second agent with this id", twin)
        twin.kill()
        # a path that is taken
        taken = subprocess.run([program(), "agent", *EXPERIMENT, "--control", c.path_of(0), "--out", str(c.path / "x")],
                               capture_output=True, text=True, env=c.environment, timeout=20, check=False)
        check(taken.returncode == 2 and taken.stderr.count("\n") == 1 and "in use" in taken.stderr, taken.stderr)
        long = subprocess.run([program(), "agent", *EXPERIMENT, "--control", "/tmp/" + "a" * 110, "--out", str(c.path / "x")],
                              capture_output=True, text=True, env=c.environment, timeout=20, check=False)
        check(long.returncode == 2 and "--control" in long.stderr and not (c.path / "x").exists(), long.stderr)
        check(pathlib.Path(c.path_of(0)).exists(), "somebody else's socket is gone")
        off = c.agent(0, "--control", "off", "--id", "5")
        wait_for(lambda: "listening" in c.log(len(c.processes) - 1), "an agent without a socket", off)
        check(not (c.sockets / "5.sock").exists(), "a socket in spite of --control off")
        # a directory that others can enter
        c.sockets.chmod(0o755)
        open_agent = c.agent(0, "--id", "6")
        wait_for(lambda: "lets other users in" in c.log(len(c.processes) - 1), "a warning", open_agent)
        check(open_agent.poll() is None and not (c.sockets / "6.sock").exists(), "a socket where others can look")
        if os.geteuid() != 0:
            print("     not root: what another user gets was not tried")
            return
        for path in (c.path, c.sockets):
            path.chmod(0o777)
        os.chmod(c.path_of(0), 0o666)
        stranger = subprocess.run(["/usr/bin/python3", "-c", "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
                                   "s.connect(sys.argv[1])\ntry:\n    s.sendall(b'{\"op\": \"status\"}\\n')\n    print(s.recv(100))\n"
                                   "except OSError:\n    print(b'')", c.path_of(0)], user=65534, group=65534,
                                  capture_output=True, text=True, timeout=20, check=False)
        check(stranger.stdout == "b''\n", f"another user got {stranger.stdout}{stranger.stderr}")


if __name__ == "__main__":
    main([status_shows_agents_and_links, status_shows_the_age_of_what_is_saved, status_says_why_a_member_is_doubted,
          events_tell_what_happened, watch_repeats, dead_and_frozen_agents, bad_requests_get_an_error_line,
          a_hundred_clients, a_client_that_does_not_read, snapshot_and_leave, sockets_are_safe])
