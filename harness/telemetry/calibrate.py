"""What a share of this node can do: matrix products and memory traffic, measured once a run, within a second."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Collection
from typing import Any, Final

import psutil

from harness import processes
from harness.domain.doubts import CALIBRATION_FOREIGN_PERCENT
from harness.telemetry.cgroup import memory_left_bytes
from harness.telemetry.environment import cache_bytes, last_level_caches

LIMIT_S: Final = 5.0  # for all measurements of a share
_TRIES: Final = 3
_TIMES_CACHE: Final = 4  # how much larger than the last-level caches of the cores the arrays are together
_LEAST_BYTES: Final = 64 << 20
_MOST_BYTES: Final = 512 << 20  # for each of these caches


def calibrate_share(cores: Collection[int]) -> dict[str, Any]:
    """Return columns of `nodes`: what one of these cores can do, and what all of them; without those not measured.

    `core_foreign_percent` and `share_foreign_percent` are besides: the load of the cores by others meanwhile.

    Each is measured by `harness.telemetry.rates` in a process of its own, whose thread pools are sized by variables
    that are set before it starts. A share of one core is measured once.
    """
    deadline = time.monotonic() + LIMIT_S
    found: dict[str, Any] = {}
    for name, part in (("core", sorted(cores)[:1]), ("share", sorted(cores))):
        if name == "share" and len(part) == 1:
            found |= {column.replace("core_", "share_", 1): value for column, value in found.items()}
        elif part:
            measured = _undisturbed(part, deadline)
            found |= {f"{name}_{column}": value for column, value in measured.items()}
    return found


def _undisturbed(cores: list[int], deadline: float) -> dict[str, float]:
    """Return the measurement of these cores that others disturbed least: again while they do and there is time."""
    best: dict[str, float] = {}
    for _ in range(_TRIES):
        began = time.monotonic()
        measured = _measured(cores, deadline)
        if measured and measured["foreign_percent"] <= best.get("foreign_percent", math.inf):
            best = measured
        quiet = best.get("foreign_percent", 0.0) <= CALIBRATION_FOREIGN_PERCENT
        if quiet or time.monotonic() - began > deadline - time.monotonic():
            break
    return best


def _measured(cores: list[int], deadline: float) -> dict[str, float]:
    """Return what `harness.telemetry.rates` says of these cores; nothing where that fails or lasts too long."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(len(cores)))
    caches = last_level_caches(cores)
    size = caches * min(max(_TIMES_CACHE * max(cache_bytes().values(), default=0), _LEAST_BYTES), _MOST_BYTES)
    left = (int(psutil.virtual_memory().available), memory_left_bytes())
    size = min(size, *(max(0, free) // 4 for free in left if free is not None))
    try:
        ran = subprocess.run(
            [*processes.command("harness.telemetry.rates"), json.dumps({"cores": cores, "size": size})],
            env={**os.environ, **threads},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(0.01, deadline - time.monotonic()),
            check=True,
        )
        return {name: float(value or 0.0) for name, value in json.loads(ran.stdout).items()}
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
        return {}
