"""Workloads side by side in one run, on Ray: a test function, programs good and bad, and a back end that is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import harness as api

SUITE = '''
"""What becomes of each?"""
from harness import Setting, Suite, cases, minimise, mlp, program

GOOD = """echo '{{"epoch": 1, "samples": 10, "val_accuracy": 0.5, "val_f1": 0.4}}'"""
suite = Suite(
    name="each",
    base=Setting(dataset="mnist5k", model=mlp(8), epochs=5),
    grid=cases(
        {"label": "function", "workload": minimise("beale", start=[1, 1])},
        {"label": "program", "workload": program("sh", "-c", GOOD)},
        {"label": "garbage", "workload": program("sh", "-c", "echo garbage")},
        {"label": "nothing", "workload": program("true")},
        {"label": "exits", "workload": program("sh", "-c", GOOD + "; echo no room >&2; exit 3")},
        {"label": "flood", "workload": program("sh", "-c", "head -c 50000000 /dev/zero; " + GOOD)},
        {"label": "unknown", "workload": program("no-such-program")},
        {"label": "jax", "backend": "jax"},
    ),
    timeout=60,
)
'''
HANGS = """
from harness import Setting, Suite, program

HANGS = "echo '{{\\"epoch\\": 1}}'; (setsid sleep 60 &); sleep 60"
suite = Suite(name="hangs", base=Setting(label="hangs", workload=program("sh", "-c", HANGS), epochs=5), timeout=2)
"""
EXPECTED = {
    "function": ("completed", None),
    "program": ("completed", None),
    "garbage": ("failed", "reported no epoch"),
    "nothing": ("failed", "reported no epoch"),
    "exits": ("failed", "exit code 3"),
    "hangs": ("timeout", "timed out after 2 s"),
    "flood": ("failed", "reported no epoch"),
    "unknown": ("failed", "no-such-program"),
    "jax": ("failed", "the back end 'jax' is not installed on node"),
}


@pytest.fixture(scope="module")
def answer(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    missing = tmp_path_factory.mktemp("missing")
    (missing / "jax.py").write_text("raise ModuleNotFoundError(\"No module named 'jax'\", name='jax')\n")
    (harness.folder / "each.py").write_text(SUITE)
    (harness.folder / "hangs.py").write_text(HANGS)  # by itself: the others may take as long as they do
    assert harness("run", "hangs.py", "--inline", "--telemetry", 0, "--no-calibrate").returncode == 1
    said: subprocess.CompletedProcess[str] = harness("run", "each.py", "--no-calibrate", PYTHONPATH=str(missing))
    return said


@pytest.fixture(scope="module")
def results(harness: Any, answer: subprocess.CompletedProcess[str]) -> Any:
    assert answer.returncode == 1, answer.stdout + answer.stderr
    return api.load(harness.folder / "results")


@pytest.mark.parametrize("label", EXPECTED)
def test_each_trial_ends_with_its_reason_and_the_others_go_on(results: Any, label: str) -> None:
    trial = results.trials.set_index("label").loc[label]
    status, error = EXPECTED[label]
    assert trial["status"] == status, trial["error"]
    assert error is None or error in trial["error"]


def test_epochs_of_programs_and_functions_stand_in_the_same_columns(results: Any) -> None:
    labels = results.trials.set_index("trial_id")["label"]
    epochs = results.epochs.assign(label=results.epochs["trial_id"].astype(str).map(labels))
    program = epochs[epochs["label"] == "program"].iloc[0]
    assert (program["samples"], program["val_accuracy"], program["val_f1"]) == (10, 0.5, 0.4)
    assert epochs[epochs["label"] == "function"]["loss"].iloc[-1] < 1
    assert (epochs["label"].isin(["exits", "hangs"])).sum() == 2  # what was measured before the end is kept


def test_a_workload_without_a_back_end_records_none(results: Any) -> None:
    backends = results.trials.set_index("label")["backend"]
    assert backends["jax"] == "jax"
    assert backends[["function", "program"]].isna().all()


def test_nothing_is_left_of_any_of_them(harness: Any, answer: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in answer.stdout + answer.stderr
    assert harness.left() == []


def test_a_folder_without_a_model_is_refused(say: Any, tmp_path: Path) -> None:
    for words in (("evaluate", tmp_path), ("predict", tmp_path, "rows.csv")):
        told = say(*words)
        assert told.code == 2
        assert "no model is saved here; run the suite with save_model=True" in told.err
