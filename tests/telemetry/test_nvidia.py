"""GPUs through NVML: the real pynvml, in a new process, on a library that plays scripted GPUs (see fake_nvml.c)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pynvml
import pytest

from harness.telemetry.cores import shares, usable_cores
from harness.telemetry.throttling import THROTTLE_REASONS, THROTTLED, throttle_reasons

READ = """
import json, sys
from harness.telemetry.nvidia import NvidiaProbe
gpus, moments = json.loads(sys.argv[1])
probe = NvidiaProbe(gpus)
samples = [{f"{device}/{metric}": value for device, metric, value in probe.read(now)} for now in moments]
probe.close()
probe.close()
print(json.dumps([samples, probe.absent]))
"""
DESCRIBE = """
import dataclasses, json
from harness.telemetry.nvidia import describe_gpus
gpus = describe_gpus()
print(json.dumps(gpus and dataclasses.asdict(gpus)))
"""
PLACED = """
import json, sys
from harness.domain.errors import SetupError
from harness.schedule.shares import share_out
from harness.schedule.demand import Demand
try:
    asked = {"backend": "none", "cpus": 1, "exclusive": False, **json.loads(sys.argv[1])}
    launches = share_out(Demand(**asked), body="")
    print(json.dumps([[list(launch.cores), list(launch.gpus)] for launch in launches]))
except SetupError as error:
    print(json.dumps(str(error)))
"""
SHARES = """
import json, sys
from harness.domain.errors import SetupError
from harness.schedule.shares import share_out
from harness.schedule.demand import Demand
try:
    launches = share_out(Demand(backend="none", cpus=1, gpus=float(sys.argv[1]), exclusive=False), body="")
    print(json.dumps([list(launch.gpus) for launch in launches]))
except SetupError as error:
    print(json.dumps(str(error)))
"""
STEADY = {  # metric: value on GPU-0, in base units
    "gpu_utilisation_percent": 50.0,
    "gpu_memory_used_bytes": 1e9,
    "gpu_power_w": 100.0,
    "gpu_temperature_c": 60.0,
    "gpu_sm_clock_hz": 1.5e9,
    "gpu_memory_clock_hz": 2.6e9,
    "gpu_throttle_mask": 0.0,
}
COSTLY = {
    "gpu_pcie_received_bytes_per_s": 2e6,
    "gpu_pcie_sent_bytes_per_s": 1e6,
    "gpu_ecc_corrected": 3.0,
    "gpu_ecc_uncorrected": 1.0,
}
METRICS = [*STEADY, *COSTLY, "gpu_energy_j"]


def in_new_process(script: str, *arguments: str, library: Path | None, **script_of_gpus: str) -> Any:
    environment = {**os.environ, **{f"FAKE_NVML_{name.upper()}": value for name, value in script_of_gpus.items()}}
    if library:
        environment["LD_LIBRARY_PATH"] = str(library)
    answer = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout)


def read(library: Path | None, *, gpus: list[str] | None = None, times: int = 1, **script: str) -> Any:
    """Return the samples, one a second, each {"gpu:<UUID>/metric": value}, and what is absent."""
    return in_new_process(READ, json.dumps([gpus, list(range(times))]), library=library, **script)


def test_every_counter_of_a_gpu_is_read_in_base_units(scripted_nvml: Path) -> None:
    before_s = time.monotonic()
    (sample,), absent = read(scripted_nvml, gpus=["GPU-0"])
    energy_j = sample.pop("gpu:GPU-0/gpu_energy_j")
    assert sample == {f"gpu:GPU-0/{metric}": value for metric, value in {**STEADY, **COSTLY}.items()}
    assert 100.0 * (before_s - 0.02) <= energy_j <= 100.0 * time.monotonic()
    assert absent == {}


def test_without_a_list_all_gpus_are_read(scripted_nvml: Path) -> None:
    (sample,), absent = read(scripted_nvml)
    assert sample["gpu:GPU-0/gpu_utilisation_percent"] == 50.0
    assert sample["gpu:GPU-1/gpu_utilisation_percent"] == 51.0
    assert absent == {}


@pytest.mark.parametrize("lost", ["7:0", "1:12"], ids=["all there", "one of the two lost after 2.4 s"])
def test_costly_counters_are_read_of_one_gpu_at_a_time_and_of_each_once_a_second_at_most(
    scripted_nvml: Path, lost: str
) -> None:
    moments = [beat / 5 for beat in range(24)]
    samples, _ = in_new_process(READ, json.dumps([None, moments]), library=scripted_nvml, lost=lost)
    for metric in COSTLY:
        read_at = {
            gpu: [now for now, sample in zip(moments, samples, strict=True) if f"gpu:GPU-{gpu}/{metric}" in sample]
            for gpu in (0, 1)
        }
        assert set(read_at[0]).isdisjoint(read_at[1])
        assert 4 <= len(read_at[0]) <= 5
        assert len(read_at[1]) >= 2
        assert all(later - earlier > 0.9 for times in read_at.values() for earlier, later in pairwise(times))


def test_only_the_gpus_asked_for_are_read_and_one_that_is_not_there_has_a_reason(scripted_nvml: Path) -> None:
    (sample,), absent = read(scripted_nvml, gpus=["GPU-1", "GPU-7"])
    assert {place.partition("/")[0] for place in sample} == {"gpu:GPU-1"}
    assert absent == {"gpu:GPU-7": "NVML gives no access to it: Not Found"}


def test_a_gpu_lost_in_the_middle_keeps_its_readings_and_leaves_the_other_alone(scripted_nvml: Path) -> None:
    samples, absent = read(scripted_nvml, times=5, lost="1:3")
    assert [sample.get("gpu:GPU-1/gpu_power_w") for sample in samples] == [200.0, 201.0, 202.0, None, None]
    assert [sample.get("gpu:GPU-0/gpu_power_w") for sample in samples] == [100.0, 101.0, 102.0, 103.0, 104.0]
    assert absent == {"gpu:GPU-1": "lost while sampling: GPU is lost"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_NOT_SUPPORTED, "Not Supported"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
        (12345, "scripted error 12345"),
    ],
)
def test_one_counter_that_fails_is_absent_with_nvmls_reason_and_the_rest_is_read(
    scripted_nvml: Path, code: int, reason: str
) -> None:
    samples, absent = read(scripted_nvml, times=2, fail=f"power:{code}")
    assert all(
        sample.keys() >= {f"gpu:GPU-1/{metric}" for metric in STEADY if metric != "gpu_power_w"} for sample in samples
    )
    assert not any("gpu:GPU-1/gpu_power_w" in sample for sample in samples)
    assert absent == {"gpu:GPU-1/gpu_power_w": reason}


@pytest.mark.parametrize(
    ("counter", "metrics"),
    [
        ("energy", {"gpu_energy_j"}),
        ("memoryclock", {"gpu_memory_clock_hz"}),
        ("throttle", {"gpu_throttle_mask"}),
        ("pcie", {"gpu_pcie_received_bytes_per_s", "gpu_pcie_sent_bytes_per_s"}),
        ("ecc", {"gpu_ecc_corrected", "gpu_ecc_uncorrected"}),
    ],
)
def test_each_counter_can_be_forbidden_by_itself(scripted_nvml: Path, counter: str, metrics: set[str]) -> None:
    script = {"fail": f"{counter}:{pynvml.NVML_ERROR_NO_PERMISSION}"}
    (sample,), absent = read(scripted_nvml, gpus=["GPU-1"], **script)
    assert {place.partition("/")[2] for place in sample} == set(METRICS) - metrics
    assert absent == {f"gpu:GPU-1/{metric}": "Insufficient Permissions" for metric in metrics}


def test_throttling_is_seen_while_it_lasts(scripted_nvml: Path) -> None:
    now = time.monotonic()
    (sample,), _ = read(scripted_nvml, throttled=f"1:{0x40 | 0x08}:{now - 1}:{now + 60}")
    assert throttle_reasons(int(sample["gpu:GPU-1/gpu_throttle_mask"])) == ["hw_slowdown", "hw_thermal_slowdown"]
    assert sample["gpu:GPU-0/gpu_throttle_mask"] == 0.0
    (sample,), _ = read(scripted_nvml, throttled=f"1:{0x40 | 0x08}:{now - 2}:{now - 1}")
    assert sample["gpu:GPU-1/gpu_throttle_mask"] == 0.0


def test_a_driver_of_old_tells_its_throttling_under_the_older_name(scripted_nvml: Path) -> None:
    now = time.monotonic()
    (sample,), absent = read(scripted_nvml, throttled=f"1:4:{now - 1}:{now + 60}", old="1")
    assert throttle_reasons(int(sample["gpu:GPU-1/gpu_throttle_mask"])) == ["sw_power_cap"]
    assert absent == {}


def test_the_bits_of_the_mask_are_those_of_nvml() -> None:
    named = {
        getattr(pynvml, "nvmlClocksEventReason" + name.title().replace("_", "")): name
        for name in THROTTLE_REASONS.values()
    }
    assert named == THROTTLE_REASONS
    harmless = (
        pynvml.nvmlClocksEventReasonGpuIdle
        | pynvml.nvmlClocksEventReasonApplicationsClocksSetting
        | pynvml.nvmlClocksEventReasonDisplayClockSetting
    )
    assert throttle_reasons(harmless) == []
    assert not harmless & THROTTLED


def test_of_a_mig_instance_the_memory_is_read_and_nothing_of_the_whole_gpu_is_taken_for_its_own(
    scripted_nvml: Path,
) -> None:
    (sample,), absent = read(scripted_nvml, gpus=["MIG-1-2"], mig="1:3")
    assert sample == {"gpu:MIG-1-2/gpu_memory_used_bytes": 2e8}
    assert absent.keys() == {f"gpu:MIG-1-2/{metric}" for metric in METRICS if metric != "gpu_memory_used_bytes"}
    assert {"a MIG instance has none of its own" in reason for reason in absent.values()} == {True}


def test_a_gpu_in_mig_mode_is_given_out_by_its_instances(scripted_nvml: Path) -> None:
    whole, *instances = in_new_process(DESCRIBE, library=scripted_nvml, mig="1:2")["devices"]
    assert whole["uuid"] == "GPU-0"
    instance = {"name": "Scripted GPU MIG 1g.10gb", "memory_bytes": 10_000_000_000, "near": None}
    assert instances == [{"uuid": "MIG-1-1", **instance}, {"uuid": "MIG-1-2", **instance}]
    script = {"gpus": "1", "mig": "0:3"}
    assert in_new_process(SHARES, "1", library=scripted_nvml, **script)[0] == ["MIG-0-1"]


def test_a_worker_is_never_given_two_mig_instances_of_which_it_could_use_one(scripted_nvml: Path) -> None:
    script = {"gpus": "3", "mig": "0:3"}
    assert in_new_process(SHARES, "2", library=scripted_nvml, **script) == [["GPU-1", "GPU-2"]]
    refused = in_new_process(SHARES, "3", library=scripted_nvml, **script)
    assert refused.startswith("gpus=3 asks for more GPUs than this node shows (2, MIG instances left aside")


def test_a_gpu_in_mig_mode_without_instances_gives_nothing_and_says_why(scripted_nvml: Path) -> None:
    (only,) = in_new_process(DESCRIBE, library=scripted_nvml, mig="1:0")["devices"]
    assert only["uuid"] == "GPU-0"
    _, absent = read(scripted_nvml, mig="1:0")
    assert absent == {"gpu:GPU-1": "in MIG mode without an instance; nvidia-smi mig -cgi PROFILE -C makes one"}


def test_a_gpu_that_knows_no_mig_is_a_whole_one(scripted_nvml: Path) -> None:
    script = {"fail": f"mig:{pynvml.NVML_ERROR_NOT_SUPPORTED}"}
    devices = in_new_process(DESCRIBE, library=scripted_nvml, **script)["devices"]
    assert [device["uuid"] for device in devices] == ["GPU-0", "GPU-1"]


def test_without_an_nvml_library_all_gpu_counters_are_absent_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")  # found first, so that this holds on a machine with GPUs
    samples, absent = read(tmp_path)
    assert samples == [{}]
    assert absent == dict.fromkeys(METRICS, "NVML cannot be used: NVML Shared Library Not Found")


def test_nvml_without_a_driver_says_so(scripted_nvml: Path) -> None:
    samples, absent = read(scripted_nvml, init=str(pynvml.NVML_ERROR_DRIVER_NOT_LOADED))
    assert samples == [{}]
    assert absent == dict.fromkeys(METRICS, "NVML cannot be used: Driver Not Loaded")


def test_nvml_without_a_device_says_so(scripted_nvml: Path) -> None:
    samples, absent = in_new_process(READ, json.dumps([None, [0]]), library=scripted_nvml, gpus="0")
    assert samples == [{}]
    assert absent == dict.fromkeys(METRICS, "NVML is here but shows no GPU")


def test_a_node_names_its_gpus_and_their_driver(scripted_nvml: Path) -> None:
    whole = {"name": "Scripted GPU", "memory_bytes": 80_000_000_000, "near": None}
    assert in_new_process(DESCRIBE, library=scripted_nvml) == {
        "devices": [{"uuid": "GPU-0", **whole}, {"uuid": "GPU-1", **whole}],
        "driver": "999.1",
        "cuda": "12.4",
    }


def test_a_node_that_was_looked_at_and_has_no_gpu_differs_from_one_that_cannot_be_looked_at(
    scripted_nvml: Path, tmp_path: Path
) -> None:
    looked = in_new_process(DESCRIBE, library=scripted_nvml, gpus="0")
    assert looked == {"devices": [], "driver": "999.1", "cuda": "12.4"}
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    assert in_new_process(DESCRIBE, library=tmp_path) is None


def placed(library: Path, *, script: dict[str, str], **demand: Any) -> Any:
    """Return the cores and the GPUs of each share that this machine is cut into."""
    return in_new_process(PLACED, json.dumps(demand), library=library, **script)


def test_a_worker_with_a_gpu_has_cores_near_it(scripted_nvml: Path, require: Callable[[bool, str], None]) -> None:
    require(usable_cores() >= 2, "two workers need two cores")
    first, second = (share[0] for share in shares(1)[:2])
    crossed = {"near": f"{second},{first}"}
    assert placed(scripted_nvml, script=crossed, gpus=1) == [[[second], ["GPU-0"]], [[first], ["GPU-1"]]]
    instances = placed(scripted_nvml, script={**crossed, "mig": "0:1"}, gpus=1)
    assert instances == [[[second], ["MIG-0-1"]], [[first], ["GPU-1"]]]
    assert placed(scripted_nvml, script=crossed, gpus=2, cpus=2)[0][1] == ["GPU-0", "GPU-1"]
    near_none = placed(scripted_nvml, script={"near": "4000,4000"}, gpus=1)[:2]
    assert near_none == [[[first], ["GPU-0"]], [[second], ["GPU-1"]]]


def test_packed_workers_fill_every_gpu_once_before_any_twice(scripted_nvml: Path) -> None:
    core = shares(1)[0][0]
    packed = placed(scripted_nvml, script={"near": f"{core},4000"}, gpus=0.5)
    assert [gpus for _, gpus in packed[:2]] == [["GPU-0"], ["GPU-1"]][: len(packed)]
    unpinned = placed(scripted_nvml, script={}, gpus=0.25, cpus=0.125)
    assert unpinned == [[[], [f"GPU-{number % 2}"]] for number in range(8)]


def test_only_the_gpus_of_the_kind_that_is_asked_for_are_given_out(scripted_nvml: Path) -> None:
    mixed = {"mig": "1:2"}
    instances = placed(scripted_nvml, script=mixed, gpus=1, cpus=0.25, accelerator="1g.10gb")
    assert [gpus for _, gpus in instances] == [["MIG-1-1"], ["MIG-1-2"]]
    every = placed(scripted_nvml, script=mixed, gpus=1, cpus=0.25, accelerator="what Ray calls it")
    assert [gpus for _, gpus in every] == [["GPU-0"], ["MIG-1-1"], ["MIG-1-2"]]
