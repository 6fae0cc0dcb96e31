"""Two sets of figures → is one larger, by ranks alone: no distribution is assumed, and no outlier counts twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

_EXACT: Final = 50  # repeats up to which all orders are counted; the normal approximation is good long before


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """A two-sided rank test, and the effect that it is about."""

    test: str
    p: float
    least: float  # the smallest p that so few repeats can give, however far apart they are
    superiority: float  # probability that a repeat of the second has the larger figure, ties counted half

    @property
    def cliffs_delta(self) -> float:
        """From -1 (all of the second are smaller) to 1 (all are larger): Cliff 1993."""
        return 2 * self.superiority - 1


def rank_test(first: np.ndarray, second: np.ndarray, *, paired: bool) -> Ranks | None:
    """Compare two sets of figures by ranks; None where one of them is empty.

    Pairs (of the same place in both) by Wilcoxon's signed ranks, others by the Mann-Whitney U test; p is exact up to
    50 repeats without ties, else a normal approximation, which is corrected for ties. `superiority` is U / (n m)
    (Vargha and Delaney 2000), of pairs the share in which the second is larger.
    """
    if min(len(first), len(second)) == 0:
        return None
    if paired:
        differences = second - first
        told = np.count_nonzero(differences)
        return Ranks(
            test="Wilcoxon signed-rank",
            p=float(stats.wilcoxon(differences).pvalue) if told else 1.0,
            least=min(1.0, 2 * 0.5 ** len(differences)),
            superiority=float(((differences > 0) + 0.5 * (differences == 0)).mean()),
        )
    both = np.concatenate([first, second])
    tied = len(np.unique(both)) < len(both)
    method = "asymptotic" if tied or max(len(first), len(second)) > _EXACT else "exact"
    found = stats.mannwhitneyu(second, first, method=method)
    return Ranks(
        test="Mann-Whitney U",
        p=float(found.pvalue) if np.ptp(both) > 0 else 1.0,
        least=min(1.0, 2 / math.comb(len(both), len(first))),
        superiority=float(found.statistic) / (len(first) * len(second)),
    )


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return p of Fisher's exact test of two shares, each so many of so many."""
    table = [[hits, of - hits] for hits, of in (first, second)]
    return float(stats.fisher_exact(table).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p values as they are once several tests are made (Holm 1979): below a level, all that are hold at once.

    None is no test, and stays None.
    """
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    highest = 0.0
    for before, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - before)))
        found[place] = highest
    return found
