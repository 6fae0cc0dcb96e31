"""The commands, put together, and how a wrong request is told."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from harness import __version__
from harness.cli import data
from harness.cli.compare import compare
from harness.cli.export import export
from harness.cli.look import doctor, plan, show, status
from harness.cli.models import evaluate, predict
from harness.cli.node import node
from harness.cli.plot import plot
from harness.cli.report import report
from harness.cli.run import aa, run
from harness.cli.stop import stop
from harness.cli.submit import submit
from harness.cli.up import down, up

app = typer.Typer(
    name="harness",
    help="Benchmark trainings over a grid of settings: how long to which accuracy, on which hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    run, aa, plan, submit, up, down, node, status, stop, show, compare, report, export, plot, doctor, evaluate, predict,
):  # fmt: skip
    app.command()(command)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _wrong_words(error: typer.TyperException) -> str:
    """Return what is wrong with the words of a command as one line: the option, its value and what it may be."""
    told = error.format_message()
    from pydantic import ValidationError
    from typer.core import TyperOption

    if "\n" in told:  # the help, for a command without any words
        return told
    cause, option = error.__cause__, getattr(error, "param", None)
    if isinstance(cause, ValidationError) and isinstance(option, TyperOption):
        right = "a whole number" if option.type_descriptor.annotation is int else "a number"
        if option.max is not None:
            right += f" from {option.min} to {option.max}"
        elif option.min is not None:
            right += f", {option.min} or more"
        what = (option.help or "").rstrip(".")
        return f"harness: {option.opts[0]} {cause.errors()[0]['input']}: must be {right} ({what[:1].lower()}{what[1:]})"
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f"; `{context.command_path} --help` says what there is"
    return f"harness: {told[:1].lower()}{told[1:].rstrip('.')}{hint}"


def main() -> None:
    """Run the command line; a wrong request is one message on standard error and exit code 2."""
    from harness.domain.errors import HarnessError

    gc.set_threshold(100_000, 50, 50)  # looking for cycles among all that is imported takes an eighth of `harness show`
    try:
        sys.exit(app(prog_name="harness", standalone_mode=False))
    except typer.TyperException as error:
        print(_wrong_words(error), file=sys.stderr)
        sys.exit(error.exit_code)
    except HarnessError as error:
        told = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(error))
        print(f"harness: {told}", file=sys.stderr)
        sys.exit(error.exit_code)
