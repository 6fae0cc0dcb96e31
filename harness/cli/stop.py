"""``harness stop``: a run that goes on → one that has ended early, to be resumed."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import Results

if TYPE_CHECKING:
    from harness.record.owner import Owner
    from harness.record.shards import ShardStanding
    from harness.slurm.client import Job
    from harness.terminal.jobs import Queued

_LOOK_EVERY_S = 0.25
_LOOK_SHARDS_EVERY_S = 2.0
_UNTIL_CANCELLED_S = 60.0  # so long a driver has for ending at once, before Slurm ends its job
_SILENT_S = 90.0  # without a word from a driver on another host, it is taken to be gone


def stop(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, its id, or a suite's name: its latest.")],
    results: Results = Path("results"),
    now: Annotated[
        bool, typer.Option("--now", help="End the trials that run, too; asking a second time does the same.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the run has ended.")] = True,
) -> None:
    """End a run: no further trial starts, and those that run end first.

    The tables are written, nothing recorded is lost, and the run can be resumed. It works from any host that sees the
    run's folder: its driver looks for the request once a second. A job in Slurm's queue is taken back.
    """
    from harness.answer.gather import find_run
    from harness.slurm import jobfile

    folder = find_run(run, results)
    if jobfile.submitted(folder):
        _stop_job(folder, now=now, wait=wait, results=results)
    else:
        _stop_driver(folder, now=now, wait=wait, results=results)


def _stop_driver(folder: Path, *, now: bool, wait: bool, results: Path, patience_s: float | None = None) -> None:
    """Ask the driver of a run to end it; with `wait` return when it has, or after `patience_s`."""
    from harness.domain.errors import ResultsError
    from harness.record import owner, runs
    from harness.terminal.text import printable

    content, holder = runs.read_run(folder), owner.read(folder)
    if not runs.is_live(content):
        raise ResultsError(f"{folder}: this run has ended already: it is {content['state']}{_go_on(content)}")
    if holder is None or content["state"] == "dead":
        who = "its driver" if holder is None else f"its driver, {holder},"
        raise ResultsError(f"{folder}: {who} was killed: there is nothing to stop{_go_on(content)}")
    typer.echo(printable(f"{content['run_id']}: {_ask(folder, holder, now=now)}"))
    if not wait:
        typer.echo(printable(f"`harness status {content['run_id']} --results {results}` says how far it is"))
        return
    try:
        _await_end(folder, holder, patience_s=patience_s)
    except KeyboardInterrupt:
        typer.echo("\nit still ends as asked; `harness stop` once more ends its trials at once", err=True)
        raise typer.Exit(130) from None


def _ask(folder: Path, holder: Owner, *, now: bool) -> str:
    """Ask a run's owner to end it, and return what was asked for; asking a second time means `now`."""
    from harness.domain.naming import plural
    from harness.record import live
    from harness.record import stop as requests

    now = now or requests.asked(folder, attempt=holder.attempt) is not None
    asked = requests.StopRequest(attempt=holder.attempt, now=now, host=socket.gethostname(), pid=os.getpid())
    requests.ask(folder, asked)
    seen = live.read(folder)
    busy = "" if seen is None else f" ({plural(seen.busy, 'trial')} at this moment)"
    what = f"the trials that run{busy} are ended too" if now else f"those that run{busy} end first"
    return f"asked {holder} to end it: no further trial starts, {what}"


def _stop_job(folder: Path, *, now: bool, wait: bool, results: Path) -> None:
    """End a run that was submitted: its drivers as ever, and the jobs of it that have none by Slurm.

    The driver's job ends after it, and is not started again: Slurm has not told it to end.
    """
    from harness.slurm import client
    from harness.terminal import jobs
    from harness.terminal.text import printable

    queued = jobs.ask([folder])[folder]
    if queued.why is not None:
        typer.echo(printable(f"Slurm is not told: {queued.why}"), err=True)
        typer.echo(printable("only the run's own process is asked to end; `scancel` ends a job that waits"), err=True)
    if queued.tasks is not None:
        _stop_array(folder, queued, now=now, wait=wait)
        return
    going = [job.id for job in queued.going]
    if going and not _drives(folder, queued):
        client.cancel(going)
        typer.echo(printable(f"{folder.name}: {_cancelled(queued)}{_go_on_of(folder)}"))
        return
    _expect_begun(folder, queued)
    try:
        _stop_driver(folder, now=now, wait=wait, results=results, patience_s=_UNTIL_CANCELLED_S if now else None)
    finally:
        if now and wait and going:
            client.cancel(going)
            typer.echo(printable(f"cancelled {_named(going)}, if it has not ended by itself"))


def _stop_array(folder: Path, queued: Queued, *, now: bool, wait: bool) -> None:
    """Ask each shard that runs to end, and cancel those that wait to start, or whose job has yet to begin its shard."""
    from harness.domain.errors import ResultsError
    from harness.domain.naming import plural
    from harness.record import shards
    from harness.slurm import client, states
    from harness.terminal import jobs
    from harness.terminal.text import printable

    ids = sorted({job.id.partition("_")[0] for job in queued.going})
    waiting = any(map(states.waiting, queued.going))
    if ids:
        client.cancel(ids, pending=True)  # first, so that none starts in the place of one that ends
        queued = jobs.ask([folder])[folder]  # what has started since Slurm was asked is not cancelled by that
    standing = shards.standing(folder)
    starting = [job.id for one in standing if (job := _starting(one, queued)) is not None]
    if starting:
        client.cancel(starting)  # before others are asked: one that begins its shard meanwhile is told by Slurm
    asked = sum(_ask_shard(one, queued, now=now) for one in standing)
    if not asked and not ids:
        raise ResultsError(f"{folder}: no shard of this run runs, and Slurm has none: there is nothing to stop")
    what = "and the trials that run are ended too" if now else "those that run end first"
    told = [f"asked {plural(asked, 'shard')} to end: no further trial starts, {what}"] if asked else []
    told += [f"cancelled what waits to start of {_named(ids)}"] if waiting else []
    told += [f"cancelled {_named(starting)}, which had not begun"] if starting else []
    typer.echo(printable(f"{folder.name}: {'; '.join(told) or 'its jobs are about to end'}"))
    if not wait:
        return
    end_s = time.monotonic() + _UNTIL_CANCELLED_S if now else float("inf")
    try:
        while time.monotonic() < end_s and any(
            jobs.state_of_shard(one, queued) == "running" for one in shards.standing(folder)
        ):
            time.sleep(_LOOK_SHARDS_EVERY_S)
            queued = jobs.ask([folder])[folder]
    except KeyboardInterrupt:
        typer.echo("\nthey still end as asked; `harness stop` once more ends their trials at once", err=True)
        raise typer.Exit(130) from None
    if now and ids:
        client.cancel(ids)
    typer.echo(printable(f"no shard runs any more{_go_on_of(folder)}"))


def _ask_shard(one: ShardStanding, queued: Queued, *, now: bool) -> bool:
    """Ask a shard to end, if it runs; tell whether it does."""
    from harness.record import owner
    from harness.terminal import jobs

    holder = owner.read(one.folder)
    if holder is None or jobs.state_of_shard(one, queued) != "running":
        return False
    _ask(one.folder, holder, now=now)
    return True


def _starting(one: ShardStanding, queued: Queued) -> Job | None:
    """Return the job of a shard that loads its modules or starts Ray: nobody is there yet who could be asked."""
    from harness.slurm import states
    from harness.terminal import jobs

    job = queued.of_shard(one.number)
    left = jobs.state_of_shard(one, queued) in ("submitted", jobs.PENDING)
    return job if left and job in queued.going and not states.waiting(job) else None


def _expect_begun(folder: Path, queued: Queued) -> None:
    """Raise for a run that nobody has begun, and of which Slurm has no job, or cannot be asked."""
    from harness.domain.errors import ResultsError
    from harness.record import runs

    if runs.read_run(folder)["state"] != "submitted":
        return
    if queued.why is not None:
        ids = " ".join(queued.file.ids)
        raise ResultsError(f"{folder}: this run has not begun; take its job back where Slurm is: scancel {ids}")
    raise ResultsError(
        f"{folder}: this run has not begun, and Slurm has no job of it: there is nothing to stop{_go_on_of(folder)}"
    )


def _drives(folder: Path, queued: Queued) -> bool:
    """Tell whether a process runs the run, as far as its files and Slurm know."""
    from harness.record import runs
    from harness.terminal import jobs

    return jobs.state_of(folder, str(runs.read_run(folder)["state"]), queued) == "running"


def _cancelled(queued: Queued) -> str:
    states = ", ".join(sorted({job.state for job in queued.going}))
    return f"cancelled {_named([job.id for job in queued.going])} ({states}), which had not begun to run it"


def _named(ids: list[str]) -> str:
    return f"job{'s' if len(ids) > 1 else ''} {', '.join(ids)}"


def _go_on_of(folder: Path) -> str:
    """Return how a run goes on that Slurm has no job of any more."""
    from harness.record.runs import read_run, resume_command

    content = read_run(folder)
    return "" if content["state"] == "completed" else f"; go on with: {resume_command(content)}"


def _await_end(folder: Path, holder: Owner, *, patience_s: float | None = None) -> None:
    """Return once the attempt of `holder` has ended, and say how; or, without a word, after `patience_s`.

    Raises:
        ResultsError: when its driver was killed, or is not heard of any more.
    """
    from harness.domain.errors import ResultsError
    from harness.record import live, owner, runs
    from harness.terminal.text import printable, tally

    heard, heard_s = live.read(folder), time.monotonic()
    end_s = heard_s + patience_s if patience_s is not None else float("inf")
    while time.monotonic() < end_s:
        content, present = runs.read_run(folder), owner.read(folder)
        if not runs.is_live(content):
            told = tally(content.get("counts") or {})
            left = f", {content['pending']} not run" if content.get("pending") else ""
            typer.echo(printable(f"ended as {content['state']}: {told}{left}{_go_on(content)}"))
            return
        if present is not None and present.token != holder.token:
            typer.echo(printable(f"that attempt has ended; the run has gone on since: it belongs to {present}"))
            return
        if content["state"] == "dead":
            raise ResultsError(f"{folder}: its driver, {holder}, was killed meanwhile{_go_on(content)}")
        seen = live.read(folder)
        if seen != heard:
            heard, heard_s = seen, time.monotonic()
        if holder.alive() is None and time.monotonic() - heard_s > _SILENT_S:
            raise ResultsError(
                f"{folder}: nothing was heard of its driver, {holder}, for {_SILENT_S:.0f} s; if it is gone with its "
                f"host, go on with: {runs.resume_command(content)} --take-over"
            )
        time.sleep(_LOOK_EVERY_S)


def _go_on(content: dict[str, Any]) -> str:
    """Return how a run goes on, where something is left to do."""
    from harness.record.runs import resume_command

    unfinished = content.get("state") in ("dead", "interrupted", "preempted")
    return f"; go on with: {resume_command(content)}" if unfinished else ""
