"""`harness report`: runs → one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Discard, Results, RunNames, Target, Where, listed


def report(
    runs: RunNames = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where to write; if left out, report.html in the run's folder, of several runs in this one.",
        ),
    ] = None,
    results: Results = Path("results"),
    where: Where = None,
    discard: Discard = None,
    target: Target = None,
) -> None:
    """Write a report on one or several runs: one HTML file that opens in any browser, without a network.

    The answer in a sentence, a table of the settings, charts that can be filtered, what was doubtful, and how to
    reproduce it.
    """
    from harness.answer.report import report as write

    path = write(
        runs or (),
        output=output,
        results=results,
        where=where or (),
        discard=listed(discard),
        target=target,
    )
    typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
