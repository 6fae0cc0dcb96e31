"""When the target was reached: a row a trial, and a row a group with how far it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analyse.frames import expect_recorded, floats, owners
from harness.analyse.groups import BY, groups, in_order, median_intervals, starts
from harness.domain.design import CONFIDENCE

# Where a loss is NaN but this was measured, the loss was too: the training diverged.
_COMPANION = {"loss": "accuracy", "val_loss": "val_accuracy"}


def time_to_target(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> pd.DataFrame:
    """Return one row a trial: when, on the training clock, its metric first reached the target.

    The crossing is interpolated linearly between the previous evaluation (for the first epoch the untrained
    model's, ``initial_<metric>`` of `trials`) and the one that reached the target; where the previous value
    is not known, it counts from the end of the epoch. Columns, beside the identities and in the order of `trials`:

    - ``time_to_target_s``: seconds; infinite for a trial that missed (one that diverged, failed or timed out
      included); NaN for a trial that was lost first, or whose task does not have the metric;
    - ``reached``: whether it did;
    - ``target_epoch``: the epoch of the crossing (0: the untrained model was there already), else NaN;
    - ``lower_s``, ``lower_value``, ``upper_s``, ``upper_value``: the evaluations before and after, else NaN.

    Raises:
        ValueError: unless exactly one of `at_least` and `at_most` is given; for a metric that nothing was recorded of.
    """
    if (at_least is None) == (at_most is None):
        raise ValueError(f"a target is either at_least or at_most, got {at_least!r} and {at_most!r}")
    expect_recorded(trials, epochs, metric)
    count = len(trials)
    own = owners(trials, epochs)
    counts = _exists(trials, epochs, metric, own)
    status = trials["status"]
    sign, target = (1.0, at_least) if at_least is not None else (-1.0, at_most)
    assert target is not None  # one of the two, as checked above

    value, time_s = floats(epochs, metric), floats(epochs, "elapsed_train_s")
    epoch = epochs["epoch"].to_numpy(dtype=np.int64)
    initial = floats(trials, f"initial_{metric}")

    kept = ~np.isnan(value) & (own >= 0)
    if not kept.all():
        own, value, time_s, epoch = own[kept], value[kept], time_s[kept], epoch[kept]
    order = in_order(own, epoch)
    own, value, time_s, epoch = own[order], value[order], time_s[order], epoch[order]

    hits = np.flatnonzero(sign * value >= sign * target)
    hit = hits[starts(own[hits])]  # of each trial the first
    reached_by = own[hit]
    at_start = starts(own)[hit]  # no evaluation before but the untrained model's
    before = np.where(at_start, initial[reached_by], value[hit - 1])
    before_s = np.where(at_start, 0.0, time_s[hit - 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (target - before) / (value[hit] - before)
    share = np.clip(np.where(np.isfinite(share), share, 1.0), 0.0, 1.0)
    found = {
        "time_to_target_s": before_s + share * (time_s[hit] - before_s),
        "target_epoch": epoch[hit],
        "lower_s": before_s,
        "lower_value": before,
        "upper_s": time_s[hit],
        "upper_value": value[hit],
    }
    columns = {name: np.full(count, np.nan) for name in found}
    for name, numbers in found.items():
        columns[name][reached_by] = numbers
    at_once = sign * initial >= sign * target
    for name in columns:
        columns[name][at_once] = initial[at_once] if name.endswith("_value") else 0.0

    reached = at_once.copy()
    reached[reached_by] = True
    counts[own] = True
    missed = ~reached & (counts | status.isin(["failed", "timeout"]).to_numpy()) & (status != "lost").to_numpy()
    columns["time_to_target_s"][missed] = np.inf
    identity = [name for name in ("run_id", "trial_id", "setting_id", "arm") if name in trials.columns]
    return trials[identity].assign(reached=reached, **columns)


def _exists(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, own: np.ndarray) -> np.ndarray:
    """Tell of each trial whether its task has the metric, although every epoch's value may be NaN."""
    exists: np.ndarray = ~np.isnan(floats(trials, f"initial_{metric}"))
    companion = _COMPANION.get(metric)
    if companion is not None:
        exists[own[~np.isnan(floats(epochs, companion)) & (own >= 0)]] = True
    return exists


def time_to_accuracy(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str = "val_accuracy",
    at_least: float | None = None,
    at_most: float | None = None,
    by: Sequence[str] = BY,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return one row a group of trials, in order of appearance: how long its repeats took to the target.

    Columns, beside those of `by`, from the times of `time_to_target`:

    - ``n``: repeats that count; one that was lost, or whose task does not have the metric, does not;
    - ``reached``: how many of them got there, and ``share``, of `n`; NaN where n is 0;
    - ``median_s``: seconds on the training clock, a miss counting as infinite, so that it is infinite once half of the
      repeats missed; NaN where n is 0;
    - ``low_s``, ``high_s``: the percentile bootstrap interval of the median over the repeats (Efron 1979), infinite
      where misses make it so, NaN for one repeat. What few repeats can promise is little: of 3 it is their range, from
      the quickest to the slowest, which holds the true median in 75 % of all cases, not in 98 %, see
      `groups.median_intervals`.

    Every trial counts as a repeat. Of several runs with the same seeds give one, or the intervals are too narrow: what
    a seed decides, the same seed in another run does not tell again.

    Raises:
        ValueError: unless exactly one of `at_least` and `at_most` is given; for a metric that nothing was recorded of;
            for an unknown column in `by`; for a `confidence` that does not lie between 0 and 1.
    """
    times = time_to_target(trials, epochs, metric=metric, at_least=at_least, at_most=at_most)
    return over_repeats(trials, times["time_to_target_s"].to_numpy(dtype=np.float64), by=by, confidence=confidence)


def over_repeats(
    trials: pd.DataFrame, times_s: np.ndarray, *, by: Sequence[str] = BY, confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """Return what `time_to_accuracy` does, given the time of each trial as `time_to_target` has it."""
    found = groups(trials, by)
    spread = median_intervals(times_s, found.of_trial, len(found), confidence=confidence)
    reached = np.bincount(found.of_trial[np.isfinite(times_s)], minlength=len(found))
    with np.errstate(invalid="ignore"):
        share = reached / spread["n"].to_numpy()
    return found.keys.assign(
        n=spread["n"], reached=reached, share=share,
        median_s=spread["median"], low_s=spread["low"], high_s=spread["high"],
    )  # fmt: skip
