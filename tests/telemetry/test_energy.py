"""The energy meter of a worker: on scripted GPUs, in a new process, and on a scripted powercap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pynvml
import pytest
from telemetry.powercap import Powercap

from harness.domain.outcome import Energy
from harness.telemetry import energy as module
from harness.telemetry.energy import EnergyMeter

METER = """
import dataclasses, json, os, sys, time
from pathlib import Path
from harness.telemetry.energy import EnergyMeter
gpus, events = json.loads(sys.argv[1])
meter = EnergyMeter(gpus=gpus, root=Path("/nowhere"))
spans = []
for event in events:
    began = time.monotonic()
    before = meter.read()
    started = time.monotonic()
    for name, value in event.items():
        (Path(os.environ["FAKE_NVML_FOLDER"]) / name).write_text(value)
    time.sleep(0.05)
    ended = time.monotonic()
    energy = meter.between(before, meter.read())
    spans.append([ended - started, time.monotonic() - began, energy and dataclasses.asdict(energy)])
meter.close()
meter.close()
print(json.dumps([spans, meter.absent]))
"""
PERIOD_S = 0.001


def metered(library: Path, uuids: list[str], *events: dict[str, str], **script: str) -> Any:
    """Return, for each event, [shortest, longest, energy] of a span, and what is absent; an event changes settings
    of the script within its span. The span was at least the shortest and at most the longest, in s."""
    settings = {"period": str(PERIOD_S), **script}
    environment = {f"FAKE_NVML_{name.upper()}": value for name, value in settings.items()}
    answer = subprocess.run(
        [sys.executable, "-c", METER, json.dumps([uuids, events])],
        env={**os.environ, **environment, "LD_LIBRARY_PATH": str(library)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(answer.stdout)


def used(shortest_s: float, longest_s: float, energy: dict[str, Any], *, watts: float) -> bool:
    """Whether the energy of a span is what this power makes of it, give or take a step of the counter."""
    return watts * (shortest_s - PERIOD_S) <= energy["gpu_j"] <= watts * (longest_s + PERIOD_S)


def test_the_counters_of_the_workers_gpus_are_added_up(scripted_nvml: Path) -> None:
    (span,), absent = metered(scripted_nvml, ["GPU-0", "GPU-2"], {}, gpus="4")
    assert used(*span, watts=100.0 + 300.0)
    assert span[2]["gpu_coverage"] == 1.0
    assert span[2]["cpu_j"] is None
    assert not any(place.startswith("gpu") for place in absent)


def test_a_counter_that_has_not_stepped_within_the_span_has_used_nothing(scripted_nvml: Path) -> None:
    ((_, _, energy),), _ = metered(scripted_nvml, ["GPU-0"], {}, period="1e6")
    assert (energy["gpu_j"], energy["gpu_coverage"]) == (0.0, 1.0)


def test_a_gpu_lost_in_the_middle_is_left_out_of_sum_and_coverage_from_then_on(
    scripted_nvml: Path, tmp_path: Path
) -> None:
    lost = {"LOST_AT": "1:0"}
    spans, absent = metered(scripted_nvml, ["GPU-0", "GPU-1"], {}, lost, {}, folder=str(tmp_path))
    assert [energy["gpu_coverage"] for _, _, energy in spans] == [1.0, 0.5, 0.5]
    assert used(*spans[0], watts=300.0)
    assert used(*spans[1], watts=100.0)
    assert used(*spans[2], watts=100.0)
    assert absent["gpu:GPU-1"].endswith("GPU is lost")


def test_where_all_gpus_are_lost_there_is_no_figure_and_no_coverage(scripted_nvml: Path, tmp_path: Path) -> None:
    spans, _ = metered(scripted_nvml, ["GPU-1"], {"LOST_AT": "1:0"}, {}, folder=str(tmp_path))
    assert [(energy["gpu_j"], energy["gpu_coverage"]) for _, _, energy in spans] == [(None, 0.0), (None, 0.0)]


def test_one_of_two_gpus_without_a_counter_halves_the_coverage(scripted_nvml: Path) -> None:
    fail = f"energy:{pynvml.NVML_ERROR_NOT_SUPPORTED}"
    ((_, _, energy),), absent = metered(scripted_nvml, ["GPU-0", "GPU-1"], {}, fail=fail)
    assert energy["gpu_coverage"] == 0.5
    assert absent["gpu:GPU-1/gpu_energy_j"] == "Not Supported"


def test_a_mig_instance_is_given_none_of_the_energy_of_its_gpu(scripted_nvml: Path) -> None:
    ((_, _, energy),), absent = metered(scripted_nvml, ["MIG-1-1"], {}, mig="1:2")
    assert energy is None
    assert "a MIG instance has none of its own" in absent["gpu:MIG-1-1/gpu_energy_j"]


@pytest.mark.parametrize(
    "script",
    [
        {"init": str(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)},
        {"gpus": "0"},
        {"fail": f"energy:{pynvml.NVML_ERROR_NO_PERMISSION}"},
    ],
)
def test_without_a_counter_there_is_no_energy_but_a_reason(scripted_nvml: Path, script: dict[str, str]) -> None:
    ((_, _, energy),), absent = metered(scripted_nvml, ["GPU-1"], {}, **script)
    assert energy is None
    assert any("gpu" in place for place in absent)


def test_without_nvml_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    ((_, _, energy),), absent = metered(tmp_path, ["GPU-0"], {})
    assert energy is None
    assert absent["gpu_energy_j"].startswith("NVML cannot be used")


def test_a_worker_without_a_gpu_does_not_load_nvml() -> None:
    script = (
        "import sys; from harness.telemetry.energy import EnergyMeter; EnergyMeter(cores=[0]).read();"
        "print('pynvml' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"


def test_only_the_packages_that_the_cores_are_on_count(powercap: Powercap) -> None:
    for package in (0, 1, 2):
        powercap.zone(f"intel-rapl:{package}", f"package-{package}", 0)
        powercap.core(package, package=package)
    powercap.zone("intel-rapl:0:0", "dram", 0)
    meter = EnergyMeter(cores=[0, 2], root=powercap.root)
    before = meter.read()
    for package in (0, 1, 2):
        powercap.set(f"intel-rapl:{package}", (package + 1) * 1_000_000)
    powercap.set("intel-rapl:0:0", 500_000)
    assert meter.between(before, meter.read()) == Energy(cpu_j=4.0, cpu_coverage=1.0)


def test_a_packages_counter_may_wrap_around_within_a_span(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 262_000_000_000)
    meter = EnergyMeter(cores=[0], root=powercap.root)
    before = meter.read()
    powercap.set("intel-rapl:0", 856_671_150)
    assert meter.between(before, meter.read()) == Energy(cpu_j=pytest.approx(1000.0), cpu_coverage=1.0)


def test_a_package_that_cannot_be_read_lowers_the_coverage(powercap: Powercap) -> None:
    for package in (0, 1):
        powercap.zone(f"intel-rapl:{package}", f"package-{package}", 0)
        powercap.core(package, package=package)
    (powercap.folder / "intel-rapl:1/energy_uj").unlink()
    meter = EnergyMeter(cores=[0, 1], root=powercap.root)
    before = meter.read()
    powercap.set("intel-rapl:0", 1_000_000)
    assert meter.between(before, meter.read()) == Energy(cpu_j=1.0, cpu_coverage=0.5)
    (powercap.folder / "intel-rapl:0/energy_uj").unlink()
    assert meter.between(before, meter.read()) == Energy(cpu_coverage=0.0)


def test_a_span_in_which_a_counter_may_have_wrapped_twice_has_no_figure_unless_the_meter_keeps_up(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])
    powercap.zone("intel-rapl:0", "package-0", 0, range_uj=60_000_000_000)  # 60 s at 1,000 W
    meter = EnergyMeter(cores=[0], root=powercap.root)

    def span(*, keep_up: bool) -> Energy | None:
        before = meter.read()
        for _ in range(12):
            now_s[0] += module._KEEP_UP_S + 1
            powercap.set("intel-rapl:0", int(now_s[0] * 900e6) % 60_000_000_000)
            if keep_up:
                meter.keep_up()
        return meter.between(before, meter.read())

    assert span(keep_up=False) == Energy(cpu_coverage=0.0)
    assert span(keep_up=True) == Energy(cpu_j=pytest.approx(12 * 11 * 900.0), cpu_coverage=1.0)


def test_with_nothing_to_read_there_is_no_energy(tmp_path: Path) -> None:
    meter = EnergyMeter(cores=[0], root=tmp_path)
    assert meter.read() == {}
    assert meter.between({}, {}) is None
    assert "energy_j" in meter.absent
