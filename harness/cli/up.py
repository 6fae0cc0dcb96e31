"""``harness up`` and ``harness down``: workers that stay between commands, with their programs and data warm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.executor import describe
from harness.cli.options import Address, SkipBadNodes, Workers
from harness.cli.request import seconds_of

if TYPE_CHECKING:
    from harness.domain.trial import Trial


def up(
    suite: Annotated[
        Path | None,
        typer.Argument(metavar="[SUITE]", help="Start the workers that this suite's first trials need."),
    ] = None,
    address: Address = None,
    workers: Workers = None,
    idle: Annotated[
        str, typer.Option("--idle", metavar="TIME", help="They end by themselves after so long without a run.")
    ] = "30m",
    skip_bad_nodes: SkipBadNodes = False,
) -> None:
    """Keep Ray and workers ready for the runs to come.

    `harness run` uses them when they are there, and says so. Without a suite, they are ready for TensorFlow on one core
    each; others are started by the first run that needs them, and stay.
    """
    from harness.domain.errors import SuiteError
    from harness.schedule.resident import place
    from harness.schedule.resident.control import bring_up
    from harness.schedule.resident.messages import Asked

    if skip_bad_nodes and address is None:
        raise SuiteError("--skip-bad-nodes goes with --address")
    idle_s = seconds_of("--idle", idle)
    if (there := place.state()) is not None:
        typer.echo(f"resident workers are up already: {describe(there)}")
        return
    first = () if suite is None else _first(suite)
    asked = Asked(address=address, workers=workers, idle_s=idle_s, skip_bad_nodes=skip_bad_nodes, first=first)
    made = bring_up(asked)
    if made is None:
        typer.echo("resident workers are being started by another `harness up` already")
        return
    typer.echo(f"resident workers are up: {describe(made)}; `harness run` uses them, `harness down` ends them")


def down(
    now: Annotated[bool, typer.Option("--now", help="Although a run uses them: it ends, and can be resumed.")] = False,
) -> None:
    """End what `harness up` has started."""
    from harness.schedule.resident.control import take_down

    ended = take_down(now=now)
    typer.echo("no resident workers are up" if ended is None else f"resident workers are ended: {describe(ended)}")


def _first(suite: Path) -> tuple[Trial, ...]:
    """Return the trials that the first workers of a suite would take."""
    from harness import pipeline
    from harness.schedule.order import first_trials

    _, made = pipeline.make_plan(pipeline.Request(suite=suite))
    return tuple(first_trials(made.trials, seed=0, workers=os.cpu_count() or 1))
