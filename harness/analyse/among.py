"""One of several groups of repeats held against another: of few repeats the spread of all groups counts.

Two groups of 3 repeats say little about their own spread: t of 3 pairs has 2 degrees of freedom. Where either has fewer
than 5, the variance within all groups is taken in its place, with all their degrees of freedom, as in an analysis of
variance; unless the two show a larger one of their own, in which case theirs counts, as it does from 5 repeats on.
docs/decisions/comparison.md has the rates of false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from harness.analyse.compare import Comparison, t_quantile, t_share
from harness.domain.design import ALARMS

FEW: Final = 5  # repeats from which two groups show their own spread well enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The variance within groups, of logs or of the values, that all groups together show."""

    variance: float
    freedom: int
    relative: bool  # of logs

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Return the values as they are compared."""
        return np.log(values) if self.relative else values


def common(groups: Iterable[np.ndarray], *, relative: bool) -> Common | None:
    """Return the variance that groups of finite values share; None where there is none, or one of them has no logs."""
    values = [one for one in groups if len(one)]
    if relative and any((one <= 0).any() for one in values):
        return None
    scaled = [np.log(one) if relative else one for one in values]
    freedom = sum(len(one) - 1 for one in scaled)
    squares = sum(_squares(one) for one in scaled)
    return Common(variance=squares / freedom, freedom=freedom, relative=relative) if squares > 0 else None


def steadied(
    first: np.ndarray, other: np.ndarray, seen: Comparison, shared: Common | None, *, higher_is_slower: bool = True
) -> Comparison:
    """Return the comparison of two groups that was `seen`, by the spread that is `shared` where theirs says too little.

    `first` and `other` are their values, all finite.
    """
    if seen.p is None or shared is None or min(seen.repeats) >= FEW:
        return seen
    values = [shared.scale(one) for one in (first, other)]
    counts = [len(one) for one in values]
    if sum(map(_squares, values)) / (sum(counts) - 2) > shared.variance:
        return seen
    effect = float(values[1].mean() - values[0].mean())
    error = math.sqrt(shared.variance * sum(1 / count for count in counts))
    reach = t_quantile(1 - ALARMS / 2, shared.freedom) * error
    p = 2 * t_share(-abs(effect) / error, shared.freedom)
    verdict = seen.verdict
    if p < ALARMS and abs(effect) > math.log(seen.floor or 1):
        verdict = "different: slower" if (effect > 0) is higher_is_slower else "different: faster"
    elif seen.different:
        verdict = "cannot tell: too few repeats"
    low, high = effect - reach, effect + reach
    if not shared.relative:
        return replace(seen, difference=effect, low=low, high=high, p=p, verdict=verdict)
    return replace(seen, ratio=math.exp(effect), low=math.exp(low), high=math.exp(high), p=p, verdict=verdict)


def _squares(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 2).sum())
