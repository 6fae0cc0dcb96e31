"""Recorded runs → files that other tools read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.answer.gather import Gathered, gather
from harness.domain.design import CONFIDENCE
from harness.domain.errors import SetupError, SuiteError
from harness.domain.naming import commonest, plural
from harness.record.schema import TABLES

if TYPE_CHECKING:
    import pandas as pd


FORMATS: Final = ("csv", "tensorboard", "pytest-benchmark", "markdown")


def export(
    names: Sequence[str],
    *,
    to: str,
    output: Path | None,
    results: Path = Path("results"),
    where: Sequence[str] = (),
    discard: Sequence[str] = (),
    target: str | None = None,
    table: str | None = None,
    spreadsheet: bool = False,
) -> str:
    """Write the runs that the user named in one of `FORMATS` to `output`; return what there is to say of it.

    Without an `output`, which only Markdown can do without, that is the Markdown text itself. CSV is a folder with a
    file for each table, or with `table` that one file; `spreadsheet`: see `harness.export.csv_files`.

    Raises:
        SuiteError: for words that do not go together, or are none (see `gather`).
        ResultsError: when there is no such run, nothing of it to export, or `output` cannot be written.
        SetupError: for TensorBoard, when its package is not installed.
    """
    if to not in FORMATS:
        raise SuiteError(f"--to {to!r}: what can be written are {', '.join(FORMATS)}")
    if to != "csv" and (table is not None or spreadsheet):
        raise SuiteError(f"--table and --spreadsheet go with --to csv, not with --to {to}")
    if to == "csv" and target is not None:
        raise SuiteError("--to csv writes what was recorded, judged by no target: leave --target away")
    if table is not None and table not in TABLES:
        raise SuiteError(f"--table {table!r}: the tables are {', '.join(TABLES)}")
    if to != "markdown" and output is None:
        raise SuiteError(f"--to {to} writes {'files' if table is None else 'a file'}: say where with --output PATH")
    if to == "tensorboard":
        _expect_tensorboard()
    gathered = gather(names, results=results, where=where, discard=discard, target=target, targeted=to != "csv")
    if to == "markdown":
        return _markdown(gathered, output)
    assert output is not None  # as checked above
    if to == "csv":
        return _csv(gathered, output, table, spreadsheet=spreadsheet)
    return _tensorboard(gathered, output) if to == "tensorboard" else _pytest_benchmark(gathered, output)


def _csv(gathered: Gathered, output: Path, table: str | None, *, spreadsheet: bool) -> str:
    from harness.export.csv_files import write_csv
    from harness.export.files import new_file, new_folder

    def frame(name: str) -> pd.DataFrame:
        if name in ("trials", "epochs"):
            return gathered.trials if name == "trials" else gathered.epochs
        found: pd.DataFrame = getattr(gathered.results, name)
        return found[found["run_id"].isin(gathered.trials["run_id"].unique())]

    if table is not None:
        rows = frame(table)
        with new_file(output) as path:
            write_csv(rows, path, spreadsheet=spreadsheet)
        return f"{output}: {len(rows):,} rows"
    told = []
    with new_folder(output) as folder:
        for name in TABLES:
            rows = frame(name)
            write_csv(rows, folder / f"{name}.csv", spreadsheet=spreadsheet)
            told.append(f"{name}.csv ({len(rows):,} rows)")
    return f"{output}/: {', '.join(told)}"


def _tensorboard(gathered: Gathered, output: Path) -> str:
    from harness.export.files import new_folder
    from harness.export.tensorboard import write_tensorboard

    recorded = set(TABLES["epochs"].names())
    losses = ("loss", "accuracy", "val_loss", "val_accuracy")
    further = [str(name) for name in gathered.epochs.columns if name not in recorded]
    with new_folder(output) as folder:
        count = write_tensorboard(
            _judged(gathered), gathered.epochs, folder, metric=gathered.metric, axes=gathered.axes,
            naming=gathered.naming, quantities=[*losses, *further],
        )  # fmt: skip
    return f"{output}/: {plural(count, 'trial')}; tensorboard --logdir {output}"


def _expect_tensorboard() -> None:
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise SetupError("--to tensorboard: the package is not installed; pip install 'harness[tensorboard]'")


def _pytest_benchmark(gathered: Gathered, output: Path) -> str:
    from harness.export.files import new_file
    from harness.export.pytest_benchmark import write_pytest_benchmark

    with new_file(output) as path:
        count = write_pytest_benchmark(
            _judged(gathered), gathered.epochs, gathered.results.nodes, path, runs=_runs(gathered),
            metric=gathered.metric, target=None if gathered.target is None else str(gathered.target),
            axes=gathered.axes, naming=gathered.naming,
        )  # fmt: skip
    return f"{output}: {plural(count, 'benchmark')}; pytest-benchmark compare {output}"


def _markdown(gathered: Gathered, output: Path | None) -> str:
    from harness.analyse import summarise
    from harness.export.files import new_file
    from harness.export.markdown import markdown

    target, trials = gathered.target, gathered.trials
    summary = summarise(
        trials, gathered.epochs, metric=gathered.metric, axes=list(dict.fromkeys(gathered.axes.values())),
        at_least=None if target is None else target.at_least, at_most=None if target is None else target.at_most,
        by=["setting_id", "arm", *(["hardware"] if trials["hardware"].nunique() > 1 else [])],
    )  # fmt: skip
    ranks, ascending = ["median_best"], [not gathered.higher_is_better]
    if target is not None:
        ranks, ascending = ["median_time_to_target_s", *ranks], [True, *ascending]
    text = markdown(
        summary.sort_values(ranks, ascending=ascending, kind="stable"), title=_title(gathered), facts=_facts(gathered),
        notes=_notes(gathered), naming=gathered.naming, metric=gathered.metric,
        target=None if target is None else str(target),
    )  # fmt: skip
    if output is None:
        return text.removesuffix("\n")
    with new_file(output) as path:
        path.write_text(text, encoding="utf-8")
    return f"{output}: {plural(len(summary), 'setting')}"


def _title(gathered: Gathered) -> str:
    return ", ".join(dict.fromkeys(str(run.get("suite")) for run in _runs(gathered)))


def _facts(gathered: Gathered) -> list[str]:
    """Return where the figures are from, and what they are."""
    trials = gathered.trials
    runs = [str(run["run_id"]) for run in _runs(gathered)]
    listed = ", ".join(runs[:5]) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
    facts = [f"{'run' if len(runs) == 1 else 'runs'} {listed}", f"on {', '.join(trials['hardware'].unique())}"]
    commits = trials[["commit", "dirty"]].dropna(subset="commit").drop_duplicates().to_dict("records")
    named = [f"{row['commit'][:12]}{' with changes' if row['dirty'] else ''}" for row in commits]
    facts += [f"at commit {', '.join(named)}"] if named else []
    return [*facts, f"medians over repeats, in brackets with their {100 * CONFIDENCE:g} % confidence intervals"]


def _notes(gathered: Gathered) -> list[str]:
    """Return the doubts that the figures carry."""
    found = Counter(map(str, gathered.trials["warnings"].explode().dropna()))
    going = [run for run in _runs(gathered) if run.get("state") not in ("completed", "failed")]
    notes = [f"the run {run['run_id']} is {run.get('state')}: not all of it was run" for run in going]
    notes += [f"{plural(count, 'trial')} with the warning {name}" for name, count in commonest(found)]
    left = gathered.discarded
    if left is not None and len(left.trials):
        notes.append(f"{plural(len(left.trials), 'trial')} of {left.of} left out for {', '.join(left.names)}")
    return notes


def _judged(gathered: Gathered) -> pd.DataFrame:
    """Return the trials with ``best`` of the metric and, with a target, ``reached`` and ``time_to_target_s``."""
    from harness.analyse import gaps, time_to_target

    trials, epochs, target = gathered.trials, gathered.epochs, gathered.target
    ends = gaps(trials, epochs, metric=gathered.metric, lower_is_better=not gathered.higher_is_better)
    columns: dict[str, Any] = {"best": ends["best"].to_numpy()}
    if target is not None:
        times = time_to_target(trials, epochs, metric=target.metric, at_least=target.at_least, at_most=target.at_most)
        columns |= {name: times[name].to_numpy() for name in ("reached", "time_to_target_s")}
    return trials.assign(**columns)


def _runs(gathered: Gathered) -> list[dict[str, Any]]:
    """Return run.json of the runs that have a trial left."""
    left = set(gathered.trials["run_id"])
    return [run for run in gathered.runs if run.get("run_id") in left]
