"""Cleans up after a driver, or after what supervises a node for one: run as a script of its own, with nothing but the
standard library.

    python reaper.py [--apart] MARKER FOLDER …

Its standard input is a pipe from the driver. If the driver says "done", there is nothing to do. If it says "now", it
leaves, and if the pipe closes without a word, it was killed. In both cases every process that is the driver's is ended,
and its temporary folders are removed. A process is the driver's if it inherited MARKER (``NAME=value``, unique to the
driver) in its environment or has a file in one of the folders open. Most of Ray's processes end by themselves
within a second of their driver, but some take long, and those overwrite their environment with their title.

With --apart it leaves its parent at once: Ray kills the children of an actor that it ends.
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
    words = sys.argv[1:]
    if words[0] == "--apart":
        if os.fork():
            os._exit(0)
        del words[0]
    marker, folders = words[0].encode(), words[1:]
    said = b""
    while data := os.read(0, 64):
        said += data
    if said.startswith(b"done"):
        return
    time.sleep(0.0 if said.startswith(b"now") else _PATIENCE_S)
    deadline = time.monotonic() + _LIMIT_S
    while (found := _owned(marker, folders)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _owned(marker: bytes, folders: list[str]) -> list[int]:
    """Return the processes that are the driver's, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in (entry / "environ").read_bytes().split(b"\0") or _has_open(entry / "fd", folders):
                found.append(int(entry.name))
    return found


def _has_open(descriptors: Path, folders: list[str]) -> bool:
    for descriptor in descriptors.iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if any(target.startswith(folder + "/") for folder in folders):
                return True
    return False


if __name__ == "__main__":
    main()
