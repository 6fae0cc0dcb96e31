"""Does time depend on when, or where, a trial ran? Tests that the order of a run makes possible.

Each setting is run once a block, in shuffled order, so that what is left of a trial's figure once its setting and arm
are taken off cannot depend on the trial's place in its block, on the block, or on the worker, unless the machine
changed meanwhile. `drift` tests all three. Its `sentence` is empty where nothing is found, so it can be shown as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from harness.analyse.compare import figures
from harness.analyse.tails import kendall, kruskal, student, student_quantile
from harness.domain.design import POWER

LEVEL: Final = 0.01  # of each of the three tests
LEAST_PERCENT: Final = 1.0  # a smaller change is not worth a sentence, however certain
_FEWEST: Final = 5  # blocks, or trials of a worker, that a test needs
_MOST: Final = 500  # blocks that the slope and its test are of, evenly spread: they look at every pair of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A change in percent, and how often chance alone gives one as large."""

    percent: float
    p: float
    least: float  # percent: a change as large would have been found in 95 of 100 runs, about

    @property
    def found(self) -> bool:
        return self.p < LEVEL and abs(self.percent) >= LEAST_PERCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What was found of a run; None where there was too little to test.

    `within`: from the start of a block to its end (p by Student's t over the blocks' slopes); `over`: from the first
    block to the last (slope by Theil and Sen, p by Kendall's tau over the blocks' means); `workers`: each worker's
    mean against that of all, in percent, and `between`, the widest gap (p by Kruskal and Wallis).
    """

    within: Trend | None
    over: Trend | None
    between: Trend | None
    workers: Mapping[str, float]
    trials: int

    @property
    def sentence(self) -> str:
        """What a person should know of it; empty where nothing was found."""
        told = []
        if self.within is not None and self.within.found:
            told.append(f"by {self.within.percent:+.1f} % from the start of a block to its end{_p(self.within)}")
        if self.over is not None and self.over.found:
            told.append(f"by {self.over.percent:+.1f} % from the first block to the last{_p(self.over)}")
        if self.between is not None and self.between.found:
            slowest = max(self.workers, key=lambda name: self.workers[name])
            fastest = min(self.workers, key=lambda name: self.workers[name])
            gap = f"by {self.between.percent:.1f} % from worker {fastest} to worker {slowest}"
            told.append(f"{gap}{_p(self.between)}")
        if not told:
            return ""
        return f"Epoch times of one setting changed {'; '.join(told)}: shuffled blocks even that out between settings."

    @property
    def conclusion(self) -> str:
        """The `sentence`; where nothing was found, how large a change would have been, and what could not be tested."""
        if self.sentence:
            return self.sentence
        kinds = {"from the start of a block to its end": self.within, "over the run": self.over}
        kinds |= {"between workers": self.between} if len(self.workers) > 1 else {}
        least = [
            f"{what} ({max(trend.least, LEAST_PERCENT):.1f} % would have been, as a rule)"
            for what, trend in kinds.items()
            if trend is not None
        ]
        blind = [what for what, trend in kinds.items() if trend is None]
        told = [f"no change of one setting's epoch times was found {', nor '.join(least)}"] if least else []
        told += [f"there are too few repeats to look for one {' or '.join(blind)}"] if blind else []
        said = "; ".join(told)
        return f"{said[:1].upper()}{said[1:]}."


def _p(trend: Trend) -> str:
    return " (p < 0.001)" if trend.p < 0.001 else f" (p = {trend.p:.3f})"


def drift(trials: pd.DataFrame, epochs: pd.DataFrame, *, figure: str = "train_s") -> Drift | None:
    """Return what changed over a run, by the log of a figure less the mean of its setting and arm.

    `trials` and `epochs` are the tables of one run, or of several that are then taken together. None where no setting
    was repeated.
    """
    table = figures(trials, epochs, figure=figure)
    table = table[table["value"] > 0]
    groups = table.groupby(["setting_id", "arm"], sort=False, observed=True)
    table = table[groups["value"].transform("size") > 1].copy()
    if table.empty:
        return None
    log = np.log(table["value"])
    table["left"] = log - log.groupby([table["setting_id"], table["arm"]], observed=True).transform("mean")
    blocks = table.groupby(["run_id", "block"], sort=False, observed=True)
    places = blocks["position"].rank(method="first") - 1
    table["place"] = places / (blocks["position"].transform("size") - 1).clip(lower=1)
    workers = {str(name): _percent(float(mean)) for name, mean in table.groupby("worker")["left"].mean().items()}
    return Drift(
        within=_within(table, blocks.ngroup().to_numpy()),
        over=_over(table),
        between=_between(table, workers),
        workers=workers,
        trials=len(table),
    )


def _least(error: float, freedom: int) -> float:
    """Return the change, in percent, that a t test of this standard error finds in 95 of 100 runs."""
    return _percent((student_quantile(LEVEL, freedom) + student_quantile(2 * (1 - POWER), freedom)) * error)


def _percent(log: float) -> float:
    return 100 * math.expm1(log)


def _within(table: pd.DataFrame, block: np.ndarray) -> Trend | None:
    """Regress on the place within each block alone, and test whether the blocks' slopes are 0 on average (t test).

    Trials of a block need not be independent for that, only its slope of those of others. By simulation of 4,000 runs
    of 20 settings in 10 blocks, it finds a change where there is none in 1.0, 0.5 and 0.02 % of runs whose trials
    have an autocorrelation of 0, 0.63 and 0.95; shuffling within blocks would in 1, 11 and 17 %.
    """
    sizes = np.bincount(block)
    place, left = (table[name].to_numpy(dtype=float) for name in ("place", "left"))
    place = place - (np.bincount(block, place) / sizes)[block]
    across = np.bincount(block, place**2)
    slopes = np.bincount(block, place * left)[across > 0] / across[across > 0]
    if len(slopes) < _FEWEST:
        return None
    slope, error = float(slopes.mean()), float(slopes.std(ddof=1)) / math.sqrt(len(slopes))
    p = student(slope / error, len(slopes) - 1) if error > 0 else float(slope == 0)
    return Trend(percent=_percent(slope), p=p, least=_least(error, len(slopes) - 1))


def _over(table: pd.DataFrame) -> Trend | None:
    if table["run_id"].nunique() != 1:
        return None
    means = table.groupby("block")["left"].mean().sort_index()
    if len(means) <= _FEWEST:  # of 5, no order is as rare as `LEVEL`
        return None
    blocks = means.index.to_numpy(dtype=float)
    some = np.unique(np.linspace(0, len(means) - 1, min(len(means), _MOST)).astype(int))
    left, first, second = means.to_numpy()[some], *np.triu_indices(len(some), 1)
    slope = float(np.median((left[second] - left[first]) / (blocks[some][second] - blocks[some][first])))
    change = slope * (blocks[-1] - blocks[0])
    off = left - slope * blocks[some]
    # As of a straight line by least squares, but for what the rank test of few blocks misses, by simulation.
    error = (
        float(off.std(ddof=2))
        * (blocks[-1] - blocks[0])
        / math.sqrt(float(((blocks[some] - blocks[some].mean()) ** 2).sum()))
    )
    return Trend(
        percent=_percent(change), p=kendall(left), least=_least(error * (1 + 0.8 * (6 / len(some)) ** 2), len(some) - 2)
    )


def _between(table: pd.DataFrame, workers: Mapping[str, float]) -> Trend | None:
    samples = [of_one["left"].to_numpy() for _, of_one in table.groupby("worker")]
    if len(samples) < 2 or min(map(len, samples)) < _FEWEST:
        return None
    gap = (100 + max(workers.values())) / (100 + min(workers.values()))
    pairs = [_error(one, other) for one, other in combinations(samples, 2)]
    least = _least(max(pairs), sum(map(len, samples)) - len(samples))
    return Trend(percent=100 * (gap - 1), p=kruskal(samples), least=least)


def _error(first: np.ndarray, second: np.ndarray) -> float:
    """Return the standard error of the difference of two means."""
    return math.sqrt(float(first.var(ddof=1)) / len(first) + float(second.var(ddof=1)) / len(second))
