"""``harness run`` and ``harness aa``: a suite → its trials measured and recorded, and what came of it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli.executor import make_executor, on_resident
from harness.cli.options import (
    Address,
    Budget,
    Calibrate,
    Check,
    ExpectNodes,
    ExpectWithin,
    Force,
    Inline,
    Json,
    MaxFail,
    NodesLog,
    NoResident,
    Patience,
    Results,
    Resume,
    Retry,
    RunId,
    Set,
    Shard,
    SkipBadNodes,
    Small,
    SuiteFile,
    TakeOver,
    Telemetry,
    Where,
    Workers,
    listed,
)
from harness.cli.stdout import only_json_on_stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.pipeline import Report, Request
    from harness.schedule.expected import Expected

_DEMANDS: Final = 3  # that are named at the end
_BEGAN = time.monotonic()


def run(
    suite: SuiteFile,
    results: Results = Path("results"),
    overrides: Set = None,
    where: Where = None,
    small: Small = False,
    resume: Resume = False,
    run_id: RunId = None,
    shard: Shard = None,
    force: Force = False,
    take_over: TakeOver = False,
    workers: Workers = None,
    fresh_workers: Annotated[
        bool, typer.Option("--fresh-workers", help="A new worker process for each trial.")
    ] = False,
    retry: Retry = "",
    max_fail: MaxFail = None,
    budget: Budget = None,
    patience: Patience = "5m",
    address: Address = None,
    skip_bad_nodes: SkipBadNodes = False,
    expect_nodes: ExpectNodes = None,
    expect_within: ExpectWithin = "5m",
    nodes_log: NodesLog = None,
    inline: Inline = False,
    no_resident: NoResident = False,
    telemetry: Telemetry = 5.0,
    calibrate: Calibrate = True,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Run a suite: every trial of its grid, measured and recorded."""
    request = make_request(
        suite, results=results, overrides=overrides, where=where, small=small, resume=resume, run_id=run_id,
        force=force, take_over=take_over, retry=retry, max_fail=max_fail, budget=budget, patience=patience,
        fresh_workers=fresh_workers, calibrate=calibrate, shard=shard,
    )  # fmt: skip
    _go(
        request, inline=inline, address=address, workers=workers, no_resident=no_resident, hz=telemetry, check=check,
        as_json=as_json, skip_bad_nodes=skip_bad_nodes, expected=_expected(expect_nodes, expect_within, nodes_log),
    )  # fmt: skip


def aa(
    suite: SuiteFile,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", help="Of each setting and name, 2 or more.")] = 10,
    results: Results = Path("results"),
    overrides: Set = None,
    where: Where = None,
    small: Small = False,
    resume: Resume = False,
    run_id: RunId = None,
    force: Force = False,
    take_over: TakeOver = False,
    workers: Workers = None,
    retry: Retry = "",
    max_fail: MaxFail = None,
    budget: Budget = None,
    patience: Patience = "5m",
    address: Address = None,
    skip_bad_nodes: SkipBadNodes = False,
    inline: Inline = False,
    no_resident: NoResident = False,
    telemetry: Telemetry = 5.0,
    calibrate: Calibrate = True,
    as_json: Json = False,
) -> None:
    """Measure the noise floor: how much this node makes equal things differ.

    Runs every setting of a suite under two names, A and B, in the same blocks, and compares them. The noise floor is
    kept in the run's run.json, for comparisons on this node.
    """
    from harness import pipeline

    request = make_request(
        suite, results=results, overrides=overrides, where=where, small=small, resume=resume, run_id=run_id,
        force=force, take_over=take_over, retry=retry, max_fail=max_fail, budget=budget, patience=patience,
        fresh_workers=False, calibrate=calibrate,
    )  # fmt: skip
    request = pipeline.against_itself(request, repeats)
    _go(
        request, inline=inline, address=address, workers=workers, no_resident=no_resident, hz=telemetry, check=False,
        as_json=as_json, skip_bad_nodes=skip_bad_nodes,
    )  # fmt: skip


def make_request(
    suite: Path,
    *,
    results: Path,
    overrides: list[str] | None,
    where: list[str] | None,
    small: bool,
    resume: bool,
    run_id: str | None,
    force: bool,
    take_over: bool,
    retry: str,
    max_fail: int | None,
    budget: str | None,
    patience: str,
    fresh_workers: bool,
    calibrate: bool,
    shard: str | None = None,
) -> Request:
    """Return what was asked for by the options that `run` and `aa` share."""
    from harness import pipeline
    from harness.domain.errors import SuiteError
    from harness.schedule.loop import Policy

    statuses = listed(retry or None)
    for status in statuses:
        if status not in ("failed", "timeout", "lost"):
            raise SuiteError(f"--retry {status!r}: known statuses are failed, timeout and lost, joined by commas")
    if (force or take_over) and not resume:
        raise SuiteError("--force and --take-over go with --resume")
    if shard is not None and not (resume and run_id):
        raise SuiteError(f"--shard {shard}: goes with --run and --resume")
    policy = Policy(
        retry=tuple(statuses),
        max_fail=max_fail,
        budget_s=None if budget is None else _seconds("--budget", budget),
        patience_s=_seconds("--patience", patience),
        fresh_workers=fresh_workers,
        calibrate=calibrate,
    )
    return pipeline.Request(
        suite=suite, results=results, overrides=tuple(overrides or ()), where=tuple(where or ()), small=small,
        resume=resume, run=run_id, shard=_shard(shard), force=force, take_over=take_over, policy=policy,
    )  # fmt: skip


def _shard(text: str | None) -> tuple[int, int] | None:
    """Return which shard of how many is asked for by K/N."""
    from harness.domain.errors import SuiteError

    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise SuiteError(f"--shard {text!r}: give it as K/N, K from 0 to N - 1: the first of four is 0/4")
    return int(number), int(count)


def _go(
    request: Request,
    *,
    inline: bool,
    address: str | None,
    workers: int | None,
    no_resident: bool,
    hz: float,
    check: bool,
    as_json: bool,
    skip_bad_nodes: bool,
    expected: Expected | None = None,
) -> None:
    """Run what was asked for, tell what came of it, and end this process with the exit code."""
    from harness import pipeline
    from harness.domain.errors import SuiteError
    from harness.schedule.loop import Notice
    from harness.terminal.live import make_display

    if inline and (address or workers or request.policy.fresh_workers):
        raise SuiteError("--inline runs in this process alone: leave --address, --workers and --fresh-workers away")
    if skip_bad_nodes and not address:
        raise SuiteError("--skip-bad-nodes goes with --address")
    if expected and not address:
        raise SuiteError("--expect-nodes goes with --address")
    resident = not no_resident and on_resident(
        inline=inline,
        address=address,
        workers=workers,
        fresh_workers=request.policy.fresh_workers,
        say=lambda line: typer.echo(line, err=as_json),
    )
    display = make_display(quiet_stdout=as_json)
    try:
        with only_json_on_stdout(as_json):
            report = pipeline.run(
                request,
                make_executor=lambda trials, seed: make_executor(
                    trials,
                    seed,
                    inline=inline,
                    address=address,
                    workers=workers,
                    hz=hz,
                    resident=resident,
                    skip_bad_nodes=skip_bad_nodes,
                    expected=expected,
                    say=lambda text: display.notice(Notice(what="cluster", worker="", text=text)),
                ),
                display=display,
                began=_BEGAN,
            )
    except KeyboardInterrupt:
        display.close()  # a line amid what is being drawn would be erased with it
        how = f"`harness status --results {request.results}` says how to go on"
        typer.echo(f"harness: left at once; what was recorded is kept, and {how}", err=True)
        raise typer.Exit(pipeline.EXIT_INTERRUPTED) from None
    finally:
        display.close()
    holds = _conclude(request, report, check=check, as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    if report.executor is not None:
        report.executor.close(leaving=True)
    # No missed reference hides that the run ended early or that trials failed.
    os._exit(
        report.exit_code or (pipeline.EXIT_MISSED if check and not holds else pipeline.EXIT_COMPLETED)
    )  # all is written, and the interpreter's own shutdown takes a second with Ray in it


def _expected(nodes: int | None, within: str, log: Path | None) -> Expected | None:
    from harness.schedule.expected import Expected

    within_s = _seconds("--expect-within", within)
    return None if nodes is None else Expected(nodes=nodes, within_s=within_s, log=log)


def _seconds(option: str, text: str) -> float:
    from harness.domain.duration import duration
    from harness.domain.errors import SuiteError

    try:
        return duration(text)
    except SuiteError as error:
        raise SuiteError(f"{option}: {error}") from None


def _conclude(request: Request, report: Report, *, check: bool, as_json: bool) -> bool:
    """Tell what came of a run; return whether its references hold."""
    from harness.terminal import noise, show
    from harness.terminal.references import References

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
    from harness.record.runs import read_run_file, resume_command
    from harness.terminal.status import print_troubles
    from harness.terminal.text import tally

    told = tally(report.counts)
    pending = f", {report.pending} not run" if report.pending else ""
    typer.echo(f"\nTrials: {told}{pending}")
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
