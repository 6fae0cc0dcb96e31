"""``harness compare``: two runs, or two selections of trials → is one slower, and by how much."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Discard, Json, Results, Target, Where, listed

_SIDE = "a run (folder, id, or suite for its latest), a folder of runs, or an expression such as \"arm == 'A'\""


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=f"What B is compared with: {_SIDE}.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="What is compared: the same.", show_default=False)],
    results: Results = Path("results"),
    within: Annotated[
        list[str] | None,
        typer.Option(
            "--in", metavar="RUN", help="Expressions select from these runs; from all in --results if left out."
        ),
    ] = None,
    where: Where = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure",
            metavar="FIGURE[,…]",
            help="train_s (the default: seconds an epoch), time_to_target, samples_per_s, val_accuracy, or any number "
            "that is recorded of epochs or trials.",
        ),
    ] = None,
    target: Target = None,
    discard: Discard = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            "--mix",
            metavar="WHAT[,…]",
            help="Compare although they differ in this: precision, backend, engine, dispatch, neighbours, packed; all.",
        ),
    ] = None,
    fail_over: Annotated[
        str | None,
        typer.Option(
            "--fail-over",
            metavar="SHARE",
            help="Exit with 1 if a setting, or all together, is called different and worse in B by more, e.g. 5%.",
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, as for a pull request.")] = False,
    as_json: Json = False,
) -> None:
    """Compare B with A: is it slower, and by how much?

    Settings are matched by their identity. Each gets the ratio with its 98 % interval, a rank test, and a verdict
    against the node's noise floor; all together the geometric mean. Exit codes: 0, 1 with --fail-over, 2 for what
    cannot be compared.
    """
    from harness.answer.compare import compare as answer
    from harness.domain.errors import SuiteError
    from harness.terminal import compare as terminal
    from harness.terminal.text import printable

    if markdown and as_json:
        raise SuiteError("--markdown and --json: choose one of them")
    over = None if fail_over is None else _share(fail_over)
    found = answer(
        first, second, results=results, within=tuple(within or ()), where=tuple(where or ()),
        figures=listed(*figure or ()) or ["train_s"], target=target, discard=listed(discard),
        mix=listed(*mix or ()),
    )  # fmt: skip
    failing = [] if over is None else found.fails(over)
    if as_json:
        document = terminal.document(found) | {"fail_over": over, "failing": failing}
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    elif markdown:
        typer.echo(terminal.markdown(found))
    else:
        terminal.print_compared(found)
    for line in failing:
        typer.echo(printable(f"--fail-over {fail_over}: {line}"), err=True)
    if failing:
        raise typer.Exit(1)
    unsure = [] if over is None else found.unsure()
    if unsure:
        told = f"passed, but with too few repeats to tell in {' and '.join(unsure)}"
        typer.echo(f"--fail-over {fail_over}: {told}", err=True)


def _share(text: str) -> float:
    """Return 0.05 for ``5%`` and for ``0.05``."""
    from harness.domain.errors import SuiteError

    number, per_cent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if per_cent and 0 <= value < math.inf:
        return value / 100
    if 0 <= value < 1:
        return value
    hint = f"; did you mean {number}%?" if 1 <= value <= 100 else ""
    raise SuiteError(f"--fail-over {text!r}: expected a share such as 5% or 0.05{hint}")
