"""``harness evaluate`` and ``harness predict``: a saved model → its scores, or what it says of new rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json
from harness.cli.stdout import only_json_on_stdout

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A saved model's folder, or that of a run that saved one.")
]


def evaluate(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Labelled rows: csv, parquet, npz, npy. Else the held-out part."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a saved model.

    On the data it was validated on, or on the labelled rows of a file.
    """
    from harness import apply

    with only_json_on_stdout(as_json):
        scores, samples = apply.evaluate(apply.find_model(model), data)
    found = {"loss": scores.loss, "accuracy": scores.accuracy, **scores.extra}
    if as_json:
        typer.echo(json.dumps({"samples": samples, **found}, indent=2))
        return
    told = ", ".join(f"{name} {value:.4f}" for name, value in found.items() if value is not None)
    typer.echo(f"{model}: {told} ({samples:,} samples)")


def predict(
    model: Model,
    data: Annotated[
        Path, typer.Argument(metavar="FILE", help="Rows as the model was trained on: csv, parquet, npz, npy.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.csv", help="Where to write; standard output if left out.")
    ] = None,
) -> None:
    """Predict the classes, or the numbers, of unlabelled rows with a saved model, as CSV."""
    from harness import apply
    from harness.domain.errors import ResultsError

    if output is not None and output.exists() and data.exists() and output.samefile(data):
        raise ResultsError(f"{output}: these are the rows to predict; choose another place for the predictions")
    with only_json_on_stdout(output is None):
        found = apply.predict(apply.find_model(model), data)
    if output is None:
        typer.echo(found.csv(), nl=False)
        return
    try:
        output.write_text(found.csv(), encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{output}: cannot be written ({error.strerror}); choose another place") from None
    typer.echo(f"{output}: {len(found):,} predictions")
