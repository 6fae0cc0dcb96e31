"""A trial's data on the device: as one block that stays there, or streamed through it block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.workloads.protocol import Arrays

Tensor = Any

_SHARE: Final = 0.6  # of the device's free memory that data may take
_BLOCK_BYTES: Final = 128 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Samples and labels on the device, `rows` of them in use, to be taken in `order`."""

    x: Tensor
    y: Tensor
    order: Tensor
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The samples of one part of a dataset, resident on the device or on the host."""

    x: Any
    y: Any
    rows: int
    resident: bool

    def blocks(self, order: NDArray[np.int32] | None, batch: int) -> Iterator[Block]:
        """Yield the samples in this order (None: as stored), cut between batches of `batch` where they are streamed.

        All blocks have one shape; of the last one only the first `rows` count.
        """
        if order is None:
            order = np.arange(self.rows, dtype=np.int32)
        if self.resident:
            yield Block(x=self.x, y=self.y, order=tf.constant(order), rows=self.rows)
            return
        size = self.block_rows(batch)
        as_placed = tf.range(size, dtype=tf.int32)

        def gathered() -> Iterator[tuple[NDArray[Any], NDArray[Any], int]]:
            for start in range(0, self.rows, size):
                rows = order[start : start + size]
                padded = rows if len(rows) == size else np.resize(rows, size)
                yield self.x[padded], self.y[padded], len(rows)

        signature = (
            tf.TensorSpec((size, *self.x.shape[1:]), self.x.dtype),
            tf.TensorSpec((size, *self.y.shape[1:]), self.y.dtype),
            tf.TensorSpec((), tf.int32),
        )
        for x, y, rows in tf.data.Dataset.from_generator(gathered, output_signature=signature).prefetch(1):
            yield Block(x=x, y=y, order=as_placed, rows=int(rows))

    def block_rows(self, batch: int) -> int:
        """Return how many samples a block holds."""
        if self.resident:
            return self.rows
        row_bytes = max(1, int(self.x[:1].nbytes + self.y[:1].nbytes))
        return max(1, min(_BLOCK_BYTES // row_bytes, self.rows) // batch) * batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a trial trains on and what it validates on."""

    train: Part
    held_out: Part
    classes: int | None
    sample_shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    @classmethod
    def place(cls, arrays: Arrays, free_bytes: int | None = None) -> Data:
        """Return the arrays on the device, or ready to be streamed where they would take too much of its memory."""
        free = free_device_bytes() if free_bytes is None else free_bytes
        needed = sum(array.nbytes for array in (arrays.x_train, arrays.y_train, arrays.x_val, arrays.y_val))
        resident = free is None or needed <= _SHARE * free
        place = tf.constant if resident else np.asarray
        return cls(
            train=Part(x=place(arrays.x_train), y=place(arrays.y_train), rows=len(arrays.x_train), resident=resident),
            held_out=Part(x=place(arrays.x_val), y=place(arrays.y_val), rows=len(arrays.x_val), resident=resident),
            classes=arrays.classes,
            sample_shape=tuple(arrays.x_train.shape[1:]),
            target_shape=tuple(arrays.y_train.shape[1:]),
        )


def free_device_bytes() -> int | None:
    """Return the memory that data could take on the device, None where that cannot be told."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        from tensorflow.python.client import device_lib

        limit = next(d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU")
        used = tf.config.experimental.get_memory_info(gpus[0].name)["current"]
        return int(limit) - int(used)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None  # not Linux
    return None
