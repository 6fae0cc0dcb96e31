"""The workers that live, found by name, by demand and by node, and what each of them does. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from harness.schedule.demand import Demand
from harness.schedule.phases import Ordered
from harness.schedule.protocol import Worker


@dataclass(slots=True, kw_only=True)
class Running:
    """A trial on a worker."""

    ordered: Ordered
    position: int
    warm: bool
    state: bytes | None  # what tells the state that it goes on from
    neighbours: int = 0  # that ran beside it, at most


@dataclass(slots=True)
class WorkerState:
    """A worker, and what it does now."""

    worker: Worker
    ready: bool = False
    warm: dict[str, None] = field(default_factory=dict)  # program keys this process has run, in that order
    baseline: int | None = None  # the process's memory after its first trial
    running: Running | None = None
    checking: bool = False
    calibrating: bool = False
    leaving: bool = False  # its node is set aside: what it runs is the last

    @property
    def free(self) -> bool:
        return self.ready and self.running is None and not self.checking and not self.calibrating


class Staff:
    """The workers of a run."""

    def __init__(self) -> None:
        self._set_aside: dict[str, str] = {}
        self._states: dict[str, WorkerState] = {}
        self._serving: dict[Demand, dict[str, WorkerState]] = {}  # of every demand opened so far
        self._on: dict[str, dict[str, WorkerState]] = {}  # by node
        self._busy: dict[str, WorkerState] = {}  # those that run a trial, in the order in which they began to

    def __contains__(self, worker: str) -> bool:
        return worker in self._states

    def get(self, worker: str) -> WorkerState | None:
        return self._states.get(worker)

    @property
    def demands(self) -> list[Demand]:
        """Every demand that workers were ever opened for."""
        return list(self._serving)

    def opened(self, demand: Demand) -> bool:
        """Whether workers were ever opened for a demand, though none may live now."""
        return demand in self._serving

    def open(self, demand: Demand) -> None:
        """Note that workers are opened for a demand, whether or not there are any."""
        self._serving.setdefault(demand, {})

    def serving(self, demand: Demand) -> Collection[WorkerState]:
        """Return the workers that serve a demand."""
        return self._serving.get(demand, {}).values()

    @property
    def nodes(self) -> Collection[str]:
        """The nodes that workers were ever on, in the order in which they came."""
        return self._on.keys()

    def on(self, node: str) -> Collection[WorkerState]:
        """Return the workers on a node that had some."""
        return self._on[node].values()

    def beside(self, state: WorkerState) -> Iterator[WorkerState]:
        """Yield the workers on the nodes of one, itself among them."""
        return (other for node in state.worker.nodes for other in self._on[node].values())

    @property
    def set_aside(self) -> Mapping[str, str]:
        """The nodes that are used no more, each with the reason."""
        return self._set_aside

    @property
    def busy(self) -> bool:
        """Whether any trial runs."""
        return bool(self._busy)

    @property
    def running(self) -> dict[str, Running]:
        """The trials now running, by worker."""
        return {name: state.running for name, state in self._busy.items() if state.running is not None}

    def add(self, worker: Worker) -> WorkerState:
        """Take a worker in whose demand was opened."""
        state = WorkerState(worker)
        self._states[worker.name] = self._serving[worker.demand][worker.name] = state
        for node in worker.nodes:
            self._on.setdefault(node, {})[worker.name] = state
        return state

    def remove(self, state: WorkerState) -> None:
        """Forget a worker, which runs nothing."""
        worker = state.worker
        del self._states[worker.name], self._serving[worker.demand][worker.name]
        for node in worker.nodes:
            del self._on[node][worker.name]

    def put_aside(self, node: str, reason: str) -> None:
        """Note that a node is used no more: what its workers run is their last."""
        self._set_aside[node] = reason
        for state in self._on[node].values():
            state.leaving = True

    def begin(self, state: WorkerState, running: Running) -> None:
        """Note that a worker runs a trial from now on, beside those that run on its nodes."""
        for node in state.worker.nodes:
            there = [other.running for other in self._on[node].values() if other.running is not None]
            for one in (running, *there):
                one.neighbours = max(one.neighbours, len(there))
        state.running = running
        self._busy[state.worker.name] = state

    def end(self, state: WorkerState) -> None:
        """Note that the trial on a worker has ended."""
        state.running = None
        del self._busy[state.worker.name]
