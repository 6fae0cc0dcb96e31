"""A trial's data on the device: as one block that stays there, or streamed through it block by block."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.workloads.protocol import Arrays
from harness.workloads.training.engine import Backend, Block

_SHARE: Final = 0.6  # of the device's free memory that data may take
_BLOCK_BYTES: Final = 128 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The samples of one part of a dataset, resident on the device or on the host."""

    x: Any
    y: Any
    rows: int
    resident: bool
    backend: Backend

    @classmethod
    def place(cls, x: NDArray[Any], y: NDArray[Any], *, resident: bool, backend: Backend) -> Part:
        place = backend.place if resident else np.asarray
        return cls(x=place(x), y=place(y), rows=len(x), resident=resident, backend=backend)

    def slices(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Yield samples and targets on the device, at most `size` at a time, as they lie."""
        x, y = (self.backend.alone(one) if self.resident else one for one in (self.x, self.y))

        def placed(array: Any) -> Any:
            return array if self.resident else self.backend.alone(self.backend.place(array))

        for start in range(0, self.rows, size):
            yield placed(x[start : start + size]), placed(y[start : start + size])

    def blocks(self, order: NDArray[np.int32] | None, batch: int, *, first: int = 0) -> Iterator[Block]:
        """Yield the samples in this order (None: as stored), cut between batches of `batch` where they are streamed,
        from block `first` on.

        All blocks have one shape; of the last one only the first `rows` count.
        """
        if order is None:
            order = np.arange(self.rows, dtype=np.int32)
        if self.resident:
            yield Block(x=self.x, y=self.y, order=self.backend.order(order), rows=self.rows)
            return
        size = self.block_rows(batch)
        as_placed = self.backend.order(np.arange(size, dtype=np.int32))

        def gathered(start: int) -> tuple[NDArray[Any], NDArray[Any], int]:
            rows = order[start : start + size]
            padded = rows if len(rows) == size else np.resize(rows, size)
            return self.x[padded], self.y[padded], len(rows)

        with ThreadPoolExecutor(max_workers=1) as ahead:  # gathers the next block while the device has this one
            coming = ahead.submit(gathered, first * size)
            for start in range(first * size, self.rows, size):
                x, y, rows = coming.result()
                if start + size < self.rows:
                    coming = ahead.submit(gathered, start + size)
                yield Block(x=self.backend.place(x), y=self.backend.place(y), order=as_placed, rows=rows)

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
    train_class_counts: tuple[int, ...] | None
    val_class_counts: tuple[int, ...] | None
    preparation: dict[str, Any]  # what further rows need to become samples such as these: plain JSON

    @classmethod
    def place(cls, arrays: Arrays, backend: Backend, free_bytes: int | None = None) -> Data:
        """Return the arrays on the device, or ready to be streamed where they would take too much of its memory."""
        free = backend.free_bytes() if free_bytes is None else free_bytes
        needed = sum(array.nbytes for array in (arrays.x_train, arrays.y_train, arrays.x_val, arrays.y_val))
        resident = free is None or needed <= _SHARE * free
        return cls(
            train=Part.place(arrays.x_train, arrays.y_train, resident=resident, backend=backend),
            held_out=Part.place(arrays.x_val, arrays.y_val, resident=resident, backend=backend),
            classes=arrays.classes,
            sample_shape=tuple(arrays.x_train.shape[1:]),
            target_shape=tuple(arrays.y_train.shape[1:]),
            train_class_counts=arrays.train_class_counts,
            val_class_counts=arrays.val_class_counts,
            preparation=arrays.preparation.plain(),
        )


def available_memory() -> int | None:
    """Return the host memory that could be taken, in bytes; None where that cannot be told."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None  # not Linux
    return None
