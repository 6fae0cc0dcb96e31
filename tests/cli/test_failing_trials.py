"""Trials that fail, each in its own way, in worker processes on Ray: results with a reason, beside the others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness as api
from harness import Setting, mlp, sgd
from harness.domain import sources
from harness.domain.suite import load_suite
from harness.domain.trial import Trial
from harness.plan import plan
from harness.schedule.launch import Launch
from harness.schedule.node import Node

FUNCTIONS = Path(__file__).with_name("functions.py")
MODES = ["ok", "raise", "memory", "exit", "nan", "die", "hang"]


@pytest.fixture(scope="module")
def answer(harness: Any) -> subprocess.CompletedProcess[str]:
    """One run of one trial of each kind."""
    said: subprocess.CompletedProcess[str] = harness("run", FUNCTIONS, *each_kind(harness.folder), "--no-calibrate")
    return said


def each_kind(folder: Path) -> list[str]:
    return ["--set", f"workload.mode={','.join(MODES)},'once {folder / 'killed'}'"]


@pytest.fixture(scope="module")
def trials(harness: Any, answer: subprocess.CompletedProcess[str]) -> Any:
    return (
        api.load(harness.run_of("functions").folder)
        .trials.set_index("workload.mode")
        .rename(lambda mode: mode.split()[0])
    )


def test_a_run_with_failed_trials_exits_with_1_and_no_traceback(answer: subprocess.CompletedProcess[str]) -> None:
    assert answer.returncode == 1
    assert "Traceback" not in answer.stdout + answer.stderr
    assert "Trials: 2 completed, 4 failed, 1 lost, 1 timeout" in answer.stdout


def test_every_trial_is_recorded_once(trials: Any) -> None:
    assert sorted(trials.index) == sorted([*MODES, "once"])


@pytest.mark.parametrize(
    ("mode", "status", "error"),
    [
        ("raise", "failed", "ValueError: the data went away"),
        ("memory", "failed", "out of memory"),
        ("exit", "failed", "SystemExit: this function has had enough"),
        ("nan", "failed", "diverged: loss is nan at epoch 2"),
        ("hang", "timeout", "timed out after 2 s"),
    ],
)
def test_a_failed_trial_says_why(trials: Any, mode: str, status: str, error: str) -> None:
    assert trials.loc[mode, "status"] == status
    assert trials.loc[mode, "error"] == error


def test_a_trial_that_always_ends_its_worker_is_lost_after_three_attempts(trials: Any) -> None:
    lost = trials.loc["die"]
    assert lost["status"] == "lost"
    assert "exit code 9" in lost["error"]
    assert lost["attempt"] == 3


def test_a_trial_whose_worker_is_killed_once_completes_at_the_second_attempt(trials: Any) -> None:
    assert trials.loc["once", "status"] == "completed"
    assert trials.loc["once", "attempt"] == 2


def test_the_others_complete(trials: Any) -> None:
    assert trials.loc["ok", "status"] == "completed"
    assert pd.isna(trials.loc["ok", "error"])


def test_a_trial_that_fails_keeps_the_epochs_before(harness: Any, trials: Any) -> None:
    epochs = api.load(harness.run_of("functions").folder).epochs
    counts = epochs.groupby("trial_id", observed=True).size()
    expected = {"ok": 3, "once": 3, "nan": 2} | dict.fromkeys(["raise", "memory", "exit", "die", "hang"], 1)
    assert {mode: counts[row["trial_id"]] for mode, row in trials.iterrows()} == expected


def test_failures_are_told_at_once_and_again_at_the_end_with_the_command_to_retry(
    answer: subprocess.CompletedProcess[str],
) -> None:
    during, _, after = answer.stdout.partition("median over repeats")
    assert "failed   workload.mode=raise seed=0: ValueError: the data went away" in during
    assert "failed: ValueError: the data went away\n    workload.mode=raise seed=0" in after
    assert "--resume --retry failed,lost,timeout" in after


def test_nothing_is_left_running(harness: Any, answer: subprocess.CompletedProcess[str]) -> None:
    assert harness.left() == []


def test_only_what_is_asked_for_is_retried(harness: Any, answer: subprocess.CompletedProcess[str]) -> None:
    run = harness.run_of("functions")
    words = ("--resume", "--run", run.run_id, "--retry", "failed", "--inline", "--no-calibrate", "--telemetry", "0")
    again = harness.here("run", FUNCTIONS, *each_kind(harness.folder), *words)
    assert again.returncode == 1
    assert "8 trials of 8 settings, 4 recorded already" in again.stdout
    after = api.load(run.folder).trials
    assert len(after) == 8
    assert harness.run_of("functions").counts == run.counts


# Trainings, on one worker with TensorFlow. -----------------------------------------------------------------------

MODELS = """
import sys

from harness import Setting, Suite, cases


def tells(input_shape, outputs):
    held = ("tensorflow", "keras", "ray", "pandas", "pyarrow", "sklearn", "typer")
    raise RuntimeError(" ".join(name for name in held if name in sys.modules))


def too_big(input_shape, outputs):
    raise MemoryError("no room for 4 GiB")


def broken(input_shape, outputs):
    raise KeyError("no such layer")


models = [{"model": model} for model in (too_big, broken, tells)]
suite = Suite(name="models", base=Setting(dataset="mnist5k"), grid=cases(*models))
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, dict[str, Trial]]]:
    """A node with one worker, and trials that fail on it."""
    path = tmp_path_factory.mktemp("suite") / "suite.py"
    path.write_text(MODELS)
    too_big, broken, tells = plan(load_suite(path)).trials
    diverging = Setting(dataset="mnist5k", model=mlp(8), optimizer=sgd(1e30), epochs=3)
    trials = {"too_big": too_big, "broken": broken, "tells": tells}
    trials["diverging"] = Trial(setting=diverging, seed=0, repeat=0)
    node = Node(sources=sources.collected(), telemetry_hz=0)
    try:
        node.launch([Launch(name="0", body="harness.measure:Body", backend="tensorflow")])
        node.ready("0")
        yield node, trials
    finally:
        node.stop()


def test_a_worker_that_trains_holds_its_back_end_and_none_of_the_drivers_packages(
    node: tuple[Node, dict[str, Trial]],
) -> None:
    told = node[0].check("0", node[1]["tells"]).error or ""
    assert told.endswith("RuntimeError: tensorflow keras")


def test_a_training_that_diverges_fails_at_that_epoch_with_what_to_change(node: tuple[Node, dict[str, Trial]]) -> None:
    outcome = node[0].run("0", node[1]["diverging"]).outcome
    assert outcome.status == "failed"
    assert "diverged: loss is nan at epoch 1; lower the learning rate, now 1e+30" in (outcome.error or "")
    assert len(outcome.epochs) == 1


def test_a_model_that_is_too_big_is_a_failed_trial_and_no_wrong_request(node: tuple[Node, dict[str, Trial]]) -> None:
    assert node[0].check("0", node[1]["too_big"]).error is None
    outcome = node[0].run("0", node[1]["too_big"]).outcome
    assert outcome.status == "failed"
    assert outcome.error == (
        "out of memory at batch_size=32: use a smaller batch or a smaller model (no room for 4 GiB)"
    )


def test_a_model_of_ones_own_that_raises_is_found_by_building_it(node: tuple[Node, dict[str, Trial]]) -> None:
    said = node[0].check("0", node[1]["broken"]).error or ""
    assert said.startswith("model=")
    assert said.endswith("KeyError: 'no such layer'")


def test_a_declaration_that_keras_refuses_is_found_before_the_first_trial_and_leaves_no_folder(
    harness: Any, tmp_path: Path
) -> None:
    (tmp_path / "suite.py").write_text(
        """
from harness import Setting, Suite, layer, product, sequential

suite = Suite(
    name="refused",
    base=Setting(
        dataset="mnist5k",
        model=sequential(layer("Reshape", target_shape=[784]), layer("Flatten"), layer("Dense", units=10)),
    ),
    grid=product({"model.layers.0.target_shape": [[784], [785]], "optimizer.momentum": [0.5, 2]}),
)
"""
    )
    said = harness.here("run", tmp_path / "suite.py", "--inline")
    assert said.returncode == 2
    lines = said.stderr.splitlines()
    assert len(lines) == 3
    assert all(f"{tmp_path}/suite.py: model.layers.0.target_shape=" in line for line in lines)
    reshape = next(line for line in lines if "target_shape=[785], optimizer.momentum=0.5: " in line)
    assert "total size of the tensor must be unchanged" in reshape
    momentum = next(line for line in lines if "target_shape=[784], optimizer.momentum=2: " in line)
    assert "`momentum` must be a float between [0, 1]" in momentum
    assert not (harness.folder / "results" / "refused").exists()
    assert harness.left() == []
