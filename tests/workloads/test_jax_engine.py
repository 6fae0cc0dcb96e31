"""What is JAX's own: threads, memory that calls hand on, loops of convolutions, what workers share on disk."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _installed(require: Callable[[object, str], None]) -> None:
    require(importlib.util.find_spec("jax"), "the back end jax is not installed")


def under_jax(script: str, *arguments: str, **variables: str) -> Any:
    """Return the JSON that a script prints in a process of its own."""
    fixed = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **fixed, **variables},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


FORKED = """
import json, os
from pathlib import Path
from jax._src import xla_bridge
from harness.measure import Body

body = Body()
body.preload("jax")
threads = sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
touched = bool(xla_bridge._backends)
reading, writing = os.pipe()
if os.fork() == 0:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from harness.workloads.training.jax import BACKEND
    BACKEND.prepare_process()
    os.write(writing, str(BACKEND.threads()).encode())
    os._exit(0)
os.wait()
print(json.dumps({"before": len(threads), "touched": touched, "worker": int(os.read(reading, 10))}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_importing_starts_no_thread_and_a_forked_worker_computes_on_its_own_cores() -> None:
    assert under_jax(FORKED) == {"before": 1, "touched": False, "worker": 1}


TRAINED = """
import json, logging, sys
import numpy as np

class Counting(logging.Handler):
    compiled = 0

    def emit(self, record):
        Counting.compiled += "cache miss for 'jit_train'" in record.getMessage().lower()

for name in ("jax._src.compiler", "jax._src.compilation_cache"):
    logging.getLogger(name).addHandler(Counting())
    logging.getLogger(name).setLevel(logging.DEBUG)

from harness import datasets
from harness.domain.handy import layer, mlp, optimizer, sequential
from harness.domain.setting import Dataset, Setting
from harness.domain.trial import Trial
from harness.workloads.protocol import Stopwatch
from harness.workloads.training.jax import BACKEND
from harness.workloads.training.workload import Training

data = Dataset(name="synthetic", args={"shape": [6, 6, 1], "classes": 3, "samples": 64, "test_samples": 30})
models = {
    "mlp": mlp(8, dropout=0.5),
    "convolution": sequential(
        layer("Conv2D", filters=3, kernel_size=3), layer("Flatten"), layer("Dense", units=3, activation="softmax")
    ),
}
training, found = Training(datasets.load, BACKEND), {}
for name, model in models.items():
    setting = Setting(dataset=data, model=model, optimizer=optimizer("adam"), batch_size=16, backend="jax")
    session = training.open(Trial(setting=setting, seed=0, repeat=0), {}, Stopwatch())
    session.before_epoch(1)
    losses = [session.train_epoch(1, lambda: None).train.loss]
    session.snapshot()  # Keras's variables get the values, and the next call must not take them away
    losses.append(session.train_epoch(2, lambda: None).train.loss)
    kept = [np.asarray(variable.value) for variable in training._networks.get(
        list(training._networks._values)[-1]).model.variables]
    found[name] = {"losses": losses, "reason": session.facts.engine_reason, "readable": len(kept) > 0}
print(json.dumps({"compiled": Counting.compiled, "found": found}))
"""


def test_what_one_process_compiled_another_reads_and_gets_the_same_bits(tmp_path: Path) -> None:
    shared = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    first, second = under_jax(TRAINED, **shared), under_jax(TRAINED, **shared)
    assert (first["compiled"], second["compiled"]) == (2, 0)
    assert second["found"] == first["found"]
    assert all(found["readable"] for found in first["found"].values())
    reasons = {name: found["reason"] for name, found in first["found"].items()}
    assert reasons["mlp"] is None
    assert "convolves" in reasons["convolution"]
