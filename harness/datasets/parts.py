"""A dataset as it is stored: the bytes before any option is applied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.catalogue import StoredArray, fingerprint
from harness.domain.errors import DataError

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
    feature_names: tuple[str, ...] | None = None  # of a table's columns
    class_names: tuple[str, ...] | None = None  # by label; None: a label is its own name


def describe(array: Array) -> StoredArray:
    """Return the type, shape and digest of an array's bytes in C order."""
    digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return StoredArray(dtype=str(array.dtype), shape=array.shape, sha256=digest)


def describe_all(arrays: Mapping[str, Array]) -> dict[str, StoredArray]:
    """Return `describe` of each array."""
    return {key: describe(array) for key, array in arrays.items()}


def assembled(arrays: Mapping[str, Array], owner: str) -> Parts:
    """Return a dataset of x_train and y_train and, where it has a test part, x_test and y_test.

    Raises:
        DataError: naming `owner`, where they do not go together.
    """
    x_train, y_train = arrays["x_train"], arrays["y_train"]
    x_test, y_test = arrays.get("x_test", x_train[:0]), arrays.get("y_test", y_train[:0])
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y):
            raise DataError(f"{owner}: x_{part} has {len(x)} samples, but y_{part} has {len(y)}")
    if (x_train.dtype, x_train.shape[1:]) != (x_test.dtype, x_test.shape[1:]):
        raise DataError(
            f"{owner}: a sample of x_train is {x_train.dtype} {x_train.shape[1:]}, "
            f"one of x_test is {x_test.dtype} {x_test.shape[1:]}"
        )
    labelled = y_train.dtype.kind != "f"
    if labelled != (y_test.dtype.kind != "f") or y_train.shape[1:] != y_test.shape[1:]:
        raise DataError(
            f"{owner}: y_train holds {y_train.dtype} {y_train.shape[1:]}, y_test {y_test.dtype} {y_test.shape[1:]}; "
            f"both must be labels, or both numbers of one shape"
        )
    return Parts(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=1 + max(int(y.max()) for y in (y_train, y_test) if len(y)) if labelled else None,
        sha256=fingerprint(describe_all(arrays)),
    )


def random_bits(seed: int, stream: int, count: int) -> NDArray[np.uint64]:
    """Return `count` random 64-bit numbers; streams of one seed are independent of one another.

    NumPy promises that a bit generator's raw numbers never change, as it does not for the distributions drawn from
    them; so everything random in a dataset is made of these by exact arithmetic, and is the same on every machine.
    """
    return np.random.PCG64(np.random.SeedSequence([seed, stream])).random_raw(count)


def shuffled(seed: int, stream: int, count: int) -> NDArray[np.int64]:
    """Return the numbers below `count` in an order that depends on the seed and the stream alone."""
    return np.argsort(random_bits(seed, stream, count), kind="stable")
