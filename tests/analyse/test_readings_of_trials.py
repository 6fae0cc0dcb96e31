from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from harness.analyse.readings import trial_epochs, trial_readings

START = pd.Timestamp("2026-01-01T12:00:00Z")


def at(second: float) -> pd.Timestamp:
    return START + pd.Timedelta(microseconds=round(1e6 * second))


def trial(trial_id: str = "t", *, start: float | None = 0.0, **fields: Any) -> dict[str, Any]:
    """Return a trial of 10 s on two cores and two GPUs of a node."""
    known = start is not None
    return {
        "run_id": "r", "trial_id": trial_id, "setting_id": "s", "arm": "default", "seed": 0, "node": "n",
        "worker": "0@1", "cores": [0, 1], "gpu_uuids": ["A", "B"],
        "started_at": at(start) if known else pd.NaT, "ended_at": at(start + 10) if known else pd.NaT, **fields,
    }  # fmt: skip


def reading(second: float, device: str, metric: str, value: float | None, **fields: Any) -> dict[str, Any]:
    return {
        "run_id": "r", "node": "n", "time": at(second), "device": device, "metric": metric, "value": value, **fields
    }  # fmt: skip


def along(trials: list[dict[str, Any]], readings: list[dict[str, Any]], **options: Any) -> pd.DataFrame:
    telemetry = pd.DataFrame(readings)
    for name in ("run_id", "node", "device", "metric"):
        telemetry[name] = telemetry[name].astype("category")
    telemetry["value"] = telemetry["value"].astype("double[pyarrow]")
    telemetry["time"] = telemetry["time"].astype("timestamp[us, tz=UTC][pyarrow]")
    return trial_readings(pd.DataFrame(trials), telemetry, **options)


def test_a_trial_has_the_readings_of_its_own_devices_on_its_own_time() -> None:
    found = along(
        [trial(start=100.0)],
        [
            reading(101, "cpu0", "cpu_percent", 100.0),
            reading(101, "cpu1", "cpu_percent", 50.0),
            reading(101, "cpu2", "cpu_percent", 7.0),
            reading(101, "host", "cpu_percent", 9.0),
            reading(101, "worker:0", "rss_bytes", 5e8),
            reading(101, "worker:1", "rss_bytes", 1e8),
            reading(101, "gpu:A", "gpu_power_w", 300.0),
            reading(101, "gpu:B", "gpu_power_w", 200.0),
            reading(101, "gpu:A", "gpu_temperature_c", 60.0),
            reading(101, "gpu:B", "gpu_temperature_c", 70.0),
            reading(101, "gpu:C", "gpu_power_w", 1.0),
            reading(101, "sensor:k10/Tctl", "temperature_c", 50.0),
            reading(101, "cpu0", "cpu_percent", 1.0, node="other"),
            reading(101, "cpu0", "cpu_percent", 1.0, run_id="other"),
            reading(111, "cpu0", "cpu_percent", 1.0),
            reading(99, "cpu0", "cpu_percent", 1.0),
            reading(102, "cpu0", "cpu_percent", None),
        ],
    )
    told = {row.metric: (row.time_s, row.value, row.devices) for row in found.itertuples()}
    assert told == {
        "cpu_percent": (1.0, 75.0, 2),
        "rss_bytes": (1.0, 5e8, 1),
        "temperature_c": (1.0, 50.0, 1),
        "gpu_power_w": (1.0, 500.0, 2),
        "gpu_temperature_c": (1.0, 70.0, 2),
    }


def test_a_sum_does_not_dip_where_one_of_several_devices_was_not_read() -> None:
    found = along(
        [trial()],
        [
            reading(1, "gpu:A", "gpu_power_w", 300.0),
            reading(1, "gpu:B", "gpu_power_w", 300.0),
            reading(2, "gpu:A", "gpu_power_w", 310.0),
        ],
    )
    assert found["value"].tolist() == [600.0, 620.0]


def test_many_readings_are_means_over_equal_parts_of_the_time() -> None:
    readings = [reading(number / 100, "cpu0", "cpu_percent", float(number % 2)) for number in range(1000)]
    found = along([trial(cores=[0])], readings, points=11)
    assert len(found) == 11
    assert found["value"].tolist()[1:-1] == pytest.approx([0.5] * 9)
    assert found["time_s"].is_monotonic_increasing


def test_trials_without_a_start_or_readings_have_no_rows() -> None:
    assert along([trial(start=None)], [reading(1, "cpu0", "cpu_percent", 1.0)]).empty
    empty = along([trial()], [reading(1, "cpu7", "cpu_percent", 1.0)])
    assert empty.empty
    assert {"trial_id", "metric", "time_s", "value", "devices"} <= set(empty.columns)


def test_a_trial_without_gpus_or_known_cores_has_what_there_is() -> None:
    readings = [reading(1, "worker:0", "rss_bytes", 2.0), reading(1, "gpu:A", "gpu_power_w", 3.0)]
    found = along([trial(cores=None, gpu_uuids=None)], readings)
    assert found["metric"].tolist() == ["rss_bytes"]


def test_epochs_begin_and_end_on_their_trials_time() -> None:
    trials = pd.DataFrame([trial("a", start=100.0), trial("b")])
    epochs = pd.DataFrame(
        {"run_id": "r", "trial_id": name, "arm": "default", "epoch": epoch, "started_at": began, "ended_at": ended}
        for name, epoch, began, ended in [
            ("b", 1, at(1), at(2)), ("a", 2, at(103), at(104)), ("a", 1, at(101), at(102.5)), ("b", 2, pd.NaT, pd.NaT),
            ("c", 1, at(1), at(2)),
        ]
    )  # fmt: skip
    found = trial_epochs(trials, epochs)
    assert found[["trial_id", "epoch", "start_s", "end_s"]].values.tolist() == [
        ["a", 1, 1.0, 2.5],
        ["a", 2, 3.0, 4.0],
        ["b", 1, 1.0, 2.0],
    ]
    assert not math.isnan(found["end_s"].max())
