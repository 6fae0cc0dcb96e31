"""Datasets that are Python functions of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.datasets.catalogue import title
from harness.datasets.parts import Array, Parts, assembled
from harness.domain import sources
from harness.domain.errors import DataError, known
from harness.domain.setting import Dataset

_FORMS = (
    "((x_train, y_train), (x_test, y_test)), a mapping with the keys x_train, y_train, x_test and y_test, "
    "or (x, y) with a tail or a fold as the held-out part"
)


def call(dataset: Dataset, texts: Mapping[str, sources.Source]) -> Parts:
    """Call the function with the dataset's arguments, and return what it gave, checked but unchanged.

    Raises:
        DataError: when its source is not here, or it raises, or what it gives is no dataset.
    """
    args = dict(dataset.args)
    name, sha256 = args.pop("function"), args.pop("sha256")
    if sha256 not in texts:
        raise DataError(f"the text of the file that defines {title(dataset)} (sha256 {sha256}) did not come with it")
    try:
        given = sources.resolve(name, sha256, dict(texts))(**args)
    except Exception as error:
        raise DataError(f"{title(dataset)} of {texts[sha256].path} raised {type(error).__name__}: {error}") from error
    owner = f"{title(dataset)} of {texts[sha256].path}"
    arrays = {key: _array(value, key, owner) for key, value in _named(given, owner).items()}
    return assembled(arrays, owner)


def _named(given: Any, owner: str) -> dict[str, Any]:
    """Return what the function gave, by name: x_train and y_train and, where it has a test part, x_test and y_test."""
    if isinstance(given, Mapping):
        keys = set(given)
        if keys not in ({"x_train", "y_train"}, {"x_train", "y_train", "x_test", "y_test"}):
            raise DataError(f"{owner} returned a mapping with the keys {known(keys)}; it should return {_FORMS}")
        return dict(given)
    if isinstance(given, tuple | list) and len(given) == 2:
        if all(isinstance(part, tuple) and len(part) == 2 for part in given):
            (x_train, y_train), (x_test, y_test) = given
            return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        return {"x_train": given[0], "y_train": given[1]}
    raise DataError(f"{owner} returned a {type(given).__name__}; it should return {_FORMS}")


def _array(value: Any, key: str, owner: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{owner}: {key} cannot be made an array: {error}") from error
    if array.dtype.kind not in "buif":
        raise DataError(f"{owner}: {key} holds {array.dtype}, not numbers")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{owner}: {key} has the shape {array.shape}; it needs at least one sample")
    if key.startswith("y") and array.dtype.kind != "f":
        array = array.reshape(-1) if array.shape[1:] == (1,) else array
        if array.ndim != 1:
            raise DataError(f"{owner}: the labels {key} have the shape {array.shape}; give one whole number a sample")
        for label in (int(array.min()), int(array.max())):
            if not 0 <= label < 2**31:
                raise DataError(f"{owner}: {key} holds the label {label}; labels count from 0 and fit into 31 bits")
    return array
