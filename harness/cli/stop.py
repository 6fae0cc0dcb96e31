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

_LOOK_EVERY_S = 0.25
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
    run's folder: its driver looks for the request once a second.
    """
    from harness.answer.gather import find_run
    from harness.domain.errors import ResultsError
    from harness.domain.naming import plural
    from harness.record import live, owner, runs
    from harness.record import stop as requests
    from harness.terminal.text import printable

    folder = find_run(run, results)
    content, holder = runs.read_run(folder), owner.read(folder)
    if not runs.is_live(content):
        raise ResultsError(f"{folder}: this run has ended already: it is {content['state']}{_go_on(content)}")
    if holder is None or content["state"] == "dead":
        who = "its driver" if holder is None else f"its driver, {holder},"
        raise ResultsError(f"{folder}: {who} was killed: there is nothing to stop{_go_on(content)}")
    earlier = requests.asked(folder, attempt=holder.attempt)
    now = now or earlier is not None
    asked = requests.StopRequest(attempt=holder.attempt, now=now, host=socket.gethostname(), pid=os.getpid())
    requests.ask(folder, asked)
    seen = live.read(folder)
    busy = "" if seen is None else f" ({plural(seen.busy, 'trial')} at this moment)"
    what = f"the trials that run{busy} are ended too" if now else f"those that run{busy} end first"
    typer.echo(printable(f"{content['run_id']}: asked {holder} to end it: no further trial starts, {what}"))
    if not wait:
        typer.echo(printable(f"`harness status {content['run_id']} --results {results}` says how far it is"))
        return
    try:
        _await_end(folder, holder)
    except KeyboardInterrupt:
        typer.echo("\nit still ends as asked; `harness stop` once more ends its trials at once", err=True)
        raise typer.Exit(130) from None


def _await_end(folder: Path, holder: Owner) -> None:
    """Return once the attempt of `holder` has ended, and say how.

    Raises:
        ResultsError: when its driver was killed, or is not heard of any more.
    """
    from harness.domain.errors import ResultsError
    from harness.record import live, owner, runs
    from harness.terminal.text import printable

    heard, heard_s = live.read(folder), time.monotonic()
    while True:
        content, present = runs.read_run(folder), owner.read(folder)
        if not runs.is_live(content):
            told = ", ".join(f"{count} {status}" for status, count in sorted((content.get("counts") or {}).items()))
            left = f", {content['pending']} not run" if content.get("pending") else ""
            typer.echo(printable(f"ended as {content['state']}: {told or 'none finished'}{left}{_go_on(content)}"))
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
