"""What is torch's own: what is written down as a loop, what falls back and why, and that nothing passes unverified.

In processes of their own, for a process has one back end of Keras's: one that forks, and one for all else, which
imports torch but once.
"""

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

Measured = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _installed(require: Callable[[object, str], None]) -> None:
    require(importlib.util.find_spec("torch"), "the back end torch is not installed")


@pytest.fixture(scope="module")
def measured(_installed: None) -> Measured:
    """What the scripts below found, by script."""
    first, last = "import json\nfrom backend_worker import *\nfound = {}\n", "print(json.dumps(found))\n"
    return dict(under_torch(first + ENGINES + FALLBACKS + BORN + last))


def under_torch(script: str, *arguments: str) -> Any:
    """Return the JSON that a script prints in a process of its own, where the tests' worker can be imported."""
    fixed = {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    fixed["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **fixed},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


FORKED = """
import json, os
from pathlib import Path
from harness.measure import Body

body = Body()
body.preload("torch")
threads = len(list(Path("/proc/self/task").iterdir()))
reading, writing = os.pipe()
if os.fork() == 0:
    from backend_worker import BACKEND, a_trial, run
    BACKEND.prepare_process()
    outcome, _ = run(a_trial())
    os.write(writing, f"{outcome.status} {BACKEND.threads()}".encode())
    os._exit(0)
os.wait()
print(json.dumps({"before": threads, "worker": os.read(reading, 100).decode()}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_importing_starts_no_thread_and_a_forked_worker_trains() -> None:
    assert under_torch(FORKED) == {"before": 1, "worker": "completed 1"}


ENGINES = """
ADAM_OF_THREE = optimizer("adam", learning_rate=0.01, gradient_accumulation_steps=3)
AVERAGED = optimizer("sgd", learning_rate=0.01, use_ema=True, ema_overwrite_frequency=3)
RESTARTING = learning_rate("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=3)
PIECEWISE = learning_rate("PiecewiseConstantDecay", boundaries=[3, 5], values=[0.1, 0.05, 0.01])
SEQUENCE = sequential(layer("Reshape", target_shape=[4, 3]), layer("LSTM", units=4), layer("Dense", units=3))
CASES = {
    **{name: {"optimizer": optimizer(name, learning_rate=0.01)} for name in
       ("adam", "adamw", "adamax", "nadam", "adadelta", "adagrad", "ftrl", "lion", "adafactor", "lamb", "muon")},
    "rmsprop": {"optimizer": optimizer("rmsprop", learning_rate=0.01, momentum=0.5, centered=True)},
    "amsgrad": {"optimizer": optimizer("adam", learning_rate=0.01, amsgrad=True, clipnorm=0.1)},
    "accumulated": {"optimizer": ADAM_OF_THREE, "batch_size": UNEVEN},
    "averaged": {"optimizer": AVERAGED},
    "restarts": {"optimizer": sgd(RESTARTING)},
    "piecewise": {"optimizer": sgd(PIECEWISE)},
    "float16": {"precision": "mixed_float16", "optimizer": ADAM, "batch_size": UNEVEN},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "dropout": {"model": NETWORKS["dropout"], "loss": LOGITS, "batch_size": UNEVEN},
    "recurrent": {"model": SEQUENCE, "loss": LOGITS, "batch_size": UNEVEN},
}
engines = found["engines"] = {}
for name, changes in CASES.items():
    runs = [run(a_trial(engine=engine, **changes)) for engine in ("graph", "eager")]
    (outcome, weights), (by_step, others) = runs
    engines[name] = {"engine": outcome.facts.engine, "reason": outcome.facts.engine_reason, "gap": gap(weights, others)}
"""


def test_the_loop_computes_what_keras_computes_step_by_step(measured: Measured) -> None:
    found = measured["engines"]
    assert {case: one["reason"] for case, one in found.items() if one["engine"] != "graph"} == {}
    assert {case: one["gap"] for case, one in found.items() if one["gap"] > 1e-5} == {}


FALLBACKS = """
import keras
import torch

class Layer(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.calls, self.buffer = 0, torch.zeros(())

class LooksAtValues(Layer):
    def call(self, x):
        return x * 2 if x.mean() > 0 else x

class TakesValuesOut(Layer):
    def call(self, x):
        return x * float(x.detach().numpy().mean())

class CountsInPython(Layer):
    def call(self, x):
        self.calls += 1
        return x * self.calls

class KeepsWhatKerasDoesNotKnow(Layer):
    def call(self, x):
        with torch.no_grad():
            self.buffer.add_(1.0)
        return x * self.buffer

class ChangesWithinABranch(Layer):
    def call(self, x):
        total = x * 1.0
        def yes():
            total.add_(1.0)
            return total
        return keras.ops.cond(keras.ops.mean(x) > 100, yes, lambda: total)

class BranchesAsKerasDoes(Layer):
    def call(self, x):
        return keras.ops.cond(keras.ops.mean(x) > 0, lambda: x * 2, lambda: x)

as_ever = network.build_model
fallbacks = found["fallbacks"] = {}
for made in (LooksAtValues, TakesValuesOut, CountsInPython, KeepsWhatKerasDoesNotKnow, ChangesWithinABranch,
             BranchesAsKerasDoes):
    def build(component, *, input_shape, outputs, sources):
        return keras.Sequential([keras.Input(input_shape), made(), keras.layers.Dense(outputs)])
    network.build_model = build
    outcome, _ = run(a_trial(loss=LOGITS))
    fallbacks[made.__name__] = [outcome.facts.engine, outcome.facts.engine_reason]
network.build_model = as_ever
"""


def test_what_cannot_be_written_down_runs_step_by_step_and_says_why(measured: Measured) -> None:
    found = measured["fallbacks"]
    assert found["BranchesAsKerasDoes"] == ["graph", None]
    others = {case: told for case, told in found.items() if case != "BranchesAsKerasDoes"}
    assert {engine for engine, _ in others.values()} == {"eager"}
    reasons = {case: reason.removeprefix("graph cannot compile it: ") for case, (_, reason) in others.items()}
    looks = "Python code of the step depends on a value that the step computes"
    assert reasons == {
        "LooksAtValues": looks,
        "TakesValuesOut": "Python code takes a tensor's values out of torch, by numpy()",
        "CountsInPython": "its operations, written down, compute something else than Keras's step",
        "KeepsWhatKerasDoesNotKnow": "the step changes a tensor that is none of Keras's variables",
        "ChangesWithinABranch": "a branch on a tensor changes another one that is none of Keras's variables",
    }


BORN = """
from harness.workloads.training import torch as engine

kept = {}
compiled = engine._Graph.__init__
def watched(self, step, state, *arguments, **named):
    before = [variable.value.detach().clone() for variable in state], torch.get_rng_state()
    compiled(self, step, state, *arguments, **named)
    kept.setdefault("same", []).append(
        all(torch.equal(old, variable.value) for old, variable in zip(before[0], state))
        and torch.equal(before[1], torch.get_rng_state())
    )
engine._Graph.__init__ = watched
run(a_trial(model=NETWORKS["batch normalisation"], loss=LOGITS, optimizer=ADAM, batch_size=UNEVEN))

from harness.workloads.training.torch_graph import nodes, simplify
operations = simplify._fuse
def wrong(graph):  # a mistake in what is written down
    for node in nodes.calls(graph):
        if node.target is torch.ops.aten.tanh.default:
            node.target = torch.ops.aten.sigmoid.default
    operations(graph)
simplify._fuse = wrong
outcome, _ = run(a_trial())
found["born"] = {**kept, "engine": outcome.facts.engine}
"""  # the last, as it leaves mistakes behind


def test_compiling_changes_nothing_and_lets_no_wrong_loop_pass(measured: Measured) -> None:
    found = measured["born"]
    assert set(found["same"]) == {True}
    assert found["engine"] == "eager"
