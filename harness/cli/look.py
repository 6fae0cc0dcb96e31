"""``harness plan``, ``status``, ``show`` and ``doctor``: what would run, what was recorded, what can be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Check, Discard, Json, Results, Set, Small, SuiteFile, Where, listed
from harness.cli.stdout import only_json_on_stdout


def plan(
    suite: SuiteFile,
    overrides: Set = None,
    where: Where = None,
    small: Small = False,
    everything: Annotated[bool, typer.Option("--all", help="List every trial, not the first 20.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a suite would run.

    Its axes, how many trials, the first of them, and what was excluded and why.
    """
    from harness import pipeline
    from harness.terminal import plans

    request = pipeline.Request(suite=suite, overrides=tuple(overrides or ()), where=tuple(where or ()), small=small)
    with only_json_on_stdout(as_json):
        loaded, made = pipeline.make_plan(request)
        pipeline.published(request, loaded, made)
    if as_json:
        typer.echo(json.dumps(plans.plan_document(loaded, made), indent=2))
    else:
        plans.print_plan(loaded, made, everything=everything)


def status(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's folder, its id, or a suite's name: what it does at this moment."),
    ] = None,
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """List the runs in a results folder, or show what one does at this moment.

    How far each is, and how to go on with those that are not finished. Of one: its nodes, what runs where, how long it
    may still take; from any host that sees the folder. Of those that were submitted, what Slurm says, too.
    """
    from harness.terminal import status as terminal

    if run is None:
        terminal.status(results, as_json=as_json)
        return
    from harness.answer.gather import find_run

    terminal.status_of(find_run(run, results), as_json=as_json)


def show(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's folder, its id, or a suite's name; the latest run if left out."),
    ] = None,
    results: Results = Path("results"),
    references: Annotated[
        Path | None,
        typer.Option("--references", metavar="FILE", help="Compare with the published values in this TOML file too."),
    ] = None,
    discard: Discard = None,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Show a run's summary, and published values beside measured ones.

    Per setting the time to the target, how many repeats reached it, the best, the speed.
    """
    from harness.answer.gather import find_run
    from harness.terminal import noise, status
    from harness.terminal import show as terminal

    folder = find_run(run, results)
    table = terminal.summary(folder, references, without=listed(discard), with_drift=True)
    repeats, measured = noise.recorded_repeats(table.run), noise.recorded_noise(folder, table.run)
    if as_json:
        document = table.document() | noise.found_document(repeats, measured, table.doubts)
        typer.echo(json.dumps(document, indent=2))
    else:
        table.print()
        noise.print_found(repeats, measured, table.doubts)
        status.print_state(folder)
    table.references.conclude(check=check, err=as_json)
    if check and not table.references.hold:
        from harness.pipeline import EXIT_MISSED

        raise typer.Exit(EXIT_MISSED)


def doctor(
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="DIR", help="Where runs are found; ./results, if there, when left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what can be measured on this machine.

    Its hardware, which counters can be read and why not the others, and what would make numbers noisy.
    """
    from harness.doctor.examine import examine
    from harness.terminal.doctor import print_examination, recorded_runs

    found = examine(recorded_runs(results))
    if as_json:
        typer.echo(json.dumps(found.document(), indent=2))
    else:
        print_examination(found)
