"""How a run stands at a moment: what its workers, its nodes and its trials do."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from harness.domain.naming import label
from harness.domain.outcome import Finished
from harness.domain.trial import Trial
from harness.pipeline.pace import Pace, rate
from harness.record.live import MOST_NODES, MOST_TRIALS, Live, NodeNow, TrialNow, instant
from harness.schedule.demand import Demand
from harness.schedule.notice import Notice
from harness.schedule.protocol import Progress

_LAST: Final = 32  # trials of a node that its speed is taken from
_LABEL: Final = 200  # letters of a trial's place in the grid, for others to see
_MOST_TROUBLES: Final = 200  # that are kept for run.json
_SILENT_S: Final = 60.0  # a trial that tells nothing for so long,
_SILENT_TIMES: Final = 3.0  # and for so many times as long as the longest one took, may hang

_TROUBLE: Final = {"lost": "lost_nodes", "set aside": "set_aside"}  # a node's state -> its list in run.json


@dataclass(slots=True, kw_only=True)
class WorkerNow:
    """A worker and what it does."""

    name: str
    nodes: tuple[str, ...]  # the first is the one whose clock counts
    demand: Demand | None = None
    state: str = "starting"
    trial: Trial | None = None
    since: float = 0.0  # when that began, in seconds since the Unix epoch
    before: Progress | None = None  # what its last trial left, until this one says more
    told: Progress | None = None  # what was heard of it last
    told_s: float = 0.0  # when, by the clock of the standing,
    told_at: float = 0.0  # and in seconds since the Unix epoch

    @property
    def node(self) -> str:
        return self.nodes[0]

    @property
    def up(self) -> bool:
        return not self.state.startswith("starting")


@dataclass(slots=True, kw_only=True)
class _Node:
    name: str
    workers: dict[str, WorkerNow] = field(default_factory=dict)
    aside: bool = False
    why: str | None = None
    done: int = 0
    bad: int = 0
    epochs_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))
    ends_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))

    @property
    def state(self) -> str:
        if self.aside:
            return "set aside"
        if not self.workers and self.why is not None:
            return "lost"
        return "ok" if not self.workers or any(worker.up for worker in self.workers.values()) else "starting"


class Standing:
    """Takes in what happens in a run, each time in constant time, and tells how the run stands."""

    def __init__(
        self,
        pending: Sequence[Trial],
        *,
        counts: Mapping[str, int] | None = None,
        total: int | None = None,
        attempt: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counts` are the trials that an earlier attempt has recorded, by status; `total` is how many there are in
        all, those that are out of reach among them."""
        self.counts = Counter(counts or {})
        self.total = len(pending) + self.counts.total() if total is None else total
        self.bad = 0  # trials of this attempt that did not complete
        self.workers: dict[str, WorkerNow] = {}
        self.began = False  # whether any trial has
        self.ending = ""  # "finishing" once no further trial starts, "ending" once none is waited for
        self._attempt = attempt
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._homes: dict[str, str] = {}  # the node of each worker there ever was
        self._troubles: list[tuple[str, dict[str, Any]]] = []
        self._progress: Mapping[str, Progress] = {}
        self._pace = Pace(pending, clock=clock)

    @property
    def done(self) -> int:
        return self.counts.total()

    @property
    def several(self) -> bool:
        """Whether there is, or was, more than one node."""
        return len(self._nodes) > 1

    # What happens. -------------------------------------------------------------------------------------------------

    def notice(self, notice: Notice, progress: Mapping[str, Progress]) -> None:
        """Take in a notice; `progress` is how far the trials that run have come, by worker."""
        what: str = notice.what
        worker = self.workers.get(notice.worker)
        if what == "opened":
            self._opened(notice)
        elif what == "settled":
            self.total -= notice.values["fewer"]
            self._pace.less(notice.values["setting_id"], notice.values["fewer"])
        elif what == "set aside":
            self._aside(str(notice.values.get("node") or self.node_of(notice.worker)), notice.text)
        elif worker is None:
            return
        elif what == "ready":
            worker.state = "idle" if self.began else "checking what the suite declares"
        elif what == "started":
            self._started(worker, notice.trial, progress.get(worker.name))
        elif what == "retried":
            worker.trial, worker.state = None, "idle"
        elif what == "replaced":
            worker.trial, worker.state = None, "starting anew"
        elif what == "gone":
            self._gone(worker, notice.values.get("nodes", worker.nodes), notice.text)

    def _opened(self, notice: Notice) -> None:
        share = notice.share
        nodes = share.nodes if share is not None else ("",)
        worker = WorkerNow(name=notice.worker, nodes=nodes, demand=share.demand if share is not None else None)
        self.workers[worker.name] = worker
        self._homes[worker.name] = worker.node
        for name in nodes:
            node = self._nodes.setdefault(name, _Node(name=name))
            node.workers[worker.name] = worker
            node.why = node.why if node.aside else None

    def _started(self, worker: WorkerNow, trial: Trial | None, before: Progress | None) -> None:
        self.began = True
        self._pace.started(worker.demand)
        worker.state, worker.trial, worker.since, worker.before = "busy", trial, time.time(), before
        worker.told, worker.told_s, worker.told_at = before, self._clock(), worker.since

    def _gone(self, worker: WorkerNow, nodes: Iterable[str], why: str) -> None:
        self._drop(worker)
        for name in nodes:
            node = self._nodes[name]
            if not node.workers and not node.aside:
                node.why = why_lost(name, why)
                self._trouble("lost", name, node.why)

    def _aside(self, name: str, why: str) -> None:
        node = self._nodes.setdefault(name, _Node(name=name))
        if not node.aside:
            node.aside, node.why = True, why
            self._trouble("set aside", name, why)
        for worker in list(node.workers.values()):
            if worker.trial is None:
                self._drop(worker)

    def _drop(self, worker: WorkerNow) -> None:
        self.workers.pop(worker.name, None)
        for name in worker.nodes:
            self._nodes[name].workers.pop(worker.name, None)

    def _trouble(self, state: str, node: str, why: str) -> None:
        if len(self._troubles) < _MOST_TROUBLES:
            self._troubles.append((state, {"node": node, "why": why, "at": instant(time.time())}))

    def finished(self, finished: Finished) -> None:
        """Take in a trial that is done."""
        outcome, place = finished.outcome, finished.placement
        self.counts[outcome.status] += 1
        bad = outcome.status != "completed"
        self.bad += bad
        self._pace.finished(finished)
        worker = self.workers.get(place.worker)
        if worker is not None:
            worker.trial = None
            worker.state = "idle" if worker.up else worker.state
            if any(self._nodes[name].aside for name in worker.nodes):
                self._drop(worker)
        spans = [epoch.train_s for epoch in outcome.epochs if not epoch.warmup]
        for name in (place.node, *place.others):
            node = self._nodes.get(name)
            if node is not None:
                node.done, node.bad = node.done + 1, node.bad + bad
                node.ends_s.append(self._clock())
                node.epochs_s.extend([statistics.median(spans)] if spans else [])

    def tick(self, progress: Mapping[str, Progress]) -> None:
        """Take in how far the trials that run have come."""
        self._progress = progress
        for worker in self.workers.values():
            told = progress.get(worker.name)
            if told is not worker.told and told != worker.told:
                worker.told, worker.told_s, worker.told_at = told, self._clock(), time.time()

    # How it stands. ------------------------------------------------------------------------------------------------

    @property
    def doing(self) -> str:
        """One word for all, as in `Live.doing`."""
        if self.ending:
            return self.ending
        if self.began:
            return "running"
        return "checking" if any(worker.up for worker in self.workers.values()) else "starting"

    def node_of(self, worker: str) -> str:
        """Return the node of a worker, also of one that is gone; empty for one that there never was."""
        return self._homes.get(worker, "")

    def progress_of(self, worker: WorkerNow) -> Progress | None:
        """Return how far the trial on a worker is; None before it has told anything."""
        progress = self._progress.get(worker.name)
        return None if progress == worker.before else progress

    @property
    def longest_s(self) -> float:
        """The longest that a trial took which came to an end of its own."""
        return self._pace.longest_s or 0.0

    def silent_s(self, worker: WorkerNow) -> float | None:
        """Return for how long the trial on a worker has told nothing, where that is much longer than any trial took, so
        that it may hang; None where it is not, and where a timeout will end it."""
        if worker.trial is None or worker.trial.timeout_s is not None or self._pace.longest_s is None:
            return None
        silent_s = self._clock() - worker.told_s
        return silent_s if silent_s > max(_SILENT_S, _SILENT_TIMES * self._pace.longest_s) else None

    def left_s(self) -> float | None:
        """Return the seconds that the rest may take on the workers there are; None before the first trial has ended."""
        return self._pace.left_s(worker.demand for worker in self.workers.values())

    def trials_per_min(self) -> float | None:
        return self._pace.trials_per_min()

    def nodes(self) -> list[NodeNow]:
        """Return the nodes: those first that are lost or set aside, then those that start, then those where trials did
        not complete, then by name."""
        found = [
            NodeNow(
                node=node.name,
                state=node.state,
                why=node.why if node.state in _TROUBLE else None,
                workers=len(node.workers),
                busy=sum(worker.trial is not None for worker in node.workers.values()),
                done=node.done,
                bad=node.bad,
                epoch_s=statistics.median(node.epochs_s) if node.epochs_s else None,
                trials_per_min=rate(node.ends_s),
            )
            for node in self._nodes.values()
        ]
        states = ("lost", "set aside", "starting", "ok")
        return sorted(found, key=lambda one: (states.index(one.state), -one.bad, natural(one.node)))

    def troubles(self) -> dict[str, list[dict[str, Any]]]:
        """Return the nodes that were lost or set aside in this attempt, why and when, as run.json holds them."""
        return {name: [told for state, told in self._troubles if state == kind] for kind, name in _TROUBLE.items()}

    def live(self) -> Live:
        """Return it all, for other processes."""
        nodes = self.nodes()
        running = sorted((one for one in self.workers.values() if one.trial is not None), key=lambda one: one.since)
        return Live(
            attempt=self._attempt,
            written_at=time.time(),
            doing=self.doing,
            total=self.total,
            counts=dict(self.counts),
            workers=len(self.workers),
            busy=len(running),
            trials_per_min=self.trials_per_min(),
            left_s=self.left_s(),
            nodes=tuple(nodes[:MOST_NODES]),
            nodes_more=max(0, len(nodes) - MOST_NODES),
            running=tuple(self._trial(worker) for worker in running[:MOST_TRIALS]),
            running_more=max(0, len(running) - MOST_TRIALS),
        )

    def _trial(self, worker: WorkerNow) -> TrialNow:
        trial, progress = worker.trial, self.progress_of(worker)
        assert trial is not None
        last = progress.last if progress is not None else None
        return TrialNow(
            worker=worker.name,
            node=worker.node,
            trial_id=trial.trial_id,
            arm=trial.arm,
            label=label(trial)[:_LABEL],
            epochs=progress.epochs if progress is not None else 0,
            of_epochs=trial.setting.epochs,
            val_accuracy=last.val_accuracy if last is not None else None,
            val_loss=last.val_loss if last is not None else None,
            since=worker.since,
            silent_since=None if self.silent_s(worker) is None else worker.told_at,
        )


def why_lost(node: str, reason: str) -> str:
    """Return why a node is lost, from the reason why a worker is, perhaps on several nodes, which names them."""
    begun = re.compile(rf"node {re.escape(node)}(?: was lost)?: ")
    found = [part[match.end() :] for part in reason.split("; ") if (match := begun.match(part))]
    return found[0] if found else reason


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts names as people do: n2 before n10."""
    parts = re.split(r"(\d{1,18})", name)
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts)
