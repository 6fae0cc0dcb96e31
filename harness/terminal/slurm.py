"""`harness submit --wait`: a job followed to its end, and what its run has come to by its records and by Slurm."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.status import Status

from harness.domain.errors import HarnessError
from harness.pipeline import EXIT_INTERRUPTED, EXIT_WRONG
from harness.record import live, runs
from harness.slurm import jobfile, states
from harness.slurm.client import Job
from harness.slurm.states import Verdict
from harness.terminal import jobs
from harness.terminal.jobs import Queued
from harness.terminal.text import about, plural, printable, tally

_EVERY_S: Final = 1.0  # the files are looked at
_ASK_EVERY: Final = 5  # looks: Slurm is asked
_AGAIN_LOOKS: Final = 60  # for so many Slurm may leave a job as preempted before it starts it again
_LAG_LOOKS: Final = 15  # for so many a file system may show old files after the job's end
_SAY_EVERY: Final = 30  # looks: progress in a log
_TAIL: Final = 20  # lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A run's files at one moment."""

    state: str
    counts: dict[str, int]
    total: int
    left_s: float | None = None

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        bad = self.done - self.counts.get("completed", 0)
        left = f", about {about(self.left_s)} left" if self.left_s is not None and self.done < self.total else ""
        return f"{self.done}/{self.total} trials{f', {bad} not completed' if bad else ''}{left}"


def follow(
    folder: Path,
    *,
    as_json: bool,
    ask: Callable[[Path], Queued] | None = None,
    look: Callable[[Path], Seen] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Follow the jobs of a run until Slurm has ended them, tell what happens, and return the exit code.

    0 only if the records and Slurm agree that all is well; 1 when trials failed or the job did; 75 when something is
    left, as after a preemption for good; 2 when the job ended before the run began; 130 when the user leaves. `ask`,
    `look` and `pause` are how Slurm, the files and the clock are consulted.
    """
    follower = _Follower(folder, as_json=as_json, ask=ask or Asker(), look=look or look_at)
    try:
        with follower.shown():
            while not follower.over():
                pause(_EVERY_S)
    except KeyboardInterrupt:
        typer.echo(
            printable(
                f"\nthe job goes on: `harness status {folder}` says how far it is, `harness stop {folder}` ends it"
            ),
            err=True,
        )
        return EXIT_INTERRUPTED
    return _conclude(folder, follower, as_json=as_json)


def look_at(folder: Path) -> Seen:
    """Return how far a run is by its files."""
    (one,) = runs.list_runs(folder)
    now = live.read(folder) if one.state == "running" else None
    if now is not None:
        return Seen(state=one.state, counts=dict(now.counts), total=now.total, left_s=now.left_s)
    return Seen(state=one.state, counts=one.counts, total=one.planned or 0)


class Asker:
    """Asks Slurm of a run, time and again: a job that has ended is not looked up in the accounting each time."""

    def __init__(self) -> None:
        self._ended: dict[str, Job] = {}

    def __call__(self, folder: Path) -> Queued:
        queued = jobs.ask([folder], ended=self._ended)[folder]
        self._ended |= queued.ended
        return queued


class _Follower:
    """Looks at a run and at its jobs, and tells what is new."""

    def __init__(
        self, folder: Path, *, as_json: bool, ask: Callable[[Path], Queued], look: Callable[[Path], Seen]
    ) -> None:
        self._folder, self._ask, self._look = folder, ask, look
        self._console = Console(stderr=as_json, highlight=False)
        self._line: Status | None = None
        if self._console.is_terminal:
            self._line = self._console.status("", spinner="dots")
        self._looks = self._ended = self._again = self._say_at = 0
        self.silent = False  # Slurm has not answered when it was asked last
        self._told: dict[str, str] = {}  # by job, and "slurm" and "run": what was said of it last
        self.seen = look(folder)
        self.queued = Queued(file=jobfile.JobFile(), known={})

    def shown(self) -> AbstractContextManager[Any]:
        """Return what keeps the updating line on a terminal, for as long as it is entered."""
        return self._line if self._line is not None else nullcontext()

    def over(self) -> bool:
        """Look once more, say what is new, and tell whether the end has come."""
        self.seen = self._look(self._folder)
        if self._looks % _ASK_EVERY == 0:
            asked = self._ask(self._folder)
            self.silent = asked.why is not None
            self.queued = self.queued if self.silent else asked
            self._say("slurm", f"Slurm is silent: {asked.why}; it is asked again" if self.silent else "")
            self._tell_jobs()
        self._looks += 1
        self._tell_run()
        return self._has_ended()

    def _has_ended(self) -> bool:
        """Tell whether no job goes on; the files have a while to say so, too."""
        going, finished = self.queued.going, self.seen.state in ("completed", "failed")
        self._again = self._again + 1 if going and all(states.meaning(job).kind == "again" for job in going) else 0
        if self._again > _AGAIN_LOOKS:
            past = {job.id: replace(job, past=True) for job in going}
            self.queued = replace(self.queued, known=self.queued.known | past)
            return True
        goes_on = not finished if self.silent else bool(going)
        self._ended = 0 if goes_on else self._ended + 1
        return self._ended > (0 if finished and not self.silent else _LAG_LOOKS)

    def _tell_jobs(self) -> None:
        if self.queued.tasks is not None:
            self._say("jobs", f"jobs     {jobs.cell(self.queued)}")
            return
        for job in self.queued.jobs:
            self._say(job.id, f"{_word(job):8} {_without_time(job)}")

    def _tell_run(self) -> None:
        line = str(self.seen)
        if self._line is not None:
            waits = "; ".join(_without_time(job) for job in self.queued.jobs[:1])
            self._line.update(printable(line if self.seen.state == "running" else waits or "waiting"))
        elif self.seen.state == "running" and self._looks >= self._say_at:
            self._say("run", line)
            self._say_at = self._looks + _SAY_EVERY

    def _say(self, what: str, line: str) -> None:
        """Say a line about something, unless it was said of it last; an empty one: there is nothing to say now."""
        if line and self._told.get(what) != line:
            self._console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
        self._told[what] = line


def _word(job: Job) -> str:
    if states.waiting(job):
        return "again" if job.restarts or states.meaning(job).kind == "again" else "pending"
    if job.state == "COMPLETING":
        return "ending"
    return {"going on": "started", "well": "ended", "badly": "ended", "again": "again"}[states.meaning(job).kind]


def _without_time(job: Job) -> str:
    """Return a job as a line that stays the same while nothing happens."""
    told = states.told(replace(job, used=""))
    waits = " (it was started before, and goes on where it ended)" if states.waiting(job) and job.restarts else ""
    way_out = states.meaning(job).way_out if states.waiting(job) else ""
    return told + waits + (f": {way_out}" if way_out else "")


def _conclude(folder: Path, follower: _Follower, *, as_json: bool) -> int:
    """Say what a run has come to, print its summary, and return the exit code."""
    from harness.terminal import show

    seen, queued = follower.seen, follower.queued
    state, left = jobs.state_of(folder, seen.state, queued), max(0, seen.total - seen.done)
    told = states.verdict(state, counts=seen.counts, pending=left, jobs=queued.jobs, silent=follower.silent)
    begun = told.exit_code != EXIT_WRONG
    try:
        table = show.summary(folder) if seen.counts else None
    except HarnessError as error:
        typer.echo(printable(str(error)), err=True)
        table = None
    if as_json:
        document = {
            "run": folder.name,
            "folder": str(folder),
            "state": state,
            "counts": seen.counts,
            "pending": left,
            "exit_code": told.exit_code,
            "verdict": told.words,
            "slurm": jobs.document(folder, state, queued),
        }
        typer.echo(json.dumps(document | (show.NOTHING if table is None else table.document()), indent=2))
    elif table is not None:
        table.print()
        typer.echo("")
    if begun:
        typer.echo(printable(f"Trials: {tally(seen.counts)}"), err=as_json)
    typer.echo(printable(f"{folder.name}: {told.words}"), err=as_json or not begun)
    if why := jobs.want_of_memory(folder, queued.jobs):
        typer.echo(printable(f"Memory: {why}"), err=as_json or not begun)
    if not begun:
        for line in why_not_begun(folder):
            typer.echo(printable(line), err=True)
    _say_way_on(folder, seen, told, as_json=as_json)
    sys.stdout.flush()
    return told.exit_code


def _say_way_on(folder: Path, seen: Seen, told: Verdict, *, as_json: bool) -> None:
    typer.echo(printable(f"Files:  {folder}/"), err=as_json)
    if told.exit_code == 0 or (seen.state == "completed" and seen.done >= seen.total):
        return
    command = runs.resume_command(runs.read_run_file(folder))
    typer.echo(printable(f"Go on:  {command}"), err=as_json)


def why_not_begun(folder: Path) -> list[str]:
    """Return the end of what the job said before its run began, and where it is; or that it said nothing at all."""
    found = sorted((folder / jobfile.FOLDER).glob("job*.log"), key=lambda log: log.stat().st_size)
    if not found or not found[-1].stat().st_size:
        return [
            f"{folder / jobfile.FOLDER}: the job has written nothing here: probably the nodes do not see this folder; "
            "put the results where all of them do (--results), as on the cluster's shared file system"
        ]
    lines = found[-1].read_text(encoding="utf-8", errors="replace").splitlines()
    more = f"; {plural(len(found) - 1, 'more log')} beside it" if len(found) > 1 else ""
    return [f"{found[-1]} ends with{more}:", *(f"    {line}" for line in lines[-_TAIL:])]
