"""The `Executor` whose trials run on resident workers: it passes everything on to the process that keeps them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NoReturn

from harness.domain.errors import ClusterLostError, SetupError
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.protocol import Event, Progress, Saved, Worker
from harness.schedule.resident import place
from harness.schedule.resident.likeness import likeness
from harness.schedule.resident.messages import Answer, Call, Heard

_ANSWER_S: Final = 5.0  # for the first answer
_SILENCE_S: Final = 60.0  # without another, and that process counts as hung
_LATE_S: Final = 0.1  # an answer may be: then `wait` returns without it


def ask(what: str, **values: Any) -> tuple[Connection, dict[str, Any]]:
    """Return a connection to the process that keeps resident workers, and what it says to this.

    Raises:
        SetupError: when it cannot be reached, or does not answer.
    """
    folder = place.folder()
    way_out = "`harness down` ends them, --no-resident does without them"
    try:
        key = (folder / "key").read_text(encoding="ascii")
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(_ANSWER_S)
            opened.connect(str(folder / "socket"))
            opened.settimeout(None)
            connection = Connection(opened.detach())
        connection.send_bytes(json.dumps({"ask": what, "key": key, **values}).encode())
        if not connection.poll(_ANSWER_S):
            connection.close()
            raise SetupError(f"the resident workers do not answer; {way_out}")
        answer: dict[str, Any] = json.loads(connection.recv_bytes())
    except (OSError, EOFError) as error:
        why = str(error) or type(error).__name__
        raise SetupError(f"the resident workers cannot be reached ({why}); {way_out}") from None
    return connection, answer


class ResidentExecutor:
    """An `Executor` on resident workers."""

    def __init__(
        self, *, telemetry_hz: float, workers: int | None, say: Callable[[str], None] = lambda text: None
    ) -> None:
        """Take them for a run: at most so many `workers` a node. `say` is told what becomes of nodes.

        Raises:
            SetupError: when they are in use, or of another version, or cannot be reached.
        """
        self._most = workers
        self._say = say
        self._connection, greeting = ask(
            "run",
            pid=os.getpid(),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            hz=telemetry_hz,
            folder=_here(),
            environment=dict(os.environ),
            likeness=likeness(os.environ),
        )
        if "refused" in greeting:
            raise SetupError(greeting["refused"])
        self._pid: int = greeting["pid"]
        self._calls: list[Call] = []
        self._wanted: dict[Demand, None] = {}  # since the last `wait`
        self._opened: dict[Demand, list[Worker]] = {}
        self._asked_s: float | None = None  # when the answer was asked for that has yet to come
        self._events: list[Event] = []
        self._progress: dict[str, Progress] = {}
        self._saved: dict[tuple[str, str], Saved] = {}
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._ended = False

    def start(self, sources: Mapping[str, Source]) -> None:
        self._ask("start", dict(sources))

    def open(self, demand: Demand) -> list[Worker]:
        self._wanted[demand] = None
        if demand not in self._opened:
            self._opened[demand] = self._at_most(self._ask("open", demand))
        return list(self._opened[demand])

    def node_names(self, demand: Demand) -> list[str]:
        return list(self._ask("node_names", demand))

    def check(self, worker: str, trial: Trial) -> None:
        self._call("check", worker, trial)

    def calibrate(self, worker: str) -> None:
        self._call("calibrate", worker)

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        self._call("submit", worker, trial, attempt=attempt, state=state)

    def set_aside(self, node: str) -> None:
        self._call("set_aside", node)

    def replace(self, worker: str) -> None:
        self._call("replace", worker)

    def wait(self, timeout_s: float) -> list[Event]:
        if self._asked_s is None:
            calls, wanted = self._calls, list(self._wanted)
            self._calls, self._wanted = [], {}
            self._send("wait", calls, wanted, 0.0 if self._events else timeout_s)
        if self._there_is_an_answer(timeout_s + _LATE_S):
            self._hear(self._receive())
        events, self._events = self._events, []
        return events

    def progress(self) -> dict[str, Progress]:
        return dict(self._progress)

    def saved(self) -> list[Saved]:
        saved, self._saved = list(self._saved.values()), {}
        return saved

    def save_now(self) -> None:
        self._call("save_now")

    def telemetry(self) -> list[dict[str, Any]]:
        rows, self._rows = self._rows, []
        return rows

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._notes

    def nodes(self) -> list[dict[str, Any]]:
        return list(self._ask("nodes"))

    def stop(self) -> None:
        if self._ended:
            return
        with contextlib.suppress(SetupError, ClusterLostError):
            rows, self._notes = self._ask("stop")
            self._rows += rows
        self._ended = True

    def close(self, *, leaving: bool) -> None:
        """Give the workers back."""
        self._connection.close()

    def _call(self, method: str, *arguments: Any, **named: Any) -> None:
        self._calls.append(Call(method=method, arguments=arguments, named=named))

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method returns, after what was asked before."""
        while self._asked_s is not None:
            if self._there_is_an_answer(_SILENCE_S):
                self._hear(self._receive())
        self._send(method, *arguments)
        while not self._there_is_an_answer(_SILENCE_S):
            pass
        return self._receive()

    def _send(self, method: str, *arguments: Any) -> None:
        try:
            self._connection.send((method, arguments))
        except OSError as error:
            self._lost(_why(self._connection) or str(error))
        self._asked_s = time.monotonic()

    def _there_is_an_answer(self, timeout_s: float) -> bool:
        assert self._asked_s is not None
        if self._connection.poll(timeout_s):
            return True
        if time.monotonic() - self._asked_s > _SILENCE_S:
            self._lost(f"no answer for {_SILENCE_S:g} s")
        return False

    def _receive(self) -> Any:
        try:
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            self._lost("it has ended")
        self._asked_s = None
        if answer.ended is not None:
            self._lost(answer.ended)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _hear(self, heard: Heard) -> None:
        self._events += heard.events
        self._progress.update(heard.progress)
        self._saved.update({one.key: one for one in heard.saved})
        self._rows += heard.readings
        for text in heard.said:
            self._say(text)
        for demand, workers in heard.opened.items():
            if workers is None:
                self._opened.pop(demand, None)
            else:
                self._opened[demand] = self._at_most(workers)

    def _at_most(self, workers: list[Worker]) -> list[Worker]:
        """Return the first workers of each node, as many as were asked for."""
        kept: list[Worker] = []
        for worker in workers:
            if self._most is None or sum(one.node == worker.node for one in kept) < self._most:
                kept.append(worker)
        return kept

    def _lost(self, why: str) -> NoReturn:
        self._ended = True
        raise ClusterLostError(
            f"the resident workers were lost in the middle of the run: process {self._pid}, which keeps them: {why}; "
            "what was recorded is kept: go on with --resume"
        )


def _why(connection: Connection) -> str | None:
    """Return why there will be no more answers, where that was said."""
    with contextlib.suppress(EOFError, OSError):
        while connection.poll(0):
            answer: Answer = connection.recv()
            if answer.ended is not None:
                return answer.ended
    return None


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return "/"
