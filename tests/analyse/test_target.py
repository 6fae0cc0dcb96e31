"""When a trial reached the target, and what its repeats say of that together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import epochs, run, trials

from harness.analyse.target import time_to_accuracy, time_to_target

NAN = math.nan


def times(rows: pd.DataFrame, measured: pd.DataFrame, **target: Any) -> list[float]:
    target = {"metric": "val_accuracy", "at_least": 0.9} | target
    return time_to_target(rows, measured, **target)["time_to_target_s"].tolist()


def test_the_crossing_is_interpolated_inside_its_epoch() -> None:
    table = time_to_target(trials({}), epochs(a=[0.5, 0.8, 1.0, 0.7]), metric="val_accuracy", at_least=0.9)
    row = table.iloc[0]
    assert row["time_to_target_s"] == pytest.approx(2.5)
    assert (row["lower_s"], row["lower_value"], row["upper_s"], row["upper_value"]) == (2.0, 0.8, 3.0, 1.0)
    assert row["target_epoch"] == 3
    assert row["reached"]


def test_the_untrained_model_is_the_lower_end_of_the_first_epoch() -> None:
    assert times(trials({}), epochs(a=[0.9])) == [pytest.approx(1.0)]
    assert times(trials({}), epochs(a=[1.0], train_s=9.0)) == [pytest.approx(8.0)]
    assert times(trials({"initial_val_accuracy": NAN}), epochs(a=[1.0])) == [1.0]


def test_a_target_that_the_untrained_model_meets_takes_no_time() -> None:
    table = time_to_target(trials({}), epochs(a=[0.95]), metric="val_accuracy", at_least=0.1)
    assert table["time_to_target_s"].tolist() == [0.0]
    assert table["target_epoch"].tolist() == [0.0]
    assert table["reached"].tolist() == [True]


def test_a_lower_target_counts_downwards() -> None:
    measured = epochs("val_loss", a=[1.3, 0.5, 0.3])
    assert times(trials({}), measured, metric="val_loss", at_least=None, at_most=0.4) == [pytest.approx(2.5)]


def test_a_trial_that_misses_is_infinite() -> None:
    assert times(trials({}, {}), epochs(a=[0.5, 0.6], b=[0.95])) == [math.inf, pytest.approx(0.8 / 0.85)]


def test_a_trial_that_diverged_missed() -> None:
    assert times(trials({}), epochs("val_loss", a=[NAN, NAN]), metric="val_loss", at_least=None, at_most=0.4) == [
        math.inf
    ]
    measured = epochs("loss", a=[NAN]).assign(accuracy=0.1)
    assert times(trials({}), measured, metric="loss", at_least=None, at_most=0.4) == [math.inf]


def test_a_task_without_the_metric_has_no_time() -> None:
    assert np.isnan(times(trials({"initial_val_accuracy": NAN}), epochs(a=[NAN, NAN]))).all()
    assert np.isnan(times(trials({"initial_val_accuracy": NAN}), epochs("val_loss", a=[1.0]))).all()


def test_a_failed_trial_missed_and_a_lost_one_says_nothing() -> None:
    rows = trials({"status": "failed"}, {"status": "timeout"}, {"status": "lost"}, {"status": "lost"})
    found = times(rows, epochs(b=[0.5], c=[0.5], d=[1.0]))
    assert found[:2] == [math.inf, math.inf]
    assert math.isnan(found[2])
    assert found[3] == pytest.approx(0.8 / 0.9)


def test_an_epoch_that_was_not_evaluated_widens_the_bracket() -> None:
    table = time_to_target(trials({}), epochs(a=[0.8, NAN, 1.0]), metric="val_accuracy", at_least=0.9)
    assert table[["lower_s", "upper_s", "time_to_target_s"]].to_numpy().tolist() == [[1.0, 3.0, pytest.approx(2.0)]]


def test_the_order_of_rows_and_the_types_of_columns_do_not_matter() -> None:
    rows, measured = trials({}, {}), epochs(a=[0.5, 0.95], b=[0.2, 0.3, 0.99])
    expected = times(rows, measured)
    shuffled = measured.sample(frac=1, random_state=1)
    assert times(rows, shuffled) == expected
    categories = shuffled.astype({"trial_id": "category", "arm": "category", "run_id": "category"})
    assert times(rows, categories) == expected
    assert times(rows.drop(columns="run_id"), measured.drop(columns="run_id")) == expected


def test_trials_of_the_same_name_in_two_runs_are_two() -> None:
    rows = pd.concat([trials({}), trials({}).assign(run_id="other")])
    measured = pd.concat([epochs(a=[1.0]), epochs(a=[0.1, 1.0]).assign(run_id="other")])
    assert times(rows, measured) == [pytest.approx(0.8 / 0.9), pytest.approx(1 + 0.8 / 0.9)]


def test_nothing_gives_nothing() -> None:
    rows, measured = trials({}), epochs(a=[1.0])
    assert times(rows.iloc[:0], measured.iloc[:0]) == []
    assert times(rows, measured.iloc[:0]) == [math.inf]
    assert times(rows.iloc[:0], measured) == []


def test_a_target_has_one_direction() -> None:
    with pytest.raises(ValueError, match="either at_least or at_most"):
        time_to_target(trials({}), epochs(a=[1.0]), metric="val_accuracy")


@settings(max_examples=80)
@given(
    st.lists(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=6), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0.05, 1),
)
def test_times_agree_with_a_plain_loop(values: list[list[float]], initial: float, target: float) -> None:
    names = "abcdefgh"[: len(values)]
    rows = trials(*({"initial_val_accuracy": initial} for _ in values))
    measured = epochs(**dict(zip(names, values, strict=True)))
    if measured.empty:
        measured = epochs(a=[1.0]).iloc[:0]
    for of_trial, found in zip(values, times(rows, measured, at_least=target), strict=True):
        assert found == pytest.approx(_plainly(of_trial, initial, target))


def _plainly(values: list[float], initial: float, target: float) -> float:
    before, before_s = initial, 0.0
    if initial >= target:
        return 0.0
    for number, value in enumerate(values):
        if math.isnan(value):
            continue
        if value >= target:
            return before_s + (target - before) / (value - before) * (number + 1 - before_s)
        before, before_s = value, number + 1.0
    return math.inf


def spread_over_repeats(*of_trials: tuple[str, list[float]], **options: Any) -> dict[str, Any]:
    rows, measured = run(*of_trials)
    (found,) = time_to_accuracy(rows, measured, **({"at_least": 0.9} | options)).to_dict("records")
    return {str(name): value for name, value in found.items()}


def test_the_repeats_of_a_setting_give_a_median_their_range_and_the_share_that_got_there() -> None:
    found = spread_over_repeats(("s", [0.9]), ("s", [0.5, 0.9]), ("s", [0.5, 0.6, 0.9]))
    assert found == {
        "setting_id": "s",
        "arm": "default",
        "n": 3,
        "reached": 3,
        "share": 1.0,
        "median_s": pytest.approx(2.0),
        "low_s": pytest.approx(1.0),
        "high_s": pytest.approx(3.0),
    }


def test_a_miss_counts_as_infinite() -> None:
    found = spread_over_repeats(("s", [0.9]), ("s", [0.5, 0.9]), ("s", [0.5]))
    assert (found["n"], found["reached"], found["share"]) == (3, 2, pytest.approx(2 / 3))
    assert (found["median_s"], found["low_s"], found["high_s"]) == (pytest.approx(2.0), pytest.approx(1.0), math.inf)
    none = spread_over_repeats(("s", [0.5]), ("s", [0.5]))
    assert (none["reached"], none["share"], none["median_s"], none["low_s"], none["high_s"]) == (
        *(0, 0.0), *(math.inf, math.inf, math.inf),
    )  # fmt: skip
    half = spread_over_repeats(("s", [0.9]), ("s", [0.5]))
    assert (half["median_s"], half["low_s"], half["high_s"]) == (math.inf, pytest.approx(1.0), math.inf)


def test_one_repeat_has_no_interval() -> None:
    found = spread_over_repeats(("s", [0.9]))
    assert found["median_s"] == pytest.approx(1.0)
    assert math.isnan(found["low_s"])
    assert math.isnan(found["high_s"])


def test_a_lost_trial_is_no_repeat() -> None:
    rows, measured = run(("s", [0.9]), ("s", [0.5]), ("t", [0.5]))
    found = time_to_accuracy(rows.assign(status=["completed", "lost", "lost"]), measured, at_least=0.9)
    assert found["n"].tolist() == [1, 0]
    assert found["share"].tolist()[0] == 1.0
    assert found.iloc[1][["share", "median_s"]].isna().all()


def test_a_lower_target_and_other_groups_are_possible() -> None:
    rows, measured = run(("s", [0.9]), ("t", [0.5, 0.3]), ("t", [0.3]))
    measured["val_loss"] = measured["val_accuracy"]
    rows = rows.assign(hardware=["big", "big", "small"], initial_val_loss=NAN)
    found = time_to_accuracy(rows, measured, metric="val_loss", at_most=0.4, by=["hardware"])
    assert found.to_dict("records")[0] | {"low_s": 0, "high_s": 0} == {
        "hardware": "big",
        "n": 2,
        "reached": 1,
        "share": 0.5,
        "median_s": math.inf,
        "low_s": 0,
        "high_s": 0,
    }
    assert found["hardware"].tolist() == ["big", "small"]


def test_groups_by_a_column_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="no column 'hardware'"):
        time_to_accuracy(*run(("s", [0.9])), at_least=0.9, by=["hardware"])


def test_no_trials_give_no_groups() -> None:
    rows, measured = run(("s", [0.9]))
    assert time_to_accuracy(rows.iloc[:0], measured.iloc[:0], at_least=0.9).empty


def test_a_misspelt_metric_is_told_and_not_taken_for_one_that_nobody_has() -> None:
    with pytest.raises(ValueError, match="no metric 'val_acuracy' is recorded; did you mean 'val_accuracy'"):
        time_to_target(trials({}), epochs(a=[0.5]), metric="val_acuracy", at_least=0.9)
    nothing = epochs(a=[0.5]).iloc[:0]
    assert not time_to_target(trials({}), nothing, metric="top_5", at_least=0.9)["reached"].any()
