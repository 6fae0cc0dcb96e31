"""One trial → its epochs and its outcome, in the process that runs it.

The timed span of an epoch is `_timed`; everything else a trial does has a stopwatch of its own (see
docs/method.md).
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import platform
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any, Final

from harness import datasets
from harness.domain.component import Component
from harness.domain.errors import HarnessError, SetupError, SuiteError, known
from harness.domain.grid import show
from harness.domain.metrics import METRICS, better
from harness.domain.outcome import Energy, EpochRecord, Facts, Outcome, Scores, Status, Stopwatches
from harness.domain.setting import Dataset, Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.telemetry.energy import Counters, EnergyMeter
from harness.workloads.protocol import (
    Arrays,
    EpochResult,
    Script,
    Session,
    Span,
    Stopwatch,
    Tick,
    Timing,
    Workload,
)

if TYPE_CHECKING:
    from harness.workloads.training.engine import Backend

Clock = Callable[[], float]

_MESSAGE_LIMIT: Final = 400  # characters of a trial's one-line error
_DETAIL_LIMIT: Final = 8000  # characters of its traceback, the end of it kept
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_INSTALL: Final = {"jax": "pip install 'harness[jax]'", "torch": "pip install 'harness[torch]'"}
_INSTALL_ALL: Final = "pip install harness"
_NOISE: Final = re.compile(r"\x1b\[[0-9;]*m|\{\{[^}]*\}\} ?| ?\[Op:[^]]*\].*")  # colours, and names within TensorFlow


@dataclass(kw_only=True)
class WorkerState:
    """What a worker process keeps from trial to trial."""

    sources: dict[str, Source] = field(default_factory=dict)
    trials_run: int = 0
    workloads: dict[str, Workload] = field(default_factory=dict)  # by back end and name; each keeps its own caches
    compiled_ahead_s: dict[str, float] = field(default_factory=dict)  # by program key; told to the trial that uses it
    missing: dict[str, str] = field(default_factory=dict)  # back ends that are not installed here, and what to say
    anchor_s: float = field(default_factory=lambda: time.time() - time.perf_counter())  # Unix time less steady clock
    meter: EnergyMeter | None = None

    def unix_s(self) -> float:
        """Return the Unix time by the node's steady clock: setting the wall clock does not bend it."""
        return self.anchor_s + time.perf_counter()

    def workload(self, trial: Trial) -> Workload:
        """Return the workload that a trial runs, importing it when it is first asked for.

        Raises:
            SetupError: when its back end is not installed on this node.
        """
        setting = trial.setting
        if setting.needs in self.missing:
            raise SetupError(self.missing[setting.needs])
        name = setting.workload.name
        key = name if name in ("function", "program") else f"{setting.backend}.{name}"
        if key not in self.workloads:
            self.workloads[key] = _load(setting)
        return self.workloads[key]


class Body:
    """What runs inside a worker: prepares the process, then checks and runs the trials it is given."""

    def __init__(self) -> None:
        self._state = WorkerState()
        self._backend: Backend | None = None

    def preload(self, backend: str) -> None:
        """Import what the back end needs, but start no thread and touch no device; "none" needs nothing.

        One that is not installed fails the trials that need it, and nothing else.
        """
        if backend == "none":
            return
        try:
            with _hidden("pandas", "sklearn", *({"jax", "tensorflow", "torch"} - {backend})):
                _backend(backend)
                importlib.import_module("harness.workloads.training.workload")
        except ImportError as error:
            what = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be imported"
            self._state.missing[backend] = (
                f"the back end {backend!r} {what} on node {platform.node()}: "
                f"{_INSTALL.get(backend, _INSTALL_ALL)} ({error})"
            )

    def prepare(self, backend: str) -> None:
        """Touch the devices, so that no trial pays for it; the process may have been forked after `preload`."""
        if backend != "none" and backend not in self._state.missing:
            self._backend = _backend(backend)
            self._backend.prepare_process()
        self._state.meter = EnergyMeter(gpus=_gpus() or (), cores=_cores() or ())

    def sources(self, sources: Mapping[str, Source]) -> None:
        """Take the text of the files whose functions the trials name."""
        self._state.sources.update(sources)

    def clock(self, anchor_s: float) -> None:
        """Take Unix times as `anchor_s` plus the steady clock from now on, as all of this node do."""
        self._state.anchor_s = anchor_s

    def calibrate(self) -> dict[str, Any]:
        """Return what the back end and its device can do, as columns of `nodes`; nothing where there is none, or where
        it fails: the trials will find what is wrong with it."""
        try:
            return {} if self._backend is None else dict(self._backend.calibrate())
        except Exception:
            return {}

    def check(self, trial: Trial) -> str | None:
        """Build what the setting declares; return what is wrong with it, and at which point of the grid, or None.

        Memory that runs out is nothing wrong, and neither is a back end that is not installed here: it is a result,
        of the trials that will find the same.
        """
        if trial.setting.needs in self._state.missing:
            return None
        try:
            self._state.workload(trial).check(trial, self._state.sources)
        except (Exception, SystemExit) as error:
            if _out_of_memory(error):
                return None
            return f"{show(dict(trial.axes))}: {_one_line(error, trial)}"
        return None

    def prime(self, trial: Trial) -> None:
        """Compile what a trial needs, ahead of it. What is wrong with the trial is for `check` to say."""
        watch = Stopwatch(time.perf_counter)
        with (
            suppress(Exception, SystemExit),
            closing(self._state.workload(trial).open(trial, self._state.sources, watch)),
        ):
            self._state.compiled_ahead_s[trial.program_key] = watch["compile"].wall_s

    def run(
        self,
        trial: Trial,
        on_epoch: Callable[[EpochRecord], None],
        on_progress: Tick | None = None,
        *,
        state: bytes | None = None,
        on_state: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run one trial; `on_epoch` after each epoch, `on_progress` at least every few seconds."""
        return run_trial(trial, self._state, on_epoch, on_progress)


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Let imports find these packages missing: Keras imports them where it can, which costs seconds and starts
    threads, and uses them for nothing that a trial does. Own functions may import them afterwards."""
    hidden = [name for name in packages if name not in sys.modules]
    if threading.active_count() > 1:
        hidden = []  # another thread may be importing them
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def run_trial(
    trial: Trial,
    worker: WorkerState,
    on_epoch: Callable[[EpochRecord], None],
    on_progress: Tick | None = None,
    *,
    now: Clock = time.perf_counter,
) -> Outcome:
    """Run one trial to its end, whatever that is.

    What the trial raises becomes part of the outcome, which keeps every epoch measured before it; a
    `TimeoutError` out of `on_progress` ends it as "timeout". Only `KeyboardInterrupt` and its like go through.
    """
    before = _Edge.read(worker)
    started_at, start_s = worker.unix_s(), now()
    watch = Stopwatch(now, unix_s=worker.unix_s)
    used = watch.reading()
    epochs = _Epochs(trial, watch, on_epoch, on_progress, worker.meter)
    files: Mapping[str, bytes] = {}
    status: Status = "completed"
    error: str | None = None
    detail: str | None = None
    step: str | None = None
    said: str | None = None
    try:
        session = worker.workload(trial).open(trial, worker.sources, watch)
        with closing(session):
            try:
                if isinstance(session, Script):
                    session.run(epochs)
                else:
                    files = _train(session, epochs, trial, watch, worker.compiled_ahead_s.pop(trial.program_key, None))
            finally:
                if isinstance(session, Script):
                    epochs.facts, said = session.facts, session.said
    except (Exception, SystemExit) as raised:
        status = "timeout" if isinstance(raised, TimeoutError) and watch.step_of(raised) == "progress" else "failed"
        error, step = _one_line(raised, trial), watch.step_of(raised)
        detail = _traceback(raised) if said is None else said or None
    if epochs.diverged is not None:  # whatever came of it afterwards
        status, step, error, detail = "failed", "train", epochs.diverged, said
    watches = _watches(watch, now() - start_s)
    ended_at = worker.unix_s()
    own_processes = trial.setting.workload.name == "program"
    trials_before, worker.trials_run = worker.trials_run, worker.trials_run + 1
    return Outcome(
        status=status,
        epochs=tuple(epochs.records),
        error=error,
        error_detail=detail,
        step=step,
        watches=watches,
        facts=before.told(
            _with_process(epochs.all_facts(), trials_before, watch.reading() - used, others=own_processes),
            worker,
            others=own_processes,
        ),
        started_at=started_at,
        ended_at=ended_at,
        files=files if status == "completed" else {},
    )


class _Epochs:
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
        self.stopping = _EarlyStopping(trial.setting.early_stopping) if trial.setting.early_stopping else None
        self._trial = trial
        self._watch = watch
        self._on_epoch = on_epoch
        self._on_progress = on_progress
        self._meter = meter
        self._elapsed_s = 0.0
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

    @contextmanager
    def training(self, drain: Callable[[], None] = lambda: None) -> Iterator[None]:
        """The timed span, see `_timed`."""
        if self._training:
            raise SuiteError("training() within training(): the inner one would count twice; leave one away")
        before, meter = self._watch["train"], self._meter
        self._training = True
        with self._watch.measuring("record"):
            counters = None if meter is None else meter.read()
        if self._started_at is None:
            self._started_at = self._watch.unix_s()
        try:
            with _timed(self._watch, drain):
                yield
        finally:
            self._training = False
        self._ended_at = self._watch.unix_s()
        self._span += self._watch["train"] - before
        with self._watch.measuring("record"):
            used = None if meter is None or counters is None else meter.between(counters, meter.read())
            self._energy = used if self._energy is None or used is None else _sum(self._energy, used)

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
        warmup = self.count == 0 and (self.facts.program_reused is False or self.facts.compile_ahead_s is not None)
        return Timing(
            train=self._span,
            eval_s=eval_s if eval_s > 0 else None,
            started_at=self._watch.unix_s() if self._started_at is None else self._started_at,
            ended_at=self._ended_at,
            warmup=warmup,
        )


class _EarlyStopping:
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


def _train(
    session: Session, epochs: _Epochs, trial: Trial, watch: Stopwatch, compile_ahead_s: float | None
) -> Mapping[str, bytes]:
    """Lead a session through its epochs; return the files that are to be kept of it."""
    with watch.measuring("eval"):
        initial = session.evaluate()
    epochs.facts = replace(session.facts, compile_ahead_s=compile_ahead_s)
    if initial is not None:
        epochs.facts = replace(epochs.facts, initial_val_loss=initial.loss, initial_val_accuracy=initial.accuracy)
    stopping = epochs.stopping
    best: Any = None
    for number in range(1, trial.setting.epochs + 1):
        with watch.measuring("data"):
            session.before_epoch(number)
        epochs.begin()
        with epochs.training(session.drain):
            result = session.train_epoch(number, epochs.tick)
        if result is None:
            break
        if result.held_out is None:
            with watch.measuring("eval"):
                result = replace(result, held_out=session.evaluate())
        epochs.record(result)
        with watch.measuring("record"):
            session.observe(number)
            if stopping is not None and stopping.best_weights and stopping.improved:
                best = session.snapshot()
        if epochs.over:
            break
    if epochs.diverged is not None:
        return {}
    with watch.measuring("record"):
        if best is not None and stopping is not None and stopping.best_epoch != epochs.count:
            session.restore(best)
        return session.files()


@contextmanager
def _timed(watch: Stopwatch, drain: Callable[[], None]) -> Iterator[None]:
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


def _sum(one: Energy, other: Energy) -> Energy:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    """What is read at the beginning of a trial and again at its end, off all stopwatches."""

    wall_s: float
    steady_s: float
    raw_s: float
    major_faults: int
    switches: int
    counters: Counters | None

    @classmethod
    def read(cls, worker: WorkerState) -> _Edge:
        used = getrusage(RUSAGE_SELF)
        return cls(
            wall_s=time.time(),
            steady_s=time.perf_counter(),
            raw_s=_raw_clock_s(),
            major_faults=used.ru_majflt,
            switches=used.ru_nivcsw,
            counters=None if worker.meter is None else worker.meter.read(),
        )

    def told(self, facts: Facts, worker: WorkerState, *, others: bool) -> Facts:
        """Return the facts with what has changed since; `others`: the trial ran in processes below this one."""
        end = _Edge.read(worker)
        steady_s, raw_s = end.steady_s - self.steady_s, end.raw_s - self.raw_s
        counters = self.counters
        return replace(
            facts,
            clock_step_s=(end.wall_s - self.wall_s) - steady_s,
            clock_drift=steady_s / raw_s - 1.0 if raw_s > 0 else None,
            major_faults=None if others else end.major_faults - self.major_faults,
            involuntary_switches=None if others else end.switches - self.switches,
            energy=(
                None
                if worker.meter is None or counters is None or end.counters is None
                else worker.meter.between(counters, end.counters)
            ),
        )


def _raw_clock_s() -> float:
    """Return the clock that no time service adjusts; the steady one where there is none."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW) if hasattr(time, "CLOCK_MONOTONIC_RAW") else time.perf_counter()


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


def _one_line(error: Exception | SystemExit, trial: Trial) -> str:
    """Return type and message of an error on one line; the harness's own errors speak for themselves."""
    message = _gist(str(error))
    if _out_of_memory(error):
        told, setting = f" ({message})" if message else "", trial.setting
        if setting.workload.name != "training":
            return f"out of memory{told}"[:_MESSAGE_LIMIT]
        advice = f"out of memory at batch_size={setting.batch_size}: use a smaller batch or a smaller model"
        return f"{advice}{told}"[:_MESSAGE_LIMIT]
    if isinstance(error, HarnessError | TimeoutError) and message:
        return message[:_MESSAGE_LIMIT]
    return f"{type(error).__name__}: {message}"[:_MESSAGE_LIMIT] if message else type(error).__name__


def _traceback(error: Exception | SystemExit) -> str | None:
    """Return the end of an error's traceback; what is not set up on a node needs none."""
    if isinstance(error, SetupError):
        return None
    return _COLOURS.sub("", "".join(traceback.format_exception(error)))[-_DETAIL_LIMIT:]


def _gist(message: str) -> str:
    """Return the line of a message that says what is wrong; Keras and TensorFlow begin theirs with where it was."""
    lines = [line for part in _NOISE.sub("", message).splitlines() if (line := part.strip())]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling "):
        return f"{lines[1]} (in {lines[0].removeprefix('Exception encountered when calling ').rstrip('.')})"
    if len(lines) > 1 and lines[0].startswith("Graph execution error"):
        lines = [line for line in lines if not line.startswith("[[")][-1:]
    return lines[0] if lines else ""


def _out_of_memory(error: Exception | SystemExit) -> bool:
    """Whether an error of Python or of a back end says so; back ends are known by name, for want of an import."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError")
        or "RESOURCE_EXHAUSTED" in str(error)
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def _watches(watch: Stopwatch, wall_s: float) -> Stopwatches:
    return Stopwatches(
        build_s=watch["build"].wall_s,
        compile_s=watch["compile"].wall_s,
        data_s=watch["data"].wall_s,
        train_s=watch["train"].wall_s,
        eval_s=watch["eval"].wall_s,
        record_s=watch["record"].wall_s + watch["progress"].wall_s,
        wall_s=wall_s,
    )


def _with_process(facts: Facts, trials_before: int, used: Span, *, others: bool) -> Facts:
    """Return the facts with those of this process added; `others`: the trial ran in processes below this one."""
    return replace(
        facts,
        cores=_cores(),
        gpus=_gpus(),
        pid=os.getpid(),
        worker_trials_before=trials_before,
        peak_rss_bytes=facts.peak_rss_bytes if others else getrusage(RUSAGE_SELF).ru_maxrss * 1024,
        rss_bytes=_rss_bytes(),
        user_cpu_s=used.user_cpu_s,
        system_cpu_s=used.system_cpu_s,
    )


def _cores() -> tuple[int, ...] | None:
    """Return the hardware threads that this process may run on, None where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def _gpus() -> tuple[str, ...] | None:
    """Return the UUIDs of the GPUs, or of their MIG instances, that this process was given; None for none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return tuple(name for name in named if name.startswith(("GPU-", "MIG-"))) or None


def _rss_bytes() -> int | None:
    """Return the resident memory of this process, where /proc tells it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def _backend(name: str) -> Backend:
    backend: Backend = importlib.import_module(f"harness.workloads.training.{name}").BACKEND
    return backend


def _load(setting: Setting) -> Workload:
    """Return a new workload of the kind that a setting names."""
    match setting.workload.name:
        case "function":
            from harness.workloads.function import Function

            return Function(_data)
        case "program":
            from harness.workloads.program import Program

            return Program()
        case "minimise":
            from harness.workloads.minimise import Minimise

            return Minimise()
        case _:
            from harness.workloads.training.workload import Training

            return Training(_data, _backend(setting.backend))


def _data(dataset: Dataset, sources: Mapping[str, Source]) -> Arrays:
    """Load a dataset, and NumPy with the first."""
    return datasets.load(dataset, sources)
