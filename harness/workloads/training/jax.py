"""The JAX back end: a loop over batches as one program, compiled by XLA ahead of its use.

The loop is a `jax.lax.fori_loop` with its length as an argument, not a `jax.lax.scan`: a scan becomes the same loop,
but its length is part of the program, and a chunk of another length would be another program.

Between `begin` and `settle` the values of Keras's variables live here, as arrays that one call of a program takes over
from the one before. Random numbers are JAX's default ones (Threefry), from the seeds that Keras keeps as variables.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp
from numpy.typing import NDArray

from harness.domain.setting import ENGINES
from harness.workloads.training.engine import Block, Totals
from harness.workloads.training.feed import available_memory
from harness.workloads.training.jax_devices import OneDevice, to_use
from harness.workloads.training.jax_loop import EvalProgram, State, Tensor, TrainProgram
from harness.workloads.training.losses import Objective
from harness.workloads.training.rates import QUEUED, ROWS, rates
from harness.workloads.training.reused import Network, Updater

_POOL_THREAD: Final = "tf_XLAEigen"  # what XLA calls the threads that compute on a CPU
_COMPILED: Final = "/jax/core/compile/backend_compile_duration"  # what JAX reports whenever XLA compiles or loads


class Jax:
    """See `harness.workloads.training.engine.Backend`."""

    name = "jax"
    flops_source = "xla"
    engines = ENGINES["jax"]  # those of one device
    cannot_compile = (
        jax.errors.JaxRuntimeError,
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
        NotImplementedError,
    )
    ran_out_of_memory = (MemoryError,)

    def __init__(self) -> None:
        self._state: State = ([], [], [])
        self._ahead = False  # whether a program has changed the state since Keras's variables last held it
        self._compilations = 0
        self.devices = OneDevice()
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def prepare_process(self) -> None:
        """Start XLA's client, whose thread pool is sized to the cores that the process may use."""
        self.devices = to_use()
        self.engines = self.devices.engines
        (jnp.zeros(()) + 1).block_until_ready()
        gc.collect()
        gc.freeze()  # what the imports made need never be looked at again

    def threads(self) -> int:
        jax.devices()
        found = 0
        for path in Path("/proc/self/task").glob("*/comm"):
            with contextlib.suppress(OSError):  # the thread has ended
                found += path.read_text().startswith(_POOL_THREAD)
        return found or int(os.environ.get("NPROC") or os.cpu_count() or 1)  # no /proc but on Linux

    def versions(self) -> Mapping[str, str]:
        return {"jax": jax.__version__}

    def free_bytes(self) -> int | None:
        memory = jax.local_devices()[0].memory_stats()  # None for a CPU
        if memory:
            return int(memory["bytes_limit"]) - int(memory["bytes_in_use"])
        available = available_memory()
        return None if available is None else available // self.devices.local  # each holds all

    def place(self, array: NDArray[Any]) -> Tensor:
        return self.devices.place(array)

    def order(self, rows: NDArray[np.int32]) -> Tensor:
        return self.devices.place(rows)

    def alone(self, tensor: Tensor) -> Tensor:
        return self.devices.alone(tensor)

    def first_choice(self, network: Network) -> tuple[str, str | None]:
        if _slow_in_loop(network.model):
            return "xla", "the model convolves, which XLA is slow at in a loop on a CPU: a call a batch"
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
    ) -> TrainProgram:
        optimizer, devices = updater.optimizer, self.devices

        def losses(trained: list[Tensor], fixed: list[Tensor], optimizing: list[Tensor], x: Tensor, y: Tensor) -> Any:
            outputs, fixed, loss = _forward(network, objective, trained, fixed, x, y, training=True)
            with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, optimizing, strict=True))):
                scaled = optimizer.scale_loss(loss)
            return scaled, (loss, objective.hits(y, outputs), fixed)

        def step(state: State, offset: Tensor, x: Tensor, y: Tensor, order: Tensor) -> tuple[State, Tensor, Tensor]:
            trained, fixed, optimizing = state
            rows = devices.split(lax.dynamic_slice_in_dim(order, offset, batch))
            x, y = jnp.take(x, rows, axis=0, mode="clip"), jnp.take(y, rows, axis=0, mode="clip")
            (_, (loss, hits, fixed)), gradients = jax.value_and_grad(losses, has_aux=True)(
                trained, fixed, optimizing, x, y
            )
            trained, optimizing = optimizer.stateless_apply(optimizing, gradients, trained)
            return devices.whole((trained, fixed, optimizing)), loss, hits

        return TrainProgram(self, step, batch, block, _values(network, updater), _slow_in_loop(network.model))

    def eval_program(
        self, network: Network, objective: Objective, batch: int, block: Block, signature: str
    ) -> EvalProgram:
        devices = self.devices

        def step(trained: list[Tensor], fixed: list[Tensor], offset: Tensor, x: Tensor, y: Tensor) -> Any:
            x, y = (devices.split(lax.dynamic_slice_in_dim(one, offset, batch)) for one in (x, y))
            outputs, _, loss = _forward(network, objective, trained, fixed, x, y, training=False)
            return loss, objective.hits(y, outputs)

        return EvalProgram(self, step, batch, block, _values(network))

    def zero(self, loss: float = 0.0, hits: float = 0.0) -> Totals:
        return Totals(self.devices.place(np.float32(loss)), self.devices.place(np.float32(hits)))

    def read(self, totals: Totals) -> tuple[float, float]:
        with self.devices.together():
            return float(totals.loss), float(totals.hits)

    def begin(self, network: Network, updater: Updater) -> None:
        self._state = jax.tree.map(self.devices.copied, _values(network, updater))  # programs take over what they get
        self._ahead = False

    def settle(self, network: Network, updater: Updater) -> None:
        if not self._ahead:
            return  # also where Keras's own loop trained
        for variables, values in zip(_variables(network, updater), self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(_copied(self.devices.alone(value)))  # the next call takes over the value itself
        self._ahead = False

    def random_state(self) -> Mapping[str, NDArray[Any]]:
        """Nothing: Keras keeps its seeds as variables."""
        return {}

    def set_random_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        pass

    def _hear(self, event: str, duration_s: float, **told: Any) -> None:
        self._compilations += event == _COMPILED

    def compilations(self) -> int | None:
        return self._compilations

    def calibrate(self) -> Mapping[str, Any]:
        increment, number = jax.jit(lambda value: value + 1), jnp.zeros(())
        on_gpu = jax.default_backend() != "cpu"
        return rates(
            lambda: increment(number).block_until_ready(),
            _products if on_gpu else None,
            (*self.cannot_compile, *self.ran_out_of_memory),
        )

    def drain(self) -> None:
        for value in jax.tree.leaves(self._state):
            value.block_until_ready()

    @property
    def state(self) -> State:
        """The values of the network and the optimizer in training."""
        return self._state

    def advance(self, state: State) -> None:
        """Put the values that a program has computed in the place of those it was given."""
        self._state = state
        self._ahead = True


BACKEND: Final = Jax()


def _products() -> Callable[[], object]:
    product, matrix = jax.jit(jnp.matmul), jnp.ones((ROWS, ROWS), jnp.float32)

    def run() -> None:
        for value in [product(matrix, matrix) for _ in range(QUEUED)]:
            value.block_until_ready()

    return run


def _variables(network: Network, updater: Updater | None) -> tuple[list[Any], list[Any], list[Any]]:
    model = network.model
    return (
        model.trainable_variables,
        model.non_trainable_variables,  # the seeds of random numbers among them
        [] if updater is None else updater.optimizer.variables,
    )


def _values(network: Network, updater: Updater | None = None) -> State:
    """Return the values of Keras's variables."""
    trained, fixed, optimizing = (
        [jnp.asarray(variable.value, dtype=variable.dtype) for variable in variables]
        for variables in _variables(network, updater)
    )
    return trained, fixed, optimizing


def _copied(value: Tensor) -> Tensor:
    """Return a copy on the same device; unlike `jnp.copy` it needs no program for each shape."""
    return jax.device_put(value, may_alias=False)


def _forward(
    network: Network,
    objective: Objective,
    trained: list[Tensor],
    fixed: list[Tensor],
    x: Tensor,
    y: Tensor,
    *,
    training: bool,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the outputs, the variables that are not trained as they are then, and the loss."""
    told = {"training": training} if network.model._call_has_training_arg else {}
    outputs, fixed, penalties = network.model.stateless_call(trained, fixed, x, return_losses=True, **told)
    return outputs, fixed, objective.total(y, outputs, penalties)


def _slow_in_loop(model: keras.Model) -> bool:
    """Whether a model convolves on a CPU.

    In a loop's body XLA computes the gradients of convolutions by a slow general routine (10 to 15 times slower,
    measured on one core), outside of loops by a fast one. See https://github.com/jax-ml/jax/issues/12868.
    """
    return jax.default_backend() == "cpu" and any(hasattr(layer, "kernel_size") for layer in model._flatten_layers())
