"""What the user named → the tables that an answer is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.domain.component import did_you_mean
from harness.domain.errors import ResultsError, SuiteError
from harness.domain.metrics import METRICS, better
from harness.domain.naming import plural
from harness.record import runs
from harness.record.schema import AXIS_COLUMNS, TABLES

if TYPE_CHECKING:
    import pandas as pd

    from harness.analyse.discard import Discarded
    from harness.domain.suite import Target
    from harness.record.reading import Results


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The trials of one or several runs with their epochs, described and selected."""

    results: Results  # everything in those runs; `telemetry` is read when asked for
    trials: pd.DataFrame  # with the columns of `analyse.described.DESCRIPTION`
    epochs: pd.DataFrame  # those of `trials` alone
    axes: Mapping[str, str]  # path -> the column of `trials` that holds its values
    naming: Mapping[str, str]  # those of the axes that tell the settings apart
    target: Target | None
    metric: str  # the target's; without a target, the first of the usual ones that was measured
    discarded: Discarded | None = None  # what was left out because of its warnings

    @property
    def runs(self) -> list[dict[str, Any]]:
        """run.json of each run."""
        return self.results.runs

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better: by the side of its target, else by its name."""
        return better(self.metric) == "higher" if self.target is None else self.target.at_least is not None


def gather(
    names: Sequence[str],
    *,
    results: Path = Path("results"),
    where: Sequence[str] = (),
    discard: Sequence[str] = (),
    target: str | float | None = None,
    targeted: bool = True,
) -> Gathered:
    """Return the trials of the runs that the user named (see `find_runs`), of those the ones that `where` selects.

    Trials with a warning of `discard` are left out. A `target`, as 0.9 or "val_loss <= 0.4", replaces that of the runs;
    without `targeted` nothing is judged by one, and runs may have different ones.

    Raises:
        ResultsError: when there is no such run, none of its trials is recorded, none is left, or targets differ.
        SuiteError: for an expression, a warning or a target that is none.
    """
    from harness.analyse.described import described, select
    from harness.analyse.discard import discard as leave_out
    from harness.analyse.frames import having, owners
    from harness.record.reading import load

    loaded = load(find_runs(names, results))
    told = ", ".join(map(str, loaded.folders[:3])) + (" …" if len(loaded.folders) > 3 else "")
    goal = _given(target, loaded) if target is not None else _target(loaded) if targeted else None
    trials, epochs = loaded.trials, loaded.epochs
    if trials.empty:
        states = ", ".join(sorted({str(run.get("state")) for run in loaded.runs}))
        raise ResultsError(f"{told}: no trial is recorded here yet; the state is {states}")
    for run in loaded.runs:  # a function's own metric may never have been reported
        epochs = having(epochs, str((run.get("target") or {}).get("metric", "val_accuracy")))
    trials = described(trials, loaded.runs, loaded.nodes)
    if where:
        of = len(trials)
        trials = select(trials, *where)
        if trials.empty:
            raise ResultsError(f"{told}: --where {' and '.join(where)!r} selects none of {plural(of, 'trial')}")
        epochs = epochs[owners(trials, epochs) >= 0]
    discarded = None
    if discard:
        trials, epochs, discarded = leave_out(trials, epochs, discard)
    axes = _axes(loaded.runs, trials)
    return Gathered(
        results=loaded, trials=trials, epochs=epochs, axes=axes, naming=_naming(axes, trials),
        target=goal, metric=goal.metric if goal is not None else _measured(epochs), discarded=discarded,
    )  # fmt: skip


def find_runs(names: Sequence[str], results: Path) -> list[Path]:
    """Return the folders of the runs that the user meant; without names the latest run alone.

    A name is the path of a run, of a suite's folder or of a results folder (all runs in it), a run's id, alone or
    behind its suite's name and a slash, or a suite's name (its latest run).

    Raises:
        ResultsError: for a name that is none of these.
    """
    if not names:
        return [find_run(None, results)]
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = runs.find_runs(path)
            if not inside:
                raise ResultsError(f"{path}: no run is recorded here; name a run, a suite's folder or a results folder")
            found += inside
        else:
            found.append(find_run(name, results))
    return list(dict.fromkeys(found))


def find_run(run: str | None, results: Path) -> Path:
    """Return the folder that the user meant by a path, a run's id, ``suite/id`` or a suite's name; the latest for None.

    Raises:
        ResultsError: when there is none.
    """
    if run is not None and (Path(run) / runs.FILE).is_file():
        return Path(run)
    if run is not None and Path(run).is_dir():
        results, run = Path(run), None
    known = runs.list_runs(results)
    asked = None if run is None else run.rstrip("/")
    if asked is None:  # the latest that has begun, if any has
        found = [one for one in known if one.state != runs.SUBMITTED] or known
    else:
        found = [one for one in known if asked in (one.run_id, one.suite, f"{one.suite}/{one.run_id}")]
    if not found:
        what = "no run is recorded"
        if asked is not None:
            names = {name for one in known for name in (one.suite, one.run_id, f"{one.suite}/{one.run_id}")}
            what = f"there is no run or suite {asked!r};{did_you_mean(asked, sorted(names))}".rstrip(";")
        raise ResultsError(f"{results}: {what}; `harness status --results {results}` lists what is there")
    return found[-1].folder


def _given(target: str | float, loaded: Results) -> Target:
    """Return the target that the user asks for, of a metric that was recorded."""
    from harness.domain.suite import Target

    value: Any = target
    if isinstance(target, str):
        with suppress(ValueError):
            value = float(target)
    try:
        goal = Target.of(value)
    except SuiteError as error:
        if "expected" not in str(error):
            raise SuiteError(f"--target: {error}") from None
        raise SuiteError(f"--target {target!r}: expected a val_accuracy such as 0.9, or 'val_loss <= 0.4'") from None
    own = set(loaded.epochs.columns) - set(TABLES["epochs"].names())
    known = [name for name in (*METRICS, *sorted(own)) if name in loaded.epochs.columns]
    if goal.metric not in known:
        hint = did_you_mean(goal.metric, known)
        raise SuiteError(
            f"--target {target!r}: no metric {goal.metric!r} is recorded;{hint} there are {', '.join(known)}"
        )
    return goal


def _target(loaded: Results) -> Target | None:
    from harness.domain.suite import Target

    found = {
        Target(**{key: given.get(key) for key in ("metric", "at_least", "at_most")})
        for run in loaded.runs
        if (given := run.get("target"))
    }
    if len(found) > 1:
        told = ", ".join(sorted(map(str, found)))
        raise ResultsError(
            f"the runs have different targets ({told}); say which one counts: --target 'METRIC >= VALUE'"
        )
    return next(iter(found), None)


def _axes(all_runs: Sequence[Mapping[str, Any]], trials: pd.DataFrame) -> dict[str, str]:
    columns = {path: AXIS_COLUMNS.get(path, path) for run in all_runs for path in run.get("axes", {})}
    return {path: column for path, column in columns.items() if column in trials.columns}


def _naming(axes: Mapping[str, str], trials: pd.DataFrame) -> dict[str, str]:
    """Return the axes to show: the label alone, where it is an axis and each setting has one of its own."""
    if "label" in axes and (trials["label"] != "").all() and trials.groupby("label")["setting_id"].nunique().max() == 1:
        return {"label": axes["label"]}
    return dict(axes)


def _measured(epochs: pd.DataFrame) -> str:
    return next((name for name in ("val_accuracy", "val_loss", "loss") if epochs[name].notna().any()), "val_accuracy")
