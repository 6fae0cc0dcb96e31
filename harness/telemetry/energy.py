"""Energy counters of what a worker computes on, read by the worker itself at the edges of a span."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from harness.domain.outcome import Energy
from harness.telemetry.cgroup import ROOT

Counters = dict[str, float]  # device ("gpu:<UUID>", "package:0") -> joules so far, from an arbitrary start


class EnergyMeter:
    """The energy counters of some GPUs (NVML) and of the CPU packages that some cores are on (RAPL).

    `absent` says why a device cannot be read, as in `Probe`. A read costs tens of microseconds a device.
    """

    def __init__(self, *, gpus: Sequence[str] = (), cores: Collection[int] = (), root: Path = ROOT) -> None:
        self.absent: dict[str, str] = {}

    def read(self) -> Counters:
        """Return what the counters say; a device that cannot be read is left out."""
        return {}

    def between(self, before: Counters, after: Counters) -> Energy | None:
        """Return what the devices used between two reads; None where no counter can be read."""
        return None

    def close(self) -> None:
        """Let go of NVML."""
