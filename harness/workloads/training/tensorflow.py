"""The TensorFlow back end: a loop over batches as one program, compiled by XLA or run as a graph.

Which engine runs is a rule, not a timing: on a CPU, a model that draws random numbers, convolves or takes maxima of
windows runs as a graph, everything else under XLA. What an engine cannot compile falls to the next.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.domain.setting import ENGINES
from harness.workloads.training.engine import Block, Totals
from harness.workloads.training.feed import available_memory
from harness.workloads.training.losses import Objective
from harness.workloads.training.rates import QUEUED, ROWS, rates
from harness.workloads.training.reused import Network, Updater
from harness.workloads.training.tensorflow_flops import step_flops
from harness.workloads.training.tensorflow_log import Compilations

try:
    from tensorflow.python.framework import ops
except ImportError:  # it is not public; `_stable_names` can do without
    ops = None

Tensor = Any  # a tf.Tensor; TensorFlow ships no types

_CONVOLVES: Final = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
    *(keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D),
)
_POOLS: Final = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)

_compilations: Final = Compilations()
_traced: Counter[str] = Counter()  # how often a program of this signature was traced in this process


class TensorFlow:
    """A `harness.workloads.training.engine.Backend`. Programs update Keras's own variables in place."""

    name = "tensorflow"
    flops_source = "tensorflow"
    engines = ENGINES["tensorflow"]
    cannot_compile = (tf.errors.OpError, NotImplementedError)
    ran_out_of_memory = (tf.errors.ResourceExhaustedError,)

    def prepare_process(self) -> None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(self.threads())
            tf.config.threading.set_inter_op_parallelism_threads(int(os.environ.get("TF_NUM_INTEROP_THREADS", "1")))
        except RuntimeError:
            pass  # TensorFlow has started already: it keeps the sizes that it started with
        (tf.constant(1.0) + 1.0).numpy()
        gc.collect()
        gc.freeze()  # what the imports made need never be looked at again

    def threads(self) -> int:
        """Return the size of the thread pool that computes: as configured, as the environment says, or one a core."""
        configured = int(tf.config.threading.get_intra_op_parallelism_threads())
        if configured:
            return configured
        stated = os.environ.get("TF_NUM_INTRAOP_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
        if stated.isdigit() and int(stated) > 0:
            return int(stated)
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def versions(self) -> Mapping[str, str]:
        return {"tensorflow": tf.__version__}

    def free_bytes(self) -> int | None:
        gpus = tf.config.list_logical_devices("GPU")
        if not gpus:
            return available_memory()
        from tensorflow.python.client import device_lib

        limit = next(d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU")
        used = tf.config.experimental.get_memory_info(gpus[0].name)["current"]
        return int(limit) - int(used)

    def place(self, array: NDArray[Any]) -> Tensor:
        return tf.constant(array)

    def order(self, rows: NDArray[np.int32]) -> Tensor:
        return tf.constant(rows)

    def alone(self, tensor: Tensor) -> Tensor:
        return tensor

    def first_choice(self, network: Network) -> tuple[str, str | None]:
        slow = _slow_under_xla(network.model)
        if slow is not None and not tf.config.list_logical_devices("GPU"):
            return "graph", f"the model {slow}, which XLA is slow at on a CPU"
        return "xla", None

    def train_program(
        self,
        network: Network,
        updater: Updater,
        objective: Objective,
        batch: int,
        block: Block,
        engine: str,
        signature: str,
    ) -> _Program:
        optimizer, variables = updater.optimizer, network.model.trainable_variables

        def step(offset: Tensor, x: Tensor, y: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
            rows = tf.slice(order, [offset], [batch])
            x, y = tf.gather(x, rows), tf.gather(y, rows)
            with tf.GradientTape() as tape:
                outputs = network.outputs(x, training=True)
                loss = objective.total(y, outputs, network.model.losses)
                scaled = optimizer.scale_loss(loss)
            optimizer.apply(tape.gradient(scaled, variables), variables)
            return loss, objective.hits(y, outputs)

        jit = engine == "xla"
        return _Program(step, batch, (block.x, block.y, block.order), jit, f"train {jit} {batch} {signature}", True)

    def eval_program(
        self, network: Network, objective: Objective, batch: int, block: Block, signature: str
    ) -> _Program:
        """Compile evaluation, as a graph whatever the engine."""

        def step(offset: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            some_x = tf.slice(x, [offset] + [0] * (len(x.shape) - 1), [batch, *x.shape[1:]])
            some_y = tf.slice(y, [offset] + [0] * (len(y.shape) - 1), [batch, *y.shape[1:]])
            outputs = network.outputs(some_x, training=False)
            loss = objective.total(some_y, outputs, network.model.losses)
            return loss, objective.hits(some_y, outputs)

        return _Program(step, batch, (block.x, block.y), False, f"eval {batch} {signature}", False)

    def zero(self, loss: float = 0.0, hits: float = 0.0) -> Totals:
        return Totals(tf.constant(loss), tf.constant(hits))

    def read(self, totals: Totals) -> tuple[float, float]:
        return float(totals.loss.numpy()), float(totals.hits.numpy())

    def begin(self, network: Network, updater: Updater) -> None:
        pass

    def settle(self, network: Network, updater: Updater) -> None:
        pass

    def random_state(self) -> Mapping[str, NDArray[Any]]:
        """Nothing: Keras keeps its seeds as variables."""
        return {}

    def set_random_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        pass

    def compilations(self) -> int | None:
        return _compilations.count()

    def calibrate(self) -> Mapping[str, Any]:
        number = tf.constant(0.0)
        gpus = tf.config.list_logical_devices("GPU")
        return rates(lambda: (number + 1.0).numpy(), _products if gpus else None, self.cannot_compile)

    def drain(self) -> None:
        """Wait for GPUs; on a CPU a call returns when its work is done."""
        if tf.config.list_logical_devices("GPU"):
            tf.test.experimental.sync_devices()


BACKEND: Final = TensorFlow()


def _products() -> Callable[[], object]:
    matrix = tf.ones((ROWS, ROWS))

    def run() -> None:
        for _ in range(QUEUED):
            tf.matmul(matrix, matrix)
        tf.test.experimental.sync_devices()

    return run


class _Program:
    """A loop over batches: traced and compiled at birth, the latter by running no batch of it."""

    def __init__(
        self,
        step: Callable[..., tuple[Tensor, Tensor]],
        batch: int,
        block: tuple[Tensor, ...],
        jit: bool,
        signature: str,
        trains: bool,
    ) -> None:
        """`step` takes the offset and the `block`'s tensors, and returns a batch's mean loss and its hits."""
        self.step_s: float | None = None
        self._takes = len(block)

        def loop(offset: Tensor, count: Tensor, loss: Tensor, hits: Tensor, *block: Tensor) -> tuple[Tensor, Tensor]:
            def body(offset: Tensor, loss: Tensor, hits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                step_loss, step_hits = step(offset, *block)
                return offset + batch, loss + step_loss * batch, hits + step_hits

            stop = offset + count * batch
            _, loss, hits = tf.while_loop(
                lambda offset, loss, hits: offset < stop, body, (offset, loss, hits), parallel_iterations=1
            )
            return loss, hits

        scalars = [tf.TensorSpec((), tf.int32)] * 2 + [tf.TensorSpec((), tf.float32)] * 2
        shapes = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in block]
        function = tf.function(loop, jit_compile=jit or None, autograph=False)
        with _stable_names(signature):
            self._call = function.get_concrete_function(*scalars, *shapes)
        self.step_flops = step_flops(self._call.graph) if trains else None
        zero, nothing = tf.constant(0, tf.int32), tf.constant(0.0)
        with _compilations.expected() if jit else nullcontext():
            self._call(zero, zero, nothing, nothing, *block)[0].numpy()

    def __call__(self, block: Block, offset: int, count: int, totals: Totals) -> Totals:
        tensors = (block.x, block.y, block.order)[: self._takes]
        start, many = tf.constant(offset, tf.int32), tf.constant(count, tf.int32)
        return Totals(*self._call(start, many, totals.loss, totals.hits, *tensors))


def _slow_under_xla(model: keras.Model) -> str | None:
    """Return what a model does that XLA is slow at on a CPU, None where there is nothing such.

    Measured on one core against the same loop as a graph: dropout is 1.4 to 3 times slower under XLA, maximum
    pooling 2.4, convolutions 4 to 10, depthwise ones 30; dense and recurrent layers are 1.05 to 4 times faster.
    """
    for layer in model._flatten_layers():
        if layer._seed_generators:
            return "draws random numbers"
        if isinstance(layer, _CONVOLVES):
            return "convolves"
        if isinstance(layer, _POOLS):
            return "takes maxima of windows"
    return None


@contextmanager
def _stable_names(signature: str) -> Iterator[None]:
    """Let what is traced get the same names in every process.

    TensorFlow numbers functions as it makes them, and their names are part of the key of its cache of XLA programs,
    which the workers of a run share: without this a program would be found there only by a worker that built the
    same ones before it. Should TensorFlow number them otherwise some day, each worker compiles for itself.
    """
    if not hasattr(ops, "uid"):
        yield
        return
    _traced[signature] += 1  # the same again, built anew, must not get a name that is taken
    digest = hashlib.sha256(f"{signature} {_traced[signature]}".encode()).hexdigest()
    numbers = itertools.count(int(digest[:10], 16) << 20)
    numbered, ops.uid = ops.uid, lambda: next(numbers)
    try:
        yield
    finally:
        ops.uid = numbered
