"""What Slurm says of runs that were submitted, beside what their records say: for their lists, and for one alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import ResultsError, SetupError
from harness.domain.naming import commonest, plural
from harness.record import owner, shards
from harness.record.owner import Owner
from harness.record.runs import RunStatus
from harness.slurm import client, jobfile, states
from harness.slurm import logs as slurm_logs
from harness.slurm.client import Job
from harness.slurm.jobfile import JobFile

PENDING: Final = "pending"  # a run that has something left and whose job is yet to start, or starts it again

_PATIENCE_S: Final = 5.0
_SHOWN: Final = 20  # shards

Ask = Callable[[Iterable[str]], dict[str, Job]]


@dataclass(frozen=True, kw_only=True)
class Queued:
    """What Slurm says of one run."""

    file: JobFile
    known: dict[str, Job]  # all that Slurm knows, by id
    why: str | None = None  # it could not be asked

    @property
    def tasks(self) -> list[int] | None:
        """The shards that were ever submitted; None for a run in one piece."""
        numbers = [tasks for one in self.file.submissions if (tasks := one.tasks()) is not None]
        return sorted(frozenset().union(*numbers)) if numbers else None

    def of_shard(self, number: int) -> Job | None:
        """Return the job that a shard was last submitted with; None where Slurm has forgotten it."""
        job_id = self.file.job_of(number)
        return None if job_id is None else self.known.get(job_id) or self.known.get(job_id.partition("_")[0])

    @property
    def jobs(self) -> list[Job]:
        """The last job of the run, or of each shard, and earlier ones that go on; those forgotten left out."""
        if (tasks := self.tasks) is not None:
            last = [self.of_shard(task) for task in tasks]
        else:
            last = [self.known.get(job_id) for job_id in self.file.ids[-1:]]
        found = {job.id: job for job in last if job is not None}
        return list((found | {job.id: job for job in self.going}).values())

    @property
    def going(self) -> list[Job]:
        """Those that run, or may yet start."""
        return [job for job in self.known.values() if states.going_on(job.state) and not job.past]

    @property
    def ended(self) -> dict[str, Job]:
        """Those that have ended, by id."""
        return {job_id: job for job_id, job in self.known.items() if not states.going_on(job.state) or job.past}

    @property
    def started(self) -> bool:
        """Whether one of them has its nodes."""
        return any(job.state == "RUNNING" for job in self.going)


def ask(
    folders: Sequence[Path], *, by: Ask | None = None, ended: Mapping[str, Job] | None = None
) -> dict[Path, Queued]:
    """Return what Slurm says of the runs in these folders, all asked for at once; `ended` are jobs that it has told of
    before, and may have forgotten.
    """
    files: dict[Path, JobFile] = {}
    found: dict[Path, Queued] = {}
    for folder in folders:
        try:
            files[folder] = jobfile.read(folder) or JobFile()
        except ResultsError as error:
            found[folder] = Queued(file=JobFile(), known={}, why=str(error))
    known: dict[str, Job] = {}
    why = None
    try:
        wanted = [job_id for file in files.values() for job_id in file.each]
        known = by(wanted) if by is not None else client.jobs(wanted, ended=ended, timeout_s=_PATIENCE_S)
    except SetupError as error:
        why = str(error)
    for folder, file in files.items():
        own = {job.id: job for job in known.values() if job.id.partition("_")[0] in file.ids}
        found[folder] = Queued(file=file, known=own, why=why if file.ids else None)
    return found


def state_of(folder: Path, state: str, queued: Queued) -> str:
    """Return the state of a run as its records and Slurm together say: what its records say, ``pending``, or ``dead``
    although its owner, on a host that cannot be asked, seems to live.
    """
    if queued.why is not None or state in ("completed", "failed", "submitted", "unreadable"):
        return state
    if queued.tasks is None:
        return _state(state, owner.read(folder), queued.jobs, queued.file.ids)
    found = {state_of_shard(one, queued) for one in shards.standing(folder)}
    if "running" in found:
        return "running"
    return PENDING if queued.going else "dead" if "dead" in found else state


def state_of_shard(one: shards.ShardStanding, queued: Queued) -> str:
    """Return the state of a shard as its records and Slurm together say."""
    job = queued.of_shard(one.number)
    if queued.why is not None or one.whole or one.state == "submitted":
        return one.state
    return _state(one.state, owner.read(one.folder), [] if job is None else [job], None)


def _state(state: str, holder: Owner | None, jobs: Sequence[Job], ids: Sequence[str] | None) -> str:
    """Return the state of a run, or of a shard: the id that its process has is then another than Slurm's lists have."""
    if state == "running" and holder is not None:
        job_id = holder.slurm_job_id
        if holder.alive() or job_id is None or (ids is not None and job_id not in ids):
            return state
        if any(states.going_on(job.state) and not states.waiting(job) for job in jobs):
            return state
        return PENDING if any(map(states.waiting, jobs)) else "dead"
    goes_on = any(states.going_on(job.state) and not job.past and job.state != "COMPLETING" for job in jobs)
    return PENDING if goes_on else state


def hint_of(one: RunStatus, state: str, queued: Queued, command: Callable[[], str]) -> str | None:
    """Return how to go on with a run: not at all while Slurm has a job of it."""
    if queued.why is not None:
        return one.hint
    if queued.going:
        return None
    unfinished = state in ("dead", "submitted") and one.hint is None
    return f"go on with: {command()}" if unfinished else one.hint


def cell(queued: Queued) -> str:
    """Return Slurm's states in a few words: ``pending (Priority)``, ``3 running, 97 pending (Resources)``."""
    if queued.why is not None:
        return "?"
    if (tasks := queued.tasks) is not None:
        counts = Counter(_short(queued.of_shard(task)) for task in tasks)
    else:
        alone: Sequence[Job | None] = queued.jobs or (None,)
        counts = Counter(map(_short, alone))
    if counts.total() == 1:
        return next(iter(counts)) if queued.file.ids else "not submitted"
    return ", ".join(f"{count} {told}" for told, count in commonest(counts))


def _short(job: Job | None) -> str:
    if job is None:
        return "not known any more"
    reason = f" ({job.reason})" if states.waiting(job) and job.reason else ""
    return job.state.lower() + reason


def lines(folder: Path, queued: Queued) -> list[str]:
    """Return what to say of a run's jobs in one piece, and where to read on."""
    found = queued.jobs
    if queued.why is not None:
        told = [f"? ({queued.why})"]
    elif queued.tasks is not None:
        told = [f"array of {plural(len(queued.tasks), 'job')}: {cell(queued)}"]
    elif not found:
        ids = ", ".join(queued.file.ids)
        told = [f"job {ids}: not known to it any more" if ids else "no job of this run is known to be submitted"]
    else:
        told = [states.told(job) for job in found]
    way_out = next((way for job in found if (way := states.meaning(job).way_out)), None)
    way_out = want_of_memory(folder, found) or way_out
    lines = [f"Slurm:  {line}" for line in told] + ([f"        {way_out}"] if way_out else [])
    return [*lines, *(f"{'Logs:' if not place else '':8}{log}" for place, log in enumerate(logs(folder)))]


def want_of_memory(folder: Path, found: Sequence[Job]) -> str:
    """Return that jobs of a run took too much memory, where Slurm says so in their logs alone, and what to do about it.
    These are read only where a job has ended badly: an array has many."""
    bad = any(states.meaning(job).kind == "badly" for job in found)
    return states.for_want_of_memory(found, slurm_logs.out_of_memory(folder)) if bad else ""


def logs(folder: Path) -> list[str]:
    """Return the paths of what the jobs and their nodes say, those of many as one pattern."""
    found = sorted((folder / jobfile.FOLDER).glob("*.log"))
    if len(found) <= 2:
        return [str(log) for log in found]
    kinds = sorted({log.name.partition("-")[0].removesuffix(".log") for log in found})
    return [str(folder / jobfile.FOLDER / f"{kind}*.log") for kind in kinds]


def shard_rows(folder: Path, queued: Queued) -> tuple[list[list[str]], int]:
    """Return a row for each of the first shards that have not ended with nothing left (its number, its state, its
    trials, Slurm's), and how many more such there are."""
    rows = []
    for one in shards.standing(folder):
        if one.whole and not one.bad:
            continue
        job = queued.of_shard(one.number)
        said = "?" if queued.why is not None else "" if job is None else _short(job)
        bad = f", {one.bad} not completed" if one.bad else ""
        trials = f"{sum(one.counts.values())}/{one.planned}{bad}"
        rows.append([str(one.number), state_of_shard(one, queued), trials, said])
    return rows[:_SHOWN], max(0, len(rows) - _SHOWN)


def document(folder: Path, state: str, queued: Queued) -> dict[str, Any]:
    """Return what Slurm says of a run as plain JSON; `state` is the run's by its records and by Slurm."""
    found = [_job_document(job) for job in queued.jobs]
    told = {"state": state, "ids": list(queued.file.ids), "jobs": found, "why_unknown": queued.why}
    return told | {"logs": [str(log) for log in sorted((folder / jobfile.FOLDER).glob("*.log"))]}


def _job_document(job: Job) -> dict[str, Any]:
    meaning = states.meaning(job)
    ended = meaning.kind in ("well", "badly")
    return {
        "id": job.id,
        "task": job.task,
        "state": job.state,
        "reason": job.reason or None,
        "nodes": job.nodes or None,
        "time": job.used or None,
        "time_limit": job.limit or None,
        "restarts": job.restarts,
        "exit_code": job.exit_code if ended else None,
        "signal": job.signal if ended else None,
        "meaning": meaning.words,
    }
