"""What the cores can do: which columns there are, and that nothing but the calibration is lost where it fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from harness.record.schema import NODES
from harness.telemetry import calibrate, rates
from harness.telemetry.calibrate import calibrate_share

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
COLUMNS = {f"{who}_{what}" for who in ("core", "share") for what in ("flops_per_s", "bandwidth_bytes_per_s")}
FOREIGN = {"core_foreign_percent", "share_foreign_percent"}  # said of the calibration, and no column


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a measurement however busy the machine is."""
    monkeypatch.setattr(calibrate, "LIMIT_S", 120.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_LEAST_BYTES", 1 << 20)
    monkeypatch.setattr(calibrate, "_MOST_BYTES", 1 << 20)


@pytest.mark.usefixtures("quick")
def test_a_share_of_one_core_is_measured_once_and_told_as_both() -> None:
    found = calibrate_share(CORES[:1])
    assert set(NODES.names()) >= COLUMNS
    assert set(found) == COLUMNS | FOREIGN
    assert found["core_flops_per_s"] == found["share_flops_per_s"] > 1e6
    assert found["core_bandwidth_bytes_per_s"] == found["share_bandwidth_bytes_per_s"] > 1e6


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
def test_a_share_of_several_cores_is_measured_beside_one_of_them_alone() -> None:
    found = calibrate_share(CORES[:2])
    assert set(found) == COLUMNS | FOREIGN
    assert found["core_flops_per_s"] != found["share_flops_per_s"]


def test_a_share_without_cores_has_nothing_to_measure() -> None:
    assert calibrate_share([]) == {}


def test_what_lasts_too_long_or_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as short:
        short.setattr(calibrate, "LIMIT_S", 0.01)  # less than Python takes to start
        assert calibrate_share(CORES[:1]) == {}
    monkeypatch.setattr(sys, "executable", str(Path(os.devnull) / "python"))
    assert calibrate_share(CORES[:1]) == {}


def test_memory_that_is_short_makes_the_arrays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        available = 1000

    monkeypatch.setattr(calibrate.psutil, "virtual_memory", Short)
    assert set(calibrate_share(CORES[:1])) == COLUMNS | FOREIGN


def test_the_best_round_counts_and_the_first_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 12.0])
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    assert rates._best_s(lambda: runs.append(1)) == 2.0
    assert len(runs) == 3


def test_no_more_memory_is_asked_for_than_the_control_group_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def run(command: list[str], **options: object) -> None:
        asked.append(json.loads(command[-1])["size"])
        raise OSError

    monkeypatch.setattr(calibrate.subprocess, "run", run)
    for left, most in ((None, calibrate._MOST_BYTES), (40 << 20, 10 << 20), (-5, 0)):
        monkeypatch.setattr(calibrate, "memory_left_bytes", lambda left=left: left)
        assert calibrate_share(CORES[:1]) == {}
        assert asked[-1] <= most
    assert asked[1] == 10 << 20


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
def test_the_arrays_are_larger_than_all_caches_that_the_cores_have_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[int, int] = {}

    def run(command: list[str], **options: object) -> None:
        words = json.loads(command[-1])
        asked[len(words["cores"])] = words["size"]
        raise OSError

    class Roomy:
        available = 1 << 40

    monkeypatch.setattr(calibrate.subprocess, "run", run)
    monkeypatch.setattr(calibrate.psutil, "virtual_memory", Roomy)
    monkeypatch.setattr(calibrate, "memory_left_bytes", lambda: None)
    monkeypatch.setattr(calibrate, "last_level_caches", len)  # as if each core had one of its own
    for cache, size in ((1 << 20, 64 << 20), (32 << 20, 128 << 20), (1 << 30, 512 << 20)):
        monkeypatch.setattr(calibrate, "cache_bytes", lambda cache=cache: {"L3": cache})
        calibrate_share(CORES[:2])
        assert asked == {1: size, 2: 2 * size}


def test_what_others_disturbed_is_measured_again_and_the_least_disturbed_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = iter([80.0, 60.0, 70.0])

    def measured(cores: list[int], deadline: float) -> dict[str, float]:
        load = next(loads)
        return {"flops_per_s": 1e9 * load, "foreign_percent": load}

    monkeypatch.setattr(calibrate, "_measured", measured)
    found = calibrate_share([0])
    assert (found["share_flops_per_s"], found["share_foreign_percent"]) == (60e9, 60.0)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="there is no /proc/stat")
def test_the_load_of_others_is_what_this_process_did_not_do() -> None:
    assert rates._foreign_percent((0.0, 10.0, 1.0), (2.0, 13.0, 2.0), 2) == 50.0
    assert rates._foreign_percent((0.0, 10.0, 1.0), (2.0, 11.0, 3.0), 2) == 0.0
    assert rates._foreign_percent(None, (2.0, 11.0, 3.0), 2) is None
    assert rates._use([]) is not None
