"""One training over several virtual devices: the same weights as on one, the same draws, whole batches counted.

With batch normalisation and dropout, batches of 24, 24 and 16 samples, of which three devices cannot share the last,
and data that are streamed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.schedule.launch import Launch

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from backend_worker import ADAM, BACKEND, LOGITS, UNEVEN, a_trial, a_workload, run, scores
from harness.domain.handy import layer, metric, sequential

MODEL = sequential(
    layer("Dense", units=6, use_bias=False), layer("BatchNormalization"), layer("Dropout", rate=0.3),
    layer("Dense", units=3),
)

def trained(free_bytes=None):
    measured = {"batch_size": UNEVEN, "metrics": [metric("f1_score", average="macro")]}
    outcome, weights = run(a_trial(model=MODEL, loss=LOGITS, optimizer=ADAM, **measured), a_workload(free_bytes))
    extra = [value for epoch in outcome.epochs for value in epoch.extra.values()]
    return {
        "scores": [value for epoch in scores(outcome) for value in epoch] + extra,
        "weights": [float(value) for one in weights for value in one.reshape(-1)],
        "flops": outcome.facts.step_flops,
        "compilations": [epoch.compilations for epoch in outcome.epochs],
    }

one = trained()  # on the first of the devices
BACKEND.prepare_process()
print(json.dumps({"devices": BACKEND.devices.count, "one": one, "many": trained(free_bytes=1)}))
"""


def test_weights_after_training_on_three_devices_agree_with_those_of_one(
    require: Callable[[object, str], None],
) -> None:
    require(importlib.util.find_spec("jax"), "the back end jax is not installed")
    launch = Launch(name="0", body="-", backend="jax", cores=(0, 1), devices=3)
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)],
        env={**os.environ, **launch.environment()}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["devices"] == 3
    one, many = found["one"], found["many"]
    assert many["scores"] == pytest.approx(one["scores"], abs=1e-5)
    assert many["weights"] == pytest.approx(one["weights"], abs=1e-5)
    assert many["flops"] == pytest.approx(one["flops"], rel=0.01)
    assert many["compilations"] == [0, 0]


def test_the_variables_of_a_worker_with_several_devices_keep_those_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
    launch = Launch(name="0", body="-", backend="jax", cores=(0,), devices=2)
    assert launch.environment()["XLA_FLAGS"] == "--xla_dump_to=/nowhere --xla_force_host_platform_device_count=2"
    alone = Launch(name="0", body="-", backend="jax", cores=(0,))
    assert "XLA_FLAGS" not in alone.environment()
    on_gpus = Launch(name="0", body="-", backend="jax", cores=(0,), gpus=("GPU-a", "GPU-b"), devices=2)
    assert {"XLA_FLAGS", "HARNESS_DEVICES"} & on_gpus.environment().keys() == {"HARNESS_DEVICES"}
