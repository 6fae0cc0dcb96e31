"""Groups of trials, and intervals of their medians."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyse.groups import groups, median_intervals, medians

VALUES = st.one_of(st.floats(-1e3, 1e3), st.just(math.inf), st.just(math.nan))


def interval(values: list[float], confidence: float = 0.98) -> tuple[float, float, float]:
    group = np.zeros(len(values), dtype=np.int64)
    found = median_intervals(np.array(values, dtype=float), group, 1, confidence=confidence).iloc[0]
    return found["low"], found["median"], found["high"]


def in_full(values: list[float], confidence: float) -> tuple[float, float]:
    """The percentile interval over every sample that can be drawn with replacement."""
    drawn = np.sort(
        np.median(np.array(values)[np.indices([len(values)] * len(values)).reshape(len(values), -1)], axis=0)
    )
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    return tuple(drawn[math.ceil(round(share * len(drawn), 6)) - 1] for share in ends)  # type: ignore[return-value]


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7])
def test_the_interval_is_that_of_all_samples_that_can_be_drawn(count: int, confidence: float) -> None:
    values = [1.0, 2.5, 4.5, 7.5, 9.0, 11.0, 16.0][:count]
    low, _, high = interval(values, confidence)
    assert (low, high) == pytest.approx(in_full(values, confidence))


def test_the_interval_of_up_to_five_values_is_their_range() -> None:
    for count in range(2, 6):
        assert interval([float(value) for value in range(count)]) == (0, (count - 1) / 2, count - 1)


def test_many_values_have_a_narrow_interval() -> None:
    low, median, high = interval([float(value) for value in range(1001)])
    assert median == 500
    assert low == pytest.approx(500 - 2.326 * math.sqrt(1001) / 2, abs=3)
    assert high == pytest.approx(500 + 2.326 * math.sqrt(1001) / 2, abs=3)
    assert interval([float(value) for value in range(100_000)])[1] == 49_999.5


def test_a_confidence_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        interval([1.0, 2.0], confidence=95)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), VALUES), max_size=30))
def test_groups_are_judged_one_by_one_and_hold_their_median(rows: list[tuple[int, float]]) -> None:
    group = np.array([one for one, _ in rows], dtype=np.int64)
    values = np.array([value for _, value in rows], dtype=float)
    table = median_intervals(values, group, 5)
    assert table["median"].tolist() == pytest.approx(medians(values, group, 5).tolist(), nan_ok=True)
    for number, found in enumerate(table.itertuples()):
        own = [value for one, value in rows if one == number and not math.isnan(value)]
        assert found.n == len(own)
        alone = interval(own)
        assert (found.low, found.median, found.high) == pytest.approx(alone, nan_ok=True)
        if len(own) > 1:
            assert min(own) <= found.low <= found.median <= found.high <= max(own)
        else:
            assert math.isnan(found.low)
            assert math.isnan(found.high)


def test_groups_keep_the_order_in_which_they_appear_and_a_null_is_a_value() -> None:
    frame = pd.DataFrame({"rate": [2.0, None, 2.0, None, 1.0], "arm": ["x", "x", "x", "x", "y"]}).convert_dtypes(
        dtype_backend="pyarrow"
    )
    found = groups(frame, ["rate", "arm"])
    assert found.of_trial.tolist() == [0, 1, 0, 1, 2]
    assert found.keys["arm"].tolist() == ["x", "x", "y"]
    assert found.keys["rate"].isna().tolist() == [False, True, False]
    assert len(groups(frame, [])) == 1


def test_drawn_and_reckoned_intervals_agree() -> None:
    drawn, reckoned = ([float(value) for value in range(count)] for count in (51, 50))
    for confidence in (0.8, 0.95, 0.99):
        assert interval(drawn, confidence) == pytest.approx(np.array(interval(reckoned, confidence)) + 0.5, abs=1)


def test_lists_tell_no_groups_apart() -> None:
    arrow = pd.Series([[0], [1]], dtype=pd.ArrowDtype(pa.list_(pa.int32())))
    for column in (arrow, pd.Series([[0], [1]])):
        with pytest.raises(ValueError, match="by: 'cores' holds lists"):
            groups(pd.DataFrame({"cores": column}), ["cores"])
