"""The generalisation gap."""

from __future__ import annotations

import math

import pytest
from small_tables import run

from harness.analyse.gap import gaps, generalisation_gap

NAN = math.nan


def test_the_gap_is_told_at_the_last_epoch_and_at_the_first_best_one() -> None:
    rows, measured = run(("s", [0.5, 0.8, 0.8, 0.7]), ("t", []))
    (found, none) = gaps(rows, measured.assign(accuracy=[0.4, 0.85, 0.9, 0.95])).to_dict("records")
    assert (found["last_epoch"], found["last"], found["gap_at_last"]) == (4, 0.7, pytest.approx(0.25))
    assert (found["best_epoch"], found["best"], found["gap_at_best"]) == (2, 0.8, pytest.approx(0.05))
    assert math.isnan(none["best"])
    assert math.isnan(none["gap_at_last"])


def test_the_gap_of_a_loss_is_positive_where_training_is_ahead() -> None:
    rows, measured = run(("s", [0.5, 0.3, 0.4]))
    measured = measured.rename(columns={"val_accuracy": "val_loss"}).assign(loss=[0.6, 0.2, 0.1])
    (found,) = gaps(rows, measured, metric="val_loss").to_dict("records")
    assert (found["best_epoch"], found["gap_at_best"]) == (2, pytest.approx(0.1))
    assert found["gap_at_last"] == pytest.approx(0.3)
    assert math.isnan(gaps(rows, measured, metric="loss")["gap_at_last"][0])


def test_an_epoch_without_an_evaluation_is_not_the_last() -> None:
    rows, measured = run(("s", [0.5, NAN]))
    assert gaps(rows, measured.assign(accuracy=0.9))["last_epoch"].tolist() == [1]


def test_the_order_of_epochs_does_not_matter() -> None:
    rows, measured = run(("s", [0.5, 0.9, 0.7]), ("s", [0.1, 0.2]))
    measured["accuracy"] = 1.0
    assert gaps(rows, measured.iloc[::-1]).equals(gaps(rows, measured))


def test_the_gap_of_a_setting_is_the_median_over_completed_trials() -> None:
    rows, measured = run(("s", [0.9]), ("s", [0.8]), ("s", [0.6]), ("s", [0.1]), accuracy=1.0)
    rows["status"] = ["completed", "completed", "completed", "failed"]
    (found,) = generalisation_gap(rows, measured).to_dict("records")
    assert found["n"] == 3
    assert (found["low_at_last"], found["gap_at_last"], found["high_at_last"]) == pytest.approx((0.1, 0.2, 0.4))
    assert found["gap_at_best"] == pytest.approx(0.2)
