"""Made-up classification problems of any shape: a prototype a class, and noise around it.

All of it is exact arithmetic on random bits, stored as int8 from -127 to 127, around 0: the same arguments give the
same bytes on every machine. `separation` is the typical distance between two prototypes in standard deviations of the
noise, whatever the shape; it sets how well the best classifier could do (with 10 classes, about 0.94 at 5 and 0.99 at
6; what can be learnt from a few thousand samples is less).
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.catalogue import fingerprint, own_args
from harness.datasets.parts import Parts, describe_all, random_bits, shuffled
from harness.domain.setting import Dataset

_PROTOTYPES, _TRAIN, _TEST, _TRAIN_ORDER, _TEST_ORDER = range(5)  # streams of random bits
_BLOCK = 1 << 16  # values made at a time, to stay in the processor's cache


def make(dataset: Dataset) -> Parts:
    """Return the training and test parts that the arguments describe: classes of equal size, in mixed order."""
    args = own_args(dataset)
    x_train, y_train = _samples(args, args["samples"], _TRAIN, _TRAIN_ORDER)
    x_test, y_test = _samples(args, args["test_samples"], _TEST, _TEST_ORDER)
    arrays = describe_all({"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test})
    return Parts(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=args["classes"],
        sha256=fingerprint(arrays),
    )


def _samples(args: dict[str, Any], count: int, stream: int, order: int) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return `count` samples and labels; `stream` and `order` are the streams that they are made of."""
    seed, classes, shape = args["seed"], args["classes"], tuple(args["shape"])
    size = prod(shape)
    spread = args["separation"] / sqrt(2 * size)  # of the prototypes, in standard deviations of the noise
    noise = 127 / (3.5 + 2 * spread)  # its standard deviation: nearly all values fit into -127 to 127
    prototypes = spread * noise * _bell(random_bits(seed, _PROTOTYPES, classes * size)).reshape(classes, size)
    labels = (shuffled(seed, order, count) % classes).astype(np.int32)
    samples = np.empty((count, size), np.int8)
    bits = np.random.PCG64(np.random.SeedSequence([seed, stream]))
    rows = max(1, _BLOCK // size)
    for start in range(0, count, rows):
        chosen = labels[start : start + rows]
        values = prototypes[chosen] + noise * _bell(bits.random_raw(len(chosen) * size)).reshape(-1, size)
        samples[start : start + rows] = np.clip(np.rint(values), -127, 127)
    return samples.reshape(count, *shape), labels


def _bell(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return values of mean 0 and variance 1, nearly normal: each the sum of the four quarters of 64 random bits."""
    low = np.uint64(0x0000FFFF0000FFFF)
    pairs = (bits & low) + ((bits >> np.uint64(16)) & low)
    sums = (pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))
    return (sums.astype(np.float64) - 2 * 65535) / sqrt((65536**2 - 1) / 3)
