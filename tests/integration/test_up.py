#!/usr/bin/env python3
"""`up` trains one classifier with eight agents that hold only two kinds of clothing each.

Goal: what the README promises holds: together is nearly as good as all data in one place, the run directory is
whole, --json is JSON. Method: real runs of the main job; the files are read as another tool would."""
import json
import os
import pathlib
import re
import signal
import time

from harness import (FASHION, Workplace, check, check_run_directory, finish, main, metrics, run, wait_for,
                     wait_for_training)

DIM = 7850  # softmax, 784 features and a bias, 10 classes
STEPS = 4000   # the job is that of ./quickstart
MAIN_JOB = ["up", "-n", "8", "--algorithm", "digest:streams=path,sync_every=3", "--data", FASHION, "--split",
            "label:k=2", "--pace", "200"]


def together_is_as_good_as_pooled():
    with Workplace() as place:
        folder = str(place.path / "run")
        done = run([*MAIN_JOB, "--steps", str(STEPS), "--step-size", f"cosine:value=0.1,steps={STEPS}",
                    "--json", "--out", folder])
        check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
        check(done.stderr == "", f"--json says more: {done.stderr}")
        summary = json.loads(done.stdout)
        check(summary == check_run_directory(folder, DIM), "stdout is not summary.json")
        check(summary["stopped_by"] == "steps" and summary["lost"] == [], f"{summary['stopped_by']} {summary['lost']}")
        check(STEPS <= summary["steps_total"] / 8 <= 1.5 * STEPS, f"{summary['steps_total']} steps")
        alone, together, pooled = (summary[k] for k in ("accuracy_alone", "accuracy", "accuracy_pooled"))
        print(f"     alone {alone:.4f} together {together:.4f} pooled {pooled:.4f}")
        check(alone < 0.3, f"alone reached {alone}: the split is not what it should be")
        check(together >= pooled - 0.02, f"together {together}, pooled {pooled}")
        check(summary["model_transfers"] > 0 and summary["bytes_sent"] > 4 * DIM * summary["model_transfers"],
              f"{summary['bytes_sent']} bytes for {summary['model_transfers']} models")
        check(0 < summary["memory_per_agent_max"], "memory is unknown")
        lines = metrics(folder)
        check({m["node"] for m in lines} == set(range(8)), "a node has no metrics")
        check(all(a["time_s"] <= b["time_s"] for a, b in zip(lines, lines[1:])), "times of metrics go back")


def what_was_saved_is_what_was_told():
    """The saved model evaluates to the summary's figures, and config.yml starts the same run again."""
    with Workplace() as place:
        folder = str(place.path / "first")
        done = run([*MAIN_JOB, "--steps", "300", "--baselines", "off", "--seed", "7", "--out", folder])
        check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
        summary = check_run_directory(folder, DIM)
        again = run(["eval", "--model", f"{folder}/model.safetensors", "--json"])
        check(again.returncode == 0, f"eval: {again.stderr}")
        check(abs(json.loads(again.stdout)["accuracy"] - summary["accuracy"]) < 1e-6, f"eval says {again.stdout}")
        second = str(place.path / "second")
        repeat = run(["up", "--config", f"{folder}/config.yml", "--out", second])
        check(repeat.returncode == 0, f"config.yml is not usable: {repeat.stderr}")
        new = check_run_directory(second, DIM)
        same = ("algorithm", "topology", "nodes", "task", "data", "split", "seed")
        check(all(new[k] == summary[k] for k in same), "config.yml made another experiment")
        check(new["accuracy_alone"] is None and summary["accuracy_alone"] is None, "baselines were off")


def a_walking_model_shares_the_steps():
    with Workplace() as place:
        folder = str(place.path / "run")
        done = run(["up", "-n", "4", "--algorithm", "walk", "--data", FASHION, "--steps", "200", "--baselines", "off",
                    "--json", "--out", folder])
        check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
        summary = json.loads(done.stdout)
        check(summary["stopped_by"] == "steps", f"stopped by {summary['stopped_by']}")
        check(summary["steps_total"] >= 800 and summary["accuracy"] > 0.5, f"{summary}")


def a_missed_target_is_status_3():
    with Workplace() as place:
        folder = str(place.path / "run")
        done = run(["up", "-n", "2", "--steps", "50", "--target-accuracy", "0.999", "--baselines", "off", "--out",
                    folder])
        check(done.returncode == 3, f"exit status {done.returncode}: {done.stderr}")
        check_run_directory(folder, DIM)


def control_c_leaves_a_whole_directory():
    """SIGINT to the whole process group, as a terminal does."""
    with Workplace() as place:
        folder = str(place.path / "run")
        process = place.start(["up", "-n", "8", "--steps", "0", "--report-every", "0.2", "--out", folder],
                              start_new_session=True)
        pids = wait_for_training(process, folder, 8)
        began = time.monotonic()
        for pid in [process.pid, *pids.values()]:
            try:
                os.kill(pid, signal.SIGINT)
            except ProcessLookupError:
                pass
        out, err = finish(process, 20)
        print(f"     ended after {time.monotonic() - began:.2f} s")
        check(process.returncode == 130, f"exit status {process.returncode}: {err}")
        summary = check_run_directory(folder, DIM)
        check(summary["stopped_by"] == "interrupt" and summary["lost"] == [], f"{summary['lost']}")
        check("stopped by interrupt" in out, f"the table is missing: {out}")


def agents_started_by_hand_find_each_other():
    """Three agents: one listens, two join it; all finish, each with its own directory."""
    with Workplace() as place:
        common = ["-n", "3", "--data", FASHION, "--steps", "500", "--report-every", "0.2"]
        first = place.start(["agent", *common, "--listen", "127.0.0.1:0", "--out", str(place.path / "0")])
        line = first.stderr.readline()
        check(line.startswith("listening on 127.0.0.1:"), f"first line: {line}")
        address = line.split()[2].rstrip(",")
        rest = [place.start(["agent", *common, "--join", address, "--out", str(place.path / str(i))])
                for i in (1, 2)]
        for process in [first, *rest]:
            out, err = finish(process, 60)
            check(process.returncode == 0, f"exit status {process.returncode}: {err}")
            check("500 steps" in out and err.count("training begins at place") == 1, f"{out} {err}")
        for i in range(3):
            summary = check_run_directory(place.path / str(i), DIM)
            check(summary["steps_total"] == 500 and summary["command"] == "agent", f"{summary}")
            check(summary["accuracy"] > 0.5, f"accuracy {summary['accuracy']}")


def an_agent_that_waits_can_be_interrupted():
    with Workplace() as place:
        folder = place.path / "run"
        process = place.start(["agent", "-n", "3", "--report-every", "0.1", "--out", str(folder)])
        while "waiting for members: 1 of 3 known" not in process.stderr.readline():
            check(process.poll() is None, "it ended by itself")
        process.send_signal(signal.SIGTERM)
        out, _ = finish(process, 20)
        check(process.returncode == 130, f"exit status {process.returncode}")
        summary = json.loads(pathlib.Path(folder, "summary.json").read_text())
        check(summary["stopped_by"] == "interrupt" and summary["steps_total"] == 0, f"{summary}")
        check(not pathlib.Path(folder, "model.safetensors").exists(), "a model that nobody has trained")
        check("nothing was trained" in out, f"{out}")


def a_pace_is_kept():
    with Workplace() as place:
        folder = str(place.path / "run")
        done = run(["up", "-n", "2", "--pace", "50", "--steps", "25", "--baselines", "off", "--out", folder])
        check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
        summary = check_run_directory(folder, DIM)
        check(summary["steps_total"] >= 50, f"{summary['steps_total']} steps")
        trained = float(re.search(r"\((\d+\.\d) s of training\)", done.stdout).group(1))
        check(trained >= 0.4, f"25 steps at 50 a second took {trained} s")  # the first one is due at once
        check(done.stdout.endswith(f"\nresults in {folder}\n"), f"last line: {done.stdout}")


def a_slow_pace_does_not_hold_up_the_end():
    """A step every 20 seconds: at the end nobody waits for the next one."""
    with Workplace() as place:
        folder = str(place.path / "run")
        done = run(["up", "-n", "2", "--pace", "0.05", "--time", "1", "--baselines", "off", "--out", folder])
        check(done.returncode == 0, f"exit status {done.returncode}: {done.stderr}")
        summary = check_run_directory(folder, DIM)
        check(summary["lost"] == [] and "average of 2 nodes" in done.stdout, f"{summary['lost']} {done.stdout}")


def stop_agents(process, folder):
    """As if they were too busy to listen."""
    for pid in wait_for_training(process, folder, 2).values():
        os.kill(pid, signal.SIGSTOP)


def a_run_without_any_model_fails():
    with Workplace() as place:
        folder = str(place.path / "run")
        process = place.start(["up", "-n", "2", "--time", "2", "--report-every", "0.1", "--out", folder])
        stop_agents(process, folder)
        out, err = finish(process, 60)
        check(process.returncode == 1 and out == "", f"exit status {process.returncode}: {out} {err}")
        last = err.strip().splitlines()[-1]
        check(last.startswith("gadabout: no agent left a model") and "did not stop in time" in last, f"{last}")
        check(not pathlib.Path(folder, "model.safetensors").exists(), "a model that nobody has trained")
        check(not pathlib.Path(folder, "summary.json").exists(), "a failed run has a summary")


def a_second_control_c_kills():
    with Workplace() as place:
        folder = pathlib.Path(place.path / "run")
        process = place.start(["up", "-n", "2", "--steps", "0", "--report-every", "0.1", "--out", str(folder)])
        stop_agents(process, folder)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two signals at once may be taken for one
        process.send_signal(signal.SIGINT)
        _, err = finish(process, 60)
        print(f"     ended after {time.monotonic() - began:.2f} s")
        check(process.returncode == 130, f"exit status {process.returncode}: {err}")
        summary = json.loads((folder / "summary.json").read_text())
        check([l["how"] for l in summary["lost"]] == ["killed by a second interrupt"] * 2, f"{summary['lost']}")
        check(summary["stopped_by"] == "interrupt" and summary["accuracy"] is None, f"{summary}")
        check(not (folder / "model.safetensors").exists(), "a model that nobody has written")


def wait_for_words(process, words):
    """Reads stderr to the line with words."""
    while words not in process.stderr.readline():
        check(process.poll() is None, f"it ended without saying '{words}'")


def control_c_during_the_baselines_skips_them():
    """Their model is large enough for the baselines to take much longer than the signal."""
    job = ["--task", "mlp:hidden=256", "--batch", "512", "--time", "3", "--baselines", "on"]
    for command, words in (("up", "training for comparison"), ("agent", "listening on")):
        with Workplace() as place:
            folder = pathlib.Path(place.path / "run")
            count = "4" if command == "up" else "1"
            process = place.start([command, "-n", count, *job, "--out", str(folder)])
            wait_for_words(process, words)
            wait_for((folder / "model.safetensors").exists, "the model", process)
            process.send_signal(signal.SIGINT)
            out, err = finish(process, 60)
            check(process.returncode == 130, f"{command}: exit status {process.returncode}: {err}")
            summary = check_run_directory(folder, 784 * 256 + 256 + 2560 + 10)
            check(summary["stopped_by"] == "interrupt", f"{command}: {summary['stopped_by']}")
            check(summary["accuracy_alone"] is None and summary["accuracy"] is not None, f"{command}: {summary}")
            check("stopped by interrupt" in out, f"{command}: {out}")


if __name__ == "__main__":
    main([together_is_as_good_as_pooled, what_was_saved_is_what_was_told, a_walking_model_shares_the_steps,
          a_missed_target_is_status_3, control_c_leaves_a_whole_directory, agents_started_by_hand_find_each_other,
          an_agent_that_waits_can_be_interrupted, a_pace_is_kept, a_slow_pace_does_not_hold_up_the_end,
          a_run_without_any_model_fails, a_second_control_c_kills, control_c_during_the_baselines_skips_them])
