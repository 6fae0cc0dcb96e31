"""Targets as a file has them → labels that count from 0, and the names of the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.datasets.parts import Array
from harness.domain.errors import DataError

Place = Callable[[int], str]  # where a row's target is, as a person finds it


def as_labels(targets: Array, known: Sequence[str] | None, place: Place) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return a label a target and the names of the classes: those `known`, or else all there are, in order.

    Texts are in the order of the alphabet, whole numbers in their own.

    Raises:
        DataError: for a number that is not whole, or a class that is not among the known ones.
    """
    if targets.dtype.kind == "f":
        if (wrong := ~np.isfinite(targets) | (targets != np.rint(targets))).any():
            row = int(np.argmax(wrong))
            raise DataError(
                f'{place(row)}: {targets[row]} names no class; say targets="numbers" if it is to be predicted'
            )
        targets = targets.astype(np.int64)
    distinct, first, labels = np.unique(targets, return_index=True, return_inverse=True)
    names = [str(one).lower() if targets.dtype.kind == "b" else str(one) for one in distinct]
    if known is None:
        return labels.astype(np.int32), tuple(names)
    label_of = {name: label for label, name in enumerate(known)}
    for name, row in sorted(zip(names, first.tolist(), strict=True), key=lambda found: found[1]):
        if name not in label_of:
            some = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
            raise DataError(f"{place(row)}: {name!r} is no class of those trained on; these are: {some}")
    return np.array([label_of[name] for name in names], np.int32)[labels], tuple(known)


def as_numbers(targets: Array, place: Place) -> NDArray[np.float64]:
    """Return targets that are to be predicted as numbers.

    Raises:
        DataError: for texts, and for what is not finite.
    """
    if targets.dtype.kind not in "buif":
        raise DataError(f"{place(0)}: {str(targets.reshape(-1)[0])!r} is no number, and the targets are to be numbers")
    numbers = targets.astype(np.float64)
    if not (finite := np.isfinite(numbers)).all():
        row = int(np.argwhere(~finite)[0][0])
        raise DataError(f"{place(row)}: {numbers[row]} is no finite number")
    return numbers
