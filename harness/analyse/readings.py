"""What the hardware did while a trial ran: its readings, on the trial's own time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from harness.analyse.frames import owners
from harness.analyse.groups import in_order

POINTS: Final = 150  # of each metric of a trial
_AROUND_S: Final = 0.5  # what was read a little before and after belongs to the picture

# metric of `telemetry` -> whose readings it is, and what is made of those of several devices at a time
_KINDS: Final = {
    "cpu_percent": ("core", "mean"),
    "cpu_frequency_hz": ("core", "mean"),
    "rss_bytes": ("worker", "sum"),
    "temperature_c": ("sensor", "max"),
    "gpu_utilisation_percent": ("gpu", "mean"),
    "gpu_memory_used_bytes": ("gpu", "sum"),
    "gpu_power_w": ("gpu", "sum"),
    "gpu_sm_clock_hz": ("gpu", "mean"),
    "gpu_temperature_c": ("gpu", "max"),
}
METRICS: Final = tuple(_KINDS)

_IDENTITY: Final = ("run_id", "trial_id", "setting_id", "arm", "seed")


def trial_readings(trials: pd.DataFrame, telemetry: pd.DataFrame, *, points: int = POINTS) -> pd.DataFrame:
    """Return one row a trial, metric and instant, in this order: the readings of the trial's share of its node.

    Columns: ``run_id``, ``trial_id``, ``setting_id``, ``arm``, ``seed``; ``metric``; ``time_s`` since the trial's
    start, by the node's clock, from half a second before it to half a second after its end; ``value`` in the unit that
    ends the metric's name; ``devices``, of which it is made. The metrics are those of `METRICS`: the load and the clock
    of the trial's cores (mean), the memory of its worker, the warmest sensor of its node, and of its GPUs the
    utilisation and clock (mean), memory and power (sum) and the warmest. Where there are more than `points` instants,
    each value is the mean over an equal part of the trial's time. Trials without a start or readings have no rows.
    """
    counts = telemetry["metric"].isin(METRICS)
    telemetry = telemetry[counts & telemetry["value"].notna()]
    time_s = seconds(telemetry["time"])
    codes = {name: telemetry[name].astype("category").cat for name in ("run_id", "node", "device", "metric")}
    placed = {name: (found.codes.to_numpy(), found.categories.astype(object)) for name, found in codes.items()}
    value = telemetry["value"].to_numpy(dtype=np.float64, na_value=np.nan)
    starts, ends = seconds(trials["started_at"]), seconds(trials["ended_at"])
    found = []
    for place, trial in enumerate(trials.to_dict("records")):
        start, end = starts[place], ends[place]
        if not np.isfinite(start) or not np.isfinite(end):
            continue
        rows = np.flatnonzero(
            (time_s >= start - _AROUND_S) & (time_s <= end + _AROUND_S)
            & _is(placed["run_id"], trial["run_id"]) & _is(placed["node"], trial["node"])
        )  # fmt: skip
        devices = _devices(trial)
        read = pd.DataFrame({
            "metric": placed["metric"][1].to_numpy()[placed["metric"][0][rows]],
            "device": placed["device"][1].to_numpy()[placed["device"][0][rows]],
            "time_s": time_s[rows] - start,
            "value": value[rows],
        })  # fmt: skip
        found.append(_along(read, devices, length_s=end - start, points=points).assign(
            **{name: trial.get(name) for name in _IDENTITY}
        ))  # fmt: skip
    columns = [*_IDENTITY, "metric", "time_s", "value", "devices"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def trial_epochs(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return one row an epoch, in order of trials and epochs: the timed span from ``start_s`` to ``end_s``, in seconds
    since the trial's start.

    Columns beside: ``run_id``, ``trial_id``, ``setting_id``, ``arm``, ``seed``, ``epoch``. Epochs whose times are not
    known, as those that a program reports may be, are left out.
    """
    own = owners(trials, epochs)
    rows = np.flatnonzero(own >= 0)
    rows = rows[in_order(own[rows], epochs["epoch"].to_numpy(dtype=np.int64)[rows])]
    kept, of_trial = epochs.iloc[rows], trials.iloc[own[rows]].reset_index(drop=True)
    start = seconds(of_trial["started_at"])
    found = of_trial[[name for name in _IDENTITY if name in of_trial.columns]].assign(
        epoch=kept["epoch"].to_numpy(dtype=np.int64),
        start_s=seconds(kept["started_at"]) - start,
        end_s=seconds(kept["ended_at"]) - start,
    )
    return found[found["start_s"].notna() & found["end_s"].notna()].reset_index(drop=True)


def seconds(column: pd.Series) -> np.ndarray:
    """Return instants as seconds since 1970, NaN where they are null."""
    known = column.notna().to_numpy(dtype=bool)
    found = np.full(len(column), np.nan)
    instants = pd.to_datetime(column[known], utc=True).astype("datetime64[us, UTC]").astype("int64")
    found[known] = instants.to_numpy(dtype=np.float64) / 1e6
    return found


def _is(column: tuple[np.ndarray, pd.Index], name: Any) -> np.ndarray:
    codes, names = column
    there = names.get_indexer(pd.Index([name], dtype=object))[0]
    same: np.ndarray = (codes == there) & (there >= 0)
    return same


def _devices(trial: Mapping[Any, Any]) -> dict[str, set[str]]:
    """Return the names of a trial's devices, by kind."""
    return {
        "core": {f"cpu{core}" for core in _listed(trial.get("cores"))},
        "gpu": {f"gpu:{uuid}" for uuid in _listed(trial.get("gpu_uuids"))},
        "worker": {f"worker:{str(trial.get('worker')).partition('@')[0]}"},
    }


def _listed(cell: Any) -> Sequence[Any]:
    return [] if cell is None or pd.api.types.is_scalar(cell) else list(cell)


def _along(read: pd.DataFrame, devices: Mapping[str, set[str]], *, length_s: float, points: int) -> pd.DataFrame:
    parts = []
    for metric, (kind, how) in _KINDS.items():
        of_metric = read[read["metric"] == metric]
        names = of_metric["device"].astype(str)
        mine = names.str.startswith("sensor:") if kind == "sensor" else names.isin(devices[kind])
        of_metric = of_metric[mine]
        if of_metric.empty:
            continue
        instants = np.sort(of_metric["time_s"].unique())
        width = (length_s + 2 * _AROUND_S) / points
        part = np.floor((of_metric["time_s"] + _AROUND_S) / width) if len(instants) > points else of_metric["time_s"]
        by_device = of_metric.groupby([part.rename("part"), "device"], sort=True)[["time_s", "value"]].mean()
        together = by_device.groupby(level="part").agg(time_s=("time_s", "mean"), value=("value", "mean"))
        if how == "max":
            together["value"] = by_device["value"].groupby(level="part").max()
        number = of_metric["device"].nunique()
        if how == "sum":
            together["value"] *= number  # not a sum, which would dip where one of several was not read
        parts.append(together.reset_index(drop=True).assign(metric=metric, devices=number))
    return pd.concat(parts, ignore_index=True) if parts else read.assign(devices=0)[:0]
