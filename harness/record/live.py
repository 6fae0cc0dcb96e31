"""What a run does while it goes on, for other processes to see, on other hosts too: `live.json` in its folder.

The driver replaces the file whole, at most once a second and at least every ten. It holds nothing that is not in the
records or over by the run's end, and is gone then; one that stays is of a driver that was killed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from pydantic import TypeAdapter, ValidationError

from harness.record.whole import write_whole

FILE: Final = "live.json"
EVERY_S: Final = 1.0
BEAT_S: Final = 10.0
STALE_S: Final = 60.0  # a driver that waits for a node may be silent for half of this
MOST_NODES: Final = 128
MOST_TRIALS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNow:
    """A node and what it has done in this attempt."""

    node: str
    state: str  # "starting", "ok", "set aside" or "lost"
    why: str | None = None  # it was set aside, or lost
    workers: int = 0
    busy: int = 0
    done: int = 0  # trials that ended on it
    bad: int = 0  # of these, how many did not complete
    epoch_s: float | None = None  # the median of its last epochs' training, those that warm up left out
    trials_per_min: float | None = None  # over its last trials


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialNow:
    """A trial that runs."""

    worker: str
    node: str
    trial_id: str
    arm: str
    label: str  # its place in the grid
    epochs: int  # that have ended
    of_epochs: int
    val_accuracy: float | None = None
    val_loss: float | None = None
    since: float  # seconds since the Unix epoch
    silent_since: float | None = None  # it may hang: it has told nothing since, far longer than any other trial took


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A run at one moment. Of many nodes and trials the first are here, the others counted."""

    attempt: int
    written_at: float  # seconds since the Unix epoch, by the driver's clock
    doing: str  # "starting", "checking", "running", "finishing" (those that run, and no more) or "ending"
    total: int  # trials that the run will have
    counts: dict[str, int]  # those that ended by status, in earlier attempts too
    workers: int
    busy: int
    trials_per_min: float | None
    left_s: float | None  # how long it may still take; None where that cannot be said yet
    nodes: tuple[NodeNow, ...] = ()
    nodes_more: int = 0
    running: tuple[TrialNow, ...] = ()  # those that run longest first
    running_more: int = 0

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    def age_s(self) -> float:
        """Return how long ago it was written, by this host's clock."""
        return max(0.0, time.time() - self.written_at)

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON, instants as text."""
        running = [
            asdict(trial) | {name: instant(getattr(trial, name)) for name in ("since", "silent_since")}
            for trial in self.running
        ]
        return asdict(self) | {"written_at": instant(self.written_at), "running": running}


class LiveFile:
    """Writes `live.json` of one attempt, and removes it in the end. A full disk is for the records to tell of."""

    def __init__(self, folder: Path, *, attempt: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / FILE
        self._attempt = attempt
        self._clock = clock
        self._looked_s = self._wrote_s = float("-inf")
        self._last: Live | None = None

    def write(self, look: Callable[[], Live], *, at_once: bool = False) -> None:
        """Write what `look` returns, unless that was done just now (then only `at_once`) or nothing has changed."""
        now_s = self._clock()
        if now_s - self._looked_s < EVERY_S and not at_once:
            return
        self._looked_s, live = now_s, look()
        same = self._last is not None and replace(live, written_at=self._last.written_at) == self._last
        if same and now_s - self._wrote_s < BEAT_S:
            return
        self._wrote_s, self._last = now_s, live
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps(asdict(live), separators=(",", ":")).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        written = read(self._path.parent)
        if written is None or written.attempt <= self._attempt:  # not that of whoever took the run over
            with contextlib.suppress(OSError):
                self._path.unlink()


def read(folder: Path) -> Live | None:
    """Return what the driver of a run last told; None where there is no such file, or it is no good."""
    try:
        return _reader().validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


@cache
def _reader() -> TypeAdapter[Live]:
    return TypeAdapter(Live)  # which takes 10 ms to make


def instant(unix_s: float | None) -> str | None:
    """Return an instant as text, in UTC to the second; None for one that there is not."""
    if unix_s is None:
        return None
    try:
        return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
