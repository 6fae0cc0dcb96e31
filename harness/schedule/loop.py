"""The loop that keeps every worker busy and turns what happens to trials into finished ones."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from harness.domain.errors import SetupError, SuiteError
from harness.domain.outcome import Finished, Outcome, Placement
from harness.domain.trial import Trial
from harness.schedule.order import Demand, Ordered, Queue
from harness.schedule.protocol import Calibrated, Checked, Done, Event, Executor, Gone, Ready, Worker

LOST_ATTEMPTS: Final = 3  # a trial whose worker or node was lost runs so many times in all
LEAK_BYTES: Final = 1 << 30  # a worker this much above (and twice) its size after its first trial is replaced
_POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user asked for beyond the trials themselves."""

    retry: Collection[str] = ()  # statuses that get one more attempt, e.g. ("failed", "timeout")
    max_fail: int | None = None  # stop once so many trials have not completed
    budget_s: float | None = None  # start no trial after so many seconds
    fresh_workers: bool = False  # a new process for each trial
    calibrate: bool = True  # measure what each kind of share can do, before the first trial on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to show: a worker became ready, a trial began, is tried again, or a worker was replaced.

    "settled": so many trials of a setting are not needed any more, `fewer` of `values`, or are so after all where that
    is below 0.
    """

    what: Literal["opened", "ready", "calibrated", "started", "retried", "replaced", "gone", "settled"]
    worker: str
    trial: Trial | None = None
    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # what was calibrated, or how many trials are settled
    share: Worker | None = None  # whose share was calibrated


@dataclass(slots=True, kw_only=True)
class _Running:
    ordered: Ordered
    position: int
    neighbours: int
    warm: bool


@dataclass(slots=True)
class _State:
    worker: Worker
    ready: bool = False
    warm: set[str] = field(default_factory=set)  # program keys this process has run
    baseline: int | None = None
    running: _Running | None = None
    checking: bool = False
    calibrating: bool = False
    checked: set[tuple[str, str]] = field(default_factory=set)  # what it has built

    @property
    def free(self) -> bool:
        return self.ready and self.running is None and not self.checking and not self.calibrating


class Loop:
    """Runs the trials of a queue on an executor's workers. Iterate over it once; `stopped` then says why it ended
    early ("signal", "max_fail" or "budget"), or is None.

    `saved` returns the state to go on from of a trial that has run before, None to begin anew. `enough` is asked of
    each trial that ended for good: whether arms of its setting, by setting and arm, need no more repeats, as far as is
    known by now; their trials are held back while that is so.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        executor: Executor,
        *,
        seed: int,
        policy: Policy,
        first_position: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
        notify: Callable[[Notice], None] = lambda notice: None,
        tick: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        enough: Callable[[Finished], Mapping[tuple[str, str], bool]] = lambda finished: {},
        saved: Callable[[Trial], bytes | None] = lambda trial: None,
    ) -> None:
        self._queue = Queue(trials, seed=seed)
        self._executor = executor
        self._policy = policy
        self._should_stop = should_stop
        self._notify = notify
        self._tick = tick
        self._clock = clock
        self._enough = enough
        self._saved = saved
        self._states: dict[str, _State] = {}
        self._announced: set[str] = set()  # ready before this loop had use for them
        self._attempts: dict[tuple[str, str], int] = {}
        self._retried: set[tuple[str, str]] = set()
        self._to_check: dict[Demand, deque[Trial]] = {}
        for trial in _distinct(trials):
            self._to_check.setdefault(Demand.of(trial), deque()).append(trial)
        self._in_check: dict[str, Trial] = {}
        self._calibrated: set[tuple[str, Demand]] = set()  # nodes with the kinds of share, done or on the way
        self._problems: list[str] = []
        self._position = first_position
        self._failures = 0
        self._gone: list[str] = []
        self.stopped: str | None = None

    @property
    def running(self) -> dict[str, Trial]:
        """The trials now running, by worker."""
        return {name: state.running.ordered.trial for name, state in self._states.items() if state.running}

    def __iter__(self) -> Iterator[Finished]:
        began = self._clock()
        budget_s = self._policy.budget_s
        while True:
            if self._should_stop():
                self.stopped = "signal"
                return
            if budget_s is not None and self._clock() - began > budget_s and self.stopped is None:
                self.stopped = "budget"
            if self.stopped is None:
                self._dispatch()
            busy = self.running or self._in_check or any(state.calibrating for state in self._states.values())
            if not busy and (self.stopped or not len(self._queue)):
                return
            for event in self._executor.wait(_POLL_S):
                yield from self._handle(event)
            self._tick()

    def _dispatch(self) -> None:
        if self._to_check:
            for unchecked in list(self._to_check):
                for state in self._serving(unchecked):
                    if state.free:
                        self._check(state, unchecked)
            return
        demand = self._queue.demand
        if demand is None:
            return
        serving = self._serving(demand)
        kept_quiet = self._calibrate(serving, demand)
        for number, state in enumerate(serving):
            if state.free and state.worker.node not in kept_quiet:
                ordered = self._queue.take(index=number, workers=len(serving), warm=state.warm)
                if ordered is not None:
                    self._submit(state, ordered)

    def _calibrate(self, serving: Sequence[_State], demand: Demand) -> set[str]:
        """Have one free worker of each node measure what such a share can do, once all workers there are up.

        Returns the nodes on which nothing else may run meanwhile.
        """
        for state in serving if self._policy.calibrate else ():
            place = (state.worker.node, demand)
            there = [other for other in self._states.values() if other.worker.node == state.worker.node]
            if place not in self._calibrated and all(other.free for other in there):
                self._calibrated.add(place)
                state.calibrating = True
                self._executor.calibrate(state.worker.name)
        nodes = {state.worker.node for state in serving if self._policy.calibrate}
        waiting = {node for node in nodes if (node, demand) not in self._calibrated}
        return waiting | {state.worker.node for state in self._states.values() if state.calibrating}

    def _serving(self, demand: Demand) -> list[_State]:
        """Return the workers that serve a demand, opened if they are not."""
        for worker in self._executor.open(demand):
            if worker.name not in self._states:
                self._states[worker.name] = _State(worker, ready=worker.name in self._announced)
                self._notify(Notice(what="opened", worker=worker.name))
        serving = [state for state in self._states.values() if state.worker.demand == demand]
        if not serving:
            raise SetupError("no worker is left to run trials on: " + "; ".join(dict.fromkeys(self._gone)))
        return serving

    def _check(self, state: _State, demand: Demand) -> None:
        """Have a free worker build what nobody has built yet, or what another is building: it will need it too."""
        waiting = self._to_check[demand]
        if waiting:
            trial = waiting.popleft()
        else:
            others = [trial for trial in self._checking(demand) if trial.key not in state.checked]
            if not others:
                return
            trial = others[0]
        self._in_check[state.worker.name] = trial
        state.checking = True
        state.checked.add(trial.key)
        self._executor.check(state.worker.name, trial)

    def _checking(self, demand: Demand) -> list[Trial]:
        return [trial for trial in self._in_check.values() if Demand.of(trial) == demand]

    def _checked(self, worker: str, problem: str | None) -> None:
        """Take note that a worker has built what it was given, or is gone; raise once all is checked and some is wrong.

        Raises:
            SuiteError: naming everything that cannot be built.
        """
        trial = self._in_check.pop(worker, None)
        if trial is not None:
            demand = Demand.of(trial)
            if not self._to_check[demand] and not self._checking(demand):
                del self._to_check[demand]
        self._problems += [] if problem is None else [problem]
        if self._problems and not self._to_check:
            raise SuiteError("\n".join(dict.fromkeys(self._problems)))

    def _submit(self, state: _State, ordered: Ordered) -> None:
        trial, name = ordered.trial, state.worker.name
        beside = [
            other.running
            for other in self._states.values()
            if other.running is not None and other.worker.node == state.worker.node
        ]
        for one in beside:
            one.neighbours = max(one.neighbours, len(beside))
        warm = trial.program_key in state.warm
        state.running = _Running(ordered=ordered, position=self._position, neighbours=len(beside), warm=warm)
        self._position += 1
        self._attempts[trial.key] = self._attempts.get(trial.key, 0) + 1
        self._notify(Notice(what="started", worker=name, trial=trial))
        self._executor.submit(name, trial, attempt=self._attempts[trial.key], state=self._saved(trial))

    def _handle(self, event: Event) -> Iterator[Finished]:
        state = self._states.get(event.worker)
        if state is None:
            if isinstance(event, Ready):
                self._announced.add(event.worker)
            return
        match event:
            case Ready():
                state.ready, state.baseline, state.warm = True, None, set()
                self._notify(Notice(what="ready", worker=event.worker, text=f"{event.prepare_s:.1f} s"))
            case Checked():
                state.checking = False
                self._checked(event.worker, event.error)
            case Calibrated():
                state.calibrating = False
                if event.values:
                    self._notify(
                        Notice(what="calibrated", worker=event.worker, values=event.values, share=state.worker)
                    )
            case Gone():
                yield from self._lost(state, event.reason)
            case Done():
                running, state.running = state.running, None
                assert running is not None
                yield from self._ended(state, running, event.outcome)
                self._after(state, running, event)

    def _lost(self, state: _State, reason: str) -> Iterator[Finished]:
        """Go on without a worker."""
        worker = state.worker
        self._gone.append(reason)
        self._checked(worker.name, None)
        self._notify(Notice(what="gone", worker=worker.name, text=reason))
        if state.calibrating:  # another one there may
            self._calibrated.discard((worker.node, worker.demand))
        del self._states[worker.name]
        if state.running is not None:
            yield from self._ended(state, state.running, Outcome(status="lost", error=reason))

    def _after(self, state: _State, running: _Running, event: Done) -> None:
        name, rss = event.worker, event.outcome.facts.rss_bytes
        if not event.alive:
            state.ready = False
            self._notify(Notice(what="replaced", worker=name, text=event.outcome.error or ""))
            return
        state.warm.add(running.ordered.trial.program_key)
        if state.baseline is None:
            state.baseline = rss
        leaked = (
            rss is not None and state.baseline is not None and rss > state.baseline + max(LEAK_BYTES, state.baseline)
        )
        if self._policy.fresh_workers or leaked:
            if leaked:
                text = f"its memory grew from {state.baseline or 0:,} to {rss:,} bytes"
                self._notify(Notice(what="replaced", worker=name, text=text))
            state.ready = False
            self._executor.replace(name)

    def _ended(self, state: _State, running: _Running, outcome: Outcome) -> Iterator[Finished]:
        trial = running.ordered.trial
        self._queue.ended()
        attempt = self._attempts[trial.key]
        if self._again(trial, outcome, attempt):
            self._notify(Notice(what="retried", worker=state.worker.name, trial=trial, text=outcome.error or ""))
            self._queue.put_back(running.ordered)
            return
        if outcome.status != "completed":
            self._failures += 1
            if self._policy.max_fail is not None and self._failures >= self._policy.max_fail:
                self.stopped = self.stopped or "max_fail"
        facts = outcome.facts
        if facts.cores is None:
            outcome = replace(outcome, facts=replace(facts, cores=state.worker.cores or None))
        finished = Finished(
            trial=trial,
            outcome=outcome,
            placement=Placement(
                worker=state.worker.name,
                node=state.worker.node,
                others=state.worker.others,
                position=running.position,
                block=running.ordered.block,
                attempt=attempt,
                neighbours=running.neighbours,
                warmth="warm" if running.warm else "cold",
            ),
        )
        self._settle(finished)
        yield finished

    def _settle(self, finished: Finished) -> None:
        for (setting_id, arm), settled in self._enough(finished).items():
            fewer = self._queue.hold(setting_id, arm) if settled else -self._queue.release(setting_id, arm)
            if fewer:
                values = {"setting_id": setting_id, "fewer": fewer}
                self._notify(Notice(what="settled", worker="", trial=finished.trial, values=values))

    def _again(self, trial: Trial, outcome: Outcome, attempt: int) -> bool:
        if self.stopped:
            return False
        if outcome.status == "lost" and attempt < LOST_ATTEMPTS:
            return True
        if outcome.status in self._policy.retry and trial.key not in self._retried:
            self._retried.add(trial.key)
            return True
        return False


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """One trial for each distinct thing to build."""
    found: dict[str, Trial] = {}
    seen: dict[int, str] = {}
    for trial in trials:
        setting = trial.setting
        key = seen.get(id(setting))
        if key is None:
            parts = [
                setting.dataset,
                setting.workload,
                setting.model,
                setting.loss,
                setting.optimizer,
                *setting.metrics,
            ]
            plain = [part.plain() if part is not None else None for part in parts]
            how = [setting.backend, setting.precision, setting.engine, setting.save_model, setting.tensorboard]
            key = json.dumps([plain, how], sort_keys=True)
            seen[id(setting)] = key
        found.setdefault(key, trial)
    return list(found.values())
