"""``harness data``: the datasets that are here, and how to get the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json

app = typer.Typer(help="Datasets: which there are, where they are, and how to get them.", no_args_is_help=True)


@app.command(name="list")
def list_(as_json: Json = False) -> None:
    """List the datasets.

    Size, shape, classes, and where each was found or how to get it.
    """
    from harness.terminal import show

    show.datasets(as_json=as_json)


@app.command(name="fetch")
def fetch(name: Annotated[str, typer.Argument(help="Which dataset.")]) -> None:
    """Download a dataset through Keras, verify it and keep it in the data folder."""
    from harness.datasets.manage import fetch

    typer.echo(f"{name}: {fetch(name)}")


@app.command(name="import")
def import_(
    name: Annotated[str, typer.Argument(help="Which dataset.")],
    file: Annotated[Path, typer.Argument(help="A local copy, e.g. mnist.npz.")],
) -> None:
    """Verify a local copy of a dataset and copy it into the data folder."""
    from harness.datasets.manage import import_file

    typer.echo(f"{name}: {import_file(name, file)}")


@app.command(name="verify")
def verify(
    name: Annotated[str | None, typer.Argument(help="Which dataset; all that are here if left out.")] = None,
) -> None:
    """Recompute the checksums of the datasets that are here."""
    from harness.terminal import show

    show.verify(name)
