"""Warm worker processes on the nodes of a Ray cluster: one started here for the run, or one that is there.

Ray places one *agent* a node and carries the messages; the agent supervises the node's worker processes. A training
process so has no thread of Ray's beside it, can be ended without losing anything else, and keeps the environment it
was started with. Why an agent a node, and not a Ray actor a worker: docs/decisions/worker-processes.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule import ray_environment, reaper
from harness.schedule.agent import AgentNode, News, Request
from harness.schedule.node import Prestarted
from harness.schedule.order import Demand
from harness.schedule.process import Launch, Nursery, private_folder
from harness.schedule.protocol import Calibrated, Checked, Done, Event, Gone, Progress, Ready, Saved, Worker
from harness.schedule.shares import share_out

_LISTEN_S = 0.25  # a call that has nothing to tell returns after so long, with the progress
_LOOK_EVERY_S = 3.0  # how often to look for nodes that have joined


class RayExecutor:
    """An `Executor` on Ray: on this machine alone, or on the cluster at `address`."""

    def __init__(
        self,
        *,
        body: str,
        address: str | None = None,
        prestarted: Prestarted | None = None,
        workers: int | None = None,
        telemetry_hz: float = 5.0,
    ) -> None:
        self._body = body
        self._address = address
        self._most = workers
        self._hz = telemetry_hz
        self._prestarted = prestarted
        self._folder: Path | None = None
        self._agents: dict[str, _Agent] = {}  # by Ray's id of the node
        self._workers: dict[str, tuple[Worker, _Agent]] = {}
        self._opened: dict[Demand, dict[str, list[Worker]]] = {}  # by the node's id: what was opened there, perhaps []
        self._refused: dict[Demand, dict[str, str]] = {}  # by the node's name: why it holds none
        self._events: list[Event] = []
        self._ready: dict[str, Ready] = {}
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._sources: Mapping[str, Source] = {}
        self._progress: dict[str, Progress] = {}
        self._saved: dict[tuple[str, str], Saved] = {}
        self._looked_s = 0.0
        self._stopped = False
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self, sources: Mapping[str, Source]) -> None:
        """See `Executor`; called again for another run, the workers that are there announce themselves anew."""
        if self._agents:
            self._events.extend(self._ready.values())
            return
        self._sources = sources
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            if self._address is None:
                self._folder = private_folder()
                self._start_reaper()
                ray.init(
                    num_cpus=max(1, os.cpu_count() or 1),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    configure_logging=False,
                    object_store_memory=80_000_000,
                    _temp_dir=str(self._folder),
                )
            else:
                ray.init(address=self._address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:
            where = "on this machine" if self._address is None else f"at {self._address}"
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise SetupError(f"Ray could not be reached {where}: {first}") from error
        self._look_for_nodes()

    def _look_for_nodes(self) -> None:
        """Put an agent on every node that is there and has none."""
        self._looked_s = time.monotonic()
        here = ray.get_runtime_context().get_node_id()
        for described in ray.nodes():
            if described["Alive"] and described["NodeID"] not in self._agents:
                folder = None if self._folder is None else self._folder / "workers"
                driver = os.getpid() if described["NodeID"] == here else None
                agent = _Agent(described, sources=self._sources, hz=self._hz, folder=folder, driver=driver)
                self._agents[agent.node_id] = agent

    def _start_reaper(self) -> None:
        marker = f"{ray_environment.MARKER}={os.environ[ray_environment.MARKER]}"
        folders = [str(self._folder)] + ([str(self._prestarted.folder)] if self._prestarted is not None else [])
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, marker, *folders],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != ray_environment.MARKER},
        )

    def open(self, demand: Demand) -> list[Worker]:
        opened, refused = self._opened.setdefault(demand, {}), self._refused.setdefault(demand, {})
        new = [agent for agent in self._agents.values() if agent.node_id not in opened and not agent.aside]
        asked = [(agent, self._ask_open(agent, demand)) for agent in new]
        for agent, launches in asked:
            opened[agent.node_id] = []
            try:
                for launch in ray.get(launches) if not isinstance(launches, list) else launches:
                    opened[agent.node_id].append(self._add(agent, launch, demand))
            except RayTaskError as error:
                if not isinstance(error.cause, SetupError):
                    raise
                refused[agent.host] = str(error.cause)
            except SetupError as error:
                refused[agent.host] = str(error)
        if not any(opened.values()):
            raise SetupError(
                f"no node can hold a trial that needs {demand}: {'; '.join(dict.fromkeys(refused.values()))}"
            )
        return [worker for workers in opened.values() for worker in workers if worker.name in self._workers]

    def _ask_open(self, agent: _Agent, demand: Demand) -> Any:
        """Begin to open a node's workers for a demand; return their launches, or the promise of them."""
        prefix = "" if len(self._agents) == 1 else f"{agent.host}."
        if not agent.local:
            return agent.call("open", demand, self._body, self._most, prefix)
        launches = share_out(demand, body=self._body, most=self._most, prefix=prefix)
        nurseries: Sequence[Nursery] = () if self._prestarted is None else self._prestarted.nurseries
        agent.call("launch", launches, nurseries)
        return launches

    def _add(self, agent: _Agent, launch: Launch, demand: Demand) -> Worker:
        worker = Worker(name=launch.name, node=agent.host, demand=demand, cores=launch.cores, gpus=launch.gpus)
        self._workers[launch.name] = (worker, agent)
        agent.launches[launch.name] = launch
        return worker

    # For workers that work together (see `harness.schedule.gangs`), which are started one by one. ------------------

    def hosts(self, demand: Demand) -> list[str]:
        """Return the names of the nodes that could hold a part of such a trial."""
        return [agent.host for agent in self._agents.values() if not agent.aside]

    def free_address(self, node: str) -> str:
        """Return an address of a node, IP:PORT, that nobody listens on at this moment."""
        agent = self._agent_of(node)
        return str(ray.get(agent.call("free_address", agent.address), timeout=30))

    def start_worker(self, node: str, launch: Launch, demand: Demand) -> Worker:
        """Start a worker with this very share; it is `Ready` later, and no part of what `open` returns."""
        agent = self._agent_of(node)
        agent.call("launch", [launch], ())
        return self._add(agent, launch, demand)

    def end_worker(self, worker: str) -> None:
        """End a worker for good, whatever it does; nothing is told of it any more."""
        _, agent = self._workers.pop(worker)
        agent.launches.pop(worker, None)
        agent.asked.pop(worker, None)
        agent.call("discard", worker)

    def _agent_of(self, node: str) -> _Agent:
        return next(agent for agent in self._agents.values() if agent.host == node)

    def check(self, worker: str, trial: Trial) -> None:
        self._ask("check", worker, trial)

    def calibrate(self, worker: str) -> None:
        self._ask("calibrate", worker)

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        self._ask("run", worker, trial, attempt, state)

    def replace(self, worker: str) -> None:
        self._ready.pop(worker, None)
        self._ask("end", worker)
        self._ask("ready", worker)

    def set_aside(self, node: str) -> None:
        for agent in self._agents.values():
            if agent.host == node:
                agent.aside = True
                for opened in self._opened.values():
                    opened[agent.node_id] = []

    def _ask(self, what: str, worker: str, *arguments: Any) -> None:
        agent = self._workers[worker][1]
        agent.ask(Request(what=what, worker=worker, arguments=arguments))

    def wait(self, timeout_s: float) -> list[Event]:
        for agent in self._agents.values():
            agent.send()
        if self._address is not None and time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            self._look_for_nodes()
        listening = {agent.listen(): agent for agent in self._agents.values()}
        if not self._events and listening:
            ready, _ = ray.wait(list(listening), num_returns=1, timeout=timeout_s)
            if len(listening) > 1:  # take whatever else has come meanwhile
                ready, _ = ray.wait(list(listening), num_returns=len(listening), timeout=0)
            for ref in ready:
                self._hear(listening[ref])
        elif not self._events:
            time.sleep(timeout_s)
        events, self._events = self._events, []
        return events

    def _hear(self, agent: _Agent) -> None:
        """Take in what an agent has told."""
        try:
            news = agent.heard()
        except RayError as error:
            self._agent_lost(agent, str(error).strip().splitlines()[0])
            return
        self._keep(news, agent)
        for event in news.events:
            known = event.worker in self._workers
            if isinstance(event, Ready):
                self._ready[event.worker] = event
            else:
                agent.asked.pop(event.worker, None)
            if isinstance(event, Done) and not event.alive:
                self._ready.pop(event.worker, None)
            if isinstance(event, Gone):
                self._workers.pop(event.worker, None)
            if known:
                self._events.append(event)

    def _keep(self, news: News, agent: _Agent) -> None:
        for row in news.readings:
            row["node"] = agent.host
        self._rows.extend(news.readings)
        self._progress.update(news.progress)
        self._saved.update({saved.key: saved for saved in news.saved})

    def _agent_lost(self, agent: _Agent, reason: str) -> None:
        """The agent of a node is gone: start another if the node still lives, and its workers anew."""
        workers = [name for name, (_, other) in self._workers.items() if other is agent]
        lives = agent.node_id in {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for name in workers:
            self._ready.pop(name, None)
            self._events += _answers(agent.asked.pop(name, None), f"the node's agent was lost: {reason}")
        if lives and not agent.aside and agent.restart():
            agent.call("launch", [agent.launches[name] for name in workers], ())
            return
        del self._agents[agent.node_id]
        for name in workers:
            del self._workers[name]
            self._events.append(Gone(worker=name, reason=f"node {agent.host} was lost: {reason}"))

    def progress(self) -> dict[str, Progress]:
        return dict(self._progress)

    def saved(self) -> list[Saved]:
        saved, self._saved = list(self._saved.values()), {}
        return saved

    def telemetry(self) -> list[dict[str, Any]]:
        rows, self._rows = self._rows, []
        return rows

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._notes

    def nodes(self) -> list[dict[str, Any]]:
        return [agent.about()["description"] for agent in self._agents.values()]

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if ray.is_initialized():
            asked = [(agent, agent.call("stop")) for agent in self._agents.values()]
            for agent, ref in asked:
                with contextlib.suppress(RayError):
                    self._keep(agent.heard(timeout_s=2), agent)
                with contextlib.suppress(RayError):
                    rows, self._notes[agent.host] = ray.get(ref, timeout=2)
                    self._keep(News(readings=rows), agent)
        if self._prestarted is not None:
            self._prestarted.stop()

    def close(self, *, leaving: bool) -> None:
        if leaving and self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.write(b"now")  # it takes a second off Ray's own shutdown
            self._reaper.stdin.close()
            return
        ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._reaper is not None:
            self._reaper.communicate(b"done")


def _answers(asked: Request | None, reason: str) -> list[Event]:
    """Return what a worker says of what it was asked when it is lost."""
    match asked:
        case Request(what="run", worker=worker):
            return [
                Done(worker=worker, outcome=Outcome(status="lost", error=reason, ended_at=time.time()), alive=False)
            ]
        case Request(what="check", worker=worker):
            return [Checked(worker=worker, error=None)]
        case Request(what="calibrate", worker=worker):
            return [Calibrated(worker=worker, values={})]
    return []


class _Agent:
    """The driver's handle to the actor that supervises one node."""

    def __init__(
        self,
        node: dict[str, Any],
        *,
        sources: Mapping[str, Source],
        hz: float,
        folder: Path | None,
        driver: int | None,
    ) -> None:
        self.node_id = str(node["NodeID"])
        self.host = str(node["NodeManagerHostname"])
        self.address = str(node["NodeManagerAddress"])
        self.local = folder is not None
        self.aside = False
        self.launches: dict[str, Launch] = {}
        self.asked: dict[str, Request] = {}  # what each worker has yet to answer
        self._folder = folder
        self._driver = driver
        self._sources = sources
        self._hz = hz
        self._cpus = float(node["Resources"].get("CPU", 0.0))
        self._generation = 0
        self._create()

    def _create(self) -> None:
        affinity = NodeAffinitySchedulingStrategy(self.node_id, soft=False)
        remote = ray.remote(num_cpus=self._cpus, max_restarts=0, concurrency_groups={"listen": 1})(AgentNode)
        self._actor = remote.options(scheduling_strategy=affinity).remote(
            sources=dict(self._sources), telemetry_hz=self._hz, folder=self._folder, driver=self._driver
        )
        self._about = self.call("about")
        self._listening: Any = None
        self._requests: list[Request] = []
        self._number = 0

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._actor, method).remote(*arguments)

    def about(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Return what the node says of itself."""
        return dict(ray.get(self._about, timeout=timeout_s))

    def ask(self, request: Request) -> None:
        """Have a worker do something, once `send` is called."""
        if request.what not in ("end", "ready"):
            self.asked[request.worker] = request
        self._requests.append(request)

    def send(self) -> None:
        """Send what was asked since the last time, in one message."""
        if self._requests:
            self.call("ask", self._number, self._requests)
            self._requests, self._number = [], self._number + 1

    def listen(self) -> Any:
        """Return the promise of the next news: of one call, until they are heard."""
        if self._listening is None:
            self._listening = self._actor.listen.options(concurrency_group="listen").remote(_LISTEN_S)
        return self._listening

    def heard(self, timeout_s: float | None = None) -> News:
        """Return the news that were listened for.

        Raises:
            RayError: when the agent is gone, or has not answered within `timeout_s`.
        """
        ref, self._listening = self.listen(), None
        news: News = ray.get(ref, timeout=timeout_s)
        return news

    def restart(self) -> bool:
        """Make a new actor in place of one that is gone; False once that has happened too often."""
        self._generation += 1
        if self._generation >= 100:
            return False
        self._create()
        return True
