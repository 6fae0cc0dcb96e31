"""Each feature by itself: less its mean, over its standard deviation, both of the samples trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.datasets import Preparation, load
from harness.datasets.scaling import scale_rows
from harness.domain.component import Component
from harness.domain.setting import Dataset
from harness.domain.sources import collected, describe


def table(dtype: str = "float64", start: float = 0) -> Any:
    """Return 6 samples of 4 features: the second never varies in the first four, the fourth never at all."""
    x = np.array([[0, 7, 3, 5], [2, 7, 1, 5], [4, 7, 1, 5], [6, 7, 3, 5], [100, 9, 2, 5], [3, 1, 2, 5]])
    return (x + start).astype(dtype), np.array([0, 1, 0, 2, 1, 1])


def pictures() -> Any:
    return np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3), np.array([0, 1, 0, 1, 1])


def columns(function: Any, **args: Any) -> Any:
    tail = Component(kind="held_out", name="tail", args={"fraction": 0.33})
    return load(
        Dataset(name="function", scale="columns", held_out=tail, args={**describe(function), **args}), collected()
    )


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_each_feature_has_its_own_mean_and_deviation_of_the_samples_trained_on(dtype: str) -> None:
    arrays = columns(table, dtype=dtype)
    assert np.asarray(arrays.offset).tolist() == [3, 7, 2, 5]
    assert np.asarray(arrays.divisor).tolist() == pytest.approx([np.sqrt(5), 0, 1, 0])
    assert arrays.x_train.mean(axis=0).tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert arrays.x_train.std(axis=0).tolist() == pytest.approx([1, 0, 1, 0], abs=1e-6)
    assert arrays.x_train.dtype == arrays.x_val.dtype == np.float32


def test_a_feature_that_never_varied_is_zero_among_the_held_out_samples_too() -> None:
    arrays = columns(table)
    assert arrays.x_val[:, 1].tolist() == [0, 0]
    assert arrays.x_val[:, 3].tolist() == [0, 0]
    assert arrays.x_val[0, 0] == pytest.approx((100 - 3) / np.sqrt(5))


def test_a_constant_that_float64_cannot_hold_exactly_does_not_vary_either() -> None:
    assert np.asarray(columns(table, start=0.1).divisor)[1] == 0


def test_large_numbers_keep_their_last_digits() -> None:
    assert np.allclose(columns(table, start=1.6e9).x_train, columns(table).x_train)
    assert np.allclose(columns(table, start=1.6e9, dtype="int64").x_train, columns(table).x_train)


def test_the_scale_has_the_shape_of_a_sample() -> None:
    arrays = columns(pictures)
    assert np.asarray(arrays.offset).shape == (2, 3)
    assert arrays.x_train.shape[1:] == (2, 3)
    assert np.allclose(arrays.x_train.mean(axis=0), 0, atol=1e-6)


def test_further_rows_are_scaled_alike_by_what_was_kept_as_json() -> None:
    arrays = columns(table)
    known = Preparation.of(arrays.preparation.plain())
    raw, _ = table()
    assert np.array_equal(scale_rows(raw[:4], known.offset, known.divisor), arrays.x_train)
    assert known == arrays.preparation


def test_class_counts_tell_what_is_trained_on_and_what_is_held_out() -> None:
    arrays = columns(table)
    assert arrays.train_class_counts == (2, 1, 1)
    assert arrays.val_class_counts == (0, 2, 0)
