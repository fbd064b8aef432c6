#!/usr/bin/python3
"""Goal: a simulation is a function of its options: the same seed gives the same trace, whatever the compiler did.

Method: run each algorithm in `gadabout sim` twice in the build under test (sanitizers), once in the release build (-O2)
and once in a build without optimisation made here; all trace_sha256 must be equal. Another seed must give another.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import harness

ALGORITHMS = ["digest:streams=path,sync_every=10", "digest:streams=single,sync_every=50", "gossip", "gossip:mode=sync",
              "walk", "local:every=20"]
OPTIONS = ["sim", "-n", "12", "--topology", "er:p=0.3", "--task", "logistic", "--data", "data/w8a", "--split",
           "sizes:ratio=1.5", "--virtual-time", "300", "--baselines", "off", "--json"]


def trace(program, algorithm, seed):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, *OPTIONS, "--algorithm", algorithm, "--seed", str(seed), "--out", f"{folder}/run"],
                              capture_output=True, text=True, timeout=100, env=harness.clean_environment())
    harness.check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)["trace_sha256"]


def build_unoptimised(folder):
    for command in (["cmake", "-S", ".", "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0"],
                    ["cmake", "--build", folder, "--target", "gadabout"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        harness.check(done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:])
    return os.path.join(folder, "gadabout")


def the_trace_depends_on_the_seed_alone():
    release = pathlib.Path("build/release/gadabout")
    if not release.exists():
        harness.skip("there is no release build to compare with")
    with tempfile.TemporaryDirectory() as folder:
        programs = [harness.program(), harness.program(), str(release.resolve()), build_unoptimised(folder)]
        for algorithm in ALGORITHMS:
            traces = [trace(program, algorithm, 1) for program in programs]
            print(f"{algorithm:40} {traces[0][:16]} in {len(traces)} runs")
            harness.check(len(set(traces)) == 1, f"{algorithm}: traces differ: {traces}")
            harness.check(trace(programs[2], algorithm, 2) != traces[0], f"{algorithm}: the seed does not matter")
    print("the same trace in every build")


if __name__ == "__main__":
    harness.main([the_trace_depends_on_the_seed_alone])
