"""How quick training is once it runs: samples a second and seconds an epoch, by group of trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analyse.frames import floats, owners
from harness.analyse.groups import BY, Groups, groups, median_intervals, medians
from harness.domain.design import CONFIDENCE


def throughput(
    trials: pd.DataFrame, epochs: pd.DataFrame, *, by: Sequence[str] = BY, confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """Return one row a group of trials, in order of appearance: its samples a second and seconds an epoch.

    The figure of a trial is the median over its epochs, so that a disturbed one does not move it; warm-up epochs are
    left out where the group has others. The figure of the group is the median over its trials, also of those that
    failed after some epochs, with its percentile bootstrap interval (see `groups.median_intervals`).

    Columns, beside those of `by`: ``n`` trials with such an epoch; ``median_samples_per_s``, ``low_samples_per_s``,
    ``high_samples_per_s``; ``median_train_s``, ``low_train_s``, ``high_train_s``: seconds an epoch on the training
    clock. NaN where not measured, intervals also for one repeat.

    Raises:
        ValueError: for an unknown column in `by`; for a `confidence` that does not lie between 0 and 1.
    """
    found = groups(trials, by)
    own, steady = steady_epochs(trials, epochs, found)
    columns: dict[str, pd.Series] = {}
    for name in ("samples_per_s", "train_s"):
        of_trial = medians(floats(epochs, name)[steady], own, len(trials))
        spread = median_intervals(of_trial, found.of_trial, len(found), confidence=confidence)
        columns |= {f"{what}_{name}": spread[what] for what in ("median", "low", "high")}
        counted = spread["n"]
    return found.keys.assign(n=counted, **columns)


def steady_epochs(trials: pd.DataFrame, epochs: pd.DataFrame, found: Groups) -> tuple[np.ndarray, np.ndarray | slice]:
    """Return which epochs tell how quick training is, and the row number of the trial of each of these.

    They are those not flagged as warm-up, and those of groups that have no others.
    """
    own = owners(trials, epochs)
    warm = epochs["warmup"].to_numpy(dtype=bool, na_value=False)
    if (own >= 0).all() and not warm.any():
        return own, slice(None)
    steady = np.zeros(len(trials) + 1, dtype=bool)  # whether a trial has such epochs; the last: epochs without a trial
    steady[own[~warm]] = True
    of_group = np.zeros(len(found), dtype=bool)
    of_group[found.of_trial[steady[:-1]]] = True
    only_warm = np.append(~of_group[found.of_trial], False)
    used = (own >= 0) & (~warm | only_warm[own])
    return own[used], used
