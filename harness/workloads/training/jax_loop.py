"""A loop over batches as a program of XLA's, compiled ahead of its use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import lax

from harness.workloads.training.engine import Block, Totals
from harness.workloads.training.jax_devices import OneDevice
from harness.workloads.training.jax_flops import step_flops

if TYPE_CHECKING:
    from harness.workloads.training.jax import Jax

Tensor = Any  # a jax.Array
State = tuple[list[Tensor], list[Tensor], list[Tensor]]  # variables: trained, not trained, the optimizer's


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
        return call, step_flops(traced, lowered) if trains else None


class TrainProgram(_Program):
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


class EvalProgram(_Program):
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
