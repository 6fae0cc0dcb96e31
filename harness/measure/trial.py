"""One trial, run to its end: a session led through its epochs, or a workload that leads by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from harness.domain.outcome import EpochRecord, Outcome, Scores, Status, Stopwatches
from harness.domain.trial import Trial
from harness.measure.epochs import MeasuredEpochs
from harness.measure.errors import one_line, traceback_of
from harness.measure.states import States
from harness.measure.worker import WorkerState
from harness.workloads.protocol import Script, Session, Stopwatch, Tick

Clock = Callable[[], float]


def run_trial(
    trial: Trial,
    worker: WorkerState,
    on_epoch: Callable[[EpochRecord], None],
    on_progress: Tick | None = None,
    *,
    state: bytes | None = None,
    on_state: Callable[[bytes], None] | None = None,
    now: Clock = time.perf_counter,
) -> Outcome:
    """Run one trial to its end, whatever that is: from its beginning, or from a `state` that fits.

    `on_state` is handed a state to go on from each `trial.checkpoint_s` seconds.

    What the trial raises becomes part of the outcome, which keeps every epoch measured before it; a
    `TimeoutError` out of `on_progress` ends it as "timeout". Only `KeyboardInterrupt` and its like go through.
    """
    started_at = worker.unix_s()
    watch = Stopwatch(now, unix_s=worker.unix_s)
    epochs = MeasuredEpochs(trial, watch, on_epoch, on_progress, worker.meter)
    states = States(trial, worker, watch, epochs, state=state, on_state=on_state, now=now)
    del state
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
                    states.take_up(None)
                    session.run(epochs)
                else:
                    ahead_s = worker.compiled_ahead_s.pop(trial.program_key, None)
                    files = _Lead(session, epochs, trial, watch, states).run(ahead_s)
            finally:
                if isinstance(session, Script):
                    epochs.facts, said = session.facts, session.said
    except (Exception, SystemExit) as raised:
        status = "timeout" if isinstance(raised, TimeoutError) and watch.step_of(raised) == "progress" else "failed"
        error, step = one_line(raised, trial), watch.step_of(raised)
        detail = traceback_of(raised) if said is None else said or None
    if epochs.diverged is not None:  # whatever came of it afterwards
        status, step, error, detail = "failed", "train", epochs.diverged, said
    watches = _watches(watch, states.wall_s)
    ended_at = worker.unix_s()
    facts = states.facts(epochs.all_facts(), others=trial.setting.workload.name == "program")
    worker.trials_run += 1
    return Outcome(
        status=status,
        epochs=tuple(epochs.records),
        error=error,
        error_detail=detail,
        step=step,
        watches=watches,
        facts=facts,
        started_at=started_at,
        ended_at=ended_at,
        files=files if status == "completed" else {},
        remark=states.remark,
    )


class _Lead:
    """Leads a session through its epochs."""

    def __init__(
        self, session: Session, epochs: MeasuredEpochs, trial: Trial, watch: Stopwatch, states: States
    ) -> None:
        self._session, self._epochs, self._trial = session, epochs, trial
        self._watch, self._states = watch, states
        self._best: Any = None  # weights

    def run(self, compile_ahead_s: float | None) -> Mapping[str, bytes]:
        """Go to the end; return the files that are to be kept of the trial."""
        epochs, last = self._epochs, self._trial.setting.epochs
        self._begin(compile_ahead_s)
        epochs.between = self._save
        while epochs.count < last and self._epoch(epochs.count + 1) and not epochs.over:
            if epochs.count < last:
                self._save()
        if epochs.diverged is not None:
            return {}
        stopping = epochs.stopping
        with self._watch.measuring("record"):
            if self._best is not None and stopping is not None and stopping.best_epoch != epochs.count:
                self._session.restore(self._best)
            return self._session.files()

    def _begin(self, compile_ahead_s: float | None) -> None:
        """Take up the state of before, or else look at what is untrained."""
        self._best = self._states.take_up(self._session)
        initial: Scores | None = None
        if not self._states.resumed:
            with self._watch.measuring("eval"):
                initial = self._session.evaluate()
        facts = replace(self._session.facts, compile_ahead_s=compile_ahead_s)
        if initial is not None:
            facts = replace(facts, initial_val_loss=initial.loss, initial_val_accuracy=initial.accuracy)
        self._epochs.facts = facts

    def _epoch(self, number: int) -> bool:
        """Train and record one epoch; False where there is none any more."""
        session, epochs, watch = self._session, self._epochs, self._watch
        with watch.measuring("data"):
            session.before_epoch(number)
        epochs.begin()
        with epochs.training(session.drain):
            result = session.train_epoch(number, epochs.tick)
        if result is None:
            return False
        if result.held_out is None:
            with watch.measuring("eval"):
                result = replace(result, held_out=session.evaluate())
        epochs.record(result)
        stopping = epochs.stopping
        with watch.measuring("record"):
            session.observe(number)
            if stopping is not None and stopping.best_weights and stopping.improved:
                self._best = session.snapshot()
        return True

    def _save(self) -> None:
        """Save the state, if it is time to: between two epochs, or within one."""
        if self._states.due:
            self._session.drain()  # what is still queued belongs to what was timed
            with self._watch.measuring("record"):
                kept = self._session.keep()
                if kept is not None:
                    self._states.save(kept, self._best)


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
