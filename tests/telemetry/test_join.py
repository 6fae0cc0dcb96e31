from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.telemetry.join import Joined, Series, Spans, join, validity

T0 = 1_700_000_000.0
GPU = "gpu:GPU-a"
Reals = NDArray[np.float64]


def series(end_s: float, value: Callable[[Reals], Any], *, hz: float = 5.0, begin_s: float = 0.0) -> Series:
    """Return readings taken `hz` times a second; `value` is of the seconds since T0."""
    seconds = begin_s + np.arange(round((end_s - begin_s) * hz) + 1) / hz
    return T0 + seconds, np.zeros_like(seconds) + value(seconds)


def spans(*edges: tuple[float, float], cpu_s: Sequence[float] | None = None, **options: Any) -> Spans:
    given = {"worker": "0", "cores": (0,), "gpus": ("GPU-a",), **options}
    return Spans(
        start_s=T0 + np.array([start for start, _ in edges]),
        end_s=T0 + np.array([end for _, end in edges]),
        cpu_s=np.array(cpu_s or [np.nan] * len(edges), dtype=float),
        **given,
    )


def cpu(busy_percent: float, worker: float, harness: float = 0.0, end_s: float = 60.0) -> dict[tuple[str, str], Series]:
    """Return readings of one core so busy, where the worker and the harness compute so many seconds a second."""
    return {
        ("cpu0", "cpu_percent"): series(end_s, lambda s: busy_percent),
        ("cpu0", "steal_percent"): series(end_s, lambda s: 2.0),
        ("worker:0", "user_cpu_s"): series(end_s, lambda s: 7.0 + worker * 0.9 * s),
        ("worker:0", "system_cpu_s"): series(end_s, lambda s: worker * 0.1 * s),
        ("harness", "user_cpu_s"): series(end_s, lambda s: harness * s),
        ("harness", "system_cpu_s"): series(end_s, lambda s: 0.0 * s),
    }


def without(whole: Series, begin_s: float, end_s: float) -> Series:
    """Return a series that lacks the readings between two moments."""
    kept = (whole[0] <= T0 + begin_s) | (whole[0] >= T0 + end_s)
    return whole[0][kept], whole[1][kept]


@pytest.mark.parametrize(
    ("power", "integral"),
    [
        (lambda s: 100.0 + 0.0 * s, lambda s: 100.0 * s),
        (lambda s: 50.0 + 3.0 * s, lambda s: 50.0 * s + 1.5 * s**2),
        (lambda s: 300.0 + 100.0 * np.sin(s), lambda s: 300.0 * s - 100.0 * np.cos(s)),
        (lambda s: 300.0 + 100.0 * np.sin(4 * s), lambda s: 300.0 * s - 25.0 * np.cos(4 * s)),
    ],
)
def test_integrated_power_is_the_integral_of_ramps_and_waves(power: Any, integral: Any) -> None:
    edges = [(3.0, 50.0), (10.07, 12.31), (20.0, 21.05), (33.33, 34.33)]  # shorter ones are called "short"
    found = join({(GPU, "gpu_power_w"): series(60.0, power)}, spans(*edges))
    exact = [integral(np.float64(end)) - integral(np.float64(start)) for start, end in edges]
    assert found.gpu_power_j.tolist() == pytest.approx(exact, rel=0.005)
    assert found.gpu_power_coverage.tolist() == pytest.approx([1.0] * 4)


def test_energy_of_several_gpus_adds_up_and_one_without_readings_halves_the_coverage() -> None:
    readings = {
        ("gpu:a", "gpu_power_w"): series(60, lambda s: 100.0),
        ("gpu:b", "gpu_power_w"): series(60, lambda s: 50.0),
    }
    found = join(readings, spans((10, 20), gpus=("a", "b")))
    assert found.gpu_power_j.tolist() == pytest.approx([1500.0])
    found = join(readings, spans((10, 20), gpus=("a", "c")))
    assert found.gpu_power_j.tolist() == pytest.approx([1000.0])
    assert found.gpu_power_coverage.tolist() == pytest.approx([0.5])


def test_a_gap_is_not_covered_and_its_energy_is_left_out() -> None:
    power = without(series(60.0, lambda s: 100.0), 20.0, 23.0)
    found = join({(GPU, "gpu_power_w"): power}, spans((10, 30), (20, 23), (21, 22), (0, 10)))
    assert found.gpu_power_coverage.tolist() == pytest.approx([0.85, np.nan, np.nan, 1.0], nan_ok=True)
    assert found.gpu_power_j.tolist() == pytest.approx([1700.0, np.nan, np.nan, 1000.0], nan_ok=True)


def test_a_missed_sample_is_bridged() -> None:
    power = without(series(60.0, lambda s: 100.0), 20.0, 20.4)
    found = join({(GPU, "gpu_power_w"): power}, spans((10, 30)))
    assert found.gpu_power_coverage.tolist() == pytest.approx([1.0])


def test_a_gap_that_the_sampler_recorded_is_not_covered_however_short_it_is() -> None:
    readings = {(GPU, "gpu_power_w"): series(60.0, lambda s: 100.0)}
    found = join(readings, spans((10, 20)), gaps=[(T0 + 12.0 - 2e-7, T0 + 12.4)])
    assert found.gpu_power_coverage.tolist() == pytest.approx([0.96])
    assert found.gpu_power_j.tolist() == pytest.approx([960.0])


def test_before_the_first_and_after_the_last_reading_nothing_is_known() -> None:
    readings = {(GPU, "gpu_power_w"): series(20.0, lambda s: 100.0, begin_s=10.0), **cpu(50, 0.4, end_s=20.0)}
    found = join(readings, spans((1, 9), (21, 30), (5, 15), (15, 25), (np.nan, np.nan)))
    nothing = np.nan
    assert found.gpu_power_coverage.tolist() == pytest.approx([nothing, nothing, 0.5, 0.5, nothing], nan_ok=True)
    assert found.gpu_power_j.tolist() == pytest.approx([nothing, nothing, 500.0, 500.0, nothing], nan_ok=True)
    assert found.cpu_percent.tolist() == pytest.approx([50.0, nothing, 50.0, 50.0, nothing], nan_ok=True)


def test_without_readings_all_is_unknown_and_nothing_is_zero() -> None:
    found = join({}, spans((1, 2), (3, 9)))
    for name in Joined.__slots__:
        values = getattr(found, name)
        assert values == [None, None] if name == "throttle_reasons" else np.isnan(values).all(), name


def test_a_load_that_only_a_little_of_the_span_was_read_of_is_not_told() -> None:
    readings = {("cpu0", "cpu_percent"): series(10.0, lambda s: 90.0)}
    found = join(readings, spans((0, 10), (6, 14.1), (5, 14)))
    assert found.cpu_percent.tolist() == pytest.approx([90.0, np.nan, 90.0], nan_ok=True)


def test_a_load_stands_for_the_time_since_the_reading_before() -> None:
    # Each reading says that the core was busy in the second before it: busy from 4 to 6.
    busy = series(10.0, lambda s: 100.0 * ((s == 5) | (s == 6)), hz=1.0)
    found = join({("cpu0", "cpu_percent"): busy}, spans((4, 6), (3, 7), (4.5, 7.5), (6, 8)))
    assert found.cpu_percent.tolist() == pytest.approx([100.0, 50.0, 50.0, 0.0])


def test_loads_are_means_over_the_workers_cores() -> None:
    readings = {
        (f"cpu{core}", metric): series(60, lambda s, value=value: value)
        for core, loads in enumerate([(100.0, 0.0), (50.0, 10.0), (7.0, 7.0)])
        for metric, value in zip(("cpu_percent", "steal_percent"), loads, strict=True)
    }
    found = join(readings, spans((10, 20), cores=(0, 1)))
    assert found.cpu_percent.tolist() == pytest.approx([75.0])
    assert found.steal_percent.tolist() == pytest.approx([5.0])


def test_a_foreign_load_is_what_neither_the_worker_nor_the_harness_explains() -> None:
    found = join(cpu(95.0, worker=0.6, harness=0.05), spans((10, 20), (30, 30.2)))
    assert found.foreign_percent.tolist() == pytest.approx([30.0, 30.0])
    assert join(cpu(60.0, worker=0.7), spans((10, 20))).foreign_percent.tolist() == [0.0]


def test_a_foreign_load_is_told_only_where_the_worker_and_the_harness_were_read() -> None:
    for device in ("worker:0", "harness"):
        readings = {key: value for key, value in cpu(95.0, worker=0.6).items() if key[0] != device}
        assert np.isnan(join(readings, spans((10, 20))).foreign_percent).all()


def test_a_planted_foreign_load_shows_in_the_spans_that_it_falls_into() -> None:
    readings = cpu(50.0, worker=0.5)
    readings["cpu0", "cpu_percent"] = series(60.0, lambda s: np.where((s > 20) & (s <= 25), 100.0, 50.0))
    found = join(readings, spans((10, 20), (20, 25), (20, 30), (30, 40)))
    assert found.foreign_percent.tolist() == pytest.approx([0.0, 50.0, 25.0, 0.0], abs=1e-3)


def test_a_worker_of_the_harness_on_the_same_cores_is_not_foreign() -> None:
    readings = cpu(90.0, worker=0.5)
    readings["worker:torch.0", "user_cpu_s"] = series(60.0, lambda s: 0.4 * s)
    readings["worker:torch.0", "system_cpu_s"] = series(60.0, lambda s: 0.0 * s)
    given = spans((10, 20), beside=("torch.0", "jax.0"))
    assert join(readings, given).foreign_percent.tolist() == pytest.approx([0.0], abs=1e-3)
    assert join(readings, replace(given, beside=())).foreign_percent.tolist() == pytest.approx([40.0])


def test_what_the_worker_itself_measured_counts_where_it_is_more() -> None:
    found = join(cpu(90.0, worker=0.5), spans((10, 20), (10, 20), (30, 30.5), cpu_s=[8.0, 1.0, 0.45]))
    assert found.foreign_percent.tolist() == pytest.approx([10.0, 40.0, 40.0])


def test_a_counter_that_begins_anew_is_a_process_that_was_replaced() -> None:
    readings = cpu(100.0, worker=0.0)
    readings["worker:0", "user_cpu_s"] = series(60.0, lambda s: np.where(s <= 20, 500.0 + s, s - 20.2))
    found = join(readings, spans((15, 25), (18, 20), (21, 30)))
    assert found.foreign_percent.tolist() == pytest.approx([0.0] * 3, abs=1e-3)


def test_short_spans_have_the_loads_of_the_second_around_them_but_their_own_energy() -> None:
    readings = {(GPU, "gpu_power_w"): series(60, lambda s: 100.0)}
    readings["cpu0", "cpu_percent"] = series(60, lambda s: np.where((s > 10) & (s <= 10.4), 100.0, 0.0))
    found = join(readings, spans((10.1, 10.3)))
    assert found.cpu_percent.tolist() == pytest.approx([40.0])
    assert found.gpu_power_j.tolist() == pytest.approx([20.0])


def test_a_throttled_stretch_is_found_with_its_reasons() -> None:
    def mask(seconds: Reals) -> Reals:
        hot, capped = (seconds > 20) & (seconds <= 22), (seconds > 21) & (seconds <= 22)
        return np.where(hot, 0x40, 0) + np.where(capped, 0x04, 0) + 0x01  # 1: idle, which is no throttling

    found = join(
        {(GPU, "gpu_throttle_mask"): series(60, mask)}, spans((10, 20), (15, 25), (20, 21), (21, 22), (58, 99))
    )
    assert found.throttled_percent.tolist() == pytest.approx([0.0, 20.0, 100.0, 100.0, np.nan], abs=1e-3, nan_ok=True)
    assert found.throttle_reasons == [
        [],
        ["sw_power_cap", "hw_thermal_slowdown"],
        ["hw_thermal_slowdown"],
        ["sw_power_cap", "hw_thermal_slowdown"],
        None,
    ]


def test_of_several_gpus_the_worst_one_counts() -> None:
    readings = {
        ("gpu:a", "gpu_throttle_mask"): series(60, lambda s: 0.0),
        ("gpu:b", "gpu_throttle_mask"): series(60, lambda s: np.where(s % 2 == 0, 0x08, 0.0), hz=1),
    }
    found = join(readings, spans((10, 20), gpus=("a", "b")))
    assert found.throttled_percent.tolist() == pytest.approx([50.0])
    assert found.throttle_reasons == [["hw_slowdown"]]


def test_swapping_in_and_out_adds_up_across_a_gap_too() -> None:
    readings = {
        ("host", "swap_in_bytes"): without(series(60, lambda s: 1e6 + 1000.0 * s), 20.0, 25.0),
        ("host", "swap_out_bytes"): series(60, lambda s: 500.0 * s),
    }
    assert join(readings, spans((10, 30))).swapped_bytes.tolist() == pytest.approx([30_000.0])
    del readings["host", "swap_out_bytes"]
    assert np.isnan(join(readings, spans((10, 30))).swapped_bytes).all()


def test_energies_are_valid_or_say_why_not() -> None:
    assert validity(
        [1.0, 1.0, 1.0, 1.0, 1.0, np.nan],
        [1.0, 1.0, 1.0, 0.5, 0.9, 1.0],
        [2.0, 0.5, 2.0, 2.0, 0.5, 2.0],
        [False, False, True, False, True, False],
    ) == ["valid", "short", "shared", "gaps", "short, shared, gaps", None]


def test_readings_that_come_in_any_order_and_twice_are_joined_alike() -> None:
    times, values = series(60.0, lambda s: 50.0 + 3.0 * s)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(times)), 2))
    one = join({(GPU, "gpu_power_w"): (times, values)}, spans((10, 20)))
    other = join({(GPU, "gpu_power_w"): (times[order], values[order])}, spans((10, 20)))
    assert other.gpu_power_j == one.gpu_power_j


def test_beats_that_costly_readings_take_at_a_high_rate_are_bridged() -> None:
    seconds = np.arange(60 * 50) / 50
    seconds = seconds[~np.isin(np.arange(len(seconds)) % 50, (1, 2, 26, 27))]  # 42 ms twice a second, for two GPUs
    power = (T0 + seconds, 100.0 + seconds)
    found = join({(GPU, "gpu_power_w"): power}, spans((10, 20)))
    assert found.gpu_power_coverage.tolist() == pytest.approx([1.0])
    assert found.gpu_power_j.tolist() == pytest.approx([1150.0])
    assert join({(GPU, "gpu_power_w"): without(power, 12.0, 12.3)}, spans((10, 20))).gpu_power_coverage[0] < 0.98


def test_a_short_program_that_was_not_seen_in_time_is_no_foreign_load() -> None:
    readings = cpu(90.0, worker=0.0)  # what the worker had started was looked for too late
    found = join(readings, spans((10, 10.9), (10, 10.9), cpu_s=[0.85, np.nan]))
    assert found.foreign_percent.tolist() == pytest.approx([5.0, 90.0])


def test_a_sum_of_seconds_that_falls_by_rounding_has_not_begun_anew() -> None:
    readings = cpu(80.0, worker=0.5)
    times, values = readings["harness", "system_cpu_s"]
    values = np.full_like(values, 1.4300000000000004)
    values[len(values) // 2 :] = 1.4300000000000002
    found = join({**readings, ("harness", "system_cpu_s"): (times, values)}, spans((28.0, 32.0)))
    assert found.foreign_percent[0] == pytest.approx(30.0, abs=0.5)
