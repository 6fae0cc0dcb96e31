"""The README's main path in small: trained twice for real, on Ray, and read back in pandas."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness as api

BATCH_SIZE = Path(__file__).parents[2] / "suites" / "batch_size.py"
EPOCHS, TRIALS = 3, 2

Answer = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def first(harness: Any) -> Answer:
    said: Answer = harness("run", BATCH_SIZE, "--small")
    assert said.returncode == 0, said.stderr
    return said


@pytest.fixture(scope="module")
def second(harness: Any, first: Answer) -> Answer:
    """The same command again without telemetry, with JSON for programs; the driver tells what it imports."""
    said: Answer = harness(
        "run", BATCH_SIZE, "--small", "--json", "--telemetry", "0", "--no-calibrate", PYTHONPROFILEIMPORTTIME="1"
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return said


@pytest.fixture(scope="module")
def folders(harness: Any, second: Answer) -> list[Path]:
    return sorted((harness.folder / "results" / "batch_size").iterdir())


def test_the_summary_has_a_line_a_setting_and_says_where_the_files_are(harness: Any, first: Answer) -> None:
    assert "time to val_accuracy ≥ 0.85" in first.stdout
    table = [line.split() for line in first.stdout.splitlines() if line.split()[:1] in (["32"], ["128"])]
    assert [line[0] for line in table] == ["32", "128"]
    assert all("1/1" in line for line in table)  # behind it are doubts, if the machine is busy
    assert "Trials: 2 completed" in first.stdout
    assert "Files:  results/batch_size/" in first.stdout
    assert f"harness show {harness.run_of('batch_size').folder.parent.relative_to(harness.folder)}" in first.stdout


def test_progress_goes_to_the_log_line_by_line(first: Answer) -> None:
    assert "2 trials of 2 settings → results/batch_size/" in first.stdout
    assert "3/3 epochs, val_accuracy 0." in first.stdout
    assert first.stderr == ""


def test_a_finished_run_has_four_tables_its_log_and_run_json(folders: list[Path]) -> None:
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert {"trials.parquet", "epochs.parquet", "telemetry.parquet", "nodes.parquet", "run.json"} <= names
        assert not {"parts", "owner.json"} & names


def test_the_tables_open_in_pandas_with_a_row_for_each_epoch_of_each_trial(folders: list[Path]) -> None:
    epochs = pd.read_parquet(folders[0] / "epochs.parquet")
    assert len(epochs) == TRIALS * EPOCHS
    assert sorted(epochs["epoch"]) == sorted([1, 2, 3] * TRIALS)
    assert (epochs["samples"] == 4000).all()
    for column in ("train_s", "eval_s", "elapsed_train_s", "samples_per_s", "loss", "val_loss"):
        assert np.isfinite(epochs[column]).all()
        assert (epochs[column] > 0).all()
    assert epochs["accuracy"].between(0, 1).all()
    assert epochs["val_accuracy"].max() > 0.8


def test_a_trial_says_what_ran_where_and_where_its_time_went(folders: list[Path]) -> None:
    trials = pd.read_parquet(folders[0] / "trials.parquet")
    assert len(trials) == TRIALS
    assert set(trials["batch_size"]) == {32, 128}
    assert set(trials["status"]) == {"completed"}
    assert set(trials["engine"]) == {"xla"}
    assert set(trials["backend"]) == {"tensorflow"}
    assert (trials["compile_s"] > 0).all()
    assert sorted(trials["position"]) == [0, 1]
    limit = np.maximum(0.01 * trials["wall_s"], 0.002)
    # Five times, and in one of them: tests share their cores with others.
    assert (trials["unattributed_s"] <= 5 * limit).any()
    assert (trials["unattributed_s"] >= 0).all()


def test_the_hardware_was_read_meanwhile(folders: list[Path]) -> None:
    telemetry = pd.read_parquet(folders[0] / "telemetry.parquet")
    assert {"host"} < set(telemetry["device"])
    assert len(pd.read_parquet(folders[0] / "nodes.parquet")) == 1


def test_without_telemetry_a_run_has_no_reading_and_says_which_warnings_it_could_not_judge(folders: list[Path]) -> None:
    assert pd.read_parquet(folders[1] / "telemetry.parquet").empty
    trials = pd.read_parquet(folders[1] / "trials.parquet")
    assert trials["foreign_percent"].isna().all()
    assert all({"contended", "stolen", "swapped"} <= set(names) for names in trials["unjudged"])


def test_runs_with_and_without_telemetry_have_the_same_accuracies_to_the_last_bit(folders: list[Path]) -> None:
    one, other = (
        pd.read_parquet(folder / "epochs.parquet").set_index(["trial_id", "epoch"]).sort_index() for folder in folders
    )
    for column in ("accuracy", "val_accuracy", "loss", "val_loss"):
        assert one[column].tolist() == other[column].tolist()


def test_json_is_all_that_comes_out_when_asked_for(folders: list[Path], second: Answer) -> None:
    document = json.loads(second.stdout)
    assert document["counts"] == {"completed": 2}
    assert document["exit_code"] == 0
    assert document["folder"].endswith(folders[1].name)
    assert [row["batch_size"] for row in document["settings"]] == [32, 128]
    assert all(0 < row["best"] <= 1 for row in document["settings"])


def test_the_driver_never_imports_a_back_end(second: Answer) -> None:
    imported = {line.rpartition("|")[2].strip() for line in second.stderr.splitlines() if "import time:" in line}
    assert "harness.schedule.ray_cluster" in imported  # so the driver is what was watched
    assert not {name for name in imported if name.partition(".")[0] in ("tensorflow", "keras", "jax", "torch")}


def test_nothing_is_left_running(harness: Any, second: Answer) -> None:
    assert harness.left() == []


def test_show_finds_a_run_by_folder_id_and_suite(harness: Any, folders: list[Path]) -> None:
    for run in (folders[0], folders[0].name):
        shown = harness.here("show", run)
        assert shown.returncode == 0
        assert folders[0].name in shown.stdout
        assert "Trials: 2 completed\n" in shown.stdout
    latest = json.loads(harness.here("show", "batch_size", "--json").stdout)["settings"]
    assert {row["run_id"] for row in latest if "run_id" in row} <= {folders[1].name}
    assert [row["trials"] for row in latest] == [1, 1]
    assert not any(isinstance(value, float) and not math.isfinite(value) for row in latest for value in row.values())


def test_status_lists_the_runs_with_how_far_they_are(harness: Any, folders: list[Path]) -> None:
    told = json.loads(harness.here("status", "--json").stdout)
    assert [one["run"] for one in told] == [folder.name for folder in folders]
    assert all(one["state"] == "completed" and one["counts"] == {"completed": 2} for one in told)
    plain = harness.here("status").stdout
    assert plain.count("completed  2/2") == 2


def test_a_finished_run_has_nothing_left_to_resume(harness: Any, folders: list[Path]) -> None:
    said = harness("run", BATCH_SIZE, "--small", "--resume")
    assert said.returncode == 0
    assert "2 trials of 2 settings, 2 recorded already" in said.stdout
    assert len(pd.read_parquet(folders[1] / "epochs.parquet")) == TRIALS * EPOCHS


def test_a_run_is_not_resumed_with_another_suite_unless_asked_for(harness: Any, folders: list[Path]) -> None:
    other = ("run", BATCH_SIZE, "--small", "--set", "epochs=2", "--resume")
    said = harness.here(*other)
    assert said.returncode == 2
    assert said.stderr == "harness: there is no unfinished run of batch_size in results/; begin one without --resume\n"
    said = harness.here(*other, "--run", folders[1].name)
    assert said.returncode == 2
    assert f"{folders[1].name}: the suite has changed since this run began" in said.stderr
    assert "--force" in said.stderr


def test_a_parquet_file_that_was_cut_off_is_named_with_the_way_to_rebuild_it(harness: Any, folders: list[Path]) -> None:
    path = folders[1] / "epochs.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    said = harness.here("show", folders[1])
    assert said.returncode == 2
    assert f"{path}: is cut off or damaged" in said.stderr
    assert "Traceback" not in said.stderr
    _, _, code = said.stderr.strip().partition("python -c ")
    exec(code.strip('"'))
    assert len(api.load(folders[1]).epochs) == TRIALS * EPOCHS
    assert harness.here("show", folders[1]).returncode == 0
