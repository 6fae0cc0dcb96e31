"""How often chance alone gives a statistic as large: p values in closed form, where SciPy would take 0.2 s to import.

Student's t and chi-square with whole degrees of freedom are finite sums (Abramowitz and Stegun, Handbook of
Mathematical Functions, 26.7.3 and 26.7.4, 26.4.4 and 26.4.5); of Kendall's tau without ties, the permutations of each
number of inversions are counted (Kendall, Rank Correlation Methods). Tests hold all of them against SciPy.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

_EXACT: Final = 33  # values whose permutations are counted; tau of more is near enough to normal


def student(t: float, freedom: int) -> float:
    """Return the two-sided p of Student's t; beyond 1e-15 it is 0."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1 - within))


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
