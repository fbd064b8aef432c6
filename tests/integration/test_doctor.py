#!/usr/bin/env python3
"""`gadabout doctor` on set-ups that are really broken.

Goal: each mistake of a set-up is one finding in words, with the remedy, and a sound one has none; the member that is
visited does not notice. Method: real agents, listeners and ports; members of other versions and places are played by
a few lines that speak the hello; a firewall and another network are network namespaces of their own (root), reported
as SKIP with the reason where they cannot be made."""
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import threading

from resource import RLIMIT_NOFILE, setrlimit

from harness import Skipped, Workplace, check, clean_environment, main, program, wait_for

EXPERIMENT = ["--task", "quadratic", "--data", "mixture:rows=200,features=8", "--steps", "0", "--pace", "100"]
VERSION = 3


def doctor(*arguments, inside=None, **options):
    """(exit status, {"ok": [...], "findings": [...]}); the text form must say the same."""
    command = [*(["ip", "netns", "exec", inside] if inside else []), program(), "doctor", *arguments]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, env=clean_environment(),
                          check=False, **options)
    check(done.stderr == "", f"{arguments}: {done.stderr}")
    return done.returncode, json.loads(done.stdout)


def check_finding(arguments, code, words, **options):
    """Exactly one finding, of that kind, which holds all words."""
    status, said = doctor(*arguments, **options)
    found = said["findings"]
    check(status == 1, f"{arguments}: exit status {status}: {said}")
    check([f["code"] for f in found] == [code], f"{arguments}: {said}")
    missing = [w for w in words if w not in found[0]["text"]]
    check(not missing, f"'{found[0]['text']}' does not say {missing}")
    check("\n" not in found[0]["text"] and len(found[0]["text"]) < 400, f"'{found[0]['text']}'")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_agent(place, port, *more, host="127.0.0.1", inside=None):
    """A member that waits for a second one."""
    number = len(place.processes)
    environment = clean_environment()
    environment["XDG_RUNTIME_DIR"] = str(place.path)
    log = place.path / f"log{number}"
    arguments = ["agent", "-n", "2", *EXPERIMENT, "--listen", f"{host}:{port}", "--out", str(place.path / f"run{number}"), *more]
    command = [*(["ip", "netns", "exec", inside] if inside else []), program(), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(log, "w"), env=environment)
    place.processes.append(process)
    wait_for(lambda: "listening on" in log.read_text(), "a listening agent", process)
    return process, log


# -- a member of our making ---------------------------------------------------------------------

HELLO, GOODBYE = 1, 8


def xxh3(data, seed=0):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits_withSeed.restype = ctypes.c_uint64
    return library.XXH3_64bits_withSeed(data, ctypes.c_size_t(len(data)), ctypes.c_uint64(seed))


def frame(kind, payload, value=0):
    head = struct.pack("<IBBHQ", len(payload), kind, 0, 0, value)
    return head + struct.pack("<Q", xxh3(payload, xxh3(head))) + payload


def hello(version=VERSION, name="gadabout", boot=1 << 50, address=""):
    return b"gadabout" + struct.pack("<HBBHH16sQQQ", version, 2, 0, 7946, len(address), b"\x07" * 16, 4711, boot,
                                     xxh3(name.encode())) + address.encode()


def goodbye(seen="", version=VERSION):
    return struct.pack("<QQH", 4711, xxh3(b"gadabout"), version) + seen.encode()


@contextlib.contextmanager
def member(answer, wait=True):
    """Listens, and answers each caller's hello with these bytes and the end. Yields "host:port"."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with caller:
                if wait:
                    caller.recv(4096)
                caller.sendall(answer)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


# -- networks -----------------------------------------------------------------------------------

@contextlib.contextmanager
def networks(*commands):
    """Two machines with addresses of the documentation's network, joined by a cable. Yields their names."""
    one, two = f"gadabout-{os.getpid()}-a", f"gadabout-{os.getpid()}-b"
    made = []

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skipped(f"{' '.join(words)}: {done.stderr.strip()}")
    try:
        if os.geteuid() != 0:
            raise Skipped("needs root")
        try:
            for name in (one, two):
                run("ip", "netns", "add", name)
                made.append(name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", one, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", two)
            for name, host in ((one, "203.0.113.1/24"), (two, "203.0.113.2/24")):
                run("ip", "-n", name, "addr", "add", host, "dev", "cable")
                run("ip", "-n", name, "link", "set", "cable", "up")
            for words in commands:
                run(*[w.format(one=one, two=two) for w in words])
        except FileNotFoundError as missing:
            raise Skipped(f"{missing.filename} is missing") from None
        yield one, two
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)


# -- the tests ----------------------------------------------------------------------------------

def a_sound_set_up_has_no_finding():
    with Workplace() as place:
        port = free_port()
        agent, log = start_agent(place, port)
        before = log.read_text()
        arguments = ["-n", "2", *EXPERIMENT, "--join", f"127.0.0.1:{port}"]
        for _ in range(3):
            status, said = doctor(*arguments)
            check(status == 0 and said["findings"] == [], f"{said}")
            check(any("same cluster, same experiment" in line for line in said["ok"]), f"{said}")
        plain = subprocess.run([program(), "doctor", *arguments], capture_output=True, text=True, env=clean_environment(),
                               check=False)
        lines = plain.stdout.splitlines()
        check(lines[-1] == "nothing is wrong" and all(line.startswith("ok ") for line in lines[:-1]), plain.stdout)
        new = [line for line in log.read_text()[len(before):].splitlines() if "waiting for members" not in line]
        check(new == [] and agent.poll() is None, f"the member noticed: {new}")
        # and it is not taken for a member: the second one still finds its place
        _, other = start_agent(place, free_port(), "--join", f"127.0.0.1:{port}")
        wait_for(lambda: "takes place" in other.read_text(), "both members", agent)


def unreachable():
    drop = ("ip", "netns", "exec", "{two}", "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "7946", "-j", "DROP")
    with networks(drop) as (one, two), Workplace() as place:
        start_agent(place, 7946, host="203.0.113.2", inside=two)
        check_finding(["--join", "203.0.113.2:7946"], "unreachable", ["203.0.113.2:7946", "no answer to a connect", "firewall"],
                      inside=one)
        check_finding(["--join", "203.0.113.77:7946"], "unreachable", ["203.0.113.77"], inside=one)  # nobody has it
        check_finding(["--join", "192.0.2.1:7946"], "unreachable", ["192.0.2.1", "unreachable"], inside=one)  # no way there


def refused():
    port = free_port()
    check_finding(["--join", f"127.0.0.1:{port}"], "refused", [f"127.0.0.1:{port}", "nobody listens", "--listen"])


def silent():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        check_finding(["--join", f"127.0.0.1:{port}"], "silent", [f"127.0.0.1:{port}", "says nothing for 3 s"])
    with Workplace() as place:
        port = free_port()
        agent, _ = start_agent(place, port)
        agent.send_signal(signal.SIGSTOP)
        check_finding(["--join", f"127.0.0.1:{port}"], "silent", ["says nothing for 3 s", "stopped"])
    with member(b"") as address:
        check_finding(["--join", address], "silent", ["hangs up without a word"])


def another_cluster():
    with Workplace() as place:
        port = free_port()
        start_agent(place, port, "--cluster", "lab-2")
        arguments = ["-n", "2", *EXPERIMENT, "--join", f"127.0.0.1:{port}"]
        check_finding(arguments, "cluster", ["another cluster", "--cluster gadabout"])
        check(doctor(*arguments, "--cluster", "lab-2")[0] == 0, "the right name has a finding")


def another_experiment():
    with Workplace() as place:
        port = free_port()
        start_agent(place, port, "--batch", "7")
        arguments = ["-n", "2", *EXPERIMENT, "--join", f"127.0.0.1:{port}"]
        check_finding(arguments, "experiment", ["same cluster name", "another experiment", "config.yml"])
        check(doctor(*arguments, "--batch", "7")[0] == 0, "the same experiment has a finding")
        check(doctor("--join", f"127.0.0.1:{port}")[0] == 0, "without -n nothing is compared")
        check_finding([*arguments, "--data", "/no/such/data"], "experiment", ["--data", "/no/such/data"])


def the_dialler_of_another_one_hears_which():
    """The same words from the agent itself."""
    with Workplace() as place:
        port = free_port()
        start_agent(place, port)
        for option, value, words in (("--cluster", "lab-2", "--cluster differs"), ("--seed", "9", "another experiment")):
            done = subprocess.run([program(), "agent", "-n", "2", *EXPERIMENT, "--control", "off", "--join", f"127.0.0.1:{port}",
                                   "--out", str(place.path / f"x{option}"), option, value], capture_output=True, text=True,
                                  timeout=60, env=clean_environment(), check=False)
            check(done.returncode == 1 and words in done.stderr, f"{option}: {done.returncode} {done.stderr}")


def an_invitation_is_compared():
    with Workplace() as place:
        start_agent(place, free_port())
        environment = clean_environment()
        environment["XDG_RUNTIME_DIR"] = str(place.path)
        text = subprocess.run([program(), "invite"], capture_output=True, text=True, env=environment, check=True).stdout.strip()
        check(doctor("-n", "2", *EXPERIMENT, "--join", text)[0] == 0, "an invitation has a finding")
        status, said = doctor("-n", "2", *EXPERIMENT, "--join", text, "--seed", "9")
        codes = [f["code"] for f in said["findings"]]
        check(status == 1 and codes == ["experiment", "experiment"], f"{said}")  # the invitation's, and the member's


def version():
    with member(frame(HELLO, hello(version=7))) as address:
        check_finding(["--join", address], "version", [address, "protocol version 7", f"speaks {VERSION}", "same version"])
    with member(frame(GOODBYE, goodbye(version=9), 8)) as address:
        check_finding(["--join", address], "version", ["protocol version 9"])
    with member(frame(GOODBYE, goodbye()[:8], 8)) as address:  # as version 1 answers
        check_finding(["--join", address], "version", ["another protocol version"])


def not_an_agent():
    good = frame(HELLO, hello())
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 100, b"\xff" * 5000, b"x", good[:-1], good[:30] + b"!" + good[31:],
                   frame(3, b""), frame(GOODBYE, b"abc", 9)):
        with member(answer) as address:
            check_finding(["--join", address], "protocol", [address, "does not speak gadabout's protocol"])


def private_address_behind_a_nat():
    greeting = frame(HELLO, hello())
    with member(greeting + frame(GOODBYE, goodbye("198.51.100.9:40000"), 13)) as address:
        check_finding(["--join", address, "--advertise", "192.168.77.5:7946"], "advertised",
                      ["192.168.77.5", "private network", "198.51.100.9"])
        check_finding(["--join", address, "--advertise", "127.0.0.1:7946"], "advertised", ["127.0.0.1:7946", "198.51.100.9"])
        check_finding(["--join", address, "--advertise", "no-such-host.invalid:7946"], "name", ["--advertise", "no-such-host"])
        check_finding(["--join", address, "--listen", "0.0.0.0:0"], "advertised", ["198.51.100.9", "NAT", "--advertise"])
        check_finding(["--join", address], "advertised", ["--listen", "from this machine only", "0.0.0.0:7946"])
        status, said = doctor("--join", address, "--advertise", "198.51.100.9:7946")
        check(status == 0, f"what the peer sees is refused: {said}")
    with member(greeting + frame(GOODBYE, goodbye("not an address"), 13)) as address:
        check(doctor("--join", address)[0] == 0, "nonsense of a peer is a finding")
    with member(greeting) as address:  # hello, and no more
        check(doctor("--join", address)[0] == 0, "a member that says hello alone")


def private_address_on_a_network():
    with networks() as (one, two), Workplace() as place:
        start_agent(place, 7946, host="203.0.113.2", inside=two)
        join = ["--join", "203.0.113.2:7946"]
        check_finding([*join, "--listen", "0.0.0.0:7946", "--advertise", "192.168.77.5:7946"], "advertised",
                      ["192.168.77.5", "private network", "203.0.113.1"], inside=one)
        check_finding(join, "advertised", ["from this machine only", "203.0.113.1"], inside=one)
        check(doctor(*join, "--listen", "0.0.0.0:7946", inside=one)[0] == 0, "a sound set-up on a network")
    with networks() as (one, two), Workplace() as place:  # the member's own promise is wrong
        start_agent(place, 7946, "--advertise", "127.0.0.1:7946", host="203.0.113.2", inside=two)
        check_finding(["--join", "203.0.113.2:7946", "--listen", "0.0.0.0:0"], "advertised",
                      ["203.0.113.2:7946", "tells others", "127.0.0.1:7946"], inside=one)


def port_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check_finding(["--listen", f"127.0.0.1:{port}"], "port", [f"127.0.0.1:{port}", "taken", "gadabout status"])
    check_finding(["--listen", "203.0.113.200:7946"], "port", ["203.0.113.200", "no address of this machine"])


def a_name_that_does_not_resolve():
    check_finding(["--join", "no-such-host.invalid:7946"], "name", ["no-such-host.invalid", "does not resolve", "spelling"])
    check_finding(["--listen", "no-such-host.invalid:7946"], "name", ["--listen", "no-such-host.invalid"])


def damaged_state_directory():
    with Workplace() as place:
        state = place.path / "state"
        options = ["-n", "1", *EXPERIMENT]
        check(doctor("--state", str(state))[0] == 0 and not state.exists(), "a directory that is not there yet")
        (place.path / "file").write_text("no directory")
        check_finding(["--state", str(place.path / "file" / "state")], "state", ["file/state", "cannot make"])
        agent, log = start_agent(place, 0, "-n", "1", "--state", str(state), "--save-every", "200ms", "--id", "44")
        wait_for(lambda: (state / "checkpoint-1").exists(), "two generations", agent)
        check_finding([*options, "--state", str(state)], "state", ["used by another agent", str(agent.pid)])
        agent.terminate()
        agent.wait(timeout=20)
        status, said = doctor(*options, "--state", str(state))
        check(status == 0 and sum("is whole" in line for line in said["ok"]) == 2, f"{said}")
        check(any("of node 44" in line for line in said["ok"]), f"{said}")
        check_finding([*options, "--state", str(state), "--id", "45"], "state", ["--id", "45", "node 44"])
        path = state / "checkpoint-1"
        whole = path.read_bytes()
        for what, bytes_ in (("a flipped bit", whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]), ("half", whole[: len(whole) // 2]),
                             ("nothing", b""), ("other data", b"\x00" * 5000)):
            path.write_bytes(bytes_)
            check_finding([*options, "--state", str(state)], "state", ["checkpoint-1", "will not be used"])
            check_finding(["--state", str(state)], "state", ["checkpoint-1"])  # also without the experiment
            check(path.read_bytes() == bytes_, f"{what}: the file was changed")
        path.unlink()
        path.symlink_to(state / "checkpoint-0")
        check_finding([*options, "--state", str(state)], "state", ["checkpoint-1"])
        path.unlink()
        path.write_bytes(whole)
        status, said = doctor(*options, "--state", str(state), "--seed", "5")
        check(status == 1 and all("another experiment" in f["text"] for f in said["findings"]), f"{said}")
        (state / "identity").write_text("gadabout identity 1: 44 0000\n")
        check_finding([*options, "--state", str(state)], "state", ["identity", "damaged"])


def clock_files_and_ids():
    with member(frame(HELLO, hello(boot=4 * 10**15 << 10)) + frame(GOODBYE, goodbye(), 13)) as address:
        check_finding(["--join", address], "clock", ["NTP"])
    check_finding([], "files", ["ulimit -n", "64"], preexec_fn=lambda: setrlimit(RLIMIT_NOFILE, (64, 64)))
    with Workplace() as place:
        port = free_port()
        start_agent(place, port, "--id", "33")
        check_finding(["--join", f"127.0.0.1:{port}", "--id", "33"], "id", ["33", "in use", "ids must differ"])
        there, elsewhere = f"127.0.0.1:{port}", free_port()
        start_agent(place, elsewhere, "--id", "34", "--join", there)
        wait_for(lambda: doctor("--join", there, "--id", "34")[0] == 1, "word of the other member")
        check_finding(["--join", there, "--id", "34"], "id", ["34", f"in use at 127.0.0.1:{elsewhere}", f"says {there}"])
        status, said = doctor("--join", there, "--id", "35")
        check(status == 0, f"{said}")


def several_findings_are_several_lines():
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run([program(), "doctor", "--join", f"127.0.0.1:{port}", "--join", "no-such-host.invalid:1", "--listen",
                               f"127.0.0.1:{taken.getsockname()[1]}"], capture_output=True, text=True, timeout=60,
                              env=clean_environment(), check=False)
    lines = done.stdout.splitlines()
    check(done.returncode == 1 and lines[-1] == "3 findings", done.stdout)
    check(sum(line.startswith("wrong ") for line in lines) == 3, done.stdout)


if __name__ == "__main__":
    main([a_sound_set_up_has_no_finding, unreachable, refused, silent, another_cluster, another_experiment,
          an_invitation_is_compared,           the_dialler_of_another_one_hears_which, version, not_an_agent, private_address_behind_a_nat,
          private_address_on_a_network, port_taken, a_name_that_does_not_resolve, damaged_state_directory, clock_files_and_ids,
          several_findings_are_several_lines])
