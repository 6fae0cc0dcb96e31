"""Datasets that are functions of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.datasets import load
from harness.domain.component import Component
from harness.domain.errors import DataError, SuiteError
from harness.domain.setting import Dataset
from harness.domain.sources import collected, describe

TAIL = Component(kind="held_out", name="tail", args={"fraction": 0.5})
X = np.array([[1.0], [2.0], [3.0], [4.0]])
Y = np.array([0, 1, 0, 1])


def returns(what: str = "pairs", size: int = 4) -> Any:
    """Return a dataset in one of the right forms, or one of the wrong ones."""
    return {
        "pairs": ((X[:size], Y[:size]), (X[:2] + 4, Y[:2])),
        "mapping": {"x_train": X, "y_train": Y, "x_test": X[:2] + 4, "y_test": Y[:2]},
        "x and y": (X, Y),
        "lists": [[[1], [2], [3], [4]], [0, 1, 0, 1]],
        "column of labels": ((X, Y.reshape(-1, 1)), (X[:2], Y[:2].reshape(-1, 1))),
        "nothing": None,
        "three": (X, Y, X),
        "half a mapping": {"x_train": X, "labels": Y},
        "texts": (X, np.array(["a", "b", "a", "b"])),
        "objects": (np.array([{}, [], 1, 2], dtype=object), Y),
        "ragged": ([[1], [2, 3], [4], [5]], Y),
        "scalar": (3, Y),
        "empty": (X[:0], Y[:0]),
        "lengths": (X, Y[:3]),
        "one-hot": (X, np.eye(4, dtype=int)),
        "negative": (X, Y - 1),
        "huge": (X, Y + 2**40),
        "other shape": ((X, Y), (np.zeros((2, 5)), Y[:2])),
        "other type": ((X, Y), (X[:2].astype(np.float32), Y[:2])),
        "other targets": ((X, Y), (X[:2], Y[:2] / 2)),
    }[what]


def raises() -> Any:
    return open("/nowhere/at/all.csv")


def own(what: str, held_out: Component = TAIL, **args: Any) -> Dataset:
    return Dataset(name="function", scale="none", held_out=held_out, args={**describe(returns), "what": what, **args})


TEST = Component(kind="held_out", name="test")


@pytest.mark.parametrize("what", ["pairs", "mapping"])
def test_a_function_may_return_pairs_or_a_mapping_with_a_test_part(what: str) -> None:
    arrays = load(own(what, TEST), collected())
    assert arrays.x_train.tolist() == X.tolist()
    assert arrays.x_val.tolist() == [[5], [6]]
    assert arrays.y_val.tolist() == [0, 1]
    assert arrays.classes == 2


@pytest.mark.parametrize("what", ["pairs", "mapping", "x and y", "lists", "column of labels"])
def test_with_a_tail_or_a_fold_the_test_part_is_not_needed_and_not_used(what: str) -> None:
    arrays = load(own(what), collected())
    assert arrays.x_train.tolist() == [[1], [2]]
    assert arrays.x_val.tolist() == [[3], [4]]
    assert arrays.y_train.tolist() == [0, 1]


def test_arguments_reach_the_function_and_its_bytes_are_fingerprinted() -> None:
    three, four = load(own("pairs", TEST, size=3), collected()), load(own("pairs", TEST, size=4), collected())
    assert (len(three.x_train), len(four.x_train)) == (3, 4)
    assert three.sha256 != four.sha256
    assert load(own("pairs"), collected()).sha256 == four.sha256


def test_a_function_without_a_test_part_needs_another_held_out_part() -> None:
    with pytest.raises(SuiteError, match="function 'returns' has no test part; use a tail or a fold"):
        load(own("x and y", TEST), collected())


def test_take_beyond_what_the_function_returned_names_both_numbers() -> None:
    with pytest.raises(SuiteError, match=r"take is 9, but the dataset function 'returns' holds 4 training samples"):
        load(own("x and y").model_copy(update={"take": 9}), collected())


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing", "returned a NoneType; it should return"),
        ("three", "returned a tuple; it should return"),
        ("half a mapping", "the keys labels, x_train; it should return"),
        ("texts", "y_train holds <U1, not numbers"),
        ("objects", "x_train holds object, not numbers"),
        ("ragged", "x_train cannot be made an array"),
        ("scalar", r"x_train has the shape \(\)"),
        ("empty", r"x_train has the shape \(0, 1\); it needs at least one sample"),
        ("lengths", "x_train has 4 samples, but y_train has 3"),
        ("one-hot", r"the labels y_train have the shape \(4, 4\)"),
        ("negative", "the label -1"),
        ("huge", "the label 1099511627776"),
        ("other shape", r"x_train is float64 \(1,\), one of x_test is float64 \(5,\)"),
        ("other type", r"x_train is float64 \(1,\), one of x_test is float32 \(1,\)"),
        ("other targets", r"y_train holds int64 \(\), y_test float64 \(\)"),
    ],
)
def test_what_is_no_dataset_is_refused_with_the_function_its_file_and_what_was_found(what: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        load(own(what), collected())
    assert "'returns'" in str(refused.value)
    assert __file__ in str(refused.value)


def test_a_function_that_raises_is_a_data_error_with_its_reason() -> None:
    with pytest.raises(DataError, match=r"'raises' of .*\.py raised FileNotFoundError: .*/nowhere/at/all\.csv"):
        load(Dataset(name="function", held_out=TAIL, args=describe(raises)), collected())


def test_an_argument_the_function_does_not_take_is_told_in_its_own_words() -> None:
    with pytest.raises(DataError, match=r"raised TypeError: .*'colour'"):
        load(own("pairs", colour=1), collected())


def test_a_function_whose_source_did_not_travel_is_named() -> None:
    with pytest.raises(DataError, match="text of the file that defines the dataset function 'returns'"):
        load(own("pairs"), {})
