"""Published values beside measured ones: which were reproduced, which were missed and by how much.

The median over the repeats of a setting is held against the value, within the larger of the tolerance and three
standard deviations of the repeats, since a published figure is of one run. A bound is held against the median alone.
The largest median of a likeness is held against the smallest, and called too large only where the repeats show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from harness.analyse.frames import floats, owners
from harness.analyse.target import time_to_target
from harness.domain.applied import Applied, check_paths, holds, joined, plain_setting
from harness.domain.component import did_you_mean
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression
from harness.domain.metrics import better
from harness.domain.paths import read
from harness.domain.reference import ARM_COLUMNS, TIME_TO_TARGET, Alike, AnyReference, Direction, Reference

if TYPE_CHECKING:
    from harness.analyse.compare import Comparison

Verdict = Literal["reproduced", "missed", "not measured", "none"]

_Table = Literal["trials", "epochs"]

_STANDARD_DEVIATIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one reference comes to for one setting and arm; for settings that its `over` joins, or for two groups.

    Of a direction the two groups are its `higher` and `lower`; of a likeness, in one arm, the settings with the largest
    and the smallest median.
    """

    reference: AnyReference
    setting_ids: tuple[str, ...] = ()
    arm: str | None = None
    point: Mapping[str, Any] = field(default_factory=dict)  # the axes' values, by path
    measured: float | None = None  # the median over the repeats; of two groups, that of the higher
    lower: float | None = None  # of two groups, the median of the lower
    std: float | None = None  # of the repeats; None: there is only one
    repeats: int = 0  # how many were judged; of several groups, those of the smallest
    verdict: Verdict = "none"  # none: it is not to be judged, or was not run
    by: float | None = None  # of a miss: how far it lies outside; positive: too high; of a likeness, in ratios
    reason: str = ""  # why it has no verdict, or was not measured; of a likeness that was missed, why there is no `by`
    target: Mapping[str, Any] | None = None  # of a time to the target: what was to be reached
    # Of two groups, the trials of the lower and of the higher; of a likeness, of all settings in the order of their
    # medians: run_id, block, value.
    sides: tuple[pd.DataFrame, ...] = field(default=(), compare=False, repr=False)

    @property
    def ratio(self) -> float | None:
        """Of two groups: how many times the lower median the higher is; None where they are not both above 0."""
        return (
            self.measured / self.lower if self.measured and self.lower and min(self.measured, self.lower) > 0 else None
        )

    def comparison(self) -> Comparison | None:
        """Of two groups: the higher compared with the lower, by their ratio, or by their difference where not all are
        above 0; "different: slower" means that the higher one is the larger. This loads SciPy."""
        if not self.sides:
            return None
        from harness.analyse.compare import compare

        lower, higher = self.sides[0], self.sides[-1]
        return compare(lower, higher, relative=all((side["value"] > 0).all() for side in (lower, higher)))


def judge(
    references: Sequence[Applied],
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    nodes: pd.DataFrame,
    *,
    axes: Mapping[str, str] | None = None,
    target: Mapping[str, Any] | None = None,
    unfinished: bool = False,
) -> list[Judged]:
    """Return the references with their verdicts, in order, given the tables of one run.

    `axes` are the columns of `trials` that hold the axes' values, by path; `target` (``metric`` with ``at_least`` or
    ``at_most``) is what times to the target are measured to; `unfinished` says that some of the run's trials are not
    recorded yet.
    """
    concerned = trials["setting_id"].isin([one for each in references for group in each.groups for one in group])
    trials = trials[concerned]
    epochs = epochs[epochs["trial_id"].isin(trials["trial_id"])]
    recorded = _Recorded(trials, epochs, nodes, axes or {}, target, unfinished)
    found: list[Judged] = []
    for one in references:
        if isinstance(one.reference, Direction):
            found.append(_direction(one.reference, one.groups, recorded))
        elif isinstance(one.reference, Alike):
            found += _alike(one.reference, one.groups, recorded)
        else:
            found += _rows(one.reference, one.groups, recorded)
    return found


def find(references: Sequence[AnyReference], trials: pd.DataFrame) -> list[Applied]:
    """Return references with the settings among those of `trials` that they hold for.

    Raises:
        SuiteError: for a path that none of the settings has.
    """
    settings, seeds, ids = plain_settings(trials), trials["seed"].tolist(), trials["setting_id"].tolist()
    reads = [partial(read, plain) for plain in settings]
    found = []
    for reference in references:
        groups: list[tuple[str, ...]] = []
        for where in reference.conditions:
            condition = Expression(where)
            kind = type(reference).__name__.lower()
            try:
                check_paths(condition, reads, settings[0])
                met = [row for row, one in enumerate(reads) if holds(condition, one, seeds[row])]
            except SuiteError as error:
                raise SuiteError(f"{kind} {reference.name!r}: {error}") from None
            if isinstance(reference, Direction):
                groups.append(tuple(dict.fromkeys(ids[row] for row in met)))
            else:
                over = reference.over if isinstance(reference, Reference) else ()
                groups += joined(over, [(settings[row], ids[row]) for row in met])
        found.append(Applied(reference=reference, groups=tuple(groups)))
    return found


def plain_settings(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the plain setting of each row of `trials`; equal ones are one object."""
    columns = [trials[column].tolist() for column in ARM_COLUMNS.values()]
    known: dict[Any, dict[str, Any]] = {}
    found = []
    for row in zip(trials["setting"].tolist(), *columns, strict=True):
        if row not in known:
            known[row] = plain_setting(row[0], dict(zip(ARM_COLUMNS, row[1:], strict=True)))
        found.append(known[row])
    return found


class _NotRecordedError(Exception):
    """A reference names a quantity that the tables do not have."""


class _Recorded:
    """The tables of a run, each trial's epochs in order."""

    def __init__(
        self,
        trials: pd.DataFrame,
        epochs: pd.DataFrame,
        nodes: pd.DataFrame,
        axes: Mapping[str, str],
        target: Mapping[str, Any] | None,
        unfinished: bool,
    ) -> None:
        self.trials = trials.reset_index(drop=True)
        self.target = target
        self.unfinished = unfinished
        self._nodes = nodes
        self._axes = axes
        own = owners(self.trials, epochs)
        self._epochs = epochs
        self._order = np.lexsort((epochs["epoch"].to_numpy(dtype=np.int64), own))  # trial by trial
        places = np.arange(len(self.trials))
        self._first = np.searchsorted(own, places, sorter=self._order)
        self._end = np.searchsorted(own, places, side="right", sorter=self._order)
        self._columns: dict[tuple[str, str], np.ndarray] = {}

    @cached_property
    def _settings(self) -> list[dict[str, Any]]:
        return plain_settings(self.trials)

    def select(self, ids: Sequence[str], where: str) -> np.ndarray:
        """Return the rows of the trials of these settings; what `where` says of arm and seed holds for them too."""
        rows: np.ndarray = np.flatnonzero(self.trials["setting_id"].isin(ids))
        condition = Expression(where)
        if not {"seed", *ARM_COLUMNS} & set(condition.names):
            return rows
        seeds = self.trials["seed"].tolist()
        met = [row for row in rows if holds(condition, partial(read, self._settings[row]), seeds[row])]
        return np.array(met, dtype=np.int64)

    def side(self, rows: np.ndarray, values: np.ndarray) -> pd.DataFrame:
        """Return trials as `compare` takes them: ``run_id``, ``block``, ``value``."""
        return self.trials.iloc[rows].reindex(columns=["run_id", "block"]).assign(value=values)

    def by_arm(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        arms = self.trials["arm"].to_numpy(dtype=object)[rows]
        for arm in dict.fromkeys(arms):
            yield arm, rows[arms == arm]

    def on(self, hardware: str, rows: np.ndarray) -> np.ndarray:
        """Return those of the rows that ran on a node with this hardware."""
        wanted = hardware.lower()
        matching = set()
        for node in self._nodes.to_dict("records"):
            gpus = node["gpu_names"]  # a list, or null
            told = [node["cpu_model"], node["hostname"], *(gpus if isinstance(gpus, list | np.ndarray) else ())]
            if any(isinstance(text, str) and wanted in text.lower() for text in told):
                matching.add(node["node"])
        nodes = self.trials["node"].tolist()
        return np.array([row for row in rows if nodes[row] in matching], dtype=np.int64)

    def not_completed(self, rows: np.ndarray) -> str:
        """Return how many of the trials did not complete, as "2 of 3 failed"; empty when all did."""
        statuses = self.trials["status"].to_numpy(dtype=object)[rows]
        bad = statuses[statuses != "completed"]
        kinds = {"failed": "failed", "timeout": "timed out", "lost": "were lost"}
        how = kinds.get(bad[0], "did not complete") if len(set(bad)) == 1 else "did not complete"
        return f"{len(bad)} of {len(rows)} {how}" if len(bad) else ""

    def point(self, rows: np.ndarray, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return the axes' values of the first of these trials, those that it has."""
        told = {path: column for path, column in self._axes.items() if path not in without}
        values = {path: self.trials[column].iloc[rows[:1]].tolist()[0] for path, column in told.items()}
        return {path: value for path, value in values.items() if not pd.isna(value)}

    def values(self, reference: AnyReference, rows: np.ndarray) -> np.ndarray:
        """Return the reference's quantity in each of these trials, NaN where it has none.

        Raises:
            _NotRecordedError: when the tables have no such quantity.
        """
        expression = Expression(reference.metric)
        table: _Table = "trials" if reference.epoch is None else "epochs"
        columns = {name: self._column(table, name) for name in expression.names}

        def value(place: int) -> float:
            try:
                found = expression.evaluate(lambda name: float(columns[name][place]))
            except SuiteError:  # as a division by 0
                return math.nan
            return float(found) if isinstance(found, int | float) else math.nan

        if reference.epoch is None:
            return np.array([value(row) for row in rows])
        return np.array([self._of_epochs(reference, row, value) for row in rows])

    def _of_epochs(self, reference: AnyReference, row: int, value: Any) -> float:
        places = list(range(self._first[row], self._end[row]))
        if isinstance(reference.epoch, int):
            number = self._column("epochs", "epoch")
            places = [place for place in places if number[place] == reference.epoch]
        elif reference.epoch == "last":
            places = places[-1:]
        elif reference.epoch == "all":
            warm = self._column("epochs", "warmup")
            places = [place for place in places if not warm[place] > 0] or places
        values = np.array([value(place) for place in places])
        values = values[~np.isnan(values)] if reference.epoch == "best" else values
        if not len(values):
            return math.nan
        if reference.epoch == "best":
            return float(values.max() if better(reference.metric) == "higher" else values.min())
        return float(np.median(values))

    def _column(self, table: _Table, name: str) -> np.ndarray:
        if (table, name) not in self._columns and name == TIME_TO_TARGET:
            self._columns[table, name] = self._times_to_target()
        if (table, name) not in self._columns:
            frame = self.trials if table == "trials" else self._epochs
            numbers = [str(column) for column, kind in frame.dtypes.items() if _is_number(kind)]
            if name not in numbers:
                raise _NotRecordedError(f"{name!r} is not recorded;{did_you_mean(name, numbers)}".rstrip(";"))
            values = floats(frame, name)
            self._columns[table, name] = values if table == "trials" else values[self._order]
        return self._columns[table, name]

    def _times_to_target(self) -> np.ndarray:
        if not self.target:
            raise _NotRecordedError("the run has no target")
        metric, *bounds = (self.target.get(key) for key in ("metric", "at_least", "at_most"))
        epochs = self._epochs
        times = time_to_target(self.trials, epochs, metric=str(metric), at_least=bounds[0], at_most=bounds[1])
        return times["time_to_target_s"].to_numpy(dtype=float)


def _is_number(kind: Any) -> bool:
    return pd.api.types.is_any_real_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)


def _rows(reference: Reference, groups: Sequence[Sequence[str]], recorded: _Recorded) -> list[Judged]:
    found = []
    missing = 0
    for ids in groups:
        rows = recorded.select(ids, reference.where)
        missing += not len(rows)
        for arm, of_arm in recorded.by_arm(rows):
            found.append(_row(reference, tuple(ids), arm, of_arm, recorded))
    if missing or not groups:
        reason = _not_run(recorded) if groups else "no trial of this run meets it"
        if found:
            reason = f"not run: {missing} of {len(groups)} settings"
        ids = tuple(one for group in groups for one in group) if not found else ()
        found.append(Judged(reference=reference, setting_ids=ids, reason=reason))
    return found


def _not_run(recorded: _Recorded) -> str:
    return "not run yet, or other settings" if recorded.unfinished else "not run (other settings)"


def _row(reference: Reference, ids: tuple[str, ...], arm: str, rows: np.ndarray, recorded: _Recorded) -> Judged:
    about: dict[str, Any] = {"reference": reference, "setting_ids": ids, "arm": arm}
    about |= {"point": recorded.point(rows, without=reference.over), "target": _target(reference, recorded)}
    other = ""
    if reference.hardware is not None:
        here = recorded.on(reference.hardware, rows)
        other = "" if len(here) else f"{'for' if reference.value is None else 'published on'} {reference.hardware}"
        rows = here if len(here) else rows
    judged = reference.can_be_judged and not other
    unmeasured: Verdict = "not measured" if judged else "none"
    if bad := recorded.not_completed(rows):
        return Judged(**about, verdict=unmeasured, reason=other or bad)
    try:
        values = recorded.values(reference, rows)
    except _NotRecordedError as error:
        return Judged(**about, verdict=unmeasured, reason=other or str(error))
    if reason := _no_number(reference, values):
        return Judged(**about, verdict=unmeasured, reason=other or reason)
    by_seed = recorded.trials.iloc[rows].assign(value=values).groupby("seed", sort=False)
    complete = by_seed["setting_id"].nunique() == len(ids)
    repeats = by_seed["value"].mean()[complete].to_numpy()
    if not len(repeats):
        most = by_seed["setting_id"].nunique().max()
        return Judged(**about, reason=f"not run: {len(ids) - most} of the {len(ids)} that the mean is over")
    measured = float(np.median(repeats))
    std = float(np.std(repeats, ddof=1)) if len(repeats) > 1 else None
    about |= {"measured": measured, "std": std, "repeats": len(repeats)}
    if not judged:
        return Judged(**about, reason=other or "for comparison")
    by = _outside(reference, measured, std)
    return Judged(**about, verdict="missed" if by else "reproduced", by=by or None)


def _outside(reference: Reference, measured: float, std: float | None) -> float:
    """Return how far the median lies outside what is expected: positive above, negative below, 0 within."""
    low, high = reference.at_least, reference.at_most
    if reference.value is not None:
        slack = max(reference.tolerance or 0.0, _STANDARD_DEVIATIONS * (std or 0.0))
        slack += 1e-9 * slack + 1e-12 * abs(reference.value)  # what is lost in writing decimals as binary numbers
        low, high = reference.value - slack, reference.value + slack
    if high is not None and measured > high:
        return measured - high
    if low is not None and measured < low:
        return measured - low
    return 0.0


def _no_number(reference: AnyReference, values: np.ndarray) -> str:
    missing = int((~np.isfinite(values)).sum())
    if not missing:
        return ""
    if reference.needs_target and np.isinf(values).any():
        return f"{int(np.isinf(values).sum())} of {len(values)} did not reach the target"
    at = f"epoch {reference.epoch}" if isinstance(reference.epoch, int) else "number"
    return f"no {at} in {missing} of {len(values)}"


def _direction(reference: Direction, groups: Sequence[Sequence[str]], recorded: _Recorded) -> Judged:
    about: dict[str, Any] = {"reference": reference, "setting_ids": tuple(one for group in groups for one in group)}
    found = [recorded.select(ids, where) for ids, where in zip(groups, reference.conditions, strict=True)]
    if not all(map(len, found)):
        return Judged(**about, reason=_not_run(recorded) if all(groups) else "no trial of this run meets it")
    rows = np.concatenate(found)
    if bad := recorded.not_completed(rows):
        return Judged(**about, verdict="not measured", reason=bad)
    try:
        higher, lower = (recorded.values(reference, part) for part in found)
    except _NotRecordedError as error:
        return Judged(**about, verdict="not measured", reason=str(error))
    if reason := _no_number(reference, np.concatenate([higher, lower])):
        return Judged(**about, verdict="not measured", reason=reason)
    above, below = float(np.median(higher)), float(np.median(lower))
    about |= {"measured": above, "lower": below, "repeats": min(len(higher), len(lower))}
    about |= {"target": _target(reference, recorded)}
    about |= {"sides": (recorded.side(found[1], lower), recorded.side(found[0], higher))}
    return Judged(
        **about, verdict="reproduced" if above > below else "missed", by=None if above > below else above - below
    )


def _target(reference: AnyReference, recorded: _Recorded) -> Mapping[str, Any] | None:
    return recorded.target if reference.needs_target else None


def _alike(reference: Alike, groups: Sequence[Sequence[str]], recorded: _Recorded) -> list[Judged]:
    """Hold settings against one another, in each arm by itself; the arms of one setting where there is no other."""
    about: dict[str, Any] = {"reference": reference, "target": _target(reference, recorded)}
    found = {ids[0]: recorded.select(ids, reference.where) for ids in groups}
    run = {identity: rows for identity, rows in found.items() if len(rows)}
    if not run:
        reason = _not_run(recorded) if found else "no trial of this run meets it"
        return [Judged(**about, setting_ids=tuple(found), reason=reason)]
    if len(run) < len(found):
        reason = f"not run: {len(found) - len(run)} of {len(found)} settings"
        return [Judged(**about, setting_ids=tuple(run), reason=reason)]
    if len(run) == 1:
        ((identity, rows),) = run.items()
        return [_likeness(about | {"setting_ids": (identity,)}, [one for _, one in recorded.by_arm(rows)], recorded)]
    by_arm: dict[str, dict[str, np.ndarray]] = {}
    for identity, rows in run.items():
        for arm, of_arm in recorded.by_arm(rows):
            by_arm.setdefault(arm, {})[identity] = of_arm
    return [
        _likeness(about | {"setting_ids": tuple(of_arm), "arm": arm}, list(of_arm.values()), recorded)
        for arm, of_arm in by_arm.items()
    ]


def _likeness(about: Mapping[str, Any], sets: Sequence[np.ndarray], recorded: _Recorded) -> Judged:
    """Judge one likeness over sets of trials, a set a setting or arm.

    It is reproduced where the largest of the sets' medians is at most `most` times the smallest. It is missed where it
    is larger, and the repeats show that: the two sets differ by more than `most` at 2 % (see `compare`), divided by the
    number of pairs of sets, since these two were picked for being furthest apart (Bonferroni). With one repeat, or
    where repeats missed the target, which counts as infinite in medians, the medians alone decide.
    """
    reference: Alike = about["reference"]
    if len(sets) < 2:
        return Judged(**about, reason="one setting alone, and nothing to hold it against")
    rows = np.concatenate(sets)
    if bad := recorded.not_completed(rows):
        return Judged(**about, verdict="not measured", reason=bad)
    try:
        values = [recorded.values(reference, part) for part in sets]
    except _NotRecordedError as error:
        return Judged(**about, verdict="not measured", reason=str(error))
    every = np.concatenate(values)
    if np.isnan(every).any() or (np.isinf(every).any() and not reference.needs_target):
        return Judged(**about, verdict="not measured", reason=_no_number(reference, every))
    medians = [float(np.median(part)) for part in values]
    least, most = int(np.argmin(medians)), int(np.argmax(medians))
    about = {**about, "repeats": min(map(len, values))}
    if medians[least] <= 0 or not math.isfinite(medians[least]):
        reason = "no setting reached the target" if medians[least] > 0 else "a median is not above 0: there is no ratio"
        return Judged(**about, verdict="not measured", reason=reason)
    if not math.isfinite(medians[most]):
        missed = sum(not math.isfinite(one) for one in medians)
        return Judged(**about, verdict="missed", reason=f"{missed} of {len(sets)} did not reach the target")
    about |= {"measured": medians[most], "lower": medians[least]}
    if np.isfinite(every).all():
        about["sides"] = tuple(recorded.side(sets[one], values[one]) for one in np.argsort(medians, kind="stable"))
    by = medians[most] / medians[least] - reference.most
    if by <= 1e-9:
        return Judged(**about, verdict="reproduced")
    if about["repeats"] == 1 or "sides" not in about or _beyond(about["sides"], reference.most):
        return Judged(**about, verdict="missed", by=by)
    return Judged(**about, verdict="not measured", reason="too few repeats to tell")


def _beyond(sides: Sequence[pd.DataFrame], most: float) -> bool:
    """Return whether the last of the sides is shown to be more than `most` times the first."""
    from harness.analyse.compare import ALARMS, compare

    first, last = sides[0], sides[-1]
    seen = compare(first.assign(value=first["value"] * most), last)
    pairs = len(sides) * (len(sides) - 1) // 2
    return seen.verdict == "different: slower" and seen.p is not None and seen.p * pairs < ALARMS
