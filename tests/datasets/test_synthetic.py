"""Made-up problems: the same everywhere, of any shape, and possible to learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.datasets import Arrays, load
from harness.datasets.manage import verify
from harness.domain.setting import Dataset


def make(**args: Any) -> Arrays:
    return load(Dataset(name="synthetic", scale="none", args=args), {})


def nearest_prototype_accuracy(arrays: Arrays) -> float:
    """Return the accuracy of guessing the class whose mean training sample is nearest."""
    train, val = (x.reshape(len(x), -1) for x in (arrays.x_train, arrays.x_val))
    means = np.stack([train[arrays.y_train == label].mean(axis=0) for label in range(arrays.classes or 0)])
    distances = np.square(val).sum(1)[:, None] - 2 * val @ means.T + np.square(means).sum(1)
    return float((distances.argmin(axis=1) == arrays.y_val).mean())


def test_it_makes_the_bytes_on_record_on_this_machine_too() -> None:
    assert verify("synthetic").sha256 == make().sha256


@pytest.mark.parametrize("shape", [[7], [4, 4], [8, 8, 3], [1]])
def test_samples_have_the_shape_asked_for(shape: list[int]) -> None:
    arrays = make(samples=20, test_samples=5, shape=shape, classes=3)
    assert arrays.x_train.shape == (20, *shape)
    assert arrays.x_val.shape == (5, *shape)
    assert arrays.classes == 3


def test_classes_are_of_equal_size_and_in_mixed_order() -> None:
    labels = make(samples=1_000, shape=[2]).y_train
    assert np.bincount(labels).tolist() == [100] * 10
    assert len(set(labels[:30].tolist())) == 10


def test_the_seed_changes_the_samples_and_nothing_else_does() -> None:
    one, again, other = (make(samples=50, shape=[9], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.x_train, again.x_train)
    assert one.sha256 == again.sha256 != other.sha256
    assert not np.array_equal(one.x_train, one.x_val[:50])


def test_a_sample_does_not_depend_on_how_many_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(samples=300, shape=[11])
    monkeypatch.setattr("harness.datasets.synthetic._BLOCK", 40)
    assert make(samples=300, shape=[11]).sha256 == whole.sha256


@pytest.mark.parametrize(
    ("args", "low", "high"),
    [
        ({}, 0.95, 0.995),
        ({"shape": [93], "classes": 9}, 0.95, 0.999),
        ({"shape": [2], "classes": 3}, 0.95, 1.0),
        ({"separation": 3.0}, 0.4, 0.8),
        ({"separation": 12}, 0.999, 1.0),
    ],
)
def test_the_separation_sets_how_well_the_classes_can_be_told_apart(
    args: dict[str, Any], low: float, high: float
) -> None:
    assert low <= nearest_prototype_accuracy(make(**args)) <= high


def test_by_default_values_are_around_zero_and_within_one() -> None:
    arrays = load(Dataset(name="synthetic"), {})
    assert arrays.divisor == 127
    assert abs(float(arrays.x_train.mean())) < 0.01
    assert 0.9 < float(np.abs(arrays.x_train).max()) <= 1
