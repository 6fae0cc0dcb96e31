"""The Pareto front."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import run

from harness.analyse.curves import curves
from harness.analyse.front import epoch_front, front

NUMBERS = st.one_of(st.integers(0, 5).map(float), st.floats())
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20)


def frame(*points: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(list(points), columns=["seconds", "accuracy"], dtype=float)


def on_front(*points: tuple[float, float], higher_is_better: bool = True) -> list[bool]:
    return front(frame(*points), cost="seconds", value="accuracy", higher_is_better=higher_is_better).tolist()


def test_what_costs_more_and_is_no_better_is_not_on_the_front() -> None:
    assert on_front((3, 0.9), (1, 0.5), (2, 0.4), (4, 0.9), (5, 0.95)) == [True, True, False, False, True]


def test_where_less_is_better_the_front_runs_down() -> None:
    assert on_front((1, 0.9), (2, 0.95), (3, 0.2), higher_is_better=False) == [True, False, True]


def test_at_the_same_cost_the_better_one_counts() -> None:
    assert on_front((1, 0.5), (1, 0.6)) == [False, True]


def test_of_equal_points_the_first_is_on_the_front() -> None:
    assert on_front((1, 0.5), (1, 0.5)) == [True, False]


def test_what_was_not_measured_or_never_came_is_not_on_the_front() -> None:
    assert on_front((math.nan, 1.0), (1, math.nan), (math.inf, 1.0), (-math.inf, 1.0), (2, 0.5)) == [False] * 4 + [True]
    missing = pd.DataFrame({"seconds": [1, None], "accuracy": [0.5, 0.9]}, dtype="double[pyarrow]")
    assert front(missing, cost="seconds", value="accuracy").tolist() == [True, False]


def test_the_answer_has_the_rows_of_the_frame() -> None:
    points = frame((1, 0.5), (2, 0.9)).set_axis(["x", "y"])
    assert front(points, cost="seconds", value="accuracy").index.tolist() == ["x", "y"]
    assert front(points.iloc[:0], cost="seconds", value="accuracy").empty


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"'joules'.*seconds, accuracy"):
        front(frame((1, 0.5)), cost="joules", value="accuracy")


@settings(max_examples=300)
@given(POINTS, st.booleans())
def test_no_point_on_the_front_is_dominated_and_each_other_one_is_or_is_its_equal(
    points: list[tuple[float, float]], higher_is_better: bool
) -> None:
    told = on_front(*points, higher_is_better=higher_is_better)
    sign = 1 if higher_is_better else -1
    costs_values = [(cost, sign * value) for cost, value in points]
    chosen = [point for point, is_on in zip(costs_values, told, strict=True) if is_on]
    assert len(set(chosen)) == len(chosen)
    for (cost, value), is_on in zip(costs_values, told, strict=True):
        if not (math.isfinite(cost) and math.isfinite(value)):
            assert not is_on
            continue
        beaten = any(other[0] <= cost and other[1] >= value and other != (cost, value) for other in chosen)
        assert beaten is not (is_on or (cost, value) in chosen)


def test_the_front_over_all_epochs_is_the_best_that_any_setting_had_by_then() -> None:
    table = curves(*run(("s", [0.5, 0.9]), ("t", [0.6, 0.7, 0.95])), metric="val_accuracy")
    found = epoch_front(table)
    assert found[["setting_id", "time_s", "value"]].to_numpy().tolist() == [
        *(["s", 0.0, 0.1], ["t", 1.0, 0.6], ["s", 2.0, 0.9], ["t", 3.0, 0.95]),
    ]  # fmt: skip
    assert epoch_front(table, cost="gpu_j").empty
