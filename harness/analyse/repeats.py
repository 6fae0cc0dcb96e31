"""What has been measured of each arm so far → whether it needs more repeats (see `harness.domain.repeats`)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.analyse.compare import figures, half_width, repeats_for_width
from harness.analyse.frames import having
from harness.domain.outcome import Finished
from harness.domain.repeats import Auto
from harness.domain.trial import Trial

Arm = tuple[str, str]  # setting_id and arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """How often one arm of a setting was repeated, and how well its figure is known by that."""

    setting_id: str
    arm: str
    axes: Mapping[str, Any]
    figure: str
    relative: bool  # whether `half_width` and `within` are of the figure's log
    repeats: int  # trials with the figure
    without: int  # trials that ended without it: failed, or missed the target
    half_width: float | None  # of the 98 % confidence interval of the mean; None: fewer than 2 repeats
    within: float  # what it was to come to
    # Repeats that would be needed, given the spread seen; `MOST_NEEDED` + 1 stands for as many or more; None: too few
    # to say, or narrow enough.
    needed: int | None
    ended: Literal["narrow", "cap", "failing", "unfinished"]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Seen:
    planned: int = 0
    axes: Mapping[str, Any] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)  # by repeat; None: it ended without the figure

    @property
    def measured(self) -> list[float]:
        return [value for value in self.values.values() if value is not None]


class Repeats:
    """Keeps the figure of every trial that ended, and tells which arms need no more.

    An arm of a setting needs no more once all arms of the setting are narrow enough, or have used up their repeats, so
    that their repeats stay matched; an arm whose last `at_least` trials all ended without the figure is given up. That
    follows from what has ended alone, in any order, so that a run which is resumed goes on as it would have.
    """

    def __init__(self, auto: Auto, trials: Sequence[Trial], *, target: Mapping[str, Any] | None = None) -> None:
        self._auto = auto
        self._target = target
        self._seen: dict[str, dict[str, _Seen]] = defaultdict(dict)
        self._known: dict[str, dict[Arm, bool]] = {}  # what `_settled` said of a setting since its last trial ended
        for trial in trials:
            seen = self._seen[trial.setting_id].setdefault(trial.arm, _Seen(axes=dict(trial.axes)))
            seen.planned += 1

    def resume(self, trials: pd.DataFrame, epochs: pd.DataFrame, *, again: Iterable[tuple[str, str]] = ()) -> None:
        """Take in what is recorded already, as tables; `again` are the keys of those that are to run once more."""
        leave = set(again)
        known = [
            (trial, arm) not in leave and arm in self._seen.get(setting, {})
            for trial, arm, setting in zip(trials["trial_id"], trials["arm"], trials["setting_id"], strict=True)
        ]
        rows = trials[np.array(known, dtype=bool)]
        found = self._figures(rows, epochs)
        for setting, arm, repeat, trial in zip(
            rows["setting_id"], rows["arm"], rows["repeat"], rows["trial_id"], strict=True
        ):
            self._seen[setting][arm].values[int(repeat)] = found.get((trial, arm))
        self._known.clear()

    def add(self, finished: Finished) -> dict[Arm, bool]:
        """Take in a trial that ended; return for each arm of its setting whether it needs no more."""
        trial, outcome = finished.trial, finished.outcome
        identity = {"trial_id": trial.trial_id, "setting_id": trial.setting_id, "arm": trial.arm}
        facts = {f"initial_{name}": getattr(outcome.facts, f"initial_{name}") for name in ("val_loss", "val_accuracy")}
        row = {**identity, "status": outcome.status, "repeat": trial.repeat, **facts}
        measured = [{**identity, **_columns(epoch)} for epoch in outcome.epochs]
        value = None
        if measured:
            value = self._figures(pd.DataFrame([row]), pd.DataFrame(measured)).get(trial.key)
        self._seen[trial.setting_id][trial.arm].values[trial.repeat] = value
        self._known.pop(trial.setting_id, None)
        return self._settled(trial.setting_id)

    def needs(self, trial: Trial) -> bool:
        """Tell whether a trial that has not run is needed, as far as is known by now."""
        return not self._settled(trial.setting_id)[trial.setting_id, trial.arm]

    def report(self) -> list[Repeated]:
        """Return how it stands, an arm a row, in the order of the plan."""
        return [self._row(setting, arm, seen) for setting, arms in self._seen.items() for arm, seen in arms.items()]

    def _figures(self, trials: pd.DataFrame, epochs: pd.DataFrame) -> dict[tuple[str, str], float]:
        """Return the figure of each trial by its key, as its log where the interval is to be relative."""
        named = self._auto.figure
        metric = str(self._target["metric"]) if named == "time_to_target" and self._target is not None else named
        epochs = having(epochs, metric)  # a function's own metric may never have been reported
        table = figures(trials, epochs, figure=self._auto.figure, epoch=self._auto.epoch, target=self._target)
        values = table["value"].to_numpy(dtype=float)
        if self._auto.relative:
            values = np.log(np.where(values > 0, values, np.nan))
        keys = zip(table["trial_id"], table["arm"], strict=True)
        return {key: float(value) for key, value in zip(keys, values, strict=True) if math.isfinite(value)}

    def _settled(self, setting_id: str) -> dict[Arm, bool]:
        if setting_id not in self._known:
            ended = {arm: self._ended(seen) for arm, seen in self._seen[setting_id].items()}
            done = "unfinished" not in ended.values()
            self._known[setting_id] = {(setting_id, arm): done or how == "failing" for arm, how in ended.items()}
        return self._known[setting_id]

    def _ended(self, seen: _Seen) -> Literal["narrow", "cap", "failing", "unfinished"]:
        last = [seen.values[repeat] for repeat in sorted(seen.values)][-self._auto.at_least :]
        if len(last) == self._auto.at_least and all(value is None for value in last):
            return "failing"
        values = seen.measured
        if len(values) >= self._auto.at_least and half_width(values) <= self._auto.half_width:
            return "narrow"
        return "cap" if len(seen.values) >= seen.planned else "unfinished"

    def _row(self, setting_id: str, arm: str, seen: _Seen) -> Repeated:
        values, ended = seen.measured, self._ended(seen)
        width = half_width(values)
        needed = None
        if ended != "narrow" and len(values) > 1:
            needed = max(self._auto.at_least, repeats_for_width(float(np.std(values, ddof=1)), self._auto.half_width))
        return Repeated(
            setting_id=setting_id,
            arm=arm,
            axes=seen.axes,
            figure=self._auto.figure,
            relative=self._auto.relative,
            repeats=len(values),
            without=len(seen.values) - len(values),
            half_width=width if math.isfinite(width) else None,
            within=self._auto.half_width,
            needed=needed,
            ended=ended,
        )


def _columns(epoch: Any) -> dict[str, Any]:
    """Return an epoch's row of `epochs`, as far as a figure can need it."""
    names = ("epoch", "train_s", "eval_s", "elapsed_train_s", "warmup")
    metrics = ("loss", "accuracy", "val_loss", "val_accuracy")
    pace = epoch.samples / epoch.train_s if epoch.samples is not None and epoch.train_s > 0 else None
    return {**{name: getattr(epoch, name) for name in (*names, *metrics)}, "samples_per_s": pace, **epoch.extra}
