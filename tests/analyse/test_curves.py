"""Learning curves by setting."""

from __future__ import annotations

import math
from typing import Any

import pytest
from small_tables import run

from harness.analyse.curves import curves

NAN = math.nan


def joules(values: Any, validity: Any = "valid", source: str = "gpu_counter") -> dict[str, Any]:
    return {f"{source}_j": values, f"{source}_validity": validity}


def test_a_curve_begins_with_the_untrained_model() -> None:
    rows, measured = run(("s", [0.5, 0.8]), ("s", [0.7, 0.9]), ("s", [0.6, 0.7]))
    table = curves(rows, measured, metric="val_accuracy")
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["value"].tolist() == [0.1, 0.6, 0.8]
    assert table["time_s"].tolist() == [0.0, 1.0, 2.0]
    assert table["samples"].tolist() == [0.0, 100.0, 200.0]
    assert table["n"].tolist() == [3, 3, 3]
    unknown = curves(rows.assign(initial_val_accuracy=NAN), measured, metric="val_accuracy")
    assert unknown["epoch"].tolist() == [1, 2]


def test_few_repeats_show_their_range_and_more_their_quartiles() -> None:
    few = curves(*run(*(("s", [value]) for value in (0.1, 0.2, 0.3, 0.9)))).iloc[-1]
    assert (few["low"], few["value"], few["high"]) == (0.1, 0.25, 0.9)
    more = curves(*run(*(("s", [value]) for value in (0.1, 0.2, 0.3, 0.4, 0.9)))).iloc[-1]
    assert (more["low"], more["value"], more["high"]) == (0.2, 0.3, 0.4)
    between = curves(*run(*(("s", [value]) for value in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)))).iloc[-1]
    assert (between["low"], between["high"]) == (pytest.approx(0.125), pytest.approx(0.375))


def test_groups_go_in_order_of_appearance_and_epochs_in_theirs() -> None:
    rows, measured = run(("t", [0.5, 0.6]), ("s", [0.7]))
    table = curves(rows, measured.sample(frac=1, random_state=3), metric="val_accuracy")
    assert table[["setting_id", "epoch"]].to_numpy().tolist() == [["t", 0], ["t", 1], ["t", 2], ["s", 0], ["s", 1]]


def test_an_epoch_counts_the_trials_that_have_a_value_there() -> None:
    table = curves(*run(("s", [0.5, 0.9]), ("s", [0.7]), ("s", [NAN, 0.5])), metric="val_accuracy")
    assert table["n"].tolist() == [3, 2, 2]
    assert table["value"].tolist() == [0.1, 0.6, 0.7]


def test_samples_add_up_over_epochs_that_were_not_evaluated() -> None:
    table = curves(*run(("s", [NAN, NAN, 0.7])), metric="val_accuracy")
    assert table["epoch"].tolist() == [0, 3]
    assert table["samples"].tolist() == [0.0, 300.0]


def test_an_infinite_loss_stays_comparable() -> None:
    table = curves(*run(("s", [math.inf]), ("s", [math.inf]), ("s", [0.5])), metric="val_accuracy")
    assert (table["low"].iloc[-1], table["value"].iloc[-1], table["high"].iloc[-1]) == (0.5, math.inf, math.inf)


def test_joules_add_up_from_the_start() -> None:
    table = curves(*run(("s", [0.5, 0.6]), ("s", [0.7, 0.8]), **joules([1.0, 2.0, 3.0, 4.0])), metric="val_accuracy")
    assert table["gpu_j"].tolist() == [0.0, 2.0, 5.0]
    assert table["cpu_j"].isna().all()


def test_joules_end_with_an_epoch_that_has_none_or_doubtful_ones() -> None:
    doubtful = joules([1.0, 2.0, 4.0], ["valid", "shared", "valid"])
    assert curves(*run(("s", [0.5, 0.6, 0.7]), **doubtful))["gpu_j"].dropna().tolist() == [0.0, 1.0]
    missing = joules([1.0, 2.0, NAN], ["valid", "valid", None])
    assert curves(*run(("s", [0.5, 0.6, 0.7]), **missing))["gpu_j"].dropna().tolist() == [0.0, 1.0, 3.0]


def test_power_readings_serve_where_they_go_on_for_longer_than_the_counter() -> None:
    power = joules([10.0, 20.0, 40.0], source="gpu_power")
    broken = joules([1.0, 2.0, 4.0], ["valid", "shared", "valid"])
    assert curves(*run(("s", [0.5, 0.6, 0.7]), **broken, **power))["gpu_j"].tolist() == [0.0, 10.0, 30.0, 70.0]
    whole = joules([1.0, 2.0, 4.0])
    assert curves(*run(("s", [0.5, 0.6, 0.7]), **whole, **power))["gpu_j"].tolist() == [0.0, 1.0, 3.0, 7.0]


def test_no_trials_give_no_curve() -> None:
    rows, measured = run(("s", [0.5]))
    assert curves(rows.iloc[:0], measured.iloc[:0]).empty
    measured["val_nothing"] = float("nan")
    assert curves(rows, measured, metric="val_nothing").empty
