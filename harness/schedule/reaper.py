"""Cleans up after a driver that was killed: run as a script of its own, with nothing but the standard library.

    python reaper.py MARKER FOLDER …

Its standard input is a pipe from the driver. If the driver says "done", there is nothing to do. If the pipe closes
without a word, the driver is gone: every process that inherited MARKER (``NAME=value``, unique to the driver) in its
environment is ended, and the driver's temporary folders are removed. Most of Ray's processes end by themselves within a
second when their driver dies, but not all of them do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

_PATIENCE_S = 1.0
_LIMIT_S = 20.0


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    marker, folders = sys.argv[1].encode(), sys.argv[2:]
    said = b""
    while data := os.read(0, 64):
        said += data
    if said.startswith(b"done"):
        return
    time.sleep(_PATIENCE_S)
    deadline = time.monotonic() + _LIMIT_S
    while (found := _marked(marker)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _marked(marker: bytes) -> list[int]:
    """Return the processes of this user that inherited the marker, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main()
