"""What every source of hardware readings looks like to the sampler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """One value of one metric on one device; the metric's name carries its unit.

    Devices are "host", "cpu0" (a hardware thread, by the kernel's number), "gpu:<UUID>" and "worker:<name>".
    """

    device: str
    metric: str
    value: float


class Probe(Protocol):
    """A source of readings. It gives what it can read, never a 0 for what it cannot, and keeps the reason for that.

    `absent` says why something cannot be read. Its keys are a metric ("gpu_power_w"), a device ("gpu:<UUID>") or,
    where only one device lacks the metric, both ("gpu:<UUID>/gpu_power_w"). A reason is recorded once, when it is
    met first, and goes away only if the thing can be read again.
    """

    name: str
    absent: dict[str, str]

    def read(self, now: float) -> Iterable[Reading]:
        """Return the readings of this moment; `now`, in seconds of a steady clock, paces what is costly or coarse."""
        ...

    def close(self) -> None:
        """Let go of what the probe holds; it is not read again."""
        ...
