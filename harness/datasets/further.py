"""Further rows of the user's own, read and scaled as those that a model was trained on: to evaluate and to predict."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets import files, tables
from harness.datasets.declared import TABLES, check_kind
from harness.datasets.labels import Place, as_labels, as_numbers
from harness.datasets.parts import Array
from harness.datasets.preparation import Preparation
from harness.datasets.products import ID, TARGET
from harness.datasets.scaling import Samples, scale_rows
from harness.domain.errors import DataError, known
from harness.domain.setting import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Samples for a trained model, a row of the file each, in its order."""

    x: Samples
    y: NDArray[np.int32] | NDArray[np.float32] | None  # labels or numbers; None where the file has no targets
    ids: tuple[str | int, ...] | None  # what the file calls its rows
    id_name: str | None  # the column that does


def rows(path: Path, dataset: Dataset, preparation: Preparation) -> Rows:
    """Return the rows of an npz, npy, CSV or Parquet file, scaled for a model that was trained on `dataset`.

    Of a table, the columns are found by name where the model was trained on one, or else taken in order. Its targets,
    if it has them, are in the column that `dataset` calls its target; its ids in the first column that `dataset`
    drops, or else in "id". An npz file has x, or x_test, and perhaps y, or y_test.

    Raises:
        SuiteError: for a kind of file that is not read.
        DataError: for a file that is not there or cannot be read, other features than the model was trained on, values
            that are no numbers, and a class that it was not trained on.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    raw, targets, place, ids, id_name = (
        _from_table(path, dataset, preparation)
        if check_kind(str(path)) in TABLES
        else _from_arrays(path, dataset, preparation)
    )
    y = None
    if targets is not None:
        if len(targets) != len(raw):
            raise DataError(f"{path} has {len(raw)} samples, but {len(targets)} targets")
        y = _targets(files.flat(targets), preparation, place)
    x = scale_rows(raw, preparation.offset, preparation.divisor)
    if not (finite := np.isfinite(x)).all():
        row = int(np.argwhere(~finite)[0][0])
        raise DataError(f"{path}: sample {row}, counted from 0, has values that are beyond float32 once scaled")
    return Rows(x=x, y=y, ids=ids, id_name=id_name)


_Read = tuple[Array, Array | None, Place, tuple[str | int, ...] | None, str | None]


def _from_table(path: Path, dataset: Dataset, preparation: Preparation) -> _Read:
    table = tables.read(path)
    target, dropped = _columns(dataset)
    besides = (target, *dropped, ID)
    names = preparation.feature_names or tuple(name for name in table.columns if name not in besides)
    table.require(names)
    if more := [name for name in table.columns if name not in (*names, *besides)]:
        raise DataError(
            f"{path} has a column {more[0]!r}, which the model was not trained on; leave it out of the file"
        )
    if len(names) != prod(preparation.shape):
        raise DataError(
            f"{path} has {len(names)} features ({', '.join(names[:8])}, ...), but the model was trained on samples of "
            f"the shape {preparation.shape}"
        )
    raw = tables.numbers(table, names).reshape(-1, *preparation.shape)
    id_name = next((name for name in (*dropped, ID) if name in table.columns and name not in names), None)
    return (
        raw,
        tables.values(table, target) if target in table.columns and target not in names else None,
        lambda row: table.place(target, row),
        None if id_name is None else tables.ids(table, id_name),
        id_name,
    )


def _from_arrays(path: Path, dataset: Dataset, preparation: Preparation) -> _Read:
    arrays = files.read_arrays(path)
    if "" in arrays:
        raw, targets = arrays[""], None
        if raw.shape[1:] == (prod(preparation.shape) + 1,) and "path" in dataset.args:
            raw, targets = files.last_column(raw, str(path))
    else:
        part = next((part for part in ("", "_test") if f"x{part}" in arrays), None)
        if part is None:
            raise DataError(
                f"{path} has the arrays {known(arrays) or '(none)'}; it should have x, and y if it is known"
            )
        raw, targets = arrays[f"x{part}"], arrays.get(f"y{part}")
    raw = files.samples(raw, str(path))
    if raw.shape[1:] != tuple(preparation.shape):
        raise DataError(
            f"{path} has samples of the shape {raw.shape[1:]}, but the model was trained on {preparation.shape}"
        )
    return raw, targets, lambda row: f"{path}, target {row}, counted from 0", None, None


def _columns(dataset: Dataset) -> tuple[str, list[Any]]:
    """Return the target's column and the columns that are no features."""
    if dataset.name == "file":
        return dataset.args.get("target", TARGET), dataset.args.get("drop", [])
    return TARGET, [ID]


def _targets(targets: Array, preparation: Preparation, place: Place) -> NDArray[np.int32] | NDArray[np.float32]:
    if preparation.classes is None:
        return as_numbers(targets, place).astype(np.float32)
    names = tuple(preparation.name_of(label) for label in range(preparation.classes))
    return as_labels(files.one_each(targets, place), names, place)[0]
