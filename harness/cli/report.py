"""`harness report`: runs → one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Discard, Results, Where


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]…", help="Runs' folders or ids, suites' names or folders; the latest run if left out."
        ),
    ] = None,
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
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TARGET", help="Instead of the suite's: 0.9 or 'val_loss <= 0.4'."),
    ] = None,
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
        discard=() if discard is None else [name.strip() for name in discard.split(",")],
        target=target,
    )
    typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
