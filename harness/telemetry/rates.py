"""How fast some cores multiply matrices and move memory: run as a process of its own, with NumPy and nothing else.

    python -m harness.telemetry.rates '{"cores": [0, 1], "size": 134217728}'

prints ``flops_per_s``, ``bandwidth_bytes_per_s`` and ``foreign_percent``, the load of these cores by others meanwhile,
as JSON. Products: float32, square, 2·n³ operations each, by NumPy's BLAS. Memory: the kernel "Add" of STREAM (J. D.
McCalpin, 1995), a = b + c, on three float64 arrays of `size` bytes together; 24 bytes are counted for an element, as
there, although most CPUs also read what they are to write. Each thread has its part of the arrays, which it was first
to touch. The best of several rounds counts: whatever disturbs one can only slow it down.

NumPy is imported late, since the threads that its BLAS starts then keep to the cores that this process has by then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

_ROUNDS_S: Final = 0.12  # for the rounds of one measurement, of which there are at least two
_SIZE: Final = 1024  # rows of the matrices for one core
_LARGEST: Final = 4096  # rows of the matrices, however many cores


def products_per_s(threads: int) -> float:
    """Return the floating-point operations a second of a float32 matrix product, in NumPy as it is set up here."""
    import numpy as np

    size = min(_LARGEST, _SIZE * round(threads**0.5))
    left, right, out = (np.ones((size, size), np.float32) for _ in range(3))
    best_s = _best_s(lambda: np.matmul(left, right, out=out))
    return 2 * float(size) ** 3 / best_s


def traffic_bytes_per_s(cores: Collection[int], size_bytes: int) -> float:
    """Return the bytes that threads on these cores together move a second, through three arrays of a size in all."""
    import numpy as np

    elements = max(1, size_bytes // (24 * len(cores)))
    begin, end = (threading.Barrier(len(cores) + 1) for _ in range(2))
    going_on = True

    def work(core: int) -> None:
        _pin([core])
        a, b, c = (np.full(elements, value) for value in (0.0, 1.0, 2.0))
        end.wait()
        while True:
            begin.wait()
            if not going_on:
                return
            np.add(b, c, out=a)  # without Python's lock, so the threads do not wait for one another
            end.wait()

    threads = [threading.Thread(target=work, args=(core,), daemon=True) for core in cores]
    for thread in threads:
        thread.start()
    end.wait()

    def once() -> None:
        begin.wait()
        end.wait()

    best_s = _best_s(once)
    going_on = False
    begin.wait()
    return 24.0 * elements * len(cores) / best_s


def _best_s(run: Callable[[], object]) -> float:
    """Return the shortest time that something took, of those that fit, after once unseen."""
    run()
    times: list[float] = []
    while len(times) < 2 or sum(times) < _ROUNDS_S:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def _pin(cores: Collection[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _main() -> None:
    asked = json.loads(sys.argv[1])
    cores = asked["cores"]
    _pin(cores)
    before = _use(cores)
    told: dict[str, float | None] = {"flops_per_s": products_per_s(len(cores))}
    told["bandwidth_bytes_per_s"] = traffic_bytes_per_s(cores, asked["size"])
    told["foreign_percent"] = _foreign_percent(before, _use(cores), len(cores))
    print(json.dumps(told))


def _use(cores: Collection[int]) -> tuple[float, float, float] | None:
    """Return the time, the seconds that these cores have been busy or stolen, and this process's own CPU seconds."""
    names = {f"cpu{core}" for core in cores}
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = [fields for line in file if (fields := line.split())[0] in names]
    except OSError:
        return None
    ticks = sum(sum(map(int, fields[1:9])) - int(fields[4]) - int(fields[5]) for fields in lines)
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def _foreign_percent(
    before: tuple[float, float, float] | None, after: tuple[float, float, float] | None, cores: int
) -> float | None:
    if before is None or after is None:
        return None
    passed_s, busy_s, own_s = (end - start for start, end in zip(before, after, strict=True))
    return max(0.0, 100 * (busy_s - own_s) / (passed_s * cores))


if __name__ == "__main__":
    _main()
