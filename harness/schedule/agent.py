"""What supervises one node for a driver elsewhere: a `Node` that is told what to do and asked what came of it.

Each worker has a thread here, which does what is asked of it in that order. What happens is gathered and handed over,
many events at a time, to the one call of `listen` that the driver keeps open. Knows nothing of Ray, which runs it as an
actor.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from harness import processes
from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.schedule import join, reaper
from harness.schedule.demand import Demand
from harness.schedule.launch import Launch, Surroundings
from harness.schedule.node import Node
from harness.schedule.nursery import Nursery
from harness.schedule.process import START_TIMEOUT_S
from harness.schedule.protocol import Done, Event, Gone, Progress, Ready, Saved
from harness.schedule.shares import share_out
from harness.telemetry.cores import usable_cores
from harness.telemetry.nvidia import describe_gpus

_FOR_THE_RUN: Final = ("check", "calibrate", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a worker is to do next: the name of a method of `Node` and its further arguments."""

    what: str
    worker: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What has happened on a node since it was last asked."""

    events: list[Event] = field(default_factory=list)
    progress: dict[str, Progress] = field(default_factory=dict)
    readings: list[dict[str, Any]] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run for which workers are used that are there from an earlier one."""

    sources: Mapping[str, Source]
    telemetry_hz: float
    driver: int | None = None  # the process id of the command that asked for it, where it runs on this node
    surroundings: Surroundings | None = None  # None: those of the node


class AgentNode(Node):
    """The `Node` inside a Ray actor. `listen` blocks; everything else returns soon."""

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        telemetry_hz: float,
        folder: Path | None,
        driver: int | None,
        started_in: str | None = None,
    ) -> None:
        """`driver` is the driver's process id where it runs on this node. Ray's daemon here started this process, in a
        folder of its own: programs run in the one that the driver was started in, where it is here."""
        if started_in is not None:
            os.environ["HARNESS_STARTED_IN"] = started_in
            with contextlib.suppress(OSError):
                os.chdir(started_in)
        roots = [os.getppid()] if driver is None else [os.getppid(), driver]
        super().__init__(sources=sources, telemetry_hz=telemetry_hz, folder=folder, roots=roots)
        self._own_roots = roots
        self._reaper: subprocess.Popen[bytes] | None = None
        self._queues: dict[str, SimpleQueue[Request | None]] = {}  # None: nothing more comes
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._undone = 0  # requests that have not been answered
        self._doing: dict[str, Request] = {}  # by worker
        self._resting = False  # between two runs: what was asked by the first is left undone
        self._asked = threading.Lock()  # `ask` and `listen` run beside each other
        self._early: dict[int, Sequence[Request]] = {}
        self._next = 0

    def about(self) -> dict[str, Any]:
        """Return what the driver needs to know before it uses this node: its row for the records, the versions there,
        and what it can hold."""
        return {"description": self.describe(), "identity": join.identity(), **capacity()}

    def clock(self) -> float:
        """Return this node's Unix time."""
        return time.time()

    def open(self, demand: Demand, body: str, most: int | None, prefix: str) -> list[Launch]:
        """Cut this node into shares that serve the demand, begin to start their workers, and return them.

        Raises:
            SetupError: when the node cannot hold even one.
        """
        launches = share_out(demand, body=body, most=most, prefix=prefix)
        self.launch(launches)
        return launches

    def launch(self, launches: Sequence[Launch], nurseries: Sequence[Nursery] = ()) -> None:
        super().launch(launches, nurseries)
        if self._within is None and self._folder is not None and self._reaper is None:  # else the driver's own does it
            self._reaper = _start_reaper(self._folder)
        for launch in launches:
            self._do(Request(what="ready", worker=launch.name))

    def stop(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        last = super().stop()
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone
                self._reaper.stdin.write(b"done")
                self._reaper.stdin.close()
            self._reaper = None
        return last

    def begin_run(self, run: Run) -> dict[str, Any]:
        """Get ready for another run, after `rest`; return what `about` does."""
        roots = self._own_roots if run.driver is None else [*self._own_roots, run.driver]
        self.begin(sources=run.sources, telemetry_hz=run.telemetry_hz, roots=roots, surroundings=run.surroundings)
        self._resting = False
        return self.about()

    def rest(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """End a run: what runs is ended with its process. `renew` follows."""
        with self._news:
            self._resting = True
            busy = [name for name, request in self._doing.items() if request.what in _FOR_THE_RUN]
        readings, notes = super().rest()
        for name in busy:
            if name in self._workers:
                processes.end(self._workers[name].pid)
        return readings, notes

    def renew(self) -> list[Ready]:
        """Make what the run before left as good as new, and return the workers that are ready for another.

        It takes as long as starting those that were ended, and those that hold what another run must not find.
        """
        self._settle()
        for name, worker in list(self._workers.items()):
            if name in self._perishable or not worker.alive():
                self._do(Request(what="end", worker=name))
                self._do(Request(what="ready", worker=name))
        self._settle()
        return [
            Ready(worker=name, prepare_s=0.0, pid=worker.pid, warm=frozenset(self._warm[name]))
            for name, worker in self._workers.items()
            if worker.alive()
        ]

    def _settle(self) -> None:
        """Wait until nothing is left to do, and forget what came of it."""
        with self._news:
            self._news.wait_for(lambda: not self._undone, START_TIMEOUT_S)
            self._events = []

    def shares(self, demand: Demand, body: str, most: int | None) -> list[Launch]:
        """Return the shares that this node can be cut into to serve the demand.

        Raises:
            SetupError: when it cannot hold even one.
        """
        return share_out(demand, body=body, most=most)

    def free_address(self, ip: str) -> str:
        """Return an address of this node, IP:PORT, that nobody listens on at this moment."""
        with socket.create_server((ip, 0)) as server:
            return f"{ip}:{server.getsockname()[1]}"

    def ask(self, number: int, requests: Sequence[Request]) -> None:
        """Have workers do something, in the order of the numbers, from 0: calls of an actor may overtake each other."""
        with self._asked:
            self._early[number] = requests
            while self._next in self._early:
                for request in self._early.pop(self._next):
                    self._do(request)
                self._next += 1

    def discard(self, worker: str) -> None:
        """End a worker at once and for good."""
        queue = self._queues.pop(worker, None)
        with self._lock:  # it may be starting
            self._launches.pop(worker, None)
            process = self._workers.pop(worker, None)
        self._told.pop(worker, None)
        self._warm.pop(worker, None)
        self._introduced.discard(worker)
        if process is not None:
            self._discard(process)
        if queue is not None:
            queue.put(None)

    def listen(self, wait_s: float, number: int | None = None, requests: Sequence[Request] = ()) -> News:
        """Return what happened since the last call, after at most `wait_s` where nothing has; `ask` before that."""
        if number is not None:
            self.ask(number, requests)
        with self._news:
            self._news.wait_for(lambda: bool(self._events), wait_s)
            events, self._events = self._events, []
        return News(events=events, progress=self.progress(), readings=self.telemetry(), saved=self.saved())

    def _do(self, request: Request) -> None:
        queue = self._queues.get(request.worker)
        if queue is None:
            queue = self._queues[request.worker] = SimpleQueue()
            threading.Thread(target=self._work, args=(queue,), name=f"worker-{request.worker}", daemon=True).start()
        with self._news:
            self._undone += 1
        queue.put(request)

    def _work(self, queue: SimpleQueue[Request | None]) -> None:
        while (request := queue.get()) is not None:
            with self._news:
                self._doing[request.worker] = request
                left = self._resting and request.what in _FOR_THE_RUN
            event = None if left else self._happened(request)
            self._tell(event)
            if isinstance(event, Done) and not event.alive:
                self._tell(self._happened(Request(what="ready", worker=request.worker)))
            with self._news:
                del self._doing[request.worker]
                self._undone -= 1
                self._news.notify_all()

    def _happened(self, request: Request) -> Event | None:
        try:
            event: Event | None = getattr(self, request.what)(request.worker, *request.arguments)
        except Exception as error:
            reason = str(error) or type(error).__name__
            process = self._workers.get(request.worker)
            if request.what != "run" or process is None or isinstance(error, SetupError):
                return Gone(worker=request.worker, reason=reason)
            process.kill()  # the trial is at fault, as where its outcome cannot be read: the worker is good for others
            trial, attempt, _ = request.arguments
            outcome = Outcome(status="lost", error=reason, error_detail=traceback.format_exc(), ended_at=time.time())
            return Done(
                worker=request.worker, key=trial.key, attempt=attempt, outcome=outcome, alive=False, cause="trial"
            )
        return event

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            with self._news:
                self._events.append(event)
                self._news.notify_all()


def _start_reaper(folder: Path) -> subprocess.Popen[bytes]:
    """Start what ends this node's workers and removes their folder where Ray kills this process, nurseries and all."""
    marker = f"HARNESS_WORKER_FOLDER={folder}"  # which all that they start inherits
    words = [sys.executable, "-I", "-S", reaper.__file__, "--apart", marker, str(folder)]
    started = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    started.wait()  # the one that goes on is no child of this process
    return started


def capacity() -> dict[str, Any]:
    """Return what this node can hold, as `harness.schedule.eligible` asks for it."""
    gpus = describe_gpus()
    return {"cores": usable_cores(), "gpu_names": [] if gpus is None else [gpu.name for gpu in gpus.devices]}
