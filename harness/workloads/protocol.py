"""What `harness.measure` asks of whatever a trial runs, and the stopwatch both sides share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from resource import RUSAGE_SELF, getrusage
from typing import Any, Protocol, runtime_checkable

from harness.domain.outcome import Facts, Scores
from harness.domain.setting import Dataset
from harness.domain.sources import Source
from harness.domain.trial import Trial

Tick = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Span:
    """Time that a step has taken so far, in seconds: on the clock, and of this process's CPUs, all threads included."""

    wall_s: float = 0.0
    user_cpu_s: float = 0.0
    system_cpu_s: float = 0.0

    def __add__(self, other: Span) -> Span:
        return Span(
            self.wall_s + other.wall_s,
            self.user_cpu_s + other.user_cpu_s,
            self.system_cpu_s + other.system_cpu_s,
        )

    def __sub__(self, other: Span) -> Span:
        return Span(
            self.wall_s - other.wall_s,
            self.user_cpu_s - other.user_cpu_s,
            self.system_cpu_s - other.system_cpu_s,
        )


class Stopwatch:
    """How long each step of a trial has taken; steps never overlap.

    A step entered inside another stops the outer one's time until it is left. `unix_s` returns the present Unix time.
    """

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, *, unix_s: Callable[[], float] = time.time
    ) -> None:
        self.unix_s = unix_s
        self._now = now
        self._cpu = _own_cpu
        self._spans: dict[str, Span] = {}
        self._step: str | None = None
        self._read = self.reading()
        self._error: tuple[BaseException, str] | None = None

    def __getitem__(self, step: str) -> Span:
        return self._spans.get(step, _NOTHING)

    @contextmanager
    def measuring(self, step: str) -> Iterator[None]:
        """Attribute the time of the block to `step`."""
        outer = self._step
        self._switch(step)
        try:
            yield
        except BaseException as error:
            if self._error is None or self._error[0] is not error:
                self._error = (error, step)
            raise
        finally:
            self._switch(outer)

    def transfer(self, span: Span, source: str, target: str) -> None:
        """Attribute to `target` what turned out not to be `source`."""
        self.settle()
        self._spans[source] = self[source] - span
        self._spans[target] = self[target] + span

    def settle(self) -> None:
        """Bring the present step's span up to this moment."""
        self._switch(self._step)

    def spans(self) -> dict[str, Span]:
        """Return what each step has taken up to this moment."""
        self.settle()
        return dict(self._spans)

    def carry(self, spans: Mapping[str, Span]) -> None:
        """Add what the steps had taken before the trial went on from a state."""
        for step, span in spans.items():
            self._spans[step] = self[step] + span

    def count_cpu(self, cpu: Callable[[], tuple[float, float]]) -> None:
        """From now on, take user and system CPU seconds from there: more than this process's own, such as a tree's."""
        self.settle()
        self._cpu = cpu
        self._read = self.reading()

    def reading(self) -> Span:
        """Return what the clock and the CPUs read: two of them make a span."""
        return Span(self._now(), *self._cpu())

    def step_of(self, error: BaseException) -> str | None:
        """Return the innermost step that `error` came out of."""
        return self._error[1] if self._error is not None and self._error[0] is error else None

    def _switch(self, step: str | None) -> None:
        read = self.reading()
        if self._step is not None:
            self._spans[self._step] = self[self._step] + (read - self._read)
        self._step, self._read = step, read


def _own_cpu() -> tuple[float, float]:
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


_NOTHING = Span()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a workload needs to go on in the middle of a trial: plain JSON, and NumPy arrays by name."""

    plain: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """What one epoch of training did. `held_out` is None where the session evaluates on request instead."""

    samples: int | None
    steps: int | None = None
    chunks: int = 1
    train: Scores = field(default_factory=Scores)
    held_out: Scores | None = None
    compilations: int | None = None  # programs compiled meanwhile; None where that cannot be told


class Preparation(Protocol):
    """What further rows need to become samples such as these: offset, divisor, names of the classes."""

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON."""


class Arrays(Protocol):
    """What a workload needs of a dataset: NumPy arrays, a sample a row; `classes` is None where targets are numbers."""

    @property
    def x_train(self) -> Any: ...
    @property
    def y_train(self) -> Any: ...
    @property
    def x_val(self) -> Any: ...
    @property
    def y_val(self) -> Any: ...
    @property
    def classes(self) -> int | None: ...
    @property
    def train_class_counts(self) -> tuple[int, ...] | None: ...
    @property
    def val_class_counts(self) -> tuple[int, ...] | None: ...
    @property
    def preparation(self) -> Preparation: ...


Load = Callable[[Dataset, Mapping[str, Source]], Arrays]


class Session(Protocol):
    """One trial, ready to train: data in place, program compiled, weights initialised."""

    @property
    def facts(self) -> Facts:
        """What is known about how the trial runs; the fields of the process itself are filled in by the caller."""

    def evaluate(self) -> Scores | None:
        """Score the held-out part now; None where there is none, or where `train_epoch` hands the scores over."""

    def before_epoch(self, epoch: int) -> None:
        """Get ready what the epoch (from 1) needs and what is not training, such as the order of the samples."""

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult | None:
        """Train one epoch, calling `tick` every few seconds; None when the workload has ended before it."""

    def observe(self, epoch: int) -> None:
        """Note what was asked for besides the scores of an epoch, such as histograms of the weights; off the clock."""

    def snapshot(self) -> Any:
        """Return a copy of the weights as they are now, as NumPy arrays, for `restore`; None where there are none."""

    def restore(self, snapshot: Any) -> None:
        """Bring back the weights of a `snapshot`."""

    def keep(self) -> Kept | None:
        """Return all that the training needs to go on from here, to the same bits; None where it cannot be told now.

        Called between epochs, and by way of `tick` within one.
        """

    def resume(self, kept: Kept) -> None:
        """Go on from what `keep` returned in another process; the next call is for the epoch that it was in.

        Raises:
            StateError: when it does not fit; nothing has changed then.
        """

    def files(self) -> dict[str, bytes]:
        """Return what is to be kept of the trial besides its records, by path; called once, at its end."""

    def drain(self) -> None:
        """Return once the device has done all that was asked of it."""

    def close(self) -> None:
        """Let go of what only this trial needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When an epoch was, and how long its parts took; `eval_s` is None where nothing was evaluated."""

    train: Span
    eval_s: float | None
    started_at: float  # seconds since the Unix epoch
    ended_at: float
    warmup: bool = False


class Epochs(Protocol):
    """Where a workload that leads by itself puts its epochs, and learns whether another is wanted."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def over(self) -> bool:
        """No further one is wanted: early stopping says so, or the last one diverged."""

    def training(self) -> AbstractContextManager[None]:
        """The timed span of the next epoch, to which each use of it adds."""

    def begin(self) -> None:
        """From here on, what is evaluated belongs to the next epoch."""

    def record(self, result: EpochResult, timing: Timing | None = None) -> None:
        """End an epoch and hand it over; its timing is that of `training`, unless it is told.

        Raises:
            HarnessError: when it lacks what early stopping asks for.
        """

    def tick(self) -> None:
        """Report progress; to be called every few seconds, and not part of what is timed."""

    @property
    def kept(self) -> Kept | None:
        """What `keep` was given before the trial was cut off, with the epochs so far; None: it is at its beginning."""

    def keep(self, kept: Callable[[], Kept]) -> None:
        """Between two epochs: save what the workload needs to go on from here, if it is time to."""


@runtime_checkable
class Script(Protocol):
    """One trial that leads by itself: it runs from beginning to end, and says when its epochs are."""

    @property
    def facts(self) -> Facts:
        """What is known about how the trial ran; the fields of the process itself are filled in by the caller."""

    @property
    def said(self) -> str | None:
        """What it printed last, perhaps nothing; None where that goes elsewhere."""

    def run(self, epochs: Epochs) -> None:
        """Run it to its end, or until no further epoch is wanted."""

    def close(self) -> None:
        """Let go of what only this trial needs."""


class Workload(Protocol):
    """Lives as long as its process and keeps what trials share: data on the device, programs."""

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        """Build what the setting declares, and raise what is wrong with it."""

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> Session | Script:
        """Return the trial ready to train, its data, building and compiling timed by `watch`; or ready to run."""
