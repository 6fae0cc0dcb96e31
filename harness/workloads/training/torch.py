"""The training engine on torch: a step's operations in one loop without Python, or Keras step by step."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import torch
from keras.src.backend.torch.core import get_device
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.domain.setting import ENGINES
from harness.workloads.training.engine import Block, Totals
from harness.workloads.training.feed import available_memory
from harness.workloads.training.losses import Objective
from harness.workloads.training.rates import QUEUED, ROWS, rates
from harness.workloads.training.reused import Network, Updater
from harness.workloads.training.torch_graph.loop import loop, refusal
from harness.workloads.training.torch_graph.nodes import UntraceableError
from harness.workloads.training.torch_graph.trace import Step, shared_draws

# How a loop is verified: two steps from the first on, and two more from a later one on, from weights that were
# scattered by this much, against Keras's own.
_VERIFIED_STEPS: Final = 2
_LATER: Final = 1000
_SCATTER: Final = 0.1
_DEVIATION: Final = 1e-2  # of what the steps change
_ROUNDING: Final = 1e-6  # of what it changes
_HITS: Final = 1  # place of the hits among what is compared: one may turn on a tie


class Torch:
    """See `harness.workloads.training.engine.Backend`. Keras's variables hold the values."""

    name = "torch"
    flops_source = "torch"
    engines = ENGINES["torch"]
    cannot_compile = (UntraceableError,)
    ran_out_of_memory = (torch.OutOfMemoryError, MemoryError)

    def prepare_process(self) -> None:
        stated = os.environ.get("OMP_NUM_THREADS", "")
        if stated.isdigit() and int(stated) > 0:
            torch.set_num_threads(int(stated))
        with contextlib.suppress(RuntimeError):  # it has started already, and keeps what it started with
            torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)  # as TensorFlow and XLA do
        (torch.ones((), device=_device()) + 1.0).item()
        gc.collect()
        gc.freeze()  # what the imports made need never be looked at again

    def threads(self) -> int:
        return int(torch.get_num_threads())

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__}

    def free_bytes(self) -> int | None:
        device = _device()
        if device.type == "cuda":
            return int(torch.cuda.mem_get_info(device)[0])
        return available_memory() if device.type == "cpu" else None

    def place(self, array: NDArray[Any]) -> Tensor:
        return torch.tensor(array, device=_device())

    def order(self, rows: NDArray[np.int32]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=_device())

    def alone(self, tensor: Tensor) -> Tensor:
        return tensor

    def first_choice(self, network: Network) -> tuple[str, str | None]:
        return "graph", None

    def train_program(
        self,
        network: Network,
        updater: Updater,
        objective: Objective,
        batch: int,
        block: Block,
        engine: str,
        signature: str,
    ) -> _Graph | _Eager:
        variables = network.model.trainable_variables
        optimizer = updater.optimizer

        def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            outputs = network.outputs(x, training=True)
            loss = objective.total(y, outputs, network.model.losses)
            with torch.no_grad():
                hits = objective.hits(y, outputs.detach())
            leaves = [variable.value for variable in variables]
            gradients = torch.autograd.grad(optimizer.scale_loss(loss), leaves, allow_unused=True) if leaves else ()
            with torch.no_grad():
                optimizer.apply(gradients, variables)
            return loss.detach(), hits

        counter = getattr(optimizer, "inner_optimizer", optimizer)._iterations
        state = _distinct([*network.model.variables, *optimizer.variables])
        if engine == "eager":
            eager = _Eager(step, batch, training=True)
            eager.step_flops = _step_flops(eager, [variable.value for variable in state], block)
            return eager
        return _Graph(step, state, batch, block, training=True, counter=counter)

    def eval_program(
        self, network: Network, objective: Objective, batch: int, block: Block, signature: str
    ) -> _Graph | _Eager:
        """Compile evaluation, step by step where its operations cannot be written down, whatever the engine."""

        def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                outputs = network.outputs(x, training=False)
                return objective.total(y, outputs, network.model.losses), objective.hits(y, outputs)

        try:
            return _Graph(step, _distinct(network.model.variables), batch, block, training=False)
        except UntraceableError:
            return _Eager(step, batch, training=False)

    def zero(self, loss: float = 0.0, hits: float = 0.0) -> Totals:
        return Totals(torch.tensor(loss, device=_device()), torch.tensor(hits, device=_device()))

    def read(self, totals: Totals) -> tuple[float, float]:
        return totals.loss.item(), totals.hits.item()

    def begin(self, network: Network, updater: Updater) -> None:
        """Start the device's random numbers where the model's own seeds say."""
        seeds = [variable for variable in network.model.variables if variable.path.endswith("seed_generator_state")]
        torch.manual_seed(sum(int(seed.value.reshape(-1)[0]) for seed in seeds) % 2**63)

    def settle(self, network: Network, updater: Updater) -> None:
        pass

    def random_state(self) -> Mapping[str, NDArray[Any]]:
        """Return the state of the generators that loops draw from: the host's and the device's."""
        state = {"cpu": torch.get_rng_state().numpy()}
        return state | ({"cuda": torch.cuda.get_rng_state().numpy()} if _device().type == "cuda" else {})

    def set_random_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        torch.set_rng_state(torch.from_numpy(state["cpu"].copy()))
        if _device().type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(state["cuda"].copy()))

    def compilations(self) -> int | None:
        """Nobody tells: what torch compiles it compiles when a program is made, and runs the same ever after."""
        return None

    def calibrate(self) -> Mapping[str, Any]:
        number = torch.zeros((), device=_device())
        on_gpu = _device().type == "cuda"
        return rates(lambda: (number + 1.0).item(), _products if on_gpu else None, self.ran_out_of_memory)

    def drain(self) -> None:
        """Wait for the accelerator; on a CPU a call returns when its work is done."""
        if _device().type != "cpu":
            torch.accelerator.synchronize()


BACKEND: Final = Torch()


def _products() -> Callable[[], object]:
    matrix = torch.ones((ROWS, ROWS), device=_device())

    def run() -> None:
        for _ in range(QUEUED):
            torch.matmul(matrix, matrix)
        torch.cuda.synchronize()

    return run


class _Eager:
    """A loop over batches in Python, each of them Keras's own step."""

    def __init__(self, step: Step, batch: int, *, training: bool) -> None:
        self.step_s: float | None = None
        self.step_flops: float | None = None
        self._step, self._batch, self._training = step, batch, training

    def __call__(self, block: Block, offset: int, count: int, totals: Totals) -> Totals:
        loss, hits = totals.loss.clone(), totals.hits.clone()
        for start in range(offset, offset + count * self._batch, self._batch):
            x, y = _rows(block, start, self._batch, shuffled=self._training)
            step_loss, step_hits = self._step(x, y)
            loss += step_loss * self._batch
            hits += step_hits
        return Totals(loss, hits)


class _Graph:
    """A loop over batches in TorchScript: traced at birth and compared with Keras's own step, all changes undone."""

    def __init__(
        self, step: Step, state: list[Any], batch: int, block: Block, *, training: bool, counter: Any = None
    ) -> None:
        """`state` holds Keras's variables; `counter` is the one that counts the steps."""
        self.step_s: float | None = None
        self.step_flops: float | None = None
        self._state, self._training = state, training
        values = [variable.value for variable in state]
        if training:
            self.step_flops = _step_flops(_Eager(step, batch, training=True), values, block)
        with _undone(values):
            x, y = _rows(block, 0, batch, shuffled=training)
            self._loop = loop(step, values, x, y, batch, training=training)
        for begun in (0, _LATER) if training else (0,):
            with _undone(values):
                _scatter(state)
                if begun:
                    counter.assign(begun)
                self._verify(_Eager(step, batch, training=training), values, block, block.rows // batch)

    def _verify(self, eager: _Eager, values: list[Tensor], block: Block, most: int) -> None:
        """Raise where the loop, from these values on, does not do what Keras's own step does."""
        steps = max(1, min(_VERIFIED_STEPS, most))
        with shared_draws():
            expected = _after(values, lambda: eager(block, 0, steps, BACKEND.zero()))
        try:
            found = _after(values, lambda: self(block, 0, steps, BACKEND.zero()))
        except RuntimeError as error:  # TorchScript's, of an operation that it runs otherwise than it was traced
            raise refusal(error) from error
        _compare(values, expected, found)

    def __call__(self, block: Block, offset: int, count: int, totals: Totals) -> Totals:
        with torch.inference_mode():
            loss, hits = totals.loss.clone(), totals.hits.clone()
            state = [variable.value.detach() for variable in self._state]
            self._loop(state, block.x, block.y, block.order, offset, count, loss, hits)
        return Totals(loss, hits)


def _device() -> torch.device:
    return torch.device(get_device())


def _distinct(variables: list[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())


def _rows(block: Block, start: int, batch: int, *, shuffled: bool) -> tuple[Tensor, Tensor]:
    """Return the samples and the labels of a batch."""
    if not shuffled:
        return block.x.narrow(0, start, batch), block.y.narrow(0, start, batch)
    rows = block.order.narrow(0, start, batch)
    return block.x.index_select(0, rows), block.y.index_select(0, rows)


def _step_flops(eager: _Eager, values: list[Tensor], block: Block) -> float | None:
    """Return the operations of a batch's matrix products, convolutions and attention; elementwise work is left out.

    None where torch's counter fails, whatever it is that it does not know: the trial runs without.
    """
    with suppress(Exception), _undone(values), FlopCounterMode(display=False) as counted:
        eager(block, 0, 1, BACKEND.zero())
        return float(counted.get_total_flops())
    return None


@contextmanager
def _undone(values: list[Tensor]) -> Iterator[None]:
    """Give tensors and random numbers back as they were."""
    before = [value.detach().clone() for value in values]
    devices = [torch.cuda.current_device()] if _device().type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(0)
            yield
        finally:
            with torch.no_grad():
                for value, old in zip(values, before, strict=True):
                    value.copy_(old)


def _scatter(variables: list[Any]) -> None:
    """Give weights values that are not alike: before they are initialised many are 0, and hide what goes wrong."""
    with torch.no_grad():
        for variable in variables:
            if variable.trainable and variable.value.is_floating_point():
                variable.value.add_(torch.rand_like(variable.value) * (2 * _SCATTER) - _SCATTER)


def _after(values: list[Tensor], run: Callable[[], Totals]) -> list[Tensor]:
    """Return what loss, hits and the tensors would be after a run."""
    with _undone(values):
        totals = run()
        return [totals.loss, totals.hits, *(value.detach().clone() for value in values)]


def _compare(values: list[Tensor], expected: list[Tensor], found: list[Tensor]) -> None:
    """Raise where two runs from the same values differ by more than rounding does."""
    starts = [torch.zeros_like(expected[0]), torch.zeros_like(expected[1]), *(value.detach() for value in values)]
    for place, (start, one, other) in enumerate(zip(starts, expected, found, strict=True)):
        finite = one.isfinite()
        start, left, right = (torch.where(finite, tensor, 0).double() for tensor in (start, one, other))
        allowed = _DEVIATION * (left - start).norm() + _ROUNDING * left.norm() + (place == _HITS)
        if not torch.equal(finite, other.isfinite()) or bool((left - right).norm() > allowed):
            raise UntraceableError("its operations, written down, compute something else than Keras's step")
