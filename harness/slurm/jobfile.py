"""``slurm/job.json`` of a run that was submitted: which jobs were asked for it, and what with."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from harness.domain.errors import ResultsError

FOLDER: Final = "slurm"  # in the run's
FILE: Final = "job.json"
SCRIPT: Final = "job.sh"
_LOCK: Final = "submit.lock"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job that was asked for; without a `job_id` it is not known whether it was submitted."""

    job_id: str | None
    array: str | None  # which shards, in Slurm's form: "0-99%10"
    submitted_at: str
    script: str
    host: str  # where it was submitted

    def tasks(self) -> frozenset[int] | None:
        """Return the numbers of the array's tasks; None for a job that is no array."""
        if self.array is None:
            return None
        found: set[int] = set()
        for part in self.array.partition("%")[0].split(","):
            span, _, step = part.partition(":")
            first, _, last = span.partition("-")
            found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
        return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class JobFile:
    """All submissions of a run, the first first."""

    version: int = _VERSION
    submissions: tuple[Submission, ...] = ()
    request: dict[str, Any] = field(default_factory=dict)  # what `harness submit --again` needs

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids of all jobs."""
        return tuple(one.job_id for one in self.submissions if one.job_id is not None)

    @cached_property
    def jobs_of_shards(self) -> dict[int, str]:
        """The job that each shard was last submitted with, as ``12_3``."""
        submitted = [(one.job_id, one.tasks() or ()) for one in self.submissions if one.job_id is not None]
        return {task: f"{job_id}_{task}" for job_id, tasks in submitted for task in tasks}

    @property
    def each(self) -> tuple[str, ...]:
        """Return the ids of all jobs, and of an array that of each task."""
        numbered = [(one.job_id, one.tasks()) for one in self.submissions if one.job_id is not None]
        return tuple(
            one
            for job_id, tasks in numbered
            for one in ([job_id] if tasks is None else [f"{job_id}_{n}" for n in tasks])
        )

    def job_of(self, task: int) -> str | None:
        """Return the job that a shard was last submitted with, as ``12_3``."""
        return self.jobs_of_shards.get(task)


def path(run: Path) -> Path:
    """Return where job.json of a run's folder is."""
    return run / FOLDER / FILE


def submitted(run: Path) -> bool:
    """Tell whether a run was submitted to Slurm."""
    return path(run).exists()


def read(run: Path) -> JobFile | None:
    """Return what is known of a run's jobs; None for one that was not submitted.

    Raises:
        ResultsError: when the file is no good.
    """
    file = path(run)
    try:
        found = _reader().validate_json(file.read_bytes())
        for one in found.submissions:
            one.tasks()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultsError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        told = f"{where}: {error.errors()[0]['msg']}" if where else error.errors()[0]["msg"]
        raise ResultsError(f"{file}: is damaged ({told}); restore it from a copy, or remove it: `harness run --run "
                           f"{run.name} --resume` goes on with the run without Slurm") from error  # fmt: skip
    except ValueError as error:
        raise ResultsError(f"{file}: is damaged ({error}); restore it from a copy, or remove it") from error
    if found.version > _VERSION:
        raise ResultsError(
            f"{file}: has version {found.version}, and this harness reads versions up to {_VERSION}; install the "
            "version of harness that wrote it, or a newer one"
        )
    return found


def write(run: Path, content: JobFile) -> None:
    """Replace job.json, whole or not at all; its folder is made where there is none.

    Raises:
        ResultsError: when it cannot be written.
    """
    file = path(run)
    hidden = file.with_name(f".{FILE}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(exist_ok=True)
        with hidden.open("w", encoding="utf-8") as out:
            hidden.chmod(0o600)  # values of variables may be secrets
            json.dump(asdict(content), out, indent=2)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        hidden.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise ResultsError(f"{file}: cannot be written ({error.strerror}); make room, or see to the rights") from error


@contextlib.contextmanager
def submitting(run: Path) -> Iterator[None]:
    """Be the only process that submits jobs of a run, until the context ends.

    It is the kernel's lock of a file that stays, so that nothing is left to remove after a kill. Where the file system
    knows no locks, there is none.

    Raises:
        ResultsError: when another process is at it, or the file cannot be made.
    """
    file = run / FOLDER / _LOCK
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # NFS locks only what may be written
    except OSError as error:
        raise ResultsError(f"{file}: cannot be made ({error.strerror}); make room, or see to the rights") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ResultsError(
            f"{run}: another `harness submit` is just submitting this run; `harness status {run}` shows its job soon"
        ) from None
    except OSError:  # no locks here
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def add(run: Path, *, job_id: str | None, array: str | None = None, script: Path | None = None) -> None:
    """Note that a job was submitted just now; its script is ``slurm/job.sh`` unless another is told.

    Raises:
        ResultsError: when job.json cannot be read or written.
    """
    before = read(run) or JobFile()
    submission = Submission(
        job_id=job_id,
        array=array,
        submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        script=str(script or run / FOLDER / SCRIPT),
        host=socket.gethostname(),
    )
    write(run, replace(before, submissions=(*before.submissions, submission)))


def ids(run: Path) -> tuple[str, ...]:
    """Return the ids of all jobs of a run; none for one that was not submitted.

    Raises:
        ResultsError: when job.json is no good.
    """
    found = read(run)
    return () if found is None else found.ids


@cache
def _reader() -> TypeAdapter[JobFile]:
    return TypeAdapter(JobFile)  # which takes 10 ms to make
