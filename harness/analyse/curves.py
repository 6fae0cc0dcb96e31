"""Learning curves: a metric against the training clock, samples and energy, by group of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from harness.analyse.energy import KINDS, SOURCES, VALID
from harness.analyse.frames import expect_recorded, floats, owners
from harness.analyse.groups import BY, groups, in_order, medians, starts

_FEW: Final = 5  # repeats from which quartiles are shown, not the range


def curves(
    trials: pd.DataFrame, epochs: pd.DataFrame, *, metric: str = "val_accuracy", by: Sequence[str] = BY
) -> pd.DataFrame:
    """Return one row a group and epoch, in order of group (of appearance) and epoch: the metric, and what it cost.

    Columns, beside those of `by`:

    - ``epoch``: 0 is the untrained model, where its value is known (``initial_<metric>`` of `trials`);
    - ``value``: the median of the metric over the ``n`` trials that have it at that epoch. Trials that ended earlier,
      or whose value is not a number, are not among them, so `n` may fall along a curve;
    - ``low``, ``high``: the least and the largest value where n is below 5, else the quartiles (interpolated linearly,
      Hyndman and Fan's type 7, 1996): a spread over repeats, no confidence interval;
    - ``time_s``: the training clock at the end of the epoch; ``samples``: trained on so far; ``gpu_j``, ``cpu_j``:
      joules so far, of training alone. Medians over the same trials, as far as these have it; NaN where none does.

    Joules add up while every epoch has valid ones: by the counter, or by power readings where these go on for longer.

    Raises:
        ValueError: for an unknown column in `by`, and for a metric that nothing was recorded of.
    """
    expect_recorded(trials, epochs, metric)
    found = groups(trials, by)
    own, value = owners(trials, epochs), floats(epochs, metric)
    epoch = epochs["epoch"].to_numpy(dtype=np.int64)
    rows = np.flatnonzero(own >= 0)
    rows = rows[in_order(own[rows], epoch[rows])]
    own, value, epoch = own[rows], value[rows], epoch[rows]
    costs = {
        "time_s": floats(epochs, "elapsed_train_s")[rows],
        "samples": _running(floats(epochs, "samples")[rows], own),
        **{f"{kind}_j": _joules(kind, epochs, rows, own, len(trials)) for kind in KINDS},
    }
    initial = floats(trials, f"initial_{metric}")
    untrained = np.flatnonzero(~np.isnan(initial))
    for name, cost in costs.items():
        known = np.zeros(len(trials), dtype=bool)
        known[own[~np.isnan(cost)]] = True
        costs[name] = np.append(cost, np.where(known | (name == "time_s"), 0.0, np.nan)[untrained])
    own, epoch = np.append(own, untrained), np.append(epoch, np.zeros(len(untrained), dtype=np.int64))
    value = np.append(value, initial[untrained])

    kept = ~np.isnan(value)
    own, value, epoch = own[kept], value[kept], epoch[kept]
    longest = epoch.max(initial=0) + 1
    cells, cell = np.unique(found.of_trial[own] * longest + epoch, return_inverse=True)
    low, median, high, counts = _spread(value, cell, len(cells))
    table: pd.DataFrame = found.keys.iloc[cells // longest].reset_index(drop=True).assign(epoch=cells % longest)
    for name, cost in costs.items():
        table[name] = medians(cost[kept], cell, len(cells))
    return table.assign(value=median, low=low, high=high, n=counts)


def _spread(values: np.ndarray, cell: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """Return the low end, the median, the high end and the number of the values in each cell; each has one at least."""
    values = values[np.lexsort((values, cell))]
    counts = np.bincount(cell, minlength=count)
    start = np.cumsum(counts) - counts

    def quantile(share: np.ndarray | float) -> np.ndarray:
        place = share * (counts - 1)
        below = np.floor(place).astype(np.int64)
        part = place - below
        lower, upper = values[start + below], values[start + np.minimum(below + 1, counts - 1)]
        with np.errstate(invalid="ignore"):  # infinite values: only where the weight of one is 0
            mixed = np.where(part == 0, lower, lower * (1 - part) + upper * part)
        found: np.ndarray = np.where(lower == upper, lower, mixed)
        return found

    few = counts < _FEW
    return quantile(np.where(few, 0.0, 0.25)), quantile(0.5), quantile(np.where(few, 1.0, 0.75)), counts


def _running(values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the sum so far in each trial, NaN from its first NaN on; rows of one trial are neighbours, in order."""
    first = starts(own)
    trial = np.cumsum(first) - 1

    def summed(numbers: np.ndarray) -> np.ndarray:
        total = np.cumsum(numbers)
        since: np.ndarray = total - (total - numbers)[first][trial]
        return since

    unknown = np.isnan(values)
    if not unknown.any():
        return summed(values)
    total = summed(np.where(unknown, 0.0, values))
    known_until_now: np.ndarray = np.where(summed(unknown.astype(np.int64)) > 0, np.nan, total)
    return known_until_now


def _joules(kind: str, epochs: pd.DataFrame, rows: np.ndarray, own: np.ndarray, count: int) -> np.ndarray:
    best = np.full(len(rows), np.nan)
    known = np.zeros(count, dtype=np.int64)
    for source in SOURCES[kind]:
        joules = floats(epochs, f"{kind}_{source}_j")
        if np.isnan(joules).all():
            continue
        valid = (epochs[f"{kind}_{source}_validity"] == VALID).to_numpy(dtype=bool, na_value=False)
        total = _running(np.where(valid, joules, np.nan)[rows], own)
        reach = np.bincount(own[~np.isnan(total)], minlength=count)
        longer = reach > known
        best = np.where(longer[own], total, best)
        known = np.maximum(known, reach)
    return best
