"""Samples a second, seconds an epoch, and seconds an epoch by hardware."""

from __future__ import annotations

import math

import pytest
from small_tables import run

from harness.analyse.hardware import epoch_seconds
from harness.analyse.throughput import throughput

NAN = math.nan


def test_the_figure_is_the_median_over_repeats_of_the_median_over_epochs() -> None:
    rows, measured = run(("s", [0.1] * 3), ("s", [0.1]), ("s", [0.1]))
    measured["samples_per_s"] = [10.0, 20.0, 90.0, 40.0, 50.0]
    measured["train_s"] = [1.0, 2.0, 9.0, 4.0, 5.0]
    (found,) = throughput(rows, measured).to_dict("records")
    assert (found["low_samples_per_s"], found["median_samples_per_s"], found["high_samples_per_s"]) == (20, 40, 50)
    assert (found["low_train_s"], found["median_train_s"], found["high_train_s"]) == (2, 4, 5)
    assert found["n"] == 3


def test_a_trial_with_warm_up_alone_does_not_count_beside_others() -> None:
    rows, measured = run(("s", [0.1] * 2), ("s", [0.1]), ("t", [0.1]))
    measured = measured.assign(train_s=[9.0, 1.0, 9.0, 7.0], warmup=[True, False, True, True])
    found = throughput(rows, measured)
    assert found["n"].tolist() == [1, 1]
    assert found["median_train_s"].tolist() == [1.0, 7.0]
    assert found["low_train_s"].isna().all()


def test_what_was_not_measured_is_null() -> None:
    rows, measured = run(("s", [0.1]), ("t", [0.1]))
    found = throughput(rows, measured[measured["setting_id"] == "s"].assign(samples_per_s=NAN))
    assert found["median_samples_per_s"].isna().all()
    assert found["median_train_s"].isna().tolist() == [False, True]
    assert throughput(rows.iloc[:0], measured).empty


def test_hardware_is_compared_with_the_quickest_that_ran_the_same() -> None:
    rows, measured = run(("s", [0.1]), ("s", [0.1]), ("s", [0.1]), ("t", [0.1]))
    rows["hardware"] = ["old", "new", "new", "old"]
    measured = measured.assign(train_s=[8.0, 1.0, 3.0, 5.0], eval_s=[2.0, NAN, 0.5, NAN])
    table = epoch_seconds(rows, measured)
    assert table[["setting_id", "hardware", "n", "median_s", "relative"]].to_numpy().tolist() == [
        *(["s", "old", 1, 8.0, 4.0], ["s", "new", 2, 2.0, 1.0], ["t", "old", 1, 5.0, 1.0]),
    ]  # fmt: skip
    assert table["with_eval_s"].tolist() == pytest.approx([10.0, 3.5, NAN], nan_ok=True)
    assert table["eval_s"].tolist() == pytest.approx([2.0, 0.5, NAN], nan_ok=True)
    assert (table["low_s"][1], table["high_s"][1]) == (1.0, 3.0)
    assert table["samples"].tolist() == [100.0] * 3


def test_all_settings_together_can_be_told_by_hardware() -> None:
    rows, measured = run(("s", [0.1]), ("t", [0.1]))
    rows["hardware"] = ["old", "new"]
    table = epoch_seconds(rows, measured.assign(train_s=[6.0, 2.0], eval_s=1.0), by=["hardware"])
    assert table.columns[0] == "hardware"
    assert table["relative"].tolist() == [3.0, 1.0]


def test_without_the_hardware_the_way_to_it_is_told() -> None:
    with pytest.raises(ValueError, match="`described` adds"):
        epoch_seconds(*run(("s", [0.1])))
