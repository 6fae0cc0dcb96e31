"""Time to a target, and one row a setting: what a person wants to know first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analyse.energy import KINDS, energy
from harness.analyse.frames import floats, owners
from harness.domain.metrics import METRICS

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
        ValueError: unless exactly one of `at_least` and `at_most` is given.
    """
    if (at_least is None) == (at_most is None):
        raise ValueError(f"a target is either at_least or at_most, got {at_least!r} and {at_most!r}")
    count = len(trials)
    own = owners(trials, epochs)
    status = trials["status"]
    sign, target = (1.0, at_least) if at_least is not None else (-1.0, at_most)
    assert target is not None  # one of the two, as checked above

    value, time_s = floats(epochs, metric), floats(epochs, "elapsed_train_s")
    epoch = epochs["epoch"].to_numpy(dtype=np.int64)
    initial = floats(trials, f"initial_{metric}")

    kept = ~np.isnan(value) & (own >= 0)
    if not kept.all():
        own, value, time_s, epoch = own[kept], value[kept], time_s[kept], epoch[kept]
    order = own * (epoch.max(initial=0) + 1) + epoch
    if (order[1:] < order[:-1]).any():
        sort = np.argsort(order, kind="stable")
        own, value, time_s, epoch = own[sort], value[sort], time_s[sort], epoch[sort]

    hits = np.flatnonzero(sign * value >= sign * target)
    hit = hits[_starts(own[hits])]  # of each trial the first
    reached_by = own[hit]
    at_start = _starts(own)[hit]  # no evaluation before but the untrained model's
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
    counts = _exists(trials, epochs, metric)
    counts[own] = True
    missed = ~reached & (counts | status.isin(["failed", "timeout"]).to_numpy()) & (status != "lost").to_numpy()
    columns["time_to_target_s"][missed] = np.inf
    identity = [name for name in ("run_id", "trial_id", "setting_id", "arm") if name in trials.columns]
    return trials[identity].assign(reached=reached, **columns)


def summarise(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str = "val_accuracy",
    at_least: float | None = None,
    at_most: float | None = None,
    axes: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row a setting and arm, ordered by the axes.

    Columns: ``setting_id``, ``arm``, the `axes` (columns of `trials`); ``trials`` and how many of them are
    ``completed``, ``failed``, ``timeout``, ``lost``; ``reached`` of ``reached_of`` trials got to the target, also
    as the text ``reached_share`` ("2/3"), and ``median_time_to_target_s``, in which a miss counts as infinite
    (all null without a target); ``best`` value of the metric in any epoch; medians over the epochs,
    those flagged as warm-up left out where there are others: ``median_samples_per_s``, ``median_train_s`` of an epoch;
    ``compile_s``: the most that a trial spent on compiling; ``median_gpu_j_per_sample``, ``median_gpu_j_to_target`` (a
    miss counts as infinite) and the same of ``cpu``: medians over the trials whose energy is valid, see `energy`.
    """
    groups = trials.groupby(["setting_id", "arm"], sort=False, observed=True)
    table = groups.size().to_frame("trials")
    for path in axes:
        table[path] = groups[path].first()
    for status in ("completed", "failed", "timeout", "lost"):
        table[status] = (trials["status"] == status).groupby([trials["setting_id"], trials["arm"]]).sum()
    times = None
    if at_least is None and at_most is None:
        table[["reached", "reached_of", "reached_share", "median_time_to_target_s"]] = None
    else:
        times = time_to_target(trials, epochs, metric=metric, at_least=at_least, at_most=at_most)
        by_setting = times.groupby(["setting_id", "arm"], sort=False, observed=True)
        table["reached"] = by_setting["reached"].sum()
        table["reached_of"] = by_setting["time_to_target_s"].count()
        table["reached_share"] = table["reached"].astype(str) + "/" + table["reached_of"].astype(str)
        table["median_time_to_target_s"] = by_setting["time_to_target_s"].median()
    table["best"] = _by_setting(epochs, metric, _best(metric, at_most))
    steady = _steady(epochs)
    table["median_samples_per_s"] = _by_setting(steady, "samples_per_s", "median")
    table["median_train_s"] = _by_setting(steady, "train_s", "median")
    table["compile_s"] = groups["compile_s"].max()
    used = energy(trials, epochs, times).groupby(["setting_id", "arm"], sort=False, observed=True)
    for name in (f"{kind}_j_{quantity}" for kind in KINDS for quantity in ("per_sample", "to_target")):
        table[f"median_{name}"] = used[name].median()
    table = table.reset_index()
    order = [*axes, "arm"]
    columns = ["setting_id", "arm", *axes, *(name for name in table if name not in {"setting_id", "arm", *axes})]
    return table.sort_values(order, kind="stable", ignore_index=True)[columns]


def _best(metric: str, at_most: float | None) -> str:
    lower = METRICS[metric].better == "lower" if metric in METRICS else at_most is not None
    return "min" if lower else "max"


def _by_setting(epochs: pd.DataFrame, column: str, how: str) -> pd.Series:
    """Return one number a setting and arm of a column of `epochs`."""
    frame = pd.DataFrame({"setting_id": epochs["setting_id"], "arm": epochs["arm"], "value": floats(epochs, column)})
    return frame.groupby(["setting_id", "arm"], sort=False, observed=True)["value"].agg(how)


def _steady(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs not flagged as warm-up, and those of settings that have no others."""
    warm = epochs["warmup"].to_numpy(dtype=bool, na_value=False)
    if not warm.any():
        return epochs
    group = epochs.groupby(["setting_id", "arm"], sort=False, observed=True).ngroup().to_numpy()
    only_warm = np.ones(group.max() + 1, dtype=bool)
    only_warm[group[~warm]] = False
    return epochs[~warm | only_warm[group]]


def _starts(owners: np.ndarray) -> np.ndarray:
    """Tell of each row whether it is the first of its trial; rows of one trial are neighbours."""
    starts = np.ones(len(owners), dtype=bool)
    starts[1:] = owners[1:] != owners[:-1]
    return starts


def _exists(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str) -> np.ndarray:
    """Tell of each trial whether its task has the metric, although every epoch's value may be NaN."""
    exists: np.ndarray = ~np.isnan(floats(trials, f"initial_{metric}"))
    companion = _COMPANION.get(metric)
    if companion is not None:
        own = owners(trials, epochs)
        exists[own[~np.isnan(floats(epochs, companion)) & (own >= 0)]] = True
    return exists
