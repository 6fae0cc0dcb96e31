"""Two arms → is one slower, and by how much; and how many repeats that takes.

The design is one for all: 2 % false alarms, and 95 % power at a slow-down of 10 %. Everything works on logs, so that
differences are ratios and a machine that is 5 % slower is so for long and for short epochs. Repeats that ran side by
side, in one block of one run, are compared pair by pair (Student's t of the differences), which takes out what the
machine did meanwhile; others as two samples (Welch's t). docs/decisions/comparison.md has the candidates, measured.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.analyse.frames import expect_recorded, floats, owners
from harness.analyse.tails import student, student_quantile
from harness.analyse.target import time_to_target
from harness.domain.design import ALARMS, POWER, SLOW_DOWN
from harness.domain.metrics import better
from harness.domain.repeats import MOST_NEEDED, TIMES

Verdict = Literal["different: slower", "different: faster", "no difference shown", "cannot tell: too few repeats"]

Pairs = tuple[np.ndarray, np.ndarray]  # places in the first set of figures and in the second

_WHERE = ("run_id", "trial_id", "setting_id", "arm", "seed", "repeat", "block", "position", "node", "worker")
_HOW = ("neighbours", "packed", "label", "cpus", "gpus", "cores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much one figure varies by chance, as standard deviations of its log.

    `single` is of one trial; `paired` of one trial as far as trials of the same block do not share it, so that a pair
    differs by sqrt(2) times as much. `freedom` is the degrees of freedom behind them.
    """

    single: float
    paired: float
    freedom: int

    def pooled(self, *, paired: bool, seen: tuple[float, float] | None) -> tuple[float, float]:
        """Return the spread and its degrees of freedom, pooled with those that a comparison has `seen` itself, so that
        few repeats that happen to agree well do not pass for a quiet machine."""
        spread, freedom = self.paired if paired else self.single, float(self.freedom)
        if seen is None:
            return spread, freedom
        own, own_freedom = seen
        variance = (freedom * spread**2 + own_freedom * own**2) / (freedom + own_freedom)
        return math.sqrt(variance), freedom + own_freedom

    def floor(self, first: int, second: int, *, paired: bool, seen: tuple[float, float] | None = None) -> float:
        """Return the ratio, at least 1, that means of so many repeats of the same thing exceed in `ALARMS` of all
        comparisons, by the t distribution; `seen` as for `pooled`."""
        spread, freedom = self.pooled(paired=paired, seen=seen)
        return math.exp(t_quantile(1 - ALARMS / 2, freedom) * spread * math.sqrt(1 / first + 1 / second))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The second arm against the first: `ratio` above 1 means that the figure is larger there."""

    ratio: float | None  # of the geometric means; None: an arm has no repeat, or the difference is what was compared
    # The interval that holds the true ratio (or difference) with 98 % confidence; None: too few repeats for one.
    low: float | None
    high: float | None
    p: float | None
    verdict: Verdict
    paired: bool
    repeats: tuple[int, int]  # of the first arm and of the second; the same number twice where they are paired
    # Repeats an arm that would find a slow-down of 10 %, as designed, and lift it over the noise floor; `MOST_NEEDED`
    # + 1 stands for as many or more; None: no spread is known.
    needed: int | None
    spread: float | None  # standard deviation of the log of one repeat (paired: but for what its block shares)
    floor: float | None  # the node's noise floor that was applied, as a ratio; None: none is known
    difference: float | None = None  # of the means, where that was compared: the second less the first

    @property
    def different(self) -> bool:
        """Whether the arms are called different, either way."""
        return self.verdict in ("different: slower", "different: faster")


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    noise: Spread | None = None,
    higher_is_slower: bool = True,
    relative: bool = True,
    within: float | None = None,
) -> Comparison:
    """Compare two sets of trials, as `figures` returns them: ``run_id``, ``block`` and ``value``, all above 0.

    They are compared pair by pair where at least half of the larger set has a counterpart in the same block of the same
    run, and no block has two of one arm; what has none is then left out. `noise` is the node's: a difference within it
    is not called different.

    With ``relative=False`` values may be any, and the difference of the means takes the place of the ratio, by the same
    tests. `within` is then what counts as enough repeats: each mean known to ± so much; None: any two of each.

    Raises:
        ValueError: for a value that is not finite; or not above 0, where ratios are compared.
    """
    keys = [list(zip(one["run_id"].tolist(), one["block"].tolist(), strict=True)) for one in (first, second)]
    return compare_values(
        first["value"].to_numpy(dtype=float), second["value"].to_numpy(dtype=float), pairs=pairs_of(*keys),
        noise=noise, higher_is_slower=higher_is_slower, relative=relative, within=within,
    )  # fmt: skip


def compare_values(
    first: np.ndarray,
    second: np.ndarray,
    *,
    pairs: Pairs | None,
    noise: Spread | None = None,
    higher_is_slower: bool = True,
    relative: bool = True,
    within: float | None = None,
) -> Comparison:
    """Compare two sets of figures as `compare` does; `pairs` are places in both."""
    for values in (first, second):
        if relative and not (np.isfinite(values) & (values > 0)).all():
            raise ValueError("only figures above 0 can be compared as ratios; leave out what has no such figure")
        if not np.isfinite(values).all():
            raise ValueError("only finite figures can be compared; leave out what has no such figure")
    scale = _Scale(relative=relative, within=within)
    logs = (scale.take(first), scale.take(second))
    if pairs is not None:
        differences = logs[1][pairs[1]] - logs[0][pairs[0]]
        return _judged(
            scale,
            effect=float(differences.mean()),
            error=_deviation(differences) / math.sqrt(len(differences)),
            freedom=len(differences) - 1,
            spread=_deviation(differences) / math.sqrt(2),
            counts=(len(differences), len(differences)),
            paired=True,
            noise=noise,
            higher_is_slower=higher_is_slower,
        )
    counts = (len(logs[0]), len(logs[1]))
    if min(counts) == 0:
        return Comparison(
            ratio=None, low=None, high=None, p=None, verdict="cannot tell: too few repeats", paired=False,
            repeats=counts, needed=None, spread=None, floor=None,
        )  # fmt: skip
    parts = [_deviation(values) ** 2 / len(values) for values in logs]
    error = math.sqrt(sum(parts))
    freedom = float(min(counts) - 1)
    if error > 0:  # Welch and Satterthwaite's
        freedom = error**4 / sum(part**2 / max(1, count - 1) for part, count in zip(parts, counts, strict=True))
    squares = sum(_deviation(values) ** 2 * (len(values) - 1) for values in logs)
    return _judged(
        scale,
        effect=float(logs[1].mean() - logs[0].mean()),
        error=error,
        freedom=freedom if min(counts) > 1 else 0,
        spread=math.sqrt(squares / (sum(counts) - 2)) if sum(counts) > 2 else math.nan,
        counts=counts,
        paired=False,
        noise=noise,
        higher_is_slower=higher_is_slower,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """What is computed with: the logs of the figures, or the figures as they are."""

    relative: bool
    within: float | None

    def take(self, values: np.ndarray) -> np.ndarray:
        """Return the figures on this scale."""
        return np.log(values) if self.relative else values

    def show(self, effect: float) -> float:
        """Return a difference on this scale as a ratio or a difference."""
        return math.exp(effect) if self.relative else effect

    def needed(self, spread: float, *, paired: bool) -> int | None:
        """Return the repeats of each arm that are enough."""
        if self.relative:
            return repeats_for_comparison(spread, paired=paired)
        return None if self.within is None else repeats_for_width(spread, self.within)


def pairs_of(first: Sequence[Hashable], second: Sequence[Hashable]) -> Pairs | None:
    """Return the places of what has the same key in both, in the first's order; None where two samples are to be
    compared, since a key is there twice or less than half of the larger set has a counterpart."""
    places = {key: place for place, key in enumerate(second)}
    if len(places) < len(second) or len(set(first)) < len(first):
        return None
    found = [(place, places[key]) for place, key in enumerate(first) if key in places]
    if 2 * len(found) < max(len(first), len(second)) or len(found) < 2:
        return None
    both = np.array(found)
    return both[:, 0], both[:, 1]


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _judged(
    scale: _Scale,
    *,
    effect: float,
    error: float,
    freedom: float,
    spread: float,
    counts: tuple[int, int],
    paired: bool,
    noise: Spread | None,
    higher_is_slower: bool,
) -> Comparison:
    floor, widest = None, spread
    if noise is not None and min(counts) > 0:
        seen = (spread, freedom) if freedom > 0 and math.isfinite(spread) else None
        floor = noise.floor(*counts, paired=paired, seen=seen)
        widest = max(spread, noise.pooled(paired=paired, seen=seen)[0])
    low = high = p = needed = None
    verdict: Verdict = "cannot tell: too few repeats"
    if freedom > 0 and math.isfinite(error):
        reach = t_quantile(1 - ALARMS / 2, freedom) * error
        low, high = scale.show(effect - reach), scale.show(effect + reach)
        p = 2 * t_share(-abs(effect) / error, freedom) if error > 0 else float(effect == 0)
        needed = scale.needed(widest, paired=paired)
        if p < ALARMS and abs(effect) > (0 if floor is None else math.log(floor)):
            verdict = "different: slower" if (effect > 0) is higher_is_slower else "different: faster"
        elif needed is None or min(counts) >= needed:
            verdict = "no difference shown"
    return Comparison(
        ratio=math.exp(effect) if scale.relative else None, difference=None if scale.relative else effect,
        low=low, high=high, p=p, verdict=verdict, paired=paired, repeats=counts, needed=needed,
        spread=spread if math.isfinite(spread) else None, floor=floor,
    )  # fmt: skip


def t_quantile(share: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution."""
    return student_quantile(2 * (1 - share), freedom) if share > 0.5 else -student_quantile(2 * share, freedom)


def t_share(value: float, freedom: float) -> float:
    """Return how much of Student's t distribution lies below a value."""
    outside = student(value, freedom) / 2
    return outside if value < 0 else 1 - outside


def repeats_for_comparison(spread: float, *, paired: bool) -> int:
    """Return the repeats of each arm that find `SLOW_DOWN` with `POWER` at `ALARMS`: the least n >= 2 with
    (t.99 + t.95) spread sqrt(2 / n) <= ln 1.1, t with n - 1 degrees of freedom if paired, else 2 n - 2."""

    def enough(count: int) -> bool:
        freedom = count - 1 if paired else 2 * count - 2
        quantiles = t_quantile(1 - ALARMS / 2, freedom) + t_quantile(POWER, freedom)
        return quantiles * spread * math.sqrt(2 / count) <= math.log(SLOW_DOWN)

    return _least(enough)


def half_width(values: Sequence[float]) -> float:
    """Return the half-width of the 98 % confidence interval of a mean (Student's t); infinite for one value."""
    count = len(values)
    if count < 2:
        return math.inf
    return t_quantile(1 - ALARMS / 2, count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)


def repeats_for_width(spread: float, within: float) -> int:
    """Return the repeats with which a mean's 98 % confidence interval is within ± `within`, given their spread."""
    return _least(lambda count: t_quantile(1 - ALARMS / 2, count - 1) * spread / math.sqrt(count) <= within)


def _least(enough: Callable[[int], bool]) -> int:
    """Return the least number from 2 on that is enough; whatever is above it is, too. `MOST_NEEDED` + 1 if none is."""
    return 2 + bisect_left(range(2, MOST_NEEDED + 1), True, key=enough)


def figures(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    figure: str = "train_s",
    epoch: Literal["last", "best"] = "last",
    target: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return one row a completed trial that has the figure: ``value``, and where and how it ran.

    A time or rate of an epoch (`TIMES`) is the median over the epochs that are no warm-up, if there are others;
    "time_to_target" needs a `target` (``metric`` with ``at_least`` or ``at_most``) and is had by the trials that
    reached it; any other figure is that of the last `epoch`, or of the best one.

    Raises:
        ValueError: for time_to_target without a `target`, and for a figure that nothing was recorded of.
    """
    done = trials[trials["status"] == "completed"].reset_index(drop=True)
    if figure == "time_to_target":
        if target is None:
            raise ValueError("time_to_target needs a target")
        metric, bounds = str(target["metric"]), {name: target.get(name) for name in ("at_least", "at_most")}
        value = time_to_target(done, epochs, metric=metric, **bounds)["time_to_target_s"].to_numpy(dtype=float)
        value = np.where(np.isfinite(value), value, np.nan)
    else:
        expect_recorded(trials, epochs, figure, what="figure")
        value = _of_epochs(done, epochs, figure, epoch)
    table = done[[name for name in (*_WHERE, *_HOW) if name in done.columns]].assign(value=value)
    return table[table["value"].notna()].reset_index(drop=True)


def _of_epochs(trials: pd.DataFrame, epochs: pd.DataFrame, figure: str, epoch: str) -> np.ndarray:
    own, value = owners(trials, epochs), floats(epochs, figure)
    kept = (own >= 0) & ~np.isnan(value)
    own, value = own[kept], value[kept]
    if figure in TIMES:
        warm = epochs["warmup"].to_numpy(dtype=bool, na_value=False)[kept]
        steady = np.zeros(len(trials), dtype=bool)
        steady[own[~warm]] = True
        counts = ~warm | ~steady[own]
        found = pd.Series(value[counts]).groupby(own[counts]).median()
    else:
        order = np.argsort(epochs["epoch"].to_numpy(dtype=np.int64)[kept], kind="stable")
        groups = pd.Series(value[order]).groupby(own[order])
        found = groups.last() if epoch == "last" else groups.max() if better(figure) == "higher" else groups.min()
    return found.reindex(range(len(trials))).to_numpy(dtype=float)
