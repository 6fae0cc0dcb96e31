"""What supervises one node for a driver elsewhere: a `Node` that is told what to do and asked what came of it.

Each worker has a thread here, which does what is asked of it in that order. What happens is gathered and handed over,
many events at a time, to the one call of `listen` that the driver keeps open. Knows nothing of Ray, which runs it as an
actor.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.domain.sources import Source
from harness.schedule.node import Node
from harness.schedule.order import Demand
from harness.schedule.process import Launch, Nursery
from harness.schedule.protocol import Done, Event, Gone, Progress, Saved
from harness.schedule.shares import share_out


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


class AgentNode(Node):
    """The `Node` inside a Ray actor. `listen` blocks; everything else returns soon."""

    def __init__(
        self, *, sources: Mapping[str, Source], telemetry_hz: float, folder: Path | None, driver: int | None
    ) -> None:
        """`driver` is the driver's process id where it runs on this node. Ray's daemon here started this process."""
        roots = [os.getppid()] if driver is None else [os.getppid(), driver]
        super().__init__(sources=sources, telemetry_hz=telemetry_hz, folder=folder, roots=roots)
        self._queues: dict[str, SimpleQueue[Request]] = {}
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._early: dict[int, Sequence[Request]] = {}
        self._next = 0

    def about(self) -> dict[str, Any]:
        """Return what the driver needs to know before it uses this node: its row for the records, and its clock."""
        return {"description": self.describe(), "unix_s": time.time()}

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
        for launch in launches:
            self._do(Request(what="ready", worker=launch.name))

    def free_address(self, ip: str) -> str:
        """Return an address of this node, IP:PORT, that nobody listens on at this moment."""
        with socket.create_server((ip, 0)) as server:
            return f"{ip}:{server.getsockname()[1]}"

    def ask(self, number: int, requests: Sequence[Request]) -> None:
        """Have workers do something, in the order of the numbers, from 0: calls of an actor may overtake each other."""
        self._early[number] = requests
        while self._next in self._early:
            for request in self._early.pop(self._next):
                self._do(request)
            self._next += 1

    def discard(self, worker: str) -> None:
        """End a worker at once and for good."""
        self._launches.pop(worker, None)
        process = self._workers.pop(worker, None)
        if process is not None:
            process.kill()

    def listen(self, wait_s: float) -> News:
        """Return what happened since the last call, after at most `wait_s` where nothing has."""
        with self._news:
            self._news.wait_for(lambda: self._events, wait_s)
            events, self._events = self._events, []
        return News(events=events, progress=self.progress(), readings=self.telemetry(), saved=self.saved())

    def _do(self, request: Request) -> None:
        queue = self._queues.get(request.worker)
        if queue is None:
            queue = self._queues[request.worker] = SimpleQueue()
            threading.Thread(target=self._work, args=(queue,), name=f"worker-{request.worker}", daemon=True).start()
        queue.put(request)

    def _work(self, queue: SimpleQueue[Request]) -> None:
        while True:
            request = queue.get()
            event = self._happened(request)
            self._tell(event)
            if isinstance(event, Done) and not event.alive:
                self._tell(self._happened(Request(what="ready", worker=request.worker)))

    def _happened(self, request: Request) -> Event | None:
        try:
            event: Event | None = getattr(self, request.what)(request.worker, *request.arguments)
        except Exception as error:
            return Gone(worker=request.worker, reason=str(error) or type(error).__name__)
        return event

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            with self._news:
                self._events.append(event)
                self._news.notify_all()
