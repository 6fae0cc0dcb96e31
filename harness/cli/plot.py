"""`harness plot`: runs → figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Discard, Results, RunNames, Target, Where, listed


def plot(
    runs: RunNames = None,
    figure: Annotated[
        str | None,
        typer.Option(
            "--figure",
            metavar="NAME[,…]",
            help="Which: time-accuracy, front, energy, learning-curves, time-to-accuracy, heat-map, hardware, effects, "
            "levels, scaling, profiles, telemetry; all that make sense if left out.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE|FOLDER",
            help="Where to write: one figure to a .png, .svg or .pdf, or any to a folder; if left out, the folder "
            "figures in the run's folder, of several runs in this one.",
        ),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="png, svg or pdf; png if left out.")
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=100, max=4000, metavar="PIXELS", help="Of the plot, without its axes.")
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", min=40, max=4000, metavar="PIXELS", help="Of the plot, without its axes.")
    ] = None,
    scale: Annotated[
        float, typer.Option("--scale", min=0.25, max=4, metavar="FACTOR", help="Dots a pixel of a PNG, each way.")
    ] = 2.0,
    dark: Annotated[bool, typer.Option("--dark", help="For dark pages.")] = False,
    results: Results = Path("results"),
    where: Where = None,
    discard: Discard = None,
    target: Target = None,
) -> None:
    """Draw figures of one or several runs, as PNG, SVG or PDF.

    Needs neither a browser nor a network, so that it works on a node of a cluster.
    """
    from harness.answer.plot import Size
    from harness.answer.plot import plot as write

    written = write(
        runs or (),
        figures=listed(figure),
        output=output,
        form=form,
        size=Size(width=width, height=height),
        scale=scale,
        dark=dark,
        results=results,
        where=where or (),
        discard=listed(discard),
        target=target,
    )
    for path in written:
        typer.echo(path)
