"""Seconds an epoch by hardware: the table that machines are bought by."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.analyse.frames import floats
from harness.analyse.groups import BY, groups, median_intervals, medians
from harness.analyse.throughput import steady_epochs
from harness.domain.design import CONFIDENCE


def epoch_seconds(
    trials: pd.DataFrame, epochs: pd.DataFrame, *, by: Sequence[str] = BY, confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """Return one row a group and kind of hardware, in order of appearance: how long an epoch takes there.

    `trials` have the column ``hardware``, which `described` adds. A trial's figure is the median over its epochs, those
    flagged as warm-up left out where others are, as in `throughput`; a row's is the median over its trials with its
    percentile bootstrap interval (see `groups.median_intervals`). Columns, beside those of `by`:

    - ``hardware``; ``n`` trials with such an epoch;
    - ``median_s``, ``low_s``, ``high_s``: seconds of training alone, on the training clock;
    - ``eval_s``: seconds of the evaluation after it; ``with_eval_s``, ``low_with_eval_s``, ``high_with_eval_s``: of
      both, which is what most published times of an epoch hold; over the epochs that were evaluated;
    - ``samples`` an epoch and ``samples_per_s``, of training;
    - ``relative``: `median_s` over that of the quickest hardware which ran the same group, so 1 is the quickest.

    NaN where not measured, intervals also for one repeat.

    Raises:
        ValueError: for an unknown column in `by`, or without ``hardware``; for a `confidence` that does not lie between
            0 and 1.
    """
    same = [name for name in ([by] if isinstance(by, str) else by) if name != "hardware"]
    found = groups(trials, [*same, "hardware"])
    own, steady = steady_epochs(trials, epochs, found)
    train_s, eval_s, samples, samples_per_s = (
        floats(epochs, name)[steady] for name in ("train_s", "eval_s", "samples", "samples_per_s")
    )
    columns = {}
    for name, values in {
        "s": train_s, "eval_s": eval_s, "with_eval_s": train_s + eval_s, "samples": samples,
        "samples_per_s": samples_per_s,
    }.items():  # fmt: skip
        of_trial = medians(values, own, len(trials))
        columns[name] = median_intervals(of_trial, found.of_trial, len(found), confidence=confidence)
    table = found.keys.assign(
        n=columns["s"]["n"],
        median_s=columns["s"]["median"],
        low_s=columns["s"]["low"],
        high_s=columns["s"]["high"],
        eval_s=columns["eval_s"]["median"],
        with_eval_s=columns["with_eval_s"]["median"],
        low_with_eval_s=columns["with_eval_s"]["low"],
        high_with_eval_s=columns["with_eval_s"]["high"],
        samples=columns["samples"]["median"],
        samples_per_s=columns["samples_per_s"]["median"],
    )
    quickest = table["median_s"].groupby(groups(table, same).of_trial).transform("min")
    return table.assign(relative=table["median_s"] / quickest)
