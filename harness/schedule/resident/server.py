"""The process that keeps workers between runs: `harness up` starts it, and it ends by itself when nobody comes."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection, Listener
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from harness import processes
from harness.domain.errors import HarnessError, SetupError
from harness.schedule import ray_environment
from harness.schedule.agent import Run
from harness.schedule.demand import Demand
from harness.schedule.join import expect_answer
from harness.schedule.launch import Surroundings
from harness.schedule.node import reads_what_may_change
from harness.schedule.nursery import Prestarted
from harness.schedule.process import START_TIMEOUT_S
from harness.schedule.protocol import Calibrated, Gone, Ready, Worker
from harness.schedule.resident import place
from harness.schedule.resident.likeness import differences, likeness
from harness.schedule.resident.messages import Answer, Asked
from harness.schedule.resident.visit import Visit
from harness.schedule.shares import share_out

if TYPE_CHECKING:
    from harness.schedule.ray_cluster import RayExecutor

BODY: Final = "harness.measure:Body"
_DEFAULT: Final = Demand(backend="tensorflow", cpus=1, gpus=0, exclusive=False)
_HELLO_S: Final = 2.0  # whoever connects says so soon what for
_WATCH_S: Final = 3.0  # how often nodes are looked after meanwhile
_LOOK_S: Final = 0.5  # how often a run that asks nothing is looked after


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock", type=int, required=True, help="the descriptor that holds the lock")
    arguments = parser.parse_args(argv)
    os.set_inheritable(arguments.lock, False)
    environ = dict(os.environ)
    asked: Asked = pickle.loads(sys.stdin.buffer.read())
    server = Server(asked, environ)
    try:
        server.start()
    except BaseException as error:
        place.write("problem", str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}")
        server.close()
        raise
    server.serve()
    server.close()
    place.remove()
    os._exit(0)  # the interpreter's own shutdown takes a second with Ray in it


class Server:
    """One executor, and who uses it. Everything but accepting connections happens in the main thread."""

    def __init__(self, asked: Asked, environ: Mapping[str, str]) -> None:
        self._asked = asked
        self._environ = dict(environ)
        self._likeness = likeness(environ)
        self._key = secrets.token_hex(32)
        self._executor: RayExecutor | None = None
        self._listener: Listener | None = None
        self._visits: SimpleQueue[tuple[Connection, dict[str, Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._visitor: dict[str, Any] | None = None  # of the run that goes on
        self._ending = threading.Event()
        self._said: list[str] = []  # of nodes, since it was told last
        self._calibrations: dict[tuple[str, Demand], tuple[float, Calibrated]] = {}
        self._state: dict[str, Any] = {
            "pid": os.getpid(),
            "since": time.time(),
            "address": asked.address,
            "workers": asked.workers,
            "idle_s": asked.idle_s,
            "reaper": None,
        }

    def start(self) -> None:
        """Start Ray and the first workers, and listen.

        Raises:
            HarnessError: when that fails.
        """
        self._tell("starting")
        if self._asked.address is not None:
            expect_answer("--address", self._asked.address, "`harness node --head` starts a cluster")
        ray_environment.prepare(self._asked.address)
        demand = Demand.of(self._asked.first[0]) if self._asked.first else _DEFAULT
        prestarted = None if self._asked.address is not None else self._prestart(demand)
        try:
            from harness.schedule.ray_cluster import RayExecutor

            self._executor = RayExecutor(
                body=BODY,
                address=self._asked.address,
                prestarted=prestarted,
                workers=self._asked.workers,
                telemetry_hz=0.0,
                skip_bad_nodes=self._asked.skip_bad_nodes,
                say=self._said.append,
            )
        except BaseException:
            if prestarted is not None:
                prestarted.stop()
            raise
        self._executor.start({})
        self._state["reaper"] = self._executor.reaper
        for number in (signal.SIGTERM, signal.SIGHUP):  # Ray has taken the first for itself
            signal.signal(number, lambda *_: self._end())
        self._await(self._executor.open(demand))
        self._executor.rest()
        self._executor.renew()
        place.write("key", self._key)
        self._listener = Listener(str(place.folder() / "socket"), family="AF_UNIX", backlog=16)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _prestart(self, demand: Demand) -> Prestarted:
        launches = share_out(demand, body=BODY, most=self._asked.workers)
        ahead = [] if any(map(reads_what_may_change, self._asked.first)) else self._asked.first[: len(launches)]
        return Prestarted(launches, ahead)

    def _await(self, workers: Iterable[Worker]) -> None:
        """Wait until these workers are ready, or cannot be."""
        assert self._executor is not None
        starting = {worker.name for worker in workers}
        deadline = time.monotonic() + START_TIMEOUT_S
        problem = "they took too long to start"
        while starting and time.monotonic() < deadline and not self._ending.is_set():
            for event in self._executor.wait(_LOOK_S):
                if isinstance(event, Ready):
                    starting.discard(event.worker)
                elif isinstance(event, Gone):
                    problem, deadline = event.reason, 0.0
        if starting:
            raise SetupError(problem)

    def serve(self) -> None:
        """Serve one run after the other, until the last is long ago or somebody says so."""
        while not self._ending.is_set():
            self._tell("idle", ends_at=time.time() + self._asked.idle_s)
            visit = self._next()
            if visit is not None:
                connection, hello = visit
                self._tell("running", run={"pid": hello["pid"], "command": hello["command"]})
                with connection:
                    self._serve(connection, hello)
        self._tell("ending")

    def _next(self) -> tuple[Connection, dict[str, Any]] | None:
        """Return who comes next, after some time perhaps; None, with the end set, when nobody does."""
        deadline = time.monotonic() + self._asked.idle_s
        while not self._over(deadline):
            left_s = max(0.01, deadline - time.monotonic())
            with contextlib.suppress(Empty):
                return self._visits.get(timeout=left_s if self._asked.address is None else min(left_s, _WATCH_S))
            if self._executor is not None:
                self._executor.wait(0.0)  # it looks after the nodes of a cluster
        return None

    def _over(self, deadline: float) -> bool:
        """Set the end once nobody has come in time; whoever was greeted at the last moment has."""
        with self._lock:
            if time.monotonic() >= deadline and self._visitor is None:
                self._ending.set()
        return self._ending.is_set()

    def close(self) -> None:
        """End everything that was started."""
        if self._listener is not None:
            self._listener.close()
        if self._executor is not None:
            self._executor.stop()
            self._executor.close(leaving=True)

    def _tell(self, state: str, *, run: dict[str, Any] | None = None, ends_at: float | None = None) -> None:
        place.write_state(self._state | {"state": state, "run": run, "ends_at": ends_at})

    def _end(self) -> None:
        self._ending.set()
        self._visits.put(None)

    def _leave(self, hello: dict[str, Any]) -> None:
        with self._lock:
            if self._visitor is hello:
                self._visitor = None

    # In a thread of its own ------------------------------------------------------------------------------------------

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:  # closed
                return
            hello: dict[str, Any] = {}
            try:
                hello = json.loads(connection.recv_bytes() if connection.poll(_HELLO_S) else b"{}")
                answer = self._greet(hello)
                connection.send_bytes(json.dumps(answer).encode())
                if hello["ask"] == "run" and "refused" not in answer:
                    self._visits.put((connection, hello))
                    continue
            except Exception:  # whoever it was is gone, is not allowed in, or says what makes no sense
                self._leave(hello)
            connection.close()

    def _greet(self, hello: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if not secrets.compare_digest(hello["key"], self._key):
                raise ValueError
            user = self._visitor
            if user is not None and not processes.alive(user["pid"]):
                user = None
            in_use = "" if user is None else f"used by process {user['pid']} ({user['command']})"
            if hello["ask"] == "down":
                if user is not None and not hello["now"]:
                    return {"refused": f"the resident workers are {in_use}; `harness down --now` ends that run too"}
                self._end()
                return {}
            if self._ending.is_set():
                return {"refused": "the resident workers are ending; try again in a moment"}
            differ = differences(self._likeness, hello["likeness"])
            if differ:
                return {
                    "refused": f"the resident workers (process {os.getpid()}) are not what this command would start "
                    f"({differ}); `harness down`, then `harness up`, or use --no-resident"
                }
            if user is not None:
                return {
                    "refused": f"the resident workers are {in_use}, and serve one run at a time; wait for it, or use "
                    "--no-resident"
                }
            self._visitor = hello
            return {"pid": os.getpid()}

    # A run -----------------------------------------------------------------------------------------------------------

    def _serve(self, connection: Connection, hello: dict[str, Any]) -> None:
        """Do what a run asks for, until it ends or its command is gone; then make all ready for the next."""
        executor = self._executor
        assert executor is not None
        executor.renew()  # a worker may have been ended while it was idle
        changed = {
            name: hello["environment"].get(name)
            for name in self._environ.keys() | hello["environment"].keys()
            if hello["environment"].get(name) != self._environ.get(name)
        }
        changed["HARNESS_STARTED_IN"] = hello["folder"]
        executor.next_run(
            Run(
                sources={},
                telemetry_hz=hello["hz"],
                driver=hello["pid"],
                surroundings=Surroundings(folder=hello["folder"], environment=changed),
            )
        )
        self._said.clear()
        visit = Visit(executor, self._calibrations, self._said)
        try:
            while visit.lasts:
                if self._ending.is_set():
                    connection.send(Answer(ended="`harness down` has ended them"))
                    break
                if connection.poll(_LOOK_S):
                    connection.send(visit.answer(*connection.recv()))
        except (EOFError, OSError):
            pass  # its command is gone
        visit.end()
        if visit.broken:
            self._end()
        self._leave(hello)  # whoever comes now waits for what follows
        executor.renew()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)
