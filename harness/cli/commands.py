"""The commands that run suites and look at what is there: arguments → one pipeline call → exit code."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import __version__
from harness.cli.compare import compare
from harness.cli.export import export
from harness.cli.options import (
    Address,
    Budget,
    Calibrate,
    Check,
    Discard,
    Force,
    Inline,
    Json,
    MaxFail,
    Results,
    Resume,
    Retry,
    RunId,
    Set,
    Small,
    SuiteFile,
    TakeOver,
    Telemetry,
    Where,
    Workers,
)
from harness.cli.plot import plot
from harness.cli.report import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.domain.trial import Trial
    from harness.pipeline import Report, Request
    from harness.schedule.node import Prestarted
    from harness.schedule.protocol import Executor

_BEGAN = time.monotonic()
_BODY = "harness.measure:Body"

app = typer.Typer(
    name="harness",
    help="Benchmark trainings over a grid of settings: how long to which accuracy, on which hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Datasets: which there are, where they are, and how to get them.", no_args_is_help=True)
app.add_typer(data_app, name="data")


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


@app.command()
def run(
    suite: SuiteFile,
    results: Results = Path("results"),
    overrides: Set = None,
    where: Where = None,
    small: Small = False,
    resume: Resume = False,
    run_id: RunId = None,
    force: Force = False,
    take_over: TakeOver = False,
    workers: Workers = None,
    fresh_workers: Annotated[
        bool, typer.Option("--fresh-workers", help="A new worker process for each trial.")
    ] = False,
    retry: Retry = "",
    max_fail: MaxFail = None,
    budget: Budget = None,
    address: Address = None,
    inline: Inline = False,
    telemetry: Telemetry = 5.0,
    calibrate: Calibrate = True,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Run a suite: every trial of its grid, measured and recorded."""
    request = _request(
        suite, results=results, overrides=overrides, where=where, small=small, resume=resume, run_id=run_id,
        force=force, take_over=take_over, retry=retry, max_fail=max_fail, budget=budget, fresh_workers=fresh_workers,
        calibrate=calibrate,
    )  # fmt: skip
    _go(request, inline=inline, address=address, workers=workers, hz=telemetry, check=check, as_json=as_json)


@app.command()
def aa(
    suite: SuiteFile,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", help="Of each setting and name, 2 or more.")] = 10,
    results: Results = Path("results"),
    overrides: Set = None,
    where: Where = None,
    small: Small = False,
    resume: Resume = False,
    run_id: RunId = None,
    force: Force = False,
    take_over: TakeOver = False,
    workers: Workers = None,
    retry: Retry = "",
    max_fail: MaxFail = None,
    budget: Budget = None,
    address: Address = None,
    inline: Inline = False,
    telemetry: Telemetry = 5.0,
    calibrate: Calibrate = True,
    as_json: Json = False,
) -> None:
    """Measure the noise floor: how much this node makes equal things differ.

    Runs every setting of a suite under two names, A and B, in the same blocks, and compares them. The noise floor is
    kept in the run's run.json, for comparisons on this node.
    """
    from harness import pipeline

    request = _request(
        suite, results=results, overrides=overrides, where=where, small=small, resume=resume, run_id=run_id,
        force=force, take_over=take_over, retry=retry, max_fail=max_fail, budget=budget, fresh_workers=False,
        calibrate=calibrate,
    )  # fmt: skip
    request = pipeline.against_itself(request, repeats)
    _go(request, inline=inline, address=address, workers=workers, hz=telemetry, check=False, as_json=as_json)


def _request(
    suite: Path,
    *,
    results: Path,
    overrides: list[str] | None,
    where: list[str] | None,
    small: bool,
    resume: bool,
    run_id: str | None,
    force: bool,
    take_over: bool,
    retry: str,
    max_fail: int | None,
    budget: str | None,
    fresh_workers: bool,
    calibrate: bool,
) -> Request:
    """Return what was asked for by the options that `run` and `aa` share."""
    from harness import pipeline
    from harness.domain.errors import SuiteError
    from harness.schedule.loop import Policy

    statuses = _names(retry)
    for status in statuses:
        if status not in ("failed", "timeout", "lost"):
            raise SuiteError(f"--retry {status!r}: known statuses are failed, timeout and lost, joined by commas")
    if (run_id or force or take_over) and not resume:
        raise SuiteError("--run, --force and --take-over go with --resume")
    policy = Policy(
        retry=tuple(statuses),
        max_fail=max_fail,
        budget_s=None if budget is None else _seconds("--budget", budget),
        fresh_workers=fresh_workers,
        calibrate=calibrate,
    )
    return pipeline.Request(
        suite=suite, results=results, overrides=tuple(overrides or ()), where=tuple(where or ()), small=small,
        resume=resume, run=run_id, force=force, take_over=take_over, policy=policy,
    )  # fmt: skip


def _go(
    request: Request, *, inline: bool, address: str | None, workers: int | None, hz: float, check: bool, as_json: bool
) -> None:
    """Run what was asked for, tell what came of it, and end this process with the exit code."""
    from harness import pipeline
    from harness.domain.errors import SuiteError
    from harness.terminal.live import make_display

    if inline and (address or workers or request.policy.fresh_workers):
        raise SuiteError("--inline runs in this process alone: leave --address, --workers and --fresh-workers away")
    display = make_display(quiet_stdout=as_json)
    try:
        with _only_json_on_stdout(as_json):
            report = pipeline.run(
                request,
                make_executor=lambda trials, seed: _executor(
                    trials, seed, inline=inline, address=address, workers=workers, hz=hz
                ),
                display=display,
                began=_BEGAN,
            )
    except KeyboardInterrupt:
        how = f"`harness status --results {request.results}` says how to go on"
        typer.echo(f"harness: left at once; what was recorded is kept, and {how}", err=True)
        raise typer.Exit(pipeline.EXIT_INTERRUPTED) from None
    finally:
        display.close()
    holds = _conclude(request, report, check=check, as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    if report.executor is not None:
        report.executor.close(leaving=True)
    # No missed reference hides that the run ended early or that trials failed.
    os._exit(
        report.exit_code or (pipeline.EXIT_MISSED if check and not holds else pipeline.EXIT_COMPLETED)
    )  # all is written, and the interpreter's own shutdown takes a second with Ray in it


def _names(text: str) -> list[str]:
    """Return what an option gives joined by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _seconds(option: str, text: str) -> float:
    from harness.domain.duration import duration
    from harness.domain.errors import SuiteError

    try:
        return duration(text)
    except SuiteError as error:
        raise SuiteError(f"{option}: {error}") from None


def _executor(
    trials: Sequence[Trial], seed: int, *, inline: bool, address: str | None, workers: int | None, hz: float
) -> Executor:
    if inline:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
        os.environ["KERAS_BACKEND"] = _only_backend(trials)
        from harness.measure import Body
        from harness.schedule.inline import InlineExecutor

        return InlineExecutor(Body(), telemetry_hz=hz)
    from harness.schedule import ray_environment

    if address is not None:
        _expect_answer(address)
    ray_environment.prepare(address)
    prestarted = _prestart(trials, seed, workers) if address is None else None
    try:
        from harness.schedule.ray_cluster import RayExecutor

        return RayExecutor(body=_BODY, address=address, prestarted=prestarted, workers=workers, telemetry_hz=hz)
    except BaseException:
        if prestarted is not None:
            prestarted.stop()
        raise


def _only_backend(trials: Sequence[Trial]) -> str:
    """Return the back end that all trials need: Keras takes one a process."""
    from harness.domain.errors import SuiteError

    needed = sorted({trial.setting.needs for trial in trials} - {"none"})
    if len(needed) > 1:
        raise SuiteError(
            f"--inline runs one back end; these trials need {', '.join(needed)}: choose with --set backend=…"
        )
    return needed[0] if needed else "tensorflow"


def _prestart(trials: Sequence[Trial], seed: int, workers: int | None) -> Prestarted:
    """Start what the first trials need on this machine, before Ray is even imported."""
    from harness.domain.sources import collected
    from harness.schedule.node import Prestarted, share_out
    from harness.schedule.order import Demand, first_trials

    (first,) = first_trials(trials, seed=seed, workers=1)
    demand = Demand.of(first)
    launches = share_out(demand, body=_BODY, most=workers)
    ahead = [] if demand.backend == "none" else first_trials(trials, seed=seed, workers=len(launches))
    return Prestarted(launches, ahead, collected())


def _expect_answer(address: str) -> None:
    """Raise if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    import socket

    from harness.domain.errors import SetupError

    host, _, port = address.rpartition(":")
    way_out = "start a cluster there with `ray start --head`, or leave --address away to run on this machine"
    if not host or not port.isdigit():
        raise SetupError(f"--address {address!r} is no HOST:PORT; {way_out}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise SetupError(f"--address {address}: nothing answers there ({error.strerror or error}); {way_out}") from None


def _conclude(request: Request, report: Report, *, check: bool, as_json: bool) -> bool:
    """Tell what came of a run; return whether its references hold."""
    from harness.terminal import noise, show
    from harness.terminal.references import References

    table = show.summary(report.folder) if report.counts else None
    references = References() if table is None else table.references
    doubts = None if table is None else table.doubts
    if as_json:
        document = {
            "run": report.run_id,
            "folder": str(report.folder),
            "counts": dict(report.counts),
            "pending": report.pending,
            "stopped": report.stopped,
            "exit_code": report.exit_code,
            **(show.NOTHING if table is None else table.document()),
            **noise.found_document(report.repeats, report.noise, doubts),
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        if table is not None:
            table.print()
        noise.print_found(report.repeats, report.noise, doubts)
        _say_how_it_ended(request, report)
    if report.figureless:
        noise.say_figureless(report.repeats, err=as_json)
    references.conclude(check=check, err=as_json)
    return references.hold


def _say_how_it_ended(request: Request, report: Report) -> None:
    from harness.record.runs import resume_command

    told = ", ".join(f"{count} {status}" for status, count in sorted(report.counts.items())) or "none finished"
    pending = f", {report.pending} not run" if report.pending else ""
    typer.echo(f"\nTrials: {told}{pending}")
    typer.echo(f"Files:  {report.folder}/  (trials, epochs, telemetry, nodes: .parquet)")
    again = resume_command({"command": _without(list(request.command), "--retry"), "run_id": report.run_id})
    bad = ",".join(sorted(status for status in report.counts if status != "completed"))
    if report.pending:
        why = {
            "SIGINT": "interrupted",
            "SIGTERM": "told to end",
            "SIGHUP": "the terminal was closed",
            "budget": "the budget is used up",
            "max_fail": "--max-fail reached",
        }
        typer.echo(f"Ended early: {why.get(report.stopped or '', 'unfinished')}. Go on:  {again}")
    elif bad:
        typer.echo(f"Try those again:  {again} --retry {bad}")
    else:
        typer.echo(f"Show it again:  harness show {shlex.quote(str(report.folder))}")


def _without(words: list[str], option: str) -> list[str]:
    """Return a command without an option and its value."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = not skip and word == option
    return kept


@contextmanager
def _only_json_on_stdout(wanted: bool) -> Iterator[None]:
    """Send what is printed meanwhile, as by the suite's file, to standard error if stdout is for JSON alone."""
    with redirect_stdout(sys.stderr) if wanted else nullcontext():
        yield


@app.command()
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
    from harness.terminal import show

    request = pipeline.Request(suite=suite, overrides=tuple(overrides or ()), where=tuple(where or ()), small=small)
    with _only_json_on_stdout(as_json):
        loaded, made = pipeline.make_plan(request)
        pipeline.published(request, loaded, made)
    if as_json:
        typer.echo(json.dumps(show.plan_document(loaded, made), indent=2))
    else:
        show.print_plan(loaded, made, everything=everything)


@app.command()
def status(results: Results = Path("results"), as_json: Json = False) -> None:
    """List the runs in a results folder.

    How far each is, and how to go on with those that are not finished.
    """
    from harness.terminal import show

    show.status(results, as_json=as_json)


@app.command(name="show")
def show_(
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
    from harness.terminal import noise, show

    folder = find_run(run, results)
    without = () if discard is None else [name.strip() for name in discard.split(",")]
    table = show.summary(folder, references, without=without, with_drift=True)
    repeats, measured = noise.recorded_repeats(table.run), noise.recorded_noise(folder, table.run)
    if as_json:
        document = table.document() | noise.found_document(repeats, measured, table.doubts)
        typer.echo(json.dumps(document, indent=2))
    else:
        table.print()
        noise.print_found(repeats, measured, table.doubts)
        show.print_state(folder)
    table.references.conclude(check=check, err=as_json)
    if check and not table.references.hold:
        from harness.pipeline import EXIT_MISSED

        raise typer.Exit(EXIT_MISSED)


app.command()(compare)
app.command()(report)
app.command()(export)
app.command()(plot)


@app.command()
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


Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A saved model's folder, or that of a run that saved one.")
]


@app.command()
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

    with _only_json_on_stdout(as_json):
        scores, samples = apply.evaluate(apply.find_model(model), data)
    found = {"loss": scores.loss, "accuracy": scores.accuracy, **scores.extra}
    if as_json:
        typer.echo(json.dumps({"samples": samples, **found}, indent=2))
        return
    told = ", ".join(f"{name} {value:.4f}" for name, value in found.items() if value is not None)
    typer.echo(f"{model}: {told} ({samples:,} samples)")


@app.command()
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
    with _only_json_on_stdout(output is None):
        found = apply.predict(apply.find_model(model), data)
    if output is None:
        typer.echo(found.csv(), nl=False)
        return
    try:
        output.write_text(found.csv(), encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{output}: cannot be written ({error.strerror}); choose another place") from None
    typer.echo(f"{output}: {len(found):,} predictions")


@data_app.command(name="list")
def data_list(as_json: Json = False) -> None:
    """List the datasets.

    Size, shape, classes, and where each was found or how to get it.
    """
    from harness.terminal import show

    show.datasets(as_json=as_json)


@data_app.command(name="fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="Which dataset.")]) -> None:
    """Download a dataset through Keras, verify it and keep it in the data folder."""
    from harness.datasets.manage import fetch

    typer.echo(f"{name}: {fetch(name)}")


@data_app.command(name="import")
def data_import(
    name: Annotated[str, typer.Argument(help="Which dataset.")],
    file: Annotated[Path, typer.Argument(help="A local copy, e.g. mnist.npz.")],
) -> None:
    """Verify a local copy of a dataset and copy it into the data folder."""
    from harness.datasets.manage import import_file

    typer.echo(f"{name}: {import_file(name, file)}")


@data_app.command(name="verify")
def data_verify(
    name: Annotated[str | None, typer.Argument(help="Which dataset; all that are here if left out.")] = None,
) -> None:
    """Recompute the checksums of the datasets that are here."""
    from harness.terminal import show

    show.verify(name)


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

    try:
        sys.exit(app(prog_name="harness", standalone_mode=False))
    except typer.TyperException as error:
        print(_wrong_words(error), file=sys.stderr)
        sys.exit(error.exit_code)
    except HarnessError as error:
        told = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(error))
        print(f"harness: {told}", file=sys.stderr)
        sys.exit(error.exit_code)
