"""A cpu quota for processes, by cgroups of version 1 or 2."""
import os
import pathlib
import time

from network import need


class Quota:
    """Processes in it get `share` of one processor."""

    def __init__(self, share):
        need("cpu quota")
        old = pathlib.Path("/sys/fs/cgroup/cpu")
        self.v1 = (old / "cpu.cfs_quota_us").exists()
        self.path = (old if self.v1 else pathlib.Path("/sys/fs/cgroup")) / f"gad{os.getpid()}q{id(self)}"
        self.share = share

    def __enter__(self):
        if not self.v1:
            (self.path.parent / "cgroup.subtree_control").write_text("+cpu")
        self.path.mkdir()
        period = 100000
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
