"""The devices that JAX splits a batch over: one, several of a process, or those of several processes.

State and data are whole on every device and the rows of a batch are split, so that each device gathers its rows by
itself and XLA adds up what is summed over the batch: gradients, the moments of batch normalisation, the loss. The
mathematics is that of the whole batch on one device; sums of floats are taken in another order. Why so:
docs/decisions/data-parallel.md.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any, Final

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from harness.domain.errors import SetupError

Tensor = Any  # a jax.Array

# Set for a process with more than one device (`harness.schedule.launch`), or that is one of several (`…child`).
DEVICES: Final = "HARNESS_DEVICES"  # how many of this process
GROUP: Final = "HARNESS_GROUP"  # rank, number of processes, address of the first one (IP:PORT), own IP

_MEET_S: Final = 60  # for all processes to have met
_SILENT_S: Final = 30  # a process that was not heard of for so long is taken for dead, and the others end
_GONE: Final = re.compile(r"gloo|nccl|connection (?:reset|closed)|unhealthy|heartbeat|coordination service", re.I)


class OneDevice:
    """The first device of this process, and nothing to split."""

    count = 1
    local = 1
    engines: tuple[str, ...] = ("xla", "fit")

    def place(self, array: Any) -> Tensor:
        """Return an array on every device."""
        return jax.device_put(array)

    def copied(self, value: Tensor) -> Tensor:
        """Return a copy of a value on every device; unlike `jnp.copy` it needs no program for each shape."""
        return jax.device_put(value, may_alias=False)

    def alone(self, value: Tensor) -> Tensor:
        """Return what this process's first device has of a value that is whole on every device."""
        return value

    def split(self, rows: Tensor) -> Tensor:
        """Have the rows of a traced value split over the devices."""
        return rows

    def whole(self, state: Any) -> Any:
        """Have all of traced values on every device."""
        return state

    def agreed(self, seconds: float) -> float:
        """Return what the first process has measured: what follows from it must be the same in all."""
        return seconds

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What needs the other processes."""
        yield


class ManyDevices(OneDevice):
    """The first `each` devices of every process. A batch that they cannot share evenly is computed whole on each."""

    engines = ("xla",)  # Keras's own loop would train on one

    def __init__(self, each: int) -> None:
        """Raises: SetupError: when this process has fewer."""
        by_process: list[list[Any]] = [[] for _ in range(jax.process_count())]
        for device in jax.devices():
            by_process[device.process_index].append(device)
        if any(len(devices) < each for devices in by_process):
            there = min(map(len, by_process))
            raise SetupError(f"devices={each} asks for more than JAX finds here ({there} of {jax.default_backend()})")
        devices = [device for devices in by_process for device in devices[:each]]
        self.count, self.local = len(devices), each
        self._several = len(by_process) > 1
        self._mesh = jax.sharding.Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))
        self._own = self._mesh.local_devices
        self._whole = NamedSharding(self._mesh, PartitionSpec())
        self._rows = NamedSharding(self._mesh, PartitionSpec("batch"))
        self._first = jax.jit(lambda values: values[0], out_shardings=self._whole)
        self.agreed(0.0)  # compiles

    def place(self, array: Any) -> Tensor:
        return self._spread(np.asarray(array), may_alias=None)

    def copied(self, value: Tensor) -> Tensor:
        return self._spread(value, may_alias=False)

    def _spread(self, value: Any, *, may_alias: bool | None) -> Tensor:
        parts = [jax.device_put(value, device, may_alias=may_alias) for device in self._own]
        return jax.make_array_from_single_device_arrays(value.shape, self._whole, parts, dtype=parts[0].dtype)

    def alone(self, value: Tensor) -> Tensor:
        return value.addressable_data(0)

    def split(self, rows: Tensor) -> Tensor:
        return lax.with_sharding_constraint(rows, self._rows) if rows.shape[0] % self.count == 0 else rows

    def whole(self, state: Any) -> Any:
        return jax.tree.map(lambda value: lax.with_sharding_constraint(value, self._whole), state)

    def agreed(self, seconds: float) -> float:
        if not self._several:
            return seconds
        own = [jax.device_put(np.full(1, seconds, np.float32), device) for device in self._own]
        with self.together():
            return float(self._first(jax.make_array_from_single_device_arrays((self.count,), self._rows, own)))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """End this process, as one that is lost, once another one is gone: neither has a trial any more."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if not self._several or not _GONE.search(str(error)):
                raise
            # As `harness.schedule.gang.PEER_GONE` has it.
            print(f"another process of the trial is gone: {str(error).splitlines()[0][:200]}", flush=True)
            os._exit(1)


def to_use() -> OneDevice:
    """Return the devices that this process is to use, having met the other processes if it is one of several.

    Raises:
        SetupError: when there are too few.
        jax.errors.JaxRuntimeError: when the others were not met in time.
    """
    each, group = int(os.environ.get(DEVICES, "1")), os.environ.get(GROUP)
    if group:
        rank, size, coordinator, ip = group.split()
        _meet(int(rank), int(size), coordinator, ip)
    return ManyDevices(each) if each > 1 or group else OneDevice()


def _meet(rank: int, size: int, coordinator: str, ip: str) -> None:
    """Join the other processes; the one of rank 0 listens for them at `coordinator`, and nowhere else."""
    from jax._src import distributed, xla_bridge  # no part of JAX's interface, and of use here alone
    from jax._src.lib import _jax
    from jax.extend.backend import register_backend_factory

    os.environ["no_grpc_proxy"] = coordinator.rpartition(":")[0]  # noqa: SIM112  # a variable of gRPC's
    jax.distributed.initialize(
        coordinator,
        size,
        rank,
        coordinator_bind_address=coordinator if rank == 0 else None,
        initialization_timeout=_MEET_S,
        heartbeat_timeout_seconds=_SILENT_S,
        shutdown_timeout_seconds=5,
    )

    def on_cpus() -> Any:
        # Left to itself, it listens where the host's name resolves to: 127.0.1.1 as often as not, out of reach.
        made = _jax.make_gloo_tcp_collectives(distributed_client=distributed.global_state.client, hostname=ip)
        return xla_bridge.make_cpu_client(collectives=made)

    register_backend_factory("cpu", on_cpus, priority=0, fail_quietly=False)
