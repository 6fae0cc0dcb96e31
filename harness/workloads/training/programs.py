"""Compiled programs: a loop over batches, for training and for evaluation, and the networks that they train.

A program works on a *block*: samples and labels on the device, and for training the order to take them in. It runs
`count` batches from sample `offset` on, both of them tensors, so one program serves a whole epoch, any chunk of it
and a single step alike, to the same bits; the last short batch of an epoch is one step of the program for its size.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

from harness.workloads.training.initial import Recipes

Tensor = Any  # a tf.Tensor; TensorFlow ships no types

ENGINES: Final = ("xla", "graph", "fit")  # each falls back to the next

_CONVOLVES: Final = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
    *(keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D),
)
_POOLS: Final = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)

_traced: Counter[str] = Counter()  # how often a program of this signature was traced in this process

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """The `limit` most recently used values by key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: _K, value: _V) -> _V:
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self._limit:
            self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        self._values.clear()


@dataclass(frozen=True, slots=True)
class Totals:
    """What a pass over samples adds up: the loss times the samples, and the samples classified correctly.

    On the device both are float32 tensors that go from program to program.
    """

    loss: Tensor
    hits: Tensor

    @classmethod
    def zero(cls) -> Totals:
        return cls(tf.constant(0.0), tf.constant(0.0))


@dataclass(kw_only=True)
class Objective:
    """What a network's output is compared with: Keras's loss and its "accuracy", for integer labels or numbers.

    `form` is how the labels meet the output: "labels" as they are, "one_hot", "column" (two classes, one output)
    or "numbers" (no classes, no accuracy).
    """

    loss: keras.losses.Loss
    form: str
    classes: int | None

    def targets(self, y: Tensor) -> Tensor:
        if self.form == "one_hot":
            return tf.one_hot(y, self.classes)
        if self.form == "column":
            return tf.cast(y[:, None], tf.float32)
        return y

    def hits(self, y: Tensor, outputs: Tensor) -> Tensor:
        """Return how many of the outputs are right, as Keras's "accuracy" counts them for this form."""
        if self.form == "numbers":
            return tf.constant(0.0)
        if self.form == "column":
            right = tf.equal(outputs[:, 0] > 0.5, y > 0)
        else:
            right = tf.equal(tf.argmax(outputs, axis=-1, output_type=tf.int32), y)
        return tf.reduce_sum(tf.cast(right, tf.float32))


@dataclass(kw_only=True)
class Updater:
    """An optimizer built for a network, and what its variables hold before the first step."""

    optimizer: keras.optimizers.Optimizer
    fresh: list[tuple[Any, Any]] = field(default_factory=list)  # variable, value

    @classmethod
    def build(cls, optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Updater:
        optimizer.build(model.trainable_variables)
        rate = getattr(optimizer, "_learning_rate", None)
        held = [variable for variable in optimizer.variables if variable is not rate]
        return cls(optimizer=optimizer, fresh=[(variable, _compact(variable.value)) for variable in held])

    def reset(self, learning_rate: float | None) -> None:
        """Forget all steps taken, and set the learning rate unless a schedule sets it."""
        for variable, value in self.fresh:
            variable.value.assign(np.full(variable.shape, value, variable.dtype) if np.ndim(value) == 0 else value)
        if learning_rate is not None:
            self.optimizer.learning_rate = learning_rate


def _compact(value: Tensor) -> Any:
    """Return a variable's value, as one number where all its elements are equal."""
    array = value.numpy()
    return array.reshape(-1)[0] if array.size and (array == array.reshape(-1)[0]).all() else array


@dataclass(kw_only=True)
class Program:
    """A compiled loop over batches; one that trains also takes the order. `step_s`: what a batch last took."""

    call: Callable[..., tuple[Tensor, Tensor, Tensor]]
    training: bool
    step_s: float | None = None


@dataclass(kw_only=True)
class Network:
    """A Keras model that many trials use in turn, with all that was compiled for it."""

    model: keras.Model
    recipes: Recipes
    objectives: dict[str, Objective] = field(default_factory=dict)
    updaters: Recent[str, Updater] = field(default_factory=lambda: Recent(16))
    programs: Recent[tuple[Any, ...], Program] = field(default_factory=lambda: Recent(32))
    unfit: dict[str, str] = field(default_factory=dict)  # engine → why it cannot run this model

    @property
    def slow_under_xla(self) -> str | None:
        """What the model does that XLA is slow at on a CPU, None where there is nothing such.

        Measured on one core against the same loop as a graph: dropout is 1.4 to 3 times slower under XLA, maximum
        pooling 2.4, convolutions 4 to 10, depthwise ones 30; dense and recurrent layers are 1.05 to 4 times faster.
        """
        for layer in self.model._flatten_layers():
            if layer._seed_generators:
                return "draws random numbers"
            if isinstance(layer, _CONVOLVES):
                return "convolves"
            if isinstance(layer, _POOLS):
                return "takes maxima of windows"
        return None

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)


def train_program(
    network: Network,
    updater: Updater,
    objective: Objective,
    batch: int,
    block: tuple[Tensor, Tensor, Tensor],
    jit: bool,
    signature: str,
) -> Program:
    """Compile training for batches of `batch` on blocks shaped as `block` (samples, labels, order).

    `signature` is a text that differs for all else that makes programs differ: model, loss, optimizer.

    Raises:
        tf.errors.OpError: for what XLA (`jit`) or TensorFlow cannot compile.
    """
    model, optimizer = network.model, updater.optimizer
    variables = model.trainable_variables

    def step(offset: Tensor, order: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows = tf.slice(order, [offset], [batch])
        x, y = tf.gather(x, rows), tf.gather(y, rows)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True) if model._call_has_training_arg else model(x)
            loss = _total_loss(model, objective, y, outputs)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss, objective.hits(y, outputs)

    def loop(
        offset: Tensor, count: Tensor, loss: Tensor, hits: Tensor, x: Tensor, y: Tensor, order: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        def body(offset: Tensor, loss: Tensor, hits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            step_loss, step_hits = step(offset, order, x, y)
            return offset + batch, loss + step_loss * batch, hits + step_hits

        return _repeat(body, offset, count, batch, loss, hits)

    return _compiled(loop, block, training=True, jit=jit, signature=f"train {jit} {batch} {signature}")


def eval_program(
    network: Network, objective: Objective, batch: int, block: tuple[Tensor, Tensor], signature: str
) -> Program:
    """Compile evaluation for batches of `batch` on blocks shaped as `block` (samples, labels), as a graph."""
    model = network.model

    def loop(
        offset: Tensor, count: Tensor, loss: Tensor, hits: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        def body(offset: Tensor, loss: Tensor, hits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            some_x = tf.slice(x, [offset] + [0] * (len(x.shape) - 1), [batch, *x.shape[1:]])
            some_y = tf.slice(y, [offset] + [0] * (len(y.shape) - 1), [batch, *y.shape[1:]])
            outputs = model(some_x, training=False) if model._call_has_training_arg else model(some_x)
            batch_loss = _total_loss(model, objective, some_y, outputs)
            return offset + batch, loss + batch_loss * batch, hits + objective.hits(some_y, outputs)

        return _repeat(body, offset, count, batch, loss, hits)

    return _compiled(loop, block, training=False, jit=False, signature=f"eval {batch} {signature}")


def run(
    program: Program,
    block: tuple[Tensor, ...],
    *,
    offset: int,
    count: int,
    totals: Totals,
    chunk_s: float | None,
    after_chunk: Callable[[], None],
) -> tuple[Totals, int]:
    """Run `count` batches from sample `offset` on; return the new totals and how many calls it took.

    The calls are cut so that each takes at most about `chunk_s`, by what a batch took before; None: a batch a call,
    none of them waited for. `after_chunk` is called once the device has done what it was asked.
    """
    position, loss, hits = tf.constant(offset, tf.int32), totals.loss, totals.hits
    if chunk_s is None:
        one = tf.constant(1, tf.int32)
        for _ in range(count):
            position, loss, hits = program.call(position, one, loss, hits, *block)
        loss.numpy()
        after_chunk()
        return Totals(loss, hits), count
    calls = 0
    while count > 0:
        size = 1 if program.step_s is None else max(1, min(count, int(chunk_s / program.step_s)))
        began = time.perf_counter()
        position, loss, hits = program.call(position, tf.constant(size, tf.int32), loss, hits, *block)
        loss.numpy()
        program.step_s = (time.perf_counter() - began) / size
        after_chunk()
        count -= size
        calls += 1
    return Totals(loss, hits), calls


def _total_loss(model: keras.Model, objective: Objective, y: Tensor, outputs: Tensor) -> Tensor:
    """Return the loss that Keras trains and reports: that of the outputs, and what layers and weights add to it."""
    loss = objective.loss(objective.targets(y), outputs)
    for penalty in model.losses:
        loss += tf.reduce_sum(penalty)
    return loss


def _repeat(
    body: Callable[..., tuple[Tensor, Tensor, Tensor]],
    offset: Tensor,
    count: Tensor,
    batch: int,
    loss: Tensor,
    hits: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    stop = offset + count * batch
    return tf.while_loop(  # type: ignore[no-any-return]
        lambda offset, loss, hits: offset < stop, body, (offset, loss, hits), parallel_iterations=1
    )


@contextmanager
def _stable_names(signature: str) -> Iterator[None]:
    """Let what is traced get the same names in every process.

    TensorFlow numbers functions as it makes them, and their names are part of the key of its cache of XLA programs,
    which the workers of a run share: without this a program would be found there only by a worker that built the
    same ones before it. Should TensorFlow number them otherwise some day, each worker compiles for itself.
    """
    _traced[signature] += 1  # the same again, built anew, must not get a name that is taken
    digest = hashlib.sha256(f"{signature} {_traced[signature]}".encode()).hexdigest()
    numbers = itertools.count(int(digest[:10], 16) << 20)
    numbered, ops.uid = ops.uid, lambda: next(numbers)
    try:
        yield
    finally:
        ops.uid = numbered


def _compiled(
    loop: Callable[..., Any], block: tuple[Tensor, ...], *, training: bool, jit: bool, signature: str
) -> Program:
    """Trace and compile a loop, the latter by running no batch of it."""
    scalars = [tf.TensorSpec((), tf.int32)] * 2 + [tf.TensorSpec((), tf.float32)] * 2
    shapes = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in block]
    function = tf.function(loop, jit_compile=jit or None, autograph=False)
    with _stable_names(signature):
        concrete = function.get_concrete_function(*scalars, *shapes)
    zero = tf.constant(0, tf.int32)
    totals = Totals.zero()
    concrete(zero, zero, totals.loss, totals.hits, *block)[1].numpy()
    return Program(call=concrete, training=training)
