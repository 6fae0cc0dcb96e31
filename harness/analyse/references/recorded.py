"""The tables of a run as references ask for them: which trials are meant, and a quantity of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.analyse.frames import floats, having, owners
from harness.analyse.target import time_to_target
from harness.domain.applied import holds, plain_setting
from harness.domain.component import did_you_mean
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression
from harness.domain.metrics import better
from harness.domain.paths import read
from harness.domain.reference import ARM_COLUMNS, TIME_TO_TARGET, AnyReference

_Table = Literal["trials", "epochs"]


def plain_settings(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the plain setting of each row of `trials`; equal ones are one object."""
    present = {name: column for name, column in ARM_COLUMNS.items() if column in trials}
    columns = [
        trials[column].astype(object).where(trials[column].notna(), None).tolist() for column in present.values()
    ]
    known: dict[Any, dict[str, Any]] = {}
    found = []
    for row in zip(trials["setting"].tolist(), *columns, strict=True):
        if row not in known:
            known[row] = plain_setting(row[0], dict(zip(present, row[1:], strict=True)))
        found.append(known[row])
    return found


class NotRecordedError(Exception):
    """A reference names a quantity that the tables do not have."""


class Recorded:
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

    @property
    def not_run(self) -> str:
        """Why there are no trials of a reference's settings."""
        return "not run yet, or other settings" if self.unfinished else "not run (other settings)"

    @cached_property
    def _settings(self) -> list[dict[str, Any]]:
        return plain_settings(self.trials)

    def select(self, ids: Sequence[str], where: str) -> np.ndarray:
        """Return the rows of the trials of these settings; what `where` says of arm and seed holds for them too."""
        rows: np.ndarray = np.flatnonzero(self.trials["setting_id"].isin(ids))
        condition = Expression(where)
        if not {"seed", *ARM_COLUMNS} & {name.partition(".")[0] for name in condition.names}:
            return rows
        seeds = self.trials["seed"].tolist()
        met = [row for row in rows if holds(condition, partial(read, self._settings[row]), seeds[row])]
        return np.array(met, dtype=np.int64)

    def side(self, rows: np.ndarray, values: np.ndarray) -> pd.DataFrame:
        """Return trials as `compare` takes them: ``run_id``, ``block``, ``value``."""
        return self.trials.iloc[rows].reindex(columns=["run_id", "block"]).assign(value=values)

    def by_arm(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each arm with those of the rows that ran so."""
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

    def goal(self, reference: AnyReference) -> Mapping[str, Any] | None:
        """Return the target, where the reference is about the time to it."""
        return self.target if reference.needs_target else None

    def values(self, reference: AnyReference, rows: np.ndarray) -> np.ndarray:
        """Return the reference's quantity in each of these trials, NaN where it has none.

        Raises:
            NotRecordedError: when the tables have no such quantity.
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
                raise NotRecordedError(f"{name!r} is not recorded;{did_you_mean(name, numbers)}".rstrip(";"))
            values = floats(frame, name)
            self._columns[table, name] = values if table == "trials" else values[self._order]
        return self._columns[table, name]

    def _times_to_target(self) -> np.ndarray:
        if not self.target:
            raise NotRecordedError("the run has no target")
        metric, *bounds = (self.target.get(key) for key in ("metric", "at_least", "at_most"))
        epochs = having(self._epochs, str(metric))
        times = time_to_target(self.trials, epochs, metric=str(metric), at_least=bounds[0], at_most=bounds[1])
        return times["time_to_target_s"].to_numpy(dtype=float)


def _is_number(kind: Any) -> bool:
    return pd.api.types.is_any_real_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)


def no_number(reference: AnyReference, values: np.ndarray) -> str:
    """Return why some of the values are no numbers; empty where all are."""
    missing = int((~np.isfinite(values)).sum())
    if not missing:
        return ""
    if reference.needs_target and np.isinf(values).any():
        return f"{int(np.isinf(values).sum())} of {len(values)} did not reach the target"
    at = f"epoch {reference.epoch}" if isinstance(reference.epoch, int) else "number"
    return f"no {at} in {missing} of {len(values)}"
