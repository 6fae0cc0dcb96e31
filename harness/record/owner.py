"""One owner a run: the process that may write its files.

``owner.json`` says who owns the run; while its owner lives it also holds the file's lock (`flock`), which the
kernel drops with the process. The owner reads the file back before each commit: once another process has put
its own name there, the former owner is fenced and writes nothing more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.domain.errors import ResultsError

FILE = "owner.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process: where it runs, and what tells it from a later process with the same id."""

    host: str
    boot_id: str  # empty where the system does not tell
    pid: int
    process_start: str  # clock ticks after boot; empty where the system does not tell
    slurm_job_id: str | None
    attempt: int  # the how-manieth process to own this run, from 1
    token: str  # random, so that no two owners ever write the same file
    slurm_restart: int = 0  # how often Slurm had started that job anew

    @classmethod
    def here(cls, *, attempt: int) -> Owner:
        """Return this process as the owner."""
        return cls(
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()) or "",
            slurm_job_id=os.environ.get("SLURM_JOB_ID"),
            attempt=attempt,
            token=secrets.token_hex(8),
            slurm_restart=int(restarts) if (restarts := os.environ.get("SLURM_RESTART_COUNT", "")).isdecimal() else 0,
        )

    def outlived_by(self, other: Owner) -> bool:
        """Tell whether both are of one Slurm job, which has been started anew since: Slurm had ended this start."""
        same = self.slurm_job_id is not None and self.slurm_job_id == other.slurm_job_id
        return same and self.slurm_restart < other.slurm_restart

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job_id}" if self.slurm_job_id else ""
        return f"process {self.pid} on {self.host} (attempt {self.attempt}{job})"

    def alive(self) -> bool | None:
        """Tell whether the process still runs; None when it cannot be known from this host."""
        if self.host != socket.gethostname():
            return None
        if self.boot_id != _boot_id():
            return False
        return process_start(self.pid) == self.process_start


class Ownership:
    """The right to write a run's files, held by this process until `release`."""

    def __init__(self, path: Path, descriptor: int, owner: Owner) -> None:
        self.owner = owner
        self._path = path
        self._descriptor = descriptor
        self._text = json.dumps(asdict(owner), indent=2).encode() + b"\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, self._text, 0)
        os.fsync(descriptor)

    def check(self) -> None:
        """Raise ResultsError if another process has taken the run over, or removed the file."""
        try:
            text = self._path.read_bytes()  # opened anew: a network file system then shows what other hosts wrote
        except OSError:
            text = b""
        if text != self._text:
            other = read(self._path.parent)
            raise ResultsError(
                f"{self._path.parent}: this run now belongs to {other or 'nobody: its ' + FILE + ' is gone'}; "
                "this process writes nothing more to it. What it had committed is kept"
            )

    def release(self) -> None:
        """Give the run up; leaves the file alone if it names another owner by now."""
        with contextlib.suppress(OSError):
            if self._path.read_bytes() == self._text:
                self._path.unlink()
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Drop the lock but leave the file, as a killed process does."""
        os.close(self._descriptor)


def acquire(folder: Path, *, attempt: int, take_over: bool = False) -> Ownership:
    """Make this process the owner of the run in `folder`.

    An owner that is dead is replaced. One that lives, or whose host is another, is replaced only with
    `take_over`, or by a later start of its own Slurm job, and is thereby fenced.

    Raises:
        ResultsError: naming the present owner.
    """
    path = folder / FILE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            locked = _lock(descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    previous, me = read(folder), Owner.here(attempt=attempt)
                    if not take_over and not (previous is not None and previous.outlived_by(me)):
                        _refuse_if_owned(folder, previous, locked=locked)
                    return Ownership(path, descriptor, me)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the owner before released the run in between, and this file with it: once more


def _refuse_if_owned(folder: Path, previous: Owner | None, *, locked: bool) -> None:
    if previous is None:
        if not locked:
            raise ResultsError(f"{folder}: another process is just taking this run; try again, or start a new run")
        return
    alive = previous.alive()
    if alive or not locked:
        what = "which is still running" if alive is not False else "and a process that it left behind holds on to it"
        raise ResultsError(f"{folder}: this run belongs to {previous}, {what}; wait for it or stop it first")
    if alive is None:
        raise ResultsError(
            f"{folder}: this run belongs to {previous}, and whether that still runs cannot be seen from "
            f"{socket.gethostname()}; resume there, or take the run over with --take-over if it has ended"
        )


def read(folder: Path) -> Owner | None:
    """Return who owns the run in `folder`; None when nobody does, or the file is no longer whole."""
    try:
        return Owner(**json.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def process_start(pid: int) -> str | None:
    """Return when a process of this host started, in clock ticks after boot.

    None if there is no such process (a zombie counts as none); "" if the system does not tell.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _lock(descriptor: int) -> bool:
    """Try to lock the file. Where the file system knows no locks, owner.json alone has to do."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
