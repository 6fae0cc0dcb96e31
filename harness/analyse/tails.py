"""How often chance alone gives a statistic as large: p values without SciPy, which takes 0.2 s to import.

Student's t is an incomplete beta function, and chi-square with whole degrees of freedom a finite sum (Abramowitz and
Stegun, Handbook of Mathematical Functions, 26.7.1, 26.4.4 and 26.4.5); of Kendall's tau without ties, the permutations
of each number of inversions are counted (Kendall, Rank Correlation Methods). Tests hold all of them against SciPy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

_TERMS: Final = 10_000  # at most, of what converges after a few
_EXACT: Final = 33  # values whose permutations are counted; tau of more is near enough to normal


def student(t: float, freedom: float) -> float:
    """Return the two-sided p of Student's t, for any degrees of freedom above 0: I of freedom / (freedom + t²)."""
    half, x, y = freedom / 2, freedom / (freedom + t * t), 1 / (1 + freedom / max(t * t, 1e-300))
    if x == 0:
        return 0.0
    front = half * math.log(x) + math.log(y) / 2 + math.lgamma(half + 0.5) - math.lgamma(half) - math.lgamma(0.5)
    if x < (half + 1) / (half + 2.5):
        return min(1.0, math.exp(front) / half * _fraction(x, half, 0.5))
    return max(0.0, 1 - 2 * math.exp(front) * _fraction(y, 0.5, half))


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function (Digital Library of Mathematical Functions,
    8.17.22) from its front, by the method of Lentz (Applied Optics 15, 1976): products of its convergents' ratios."""
    above = 1.0
    value = below = 1 / _not_zero(1 - (a + b) * x / (a + 1))
    for m in range(1, _TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            below = 1 / _not_zero(1 + term * below)
            above = _not_zero(1 + term / above)
            step = above * below
            value *= step
        if abs(step - 1) < 1e-15:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


@lru_cache(maxsize=4096)
def student_quantile(p: float, freedom: float) -> float:
    """Return the t above 0 whose two-sided p this is.

    By Newton's method from the normal distribution's, which is the smaller one: p is convex in t, so that no step goes
    too far.
    """
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi * freedom)
    t = NormalDist().inv_cdf(1 - p / 2)
    for _ in range(_TERMS):
        density = constant * math.exp(-(freedom + 1) / 2 * math.log1p(t * t / freedom))
        step = (student(t, freedom) - p) / (2 * density)
        t += step
        if abs(step) <= 1e-13 * t:
            break
    return t


def chi_square(x: float, freedom: int) -> float:
    """Return how often a chi-square variable is larger than `x`."""
    if x <= 0:
        return 1.0
    half, odd = x / 2, freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    for k in range(freedom // 2):
        power = k + odd / 2
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(1.0, total)


def kendall(values: np.ndarray) -> float:
    """Return the two-sided p of Kendall's tau between `values` and their order, in which there are no ties.

    Exact for up to 33 values without ties, else by the normal distribution with the variance that ties leave. It looks
    at every pair of values.
    """
    count = len(values)
    first, second = np.triu_indices(count, 1)
    score = int(np.sign(values[second] - values[first]).sum())  # pairs in order less those that are not
    ties = np.unique(values, return_counts=True)[1].astype(float)
    if count <= _EXACT and (ties == 1).all():
        permutations = np.ones(1)
        for size in range(2, count + 1):
            permutations = np.convolve(permutations, np.full(size, 1 / size))
        fewest = (len(first) - abs(score)) // 2  # inversions
        return min(1.0, 2 * float(permutations[: fewest + 1].sum()))
    spread = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return math.erfc(abs(score) / math.sqrt(2 * spread)) if spread > 0 else 1.0


def kruskal(samples: list[np.ndarray]) -> float:
    """Return the p of Kruskal and Wallis's H, by the chi-square distribution: whether some samples lie higher."""
    every = np.concatenate(samples)
    _, place, ties = np.unique(every, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    count = len(every)
    untied = 1 - float((ties.astype(float) ** 3 - ties).sum()) / (count**3 - count)
    if untied <= 0:  # all the same
        return 1.0
    ends = np.cumsum([len(one) for one in samples])
    sums = np.diff(np.cumsum(ranks)[ends - 1], prepend=0.0)
    squares = sum(float(one) ** 2 / len(sample) for one, sample in zip(sums, samples, strict=True))
    statistic = (12 / (count * (count + 1)) * squares - 3 * (count + 1)) / untied
    return chi_square(statistic, len(samples) - 1)
