"""``harness export``: recorded runs → files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Discard, Results, RunNames, Target, Where, listed


def export(
    runs: RunNames = None,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="csv, tensorboard, pytest-benchmark or markdown.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="PATH", help="Where to write; Markdown is printed if left out."),
    ] = None,
    results: Results = Path("results"),
    where: Where = None,
    discard: Discard = None,
    target: Target = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="TABLE", help="With --to csv: trials, epochs, nodes or telemetry alone."),
    ] = None,
    spreadsheet: Annotated[
        bool,
        typer.Option("--spreadsheet", help="With --to csv: an apostrophe before text that would be a formula."),
    ] = False,
) -> None:
    """Write runs in a format that other tools read.

    csv: the tables. tensorboard: curves and hyperparameters. pytest-benchmark: seconds an epoch, for its compare.
    markdown: a table for a pull request.
    """
    from harness.answer.export import FORMATS
    from harness.answer.export import export as write
    from harness.domain.errors import SuiteError

    if not to:
        raise SuiteError(f"say what to write with --to FORMAT: {', '.join(FORMATS)}")
    told = write(
        runs or (), to=to, output=output, results=results, where=tuple(where or ()),
        discard=listed(discard), target=target, table=table,
        spreadsheet=spreadsheet,
    )  # fmt: skip
    typer.echo(told)
