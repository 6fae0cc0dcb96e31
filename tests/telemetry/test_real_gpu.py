"""A real GPU, where NVML shows one: what the scripted GPUs promise holds on it. It is no part that can be installed, so
without one these tests are skipped everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.telemetry.energy import EnergyMeter
from harness.telemetry.nvidia import NvidiaProbe, describe_gpus, is_instance

SUITE = """
from harness import Setting, Suite, mlp, sgd

suite = Suite(
    name="real",
    base=Setting(
        dataset="mnist5k", model=mlp(1024, 1024), optimizer=sgd(0.01), batch_size=32, epochs=6,
        gpus=1, backend="{backend}",
    ),
)
"""
SEES_A_GPU = {
    "jax": "import jax, sys; sys.exit(jax.default_backend() != 'gpu')",
    "tensorflow": "import tensorflow as tf, sys; sys.exit(not tf.config.list_physical_devices('GPU'))",
}


@pytest.fixture(scope="module")
def gpu() -> str:
    """Return the UUID of the first whole GPU."""
    found = describe_gpus()
    if found is None:
        pytest.skip("NVML cannot be used here")
    whole = [gpu.uuid for gpu in found.devices if not is_instance(gpu.uuid)]
    if not whole:
        pytest.skip("NVML shows no GPU here, or MIG instances alone")
    return whole[0]


@pytest.fixture(scope="module")
def backend(gpu: str) -> str:
    """Return a back end that can compute on the GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name, script in SEES_A_GPU.items():
        if subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True).returncode == 0:
            return name
    pytest.skip("no back end installed here was built for GPUs")


@pytest.fixture
def busy(gpu: str, backend: str) -> Iterator[None]:
    """Keep the GPU computing."""
    script = {
        "jax": (
            "import jax, jax.numpy as jnp; a = jnp.ones((4096, 4096)); f = jax.jit(lambda x: x @ x / 4096)\n"
            "f(a).block_until_ready(); print('ready', flush=True)\n"
            "while True: f(a).block_until_ready()"
        ),
        "tensorflow": (
            "import tensorflow as tf; a = tf.ones((4096, 4096)); (a @ a).numpy(); print('ready', flush=True)\n"
            "while True: tf.reduce_sum(a @ a).numpy()"
        ),
    }[backend]
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    killer = threading.Timer(120.0, process.kill)
    killer.start()
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def test_a_real_gpu_gives_each_reading_or_a_reason(gpu: str) -> None:
    probe = NvidiaProbe([gpu])
    promised = set(probe._metrics[gpu])
    readings = {metric: value for _, metric, value in probe.read(0.0)}
    assert readings
    for metric in promised:
        assert (metric in readings) != (f"gpu:{gpu}/{metric}" in probe.absent)
    assert all(np.isfinite(value) and value >= 0.0 for value in readings.values())
    assert 1.0 < readings.get("gpu_power_w", 100.0) < 3000.0
    assert 1e8 < readings.get("gpu_sm_clock_hz", 1e9) < 1e10
    probe.close()


def test_a_real_energy_counter_rises_as_the_power_says_while_the_gpu_computes(gpu: str, busy: None) -> None:
    meter, probe = EnergyMeter(gpus=[gpu]), NvidiaProbe([gpu], metrics=["gpu_power_w"])
    time.sleep(1.5)  # power is a mean over the last second on some
    before, began = meter.read(), time.perf_counter()
    powers = []
    while time.perf_counter() < began + 2.0:
        powers += [value for _, _, value in probe.read(0.0)]
        time.sleep(0.1)
    energy, took_s = meter.between(before, meter.read()), time.perf_counter() - began
    if energy is None:
        pytest.skip(f"this GPU has no energy counter: {meter.absent}")
    assert energy.gpu_coverage == 1.0
    assert energy.gpu_j is not None
    assert energy.gpu_j > 0.0
    if powers:
        assert energy.gpu_j == pytest.approx(float(np.mean(powers)) * took_s, rel=0.5)
    meter.close()
    probe.close()


def test_a_real_trial_on_a_real_gpu_has_its_energy(gpu: str, backend: str, tmp_path: Path) -> None:
    (tmp_path / "suite.py").write_text(SUITE.format(backend=backend))
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "suite.py", "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (tmp_path / "results" / "real").iterdir()
    (trial,) = pd.read_parquet(results / "trials.parquet").to_dict("records")
    epochs, telemetry = (pd.read_parquet(results / f"{table}.parquet") for table in ("epochs", "telemetry"))
    assert list(trial["gpu_uuids"]) == [gpu]
    readings = telemetry[telemetry["device"] == f"gpu:{gpu}"]
    assert "gpu_utilisation_percent" in set(readings["metric"])
    if "gpu_energy_j" in set(readings["metric"]):
        assert trial["gpu_counter_j"] > 0.0
        assert trial["gpu_counter_coverage"] == 1.0
        assert epochs["gpu_counter_j"].sum() <= trial["gpu_counter_j"]
    assert trial["gpu_power_j"] > 0.0
