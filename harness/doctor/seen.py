"""What is seen of a machine, and what is found of it: the words of all findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "doubt", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that can make numbers noisy. It says what was seen and no more; "unknown" says why nothing was."""

    name: str
    state: State
    seen: str
    why: str  # it matters
    mend: str | None = None  # a command, or what else to do; None where nothing is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """How far the clocks went while the machine was watched, in seconds."""

    steady_s: float  # what epochs are timed by, as NTP adjusts it
    raw_s: float | None  # the same without any adjustment; None where the system has no such clock
    wall_s: float
    synchronised: bool | None  # as the kernel says; None: it cannot be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """A process that is not ours and used the CPU while the machine was watched."""

    pid: int
    name: str  # the beginning of its command line
    percent: float  # of one core
    run: int | None = None  # the process of the harness's run that it belongs to; None: to no such run


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteCode:
    """Where a package is, and whether its compiled byte code is there."""

    package: str
    folder: Path
    compiled: bool
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that findings are made of."""

    root: Path  # of the file system
    node: Mapping[str, Any]  # the row of `nodes`
    cpus: tuple[int, ...]  # hardware threads this process may run on
    pinning: str | None  # why a worker cannot be pinned to its cores; None: it can
    span_s: float  # for how long the machine was watched
    before: Mapping[tuple[str, str], float]  # readings by device and metric
    after: Mapping[tuple[str, str], float]
    absent: Mapping[str, str]  # what could not be read, and why
    clocks: Clocks
    busy: tuple[Busy, ...] = ()  # the busiest first
    others_percent: float | None = None  # of one core: what all processes in sight used together; None: not known
    gpu_memory_bytes: Mapping[str, int] = field(default_factory=dict)  # of each GPU, by UUID
    byte_code: tuple[ByteCode, ...] = ()
    noise_floor: Mapping[str, Any] | None = None  # of this node, as run.json holds it

    def now(self, metric: str, devices: Callable[[str], bool] = lambda device: True) -> dict[str, float]:
        """Return a metric's readings at the end, by device."""
        return {device: value for (device, of), value in self.after.items() if of == metric and devices(device)}

    def grown(self, metric: str) -> float | None:
        """Return by how much a counter of the host grew meanwhile; None where it was not read twice."""
        key = ("host", metric)
        return self.after[key] - self.before[key] if key in self.before and key in self.after else None

    def lacking(self, metric: str) -> str:
        """Return why a metric was not read."""
        reasons = [reason for key, reason in self.absent.items() if key.rpartition("/")[2] == metric]
        return reasons[0] if reasons else "it was not read"
