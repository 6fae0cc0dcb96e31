"""One run on resident workers: what its command asks for, and what comes of it."""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from harness.domain.errors import ClusterLostError, HarnessError, SetupError
from harness.schedule.demand import Demand
from harness.schedule.gangs import Gangs
from harness.schedule.protocol import Calibrated, Event, Progress, Worker
from harness.schedule.resident import place
from harness.schedule.resident.messages import Answer, Call, Heard

if TYPE_CHECKING:
    from harness.schedule.ray_cluster import RayExecutor

CALIBRATION_S: Final = 3600.0  # what a share can do is measured again when it was so long ago


class Visit:
    """One run on the executor."""

    def __init__(
        self,
        executor: RayExecutor,
        calibrations: dict[tuple[str, Demand], tuple[float, Calibrated]],
        said: list[str],
    ) -> None:
        self._resting = executor
        self._executor = Gangs(executor)
        self._calibrations = calibrations
        self._said = said
        self._workers: dict[str, Worker] = {}
        self._opened: dict[Demand, list[Worker]] = {}
        self._progress: dict[str, Progress] = {}
        self._events: list[Event] = []
        self.lasts = True
        self.broken = False  # there will be no further one

    def answer(self, method: str, arguments: tuple[Any, ...]) -> Answer:
        """Do what is asked for."""
        try:
            return Answer(value=getattr(self, f"_{method}")(*arguments))
        except HarnessError as error:
            self.broken = isinstance(error, ClusterLostError)
            return Answer(error=error)
        except Exception as error:
            self.broken = True
            traceback.print_exc()
            sys.stderr.flush()
            told = f"the resident workers failed: {type(error).__name__}: {error}; {place.folder() / 'log'} says more"
            return Answer(error=SetupError(told))

    def end(self) -> None:
        """End what the run has left."""
        if self.lasts:
            self._stop()

    def _start(self, sources: Any) -> None:
        self._executor.start(sources)

    def _open(self, demand: Demand) -> list[Worker]:
        opened = self._opened[demand] = self._executor.open(demand)
        self._workers |= {worker.name: worker for worker in opened}
        return opened

    def _node_names(self, demand: Demand) -> list[str]:
        return self._executor.node_names(demand)

    def _nodes(self) -> list[dict[str, Any]]:
        return self._executor.nodes()

    def _wait(self, calls: list[Call], demands: list[Demand], timeout_s: float) -> Heard:
        for call in calls:
            if call.method == "calibrate":
                self._calibrate(*call.arguments)
            else:
                getattr(self._executor, call.method)(*call.arguments, **call.named)
        events = self._executor.wait(0.0 if self._events else timeout_s)
        for event in events:
            worker = self._workers.get(event.worker)
            if isinstance(event, Calibrated) and event.values and worker is not None:
                self._calibrations[worker.node, worker.demand] = time.monotonic(), event
        events, self._events = self._events + events, []
        progress = self._executor.progress()
        changed = {name: one for name, one in progress.items() if self._progress.get(name) != one}
        self._progress = progress
        return Heard(
            events=events,
            progress=changed,
            saved=self._executor.saved(),
            readings=self._executor.telemetry(),
            opened=self._reopened(demands),
            said=[self._said.pop(0) for _ in list(self._said)],
        )

    def _reopened(self, demands: list[Demand]) -> dict[Demand, list[Worker] | None]:
        """Return by demand the workers there are, where they are others than last told."""
        found: dict[Demand, list[Worker] | None] = {}
        for demand in demands:
            before = self._opened.get(demand)
            try:
                if self._open(demand) != before:
                    found[demand] = self._opened[demand]
            except SetupError:
                self._opened.pop(demand, None)
                found[demand] = None
        return found

    def _calibrate(self, name: str) -> None:
        """Have a worker calibrated, unless that was done in its life, and not long ago."""
        worker = self._workers[name]
        measured_s, known = self._calibrations.get((worker.node, worker.demand), (0.0, None))
        if known is not None and time.monotonic() - measured_s < CALIBRATION_S:
            self._events.append(Calibrated(worker=name, values=known.values))
        else:
            self._executor.calibrate(name)

    def _stop(self) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        self.lasts = False
        self._executor.disband()
        self._resting.rest()
        return self._executor.telemetry(), self._executor.sampling()
