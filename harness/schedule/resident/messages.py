"""What a command and the process that keeps resident workers say to one another, over a Unix socket.

The first message either way is JSON, so that two versions of the harness can refuse one another. After that they are
the same version, of the same user, and pickle: `(method, arguments)` one way, an `Answer` the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.protocol import Event, Progress, Saved, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `harness up` was asked for."""

    address: str | None
    workers: int | None  # a node, at most
    idle_s: float
    skip_bad_nodes: bool = False
    first: tuple[Trial, ...] = ()  # what a suite's first trials are; none: workers for TensorFlow on one core


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request: its value, or the error that it raised, or why there will be no more answers."""

    value: Any = None
    error: Exception | None = None
    ended: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a method of the executor that returns nothing."""

    method: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came of one call of `wait`."""

    events: list[Event]
    progress: dict[str, Progress]  # what has changed
    saved: list[Saved]
    readings: list[dict[str, Any]]
    opened: dict[Demand, list[Worker] | None]  # what has changed; None: `open` says what is wrong
    said: list[str]  # of nodes
