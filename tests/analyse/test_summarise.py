"""One row a setting."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from small_tables import epochs, run, trials

from harness.analyse.summarise import summarise


def test_a_summary_has_one_row_a_setting_with_a_miss_counted_as_infinite() -> None:
    rows = trials(
        {"batch_size": 64, "setting_id": "s64", "compile_s": 1.5},
        {"batch_size": 64, "setting_id": "s64"},
        {"batch_size": 64, "setting_id": "s64", "status": "failed"},
        {"batch_size": 32, "setting_id": "s32"},
        {"batch_size": 32, "setting_id": "s32"},
        {"batch_size": 32, "setting_id": "s32"},
    )
    measured = epochs(a=[0.5, 0.9], b=[0.9], c=[0.4], d=[0.9], e=[0.5, 0.7, 0.8], f=[0.6])
    measured["setting_id"] = np.where(measured["trial_id"].isin(list("abc")), "s64", "s32")
    measured.loc[measured["trial_id"] == "a", "samples_per_s"] = [1.0, 2.0]
    table = summarise(rows, measured, at_least=0.9, axes=["batch_size"])
    assert table["batch_size"].tolist() == [32, 64]
    assert table["trials"].tolist() == [3, 3]
    assert table["completed"].tolist() == [3, 2]
    assert table["failed"].tolist() == [0, 1]
    assert table["reached_share"].tolist() == ["1/3", "2/3"]
    assert table["median_time_to_target_s"].tolist() == [math.inf, pytest.approx(2.0)]
    assert table["best"].tolist() == [0.9, 0.9]
    assert table["median_samples_per_s"].tolist() == [100.0, 100.0]  # of 1.5, 100 and 100
    assert table["compile_s"].tolist() == [0.0, 1.5]


def test_a_summary_without_a_target_leaves_the_time_out() -> None:
    table = summarise(trials({}), epochs("val_loss", a=[0.9, 0.4, 0.6]), metric="val_loss")
    assert table["median_time_to_target_s"].isna().all()
    assert table["reached_share"].isna().all()
    assert table["best"].tolist() == [0.4]


def test_warm_up_epochs_do_not_count_in_medians_unless_there_are_no_others() -> None:
    measured = epochs(a=[0.5, 0.6, 0.7], b=[0.5])
    measured["setting_id"] = measured["trial_id"]
    measured["train_s"] = [9.0, 1.0, 2.0, 5.0]
    measured["warmup"] = [True, False, False, True]
    table = summarise(trials({"setting_id": "a"}, {"setting_id": "b"}), measured)
    assert table["median_train_s"].tolist() == [1.5, 5.0]


def test_as_many_settings_as_a_large_sweep_has_are_summarised() -> None:
    count, each = 5_000, 20
    names = np.array([f"{number:012x}" for number in range(count)])
    settings_of = np.array([f"{number // 10:012x}" for number in range(count)])
    number = np.tile(np.arange(1, each + 1), count)
    measured = pd.DataFrame(
        {
            "run_id": "r",
            "trial_id": pd.Categorical(np.repeat(names, each)),
            "setting_id": pd.Categorical(np.repeat(settings_of, each)),
            "arm": "default",
            "epoch": number,
            "train_s": 0.1,
            "elapsed_train_s": number * 0.1,
            "samples_per_s": 1000.0,
            "warmup": number == 1,
            "val_accuracy": 1 - 1 / (number + 1),
        }
    )
    rows = pd.DataFrame(
        {
            "run_id": "r",
            "trial_id": names,
            "setting_id": settings_of,
            "arm": "default",
            "status": "completed",
            "compile_s": 0.0,
            "initial_val_accuracy": 0.1,
        }
    )
    table = summarise(rows, measured, at_least=0.9)
    assert len(table) == 500
    assert table["median_time_to_target_s"].tolist() == pytest.approx([0.9] * 500)


def test_intervals_stand_beside_the_medians_of_several_repeats() -> None:
    rows, measured = run(("s", [0.9]), ("s", [0.5, 0.9]), ("s", [0.5, 0.6]), ("t", [0.9]))
    measured["train_s"] = [1.0, 2.0, 4.0, 5.0, 5.0, 1.0]
    one, other = summarise(rows, measured, at_least=0.9).to_dict("records")
    assert one["median_time_to_target_s"] == pytest.approx(2.0)
    assert (one["low_time_to_target_s"], one["high_time_to_target_s"]) == (pytest.approx(1.0), math.inf)
    assert (one["low_train_s"], one["median_train_s"], one["high_train_s"]) == (1.0, 3.0, 5.0)
    assert math.isnan(other["low_time_to_target_s"])
    assert math.isnan(other["high_train_s"])


def test_how_trainings_ended_is_told_of_those_that_completed() -> None:
    rows, measured = run(("s", [0.5, 0.9, 0.7]), ("s", [0.6, 0.8]), ("s", [0.99]), accuracy=0.95)
    rows = rows.assign(status=["completed", "completed", "failed"], train_s=[30.0, 50.0, 1.0])
    (found,) = summarise(rows, measured).to_dict("records")
    assert found["best"] == 0.99
    assert found["median_best"] == pytest.approx(0.85)
    assert found["median_last"] == pytest.approx(0.75)
    assert found["median_gap"] == pytest.approx(0.2)
    assert found["median_total_train_s"] == 40.0


def test_of_an_unknown_metric_the_target_says_which_way_is_better() -> None:
    rows, measured = run(("s", [0.5, 0.3, 0.4]))
    measured["val_quirk"] = measured["val_accuracy"]
    assert summarise(rows, measured, metric="val_quirk", at_most=0.1)["best"].tolist() == [0.3]
    assert summarise(rows, measured, metric="val_quirk", at_least=0.9)["best"].tolist() == [0.5]


def test_groups_may_be_told_apart_by_more_than_setting_and_arm() -> None:
    rows, measured = run(("s", [0.5]), ("s", [0.9]), ("t", [0.7]))
    rows = rows.assign(hardware=["small", "big", "big"], rate=[2, 2, 1])
    table = summarise(rows, measured, axes=["rate"], by=("setting_id", "arm", "hardware"))
    assert table[["rate", "hardware", "best"]].to_numpy().tolist() == [
        *([1, "big", 0.7], [2, "big", 0.9], [2, "small", 0.5]),
    ]  # fmt: skip


def test_trials_without_epochs_and_no_trials_at_all_are_summarised() -> None:
    rows, measured = run(("s", [0.5]), ("t", [0.9]))
    table = summarise(rows, measured[measured["setting_id"] == "s"], at_least=0.9)
    assert table["best"].isna().tolist() == [False, True]
    assert table["median_time_to_target_s"].tolist() == [math.inf, math.inf]
    assert summarise(rows.iloc[:0], measured.iloc[:0], at_least=0.9).empty
    assert summarise(rows.iloc[:0], measured.iloc[:0]).empty


def test_a_summary_does_without_scipy() -> None:
    code = "import sys; from harness.analyse import summarise, time_to_accuracy, curves; print('scipy' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert said.stdout.strip() == "False"
