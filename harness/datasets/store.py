"""Where the stored datasets lie, and how they are read: never unverified, never unpickled, never replaced by others.

`mnist` may lie in ``$HARNESS_DATA_DIR``, in harness's own folder, or in Keras's cache; the first of these that has the
file is the one that counts, whatever it holds. An array is read and verified once a process and then kept as stored.
No uncompressed copy is kept on disk: decompressing all of MNIST's training images takes about 0.15 s a process and
verifying them 0.03 s, which a second file, 5 times as large, would save only in part.
"""

from __future__ import annotations

import io
import os
import socket
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from harness.datasets.catalogue import entry, fingerprint
from harness.datasets.parts import Array, Parts, describe
from harness.domain.errors import DataError, known

ENVIRONMENT = "HARNESS_DATA_DIR"


def own_folder() -> Path:
    """Return the folder that ``harness data fetch`` and ``import`` write to."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else _cache_folder()


def places(name: str) -> list[Path]:
    """Return the files that may hold the dataset, the first to be looked for first."""
    found = entry(name)
    if found.kept == "shipped":
        return [Path(__file__).with_name(found.filename)]
    if found.kept == "generated":
        return []
    folders = [own_folder(), _cache_folder()]
    if found.arrays:
        folders.append(Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets")
    return [folder / found.filename for folder in dict.fromkeys(folders)]


def find(name: str) -> Path | None:
    """Return the file that holds the dataset, unread, or None."""
    return next((path for path in places(name) if path.exists()), None)


def located(name: str) -> Path:
    """Return the file that holds the dataset, unread.

    Raises:
        DataError: where there is none, with every way to get it.
    """
    path = find(name)
    if path is None:
        looked = ", ".join(str(place) for place in places(name))
        raise DataError(
            f"the dataset {name!r} is not on {socket.gethostname()} (looked for {looked}). {ways_to_get(name)}"
        )
    return path


def ways_to_get(name: str) -> str:
    """Return what a user can do to have the dataset."""
    found = entry(name)
    if found.kept == "shipped":
        return "It is a part of harness: install harness again."
    if not found.arrays:
        return (
            f"To get it: the competition is closed, so there is nothing to download; with your own copy of train.csv, "
            f"run `harness data import {name} FILE`, or set {ENVIRONMENT} to a folder that holds {found.file}. "
            f"Without one, {name}_like stands in for it."
        )
    return (
        f"To get it: set {ENVIRONMENT} to a folder that holds {name}.npz; or run `harness data fetch {name}` where "
        f"there is a network; or run `harness data import {name} FILE` with a copy of Keras's {name}.npz."
    )


def load_stored(name: str, *, test: bool) -> Parts:
    """Return the parts of a stored dataset, verified; the test part only where asked for.

    Raises:
        DataError: for a dataset that is not here, or a file that does not hold it.
    """
    path = located(name)
    try:
        state = path.stat()
        arrays = {
            key: _read_once(name, key, path, state.st_mtime_ns, state.st_size)
            for key in ("x_train", "y_train", *(("x_test", "y_test") if test else ()))
        }
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found = entry(name)
    x_train, y_train = arrays["x_train"], arrays["y_train"]
    return Parts(
        x_train=x_train,
        y_train=y_train,
        x_test=arrays.get("x_test", x_train[:0]),
        y_test=arrays.get("y_test", y_train[:0]),
        classes=found.classes,
        sha256=fingerprint(found.arrays),
    )


def read_verified(name: str, path: Path, keys: Collection[str]) -> dict[str, Array]:
    """Return some arrays of a file that should hold the dataset `name`, their bytes verified.

    Raises:
        DataError: for a file that is missing, cut off or of another kind, or that holds other arrays.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; the dataset {name!r} is one file, {name}.npz")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.removesuffix(".npy") for member in archive.namelist()}
            if missing := [key for key in keys if key not in members]:
                raise DataError(
                    f"{path} does not hold the dataset {name!r}: it lacks {known(missing)}; "
                    f"it has {known(members) or 'nothing'}. {ways_to_get(name)}"
                )
            for key in keys:
                with archive.open(f"{key}.npy") as member:
                    arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # a broken file can make the readers of zip and npy raise almost anything
        raise DataError(
            f"{path} cannot be read as {name}.npz; it may be cut off, or no .npz file, or hold pickled Python objects, "
            f"which are never loaded: {type(error).__name__}: {error}. {ways_to_get(name)}"
        ) from error
    verify_arrays(name, arrays, str(path))
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def verify_arrays(name: str, arrays: Mapping[str, Array], origin: str) -> None:
    """Raise unless these arrays are, byte for byte, those of the dataset `name`.

    Raises:
        DataError: naming the origin, the array, and what was expected and found.
    """
    for key, array in arrays.items():
        expected = entry(name).arrays[key]
        found = describe(array)
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            what = f"{key} is {found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
        elif found.sha256 != expected.sha256:
            what = f"the sha256 of {key} is {found.sha256}, expected {expected.sha256}"
        else:
            continue
        raise DataError(f"{origin} does not hold the dataset {name!r}: {what}. {ways_to_get(name)}")


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a compressed .npz file that depend on the arrays alone, not on the clock."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy")  # dated 1980, as all ZipInfo are unless told
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return file.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside and rename it into place, so that no reader ever sees a part of it.

    Raises:
        DataError: for a place that cannot be written.
    """
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            aside = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    except OSError as error:
        if aside is not None:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written: {error}. Set {ENVIRONMENT} to a folder that can be, or unset it"
        ) from error


@lru_cache(maxsize=8)
def _read_once(name: str, key: str, path: Path, _modified_ns: int, _size: int) -> Array:
    return read_verified(name, path, (key,))[key]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness" / "datasets"
