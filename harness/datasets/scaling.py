"""What samples are scaled by: found on the samples trained on, kept for all that come after."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.datasets.catalogue import title
from harness.datasets.parts import Array
from harness.domain.errors import DataError
from harness.domain.setting import Dataset

Samples = NDArray[np.float32]
Scale = float | NDArray[np.float64]  # one number, or one for each feature, in the shape of a sample


def found(dataset: Dataset, x_train: Array, x_val: Array) -> tuple[Scale, Scale]:
    """Return the offset and the divisor that the dataset's `scale` asks for; a divisor of 0 makes all values 0.

    Raises:
        DataError: for data that cannot be scaled as asked.
    """
    if dataset.scale == "none":
        return 0.0, 1.0
    if dataset.scale == "unit":
        return 0.0, _largest(dataset, x_train, x_val)
    if dataset.scale == "columns":
        return _means_and_deviations(x_train)
    mean, deviation = _mean_and_deviation(x_train)
    if not deviation > 0:
        raise DataError(
            f"dataset.scale is 'standard', but the training samples of {title(dataset)} have the standard "
            f"deviation {deviation}; use scale='none'"
        )
    return mean, deviation


def scale_rows(raw: Array, offset: ArrayLike, divisor: ArrayLike) -> Samples:
    """Return samples less `offset` and over `divisor`, both as `Arrays` has them; where the divisor is 0, so are they.

    What float32 cannot hold is infinite or NaN in what is returned.
    """
    divisors = np.asarray(divisor, np.float64)
    divisors = np.where(divisors == 0, np.inf, divisors)
    # float32 would lose the last digits of large numbers, such as a time's in seconds, before the offset is taken off;
    # and so the same values give the same samples, whatever type they are stored in.
    exact = np.float64 if np.any(offset) else np.float32
    scaled = np.empty(raw.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller reports what is not finite
        np.subtract(raw, np.asarray(offset, exact), out=scaled, dtype=exact, casting="same_kind")
        if np.any(divisors != 1.0):
            np.divide(scaled, divisors.astype(np.float32), out=scaled)
    return scaled


def _largest(dataset: Dataset, x_train: Array, x_val: Array) -> float:
    """Return what "unit" divides by, so that all values come to lie between -1 and 1."""
    dtype = x_train.dtype
    if _small_integers(dtype):
        return float(np.iinfo(dtype).max)
    reach = max(float(np.abs(x.astype(np.float64)).max()) for x in (x_train, x_val))
    if reach > 1:
        raise DataError(
            f"dataset.scale is 'unit', but {title(dataset)} gives {dtype} values of up to {reach:g}; 'unit' takes "
            f"integers of 8 or 16 bits, or values already within -1 and 1; use scale='none', 'standard' or 'columns'"
        )
    return 1.0


def _mean_and_deviation(x: Array) -> tuple[float, float]:
    """Return both over all values; of small integers exactly, so that every machine finds the same."""
    if not _small_integers(x.dtype):
        return float(np.mean(x, dtype=np.float64)), float(np.std(x, dtype=np.float64))
    totals, squares = _sums(x.reshape(-1, 1))
    return _exactly(int(totals[0]), int(squares[0]), x.size)


def _means_and_deviations(x: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both of each feature, in the shape of a sample; the deviation of one that never varies is exactly 0."""
    flat = x.reshape(len(x), -1)
    if _small_integers(x.dtype):
        totals, squares = _sums(flat)
        exact = [_exactly(*sums, len(x)) for sums in zip(totals.tolist(), squares.tolist(), strict=True)]
        means, deviations = np.array(exact, np.float64).T
    else:
        means = np.mean(flat, axis=0, dtype=np.float64)
        deviations = np.where((flat == flat[0]).all(axis=0), 0.0, np.std(flat, axis=0, dtype=np.float64))
    return means.reshape(x.shape[1:]), deviations.reshape(x.shape[1:])


def _sums(x: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each column's sum and its sum of squares."""
    rows = max(1, (1 << 20) // x.shape[1])
    squares = np.zeros(x.shape[1], np.int64)
    for start in range(0, len(x), rows):
        squares += np.square(x[start : start + rows], dtype=np.int64).sum(axis=0)
    return x.sum(axis=0, dtype=np.int64), squares


def _exactly(total: int, squares: int, count: int) -> tuple[float, float]:
    return total / count, sqrt((count * squares - total * total) / count**2)


def _small_integers(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize <= 2
