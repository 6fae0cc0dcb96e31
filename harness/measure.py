"""One trial → its epochs and its outcome, in the process that runs it.

The timed span of an epoch is `_time_epoch`; everything else a trial does has a stopwatch of its own (see
docs/method.md).
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from resource import RUSAGE_SELF, getrusage
from typing import Final

from harness import datasets
from harness.domain.errors import HarnessError
from harness.domain.grid import show
from harness.domain.outcome import EpochRecord, Facts, Outcome, Scores, Status, Stopwatches
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.protocol import EpochResult, Session, Span, Stopwatch, Tick, Workload

Clock = Callable[[], float]

_MESSAGE_LIMIT: Final = 400  # characters of a trial's one-line error
_DETAIL_LIMIT: Final = 8000  # characters of its traceback, the end of it kept
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_NOISE: Final = re.compile(r"\x1b\[[0-9;]*m|\{\{[^}]*\}\} ?| ?\[Op:[^]]*\].*")  # colours, and names within TensorFlow


@dataclass(kw_only=True)
class WorkerState:
    """What a worker process keeps from trial to trial."""

    sources: dict[str, Source] = field(default_factory=dict)
    trials_run: int = 0
    workloads: dict[str, Workload] = field(default_factory=dict)  # by back end and name; each keeps its own caches
    compiled_ahead_s: dict[str, float] = field(default_factory=dict)  # by program key; told to the trial that uses it

    def workload(self, trial: Trial) -> Workload:
        """Return the workload that a trial runs, importing it when it is first asked for."""
        name = trial.setting.workload.name
        key = f"{trial.setting.backend}.{name}"
        if key not in self.workloads:
            self.workloads[key] = _load(name)
        return self.workloads[key]


class Body:
    """What runs inside a worker: prepares the process, then checks and runs the trials it is given."""

    def __init__(self) -> None:
        self._state = WorkerState()

    def preload(self, backend: str) -> None:
        """Import what the back end needs, but start no thread and touch no device; "none" needs nothing."""
        if backend != "none":
            with _hidden("pandas", "sklearn"):
                importlib.import_module(f"harness.workloads.training.{backend}")

    def prepare(self, backend: str) -> None:
        """Touch the devices, so that no trial pays for it; the process may have been forked after `preload`."""
        if backend != "none":
            from harness.workloads.training.tensorflow import prepare_process

            prepare_process()

    def sources(self, sources: Mapping[str, Source]) -> None:
        """Take the text of the files whose functions the trials name."""
        self._state.sources.update(sources)

    def check(self, trial: Trial) -> str | None:
        """Build what the setting declares; return what is wrong with it, and at which point of the grid, or None.

        Memory that runs out is nothing wrong: it is a result, of the trial that will run out of it again.
        """
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

    def run(self, trial: Trial, on_epoch: Callable[[EpochRecord], None], on_progress: Tick | None = None) -> Outcome:
        """Run one trial; `on_epoch` after each epoch, `on_progress` at least every few seconds."""
        return run_trial(trial, self._state, on_epoch, on_progress)


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Let imports find these packages missing: Keras imports them where it can, which costs seconds and starts
    threads, and uses them for nothing that a trial does. Own functions may import them afterwards."""
    hidden = [name for name in packages if name not in sys.modules]
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
    started_at, start_s, used = time.time(), now(), _cpu_seconds()
    watch = Stopwatch(now)
    epochs: list[EpochRecord] = []
    facts = Facts()
    status: Status = "completed"
    error: str | None = None
    detail: str | None = None
    step: str | None = None
    try:
        session = worker.workload(trial).open(trial, worker.sources, watch)
        with closing(session):
            with watch.measuring("eval"):
                untrained = session.evaluate()
            ahead_s = worker.compiled_ahead_s.pop(trial.program_key, None)
            facts = replace(session.facts, compile_ahead_s=ahead_s)
            if untrained is not None:
                facts = replace(facts, initial_val_loss=untrained.loss, initial_val_accuracy=untrained.accuracy)
            tick = _ticker(on_progress, watch)
            for number in range(1, trial.setting.epochs + 1):
                record = _run_epoch(session, number, facts, watch, tick)
                if record is None:
                    break
                epochs.append(record)
                with watch.measuring("record"):
                    on_epoch(record)
                error = _divergence(record, trial)
                if error is not None:
                    status, step = "failed", "train"
                    break
    except (Exception, SystemExit) as raised:
        status = "timeout" if isinstance(raised, TimeoutError) and watch.step_of(raised) == "progress" else "failed"
        error, step = _one_line(raised, trial), watch.step_of(raised)
        detail = _COLOURS.sub("", "".join(traceback.format_exception(raised)))[-_DETAIL_LIMIT:]
    watches = _watches(watch, now() - start_s)
    trials_before, worker.trials_run = worker.trials_run, worker.trials_run + 1
    return Outcome(
        status=status,
        epochs=tuple(epochs),
        error=error,
        error_detail=detail,
        step=step,
        watches=watches,
        facts=_with_process(facts, trials_before, _cpu_seconds() - used),
        started_at=started_at,
        ended_at=time.time(),
    )


def _time_epoch(
    run: Callable[[], EpochResult | None], *, drain: Callable[[], None], watch: Stopwatch
) -> tuple[EpochResult | None, Span]:
    """Return what the epoch did and the time it took, the device's queued work included.

    Python's garbage collector is held off meanwhile; what the epoch itself attributes to another step is not in
    the span.
    """
    drain()
    collecting = gc.isenabled()
    gc.disable()
    before = watch["train"]
    try:
        with watch.measuring("train"):
            result = run()
            drain()
    finally:
        if collecting:
            gc.enable()
    return result, watch["train"] - before


def _run_epoch(session: Session, number: int, facts: Facts, watch: Stopwatch, tick: Tick) -> EpochRecord | None:
    """Train and evaluate one epoch; None when the workload has ended."""
    with watch.measuring("data"):
        session.before_epoch(number)
    evaluated = watch["eval"]
    started_at = time.time()
    result, span = _time_epoch(lambda: session.train_epoch(number, tick), drain=session.drain, watch=watch)
    ended_at = time.time()
    if result is None:
        return None
    held_out = result.held_out
    if held_out is None:
        with watch.measuring("eval"):
            held_out = session.evaluate()
    eval_s = (watch["eval"] - evaluated).wall_s
    scores = held_out or Scores()
    return EpochRecord(
        epoch=number,
        train_s=span.wall_s,
        eval_s=eval_s if eval_s > 0 else None,
        elapsed_train_s=watch["train"].wall_s,
        samples=result.samples,
        steps=result.steps,
        chunks=result.chunks,
        loss=result.train.loss,
        accuracy=result.train.accuracy,
        val_loss=scores.loss,
        val_accuracy=scores.accuracy,
        user_cpu_s=span.user_cpu_s,
        system_cpu_s=span.system_cpu_s,
        started_at=started_at,
        ended_at=ended_at,
        warmup=number == 1 and (facts.program_reused is False or facts.compile_ahead_s is not None),
    )


def _ticker(on_progress: Tick | None, watch: Stopwatch) -> Tick:
    """Return what a session calls between the chunks of an epoch; the time it takes is not training."""
    if on_progress is None:
        return lambda: None

    def tick() -> None:
        with watch.measuring("progress"):
            on_progress()

    return tick


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
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
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


def _with_process(facts: Facts, trials_before: int, used: Span) -> Facts:
    """Return the facts with those of this process added."""
    cores = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    visible = tuple(name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.startswith("GPU-"))
    return replace(
        facts,
        cores=cores,
        gpus=visible or None,
        pid=os.getpid(),
        worker_trials_before=trials_before,
        peak_rss_bytes=getrusage(RUSAGE_SELF).ru_maxrss * 1024,
        rss_bytes=_rss_bytes(),
        user_cpu_s=used.user_cpu_s,
        system_cpu_s=used.system_cpu_s,
    )


def _cpu_seconds() -> Span:
    used = getrusage(RUSAGE_SELF)
    return Span(0.0, used.ru_utime, used.ru_stime)


def _rss_bytes() -> int | None:
    """Return the resident memory of this process, where /proc tells it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def _load(name: str) -> Workload:
    if name == "function":
        from harness.workloads.function import Function

        return Function()
    from harness.workloads.training.tensorflow import Training

    return Training(datasets.load)
