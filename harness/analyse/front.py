"""Which points nothing else beats: cost against value, such as time or energy against accuracy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.analyse.frames import floats


def front(frame: pd.DataFrame, *, cost: str, value: str, higher_is_better: bool = True) -> pd.Series:
    """Tell of each row whether it is on the Pareto front of less `cost` and better `value`.

    A row is on it if no other dominates it, that is, costs as little or less and is as good or better, and is strictly
    ahead in one of the two (Pareto, Manuale di economia politica, 1906; for sets of points as here: Kung, Luccio and
    Preparata, On finding the maxima of a set of vectors, 1975, whose sweep after sorting this is). Of rows that are
    equal in both only the first is on it, so that a line through the front has each point once. A row in which either
    is null, NaN or infinite never is, and dominates nothing. Costs are in any unit: seconds, joules, money.

    Raises:
        ValueError: for a column that `frame` does not have.
    """
    for name in (cost, value):
        if name not in frame.columns:
            raise ValueError(f"there is no column {name!r}; there are {', '.join(map(str, frame.columns))}")
    costs = floats(frame, cost)
    values = floats(frame, value) if higher_is_better else -floats(frame, value)
    counts = np.flatnonzero(np.isfinite(costs) & np.isfinite(values))
    order = counts[np.lexsort((counts, -values[counts], costs[counts]))]
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], values[order]]))[:-1]
    on_front = np.zeros(len(frame), dtype=bool)
    on_front[order[values[order] > best_before]] = True
    return pd.Series(on_front, index=frame.index, name="front")


def epoch_front(curves: pd.DataFrame, *, cost: str = "time_s", higher_is_better: bool = True) -> pd.DataFrame:
    """Return the rows of `curves` (as the function `curves` gives them) on the front of `cost` and ``value`` over all
    groups and epochs, in order of cost: the best median that any group has reached by then.

    `cost` is ``time_s``, ``samples``, ``gpu_j`` or ``cpu_j``; ``higher_is_better`` is that of the metric.

    Raises:
        ValueError: for a column that `curves` does not have.
    """
    found = curves[front(curves, cost=cost, value="value", higher_is_better=higher_is_better)]
    return found.sort_values(cost, ignore_index=True)
