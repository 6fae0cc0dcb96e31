"""Workers that stay between commands: `harness up`, runs that use them, `harness down`, and whatever ends them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

import harness as api
from harness.record.runs import list_runs

QUIET = ("--no-calibrate", "--telemetry", 0)

TRAINING = """
from harness import Setting, Suite, dataset, mlp, sgd

suite = Suite(
    name="training",
    base=Setting(
        dataset=dataset("mnist5k", take=600), model=mlp(8), optimizer=sgd(0.1), loss="categorical_crossentropy",
        batch_size=50, epochs=2,
    ),
    repeats=2,
)
"""

OWN = """
import os
import time
from pathlib import Path

from beside import FACTOR
from harness import Setting, Suite, function


def work(trial, gate=None):
    while gate is not None and not Path(gate).exists():
        time.sleep(0.02)
    return {"loss": FACTOR * float(Path("number.txt").read_text()) + float(os.environ.get("ADDED", "0"))}


suite = Suite(name="own", base=Setting(workload=function(work, kind="workload")), repeats=3)
"""


@pytest.fixture(scope="module")
def residents(harness: Any) -> Iterator[Any]:
    """The command, with workers for TensorFlow kept for it."""
    for name, text in (("training.py", TRAINING), ("own.py", OWN), ("beside.py", "FACTOR = 2"), ("number.txt", "5")):
        (harness.folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(harness.temporary))
        said = harness("up", "training.py")
        assert said.returncode == 0, said.stderr
        assert "resident workers are up: process " in said.stdout
        yield harness
        harness("down", "--now")


def runs(residents: Any, suite: str, *words: object, **environment: str) -> Any:
    """Run a suite on the resident workers, and return what was recorded."""
    said = residents("run", f"{suite}.py", *QUIET, *words, **environment)
    assert said.returncode == 0, said.stderr
    assert "on resident workers (harness up, process " in said.stdout
    return api.load(residents.run_of(suite).folder)


def losses(results: Any) -> set[float]:
    return set(results.epochs["loss"])


def test_a_used_worker_gives_to_the_last_bit_what_a_fresh_one_gave(residents: Any) -> None:
    fresh, used = runs(residents, "training"), runs(residents, "training")
    assert fresh.trials["worker_trials_before"].min() == 0
    assert used.trials["worker_trials_before"].min() > 0
    assert set(used.trials["warmth"]) == {"warm"}
    columns = ["seed", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    first, second = (_sorted(one)[columns] for one in (fresh, used))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def _sorted(results: Any) -> pd.DataFrame:
    epochs = results.epochs.merge(results.trials[["trial_id", "seed"]], on="trial_id")
    return epochs.sort_values(["seed", "epoch"]).reset_index(drop=True)


def test_each_run_has_readings_nodes_and_calibration_of_its_own(residents: Any) -> None:
    began = pd.Timestamp.now(tz="UTC")
    said = residents("run", "training.py")
    assert said.returncode == 0, said.stderr
    results = api.load(residents.run_of("training").folder)
    assert results.nodes["calibration"].notna().all()
    assert set(results.telemetry["node"]) == set(results.nodes["node"])
    assert results.telemetry["time"].min() > began


def test_what_changed_beside_a_suite_since_the_last_run_is_seen(residents: Any) -> None:
    assert losses(runs(residents, "own")) == {10.0}
    (residents.folder / "beside.py").write_text("FACTOR = 30")  # another size: times may be the same
    (residents.folder / "number.txt").write_text("7")
    assert losses(runs(residents, "own", ADDED="0.5")) == {210.5}
    assert losses(runs(residents, "own")) == {210.0}


def test_a_run_is_in_the_folder_of_its_command(residents: Any) -> None:
    below = residents.folder / "below"
    below.mkdir()
    (below / "number.txt").write_text("1")
    said = replace(residents, folder=below)("run", "../own.py", *QUIET, "--results", "../results")
    assert said.returncode == 0, said.stderr
    assert losses(api.load(residents.run_of("own").folder)) == {30.0}


def test_one_run_at_a_time_uses_them_and_a_killed_one_gives_them_back(residents: Any) -> None:
    gate = residents.folder / "gate"
    first = residents.start("run", "own.py", *QUIET, "--set", f"workload.gate='{gate}'", "--set", "repeats=4")
    residents.wait(first, lambda: _state(residents) == "running")
    second = residents("run", "own.py", *QUIET)
    assert second.returncode == 2
    assert f"used by process {first.pid} (" in second.stderr
    assert "--no-resident" in second.stderr
    assert residents("down").returncode == 2
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert losses(runs(residents, "own")) == {210.0}


def _state(residents: Any) -> str | None:
    from harness.schedule.resident import place

    state = place.state()
    return None if state is None else str(state["state"])


def test_what_would_not_be_the_same_is_refused_with_what_differs(residents: Any) -> None:
    said = residents("run", "training.py", *QUIET, OMP_NUM_THREADS="3")
    assert said.returncode == 2
    assert "OMP_NUM_THREADS: not set there, 3 here" in said.stderr
    assert "`harness down`, then `harness up`" in said.stderr


def test_what_does_not_fit_goes_on_workers_of_its_own_and_says_so(residents: Any) -> None:
    said = residents("run", "training.py", "--address", "127.0.0.1:9", "--set", "repeats=1")
    assert "but not used: --address 127.0.0.1:9 is elsewhere" in said.stdout
    inline = residents("run", "own.py", "--inline", *QUIET)
    assert inline.returncode == 0, inline.stderr
    assert "resident" not in inline.stdout


def test_up_says_that_they_are_up(residents: Any) -> None:
    assert "are up already: process " in residents("up").stdout


def test_nothing_is_left_once_they_are_down(residents: Any) -> None:
    assert "resident workers are ended: process " in residents("down").stdout
    assert residents.left(patience_s=0) == []
    assert residents("down").stdout == "no resident workers are up\n"


def test_a_run_whose_workers_are_lost_with_their_keeper_keeps_what_it_has(residents: Any) -> None:
    gate = residents.folder / "never"
    assert residents("up", "own.py", "--idle", "5m").returncode == 0
    words = ("--set", f"workload.gate=None,'{gate}'", "--set", "repeats=1", "--results", "lost")
    run = residents.start("run", "own.py", *QUIET, *words)
    residents.wait(run, lambda: any(one.counts for one in list_runs(residents.folder / "lost")))
    from harness.schedule.resident import place

    state = place.state()
    assert state is not None
    os.kill(state["pid"], signal.SIGKILL)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 75
    assert "the resident workers were lost in the middle of the run" in out
    assert "Ended early: what ran the trials was lost. Go on:" in out
    assert residents("down").stdout == "no resident workers are up\n"
    assert residents.left() == []
    (left,) = list_runs(residents.folder / "lost")
    assert (left.counts, left.state) == ({"completed": 1}, "preempted")
