"""Groups of trials, and what the repeats in each say together: a median, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from harness.domain.design import CONFIDENCE

BY: Final = ("setting_id", "arm")  # what tells groups apart, unless said otherwise

_EXACT: Final = 50  # values up to which every sample is reckoned with
_RESAMPLES: Final = 10_000  # samples of more
_ROUNDING: Final = 1e-9  # of chances that are added up


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Which group each trial belongs to."""

    keys: pd.DataFrame  # a row a group, in the order in which they first appear: the columns that tell them apart
    of_trial: np.ndarray  # row number in `keys`, for each trial

    def __len__(self) -> int:
        return len(self.keys)


def groups(trials: pd.DataFrame, by: Sequence[str] = BY) -> Groups:
    """Return the groups of trials that have the same values in the columns `by`; a null is a value like others.

    Raises:
        ValueError: for a column that `trials` does not have, or that holds lists.
    """
    by = [by] if isinstance(by, str) else list(by)
    for name in by:
        if name not in trials.columns:
            way_out = "an axis of the suite, or what `described` adds, as hardware"
            raise ValueError(f"by: trials have no column {name!r}; name one that they have: {way_out}")
    codes = np.zeros(len(trials), dtype=np.int64)
    for name in by:
        try:
            values, found = pd.factorize(trials[name], use_na_sentinel=False)
        except (NotImplementedError, TypeError):
            raise ValueError(f"by: {name!r} holds lists, which tell no groups apart; name another column") from None
        codes = pd.factorize(codes * len(found) + values)[0]
    first = np.unique(codes, return_index=True)[1]
    return Groups(keys=trials[by].iloc[first].reset_index(drop=True), of_trial=codes)


def medians(values: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Return the median of the values of each of `count` groups, NaN values left out; NaN for a group without any."""
    kept = ~np.isnan(values)
    found = pd.Series(values[kept]).groupby(group[kept]).median()
    return scattered(found.to_numpy(), found.index.to_numpy(), count)


def scattered(values: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Return `count` numbers with the values at their places, and NaN elsewhere."""
    found = np.full(count, np.nan)
    found[places] = values
    return found


def median_intervals(
    values: np.ndarray, group: np.ndarray, count: int, *, confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """Return a row a group: ``n`` values that are not NaN, their ``median``, and its interval ``low`` to ``high``.

    The interval is the percentile bootstrap's (Efron, Bootstrap methods: another look at the jackknife, 1979): of the
    medians of samples drawn from the values with replacement, those that leave (1 - `confidence`) / 2 of them on either
    side, without interpolation, so that infinite values stay comparable. It is null for fewer than two values.

    Few values cannot promise more than they hold: of up to 5 the 98 % interval is their range, from the least to the
    largest, which holds the true median in 1 - 2 ** (1 - n) of all cases, not in 98 %: 50 % for n = 2, 75 % for n = 3,
    94 % for n = 5. Of up to 50 values it is exact: the chance of each pair of ranks to lie in the middle of a sample
    has a closed form (binomial, as Efron gives it for odd n), so none is drawn. Of more, 10,000 such pairs are drawn
    with a fixed seed. The same values always give the same interval.

    Raises:
        ValueError: for a `confidence` that does not lie between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
    kept = ~np.isnan(values)
    values, group = values[kept], group[kept]
    values = values[np.lexsort((values, group))]
    counts = np.bincount(group, minlength=count)
    starts = np.cumsum(counts) - counts
    found = pd.DataFrame({"n": counts, "median": np.nan, "low": np.nan, "high": np.nan})
    median, low, high = (found[name].to_numpy(copy=True) for name in ("median", "low", "high"))
    for size in np.unique(counts[counts > 0]).tolist():
        rows = np.flatnonzero(counts == size)
        sorted_values = values[starts[rows][:, None] + np.arange(size)]
        median[rows] = _between(sorted_values[:, (size - 1) // 2], sorted_values[:, size // 2])
        if size > 1:
            lower, upper, weights = _middles(size)
            resampled = _between(sorted_values[:, lower], sorted_values[:, upper])
            order = np.argsort(resampled, axis=1, kind="stable")
            below = np.cumsum(weights[order], axis=1)
            for ends, share in ((low, (1 - confidence) / 2), (high, (1 + confidence) / 2)):
                place = (below < share - _ROUNDING).sum(axis=1)
                ends[rows] = resampled[np.arange(len(rows)), order[np.arange(len(rows)), place]]
    return found.assign(median=median, low=low, high=high)


def _between(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return the means of two arrays; of equal values, infinite ones included, those."""
    mean: np.ndarray = np.where(lower == upper, lower, lower / 2 + upper / 2)
    return mean


def _middles(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which ranks (from 0) can lie in the middle of a sample drawn with replacement from `size` sorted values.

    They are the lower, the upper (the same of an odd number), and how likely the two are together.
    """
    middle = (size + 1) // 2
    if size > _EXACT:
        # The ranks of uniform numbers: the lower is beta distributed, the upper the least of those that lie above it.
        draw = np.random.default_rng(size)
        lower = draw.beta(middle, size + 1 - middle, _RESAMPLES)
        upper = lower if size % 2 else lower + (1 - lower) * draw.beta(1, size - middle, _RESAMPLES)
        ranks = [np.minimum((uniform * size).astype(np.int64), size - 1) for uniform in (lower, upper)]
        pairs, counts = np.unique(ranks[0] * size + ranks[1], return_counts=True)
        return pairs // size, pairs % size, counts / _RESAMPLES
    # The lower is among the first i values if at least `middle` of the draws are: a binomial tail for each i.
    share = np.arange(size + 1) / size
    tail = sum(math.comb(size, k) * share**k * (1 - share) ** (size - k) for k in range(middle, size + 1))
    chance = np.diff(np.asarray(tail))
    if size % 2:
        return np.arange(size), np.arange(size), chance
    # Two that differ: `middle` draws are up to the lower, one of them it; all others from the upper on, one of them it.
    half = np.diff(share**middle)
    both = np.triu(math.comb(size, middle) * np.outer(half, half[::-1]), 1)
    both += np.diag(chance - both.sum(axis=1))
    places = np.triu_indices(size)
    return places[0], places[1], both[places]


def starts(owners: np.ndarray) -> np.ndarray:
    """Tell of each row whether it is the first of its trial; rows of one trial are neighbours."""
    found = np.ones(len(owners), dtype=bool)
    found[1:] = owners[1:] != owners[:-1]
    return found


def in_order(own: np.ndarray, epoch: np.ndarray) -> np.ndarray | slice:
    """Return what sorts rows by trial and epoch; a slice of all where they are sorted already, as they mostly are."""
    order = own * (epoch.max(initial=0) + 1) + epoch
    return np.argsort(order, kind="stable") if (order[1:] < order[:-1]).any() else slice(None)
