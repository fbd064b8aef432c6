"""A cpu quota for processes, by cgroups of version 1 or 2."""
import os
import pathlib
import time

from network import need


class Quota:
    """Processes in it get `share` of one processor, in each period anew."""

    def __init__(self, share, period_us=100000):
        need("cpu quota")
        old = pathlib.Path("/sys/fs/cgroup/cpu")
        self.v1 = (old / "cpu.cfs_quota_us").exists()
        self.path = (old if self.v1 else pathlib.Path("/sys/fs/cgroup")) / f"gad{os.getpid()}q{id(self)}"
        self.share, self.period_us = share, period_us

    def __enter__(self):
        if not self.v1:
            (self.path.parent / "cgroup.subtree_control").write_text("+cpu")
        self.path.mkdir()
        period = self.period_us
        quota = max(1000, int(period * self.share))
        if self.v1:
            (self.path / "cpu.cfs_period_us").write_text(str(period))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self.path / "cpu.max").write_text(f"{quota} {period}")
        return self

    def add(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def throttled(self):
        """How often a process had to wait: the proof."""
        words = (self.path / "cpu.stat").read_text().split()
        return int(words[words.index("nr_throttled") + 1])

    def __exit__(self, *_):
        for pid in (self.path / "cgroup.procs").read_text().split():
            (self.path.parent / "cgroup.procs").write_text(pid)
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


class Memory:
    """A cgroup whose processes have `limit` bytes together; set later with set()."""

    def __init__(self):
        need("memory limit")
        old = pathlib.Path("/sys/fs/cgroup/memory")
        self.v1 = (old / "memory.limit_in_bytes").exists()
        self.path = (old if self.v1 else pathlib.Path("/sys/fs/cgroup")) / f"gad{os.getpid()}m"

    def __enter__(self):
        if not self.v1:
            (self.path.parent / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        return self

    def prefix(self):
        """Words before a program that is to live in it."""
        return ["sh", "-c", f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"', "sh"]

    def used(self):
        return int((self.path / ("memory.usage_in_bytes" if self.v1 else "memory.current")).read_text())

    def set(self, limit):
        (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(limit))

    def _word(self, file, name):
        words = (self.path / file).read_text().split()
        return int(words[words.index(name) + 1]) if name in words else 0

    def pressed(self):
        """How often the limit was met."""
        return int((self.path / "memory.failcnt").read_text()) if self.v1 else self._word("memory.events", "max")

    def kills(self):
        return self._word("memory.oom_control" if self.v1 else "memory.events", "oom_kill")

    def __exit__(self, *_):
        for pid in (self.path / "cgroup.procs").read_text().split():
            (self.path.parent / "cgroup.procs").write_text(pid)
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)
