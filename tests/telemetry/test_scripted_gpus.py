"""From NVML's C interface to the Parquet columns: a real run on Ray, on GPUs that follow a script (fake_nvml.c).

Two workers have a GPU each, of four; the power of all rises. In its second epoch the trial on GPU-0 is throttled for
a while, and the one on GPU-1 loses its GPU half-way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.telemetry.cores import usable_cores

SUITE = '''
import os
import time
from pathlib import Path

from harness import Setting, Suite, function

EPOCH_S = 1.6


def script(name, text):
    """Change a setting of the scripted GPUs, in one go."""
    place = Path(os.environ["FAKE_NVML_FOLDER"], name)
    place.with_suffix(".new").write_text(text)
    place.with_suffix(".new").rename(place)


def train(trial, recorder):
    gpu = int(os.environ["CUDA_VISIBLE_DEVICES"].removeprefix("GPU-"))
    def since_start():
        return time.monotonic() - float(os.environ["FAKE_NVML_START"])

    time.sleep(0.6)  # a run's first trials may begin a little before its readings
    for epoch in recorder.epochs():
        before_s = since_start()
        with epoch.training():
            now_s = since_start()
            if epoch.number == 2 and gpu == 0:
                script("THROTTLED", f"0:{0x40 | 0x04}:{now_s + EPOCH_S / 4}:{now_s + EPOCH_S * 3 / 4}")
            if epoch.number == 2 and gpu == 1:
                script("LOST_AT", f"1:{now_s + EPOCH_S / 2}")
            time.sleep(EPOCH_S)
        epoch.report(samples=100, loss=1.0, before_s=before_s, after_s=since_start())


suite = Suite(
    name="scripted",
    base=Setting(workload=function(train), epochs=3, gpus=1),
    repeats=2,
)
'''
BASE_W, RISE_W, RISE_S = 150.0, 400.0, 240.0  # of GPU-0; GPU-1 uses twice as much
PERIOD_S = 0.005  # of the energy counter: at both edges of an epoch together up to 0.31 % of it
TOLERANCE = 0.005
QUICK = {
    "gpu_utilisation_percent", "gpu_memory_used_bytes", "gpu_power_w", "gpu_energy_j", "gpu_temperature_c",
    "gpu_sm_clock_hz", "gpu_memory_clock_hz", "gpu_throttle_mask",
}  # fmt: skip
COSTLY = {
    "gpu_pcie_received_bytes_per_s", "gpu_pcie_sent_bytes_per_s", "gpu_ecc_corrected", "gpu_ecc_uncorrected",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the run left; instants in seconds since the script's start."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    telemetry: pd.DataFrame
    nodes: pd.DataFrame
    sampling: str

    def trial_on(self, gpu: str) -> pd.Series:
        """Return the trial that ran on a GPU."""
        (index,) = [index for index, uuids in self.trials["gpu_uuids"].items() if list(uuids) == [gpu]]
        return self.trials.loc[index]

    def epoch_on(self, gpu: str, number: int) -> pd.Series:
        """Return an epoch of that trial."""
        rows = self.epochs[self.epochs["trial_id"] == self.trial_on(gpu)["trial_id"]].set_index("epoch")
        return rows.loc[number]

    def readings(self, gpu: str, metric: str) -> pd.Series:
        """Return what was read of a GPU, by instant."""
        rows = self.telemetry[(self.telemetry["device"] == f"gpu:{gpu}") & (self.telemetry["metric"] == metric)]
        return rows.set_index("time")["value"].sort_index()


@pytest.fixture(scope="module")
def run(scripted_nvml: Path, tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]) -> Run:
    require(usable_cores() >= 2, "two workers need two cores")
    folder = tmp_path_factory.mktemp("scripted")
    (folder / "script").mkdir()
    (folder / "suite.py").write_text(SUITE)
    start_s = time.monotonic()
    environment = {
        "LD_LIBRARY_PATH": str(scripted_nvml),
        "FAKE_NVML_FOLDER": str(folder / "script"),
        "FAKE_NVML_START": repr(start_s),
        "FAKE_NVML_GPUS": "4",
        "FAKE_NVML_RAMP": f"{BASE_W}:{RISE_W}:{RISE_S}",
        "FAKE_NVML_PERIOD": str(PERIOD_S),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "suite.py", "--no-calibrate"],
        cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, said
    to_script_s = time.time() - time.monotonic() + start_s
    (results,) = (folder / "results" / "scripted").iterdir()
    trials, epochs, telemetry, nodes = (
        pd.read_parquet(results / f"{table}.parquet") for table in ("trials", "epochs", "telemetry", "nodes")
    )
    for table, columns in ((epochs, ("started_at", "ended_at")), (telemetry, ("time",))):
        for column in columns:
            since = table[column] - pd.Timestamp(0, tz="UTC")
            table[column] = since.dt.total_seconds() - to_script_s
    document = json.loads((results / "run.json").read_text())
    return Run(
        trials=trials, epochs=epochs, telemetry=telemetry, nodes=nodes, sampling=json.dumps(document["sampling"])
    )


def scripted_j(gpu: int, start_s: float, end_s: float) -> float:
    """Return what the script lets a GPU use between two instants on its ramp."""
    assert 0.0 <= start_s < end_s <= RISE_S
    return (gpu + 1) * (BASE_W * (end_s - start_s) + RISE_W * (end_s**2 - start_s**2) / (2 * RISE_S))


CALM = [("GPU-0", 1), ("GPU-0", 2), ("GPU-0", 3), ("GPU-1", 1)]


@pytest.mark.parametrize(("gpu", "number"), CALM)
def test_the_counters_energy_of_an_epoch_is_that_of_the_script(run: Run, gpu: str, number: int) -> None:
    epoch = run.epoch_on(gpu, number)
    within_j = scripted_j(int(gpu[-1]), epoch["started_at"], epoch["ended_at"])
    told = dict(epoch["extra"])
    around_j = scripted_j(int(gpu[-1]), told["before_s"], told["after_s"])  # and the counter is read in between
    assert within_j * (1 - TOLERANCE) <= epoch["gpu_counter_j"] <= around_j * (1 + TOLERANCE)
    assert epoch["gpu_counter_coverage"] == 1.0


@pytest.mark.parametrize(("gpu", "number"), CALM)
def test_the_integrated_power_of_an_epoch_is_that_of_the_script(run: Run, gpu: str, number: int) -> None:
    epoch = run.epoch_on(gpu, number)
    start_s, end_s = epoch["started_at"], epoch["ended_at"]
    expected_j = scripted_j(int(gpu[-1]), start_s, end_s)
    assert epoch["gpu_power_j"] == pytest.approx(expected_j, rel=TOLERANCE)
    assert epoch["gpu_power_coverage"] == pytest.approx(1.0)


@pytest.mark.parametrize(("gpu", "number"), CALM)
def test_the_power_readings_themselves_integrate_to_the_script(run: Run, gpu: str, number: int) -> None:
    epoch = run.epoch_on(gpu, number)
    start_s, end_s = epoch["started_at"], epoch["ended_at"]
    power = run.readings(gpu, "gpu_power_w")
    within = power[(power.index > start_s) & (power.index < end_s)]
    times = np.array([start_s, *within.index, end_s])
    joules = np.trapezoid(np.interp(times, power.index, power), times)
    assert joules == pytest.approx(scripted_j(int(gpu[-1]), start_s, end_s), rel=TOLERANCE)


def test_the_energy_of_a_trial_contains_that_of_its_epochs(run: Run) -> None:
    trial = run.trial_on("GPU-0")
    epochs_j = sum(run.epoch_on("GPU-0", number)["gpu_counter_j"] for number in (1, 2, 3))
    assert epochs_j * (1 - TOLERANCE) <= trial["gpu_counter_j"]
    assert trial["gpu_counter_j"] <= scripted_j(0, 0.0, RISE_S)


def test_only_the_gpus_of_the_run_are_read_and_all_their_counters(run: Run) -> None:
    devices = {device for device in run.telemetry["device"] if device.startswith("gpu:")}
    assert devices == {"gpu:GPU-0", "gpu:GPU-1"}
    for device in devices:
        assert set(run.telemetry[run.telemetry["device"] == device]["metric"]) == QUICK | COSTLY


def test_the_values_are_those_that_nvml_told_in_base_units(run: Run) -> None:
    steady = {
        "gpu_utilisation_percent": 51.0,
        "gpu_memory_used_bytes": 2e9,
        "gpu_temperature_c": 61.0,
        "gpu_sm_clock_hz": 1.5e9,
        "gpu_memory_clock_hz": 2.6e9,
        "gpu_pcie_received_bytes_per_s": 4e6,
        "gpu_pcie_sent_bytes_per_s": 2e6,
        "gpu_ecc_corrected": 3.0,
        "gpu_ecc_uncorrected": 1.0,
    }
    for metric, value in steady.items():
        assert set(run.readings("GPU-1", metric)) == {value}
    energy = run.readings("GPU-0", "gpu_energy_j")
    for at_s, next_s, joules in zip(energy.index, energy.index[1:], energy, strict=False):
        # A sample is read after the instant that it is given, and before the next one, give or take a step.
        assert scripted_j(0, 0.0, at_s - 2 * PERIOD_S) <= joules <= scripted_j(0, 0.0, next_s + 2 * PERIOD_S)


def test_costly_counters_are_read_once_a_second_at_most(run: Run) -> None:
    quick, costly = run.readings("GPU-0", "gpu_power_w"), run.readings("GPU-0", "gpu_pcie_sent_bytes_per_s")
    assert len(costly) < len(quick) / 3
    assert np.diff(costly.index).min() > 0.9


def test_a_gpu_lost_in_the_middle_keeps_its_readings_and_has_a_reason(run: Run) -> None:
    epoch = run.epoch_on("GPU-1", 2)
    middle_s = (epoch["started_at"] + epoch["ended_at"]) / 2
    last_s = run.readings("GPU-1", "gpu_power_w").index[-1]
    assert epoch["started_at"] < last_s < middle_s + 0.2
    assert run.readings("GPU-0", "gpu_power_w").index[-1] > epoch["ended_at"]
    assert "lost while sampling: GPU is lost" in run.sampling
    assert list(run.trials["status"]) == ["completed", "completed"]


def test_a_gpu_lost_in_the_middle_leaves_no_counted_energy_rather_than_too_little(run: Run) -> None:
    for number in (2, 3):
        assert np.isnan(run.epoch_on("GPU-1", number)["gpu_counter_j"])
    assert np.isnan(run.trial_on("GPU-1")["gpu_counter_j"])
    assert run.epoch_on("GPU-1", 2)["gpu_power_coverage"] == pytest.approx(0.5, abs=0.25)
    assert not run.epoch_on("GPU-1", 3)["gpu_power_coverage"] > 0.0


def test_throttling_is_told_of_the_epoch_and_of_the_trial_that_had_it(run: Run) -> None:
    throttled = run.epoch_on("GPU-0", 2)
    assert set(throttled["throttle_reasons"]) == {"sw_power_cap", "hw_thermal_slowdown"}
    assert throttled["throttled_percent"] == pytest.approx(50.0, abs=25.0)  # a reading stands for an eighth
    assert "throttled" in throttled["warnings"]
    assert "throttled" in run.trial_on("GPU-0")["warnings"]
    for gpu, number in (("GPU-0", 1), ("GPU-1", 1)):
        calm = run.epoch_on(gpu, number)
        assert calm["throttled_percent"] == 0.0
        assert "throttled" not in calm["warnings"]
    assert "throttled" not in run.trial_on("GPU-1")["warnings"]


def test_the_node_is_described_with_all_its_gpus(run: Run) -> None:
    (node,) = run.nodes.to_dict("records")
    assert list(node["gpu_uuids"]) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    assert node["gpu_driver"] == "999.1"
    assert node["gpu_cuda"] == "12.4"
