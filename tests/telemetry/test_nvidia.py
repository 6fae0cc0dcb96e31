"""GPUs through NVML: the real pynvml, in a new process, on a library that plays scripted GPUs (see fake_nvml.c)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

READ = """
import json, sys
from harness.telemetry.nvidia import NvidiaProbe
gpus, times = json.loads(sys.argv[1])
probe = NvidiaProbe(gpus)
samples = [{f"{device}/{metric}": value for device, metric, value in probe.read(0.0)} for _ in range(times)]
probe.close()
probe.close()
print(json.dumps([samples, probe.absent]))
"""
DESCRIBE = """
import json
from harness.telemetry.environment import describe_node
print(json.dumps({key: value for key, value in describe_node().items() if key.startswith("gpu_")}))
"""
METRICS = ["gpu_utilisation_percent", "gpu_memory_used_bytes", "gpu_power_w", "gpu_temperature_c", "gpu_sm_clock_hz"]


def in_new_process(script: str, *arguments: str, library: Path | None, **script_of_gpus: str) -> Any:
    environment = {**os.environ, **{f"FAKE_NVML_{name.upper()}": value for name, value in script_of_gpus.items()}}
    if library:
        environment["LD_LIBRARY_PATH"] = str(library)
    answer = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout)


def read(library: Path | None, *, gpus: list[str] | None = None, times: int = 1, **script: str) -> Any:
    """Return the samples, each {"gpu:<UUID>/metric": value}, and what is absent."""
    return in_new_process(READ, json.dumps([gpus, times]), library=library, **script)


def test_every_counter_of_every_gpu_is_read_in_base_units(scripted_nvml: Path) -> None:
    (sample,), absent = read(scripted_nvml)
    assert sample == {
        "gpu:GPU-0/gpu_utilisation_percent": 50.0,
        "gpu:GPU-0/gpu_memory_used_bytes": 1e9,
        "gpu:GPU-0/gpu_power_w": 100.0,
        "gpu:GPU-0/gpu_temperature_c": 60.0,
        "gpu:GPU-0/gpu_sm_clock_hz": 1.5e9,
        "gpu:GPU-1/gpu_utilisation_percent": 51.0,
        "gpu:GPU-1/gpu_memory_used_bytes": 2e9,
        "gpu:GPU-1/gpu_power_w": 200.0,
        "gpu:GPU-1/gpu_temperature_c": 61.0,
        "gpu:GPU-1/gpu_sm_clock_hz": 1.5e9,
    }
    assert absent == {}


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
    assert all(len(sample) == 9 and "gpu:GPU-1/gpu_power_w" not in sample for sample in samples)
    assert absent == {"gpu:GPU-1/gpu_power_w": reason}


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
    samples, absent = in_new_process(READ, json.dumps([None, 1]), library=scripted_nvml, gpus="0")
    assert samples == [{}]
    assert absent == dict.fromkeys(METRICS, "NVML is here but shows no GPU")


def test_a_node_names_its_gpus_and_their_driver(scripted_nvml: Path) -> None:
    assert in_new_process(DESCRIBE, library=scripted_nvml) == {
        "gpu_names": ["Scripted GPU", "Scripted GPU"],
        "gpu_uuids": ["GPU-0", "GPU-1"],
        "gpu_memory_bytes": [80_000_000_000, 80_000_000_000],
        "gpu_driver": "999.1",
    }


def test_a_node_that_was_looked_at_and_has_no_gpu_differs_from_one_that_cannot_be_looked_at(
    scripted_nvml: Path, tmp_path: Path
) -> None:
    looked = in_new_process(DESCRIBE, library=scripted_nvml, gpus="0")
    assert looked == {"gpu_names": [], "gpu_uuids": [], "gpu_memory_bytes": [], "gpu_driver": "999.1"}
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    assert set(in_new_process(DESCRIBE, library=tmp_path).values()) == {None}
