"""The processes below a process: found, added up, and ended. Linux only, since /proc is what it reads.

Standard library alone: worker processes, the sampler and whoever supervises a worker all use it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36
_PATIENCE_S: Final = 2.0  # for processes to be gone that were killed: one held in the kernel is left to it
_EVERY_S: Final = 0.05  # looking for processes again is done no sooner,
_SHARE: Final = 100  # and takes at most one part in so many of the time

_RUN: Final = (
    "import runpy, sys; root, module = sys.argv[1:3]; del sys.argv[1:3]; root in sys.path or sys.path.insert(0, root); "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)

_libc = ctypes.CDLL(None, use_errno=True)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes have used and hold: CPU seconds since each began, with those of its children that have ended."""

    user_cpu_s: float = 0.0
    system_cpu_s: float = 0.0
    rss_bytes: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says; with its process id, `began` tells a process from all others since boot."""

    state: str  # "Z" for one that has ended and was not waited for
    parent: int
    began: int  # in the kernel's ticks
    user_cpu_s: float  # of the process alone
    system_cpu_s: float
    usage: Usage


def command(module: str) -> list[str]:
    """Return the words that run a module of the harness, from wherever it is; arguments may follow.

    Python runs with -P: a file in the working directory must not stand in for one of its modules. No variable is set
    for it, which what the process starts would inherit.
    """
    return [sys.executable, "-P", "-c", _RUN, str(Path(__file__).parents[1]), module]


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends: none can get away from here."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """Have the kernel end this process with the thread that started it; to be called between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the processes that are directly below this one, and run."""
    return _children({pid})[pid]


def below(root: int, *, spare: Collection[int] = ()) -> list[int]:
    """Return every process below `root` that runs, in no order, but for those in `spare` and below them, which are not
    looked at; those that have ended are left out."""
    if _LISTS_CHILDREN:
        return _walk(root, lambda pid: _children({pid})[pid], spare)
    table = _children(None)  # one look at all processes
    return _walk(root, lambda pid: table.get(pid, []), spare)


def usage(pids: Iterable[int]) -> Usage:
    """Return what these processes come to; those that have ended meanwhile count as nothing."""
    found = [one.usage for one in map(stat, pids) if one is not None and one.state not in "ZX"]
    return Usage(
        sum(one.user_cpu_s for one in found),
        sum(one.system_cpu_s for one in found),
        sum(one.rss_bytes for one in found),
        sum(one.threads for one in found),
    )


def stat(pid: int) -> Stat | None:
    """Return what the kernel says of a process; None if there is none of that number."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            fields = os.read(descriptor, 2048).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
        user, system, ended_user, ended_system = (int(field) / _TICKS for field in fields[11:15])
        used = Usage(user + ended_user, system + ended_system, int(fields[21]) * _PAGE, int(fields[17]))
        return Stat(fields[0].decode(), int(fields[1]), int(fields[19]), user, system, used)
    except (OSError, IndexError, ValueError):
        return None


def peak_rss_bytes(pid: int) -> int:
    """Return the most resident memory that a process has had since its program was loaded; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class Table:
    """Who is below whom, for looking often: of all processes, only those that are new, or were found, are read."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}
        self._found: set[int] = set()

    def look(self, roots: Collection[int]) -> dict[int, list[int]]:
        """Return, for each root that exists, what is below it, processes that have ended and wait to be noticed too.

        The walk stops before another root.
        """
        present = set(_numbers("/proc"))
        if not self._found.issuperset(self._parents.keys() & roots):  # a root that was foreign until now
            self._parents.clear()
        for pid in self._parents.keys() - present:
            del self._parents[pid]
        # A process comes below a root by its birth alone, and what is below one may change its parent: as an orphan.
        for pid in (present - self._parents.keys()) | (self._found & present):
            if (one := stat(pid)) is not None:
                self._parents[pid] = one.parent
        under: dict[int, list[int]] = {}
        for pid, parent in self._parents.items():
            if pid not in roots:
                under.setdefault(parent, []).append(pid)
        below = {root: _walk(root, lambda pid: under.get(pid, [])) for root in roots if root in present}
        self._found = set(below).union(*below.values())
        return below


class Tree:
    """A process that this one has started and all below it, known well enough to be read often.

    They are looked for now and then only. Orphans among them are found where this process adopts them.
    """

    def __init__(self, root: int, *, spare: Collection[int] = ()) -> None:
        """Leave out `spare`, other processes below this one, and what is below them."""
        self._root = root
        self._spare = frozenset(spare)
        self._pids: list[int] = []
        self._due_s = 0.0

    def pids(self) -> list[int]:
        """Return the processes that were there when last looked for."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            before_s = time.thread_time()  # what it costs, and not what others take meanwhile
            self._pids = self._look()
            took_s = time.thread_time() - before_s
            self._due_s = now_s + max(_EVERY_S, _SHARE * took_s)
        return self._pids

    def _look(self) -> list[int]:
        own = os.getpid()
        if not _LISTS_CHILDREN:
            return below(own, spare=self._spare)

        def under(pid: int) -> list[int]:
            # The kernel hands orphans to the first thread. The others, hundreds at times, would take milliseconds.
            started = [self._root, *_listed_by(pid, pid)] if pid == own else _listed(pid)
            return [one for one in started if alive(one)]

        return _walk(own, under, self._spare)


def end_below(root: int, *, spare: Collection[int] = ()) -> None:
    """End every process below `root`, but for `spare` and what is below those.

    All are stopped first, so that none starts another meanwhile; orphans are found again where `root` adopts them.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (found := below(root, spare=spare)) and time.monotonic() < deadline:
        stopped: set[int] = set()
        while new := set(found) - stopped:
            for pid in new:
                send(pid, signal.SIGSTOP)
            stopped |= new
            found = below(root, spare=spare)
        for pid in stopped:
            send(pid, signal.SIGKILL)
        while any(alive(pid) for pid in stopped) and time.monotonic() < deadline:
            time.sleep(0.001)


def end(pid: int) -> None:
    """End a process and every one below it."""
    send(pid, signal.SIGSTOP)
    end_below(pid)
    send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether a process still runs; one that ended and was not waited for does not."""
    found = stat(pid)
    return found is not None and found.state not in "ZX"


def reap(spare: Collection[int] = ()) -> None:
    """Wait for the adopted processes that have ended, but for those in `spare`, which somebody else waits for."""
    own = os.getpid()
    for pid in _listed(own) if _LISTS_CHILDREN else _numbers("/proc"):
        found = stat(pid)
        if found is not None and found.state == "Z" and found.parent == own and pid not in spare:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _walk(root: int, under: Callable[[int], list[int]], spare: Collection[int] = ()) -> list[int]:
    found: list[int] = []
    seen = {root, *spare}
    waiting = [root]
    while waiting:
        for pid in under(waiting.pop()):
            if pid not in seen:
                seen.add(pid)
                found.append(pid)
                waiting.append(pid)
    return found


def _children(parents: Collection[int] | None) -> dict[int, list[int]]:
    """Return the processes that run directly below these; below any process for None."""
    if _LISTS_CHILDREN and parents is not None:
        return {parent: [pid for pid in _listed(parent) if alive(pid)] for parent in parents}
    found: dict[int, list[int]] = {parent: [] for parent in parents or ()}
    for pid in _numbers("/proc"):
        one = stat(pid)
        if one is not None and one.state not in "ZX" and (parents is None or one.parent in parents):
            found.setdefault(one.parent, []).append(pid)
    return found


def _listed(parent: int) -> list[int]:
    """Return the children as the kernel lists them, by the thread that started each."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in _numbers(f"/proc/{parent}/task"):
            found += _listed_by(parent, thread)
    return found


def _listed_by(parent: int, thread: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{thread}/children").read_text().split()]
    return []


def _numbers(folder: str) -> list[int]:
    return [int(name) for name in os.listdir(folder) if name.isdigit()]  # noqa: PTH208 (many times faster)


_LISTS_CHILDREN: Final = Path(f"/proc/self/task/{os.getpid()}/children").exists()  # not every kernel is built so
