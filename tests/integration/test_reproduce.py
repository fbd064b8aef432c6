#!/usr/bin/python3
"""Goal: `gadabout reproduce` repeats a study as a person runs it, and its exit status, verdict lines and files agree.

Method: the quick studies, whose files are read back; planted data on which a claim cannot hold; Ctrl-C in the middle of
a long one; a PATH without gnuplot; words that are no study.
"""
import csv
import json
import os
import pathlib
import shutil
import signal
import xml.dom.minidom

from harness import Workplace, build_kind, check, clean_environment, finish, main, run, wait_for

FILES = {"runs.csv", "curves.csv", "claims.json", "plot.gp"}
TIMEOUT = 280


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def check_files(folder, done, study):
    """The files tell the same as the output; returns the verdicts."""
    names = {p.name for p in folder.iterdir()}
    check(FILES <= names and not [n for n in names if "tmp" in n], f"{folder} holds {names}")
    claims = json.loads((folder / "claims.json").read_text())
    check(claims["study"] == study and claims["quick"], f"claims.json says {claims}")
    verdicts = [c["verdict"] for c in claims["claims"]]
    lines = done.stdout.splitlines()
    for claim in claims["claims"]:
        line = f"{claim['verdict']:13}  {claim['claim']}: {claim['measured']}"
        check(line in lines, f"no line '{line}' in\n{done.stdout}")
    runs, curves = read_csv(folder / "runs.csv"), read_csv(folder / "curves.csv")
    check(len(runs) > 1 and all(r["state"] == "done" for r in runs), f"runs {[(r['run'], r['state']) for r in runs]}")
    for row in runs:
        points = [c for c in curves if (c["panel"], c["run"]) == (row["panel"], row["run"])]
        check(points and points[-1]["loss"] == row["loss"], f"the curve of {row['run']} does not end where the run does")
        times = [float(p["virtual_s"]) for p in points]
        check(times == sorted(times), f"the curve of {row['run']} goes back in time")
    if shutil.which("gnuplot"):
        picture = xml.dom.minidom.parse(str(folder / "plot.svg"))
        check(picture.documentElement.tagName == "svg", "plot.svg is no svg")
        check(len(picture.getElementsByTagName("path")) > 2 * len(runs), "plot.svg has too few lines")
    return verdicts


def a_quick_study_is_judged_and_written():
    # what takes seconds at -O2 takes minutes with a sanitizer
    for study in ["hsgd"] if build_kind() else ["digest", "delicoco", "def", "hsgd", "async", "bytes"]:
        with Workplace() as place:
            folder = place.path / "run"
            done = run(["reproduce", study, "--quick", "--out", str(folder)], timeout=TIMEOUT)
            check(done.returncode == 0, f"{study} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            verdicts = check_files(folder, done, study)
            check(set(verdicts) == {"holds"}, f"{study}: {verdicts}, and exit status 0")


def planted_data(root):
    """phishing of two features that say nothing, and the same rows everywhere: no grouping can be better."""
    (root / "phishing").mkdir(parents=True)
    (root / "phishing" / "phishing").write_text("".join(f"{i % 2} 1:1 68:1\n" for i in range(1000)))


def a_claim_that_does_not_hold_gives_exit_3():
    with Workplace() as place:
        planted_data(place.path / "sets")
        folder = place.path / "run"
        done = run(["reproduce", "hsgd", "--quick", "--data-root", str(place.path / "sets"), "--out", str(folder)],
                   timeout=TIMEOUT)
        check(done.returncode == 3, f"ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        verdicts = check_files(folder, done, "hsgd")
        check("does not hold" in verdicts, f"{verdicts}, and exit status 3")


def children_of(pid):
    path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(c) for c in path.read_text().split()] if path.exists() else []


def ctrl_c_leaves_what_is_done():
    with Workplace() as place:
        folder = place.path / "run"
        process = place.start(["reproduce", "digest", "--out", str(folder)])
        children = wait_for(lambda: children_of(process.pid), "runs", process)
        process.send_signal(signal.SIGINT)  # to the parent alone: it must tell its children
        output, errors = finish(process)
        check(process.returncode == 130, f"ended with {process.returncode}:\n{output}{errors}")
        check(not [c for c in children if pathlib.Path(f"/proc/{c}").exists()], "a run outlives the study")
        check(FILES <= {p.name for p in folder.iterdir()}, f"{folder} holds {list(folder.iterdir())}")
        verdicts = {c["verdict"] for c in json.loads((folder / "claims.json").read_text())["claims"]}
        check(verdicts == {"unknown"}, f"an incomplete study says {verdicts}")
        check("not run" in output and "cut short" in output, f"the table hides what is missing:\n{output}")


def without_gnuplot_there_is_a_line_instead():
    with Workplace() as place:
        folder = place.path / "run"
        planted_data(place.path / "sets")
        process = place.start(["reproduce", "hsgd", "--data-root", str(place.path / "sets"), "--out", str(folder)],
                              env={**clean_environment(), "PATH": str(place.path)})
        output, errors = finish(process, timeout=TIMEOUT)
        check("plot not drawn: gnuplot is not installed; apt install gnuplot-nox" in output, output + errors)
        check(not (folder / "plot.svg").exists(), "plot.svg without gnuplot")
        check(process.returncode in (0, 3), f"ended with {process.returncode}")


def mistakes_are_one_line():
    with Workplace() as place:
        for arguments, said in [
                (["reproduce"], "which study?"),
                (["reproduce", "digets"], "did you mean 'digest'?"),
                (["reproduce", "nothing"], "there are digest, delicoco"),
                (["reproduce", "digest", "delicoco", "--nodes", "3"], "--nodes: not an option of gadabout reproduce"),
                (["reproduce", "digest", "--data-root", str(place.path)], "does not hold w8a"),
        ]:
            done = run(arguments, cwd=place.path)
            check(done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1,
                  f"{arguments}: {done.returncode} {done.stderr}")
            check(not list(place.path.iterdir()), f"{arguments} left {list(place.path.iterdir())}")
        os.mkdir(place.path / "full")
        (place.path / "full" / "file").write_text("x")
        done = run(["reproduce", "hsgd", "--out", str(place.path / "full")])
        check(done.returncode == 2 and "is not empty" in done.stderr, f"{done.returncode} {done.stderr}")


if __name__ == "__main__":
    main([mistakes_are_one_line, a_claim_that_does_not_hold_gives_exit_3, ctrl_c_leaves_what_is_done,
          without_gnuplot_there_is_a_line_instead, a_quick_study_is_judged_and_written])
