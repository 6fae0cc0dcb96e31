"""Summaries and datasets as tables on standard output, or as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.domain.errors import DataError, ResultsError
from harness.domain.metrics import METRICS, goal_text
from harness.domain.naming import axis, missing, place_and_seed, plural
from harness.record import runs
from harness.record.schema import AXIS_COLUMNS
from harness.terminal.doubts import Doubts, LeftOut, doubted, unread
from harness.terminal.fleet import Nodes, nodes_of
from harness.terminal.references import References, references
from harness.terminal.scaling import Scaling, scaling_of
from harness.terminal.text import narrowed, print_table, printable, seconds, significant

if TYPE_CHECKING:
    import pandas as pd

_FIRST = 20  # trials, or reasons, that are shown
_ALIKE = 3  # trials that are named for each reason
# `Summary.document` where no trial is recorded.
NOTHING: dict[str, Any] = {"settings": [], "trials": [], "discarded": None, "references": []}
_ENERGIES = {
    "median_gpu_j_per_sample": "GPU J/sample",
    "median_gpu_j_to_target": "GPU J to target",
    "median_cpu_j_per_sample": "CPU J/sample",
    "median_cpu_j_to_target": "CPU J to target",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run, a row a setting and arm."""

    run: dict[str, Any]  # its run.json
    folder: Path
    rows: list[dict[str, Any]]
    axes: dict[str, str]  # path -> the column that holds its values
    naming: dict[str, str]  # those of the axes that tell the settings apart
    metric: str  # what the table shows the best of, as a median over the trials
    failures: dict[tuple[str, str], list[str]]  # trials that did not complete: (status, error) -> labels
    doubts: Doubts
    drift: str | None  # what changed over the run, in a sentence; empty where nothing did, None: not looked for
    references: References
    packed: int  # trials that shared a core or a GPU with others of the run
    nodes: Nodes | None  # of a run on several, against one another
    scaling: Scaling | None  # of trainings that were split over several counts of devices or nodes

    def document(self) -> dict[str, Any]:
        """Return the settings, the trials with their warnings, what was left out and the references as plain JSON."""
        left = self.doubts.left_out
        return {
            "settings": self.records(),
            "trials": [one.record() for one in self.doubts.trials],
            "discarded": None if left is None else left.record(),
            **({} if self.drift is None else {"drift": self.drift or None}),
            "references": self.references.records(),
            **({"packed": self.packed} if self.packed else {}),
            **({} if self.nodes is None else {"fleet": self.nodes.document()}),
            **({} if self.scaling is None else {"scaling": self.scaling.document()}),
        }

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as plain JSON: infinite times are the text "Infinity", unknown values null."""
        return [
            {name: _json(value) for name, value in row.items()}
            | {"warnings": self.doubts.counts(row["setting_id"], row["arm"])}
            for row in self.rows
        ]

    def print(self) -> None:
        """Print the table that a person wants first, then the trials that did not complete, then the references."""
        target, metric = self.run.get("target"), self.metric
        goal = f"time to {goal_text(metric, target.get('at_least'), target.get('at_most'))}" if target else None
        columns: list[tuple[str, str]] = [(path, "left") for path in self.naming] or [("setting", "left")]
        only = self.run["suite"] if len({row["setting_id"] for row in self.rows}) == 1 else None  # it needs no hash
        names = [
            [axis(row[column]) for column in self.naming.values()] or [only or row["setting_id"]] for row in self.rows
        ]
        with_arm = len(set(map(tuple, names))) < len(self.rows)
        with_samples = any(_number(row["median_samples_per_s"]) is not None for row in self.rows)
        columns += [("arm", "left")] if with_arm else []
        columns += [(goal, "right"), ("reached", "right")] if goal else []
        columns += [(f"best {metric}", "right"), *([("samples/s", "right")] if with_samples else [])]
        columns += [("s/epoch", "right")]
        energies = [name for name in _ENERGIES if any(_number(row[name]) is not None for row in self.rows)]
        columns += [(_ENERGIES[name], "right") for name in energies]
        columns += [("trials", "right"), *([("doubts", "left")] if self.doubts.any else [])]
        cells = []
        for row, name in zip(self.rows, names, strict=True):
            line = [*name, *([str(row["arm"])] if with_arm else [])]
            line += [seconds(_number(row["median_time_to_target_s"])), row["reached_share"] or "–"] if goal else []
            line += [_figure(row["median_best"]), *([_rate(row["median_samples_per_s"])] if with_samples else [])]
            line += [_significant(row["median_train_s"]), *(_joules(row[name]) for name in energies)]
            line += [f"{row['completed']}/{row['trials']}"]
            line += [self.doubts.cell(row["setting_id"], row["arm"])] if self.doubts.any else []
            cells.append(line)
        title = f"{self.run['suite']}  {self.run['run_id']}  (median over repeats; time on the training clock)"
        shown, lines, dropped = narrowed(columns, cells, ["doubts"])
        print_table(shown, lines, title=title)
        if dropped:
            typer.echo(f"(not shown for want of width: {', '.join(dropped)}; --json has them)")
        if self.failures:
            typer.echo("")
        for (state, error), labels in list(self.failures.items())[:_FIRST]:
            more = f"; and {len(labels) - _ALIKE} more" if len(labels) > _ALIKE else ""
            count = f"{len(labels)} × " if len(labels) > 1 else ""
            typer.echo(f"{count}{state}: {printable(error)}\n    {printable('; '.join(labels[:_ALIKE]))}{more}")
        if len(self.failures) > _FIRST:
            typer.echo(f"… and {len(self.failures) - _FIRST} more reasons; the column `error` of trials has them all")
        self.doubts.print()
        if self.drift:
            typer.echo(f"\n{self.drift}")
        if self.packed:
            typer.echo(f"\npacked: {plural(self.packed, 'trial')} shared a core or a GPU with others of the run")
        if self.nodes is not None:
            self.nodes.print()
        if self.scaling is not None:
            self.scaling.print()
        self.references.print()


def summary(
    folder: Path, own_references: Path | None = None, *, without: Sequence[str] = (), with_drift: bool = False
) -> Summary:
    """Return the summary of a run, finished or not, with its references and those of the user's own file.

    Trials that carry a warning of `without` are left out of every figure.

    Raises:
        ResultsError: when no trial is recorded in it, or none is left.
        SuiteError: when the own file is wrong, or for a warning that there is not.
    """
    from harness.analyse.discard import discard
    from harness.analyse.frames import floats, having
    from harness.analyse.summarise import summarise
    from harness.record.reading import load

    few = [
        "run_id", "trial_id", "setting_id", "arm", "epoch", "elapsed_train_s", "train_s", "samples", "samples_per_s",
        "warmup", "gpu_counter_j", "gpu_counter_validity", "gpu_power_j", "gpu_power_validity", "cpu_counter_j",
        "cpu_counter_validity",
    ]  # fmt: skip
    all_columns = own_references is not None or bool(runs.read_run_file(folder).get("references"))
    results = load(folder, columns=None if all_columns else {"epochs": [*few, *METRICS, "extra"]})
    run, trials = results.runs[0], results.trials
    if trials.empty:
        state = f"its state is {run.get('state')!r}, and `harness status {folder}` says more"
        raise ResultsError(f"{folder}: no trial is recorded in this run yet; {state}")
    columns = {path: AXIS_COLUMNS.get(path, path) for path in run.get("axes", {})}
    axes = {path: column for path, column in columns.items() if column in trials.columns}
    target = run.get("target") or {}
    metric = _metric(target, results.epochs)
    every_epoch = having(results.epochs, metric)  # a function's own metric may never have been reported
    naming = _naming(axes, trials)
    epochs, left_out, every = every_epoch, None, trials
    if without:
        planned = trials.groupby(["setting_id", "arm"], observed=True).ngroups
        trials, epochs, found = discard(trials, epochs, without)
        left_out = LeftOut(
            names=found.names,
            trials=doubted(found.trials, naming),
            of=found.of,
            unjudged=found.unjudged,
            settings=planned - trials.groupby(["setting_id", "arm"], observed=True).ngroups,
        )
    frame = summarise(
        trials,
        epochs,
        metric=metric,
        at_least=target.get("at_least"),
        at_most=target.get("at_most"),
        axes=list(axes.values()),
    )
    bad = trials[trials["status"] != "completed"]
    failures: dict[tuple[str, str], list[str]] = {}
    for row in bad.to_dict("records"):
        failures.setdefault((row["status"], row["error"]), []).append(place_and_seed(row, naming))
    return Summary(
        run=run,
        folder=folder,
        rows=_with_those_left_out(frame, every, list(axes.values())) if without else _records(frame),
        axes=axes,
        naming=naming,
        metric=metric,
        failures=failures,
        doubts=Doubts(trials=doubted(trials, naming), unread=unread(folder, run, trials), left_out=left_out),
        drift=_drift(trials, epochs) if with_drift else None,
        references=references(folder, results, trials, epochs, axes=naming, own=own_references),
        packed=int((floats(trials, "packed") > 0).sum()),
        nodes=nodes_of(run, trials, epochs),
        scaling=scaling_of(trials, epochs),
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _with_those_left_out(frame: pd.DataFrame, every: pd.DataFrame, axes: list[str]) -> list[dict[str, Any]]:
    """Return the rows of a summary with one for each setting that has no trial left: how many it had, and no figure."""
    known = {(row["setting_id"], row["arm"]): row for row in _records(frame)}
    groups = every.groupby(["setting_id", "arm"], sort=False, observed=True)
    planned = groups[axes].first().assign(trials=groups.size()).reset_index()
    blank = dict.fromkeys(map(str, frame.columns)) | dict.fromkeys(("completed", "failed", "timeout", "lost"), 0)
    rows = _records(planned.sort_values([*axes, "arm"], kind="stable"))
    return [known.get((row["setting_id"], row["arm"]), blank | row) for row in rows]


def datasets(*, as_json: bool) -> None:
    """List the datasets."""
    from harness.datasets.manage import list_datasets

    found = list_datasets()
    if as_json:
        typer.echo(json.dumps([{name: _json(getattr(one, name)) for name in one.__slots__} for one in found], indent=2))
        return
    lines = []
    for one in found:
        shape = "×".join(str(size) for size in one.shape)
        where = str(one.path) if one.path is not None else one.how_to_get or ""
        lines.append([one.name, one.state, f"{one.train:,} + {one.test:,}", shape, str(one.classes), where])
    headings = ("dataset", "state", "train + test", "shape", "classes", "where, or how to get it")
    print_table([(heading, "left") for heading in headings], lines)


def verify(name: str | None) -> None:
    """Recompute the checksums of one dataset, or of all that are here."""
    from harness.datasets import manage

    names = [name] if name is not None else [one.name for one in manage.list_datasets() if one.state != "missing"]
    problems = []
    for one in names:
        try:
            verified = manage.verify(one)
            typer.echo(f"{one}: as it should be, sha256 {verified.sha256[:16]}… ({verified.path or 'generated'})")
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


def _metric(target: dict[str, Any], epochs: pd.DataFrame) -> str:
    """Return the target's metric; without a target the first of the usual ones that was measured."""
    measured = (name for name in ("val_accuracy", "val_loss", "loss") if epochs[name].notna().any())
    return str(target["metric"]) if target else next(measured, "val_accuracy")


def _naming(axes: dict[str, str], trials: pd.DataFrame) -> dict[str, str]:
    """Return the axes to show: the label, where it is an axis and each setting has one of its own, and the node."""
    if "label" in axes and (trials["label"] != "").all() and trials.groupby("label")["setting_id"].nunique().max() == 1:
        return {path: column for path, column in axes.items() if path in ("label", "node")}
    return axes


def _drift(trials: pd.DataFrame, epochs: pd.DataFrame) -> str:
    """Return what changed over a run in a sentence; empty where nothing did."""
    if trials["setting_id"].nunique() == len(trials):  # nothing was repeated
        return ""
    from harness.analyse.drift import drift

    found = drift(trials, epochs)
    return "" if found is None else found.sentence


def _number(value: Any) -> float | None:
    return None if missing(value) else float(value)


def _figure(value: Any) -> str:
    number = _number(value)
    if number is None:
        return "–"
    return f"{number:.3g}" if 0 < abs(number) < 1e-3 else f"{number:.4f}"


def _significant(value: Any) -> str:
    number = _number(value)
    return "–" if number is None else significant(number)


def _joules(value: Any) -> str:
    number = _number(value)
    return "never" if number == math.inf else _significant(number)


def _rate(value: Any) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:,.0f}"


def _json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return None if math.isnan(value) else value
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if missing(value) else str(value)
