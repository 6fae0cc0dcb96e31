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
from collections.abc import Callable, Iterator, Mapping
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
from harness.workloads.training.losses import Objective
from harness.workloads.training.rates import QUEUED, ROWS, rates
from harness.workloads.training.workload import Network, Updater

Tensor = Any  # a jax.Array
State = tuple[list[Tensor], list[Tensor], list[Tensor]]  # variables: trained, not trained, the optimizer's

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
    ) -> _TrainProgram:
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

        return _TrainProgram(self, step, batch, block, _values(network, updater), _slow_in_loop(network.model))

    def eval_program(
        self, network: Network, objective: Objective, batch: int, block: Block, signature: str
    ) -> _EvalProgram:
        devices = self.devices

        def step(trained: list[Tensor], fixed: list[Tensor], offset: Tensor, x: Tensor, y: Tensor) -> Any:
            x, y = (devices.split(lax.dynamic_slice_in_dim(one, offset, batch)) for one in (x, y))
            outputs, _, loss = _forward(network, objective, trained, fixed, x, y, training=False)
            return loss, objective.hits(y, outputs)

        return _EvalProgram(self, step, batch, block, _values(network))

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


class _Program:
    """A compiled loop over batches on the devices that each batch is split over."""

    def __init__(self, devices: OneDevice) -> None:
        self._devices = devices
        self._step_s: float | None = None

    @property
    def step_s(self) -> float | None:
        return self._step_s

    @step_s.setter
    def step_s(self, seconds: float) -> None:
        # A chunk is cut by it, and every process has to run the same ones.
        self._step_s = self._devices.agreed(seconds)

    def _compiled(
        self, function: Callable[..., Any], state: State, *block: Tensor, trains: bool = True
    ) -> tuple[Any, float | None]:
        """Compile a loop ahead, and count the operations of a batch where it trains.

        One that trains gives a new state, and takes over the memory of the one it is given.

        It is run for one batch, on a copy of the state that is then dropped: what XLA sets up when a program first
        runs, some 40 ms on a CPU, would otherwise be part of an epoch.

        Raises:
            MemoryError: where the device has too little memory for the program.
        """
        copy = jax.tree.map(self._devices.copied, state)
        arguments = (copy, np.int32(0), np.int32(1), np.float32(0), np.float32(0), *block)
        try:
            traced = jax.jit(function, donate_argnums=(0,) if trains else ()).trace(*arguments)
            lowered = traced.lower()
            call = lowered.compile()
            with self._devices.together():
                for value in jax.tree.leaves(call(*arguments)):
                    value.block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return call, _step_flops(traced, lowered) if trains else None


class _TrainProgram(_Program):
    """A loop of training steps, or, where `alone`, one step that is called again and again."""

    def __init__(
        self,
        backend: Jax,
        step: Callable[..., tuple[State, Tensor, Tensor]],
        batch: int,
        block: Block,
        state: State,
        alone: bool,
    ) -> None:
        super().__init__(backend.devices)
        self._backend, self._batch, self._alone = backend, batch, alone

        def train(
            state: State, offset: Tensor, count: Tensor, loss: Tensor, hits: Tensor, *block: Tensor
        ) -> tuple[State, Tensor, Tensor]:
            def body(number: Tensor, carried: tuple[State, Tensor, Tensor]) -> tuple[State, Tensor, Tensor]:
                state, loss, hits = carried
                state, batch_loss, batch_hits = step(state, offset + number * batch, *block)
                return state, loss + batch_loss * batch, hits + batch_hits

            return body(0, (state, loss, hits)) if alone else lax.fori_loop(0, count, body, (state, loss, hits))

        self._call, self.step_flops = self._compiled(train, state, block.x, block.y, block.order)

    def __call__(self, block: Block, offset: int, count: int, totals: Totals) -> Totals:
        state, loss, hits = self._backend.state, totals.loss, totals.hits
        calls, each = (count, 1) if self._alone else (1, count)
        with self._devices.together():
            for number in range(calls):
                start = np.int32(offset + number * self._batch)
                state, loss, hits = self._call(state, start, np.int32(each), loss, hits, block.x, block.y, block.order)
        self._backend.advance(state)
        return Totals(loss, hits)


class _EvalProgram(_Program):
    """A loop of evaluation steps."""

    def __init__(
        self, backend: Jax, step: Callable[..., tuple[Tensor, Tensor]], batch: int, block: Block, state: State
    ) -> None:
        super().__init__(backend.devices)
        self.step_flops: float | None = None
        self._backend = backend

        def evaluate(
            state: State, offset: Tensor, count: Tensor, loss: Tensor, hits: Tensor, x: Tensor, y: Tensor
        ) -> tuple[Tensor, Tensor]:
            trained, fixed, _ = state

            def body(number: Tensor, carried: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
                loss, hits = carried
                batch_loss, batch_hits = step(trained, fixed, offset + number * batch, x, y)
                return loss + batch_loss * batch, hits + batch_hits

            return lax.fori_loop(0, count, body, (loss, hits))  # type: ignore[no-any-return]

        self._call, _ = self._compiled(evaluate, state, block.x, block.y, trains=False)

    def __call__(self, block: Block, offset: int, count: int, totals: Totals) -> Totals:
        trained, fixed, _ = self._backend.state
        start, many = np.int32(offset), np.int32(count)
        with self._devices.together():
            return Totals(*self._call((trained, fixed, []), start, many, totals.loss, totals.hits, block.x, block.y))


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


def _step_flops(traced: Any, lowered: Any) -> float | None:
    """Return the operations of one batch; None where that cannot be told.

    XLA counts, before it compiles: afterwards a product may be a call into a library, which counts for nothing. Of a
    loop it counts the body once, as is wanted of the one over the batches. For loops within it, as those of recurrent
    layers, the matrix products of the further rounds are added.
    """
    with contextlib.suppress(Exception):  # an analysis that fails must not choose the engine: see `cannot_compile`
        counted = lowered.cost_analysis()
        if counted and "flops" in counted:
            return float(counted["flops"]) + _further_rounds(traced.jaxpr.jaxpr, 1, inner=False)
    return None


class _UncountableError(Exception):
    """What a loop computes, or how often it runs, is not known before the program runs."""


def _further_rounds(jaxpr: Any, rounds: int, *, inner: bool) -> float:
    """Return the operations of the matrix products in a function that runs so often, less those of its first run."""
    total = 0.0
    for equation in jaxpr.eqns:
        name, within = equation.primitive.name, rounds
        if name == "dot_general":
            left = equation.invars[0].aval.shape
            summed = np.prod([left[axis] for axis in equation.params["dimension_numbers"][0][0]])
            total += (rounds - 1) * 2.0 * float(summed) * equation.outvars[0].aval.size
        elif name == "conv_general_dilated" and rounds > 1:
            raise _UncountableError
        elif name == "scan":
            within = rounds * equation.params["length"]
        elif name == "while" and inner:
            within = 2 * rounds  # more than once: enough to see whether it holds products
        further = sum(_further_rounds(one, within, inner=inner or name == "while") for one in _functions(equation))
        if name == "while" and inner and further:
            raise _UncountableError
        total += further
    return total


def _functions(equation: Any) -> Iterator[Any]:
    """Yield the functions that an operation calls: bodies of loops, branches."""
    for value in equation.params.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            function = getattr(one, "jaxpr", one)
            if hasattr(function, "eqns"):
                yield function


def _slow_in_loop(model: keras.Model) -> bool:
    """Whether a model convolves on a CPU.

    In a loop's body XLA computes the gradients of convolutions by a slow general routine (10 to 15 times slower,
    measured on one core), outside of loops by a fast one. See https://github.com/jax-ml/jax/issues/12868.
    """
    return jax.default_backend() == "cpu" and any(hasattr(layer, "kernel_size") for layer in model._flatten_layers())
