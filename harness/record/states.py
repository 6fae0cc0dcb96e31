"""The states of trials in their middle, in a run's folder: written whole or not at all, the last one of each trial.

``states/<trial>-<run>-<attempt>.state``: <run> is the how-manieth process to write the run, <attempt> the how-manieth
attempt of that process at the trial. A state of an earlier attempt than one that is there is dropped: it comes late,
from a worker that was given up. A file is what the worker made (`harness.domain.state`), checksum and all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from harness.domain.state import StateError, unpack
from harness.domain.trial import Trial
from harness.record.journal import Key

FOLDER: Final = "states"
_SUFFIX: Final = ".state"


def stem(key: Key) -> str:
    """Return what the names of a trial's own files and folders begin with."""
    trial_id, arm = key
    return trial_id if arm == "default" else f"{trial_id}-{hashlib.sha256(arm.encode()).hexdigest()[:8]}"


class StateFiles:
    """The states in a run's folder; `guard` is called before each change, and raises if they are another's by now."""

    def __init__(self, run_folder: Path, *, run_attempt: int, guard: Callable[[], None]) -> None:
        self._folder = run_folder / FOLDER
        self._run_attempt = run_attempt
        self._guard = guard
        self._files: dict[str, tuple[tuple[int, int], Path]] = {}  # by stem: the attempt that has saved it
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            name, _, attempt = path.name.removesuffix(_SUFFIX).rpartition("-")
            name, _, run = name.rpartition("-")
            if run.isdigit() and attempt.isdigit():
                self._replace(name, (int(run), int(attempt)), path)

    def __len__(self) -> int:
        return len(self._files)

    def write(self, key: Key, attempt: int, state: bytes) -> None:
        """Keep a state instead of the one before.

        Raises:
            OSError: when it cannot be written; the one before is still there.
        """
        name, order = stem(key), (self._run_attempt, attempt)
        if name in self._files and order < self._files[name][0]:
            return
        self._folder.mkdir(exist_ok=True)
        hidden = self._folder / f".{name}.tmp"
        try:
            with hidden.open("wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            self._guard()
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        path = self._folder / f"{name}-{order[0]:04d}-{order[1]:04d}{_SUFFIX}"
        hidden.replace(path)
        self._replace(name, order, path)

    def read(self, trial: Trial) -> bytes | None:
        """Return the state that a trial can go on from, None where there is none.

        Raises:
            StateError: when the one there is cannot be used, which says why; it is removed.
        """
        name = stem(trial.key)
        if name not in self._files:
            return None
        path = self._files[name][1]
        try:
            data = path.read_bytes()
            unpack(trial, data)
        except (OSError, StateError) as error:
            self.remove([trial.key])
            raise StateError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        return data

    def remove(self, keys: Collection[Key]) -> None:
        """Remove the states of these trials."""
        for name in self._held(keys):
            self._guard()
            self._files.pop(name)[1].unlink(missing_ok=True)
        if not self._files and self._folder.exists():
            for path in (*self._folder.glob(".*.tmp"), *self._folder.glob(f"*{_SUFFIX}")):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else is in it
                self._folder.rmdir()

    def _held(self, keys: Collection[Key]) -> Iterator[str]:
        yield from [name for name in map(stem, keys) if name in self._files] if self._files else ()

    def _replace(self, name: str, order: tuple[int, int], path: Path) -> None:
        """Take note of a state, and remove what is older."""
        if name in self._files and self._files[name][1] != path:
            older = min((order, path), self._files[name])
            order, path = max((order, path), self._files[name])
            older[1].unlink(missing_ok=True)
        self._files[name] = (order, path)
