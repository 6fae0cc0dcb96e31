"""A dataset as it is stored: the bytes before any option is applied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.catalogue import StoredArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Samples and labels as stored; the test part is empty where there is none or where it was not asked for."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: int | None  # None: the targets are numbers
    sha256: str  # of all the dataset's stored arrays: see `catalogue.fingerprint`


def describe(array: Array) -> StoredArray:
    """Return the type, shape and digest of an array's bytes in C order."""
    digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return StoredArray(dtype=str(array.dtype), shape=array.shape, sha256=digest)


def describe_all(arrays: Mapping[str, Array]) -> dict[str, StoredArray]:
    """Return `describe` of each array."""
    return {key: describe(array) for key, array in arrays.items()}


def random_bits(seed: int, stream: int, count: int) -> NDArray[np.uint64]:
    """Return `count` random 64-bit numbers; streams of one seed are independent of one another.

    NumPy promises that a bit generator's raw numbers never change, as it does not for the distributions drawn from
    them; so everything random in a dataset is made of these by exact arithmetic, and is the same on every machine.
    """
    return np.random.PCG64(np.random.SeedSequence([seed, stream])).random_raw(count)


def shuffled(seed: int, stream: int, count: int) -> NDArray[np.int64]:
    """Return the numbers below `count` in an order that depends on the seed and the stream alone."""
    return np.argsort(random_bits(seed, stream, count), kind="stable")
