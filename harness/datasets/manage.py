"""What ``harness data list | fetch | import | verify`` do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.datasets import products, store, synthetic
from harness.datasets.catalogue import CATALOGUE, Entry, entry, fingerprint
from harness.datasets.parts import Array
from harness.domain.errors import DataError, SuiteError
from harness.domain.setting import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatus:
    """One dataset as it stands on this machine. That a file was found does not say that it is right: see `verify`."""

    name: str
    summary: str
    state: Literal["shipped", "found", "missing", "generated"]
    train: int  # of a file that was found and has no checksum: what it has
    test: int
    shape: tuple[int, ...]
    classes: int
    path: Path | None  # where it lies; None when generated or missing
    how_to_get: str  # "" when nothing needs to be done
    source: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A dataset whose every byte is what it should be, or its structure for one whose checksums nobody published."""

    name: str
    path: Path | None  # None: generated
    sha256: str  # of all its stored bytes


def list_datasets() -> list[DatasetStatus]:
    """Return every dataset and where it stands on this machine; data are not read, but for counting lines of text."""
    return [_status(found) for found in CATALOGUE.values()]


def fetch(name: str, *, download: Callable[[], Mapping[str, Array]] | None = None) -> Path:
    """Return the file that holds the dataset, verified; downloaded only where this machine has none.

    Raises:
        SuiteError: for an unknown dataset, or a generated one.
        DataError: when it cannot be downloaded or written, or the file that is here is not the dataset.
    """
    found = _with_file(name)
    path = store.find(name)
    if path is None and found.kept == "local" and found.arrays:
        arrays = _downloaded(name, download or _from_keras)
        path = store.own_folder() / f"{name}.npz"
        store.write_whole(path, store.npz_bytes(arrays))
    verify(name)
    return store.located(name)


def import_file(name: str, path: Path) -> Path:
    """Verify a user's copy of a dataset, put a copy of it where harness looks first, and return that place.

    Raises:
        SuiteError: for an unknown dataset, or one that needs no file of the user's.
        DataError: when the file is not the dataset, or the place cannot be written.
    """
    if _with_file(name).kept == "shipped":
        raise SuiteError(f"the dataset {name!r} is a part of harness; there is nothing to import")
    _read(entry(name), path)
    target = store.own_folder() / entry(name).filename
    if not (target.exists() and target.samefile(path)):
        store.write_whole(target, path.read_bytes())
    return target


def verify(name: str) -> Verified:
    """Read all of a dataset again and check every byte; of a generated one, that this machine makes the right ones.

    Raises:
        SuiteError: for an unknown dataset.
        DataError: when it is not here or not what it should be.
    """
    found = entry(name)
    if found.kept == "generated":
        made = synthetic.make(Dataset(name=name)) if name == "synthetic" else products.make(**found.defaults)
        arrays = {"x_train": made.x_train, "y_train": made.y_train, "x_test": made.x_test, "y_test": made.y_test}
        store.verify_arrays(name, {key: arrays[key] for key in found.arrays}, "what this machine generates")
        return Verified(name=name, path=None, sha256=fingerprint(found.arrays))
    path = store.located(name)
    return Verified(name=name, path=path, sha256=_read(found, path))


def _status(found: Entry) -> DatasetStatus:
    path = store.find(found.name)
    state: Literal["shipped", "found", "missing", "generated"]
    if found.kept == "local":
        state = "missing" if path is None else "found"
    else:
        state = found.kept
    return DatasetStatus(
        name=found.name,
        summary=found.summary,
        state=state,
        train=products.count_rows(path) if path is not None and not found.arrays else found.train,
        test=found.test,
        shape=found.shape,
        classes=found.classes,
        path=path,
        how_to_get=store.ways_to_get(found.name) if state == "missing" else "",
        source=found.source,
        licence=found.licence,
    )


def _read(found: Entry, path: Path) -> str:
    """Read all of the file of a dataset, and return the sha256 of the arrays in it."""
    if not found.arrays:
        if not path.is_file():
            raise DataError(f"{path} is not a file; the dataset {found.name!r} is one file, train.csv")
        return products.read(path).sha256
    store.read_verified(found.name, path, tuple(found.arrays))
    return fingerprint(found.arrays)


def _with_file(name: str) -> Entry:
    found = entry(name)
    if found.kept == "generated":
        raise SuiteError(f"the dataset {name!r} is generated when it is loaded; it has no file")
    return found


def _downloaded(name: str, download: Callable[[], Mapping[str, Array]]) -> Mapping[str, Array]:
    try:
        arrays = download()
    except Exception as error:
        raise DataError(f"the dataset {name!r} cannot be downloaded: {error}. {store.ways_to_get(name)}") from error
    store.verify_arrays(name, arrays, "the download")
    return arrays


def _from_keras() -> Mapping[str, Array]:
    """Return MNIST from Keras's downloader, which alone here needs Keras and takes seconds to import."""
    with redirect_stdout(sys.stderr):  # its progress bar
        from keras.datasets import mnist

        (x_train, y_train), (x_test, y_test) = mnist.load_data()
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
