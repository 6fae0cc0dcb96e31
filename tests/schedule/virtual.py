"""An executor whose nodes exist on paper only and whose clock jumps from one event to the next."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.domain.errors import SetupError
from harness.domain.outcome import Facts, Finished, Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.loop import Loop, Policy
from harness.schedule.losses import Cause
from harness.schedule.protocol import Calibrated, Checked, Done, Event, Gone, Progress, Ready, Worker


@dataclass(frozen=True, kw_only=True)
class Span:
    """A trial that ran, or what was left of it when its worker was lost."""

    worker: Worker
    trial: Trial
    began_s: float
    ended_s: float


@dataclass(kw_only=True)
class _Attempt:
    trial: Trial
    attempt: int
    began_s: float


class VirtualCluster:
    """Nodes with so many cores each. A trial takes `seconds` and ends by `how`: "completed", or who is to blame for
    that it was lost; None: as time goes on."""

    def __init__(
        self,
        cores: Mapping[str, int],
        *,
        seconds: Callable[[Trial, Worker], float] = lambda trial, worker: 1.0,
        how: Callable[[Trial, Worker], Cause | None] = lambda trial, worker: None,
    ) -> None:
        self.now_s = 0.0
        self.cores = dict(cores)
        self.aside: list[str] = []
        self.spans: list[Span] = []
        self.running: dict[str, _Attempt] = {}  # by worker
        self.workers: dict[str, Worker] = {}  # that live
        self.when_waiting: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._how = how
        self._opened: dict[
            Demand, dict[tuple[str, ...], list[str]]
        ] = {}  # the names of workers, by the nodes they span
        self._later: list[tuple[float, int, Callable[[], Any]]] = []
        self._number = itertools.count()
        self._events: list[Event] = []

    # What a test does to it. ---------------------------------------------------------------------------------------

    def clock(self) -> float:
        return self.now_s

    @property
    def pending(self) -> bool:
        """Whether something has happened that the loop has yet to hear."""
        return bool(self._events)

    def at(self, seconds: float, do: Callable[[], Any]) -> None:
        heapq.heappush(self._later, (seconds, next(self._number), do))

    def kill(self, worker: str, cause: Cause = "outside") -> None:
        """End a worker's process, with the trial that it runs; another comes up."""
        attempt = self.running.get(worker)
        if attempt is not None:
            self._end(worker, attempt, Outcome(status="lost", error="killed"), cause)

    def tell(self, event: Event) -> None:
        self._events.append(event)

    def lose(self, node: str) -> None:
        del self.cores[node]
        for worker in [worker for worker in self.workers.values() if node in worker.nodes]:
            self._forget(worker, self.running.get(worker.name))
            self._events.append(Gone(worker=worker.name, reason=f"{node} was lost"))

    def _forget(self, worker: Worker, attempt: _Attempt | None) -> None:
        del self.workers[worker.name]
        self._opened[worker.demand][worker.nodes].remove(worker.name)
        if not self._opened[worker.demand][worker.nodes]:
            del self._opened[worker.demand][worker.nodes]
        if attempt is not None:
            self._note(worker.name, attempt)

    def _note(self, worker: str, attempt: _Attempt) -> None:
        known = self.workers.get(worker)
        del self.running[worker]
        if known is not None:
            self.spans.append(Span(worker=known, trial=attempt.trial, began_s=attempt.began_s, ended_s=self.now_s))

    # What the loop asks of it. -------------------------------------------------------------------------------------

    def start(self, sources: Mapping[str, Source]) -> None: ...

    def node_names(self, demand: Demand) -> list[str]:
        return [
            name
            for name, cores in self.cores.items()
            if demand.node in ("", name) and name not in self.aside and cores >= demand.cpus
        ]

    def open(self, demand: Demand) -> list[Worker]:
        opened, names = self._opened.setdefault(demand, {}), self.node_names(demand)
        if not names and not any(self._opened.values()):
            raise SetupError(f"no node can hold {demand}")
        places: list[tuple[str, ...]] = [(name,) for name in names]
        if demand.nodes > 1:
            places = [tuple(names[n : n + demand.nodes]) for n in range(0, len(names) - demand.nodes + 1, demand.nodes)]
        for nodes in places:
            if nodes in opened or (demand.nodes > 1 and any(set(nodes) & set(other) for other in opened)):
                continue
            count = 1 if demand.exclusive or demand.nodes > 1 else int(self.cores[nodes[0]] // demand.cpus)
            for _ in range(count):
                name = f"w{next(self._number)}"
                self.workers[name] = Worker(name=name, node=nodes[0], others=nodes[1:], demand=demand)
                opened.setdefault(nodes, []).append(name)
                self._events.append(Ready(worker=name, prepare_s=0.0, pid=1))
        found = [self.workers[name] for names in opened.values() for name in names]
        return [worker for worker in found if not set(worker.nodes) & set(self.aside)]

    def check(self, worker: str, trial: Trial) -> None:
        self._events.append(Checked(worker=worker, error=None))

    def calibrate(self, worker: str) -> None:
        self._events.append(Calibrated(worker=worker, values={"dispatch_s": 1e-6}))

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        started = self.running[worker] = _Attempt(trial=trial, attempt=attempt, began_s=self.now_s)
        cause = self._how(trial, self.workers[worker])
        status: Any = "completed" if cause is None else "lost"
        outcome = Outcome(status=status, error=None if cause is None else "it died", facts=Facts(rss_bytes=1))
        end_s = self.now_s + self._seconds(trial, self.workers[worker])

        def end() -> None:
            if self.running.get(worker) is started:
                self._end(worker, started, outcome, cause or "outside")

        self.at(end_s, end)

    def _end(self, worker: str, attempt: _Attempt, outcome: Outcome, cause: Cause) -> None:
        self._note(worker, attempt)
        alive = outcome.status == "completed"
        self._events.append(
            Done(
                worker=worker, key=attempt.trial.key, attempt=attempt.attempt, outcome=outcome, alive=alive, cause=cause
            )
        )
        if not alive:
            self._events.append(Ready(worker=worker, prepare_s=0.0, pid=1))

    def replace(self, worker: str) -> None:
        self._events.append(Ready(worker=worker, prepare_s=0.0, pid=1))

    def set_aside(self, node: str) -> None:
        self.aside.append(node)

    def wait(self, timeout_s: float) -> list[Event]:
        self.when_waiting()
        until_s = self.now_s + timeout_s
        while not self._events and self.now_s < until_s:
            if not self._later or self._later[0][0] > until_s:
                self.now_s = until_s
                break
            self.now_s, _, do = heapq.heappop(self._later)
            do()
        events, self._events = self._events, []
        return events

    def progress(self) -> dict[str, Progress]:
        return {}


def run(trials: list[Trial], cluster: VirtualCluster, **options: Any) -> tuple[list[Finished], Loop]:
    """Run trials on a cluster; return what came of them, and the loop."""
    named = {name: options.pop(name) for name in list(options) if name in Policy.__dataclass_fields__}
    policy = Policy(**{"calibrate": False, **named})
    loop = Loop(trials, cluster, seed=1, policy=policy, clock=cluster.clock, **options)  # type: ignore[arg-type]
    return list(loop), loop
