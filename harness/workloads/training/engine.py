"""What the training workload asks of a back end: a few operations on Keras's objects, on its own device.

`harness.workloads.training.workload` and the modules it is made of hold all that back ends share: data, models, initial
weights, the order of the samples, the sweep over them, early stopping's snapshots and what is kept. A back end compiles
loops over batches and runs them. Each is one module, which holds it as `BACKEND`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.workloads.training.losses import Objective
    from harness.workloads.training.reused import Network, Updater

Tensor = Any  # a tensor of the back end


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Samples and labels on the device, `rows` of them in use, to be taken in `order` by training."""

    x: Tensor
    y: Tensor
    order: Tensor
    rows: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a pass over samples adds up: the loss times the samples, and the samples classified correctly.

    On the device both are float32 scalars that go from call to call.
    """

    loss: Tensor
    hits: Tensor


class Program(Protocol):
    """A compiled loop over batches of one size, for training or for evaluation, on blocks of one shape.

    `step_s`: the seconds that a batch last took, None before it ran; kept by `workload`. `step_flops`: the
    floating-point operations of a batch's training, None where the back end cannot count them, and for evaluation.
    """

    step_s: float | None
    step_flops: float | None

    def __call__(self, block: Block, offset: int, count: int, totals: Totals) -> Totals:
        """Run `count` batches from sample `offset` on, and return the new totals, perhaps not yet computed.

        `count` may be anything from 1 to as many full batches as the block holds, and must cause no new compilation:
        one program serves a whole epoch, any part of it and a single step, to the same bits.
        """


class Backend(Protocol):
    """One back end. It may keep caches of its own, but for what a `Network` owns."""

    name: str
    flops_source: str  # who counts `step_flops`
    engines: tuple[str, ...]  # each falls back to the next; the last is "fit" (Keras's own loop, in `workload`)
    cannot_compile: tuple[type[BaseException], ...]  # what a program raises at birth that an engine cannot compile
    ran_out_of_memory: tuple[type[BaseException], ...]  # those among them that mean this instead

    def prepare_process(self) -> None:
        """Size the thread pools to this process's share and touch the device, so that no trial pays for it."""

    def threads(self) -> int:
        """Return the size of the thread pool that computes, as it really is."""

    def versions(self) -> Mapping[str, str]:
        """Return the versions of what computes, beside Keras and NumPy, by package."""

    def free_bytes(self) -> int | None:
        """Return the memory that data could take on the device, None where that cannot be told."""

    def place(self, array: NDArray[Any]) -> Tensor:
        """Return an array on the device."""

    def order(self, rows: NDArray[np.int32]) -> Tensor:
        """Return an order of the samples on the device."""

    def alone(self, tensor: Tensor) -> Tensor:
        """Return what was placed, as Keras's own operations take it: on one device."""

    def first_choice(self, network: Network) -> tuple[str, str | None]:
        """Return the engine that a fixed rule gives a model, and the reason where it is not the first one."""

    def train_program(
        self,
        network: Network,
        updater: Updater,
        objective: Objective,
        batch: int,
        block: Block,
        engine: str,
        signature: str,
    ) -> Program:
        """Compile training for batches of `batch` on blocks shaped as `block`; the network's values stay as they are.

        `signature` is a text that differs for all else that makes programs differ: model, loss, optimizer; for back
        ends that name what they compile.
        A step is: take the batch's rows in the block's order; forward with training=True; the objective's loss (mean)
        and the penalties of `network.model.losses`; gradients; the optimizer's update. The totals grow by that loss
        times the batch and by the objective's hits.
        """

    def eval_program(self, network: Network, objective: Objective, batch: int, block: Block, signature: str) -> Program:
        """Compile evaluation (training=False) for batches of `batch`, in the order in which the samples lie."""

    def zero(self, loss: float = 0.0, hits: float = 0.0) -> Totals:
        """Return totals of nothing, or of what `read` told of others."""

    def read(self, totals: Totals) -> tuple[float, float]:
        """Wait for the totals and return loss and hits."""

    def begin(self, network: Network, updater: Updater) -> None:
        """Take over the values of Keras's variables, which have just been set: those of the model and the optimizer."""

    def settle(self, network: Network, updater: Updater) -> None:
        """Give Keras's variables the values that the programs have computed, where those are kept elsewhere."""

    def random_state(self) -> Mapping[str, NDArray[Any]]:
        """Return what random numbers depend on besides Keras's variables, to be kept with them."""

    def set_random_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on with random numbers from a `random_state`, after `begin`."""

    def compilations(self) -> int | None:
        """Return how many programs this process has traced or compiled so far; None where that cannot be told.

        Only differences mean something. Takes microseconds.
        """

    def calibrate(self) -> Mapping[str, Any]:
        """Return what the back end and its device can do, as columns of `nodes`: `dispatch_s`, `gpu_flops_per_s`."""

    def drain(self) -> None:
        """Return once the device has done all that was asked of it."""
