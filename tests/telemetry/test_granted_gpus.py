"""A node that keeps to the GPUs it was granted, whatever else NVML shows of the machine (scripted, see test_nvidia)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from telemetry.test_nvidia import DESCRIBE, READ, SHARES, in_new_process

from harness.telemetry.relevant import GRANTED_GPUS


@pytest.fixture
def grant(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda gpus: monkeypatch.setenv(GRANTED_GPUS, gpus)


def described(library: Path, **script: str) -> list[str]:
    return [device["uuid"] for device in in_new_process(DESCRIBE, library=library, **script)["devices"]]


def test_gpus_are_granted_by_number_or_by_uuid_and_keep_their_order(scripted_nvml: Path, grant: Any) -> None:
    for gpus, shown in {"1": ["GPU-1"], "GPU-3": ["GPU-3"], "2,GPU-0": ["GPU-2", "GPU-0"], "": []}.items():
        grant(gpus)
        assert described(scripted_nvml, gpus="4") == shown


def test_of_a_gpu_in_mig_mode_one_instance_can_be_granted_or_all(scripted_nvml: Path, grant: Any) -> None:
    grant("MIG-1-2")
    assert described(scripted_nvml, mig="1:3") == ["MIG-1-2"]
    grant("1")
    assert described(scripted_nvml, mig="1:2") == ["MIG-1-1", "MIG-1-2"]


def test_workers_get_the_granted_gpus_alone(scripted_nvml: Path, grant: Any) -> None:
    grant("1")
    assert in_new_process(SHARES, "1", library=scripted_nvml) == [["GPU-1"]]
    assert "shows (1)" in in_new_process(SHARES, "2", library=scripted_nvml)
    grant("")
    assert "shows (0)" in in_new_process(SHARES, "1", library=scripted_nvml)


def test_the_granted_gpus_alone_are_read_and_one_that_is_not_there_has_a_reason(
    scripted_nvml: Path, grant: Any
) -> None:
    grant("1,5")
    (sample,), absent = in_new_process(READ, json.dumps([None, [0]]), library=scripted_nvml)
    assert {place.partition("/")[0] for place in sample} == {"gpu:GPU-1"}
    assert absent == {"gpu:5": "granted to this job, and NVML does not show it"}
