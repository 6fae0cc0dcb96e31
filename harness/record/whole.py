"""A small file that others read meanwhile, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Replace a file; `sync`: what returns is on the disk, and the file's name too.

    Raises:
        OSError: when it cannot be written; the one before is still there.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # not that of another process that writes it, too
    try:
        with hidden.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise
    if sync:
        to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Return once a file's content, or a folder's names, would survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
