"""What a figure's variance is made of: axes as levels, and nested least-squares models of the settings' means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from harness.analyse.compare import figures
from harness.analyse.frames import owners
from harness.domain.component import did_you_mean
from harness.domain.errors import SuiteError
from harness.domain.naming import axis as told
from harness.domain.repeats import TIMES

MOST_LEVELS: Final = 12  # a numeric axis with more of them, as of a random search, is cut into classes
CLASSES: Final = 5
LEAST_MEASURED: Final = 0.8  # of the trials: where fewer have the figure, those that do are a choice of their own
LEAST_LEFT: Final = 0.25  # degrees of freedom for noise, for each that pairs take: fewer tell next to nothing of noise
_NAMES: Final = ("seed",)  # numbers that name and do not measure: never cut into classes
_SHOWN: Final = 3  # levels in a note
_NULL: Final = told(None)


def relative(figure: str) -> bool:
    """Tell whether differences of a figure are ratios, as of times and rates, and not plain ones, as of metrics."""
    return figure in (*TIMES, "elapsed_train_s")


def check_columns(trials: pd.DataFrame, names: Iterable[str], *, what: str) -> None:
    """Raise for a name that is no column of `trials`; `what` it was to be, as "axis".

    Raises:
        SuiteError: with the column that was probably meant.
    """
    for name in names:
        if name not in trials.columns:
            hint = did_you_mean(name, map(str, trials.columns))
            raise SuiteError(f"unknown {what} {name!r};{hint} name a column of the trials, as batch_size or arm")


def check_confidence(confidence: float) -> None:
    """Raise unless it lies between 0 and 1.

    Raises:
        SuiteError: with the value.
    """
    if not 0 < confidence < 1:
        raise SuiteError(f"confidence must lie between 0 and 1, as 0.98, got {confidence!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of the grid, as levels."""

    name: str
    codes: np.ndarray  # the level's number, for every trial
    levels: tuple[str, ...]

    @classmethod
    def of(cls, name: str, column: pd.Series, *, classes: bool = True) -> Axis:
        """Return a column of the trials as levels: numbers in their order, others as they appear, null last.

        Raises:
            SuiteError: for a column of lists.
        """
        if any(isinstance(value, list | np.ndarray) for value in column):
            raise SuiteError(f"axis {name!r} holds lists, which are no levels; name another column")
        values = [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in column.tolist()]
        distinct: list[Any] = [value for value in dict.fromkeys(values) if value is not None]
        names = list(map(told, distinct))
        places = {value: place for place, value in enumerate(distinct)}
        if distinct and all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct):
            distinct.sort()
            parts = [[place] for place in range(len(distinct))]
            if classes and len(distinct) > MOST_LEVELS:
                parts = [part.tolist() for part in np.array_split(np.arange(len(distinct)), CLASSES)]
            ends = [[distinct[part[0]], distinct[part[-1]]] for part in parts]
            names = [told(low) if low == high else f"{low:.4g} … {high:.4g}" for low, high in ends]
            places = {distinct[member]: place for place, part in enumerate(parts) for member in part}
        codes = np.array([len(names) if value is None else places[value] for value in values], dtype=np.int64)
        return cls(name=name, codes=codes, levels=(*names, _NULL) if None in values else tuple(names))

    def joined(self, other: Axis) -> Axis:
        """Return the two as one, with their combinations as levels."""
        pairs, codes = np.unique(np.stack([self.codes, other.codes], axis=1), axis=0, return_inverse=True)
        names = tuple(f"{self.levels[first]} & {other.levels[second]}" for first, second in pairs)
        return Axis(name=f"{self.name} & {other.name}", codes=codes.ravel(), levels=names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure of the trials, and the axes that vary among those that have it."""

    values: np.ndarray  # of the trials that have the figure; logs if it is `relative`
    rows: np.ndarray  # row numbers of those trials
    of: int  # trials in all
    axes: tuple[Axis, ...]  # axes of which each tells the other are one
    lacking: str  # why so few trials have the figure that they do not speak for the others; else empty


def measured(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    figure: str,
    axes: Sequence[str] | Mapping[str, str],
    target: Mapping[str, Any] | None,
) -> Measured:
    """Return the figure and the axes, as `effects` describes them.

    Raises:
        SuiteError: for an axis or a figure that is none, and for time_to_target without a target.
    """
    if isinstance(axes, str):
        axes = [axes]
    asked = dict(axes) if isinstance(axes, Mapping) else {name: name for name in axes}
    check_columns(trials, asked.values(), what="axis")
    if figure == "time_to_target":
        if target is None:
            raise SuiteError("time_to_target needs a target, as {'metric': 'val_accuracy', 'at_least': 0.9}")
    elif figure not in epochs.columns:
        hint = did_you_mean(figure, [*map(str, epochs.columns), "time_to_target"])
        raise SuiteError(f"unknown figure {figure!r};{hint} name a column of the epochs, or time_to_target")
    elif not pd.api.types.is_numeric_dtype(epochs[figure].dtype) and epochs[figure].notna().any():
        raise SuiteError(f"figure {figure!r} is not a number; name another column of the epochs, as train_s")
    table = figures(trials, epochs, figure=figure, target=target)
    values = table["value"].to_numpy(dtype=float)
    good = np.isfinite(values) & ((values > 0) | (not relative(figure)))
    rows = owners(trials, table)[good]
    found: list[Axis] = []
    lost: list[str] = []  # levels of which no trial has the figure
    for name, column in asked.items():
        axis = Axis.of(name, trials[column], classes=column not in _NAMES)
        here = axis.codes[rows]
        lost += [f"{name} = {axis.levels[code]}" for code in sorted(set(axis.codes.tolist()) - set(here.tolist()))]
        if len(np.unique(here)) < 2:
            continue
        same = next((place for place, other in enumerate(found) if equal(here, other.codes[rows])), None)
        if same is None:
            found.append(axis)
        else:
            found[same] = found[same].joined(axis)
    values = np.log(values[good]) if relative(figure) else values[good]
    return Measured(
        values=values, rows=rows, of=len(trials), axes=tuple(found), lacking=_lacking(len(rows), len(trials), lost)
    )


def _lacking(had: int, of: int, lost: Sequence[str]) -> str:
    if lost and had:
        return f"no trial of {', '.join(lost[:_SHOWN])}{' …' if len(lost) > _SHOWN else ''} has the figure"
    return f"only {had} of {of} trials have the figure" if had < LEAST_MEASURED * of else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An axis, a pair of axes, or what several of them share."""

    name: str
    kind: Literal["axis", "pair", "left"]
    squares: float
    freedom: int  # 0: the trials do not tell it from the others
    levels: int | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Axes and pairs of axes, fitted to the means of the settings; repeats of one setting differ by noise alone."""

    means: np.ndarray
    weights: np.ndarray  # trials of each setting
    axes: Mapping[str, np.ndarray]  # the level's number of each setting
    within: Mapping[str, tuple[str, ...]]  # the axes whose levels an axis tells, as an optimizer's momentum does it
    pairs: Mapping[str, np.ndarray]  # numbers of the combinations of levels
    fits_pairs: bool  # enough is left beside them
    error: float  # squares that are left
    freedom: int  # their degrees of freedom
    rank: int  # of the model

    @classmethod
    def of(cls, data: Measured) -> Model:
        """Return the model of all axes and pairs, of the axes alone where pairs would leave too little."""
        codes = np.array([axis.codes[data.rows] for axis in data.axes], dtype=np.int64).reshape(-1, len(data.rows)).T
        settings, setting, weights = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
        setting = setting.ravel()
        means = np.bincount(setting, data.values) / weights
        axes = {axis.name: _numbered(settings[:, [place]]) for place, axis in enumerate(data.axes)}
        within = {name: tuple(other for other in axes if other != name and finer(its, axes[other]))
                  for name, its in axes.items()}  # fmt: skip
        pairs = {
            f"{one} × {other}": _numbered(np.stack([axes[one], axes[other]], axis=1))
            for one, other in combinations(axes, 2)
            if other not in within[one] and one not in within[other]
        }
        rss, rank = _fit([*axes.values(), *pairs.values()], means, weights)
        alone, rank_alone = _fit(list(axes.values()), means, weights)
        fits_pairs = rank < len(data.values) and (len(data.values) - rank) >= LEAST_LEFT * (rank - rank_alone)
        if not fits_pairs:
            rss, rank = alone, rank_alone
        error = rss + float(((data.values - means[setting]) ** 2).sum())
        return cls(means=means, weights=weights, axes=axes, within=within, pairs=pairs, fits_pairs=fits_pairs,
                   error=error, freedom=len(data.values) - rank, rank=rank)  # fmt: skip

    def terms(self) -> list[Term]:
        """Return what each axis adds to the other axes, and each pair to all axes and the other pairs."""
        found = []
        for name, codes in self.axes.items():
            beside = [its for other, its in self.axes.items() if other != name and name not in self.within[other]]
            note = "zipped axes: one effect" if " & " in name else ""
            if self.within[name]:
                note = f"within {', '.join(self.within[name])}"
            expected = _freedom(codes) - max((_freedom(self.axes[other]) for other in self.within[name]), default=0)
            found.append(self._term(name, "axis", codes, beside, expected=expected, note=note))
        for name, codes in self.pairs.items():
            if self.fits_pairs:
                others = [its for other, its in self.pairs.items() if other != name]
                beside = [its for its in others if equal(its, codes) or not finer(its, codes)]
                found.append(self._term(name, "pair", codes, [*self.axes.values(), *beside], expected=1, note=""))
            else:
                note = "not separable from noise: too few trials"
                found.append(
                    Term(name=name, kind="pair", squares=0.0, freedom=0, levels=_freedom(codes) + 1, note=note)
                )
        return found

    def _term(
        self,
        name: str,
        kind: Literal["axis", "pair"],
        codes: np.ndarray,
        beside: Sequence[np.ndarray],
        *,
        expected: int,
        note: str,
    ) -> Term:
        without, rank_without = _fit(beside, self.means, self.weights)
        with_it, rank = _fit([*beside, codes], self.means, self.weights)
        if rank == rank_without:
            note = "not separable from the other axes"
        elif rank - rank_without < expected:
            note = "; ".join(filter(None, (note, "in part not separable from the other axes")))
        return Term(name=name, kind=kind, squares=max(0.0, without - with_it), freedom=rank - rank_without,
                    levels=_freedom(codes) + 1, note=note)  # fmt: skip

    def marginal(self, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return the mean of each level of an axis less the mean of all trials, the standard errors (NaN where nothing
        is left to tell noise by), and whether the other axes were held equal."""
        own = self.axes[name]
        others = [its for other, its in self.axes.items()
                  if other not in (name, *self.within[name]) and name not in self.within[other]]  # fmt: skip
        count = int(own.max()) + 1
        gained = _fit([*others, own], self.means, self.weights)[1] - _fit(others, self.means, self.weights)[1]
        adjusted = bool(others) and gained == count - 1
        root = np.sqrt(self.weights)
        design = np.concatenate([_indicators(its) for its in (own, *(others if adjusted else ()))], axis=1)
        contrast = np.zeros((count, design.shape[1]))
        contrast[:, :count] = np.eye(count) - np.bincount(own, self.weights) / self.weights.sum()
        solution = contrast @ np.linalg.pinv(design * root[:, None])
        variance = self.error / self.freedom if self.freedom else np.nan
        return solution @ (self.means * root), np.sqrt(variance * (solution**2).sum(axis=1)), adjusted


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two codings are the same but for the numbers: each tells the other."""
    return finer(one, other) and finer(other, one)


def finer(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether the levels of `one` tell those of `other`."""
    both = np.unique(np.stack([one, other]), axis=1)
    return len(both[0]) == len(np.unique(one))


def _numbered(columns: np.ndarray) -> np.ndarray:
    """Return one number, from 0 on, for each combination of values in a row."""
    numbers: np.ndarray = np.unique(columns, axis=0, return_inverse=True)[1].ravel()
    return numbers


def _freedom(codes: np.ndarray) -> int:
    return int(codes.max())


def _indicators(codes: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.eye(_freedom(codes) + 1)[codes]
    return found


def _fit(terms: Sequence[np.ndarray], means: np.ndarray, weights: np.ndarray) -> tuple[float, int]:
    """Return the squares that a mean and the terms leave, by weighted least squares, and the model's rank."""
    root = np.sqrt(weights)
    design = np.concatenate([np.ones((len(means), 1)), *map(_indicators, terms)], axis=1) * root[:, None]
    solution, _, rank, _ = np.linalg.lstsq(design, means * root, rcond=None)
    return float(((means * root - design @ solution) ** 2).sum()), int(rank)
