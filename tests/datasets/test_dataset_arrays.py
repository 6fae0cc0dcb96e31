"""Splitting and scaling: what of a dataset a trial trains on, and what it is validated on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.datasets import load
from harness.datasets.parts import Array
from harness.domain.component import Component
from harness.domain.errors import DataError, SuiteError
from harness.domain.setting import Dataset
from harness.domain.sources import collected, describe

# Twelve samples that tell their own number, in three classes of 6, 3 and 3.
NUMBERS = np.arange(12, dtype=np.uint8).reshape(12, 1)
LABELS = np.array([0, 0, 1, 0, 2, 0, 1, 0, 2, 0, 1, 2])


def numbered() -> Any:
    return NUMBERS, LABELS


def with_test(dtype: str = "uint8", top: float = 200) -> Any:
    x = np.array([[0, 0], [0, 100], [top, top]], dtype=dtype)
    return (x, np.array([0, 1, 1])), (x[:2] + x[1:], np.array([1, 0]))


def measured() -> Any:
    return np.array([[0.5], [0.25], [1.0]]), np.array([1.5, 2.5, 3.5])


def spoilt(where: str) -> Any:
    x, y = np.array([[0.5], [0.25], [1.0]]), np.array([1.5, 2.5, 3.5])
    (x if where == "x" else y)[1] = np.nan if where == "x" else 1e300
    return x, y


def own(function: Any, *, take: int | None = None, scale: Any = "none", held: Any = None, **args: Any) -> Dataset:
    held_out = Component.of("held_out", held or "test")
    return Dataset(name="function", take=take, scale=scale, held_out=held_out, args={**describe(function), **args})


def rows(x: Array) -> list[int]:
    return [int(value) for value in x[:, 0]]


def fold(k: int, of: int, how: str, **more: Any) -> dict[str, Any]:
    return {"name": "fold", "k": k, "of": of, "how": how, **more}


def test_a_tail_is_the_last_fraction_of_the_samples_taken() -> None:
    arrays = load(own(numbered, take=10, held={"name": "tail", "fraction": 0.2}), collected())
    assert rows(arrays.x_train) == list(range(8))
    assert rows(arrays.x_val) == [8, 9]
    assert arrays.y_val.tolist() == LABELS[8:10].tolist()


def test_contiguous_folds_are_cut_in_order_and_the_first_ones_are_larger() -> None:
    held = [rows(load(own(numbered, take=11, held=fold(k, 3, "contiguous")), collected()).x_val) for k in range(3)]
    assert held == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


@pytest.mark.parametrize("how", ["contiguous", "shuffled", "stratified"])
@pytest.mark.parametrize("of", [2, 5, 12])
def test_every_sample_is_held_out_in_exactly_one_fold_and_trained_on_in_the_others(how: str, of: int) -> None:
    held_out: list[int] = []
    for k in range(of):
        arrays = load(own(numbered, held=fold(k, of, how)), collected())
        assert sorted(rows(arrays.x_train) + rows(arrays.x_val)) == list(range(12))
        assert arrays.y_train.tolist() == LABELS[rows(arrays.x_train)].tolist()
        held_out += rows(arrays.x_val)
    assert sorted(held_out) == list(range(12))


@pytest.mark.parametrize("seed", [{}, {"seed": 3}])
def test_stratified_folds_hold_each_class_to_within_one_sample(seed: dict[str, int]) -> None:
    for k in range(3):
        arrays = load(own(numbered, held=fold(k, 3, "stratified", **seed)), collected())
        assert np.bincount(arrays.y_val).tolist() == [2, 1, 1]


def test_shuffled_folds_depend_on_the_seed_alone() -> None:
    def val(**more: Any) -> list[int]:
        return rows(load(own(numbered, held=fold(0, 3, "shuffled", **more)), collected()).x_val)

    assert val() == val(seed=0) == val(seed=0)
    assert val(seed=0) != val(seed=1)
    assert val(seed=0) == [1, 2, 3, 11]  # on every machine and with every NumPy


def test_stratified_folds_need_classes() -> None:
    with pytest.raises(SuiteError, match="'stratified', but the dataset function 'measured' has numbers, not classes"):
        load(own(measured, held=fold(0, 3, "stratified")), collected())


def test_samples_are_contiguous_float32_and_labels_int32_whatever_was_stored() -> None:
    for held in ("test", {"name": "tail", "fraction": 0.5}, fold(1, 2, "shuffled")):
        arrays = load(own(with_test, held=held, dtype="int64", top=3), collected())
        for x in (arrays.x_train, arrays.x_val):
            assert x.dtype == np.float32
            assert x.flags.c_contiguous
        for y in (arrays.y_train, arrays.y_val):
            assert y.dtype == np.int32
            assert y.flags.c_contiguous
        assert arrays.classes == 2


def test_targets_that_are_numbers_stay_float32_and_have_no_classes() -> None:
    arrays = load(own(measured, held=fold(0, 3, "contiguous")), collected())
    assert arrays.classes is None
    assert arrays.y_train.dtype == np.float32
    assert arrays.y_train.tolist() == [2.5, 3.5]


def test_scale_none_leaves_the_values_as_stored() -> None:
    arrays = load(own(with_test), collected())
    assert arrays.x_train.tolist() == [[0, 0], [0, 100], [200, 200]]
    assert (arrays.offset, arrays.divisor) == (0.0, 1.0)


@pytest.mark.parametrize(("dtype", "top", "divisor"), [("uint8", 200, 255), ("int8", 100, 127), ("uint16", 9, 65535)])
def test_scale_unit_divides_by_the_largest_value_of_the_stored_type(dtype: str, top: int, divisor: int) -> None:
    arrays = load(own(with_test, scale="unit", dtype=dtype, top=top), collected())
    assert (arrays.offset, arrays.divisor) == (0.0, divisor)
    assert arrays.x_train[2, 0] == np.float32(top) / np.float32(divisor)


def test_scale_unit_leaves_values_that_are_within_one_already() -> None:
    arrays = load(own(measured, scale="unit", held=fold(0, 3, "contiguous")), collected())
    assert arrays.divisor == 1.0
    assert arrays.x_train.tolist() == [[0.25], [1.0]]


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_scale_unit_refuses_values_whose_unit_nobody_knows(dtype: str) -> None:
    with pytest.raises(DataError, match=rf"'unit', but .*'with_test' gives {dtype} values of up to 300; .*'standard'"):
        load(own(with_test, scale="unit", dtype=dtype), collected())


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int32"])
def test_scale_standard_uses_the_samples_trained_on_and_no_others(dtype: str) -> None:
    arrays = load(own(with_test, take=2, scale="standard", dtype=dtype), collected())
    assert arrays.offset == pytest.approx(25)
    assert arrays.divisor == pytest.approx(np.std([0, 0, 0, 100]))
    assert arrays.x_train.mean() == pytest.approx(0, abs=1e-6)
    assert arrays.x_train.std() == pytest.approx(1)
    assert arrays.x_val[0].tolist() == pytest.approx(((np.array([0, 100]) - 25) / arrays.divisor).tolist())


def test_the_mean_and_deviation_of_pixels_are_those_of_numpy_in_float64() -> None:
    arrays = load(Dataset(name="mnist5k", take=3_000, scale="standard"), {})
    raw = load(Dataset(name="mnist5k", take=3_000, scale="none"), {}).x_train.astype(np.float64)
    assert arrays.offset == pytest.approx(raw.mean(), rel=1e-13)
    assert arrays.divisor == pytest.approx(raw.std(), rel=1e-13)


def test_scale_standard_refuses_data_that_do_not_vary() -> None:
    with pytest.raises(DataError, match=r"standard deviation 0\.0; use scale='none'"):
        load(own(with_test, take=1, scale="standard"), collected())


@pytest.mark.parametrize("where", ["x", "y"])
def test_values_that_no_float32_can_hold_are_refused(where: str) -> None:
    with pytest.raises(DataError, match="gives 1 values that are NaN, infinite or beyond float32"):
        load(own(spoilt, held=fold(0, 3, "contiguous"), where=where), collected())
