"""Runs that do not get to their end: killed, interrupted, told to end, out of disk. What was measured stays, and
`--resume` does the rest."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness as api
from harness.record.runs import list_runs

FUNCTIONS = Path(__file__).with_name("functions.py")
TRIALS = 14

COUNT = ("--set", f"repeats={TRIALS}", "--set", "timeout=600", "--no-calibrate")
INLINE = ("--inline", "--telemetry", "0", "--no-calibrate")
STEADY = ("--set", "workload.mode=ok", "--set", "workload.pause=0.1", *COUNT)  # 0.3 s a trial


ENDLESS = ("--set", "workload.mode=hang", *COUNT)


def gated(gate: Path) -> list[str]:
    """Return what makes a run stop after 4 trials, its workers busy with the next, until there is a file `gate`."""
    return ["--set", f"workload.mode='gate {gate}'", *COUNT]


def once_each(folder: Path, *, trials: int = TRIALS, epochs: int = 3) -> None:
    """Check that every trial is recorded exactly once, with all its epochs."""
    results = api.load(folder)
    assert len(results.trials) == trials
    assert results.trials["trial_id"].nunique() == trials
    assert set(results.trials["status"]) == {"completed"}
    assert len(results.epochs) == trials * epochs
    assert not results.epochs.duplicated(["trial_id", "epoch"]).any()


def go_on(said: str) -> str:
    """Return the command that a run's end tells the user to go on with."""
    match = re.search(r"Go on:  (.*)", said)
    assert match, said
    return match[1]


# kill -9 of the driver. ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(harness: Any) -> dict[str, Any]:
    """A run whose driver was killed in its middle, and what other processes read of it meanwhile and afterwards."""
    gate = harness.folder / "gate"
    driver = harness.start("run", FUNCTIONS, *gated(gate))
    try:
        harness.wait(driver, lambda: _recorded(harness.folder / "results") >= 4)
        run = harness.run_of("functions")
        found = {
            "folder": run.folder,
            "state": run.state,
            "shown": harness.here("show"),
            "loaded": api.load(run.folder),
            "second driver": harness("run", FUNCTIONS, *gated(gate), "--resume"),
        }
    finally:
        driver.kill()
        driver.communicate()
    gate.touch()
    found["dead"] = harness.run_of("functions")
    return found


def test_a_run_can_be_read_while_it_goes_on(killed: dict[str, Any]) -> None:
    assert killed["state"] == "running"
    assert len(killed["loaded"].trials) == 4
    assert len(killed["loaded"].epochs) == 12
    assert killed["shown"].returncode == 0
    assert "Trials: 4 completed, 10 left (running)" in killed["shown"].stdout


def test_a_second_driver_is_refused_while_the_first_lives(killed: dict[str, Any]) -> None:
    said = killed["second driver"]
    assert said.returncode == 2
    assert "this run belongs to process" in said.stderr
    assert "which is still running; wait for it or stop it first" in said.stderr


def test_what_was_recorded_before_the_kill_is_there_after_it(killed: dict[str, Any]) -> None:
    assert killed["dead"].state == "dead"
    assert killed["dead"].counts == {"completed": 4}


def test_a_killed_driver_leaves_nothing_behind(harness: Any, killed: dict[str, Any]) -> None:
    assert harness.left() == []


def test_resume_after_a_kill_runs_every_trial_exactly_once(harness: Any, killed: dict[str, Any]) -> None:
    recorded = api.load(killed["folder"]).epochs
    said = harness.again(killed["dead"].hint)
    assert said.returncode == 0, said.stderr
    assert "14 trials of 1 setting, 4 recorded already" in said.stdout
    once_each(killed["folder"])
    after = api.load(killed["folder"]).epochs
    kept = after[after["trial_id"].isin(recorded["trial_id"].unique())]
    assert len(kept) == len(recorded)
    assert set(kept["train_s"]) == set(recorded["train_s"])  # not measured anew


# Ctrl-C and SIGTERM. ------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_finished_and_says_how_to_go_on(harness: Any) -> None:
    gate, results = harness.folder / "gate of ctrl-c", harness.folder / "interrupted"
    driver = harness.start("run", FUNCTIONS, *gated(gate), "--results", "interrupted")
    harness.wait(driver, lambda: _recorded(results) >= 4)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the driver and whatever is in its group
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert "SIGINT: ending, what has finished is kept" in err
    assert "Ended early: interrupted." in out
    assert "Traceback" not in out + err
    assert harness.left() == []
    assert _recorded(results) == 4
    gate.touch()
    said = harness.again_here(go_on(out), "--inline", "--telemetry", "0")
    assert said.returncode == 0, said.stderr
    assert "4 recorded already" in said.stdout
    once_each(results)


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing(harness: Any) -> None:
    gate, results = harness.folder / "never", harness.folder / "left"
    driver = harness.start("run", FUNCTIONS, *gated(gate), "--results", "left")
    harness.wait(driver, lambda: _recorded(results) >= 4)
    for _ in range(2):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(0.02)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert "Traceback" not in out + err
    assert harness.left() == []
    assert _recorded(results) == 4


def test_that_it_left_at_once_is_told_below_what_was_drawn(monkeypatch: pytest.MonkeyPatch, say: Any) -> None:
    class Drawing:
        def close(self) -> None:
            print("drawn no more", file=sys.stderr)

    def left(*words: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.terminal.live.make_display", lambda quiet_stdout: Drawing())
    monkeypatch.setattr("harness.pipeline.run", left)
    said = say("run", FUNCTIONS, *STEADY, "--inline")
    assert said.code == 130
    assert said.err.startswith("drawn no more\nharness: left at once; ")


def test_ctrl_c_before_the_first_trial_is_no_error(harness: Any) -> None:
    driver = harness.start("run", FUNCTIONS, *ENDLESS, "--results", "early")
    harness.wait(driver, lambda: (harness.folder / "early").exists())
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert f"Trials: none finished, {TRIALS} not run" in out
    assert "Traceback" not in out + err
    assert harness.left() == []


def test_sigterm_while_ray_starts_is_answered_at_once(harness: Any) -> None:
    driver = harness.start("run", FUNCTIONS, *ENDLESS, "--results", "starting")
    harness.wait(driver, lambda: (harness.folder / "starting").exists())
    time.sleep(1.0)
    driver.terminate()
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 75
    assert f"Trials: none finished, {TRIALS} not run" in out
    assert "Traceback" not in out + err
    assert harness.left() == []


# What the user sets as limits; in one process, since it is the loop that keeps them. ------------------------------


def test_a_budget_starts_no_trial_after_it_and_can_be_resumed(harness: Any) -> None:
    said = harness.here("run", FUNCTIONS, *STEADY, "--results", "budget", *INLINE, "--budget", "1s")
    assert said.returncode == 75
    assert "Ended early: the budget is used up." in said.stdout
    assert 1 <= _recorded(harness.folder / "budget") <= 4  # which took 0.9 s at least when the last one began


def test_max_fail_stops_after_so_many_failures(harness: Any) -> None:
    modes = ("--set", "workload.mode=raise,memory,nan", "--set", "repeats=4")
    said = harness.here("run", FUNCTIONS, *modes, "--results", "max_fail", *INLINE, "--max-fail", "2")
    assert said.returncode == 1
    assert "Ended early: --max-fail reached." in said.stdout
    assert _recorded(harness.folder / "max_fail") == 2


def test_failed_trials_are_run_again_with_resume_and_the_rest_are_not(harness: Any, tmp_path: Path) -> None:
    cause = tmp_path / "cause"
    words = ["run", FUNCTIONS, "--set", f"workload.mode=ok,'unless {cause}'", "--results", "retried", *INLINE]
    said = harness.here(*words)
    assert said.returncode == 1
    assert f"failed: FileNotFoundError: {cause} is not there" in said.stdout
    cause.touch()
    assert "--resume --retry failed" in said.stdout
    again = harness.here(*words, "--resume", "--retry", "failed")
    assert again.returncode == 0, again.stderr
    assert "2 trials of 2 settings, 1 recorded already" in again.stdout
    once_each(harness.folder / "retried", trials=2)


def test_a_retry_within_the_run_is_one_more_attempt(harness: Any) -> None:
    said = harness.here(
        "run", FUNCTIONS, "--set", "workload.mode=raise", "--results", "attempts", *INLINE, "--retry", "failed"
    )
    assert said.returncode == 1
    assert api.load(harness.folder / "attempts").trials["attempt"].tolist() == [2]


def test_where_keeps_the_trials_that_meet_it(harness: Any) -> None:
    modes = ("--set", "workload.mode=ok,raise", "--set", "repeats=3")
    where = ("--where", "workload.mode == 'ok'", "--where", "seed > 0")
    said = harness.here("run", FUNCTIONS, *modes, *where, "--results", "where", *INLINE, "--json")
    assert said.returncode == 0, said.stderr
    trials = api.load(harness.folder / "where").trials
    assert sorted(trials["seed"]) == [1, 2]
    assert set(trials["workload.mode"]) == {"ok"}


# A full disk. -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[[object, str], None]) -> Iterator[Path]:
    """A file system with room for 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    require(mounted.returncode == 0, "only root can mount a file system to fill")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_loses_nothing_and_the_run_goes_on_once_there_is_room(
    harness: Any, small_disk: Path
) -> None:
    many = 400
    words = ["run", FUNCTIONS, "--set", "workload.mode=ok", "--set", f"repeats={many}", "--results", small_disk]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(64 * 1024))
    said = harness(*words, *INLINE)
    assert said.returncode == 2
    assert f"{small_disk}/functions/" in said.stderr
    assert "(No space left on device)" in said.stderr
    assert "Traceback" not in said.stderr
    match = re.search(r"(\d+) finished trials are safe", said.stderr)
    assert match
    safe = int(match[1])
    assert 0 < safe < many
    assert len(api.load(small_disk).trials) == safe
    assert harness.here("show", "--results", small_disk).returncode == 0
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    again = harness.here(*words, *INLINE, "--resume")
    assert again.returncode == 0, again.stderr
    assert f"{safe} recorded already" in again.stdout
    once_each(small_disk, trials=many)


def test_a_log_that_may_not_grow_further_loses_nothing(harness: Any) -> None:
    many = 400
    words = ["run", FUNCTIONS, "--set", "workload.mode=ok", "--set", f"repeats={many}", "--results", "limited"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        said = harness(*words, *INLINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.returncode == 2
    assert "(File too large)" in said.stderr
    assert "Traceback" not in said.stderr
    safe = len(api.load(harness.folder / "limited").trials)
    assert f"{safe} finished trials are safe" in said.stderr
    again = harness.here(*words, *INLINE, "--resume")
    assert again.returncode == 0, again.stderr
    once_each(harness.folder / "limited", trials=many)


def _recorded(results: Path) -> int:
    return sum(sum(run.counts.values()) for run in list_runs(results))
