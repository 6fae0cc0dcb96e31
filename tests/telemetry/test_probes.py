"""The contract that all probes keep, and what those of the host and of the workers read."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import processes
from harness.telemetry.cores import allowed_cpus
from harness.telemetry.host import HostProbe, WorkerProbe
from harness.telemetry.nvidia import NvidiaProbe
from harness.telemetry.probe import Probe

DEVICE = re.compile(r"host|cpu\d+|gpu:\S+|worker:.+")
METRIC = re.compile(r"[a-z0-9_]+_(percent|bytes|s|w|c|hz)|load1|threads")
PROBES: dict[str, Callable[[], Probe]] = {
    "host": HostProbe,
    "host without /sys": lambda: HostProbe(root=Path("/nowhere")),
    "workers": lambda: WorkerProbe({"0": os.getpid(), "gone": 2**22 + 1}),
    "nvidia": NvidiaProbe,
    "nvidia, a GPU that is not there": lambda: NvidiaProbe(["GPU-none"]),
}


@pytest.fixture
def napping() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("make", PROBES.values(), ids=PROBES.keys())
def test_a_probe_gives_finite_values_with_units_and_reasons_for_the_rest(make: Callable[[], Probe]) -> None:
    probe = make()
    for now in (0.0, 1.0, 2.0):
        for device, metric, value in probe.read(now):
            assert DEVICE.fullmatch(device)
            assert METRIC.fullmatch(metric)
            assert math.isfinite(value)
            assert {device, metric, f"{device}/{metric}"}.isdisjoint(probe.absent)
    for place, reason in probe.absent.items():
        assert DEVICE.match(place) or METRIC.fullmatch(place)
        assert reason
    probe.close()


def test_the_host_and_each_core_are_read_or_have_a_reason() -> None:
    probe = HostProbe()
    list(probe.read(0.0))
    time.sleep(0.2)
    read = {(device, metric): value for device, metric, value in probe.read(0.2)}
    for cpu in allowed_cpus():
        assert 0.0 <= read[f"cpu{cpu}", "cpu_percent"] <= 100.0
    assert 0.0 <= read["host", "cpu_percent"] <= 100.0
    assert 0.0 < read["host", "memory_used_bytes"] < psutil.virtual_memory().total
    assert read["host", "load1"] >= 0.0
    assert ("host", "swap_used_bytes") in read or probe.absent["swap_used_bytes"]


def test_a_busy_core_is_seen_as_busy() -> None:
    probe = HostProbe()
    list(probe.read(0.0))
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    (busy,) = (value for device, metric, value in probe.read(0.3) if (device, metric) == ("host", "cpu_percent"))
    assert busy >= 50.0 / (os.cpu_count() or 1)


def test_cpu_shares_wait_until_enough_ticks_have_passed() -> None:
    probe = HostProbe()
    seen = []
    for now in (0.0, 0.02, 0.08, 0.12, 0.14, 0.18):
        seen.append(any(metric == "cpu_percent" for _, metric, _ in probe.read(now)))
        time.sleep(0.03)  # for the kernel's own ticks
    assert seen == [False, False, False, True, False, False]


def test_frequencies_are_read_once_a_second_in_hertz(tmp_path: Path) -> None:
    file = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    file.parent.mkdir(parents=True)
    file.write_text("2400000\n")
    probe = HostProbe(cpus=[0], root=tmp_path)
    read = [
        [value for device, metric, value in probe.read(now) if (device, metric) == ("cpu0", "cpu_frequency_hz")]
        for now in (0.0, 0.2, 0.4, 1.0)
    ]
    assert read == [[2.4e9], [], [], [2.4e9]]
    file.write_text("?\n")
    assert [metric for _, metric, _ in probe.read(2.0)].count("cpu_frequency_hz") == 0
    assert "?" in probe.absent["cpu_frequency_hz"]


def test_a_container_that_hides_cores_leaves_the_machines_total(tmp_path: Path) -> None:
    online = tmp_path / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_text("0-1023\n")
    probe = HostProbe(cpus=[0], root=tmp_path)
    list(probe.read(0.0))
    time.sleep(0.05)
    assert {device for device, metric, _ in probe.read(0.2) if metric == "cpu_percent"} == {"host"}
    assert "a container hides some" in probe.absent["cpu0/cpu_percent"]


def test_a_worker_is_read_by_its_name_until_it_ends(napping: subprocess.Popen[bytes]) -> None:
    probe = WorkerProbe({"a": napping.pid})
    read = {metric: value for device, metric, value in probe.read(0.0) if device == "worker:a"}
    assert read.keys() == {"user_cpu_s", "system_cpu_s", "rss_bytes", "threads"}
    assert read["rss_bytes"] > 0
    assert read["threads"] == 1
    napping.kill()  # and not waited for: a zombie has no memory, which is not a memory of 0
    while psutil.Process(napping.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    assert list(probe.read(1.0)) == []
    assert probe.absent == {"worker:a": f"process {napping.pid} has ended"}


def test_a_worker_is_read_with_all_that_it_has_started() -> None:
    script = "sh -c 'sleep 60 & wait' & wait"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as worker:
        try:
            while len(processes.below(worker.pid)) < 2:
                time.sleep(0.005)
            read = {metric: value for _, metric, value in WorkerProbe({"a": worker.pid}).read(0.0)}
        finally:
            processes.end(worker.pid)
    assert read["threads"] == 3


def test_the_workers_that_are_read_can_change(napping: subprocess.Popen[bytes]) -> None:
    probe = WorkerProbe({"a": 2**22 + 1})
    assert probe.absent == {"worker:a": f"process {2**22 + 1} has ended"}
    probe.watch({"a": napping.pid, "b": os.getpid()})
    assert {device for device, _, _ in probe.read(0.0)} == {"worker:a", "worker:b"}
    assert probe.absent == {}
    probe.watch({"b": os.getpid()})
    assert {device for device, _, _ in probe.read(1.0)} == {"worker:b"}
