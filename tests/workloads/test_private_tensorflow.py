"""That a TensorFlow whose private modules have moved costs what is counted by them, and no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib, json, sys
import keras

HIDDEN = ("eager.polymorphic_function.tracing_compilation", "framework.ops", "framework.tensor_util")
kept = {}
for name in HIDDEN:
    package, _, module = f"tensorflow.python.{name}".rpartition(".")
    parent = importlib.import_module(package)
    kept[name] = parent, module, getattr(parent, module), sys.modules[f"{package}.{module}"]
    delattr(parent, module)
    sys.modules[f"{package}.{module}"] = None
import harness.workloads.training.tensorflow
for name, (parent, module, attribute, imported) in kept.items():  # TensorFlow imports them itself, here and there
    setattr(parent, module, attribute)
    sys.modules[f"tensorflow.python.{name}"] = imported

import backend_worker
told = []
for engine in ("xla", "graph"):
    outcome, _ = backend_worker.run(backend_worker.a_trial(epochs=1, engine=engine))
    told.append([outcome.status, outcome.facts.engine, outcome.facts.step_flops, outcome.epochs[0].compilations])
print(json.dumps(told))
"""


def test_without_tensorflows_private_modules_trials_run_and_nothing_is_counted() -> None:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))),
    }
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == [
        ["completed", "xla", None, None],
        ["completed", "graph", None, None],
    ]
