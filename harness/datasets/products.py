"""Products described by counts: the closed competition's file as the user has it, and made-up data of the same shape.

The made-up counts are mostly 0 and skewed, as real ones are. Every class has a few kinds of product; a class and a kind
each raise some of the features and lower the rest, and a product as a whole is quiet, usual or busy. With these figures
softmax regression, as D2 of `suites/tabular.py` does it, gets 0.665 of the samples right after its first step and 0.67
after its 25th, while 20 epochs of a linear network (D5) get it to about 0.79. All of it is exact arithmetic on
random bits: the same arguments give the same bytes on every machine.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets import tables
from harness.datasets.catalogue import PRODUCT_COUNTS, entry, fingerprint
from harness.datasets.labels import as_labels
from harness.datasets.parts import Array, Parts, describe_all, random_bits, shuffled
from harness.domain.errors import DataError

TARGET, ID = "target", "id"

_ORDER, _VALUES, _KINDS = range(3)  # streams of random bits that make samples, of the seed asked for
_BASE, _TAIL, _CLASS, _KIND = range(4)  # and those that make the problem, always of seed 0

_PER_CLASS = 3  # kinds of product
_RAISED = 0.2  # the share of the features that a class or a kind raises ...
_UP, _DOWN = 10.5, 0.75  # ... by this factor; the rest are lowered by that one
_LEVELS = (0.2, 1.0, 4.0)  # how busy a product is
_RARE, _COMMON = 0.01, 0.25  # between these lies the chance that a feature is not 0, before any factor


def read(path: Path) -> Parts:
    """Return the competition's ``train.csv``, its structure checked; it has no test part.

    Raises:
        DataError: naming the file and what is wrong: a column, a row and its value, a class.
    """
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path} is not the dataset 'products', which is a CSV file, train.csv")
    state = path.stat()
    return _read_once(path, state.st_mtime_ns, state.st_size)


def count_rows(path: Path) -> int:
    """Return how many samples the file has by its lines, unread otherwise."""
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        file.seek(max(0, file.tell() - 1))
        return lines - (file.read(1) == b"\n")


@lru_cache(maxsize=2)
def make(*, samples: int, seed: int) -> Parts:
    """Return made-up counts: the classes in the shares of the real ones and in mixed order, without a test part.

    Fewer samples are the first of more; `seed` draws other samples of the same problem.
    """
    found = entry("products_like")
    features = found.shape[0]
    labels = np.repeat(np.arange(len(PRODUCT_COUNTS)), PRODUCT_COUNTS)[shuffled(seed, _ORDER, found.train)][:samples]
    kinds = random_bits(seed, _KINDS, samples)
    kind = (labels * _PER_CLASS + _below(kinds, _PER_CLASS)) * len(_LEVELS)
    kind += _below(kinds >> np.uint64(32), len(_LEVELS))
    chances, tails = _chances(len(PRODUCT_COUNTS), features)
    width = -(-features // 4) * 4
    drawn = _quarters(random_bits(seed, _VALUES, samples * width // 4)).reshape(samples, width)[:, :features]
    return _parts("products_like", _counts(np.ascontiguousarray(drawn), kind, chances, tails), labels.astype(np.int32))


def _counts(
    drawn: NDArray[np.uint16], kind: NDArray[np.int64], chances: NDArray[np.float64], tails: NDArray[np.float64]
) -> NDArray[np.uint16]:
    """Return counts: each number drawn is one more than 0 for every chance it is below, and the chances shrink."""
    counts = np.zeros(drawn.size, np.uint16)
    values, features = drawn.reshape(-1), drawn.shape[1]
    limits = np.rint(chances * 65536).astype(np.uint16)
    still = np.flatnonzero(drawn < limits[kind])
    while len(still):
        counts[still] += 1
        chances = chances * tails
        limits = np.rint(chances * 65536).astype(np.uint16)
        row, column = np.divmod(still, features)
        still = still[values[still] < limits[kind[row], column]]
    return counts.reshape(drawn.shape)


def _chances(classes: int, features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the chance that a feature is not 0, a row a kind of product, and that it goes on counting."""
    base = _fractions(_BASE, features)
    base = _RARE + (_COMMON - _RARE) * (base * base * base)  # a few features are common, most are rare
    by_class = np.where(_fractions(_CLASS, classes * features) < _RAISED, _UP, _DOWN).reshape(classes, 1, features)
    by_kind = np.where(_fractions(_KIND, classes * _PER_CLASS * features) < _RAISED, _UP, _DOWN)
    factors = (by_class + by_kind.reshape(classes, _PER_CLASS, features)) / 2
    chances = (base * factors)[:, :, None, :] * np.array(_LEVELS)[:, None]
    return np.minimum(chances, 0.95).reshape(-1, features), 0.4 + 0.5 * _fractions(_TAIL, features)


def _fractions(stream: int, count: int) -> NDArray[np.float64]:
    """Return numbers from 0 to below 1."""
    return _quarters(random_bits(0, stream, -(-count // 4)))[:count] / 65536


def _quarters(bits: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the four quarters of each number, the low one first."""
    shifts = np.array([0, 16, 32, 48], np.uint64)
    return ((bits[:, None] >> shifts) & np.uint64(0xFFFF)).astype(np.uint16).reshape(-1)


def _below(bits: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    return (bits % np.uint64(limit)).astype(np.int64)


@lru_cache(maxsize=2)
def _read_once(path: Path, _modified_ns: int, _size: int) -> Parts:
    found = entry("products")
    names, classes = found.feature_names or (), found.class_names or ()
    table = tables.read(path)
    table.require((ID, *names, TARGET))
    if more := [name for name in table.columns if name not in (ID, *names, TARGET)]:
        raise DataError(f"{path} does not hold the dataset 'products': it has a column {more[0]!r} besides")
    counts = tables.numbers(table, names)
    wrong = (counts < 0) | (counts > np.iinfo(np.uint16).max) | (counts != np.rint(counts))
    if wrong.any():
        row, column = (int(one) for one in np.argwhere(wrong)[0])
        raise DataError(
            f"{table.place(names[column], row)}: {counts[row, column]} is no count, a whole number from 0 to 65535"
        )
    labels, _ = as_labels(tables.values(table, TARGET), classes, lambda row: table.place(TARGET, row))
    return _parts("products", counts.astype(np.uint16), labels)


def _parts(name: str, x: Array, y: Array) -> Parts:
    found = entry(name)
    for array in (x, y):
        array.flags.writeable = False  # it is kept
    return Parts(
        x_train=x,
        y_train=y,
        x_test=x[:0],
        y_test=y[:0],
        classes=found.classes,
        sha256=fingerprint(describe_all({"x_train": x, "y_train": y})),
        feature_names=found.feature_names,
        class_names=found.class_names,
    )
