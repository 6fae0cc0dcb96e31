"""A run whose sampler is killed and whose core is taken away in its middle: no trial minds, and the rows say so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.domain.doubts import DOUBTS
from harness.record.runs import list_runs
from harness.telemetry.cores import shares

TRIALS = 7
PAUSE_S = 0.6
SUITE = f"""
import time
from harness import Setting, Suite, function, product

def work(trial, recorder):
    for epoch in recorder.epochs():
        with epoch.training():
            over = time.perf_counter() + {PAUSE_S / 3}
            while time.perf_counter() < over:
                pass
        epoch.report(samples=100, val_loss=1.0)

suite = Suite(
    name="busy",
    base=Setting(workload=function(work, kind="workload"), epochs=3),
    grid=product(label=[f"n{{number}}" for number in range({TRIALS})]),
)
"""
BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def samplers(mark: str) -> list[int]:
    """Return the sampling processes of the command that carries a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and b"harness.telemetry.sampler" in (entry / "cmdline").read_bytes().split(b"\0")
                and mark.encode() in (entry / "environ").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def disturbed(harness: Any) -> tuple[Path, tuple[float, float]]:
    """A run, and the Unix times between which its one worker's core was also another's."""
    (harness.folder / "busy.py").write_text(SUITE)
    core = shares(1)[0][0]
    driver = harness.start("run", "busy.py", "--workers", "1", "--telemetry", "20", "--no-calibrate")

    def recorded(count: int) -> bool:
        return sum(sum(run.counts.values()) for run in list_runs(harness.folder / "results")) >= count

    harness.wait(driver, lambda: recorded(2))
    for pid in samplers(harness.mark):
        os.kill(pid, signal.SIGKILL)
    harness.wait(driver, lambda: recorded(3))
    busy = subprocess.Popen([sys.executable, "-c", BUSY, str(core)])
    began = time.time()
    try:
        harness.wait(driver, lambda: recorded(6))
    finally:
        ended = time.time()
        busy.kill()
        busy.wait()
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 0, out + err
    return harness.run_of("busy").folder, (began, ended)


def test_no_trial_minds_that_the_sampler_was_killed_and_the_gap_is_told(disturbed: Any) -> None:
    folder, _ = disturbed
    trials = pd.read_parquet(folder / "trials.parquet")
    assert trials["status"].tolist() == ["completed"] * TRIALS
    (sampling,) = json.loads((folder / "run.json").read_text())["sampling"].values()
    assert any("ended with status -9" in gap["reason"] for gap in sampling["gaps"])


def test_trials_beside_a_foreign_load_carry_the_warning_and_those_with_little_of_it_do_not(disturbed: Any) -> None:
    folder, (began, ended) = disturbed
    trials = pd.read_parquet(folder / "trials.parquet")
    started = trials["started_at"].astype("int64") / 1e6
    over = trials["ended_at"].astype("int64") / 1e6
    beside = (np.minimum(over, ended) - np.maximum(started, began)) / (over - started)
    contended = trials["warnings"].map(lambda names: "contended" in list(names))
    assert (beside > 0.9).sum() >= 2
    assert contended[beside > 0.9].all()
    assert (trials.loc[beside > 0.9, "foreign_percent"] > 10).all()  # a lower bound; 50 where nothing else runs
    over_it = trials["foreign_percent"] > DOUBTS["contended"].threshold  # others may load this machine meanwhile
    assert contended.eq(over_it).all()


def test_what_was_not_there_is_null_with_its_reason_told_once(disturbed: Any) -> None:
    folder, _ = disturbed
    trials = pd.read_parquet(folder / "trials.parquet")
    assert trials["gpu_power_j"].isna().all()
    assert trials["gpu_counter_j"].isna().all()
    (sampling,) = json.loads((folder / "run.json").read_text())["sampling"].values()
    assert all(reason for reason in sampling["absent"].values())
