"""Where the process that keeps resident workers is found: a folder of this user's alone, on this machine.

It holds a lock, held for as long as that process lives; `state.json`, what it says of itself; a Unix socket, and the
key to it; a log. Nothing is imported here that takes long: every command looks here.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import SetupError

_LONGEST: Final = 80  # bytes of a folder's path: a socket's may have 107
_PATIENCE_S: Final = 0.3  # for another command's look at the lock


def folder() -> Path:
    """Return the folder, which need not exist: in the user's run-time folder, else with the temporary files."""
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    if own and len(os.fsencode(own)) <= _LONGEST:
        return Path(own) / "harness-up"
    named = os.environ.get("TMPDIR", "")
    return Path(named if named and len(os.fsencode(named)) <= _LONGEST else "/tmp") / f"harness-up-{os.getuid()}"


def state() -> dict[str, Any] | None:
    """Return what the process says of itself; None where there is none.

    `pid`, `since` (Unix s), `state` ("starting", "idle", "running" or "ending"), `address` of the cluster or None,
    `workers` a node at most or None, `idle_s`, `ends_at` (Unix s; None: a run goes on), `run` (None, or `pid` and
    `command`), and `reaper`, the process that cleans up after it, or None.
    """
    place = folder()
    if not _is_own(place):
        return None
    try:
        descriptor = os.open(place / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        try:
            found: dict[str, Any] = json.loads((place / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"pid": None, "state": "starting", "address": None, "run": None}
        return found
    finally:
        os.close(descriptor)
    return None


def claim() -> int | None:
    """Return a descriptor that holds the lock, on an otherwise empty folder; None where another process holds it.

    Raises:
        SetupError: where the folder is not this user's alone, or cannot be made.
    """
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{place} cannot be made ({error.strerror}); set XDG_RUNTIME_DIR to a folder") from None
    if not _is_own(place):
        raise SetupError(f"{place} is not this user's alone; remove it, or set XDG_RUNTIME_DIR to a folder that is")
    descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(0.02)
    for left in place.iterdir():  # by one that was killed
        if left.name != "lock":
            left.unlink()
    return descriptor


def remove() -> None:
    """Remove the folder; for whoever holds the lock."""
    shutil.rmtree(folder(), ignore_errors=True)


def clear() -> None:
    """Remove what a process has left that was killed."""
    if _is_own(folder()) and (held := claim()) is not None:
        remove()
        os.close(held)


def write(name: str, content: str | bytes) -> None:
    """Write a file that only this user can read, whole or not at all."""
    aside = folder() / f".{name}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    aside.replace(folder() / name)


def write_state(values: Mapping[str, Any]) -> None:
    write("state.json", json.dumps(values))


def _is_own(place: Path) -> bool:
    """Whether the folder is there, and no other user can have put anything into it."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
