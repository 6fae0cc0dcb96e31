"""How much better a model does on what it was trained on than on what was held out, and where a metric ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analyse.frames import expect_recorded, floats, owners
from harness.analyse.groups import BY, groups, in_order, median_intervals, scattered, starts
from harness.domain.design import CONFIDENCE
from harness.domain.metrics import better


def gaps(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str = "val_accuracy",
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Return one row a trial, in the order of `trials`: a metric and its generalisation gap at the last and best epoch.

    Columns, beside the identities: ``last_epoch`` that has the metric, the metric there (``last``) and
    ``gap_at_last``; ``best_epoch``, the first with the best value, with ``best`` and ``gap_at_best``. NaN where not
    measured.

    The gap is how far training is ahead of what was held out, in the metric's unit: ``accuracy`` - ``val_accuracy``,
    or ``val_loss`` - ``loss``, positive where a model has learnt its training data rather than the task (the
    generalisation gap, for instance Hoffer, Hubara and Soudry 2017). The metric on training data is the mean over the
    epoch as it was trained on, dropout at work and weights still moving, so that in first epochs the gap is often
    negative. It is NaN for a `metric` that is not one of held-out data (``val_…``). `lower_is_better` says which way
    the metric goes, where its name does not (see `domain.metrics.better`).

    Raises:
        ValueError: for a metric that nothing was recorded of.
    """
    expect_recorded(trials, epochs, metric)
    own, value = owners(trials, epochs), floats(epochs, metric)
    epoch = epochs["epoch"].to_numpy(dtype=np.int64)
    lower = better(metric) == "lower" if lower_is_better is None else lower_is_better
    sign = -1.0 if lower else 1.0
    trained = metric.removeprefix("val_")
    gap = sign * (floats(epochs, trained) - value) if trained != metric else np.full(len(epochs), np.nan)

    kept = (own >= 0) & ~np.isnan(value)
    if not kept.all():
        own, value, epoch, gap = own[kept], value[kept], epoch[kept], gap[kept]
    order = in_order(own, epoch)
    own, value, epoch, gap = own[order], value[order], epoch[order], gap[order]
    first = np.flatnonzero(starts(own))
    last = np.append(first[1:], len(own))[: len(first)] - 1
    best = _first_best(sign * value, own, first)

    def column(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return scattered(values[rows], own[rows], len(trials))

    identity = [name for name in ("run_id", "trial_id", "setting_id", "arm") if name in trials.columns]
    return trials[identity].assign(
        last_epoch=column(epoch, last), last=column(value, last), gap_at_last=column(gap, last),
        best_epoch=column(epoch, best), best=column(value, best), gap_at_best=column(gap, best),
    )  # fmt: skip


def _first_best(value: np.ndarray, own: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return for each trial the first row with its largest value; `first` is where its rows begin."""
    if not len(first):
        return first
    largest = np.repeat(np.maximum.reduceat(value, first), np.diff(np.append(first, len(value))))
    hits = np.flatnonzero(value == largest)
    found: np.ndarray = hits[starts(own[hits])]
    return found


def generalisation_gap(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str = "val_accuracy",
    by: Sequence[str] = BY,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return one row a group of trials, in order of appearance: the medians of the gaps of `gaps` over its repeats.

    Columns, beside those of `by`: ``n`` completed trials that have one; ``gap_at_last`` with ``low_at_last`` and
    ``high_at_last``, ``gap_at_best`` with ``low_at_best`` and ``high_at_best``, each the median with its percentile
    bootstrap interval (see `groups.median_intervals`); NaN where not measured, intervals also for one repeat.

    Raises:
        ValueError: for an unknown column in `by`; for a `confidence` that does not lie between 0 and 1.
    """
    found = groups(trials, by)
    of_trial = gaps(trials, epochs, metric=metric)
    done = (trials["status"] == "completed").to_numpy(dtype=bool)
    columns: dict[str, pd.Series] = {}
    for at in ("last", "best"):
        values = np.where(done, of_trial[f"gap_at_{at}"].to_numpy(), np.nan)
        spread = median_intervals(values, found.of_trial, len(found), confidence=confidence)
        columns |= {"n": spread["n"], f"gap_at_{at}": spread["median"]}
        columns |= {f"low_at_{at}": spread["low"], f"high_at_{at}": spread["high"]}
    return found.keys.assign(**columns)
