"""What came of a run that has just ended, for people and programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Final

import typer

from harness.pipeline import Report, Request
from harness.record.runs import read_run_file, resume_command
from harness.terminal import noise, show
from harness.terminal.references import References
from harness.terminal.status import print_troubles
from harness.terminal.text import tally

_DEMANDS: Final = 3  # that are named at the end


def tell(request: Request, report: Report, *, check: bool, as_json: bool) -> bool:
    """Tell what came of a run, or print it as JSON; return whether its references hold."""
    table = show.summary(report.folder) if report.counts else None
    references = References() if table is None else table.references
    doubts = None if table is None else table.doubts
    if as_json:
        document = {
            "run": report.run_id,
            "folder": str(report.folder),
            "counts": dict(report.counts),
            "pending": report.pending,
            "stopped": report.stopped,
            "unserved": list(report.unserved),
            "exit_code": report.exit_code,
            **(show.NOTHING if table is None else table.document()),
            **noise.found_document(report.repeats, report.noise, doubts),
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        if table is not None:
            table.print()
        noise.print_found(report.repeats, report.noise, doubts)
        _say_how_it_ended(request, report)
    if report.figureless:
        noise.say_figureless(report.repeats, err=as_json)
    references.conclude(check=check, err=as_json)
    return references.hold


def _say_how_it_ended(request: Request, report: Report) -> None:
    pending = f", {report.pending} not run" if report.pending else ""
    typer.echo(f"\nTrials: {tally(report.counts)}{pending}")
    content = read_run_file(report.folder)
    print_troubles(content)
    typer.echo(f"Files:  {report.folder}/  (trials, epochs, telemetry, nodes: .parquet)")
    command = _without(_without(list(request.command), "--retry"), "--budget")
    again = resume_command(content | {"command": command, "run_id": report.run_id})
    bad = ",".join(sorted(status for status in report.counts if status != "completed"))
    if report.pending:
        why = {
            "SIGINT": "interrupted",
            "SIGTERM": "told to end",
            "SIGHUP": "the terminal was closed",
            "budget": "the budget is used up",
            "max_fail": "--max-fail reached",
            "stop": "`harness stop` asked for it",
            "nodes": f"no node is left that can run the rest{_asking(report.unserved)}",
            "cluster": "what ran the trials was lost",
        }
        by_slurm = report.stopped == "SIGTERM" and "submitted_at" in content
        go_on = "Unless Slurm starts the job again, go on" if by_slurm else "Go on"
        typer.echo(f"Ended early: {why.get(report.stopped or '', 'unfinished')}. {go_on}:  {again}")
    elif bad:
        typer.echo(f"Try those again:  {again} --retry {bad}")
    else:
        typer.echo(f"Show it again:  harness show {shlex.quote(str(report.folder))}")


def _asking(unserved: Sequence[str]) -> str:
    more = f", and {len(unserved) - _DEMANDS} other kinds" if len(unserved) > _DEMANDS else ""
    return f", which asks for {'; or for '.join(unserved[:_DEMANDS])}{more}" if unserved else ""


def _without(words: list[str], option: str) -> list[str]:
    """Return a command without an option and its value."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = not skip and word == option
    return kept
