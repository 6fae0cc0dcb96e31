"""What a back end takes for its smallest call, and how fast its device multiplies: measured once in a process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

_CALLS: Final = 300  # of the smallest kind
_UNSEEN: Final = 10  # of them before those that count
_ROUNDS: Final = 3
QUEUED: Final = 4  # products that the device is given at once, so that the call into it does not count
ROWS: Final = 4096  # of the matrices


def rates(
    call: Callable[[], object],
    product: Callable[[], Callable[[], object]] | None,
    failures: tuple[type[BaseException], ...],
) -> Mapping[str, Any]:
    """Return `dispatch_s` and `gpu_flops_per_s` (see `nodes`); without the latter where its memory runs out.

    `call` is the smallest thing that the back end can be asked for, waited for: its median counts. `product` makes what
    runs `QUEUED` products of square float32 matrices of `ROWS` rows and waits for the last: its best counts. None:
    there is no such device.
    """
    found = {"dispatch_s": statistics.median(_times_s(call, _CALLS, _UNSEEN))}
    if product is not None:
        try:
            best_s = min(_times_s(product(), _ROUNDS, 1))
        except failures:
            return found
        found["gpu_flops_per_s"] = QUEUED * 2 * float(ROWS) ** 3 / best_s
    return found


def _times_s(run: Callable[[], object], count: int, unseen: int) -> list[float]:
    times = []
    for _ in range(unseen + count):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times[unseen:]
