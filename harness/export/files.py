"""What an export writes, whole or not at all: never over something that is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.domain.errors import ResultsError

_WAY_OUT = "choose another place, or remove it first"


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a hidden name beside `path` to write to; at the end rename it into place.

    Raises:
        ResultsError: when something is at `path`, or its folder cannot be written to.
    """
    if path.exists():
        raise ResultsError(f"{path}: exists already; {_WAY_OUT}")
    with _written(path) as hidden:
        yield hidden


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside `path` to write into; at the end rename it into place.

    Raises:
        ResultsError: when something but an empty folder is at `path`, or its folder cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise ResultsError(f"{path}: is a file, and a folder is to be written; {_WAY_OUT}")
    try:
        if path.is_dir() and any(path.iterdir()):
            raise ResultsError(f"{path}: is a folder with something in it; {_WAY_OUT}")
    except OSError as error:
        raise _unwritable(path, error) from None
    with _written(path) as hidden:
        hidden.mkdir()
        yield hidden


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(hidden)
        yield hidden
        hidden.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        _remove(hidden)


def _remove(hidden: Path) -> None:
    """Remove what an export that was killed has left."""
    if hidden.is_dir():
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        try:
            hidden.unlink(missing_ok=True)
        except OSError:
            return  # the reason is told when it is written to


def _unwritable(path: Path, error: OSError) -> ResultsError:
    return ResultsError(f"{path}: cannot be written ({error.strerror or error}); choose another place")
