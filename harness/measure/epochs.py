"""The epochs of a trial: their clock, their records, and the rule that ends them early."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, replace
from typing import TYPE_CHECKING, Any

from harness.domain.component import Component
from harness.domain.errors import SuiteError, known
from harness.domain.metrics import METRICS, better
from harness.domain.outcome import Energy, EpochRecord, Facts, Scores
from harness.domain.trial import Trial
from harness.telemetry.energy import Counters, EnergyMeter
from harness.workloads.protocol import EpochResult, Kept, Span, Stopwatch, Tick, Timing

if TYPE_CHECKING:
    from harness.measure.states import States


class MeasuredEpochs:
    """The epochs of a trial: one clock and one record of them, whether this module leads or the workload does."""

    def __init__(
        self,
        trial: Trial,
        watch: Stopwatch,
        on_epoch: Callable[[EpochRecord], None],
        on_progress: Tick | None,
        meter: EnergyMeter | None,
    ) -> None:
        self.records: list[EpochRecord] = []
        self.diverged: str | None = None  # what to say of the last one, if it has
        self.facts = Facts()  # what the workload knows
        self.stopping = EarlyStopping(trial.setting.early_stopping) if trial.setting.early_stopping else None
        self._trial = trial
        self._watch = watch
        self._on_epoch = on_epoch
        self._on_progress = on_progress
        self._meter = meter
        self._elapsed_s = 0.0
        self._resumed = 0  # epochs that were measured before the trial went on from a state
        self._part: Mapping[str, Any] | None = None  # the one that the state was in
        self.states: States | None = None
        self.between: Callable[[], None] = lambda: None  # called within an epoch, now and then
        self.begin()

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def over(self) -> bool:
        return self.diverged is not None or (self.stopping is not None and self.stopping.met)

    def begin(self) -> None:
        self._span = Span()
        self._training = False
        self._evaluated = self._watch["eval"]
        self._started_at: float | None = None
        self._ended_at = 0.0
        self._energy: Energy | None = None
        self._counters: Counters | None = None
        self._began_cold = False  # what was of it before the trial went on from a state
        part, self._part = self._part, None
        if part is not None:
            self._span, self._energy = Span(*part["train"]), energy_of(part["energy"])
            self._began_cold = part["warmup"]
            self._started_at = min(part["started_at"], self._watch.unix_s())  # the clock of another node may be ahead

    @contextmanager
    def training(self, drain: Callable[[], None] = lambda: None) -> Iterator[None]:
        """The timed span, see `timed`."""
        if self._training:
            raise SuiteError("training() within training(): the inner one would count twice; leave one away")
        self._before, meter = self._watch["train"], self._meter
        self._training = True
        with self._watch.measuring("record"):
            self._counters = None if meter is None else meter.read()
        if self._started_at is None:
            self._started_at = self._watch.unix_s()
        try:
            with timed(self._watch, drain):
                yield
        finally:
            self._training = False
        self._ended_at = self._watch.unix_s()
        self._span += self._watch["train"] - self._before
        with self._watch.measuring("record"):
            self._energy = self._used()

    def _used(self) -> Energy | None:
        """Return the energy of the epoch so far."""
        meter, counters = self._meter, self._counters
        used = None if meter is None or counters is None else meter.between(counters, meter.read())
        return used if self._energy is None or used is None else both(self._energy, used)

    def part(self) -> dict[str, Any] | None:
        """Return as JSON what has been measured of the epoch that is being trained, None between two."""
        if not self._training:
            return None
        span, energy = self._span + (self._watch["train"] - self._before), self._used()
        return {
            "train": astuple(span),
            "warmup": self._cold,
            "energy": None if energy is None else asdict(energy),
            "started_at": self._started_at,
        }

    def resume(self, records: Sequence[EpochRecord], part: Mapping[str, Any] | None) -> None:
        """Take over the epochs that were measured before, and what was of the one after them."""
        self.records = list(records)
        self._resumed, self._part = len(records), part
        self._elapsed_s = records[-1].elapsed_train_s if records else 0.0
        for record in records:
            self._on_epoch(record)

    @property
    def kept(self) -> Kept | None:
        return None if self.states is None else self.states.own

    def keep(self, kept: Callable[[], Kept]) -> None:
        if self.states is not None and self.states.due and not self.over:
            with self._watch.measuring("record"):
                self.states.save(kept())

    def record(self, result: EpochResult, timing: Timing | None = None) -> None:
        """End an epoch and hand it over; see `harness.workloads.protocol.Epochs`."""
        with self._watch.measuring("record"):
            energy = self._energy if timing is None else None
            record = _record(self.count + 1, result, timing or self._timing(), self._elapsed_s, energy)
            self._elapsed_s = record.elapsed_train_s
            self.records.append(record)
            self._on_epoch(record)
            self.diverged = _divergence(record, self._trial)
            if self.stopping is not None and self.diverged is None:
                self.stopping.see(record)

    def tick(self) -> None:
        """Report progress; the time it takes is not training."""
        if self._on_progress is not None:
            with self._watch.measuring("progress"):
                if self._meter is not None:
                    self._meter.keep_up()
                self._on_progress()
        self.between()

    def all_facts(self) -> Facts:
        """Return the facts with those of early stopping added."""
        stopping = self.stopping
        if stopping is None:
            return self.facts
        program = self._trial.setting.workload.name == "program"  # it alone says when it would have ended
        early = stopping.met and (program or self.count < self._trial.setting.epochs)
        return replace(self.facts, best_epoch=stopping.best_epoch, stopped_early=early)

    def _timing(self) -> Timing:
        eval_s = (self._watch["eval"] - self._evaluated).wall_s
        return Timing(
            train=self._span,
            eval_s=eval_s if eval_s > 0 else None,
            started_at=self._watch.unix_s() if self._started_at is None else self._started_at,
            ended_at=self._ended_at,
            warmup=self._cold,
        )

    @property
    def _cold(self) -> bool:
        """Whether some of the epoch ran a program for the first time in a process."""
        first = self.count == self._resumed  # in this process
        return self._began_cold or (
            first and (self.facts.program_reused is False or self.facts.compile_ahead_s is not None)
        )


class EarlyStopping:
    """The rule that ends a training, as Keras's callback of the same name has it.

    An epoch is an improvement if its metric is better than the best so far by more than `min_delta`. After `patience`
    epochs in a row without one it is met; 0 and 1 are the same, and the first epoch never meets it.
    """

    def __init__(self, rule: Component) -> None:
        self.metric: str = rule.args["metric"]
        self.met = False
        self.improved = False  # the last epoch
        self.best_epoch: int | None = None
        self.best_weights: bool = rule.args["best_weights"]
        self._patience: int = rule.args["patience"]
        self._min_delta: float = rule.args["min_delta"]
        self._sign = 1.0 if better(self.metric) == "higher" else -1.0
        self._best = -math.inf
        self._waited = 0

    def plain(self) -> list[Any]:
        """Return what it goes by, as JSON."""
        return [self._best, self.best_epoch, self._waited]

    def resume(self, plain: Sequence[Any]) -> None:
        """Go on from what `plain` returned."""
        self._best, self.best_epoch, self._waited = plain

    def see(self, record: EpochRecord) -> None:
        """Take an epoch into account.

        Raises:
            SuiteError: when it has no such metric.
        """
        value = record.value(self.metric)
        if value is None:
            reported = known(name for name in (*METRICS, *record.extra) if record.value(name) is not None)
            raise SuiteError(
                f"early_stopping.metric {self.metric!r} was not reported at epoch {record.epoch}; "
                f"reported: {reported or 'nothing'}"
            )
        self._waited += 1
        self.improved = self._sign * value - self._min_delta > self._best
        if self.improved:
            self._best, self.best_epoch, self._waited = self._sign * value, record.epoch, 0
        self.met = not self.improved and self._waited >= self._patience and record.epoch > 1


@contextmanager
def timed(watch: Stopwatch, drain: Callable[[], None]) -> Iterator[None]:
    """Time the block as training, the device's queued work included.

    Python's garbage collector is held off meanwhile; what the block itself attributes to another step is not in
    the span.
    """
    drain()
    collecting = gc.isenabled()
    gc.disable()
    try:
        with watch.measuring("train"):
            yield
            drain()
    finally:
        if collecting:
            gc.enable()


def energy_of(plain: Mapping[str, Any] | None) -> Energy | None:
    """Return what was JSON."""
    return None if plain is None else Energy(**plain)


def both(one: Energy, other: Energy) -> Energy:
    """Return the energy of two spans together; what one of them lacks, the sum lacks."""

    def add(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else first + second

    def least(first: float | None, second: float | None) -> float | None:
        return min((value for value in (first, second) if value is not None), default=None)

    return Energy(
        gpu_j=add(one.gpu_j, other.gpu_j),
        gpu_coverage=least(one.gpu_coverage, other.gpu_coverage),
        cpu_j=add(one.cpu_j, other.cpu_j),
        cpu_coverage=least(one.cpu_coverage, other.cpu_coverage),
    )


def _record(
    number: int, result: EpochResult, timing: Timing, elapsed_s: float, energy: Energy | None = None
) -> EpochRecord:
    held_out = result.held_out or Scores()
    return EpochRecord(
        epoch=number,
        train_s=timing.train.wall_s,
        eval_s=timing.eval_s,
        elapsed_train_s=elapsed_s + timing.train.wall_s,
        samples=result.samples,
        steps=result.steps,
        chunks=result.chunks,
        loss=result.train.loss,
        accuracy=result.train.accuracy,
        val_loss=held_out.loss,
        val_accuracy=held_out.accuracy,
        user_cpu_s=timing.train.user_cpu_s,
        system_cpu_s=timing.train.system_cpu_s,
        started_at=timing.started_at,
        ended_at=timing.ended_at,
        warmup=timing.warmup,
        compilations=result.compilations,
        energy=energy,
        extra={**result.train.extra, **{f"val_{name}": value for name, value in held_out.extra.items()}},
    )


def _divergence(record: EpochRecord, trial: Trial) -> str | None:
    """Return what to say of an epoch whose loss is no number any more."""
    for name, value in (("loss", record.loss), ("val_loss", record.val_loss)):
        if value is not None and not math.isfinite(value):
            diverged = f"diverged: {name} is {value} at epoch {record.epoch}"
            if trial.setting.workload.name != "training":
                return diverged
            rate = trial.setting.optimizer.args.get("learning_rate")
            stated = f", now {rate:g}" if isinstance(rate, int | float) else ""
            return f"{diverged}; lower the learning rate{stated}, clip the gradients (clipnorm) or scale the data"
    return None
