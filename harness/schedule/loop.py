"""The loop that keeps every worker busy and turns what happens to trials into finished ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.domain.errors import SetupError
from harness.domain.outcome import Finished, Outcome, Placement
from harness.domain.trial import Trial
from harness.schedule.checks import Checks
from harness.schedule.demand import Demand
from harness.schedule.losses import Cause, Losses
from harness.schedule.notice import Notice
from harness.schedule.order import Queue
from harness.schedule.patience import Patience
from harness.schedule.phases import Ordered
from harness.schedule.protocol import Calibrated, Checked, Done, Event, Executor, Gone, Ready
from harness.schedule.staff import Running, Staff, WorkerState

LEAK_BYTES: Final = 1 << 30  # a worker this much above (and twice) its size after its first trial is replaced
_POLL_S: Final = 0.25
_LOOK_EVERY_S: Final = 1.0  # how often to ask for the workers of nodes that have joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user asked for beyond the trials themselves."""

    retry: Collection[str] = ()  # statuses that get one more attempt, e.g. ("failed", "timeout")
    max_fail: int | None = None  # stop once so many trials have not completed
    budget_s: float | None = None  # start no trial after so many seconds
    fresh_workers: bool = False  # a new process for each trial
    calibrate: bool = True  # measure what each kind of share can do, before the first trial on it
    patience_s: float = 300.0  # wait so long for a node to come back where none is left that can run what waits


class Loop:
    """Runs the trials of a queue on an executor's workers. Iterate over it once; `stopped` then says why it ended
    early ("signal", "max_fail", "budget", "stop" or "nodes"), or is None.

    `should_stop` ends it at once; `should_finish` starts no further trial and waits for those that run.

    `saved` returns the state to go on from of a trial that has run before, None to begin anew. `enough` is asked of
    each trial that ended for good: whether arms of its setting, by setting and arm, need no more repeats, as far as is
    known by now; their trials are held back while that is so.

    After "nodes", `unserved` holds what waits and no node is left for.
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
        should_finish: Callable[[], bool] = lambda: False,
        notify: Callable[[Notice], None] = lambda notice: None,
        tick: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        enough: Callable[[Finished], Mapping[tuple[str, str], bool]] = lambda finished: {},
        saved: Callable[[Trial], bytes | None] = lambda trial: None,
    ) -> None:
        self._queue = Queue(trials, seed=seed)
        self._checks = Checks(trials)
        self._losses = Losses()
        self._executor = executor
        self._policy = policy
        self._should_stop = should_stop
        self._should_finish = should_finish
        self._notify = notify
        self._tick = tick
        self._clock = clock
        self._enough = enough
        self._saved = saved
        self._staff = Staff()
        self._patience = Patience(executor, self._staff, patience_s=policy.patience_s, notify=notify)
        self._calibrating: set[str] = set()  # workers
        self._calibrated: set[tuple[str, Demand]] = set()  # nodes with the kinds of share, done or on the way
        self._changed: set[str] = set()  # nodes where there may be something to start
        self._announced: dict[str, Ready] = {}  # before this loop had use for them
        self._attempts: dict[tuple[str, str], int] = {}  # of trials that have not ended
        self._retried: set[tuple[str, str]] = set()
        self._position = first_position
        self._failures = 0
        self._now_s = 0.0
        self._look_at_s = -math.inf
        self.unserved: list[Demand] = []
        self.stopped: str | None = None

    @property
    def running(self) -> dict[str, Trial]:
        """The trials now running, by worker."""
        return {name: running.ordered.trial for name, running in self._staff.running.items()}

    @property
    def set_aside(self) -> Mapping[str, str]:
        """The nodes that are used no more, each with the reason."""
        return self._staff.set_aside

    def __iter__(self) -> Iterator[Finished]:
        began = self._clock()
        budget_s = self._policy.budget_s
        while True:
            if self._should_stop():
                self.stopped = "signal"
                return
            self._now_s = self._clock()
            if budget_s is not None and self._now_s - began > budget_s and self.stopped is None:
                self.stopped = "budget"
            if self.stopped is None and self._should_finish():
                self.stopped = "stop"
            if self.stopped is None:
                self._dispatch()
            if not self._under_way and (self.stopped or not len(self._queue)):
                return
            yield from self.hear(_POLL_S)
            self._tick()

    def hear(self, timeout_s: float) -> Iterator[Finished]:
        """Take in what happens within so many seconds, and start nothing: also for whoever has ended the loop."""
        for event in self._executor.wait(timeout_s):
            yield from self._handle(event)

    @property
    def _under_way(self) -> bool:
        return bool(self._staff.busy or self._calibrating or self._checks.under_way)

    def _dispatch(self) -> None:
        """Give free workers something to do."""
        look = self._now_s >= self._look_at_s
        if look:
            self._look_at_s = self._now_s + _LOOK_EVERY_S
        self._open_what_is_due(look)
        if look:
            self._give_up_where_none_is_left()
        while not self._check():
            changed, self._changed, self._queue.changed = self._changed | self._queue.changed, set(), set()
            for node in [node for node in self._staff.nodes if node in changed] if len(changed) > 1 else changed:
                self._serve(node)
            if not self._queue.changed:
                return
            self._open_what_is_due(False)

    # The workers that there are. -------------------------------------------------------------------------------------

    def _open_what_is_due(self, look: bool) -> None:
        """Open workers for what has to be built, and for what comes next on any node; `look` for those of new nodes."""
        for demand in self._staff.demands if look else ():
            if self._queue.waits(demand):
                self._open(demand)
        for demand in self._checks.demands:
            if not self._staff.opened(demand):
                self._open(demand)
        if (look or self._queue.changed) and len(self._staff.demands) < self._queue.kinds:
            for demand in self._queue.demands:
                if not self._staff.opened(demand):
                    hosts = self._patience.hosts(demand)
                    if self._queue.ahead(demand, hosts) or not (hosts or self._patience.proven):
                        self._open(demand)

    def _open(self, demand: Demand) -> None:
        """Take in the workers that serve a demand, as far as they are new.

        Raises:
            SetupError: when no node that was ever there can hold one.
        """
        try:
            workers = self._executor.open(demand)
        except SetupError as error:
            if not self._staff.opened(demand):
                raise
            self._patience.gone(str(error))
            workers = []
        self._staff.open(demand)
        for worker in workers:
            if worker.name in self._staff or not self._staff.set_aside.keys().isdisjoint(worker.nodes):
                continue
            announced = self._announced.pop(worker.name, None)
            state = self._staff.add(worker)
            self._patience.opened(worker)
            self._queue.join(worker.name, demand, worker.nodes)
            self._notify(Notice(what="opened", worker=worker.name, share=worker))
            if announced is not None:
                self._is_ready(state, announced)

    def _is_ready(self, state: WorkerState, event: Ready) -> None:
        state.ready, state.baseline, state.warm = True, None, dict.fromkeys(sorted(event.warm))
        self._patience.ready(state.worker.demand)
        self._notify(Notice(what="ready", worker=event.worker, text=f"{event.prepare_s:.1f} s"))

    def _leave(self, state: WorkerState) -> None:
        """Use a worker no more."""
        worker = state.worker
        self._staff.remove(state)
        self._queue.leave(worker.name)
        if state.calibrating:  # another one there may
            self._calibrating.discard(worker.name)
            self._calibrated.discard((worker.node, worker.demand))
        self._look_at_s = -math.inf
        self._checks.ended(worker.name, None)

    def _give_up_where_none_is_left(self) -> None:
        """Stop once nothing that waits can run, and no node has come back for long enough."""
        waiting, idle = self._queue.demands, not self._under_way
        unserved = self._patience.exhausted(waiting, trials=len(self._queue), idle=idle, now_s=self._now_s)
        if unserved:
            self.stopped, self.unserved = "nodes", unserved

    # What they do. ---------------------------------------------------------------------------------------------------

    def _check(self) -> bool:
        """Have free workers build what has yet to be; return whether trials have to wait for that."""
        wait = False
        for demand in self._checks.demands:
            for state in self._staff.serving(demand):
                wait = True
                trial = self._checks.take(state.worker.name, demand) if state.free else None
                if trial is not None:
                    state.checking = True
                    self._executor.check(state.worker.name, trial)
        return wait

    def _serve(self, node: str) -> None:
        """Start what is due on a node, once what its shares can do has been measured and no other demand runs there."""
        demand = self._queue.due(node)
        if demand is None:
            return
        for state in self._staff.on(node):
            if state.worker.demand != demand or not state.free:
                continue
            name, place = state.worker.name, (state.worker.node, demand)
            if self._policy.calibrate and place not in self._calibrated:
                if all(other.free for other in self._staff.beside(state)):
                    self._calibrated.add(place)
                    self._calibrating.add(name)
                    state.calibrating = True
                    self._executor.calibrate(name)
            elif not (self._calibrating and any(other.calibrating for other in self._staff.beside(state))):
                ordered = self._queue.take(name, warm=state.warm)
                if ordered is not None:
                    self._submit(state, ordered)

    def _submit(self, state: WorkerState, ordered: Ordered) -> None:
        trial, name = ordered.trial, state.worker.name
        saved = self._saved(trial)
        warm = trial.program_key in state.warm
        self._staff.begin(state, Running(ordered=ordered, position=self._position, warm=warm, state=_mark(saved)))
        self._position += 1
        attempt = self._attempts[trial.key] = self._attempts.get(trial.key, 0) + 1
        self._notify(Notice(what="started", worker=name, trial=trial))
        self._executor.submit(name, trial, attempt=attempt, state=saved)

    # What comes of it. -----------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> Iterator[Finished]:
        state = self._staff.get(event.worker)
        if state is None:
            if isinstance(event, Ready):
                self._announced[event.worker] = event
            elif isinstance(event, Gone):
                self._announced.pop(event.worker, None)
            return
        self._changed.update(state.worker.nodes)
        match event:
            case Ready():
                self._is_ready(state, event)
            case Checked():
                state.checking = False
                self._checks.ended(event.worker, event.error)
            case Calibrated():
                state.calibrating = False
                self._calibrating.discard(event.worker)
                if event.values:
                    self._notify(
                        Notice(what="calibrated", worker=event.worker, values=event.values, share=state.worker)
                    )
            case Gone():
                yield from self._lost(state, event)
            case Done():
                yield from self._done(state, event)

    def _lost(self, state: WorkerState, event: Gone) -> Iterator[Finished]:
        """Go on without a worker."""
        self._patience.gone(event.reason)
        nodes = event.blamed or state.worker.nodes
        self._notify(Notice(what="gone", worker=event.worker, text=event.reason, values={"nodes": nodes}))
        if state.running is not None:
            outcome = Outcome(status="lost", error=event.reason, ended_at=time.time())
            yield from self._ended(state, state.running, outcome, cause="node", blamed=event.blamed)
        if event.worker in self._staff:
            self._leave(state)

    def _done(self, state: WorkerState, event: Done) -> Iterator[Finished]:
        running = state.running
        if running is None or event.key != running.ordered.trial.key or event.attempt != self._attempts[event.key]:
            return  # of an attempt that was given up before it ended
        yield from self._ended(state, running, event.outcome, cause=event.cause, blamed=event.blamed)
        if event.worker in self._staff:
            if state.leaving:
                self._leave(state)
            else:
                self._after(state, running, event)

    def _after(self, state: WorkerState, running: Running, event: Done) -> None:
        name, rss = event.worker, event.outcome.facts.rss_bytes
        if not event.alive:
            state.ready = False
            self._notify(Notice(what="replaced", worker=name, text=event.outcome.error or ""))
            return
        state.warm[running.ordered.trial.program_key] = None
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

    def _ended(
        self, state: WorkerState, running: Running, outcome: Outcome, *, cause: Cause, blamed: tuple[str, ...]
    ) -> Iterator[Finished]:
        worker, trial = state.worker, running.ordered.trial
        self._staff.end(state)
        self._queue.ended(worker.name)
        again = self._again(state, running, outcome, cause, blamed or worker.nodes)
        if again is not None:
            self._queue.put_back(again)
            if self.stopped is None:
                values = {"status": outcome.status}
                self._notify(
                    Notice(what="retried", worker=worker.name, trial=trial, text=outcome.error or "", values=values)
                )
            return
        if outcome.status != "completed":
            self._failures += 1
            if self._policy.max_fail is not None and self._failures >= self._policy.max_fail:
                self.stopped = self.stopped or "max_fail"
        facts = outcome.facts
        if facts.cores is None:
            outcome = replace(outcome, facts=replace(facts, cores=worker.cores or None))
        finished = Finished(
            trial=trial,
            outcome=outcome if outcome.status != "lost" else replace(outcome, error=self._losses.told(trial.key)),
            placement=Placement(
                worker=worker.name,
                node=worker.node,
                others=worker.others,
                position=running.position,
                block=running.ordered.block,
                attempt=self._attempts.pop(trial.key),
                neighbours=running.neighbours,
                warmth="warm" if running.warm else "cold",
            ),
        )
        self._losses.forget(trial.key)
        self._settle(finished)
        yield finished

    def _again(
        self, state: WorkerState, running: Running, outcome: Outcome, cause: Cause, blamed: tuple[str, ...]
    ) -> Ordered | None:
        """Return the trial to put back if it is to run again. One that was lost does so even where the run is ending:
        it is not recorded, so that whoever resumes the run finds it."""
        worker, ordered = state.worker, running.ordered
        key = ordered.trial.key
        if outcome.status != "lost":
            self._losses.ended(worker.nodes)
        else:
            saved = _mark(self._saved(ordered.trial))  # the state itself is read again: many trials may wait
            again = self._losses.lost(
                key,
                nodes=blamed,
                reason=outcome.error or "",
                cause=cause,
                advanced=saved is not None and saved != running.state,
                now_s=self._now_s,
            )
            self._judge(blamed)
            if again:
                nodes, workers = ordered.lost_nodes.union(blamed), ordered.lost_workers | {worker.name}
                return replace(ordered, lost_nodes=nodes, lost_workers=workers)
        if self.stopped is None and outcome.status in self._policy.retry and key not in self._retried:
            self._retried.add(key)
            return ordered
        return None

    def _judge(self, nodes: Collection[str]) -> None:
        """Set a node aside that loses trial after trial, while another does not."""
        for node in nodes:
            reason = self._losses.failing(node)
            others = (other for other in self._staff.nodes if self._staff.on(other) and other not in nodes)
            if reason is None or node in self.set_aside or not any(self._losses.sound(other) for other in others):
                continue
            self._staff.put_aside(node, reason)
            self._executor.set_aside(node)
            self._notify(Notice(what="set aside", worker="", text=reason, values={"node": node}))
            for state in list(self._staff.on(node)):
                if state.running is None:
                    self._leave(state)

    def _settle(self, finished: Finished) -> None:
        for (setting_id, arm), settled in self._enough(finished).items():
            fewer = self._queue.hold(setting_id, arm) if settled else -self._queue.release(setting_id, arm)
            if fewer:
                values = {"setting_id": setting_id, "fewer": fewer}
                self._notify(Notice(what="settled", worker="", trial=finished.trial, values=values))


def _mark(state: bytes | None) -> bytes | None:
    """Return the beginning of a state, checksum included, which tells it from others: the whole may be large."""
    return None if state is None else state[:128]
