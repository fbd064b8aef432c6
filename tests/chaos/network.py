"""Networks of the suite's own: a namespace per node, joined by a bridge or by the TAP relay, all of it removed again.

Names carry the pid of the process that makes them, so runs beside each other do not meet. Filters sit at the
receiver's INPUT: a sender's own filter would be told to its TCP, a real network tells nothing. Counters of the
filters are read before they are removed; they are the proof that a fault bit."""
import json
import os
import pathlib
import shutil
import subprocess

CHAIN = "chaos"


class Missing(Exception):
    """An injector that this machine does not have; the text says which and why."""


class Broken(Exception):
    """The suite's own tools failed; the text says how."""


def tool(*words, **options):
    """Runs one of the machine's tools to its end; returns its output."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise Broken(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def need(*names):
    """Raises Missing unless the machine has what these names stand for."""
    for name in names:
        why = ABSENT[name]()
        if why:
            raise Missing(f"{name}: {why}")


def _no_netns():
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if not shutil.which("ip") or not shutil.which("nsenter"):
        return "iproute2 and util-linux are not installed"
    name = f"gad{os.getpid()}try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return "" if made.returncode == 0 else made.stderr.strip()


def _no_iptables():
    if not shutil.which("iptables"):
        return "not installed"
    tried = subprocess.run(["unshare", "-n", "iptables", "-A", "INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with",
                            "tcp-reset"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"cannot filter: {tried.stderr.strip().splitlines()[-1]}"


def _no_tbf():
    if not shutil.which("tc"):
        return "tc is not installed"
    tried = subprocess.run(["unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit",
                            "burst", "32kbit", "latency", "400ms"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"the kernel has no tbf: {tried.stderr.strip()}"


def _no_tap():
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    return "" if os.geteuid() == 0 else "only root makes TAPs"


def _no_quota():
    for folder in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"):
        for knob in ("cpu.cfs_quota_us", "cgroup.controllers"):
            path = pathlib.Path(folder, knob)
            if path.exists() and os.access(folder, os.W_OK):
                return ""
    return "no cpu controller of cgroups that may be written"


def _no_memory():
    for path in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cgroup.controllers"):
        if os.path.exists(path) and os.access(os.path.dirname(path), os.W_OK):
            return "" if "limit" in path or "memory" in pathlib.Path(path).read_text() else "no memory controller"
    return "no memory controller of cgroups that may be written"


def _no_loop():
    if os.geteuid() != 0:
        return "only root mounts"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is not installed"
    script = ("t=$(mktemp -d) && truncate -s 4M $t/i && mkfs.ext4 -q -F $t/i && mkdir $t/m && mount -o loop $t/i $t/m; "
              "e=$?; umount $t/m 2>&-; rm -r $t; exit $e")
    tried = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no loop device with ext4: {tried.stderr.strip()}"


ABSENT = {"netns": _no_netns, "iptables": _no_iptables, "tbf": _no_tbf, "tap": _no_tap, "loop ext4": _no_loop,
          "cpu quota": _no_quota, "memory limit": _no_memory}


def delete_namespaces(names):
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Network:
    """`count` namespaces with addresses 10.77.0.1, 10.77.0.2, ... on one Ethernet.

    With ports=False their devices are left to the TAP relay, which makes its own (attach)."""

    def __init__(self, count, ports=True):
        self.count, self.ports = count, ports
        self.names = [f"gad{os.getpid()}n{i}" for i in range(count)]
        self.switch = f"gad{os.getpid()}sw"
        self.moved = {}

    def __enter__(self):
        need("netns")
        try:
            for name in [self.switch, *self.names]:
                tool("ip", "netns", "add", name)
            if self.ports:
                self._bridge()
            self._chains()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        delete_namespaces([self.switch, *self.names])

    def _bridge(self):
        lines = [f"link add br0 type bridge", "link set br0 up"]
        for i, name in enumerate(self.names):
            lines += [f"link add p{i} type veth peer name eth0 address {self._mac(i)} netns {name}",
                      f"link set p{i} master br0", f"link set p{i} up"]
        tool("ip", "-n", self.switch, "-batch", "-", input="\n".join(lines) + "\n")
        for i in range(self.count):
            self.attach(i)
        self._neighbours()

    @staticmethod
    def _mac(i):
        return f"02:67:61:64:{i // 256:02x}:{i % 256:02x}"

    def _neighbours(self):
        """Everybody knows everybody's hardware address. All namespaces of a machine share one table for those that are
        learnt, of 1024: without this 33 agents that are all linked, or two rows beside each other, lose packets."""
        for i, name in enumerate(self.names):
            lines = [f"neigh add {self.address(j)} lladdr {self._mac(j)} dev eth0 nud permanent"
                     for j in range(self.count) if j != i]
            tool("ip", "-n", name, "-batch", "-", input="".join(line + "\n" for line in lines))

    def attach(self, i):
        """Gives node i's device its address."""
        tool("ip", "-n", self.names[i], "-batch", "-",
             input=f"addr add {self.address(i)}/16 dev eth0\nlink set eth0 up\nlink set lo up\n")

    def _chains(self):
        for name in self.names:
            self.inside(name, "iptables-restore", input=f"*filter\n:{CHAIN} - [0:0]\n-A INPUT -j {CHAIN}\nCOMMIT\n")

    @staticmethod
    def inside(name, *words, **options):
        return tool("nsenter", f"--net=/var/run/netns/{name}", "--", *words, **options)

    def command(self, i, *words):
        """The command that runs words in node i's namespace; it becomes them, so that its pid is theirs."""
        return ["nsenter", f"--net=/var/run/netns/{self.names[i]}", "--", *map(str, words)]

    def address(self, i):
        host = self.moved.get(i, i + 1)
        return f"10.77.{host // 250}.{host % 250}"

    def move(self, i, host):
        """Gives node i another address."""
        if self.ports:
            self.everywhere({j: f"ip neigh del {self.address(i)} dev eth0" for j in range(self.count) if j != i})
        tool("ip", "-n", self.names[i], "addr", "flush", "dev", "eth0")
        self.moved[i] = host
        tool("ip", "-n", self.names[i], "addr", "add", f"{self.address(i)}/16", "dev", "eth0")

    # -- filters ------------------------------------------------------------------------------------

    def rule(self, at, *words):
        """Appends a rule of iptables to what node `at` receives."""
        self.inside(self.names[at], "iptables", "-w", "-A", CHAIN, *words)

    def everywhere(self, scripts):
        """Runs a shell script in each node's namespace ({node: script}), all at once; {node: output}."""
        started = {i: subprocess.Popen(self.command(i, "sh", "-c", script), stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True) for i, script in scripts.items()}
        outputs = {i: p.communicate() for i, p in started.items()}
        failed = [outputs[i][1] for i, p in started.items() if p.returncode != 0]
        if failed:
            raise Broken(failed[0].strip())
        return {i: out for i, (out, _) in outputs.items()}

    def drops(self, heard):
        """{node: those from whom it hears nothing any more}"""
        lines = {at: "".join(f"-A {CHAIN} -s {self.address(s)} -j DROP\\n" for s in sources)
                 for at, sources in heard.items()}
        self.everywhere({at: f"printf '*filter\\n{rules}COMMIT\\n' | iptables-restore --noflush"
                         for at, rules in lines.items()})

    def drop(self, at, sources):
        """Node `at` hears nothing from these nodes any more."""
        self.drops({at: sources})

    def cut(self, left, right):
        """Nothing passes between the two groups, in no direction."""
        self.drops({**{a: list(right) for a in left}, **{b: list(left) for b in right}})

    def counted(self, at):
        """[(packets, bytes)] of node at's rules, in their order."""
        lines = self.inside(self.names[at], "iptables", "-w", "-nvxL", CHAIN).splitlines()[2:]
        return [tuple(int(w) for w in line.split()[:2]) for line in lines]

    def packets(self, at):
        return sum(packets for packets, _ in self.counted(at))

    def heal(self, nodes=None):
        """Removes all rules; returns how many packets they had caught, by node."""
        chosen = range(self.count) if nodes is None else nodes
        shown = self.everywhere({i: f"iptables -w -nvxL {CHAIN} && iptables -w -F {CHAIN}" for i in chosen})
        return {i: sum(int(line.split()[0]) for line in text.splitlines()[2:]) for i, text in shown.items()}

    def watch_dials(self, at, address):
        """Counts connections that node `at` tries to open to an address; read it by dials()."""
        self.inside(self.names[at], "iptables", "-w", "-A", "OUTPUT", "-d", address, "-p", "tcp", "--syn", "-j",
                    "ACCEPT")

    def dials(self, at):
        lines = self.inside(self.names[at], "iptables", "-w", "-nvxL", "OUTPUT").splitlines()[2:]
        return sum(int(line.split()[0]) for line in lines)

    # -- rate ---------------------------------------------------------------------------------------

    def limit(self, i, rate, queue="100ms"):
        """Caps what node i sends and receives, e.g. rate = 1mbit; the link's queue holds as much as goes out in
        `queue`."""
        words = ["root", "tbf", "rate", rate, "burst", "32kbit", "latency", queue]
        tool("tc", "-n", self.names[i], "qdisc", "add", "dev", "eth0", *words)
        tool("tc", "-n", self.switch, "qdisc", "add", "dev", f"p{i}", *words)

    def unlimit(self, i):
        tool("tc", "-n", self.names[i], "qdisc", "del", "dev", "eth0", "root")
        tool("tc", "-n", self.switch, "qdisc", "del", "dev", f"p{i}", "root")

    def held_back(self, i):
        """(overlimits, dropped) of node i's cap, both directions together."""
        over = dropped = 0
        for name, device in ((self.names[i], "eth0"), (self.switch, f"p{i}")):
            words = tool("tc", "-n", name, "-s", "qdisc", "show", "dev", device).replace(",", " ").split()
            over += int(words[words.index("overlimits") + 1])
            dropped += int(words[words.index("(dropped") + 1])
        return over, dropped

    def sent(self, i):
        """(bytes, packets) that node i has put on its wire, headers of Ethernet, IP and TCP included."""
        shown = json.loads(tool("ip", "-n", self.names[i], "-j", "-s", "link", "show", "eth0"))[0]
        told = shown.get("stats64") or shown["stats"]
        return told["tx"]["bytes"], told["tx"]["packets"]

    # -- what the kernel knows ------------------------------------------------------------------------

    def connections(self, i, remote=""):
        """Connections of node i that were established and are not closed by it, to addresses that begin with
        `remote`: [(local, remote, bytes not yet acknowledged)]."""
        found = []
        for state in ("established", "close-wait"):
            lines = self.inside(self.names[i], "ss", "-Htn", "state", state).splitlines()
            found += [(w[2], w[3], int(w[1])) for w in map(str.split, lines) if w[3].startswith(remote)]
        return found
