"""What is left of a process that has ended: how it did, what it printed last, and what the kernel says."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Final

from harness.schedule.losses import Cause

_TAIL_BYTES: Final = 4000
_CHATTER: Final = re.compile(
    r"[IWE]\d{4} |WARNING: All log messages before|To enable the following instructions"
)  # what TensorFlow logs at every start
_OWN_SIGNALS: Final = (  # that a process gets for what it does itself
    *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
    *(signal.SIGTRAP, signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ),
)


def exit_code(pid: int) -> int | None:
    """Return how a process ended that nobody has waited for, -N by signal N; None where it runs, or where that is not
    known any more."""
    state = _state(pid)
    return os.waitstatus_to_exitcode(state[1]) if state is not None and state[0] == "Z" else None


def cause_of(exit_code: int | None, *, out_of_memory: bool) -> Cause:
    """Return what ended a worker, by how its process ended and whether the kernel ended one for memory meanwhile."""
    if exit_code is None:
        return "outside"
    own = exit_code >= 0 or -exit_code in _OWN_SIGNALS or (exit_code == -signal.SIGKILL and out_of_memory)
    return "trial" if own else "outside"


def memory_kills() -> int | None:
    """Return how often the kernel has ended a process of this machine because memory had run out, by its count; None
    where it does not tell."""
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in counters.splitlines() if line.startswith("oom_kill ")), None)


def last_lines(log: str) -> str:
    """Return the last lines that a process printed."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, Path(log).stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
            return "".join(line for line in lines if not _CHATTER.match(line))
    except OSError:
        return ""


def last_line(log: str) -> str:
    """Return the last line that a process printed, for a message."""
    lines = [line.strip() for line in last_lines(log).splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _state(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and wait status (fields 3 and 52 of /proc/PID/stat), or None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[49])
    except (OSError, IndexError, ValueError):
        return None
