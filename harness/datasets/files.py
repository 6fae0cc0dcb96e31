"""Files of the user's own: npz, npy, CSV and Parquet → a dataset, or further rows for a model trained on one.

A file is what its declaration's sha256 says it is, wherever it lies. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import socket
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets import tables
from harness.datasets.declared import TABLES, check_kind
from harness.datasets.labels import Place, as_labels, as_numbers
from harness.datasets.parts import Array, Parts, assembled
from harness.domain.errors import DataError, known
from harness.domain.setting import Dataset

_LABELLED = "the arrays x and y, or x_train, y_train, x_test and y_test (the last two may be left out)"


def read(dataset: Dataset) -> Parts:
    """Return the arrays of a checked declaration, read once a process for as long as the files stay as they are.

    Raises:
        DataError: for a file that is not here, has changed, or cannot be read, by the place of what is wrong.
    """
    args = dataset.args
    paths = {part: Path(args[f"{part}path"]) for part in ("", "test_", "target_") if f"{part}path" in args}
    for part, path in paths.items():
        _check_unchanged(path, args[f"{part}sha256"])
    return _read_once(json.dumps(args, sort_keys=True), tuple(_state(path) for path in paths.values()))


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an npz file by name, or the one of an npy file as ``""``.

    Raises:
        DataError: for a file that is cut off, of another kind, or holds pickled objects.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return {"": np.lib.format.read_array(file, allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for member in archive.namelist():
                with archive.open(member) as file:
                    arrays[member.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # a broken file can make the readers of zip and npy raise almost anything
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: it has 0 bytes") from error
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds Python objects (arrays of type object), which are pickled and never loaded; make each "
                f"an array of numbers or texts, as in numpy.array(rows, dtype='float32'), and save it again"
            ) from error
        raise DataError(
            f"{path} cannot be read as {path.suffix}; it may be cut off or of another kind: "
            f"{type(error).__name__}: {error}"
        ) from error


def samples(array: Array, where: str) -> Array:
    """Return samples, checked to be finite numbers, a sample a row.

    Raises:
        DataError: naming the array and the place.
    """
    if array.dtype.kind not in "buif":
        raise DataError(f"{where} holds {array.dtype}, not numbers")
    if array.ndim < 2 or array.size == 0:
        raise DataError(f"{where} has the shape {array.shape}; it needs samples as rows, at least one, and features")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        at = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise DataError(f"{where}{list(at)} is {array[at]}, no finite number; fill it in or leave the row out")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


@lru_cache(maxsize=8)
def _read_once(declared: str, _states: tuple[Any, ...]) -> Parts:
    args = json.loads(declared)
    path = Path(args["path"])
    test = Path(args["test_path"]) if "test_path" in args else None
    made = _from_tables(args, path, test) if check_kind(args["path"]) in TABLES else _from_arrays(args, path, test)
    for array in (made.x_train, made.y_train, made.x_test, made.y_test):
        array.flags.writeable = False  # it is kept
    return made


def _from_tables(args: Mapping[str, Any], path: Path, test: Path | None) -> Parts:
    target, dropped = args["target"], args.get("drop", [])
    train = tables.read(path)
    train.require((target, *dropped))
    features = tuple(name for name in train.columns if name != target and name not in dropped)
    arrays = {"x_train": tables.numbers(train, features)}
    places = {"y_train": lambda row: train.place(target, row)}
    targets = {"y_train": tables.values(train, target)}
    if test is not None:
        held = tables.read(test)
        held.require((target, *features))
        if more := [name for name in held.columns if name not in (target, *features, *dropped)]:
            raise DataError(f"{test} has a column {more[0]!r}, which {path} does not have; say drop=[{more[0]!r}]")
        arrays["x_test"] = tables.numbers(held, features)
        places["y_test"] = lambda row: held.place(target, row)
        targets["y_test"] = tables.values(held, target)
        common = np.result_type(*arrays.values())
        arrays = {key: array.astype(common, copy=False) for key, array in arrays.items()}
    return replace(_labelled(args, arrays, targets, places), feature_names=features)


def _from_arrays(args: Mapping[str, Any], path: Path, test: Path | None) -> Parts:
    named = _pair(read_arrays(path), path, args.get("target_path"))
    if test is not None:
        if "x_test" in named:
            raise DataError(f"{path} has a test part of its own, x_test; leave test={test.name!r} out")
        other = _pair(read_arrays(test), test, None)
        if "x_test" in other:
            raise DataError(f"{test} should hold one part, x and y; it has x_test besides")
        named |= {"x_test": other["x_train"], "y_test": other["y_train"]}
    owners = {key: test if test is not None and key.endswith("test") else path for key in named}
    arrays = {key: samples(array, f"{owners[key]}, {key}") for key, array in named.items() if key.startswith("x")}
    targets = {key: array for key, array in named.items() if key.startswith("y")}
    places = {key: _place(f"{owners[key]}, {key}") for key in targets}
    return _labelled(args, arrays, targets, places)


def _pair(arrays: Mapping[str, Array], path: Path, target: str | None) -> dict[str, Array]:
    """Return a file's arrays as x_train, y_train and, where it has them, x_test and y_test."""
    if path.suffix.lower() == ".npy":
        table = arrays[""]
        if target is not None:
            return {"x_train": table, "y_train": read_arrays(Path(target))[""]}
        x, y = last_column(table, str(path))
        return {"x_train": x, "y_train": y}
    keys = set(arrays)
    if keys == {"x", "y"}:
        return {"x_train": arrays["x"], "y_train": arrays["y"]}
    if keys not in ({"x_train", "y_train"}, {"x_train", "y_train", "x_test", "y_test"}):
        raise DataError(f"{path} has the arrays {known(keys) or '(none)'}; it should have {_LABELLED}")
    return dict(arrays)


def last_column(table: Array, where: str) -> tuple[Array, Array]:
    """Return the features and the targets of a table whose last column is the target.

    Raises:
        DataError: for an array that is no such table.
    """
    if table.ndim != 2 or table.shape[1] < 2:
        raise DataError(
            f"{where} has the shape {table.shape}; it needs a row a sample, and the target as its last column, or "
            f'target="other.npy" for a target in a file of its own'
        )
    return table[:, :-1], table[:, -1]


def _labelled(
    args: Mapping[str, Any], arrays: Mapping[str, Array], targets: Mapping[str, Array], places: Mapping[str, Place]
) -> Parts:
    """Return the parts, their targets made labels or numbers as asked for, or else as their type suggests."""
    first = targets["y_train"]
    asked = args.get("targets") or ("numbers" if first.dtype.kind == "f" else "classes")
    made: dict[str, Array] = {}
    names: tuple[str, ...] | None = None
    for key in sorted(targets, reverse=True):  # y_train, which says what the classes are, before y_test
        target = flat(targets[key])
        if asked == "numbers":
            made[key] = as_numbers(target, places[key])
            continue
        made[key], names = as_labels(one_each(target, places[key]), names, places[key])
    return replace(assembled({**arrays, **made}, args["path"]), class_names=names)


def flat(targets: Array) -> Array:
    """Return a column of targets as a plain list of them."""
    return targets.reshape(-1) if targets.shape[1:] == (1,) else targets


def one_each(targets: Array, place: Place) -> Array:
    """Return targets that can name classes.

    Raises:
        DataError: for those of another type or shape.
    """
    if targets.ndim != 1 or targets.dtype.kind not in "buifU":
        where = place(0).removesuffix("[0]")
        raise DataError(
            f"{where} holds {targets.dtype} of the shape {targets.shape}; give one whole number or text a sample"
        )
    return targets


def _place(where: str) -> Place:
    return lambda row: f"{where}[{row}]"


def _check_unchanged(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise DataError(
            f"{path} is not a file on {socket.gethostname()}; it must lie at the same place on every machine that "
            f"trains on it, such as a folder that they share"
        )
    try:
        found = _content(*_state(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if found != sha256:
        raise DataError(
            f"{path} is not what it was when the suite was read: its sha256 is {found}, expected {sha256}; "
            f"start the run again to train on what it holds now, or bring the old file back"
        )


def _state(path: Path) -> tuple[Path, int, int]:
    state = path.stat()
    return path, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=32)
def _content(path: Path, _modified_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
