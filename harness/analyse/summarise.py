"""One row a setting: what a person wants to know first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analyse.energy import KINDS, energy
from harness.analyse.frames import floats
from harness.analyse.gap import gaps
from harness.analyse.groups import BY, groups, medians
from harness.analyse.target import over_repeats, time_to_target
from harness.analyse.throughput import throughput
from harness.domain.design import CONFIDENCE
from harness.domain.metrics import METRICS

_STATES = ("completed", "failed", "timeout", "lost")


def summarise(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str = "val_accuracy",
    at_least: float | None = None,
    at_most: float | None = None,
    axes: Sequence[str] = (),
    by: Sequence[str] = BY,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return one row a group of trials, as a rule a setting and arm, ordered by the axes.

    Medians are over the repeats, and so are their intervals, which are the percentile bootstrap's (see
    `groups.median_intervals`, also for how little few repeats can promise); null for one repeat. Every trial counts as
    a repeat: of several runs with the same seeds, intervals of what the seed decides are too narrow. Columns:

    - those of `by`, and the `axes` (columns of `trials`);
    - ``trials`` and how many of them are ``completed``, ``failed``, ``timeout``, ``lost``;
    - ``reached`` of ``reached_of`` trials got to the target, also as the text ``reached_share`` ("2/3"), and
      ``median_time_to_target_s``, in which a miss counts as infinite, with ``low_time_to_target_s`` and
      ``high_time_to_target_s``, see `time_to_accuracy`; all null without a target;
    - ``best`` value of the metric in any epoch of any trial; of the completed trials ``median_best``, the best of each,
      ``median_last``, at the last epoch that has it, and ``median_gap``, `accuracy` less `val_accuracy` there;
    - ``median_samples_per_s``, and ``median_train_s`` of an epoch with ``low_train_s`` and ``high_train_s``: of each
      trial the median over its epochs, warm-up left out, see `throughput`;
    - ``median_total_train_s``: training of a whole trial, of the completed ones;
    - ``compile_s``: the most that a trial spent on compiling;
    - ``median_gpu_j_per_sample``, ``median_gpu_j_to_target`` (a miss counts as infinite) and the same of ``cpu``: over
      the trials whose energy is valid, see `energy`.

    Raises:
        ValueError: for both `at_least` and `at_most`; a metric that nothing was recorded of; an unknown column in `by`;
            a `confidence` not between 0 and 1.
    """
    found = groups(trials, by)
    group, count = found.of_trial, len(found)
    done = (trials["status"] == "completed").to_numpy(dtype=bool)

    def over_completed(values: np.ndarray) -> np.ndarray:
        return medians(np.where(done, values, np.nan), group, count)

    first = trials.iloc[np.unique(group, return_index=True)[1]].reset_index(drop=True)
    table = found.keys.assign(**{path: first[path] for path in axes}, trials=np.bincount(group, minlength=count))
    for status in _STATES:
        table[status] = np.bincount(group[(trials["status"] == status).to_numpy(dtype=bool)], minlength=count)

    times = None
    if at_least is None and at_most is None:
        of_target = ["reached", "reached_of", "reached_share"]
        table[[*of_target, *(f"{what}_time_to_target_s" for what in ("median", "low", "high"))]] = None
    else:
        times = time_to_target(trials, epochs, metric=metric, at_least=at_least, at_most=at_most)
        seconds = times["time_to_target_s"].to_numpy(dtype=np.float64)
        reached = over_repeats(trials, seconds, by=by, confidence=confidence)
        table["reached"], table["reached_of"] = reached["reached"], reached["n"]
        table["reached_share"] = reached["reached"].astype(str) + "/" + reached["n"].astype(str)
        for what in ("median", "low", "high"):
            table[f"{what}_time_to_target_s"] = reached[f"{what}_s"]

    lower = METRICS[metric].better == "lower" if metric in METRICS else at_most is not None
    ends = gaps(trials, epochs, metric=metric, lower_is_better=lower)
    of_group = ends["best"].groupby(group)
    table["best"] = (of_group.min() if lower else of_group.max()).reindex(range(count))
    table["median_best"] = over_completed(ends["best"].to_numpy())
    table["median_last"] = over_completed(ends["last"].to_numpy())
    if metric != "val_accuracy":
        ends = gaps(trials, epochs, metric="val_accuracy")
    table["median_gap"] = over_completed(ends["gap_at_last"].to_numpy())

    quick = throughput(trials, epochs, by=by, confidence=confidence)
    for name in ("median_samples_per_s", "median_train_s", "low_train_s", "high_train_s"):
        table[name] = quick[name]
    table["median_total_train_s"] = over_completed(floats(trials, "train_s"))
    table["compile_s"] = pd.Series(floats(trials, "compile_s")).groupby(group).max().reindex(range(count))

    used = energy(trials, epochs, times)
    for name in (f"{kind}_j_{quantity}" for kind in KINDS for quantity in ("per_sample", "to_target")):
        table[f"median_{name}"] = medians(used[name].to_numpy(dtype=np.float64), group, count)
    order = [*axes, *(str(name) for name in found.keys if name != "setting_id")]
    return table.sort_values(order, kind="stable", ignore_index=True) if order else table
