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
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule import ray_environment, reaper
from harness.schedule.node import Node, Prestarted, share_out
from harness.schedule.order import Demand
from harness.schedule.process import Launch, Nursery, private_folder
from harness.schedule.protocol import Calibrated, Checked, Done, Event, Gone, Progress, Ready, Worker


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
        self._agents: dict[str, _Agent] = {}
        self._workers: dict[str, tuple[Worker, _Agent]] = {}
        self._opened: dict[Demand, list[Worker]] = {}
        self._pending: dict[Any, tuple[str, str]] = {}  # object ref -> (what, worker)
        self._early: list[Event] = []
        self._ready: dict[str, Ready] = {}
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._sources: Mapping[str, Source] = {}
        self._progress: dict[str, Progress] = {}
        self._polls: dict[Any, _Agent] = {}
        self._stopped = False
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self, sources: Mapping[str, Source]) -> None:
        """See `Executor`; called again for another run, the workers that are there announce themselves anew."""
        if self._agents:
            self._early.extend(self._ready.values())
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
        here = ray.get_runtime_context().get_node_id()
        for described in ray.nodes():
            if described["Alive"]:
                folder = None if self._folder is None else self._folder / "workers"
                driver = os.getpid() if described["NodeID"] == here else None
                agent = _Agent(described, sources=sources, hz=self._hz, folder=folder, driver=driver)
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
        if demand not in self._opened:
            self._opened[demand] = []
            for agent in list(self._agents.values()):
                self._open_on(agent, demand)
            if not self._opened[demand]:
                raise SetupError(f"no node can hold a trial that needs cpus={demand.cpus}, gpus={demand.gpus:g}")
        return [worker for worker in self._opened[demand] if worker.name in self._workers]

    def _open_on(self, agent: _Agent, demand: Demand) -> None:
        nurseries: Sequence[Nursery] = ()
        if self._prestarted is not None and agent.local:
            nurseries = self._prestarted.nurseries
        prefix = "" if len(self._agents) == 1 else f"{agent.host}."
        if agent.local:
            launches = share_out(demand, body=self._body, most=self._most, prefix=prefix)
        else:
            launches = ray.get(agent.shares(demand, self._body, self._most, prefix))
        agent.launch(launches, nurseries)
        for launch in launches:
            worker = Worker(name=launch.name, node=agent.host, demand=demand, cores=launch.cores, gpus=launch.gpus)
            self._workers[launch.name] = (worker, agent)
            self._opened[demand].append(worker)
            agent.launches[launch.name] = launch
            self._ask_ready(launch.name)

    def check(self, worker: str, trial: Trial) -> None:
        self._ask("check", worker, trial)

    def calibrate(self, worker: str) -> None:
        self._ask("calibrate", worker)

    def submit(self, worker: str, trial: Trial) -> None:
        self._ask("run", worker, trial)

    def replace(self, worker: str) -> None:
        self._workers[worker][1].replace(worker)
        self._ask_ready(worker)

    def _ask(self, what: str, worker: str, *arguments: Any) -> None:
        self._pending[self._workers[worker][1].call(what, worker, *arguments)] = (what, worker)

    def _ask_ready(self, worker: str) -> None:
        self._ready.pop(worker, None)
        self._pending[self._workers[worker][1].ready(worker)] = ("ready", worker)

    def wait(self, timeout_s: float) -> list[Event]:
        events, self._early = self._early, []
        if events or not self._pending:
            if not events:
                time.sleep(min(timeout_s, 0.02))
            return events
        ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        if ready and len(self._pending) > 1:  # take whatever else has come meanwhile
            ready, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        for ref in ready:
            if ref in self._pending:
                events.extend(self._collect(ref))
        return events

    def _collect(self, ref: Any) -> list[Event]:
        what, worker = self._pending.pop(ref)
        try:
            event: Event = ray.get(ref)
        except RayActorError as error:
            return self._agent_lost(what, worker, str(error).strip().splitlines()[0])
        except RayTaskError as error:
            cause = error.cause if isinstance(getattr(error, "cause", None), Exception) else error
            del self._workers[worker]
            return [Gone(worker=worker, reason=str(cause))]
        if isinstance(event, Ready):
            self._ready[worker] = event
        elif isinstance(event, Done) and not event.alive:
            self._ask_ready(worker)
        return [event]

    def _agent_lost(self, what: str, worker: str, reason: str) -> list[Event]:
        """The agent of a worker is gone: start another on its node if that still lives, and its workers anew."""
        one, agent = self._workers[worker]
        events: list[Event] = []
        if what == "run":
            outcome = Outcome(status="lost", error=f"the node's agent was lost: {reason}", ended_at=time.time())
            events.append(Done(worker=worker, outcome=outcome, alive=False))
        elif what == "check":
            events.append(Checked(worker=worker, error=None))
        elif what == "calibrate":
            events.append(Calibrated(worker=worker, values={}))
        if agent.restart(self._node_alive(agent.node_id)):
            agent.launch([agent.launches[worker]], ())
            self._ask_ready(worker)
        else:
            del self._workers[worker]
            events.append(Gone(worker=worker, reason=f"node {one.node} was lost: {reason}"))
        return events

    def _node_alive(self, node_id: str) -> bool:
        return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())

    def progress(self) -> dict[str, Progress]:
        """Return what the agents last said, and ask them again for the next call."""
        done, _ = ray.wait(list(self._polls), num_returns=len(self._polls), timeout=0) if self._polls else ([], [])
        for ref in done:
            agent = self._polls.pop(ref)
            self._take(ref, agent)
        waiting = set(map(id, self._polls.values()))
        for agent in self._agents.values():
            if id(agent) not in waiting:
                self._polls[agent.call("poll")] = agent
        return dict(self._progress)

    def _take(self, poll: Any, agent: _Agent, *, timeout_s: float | None = None) -> None:
        """Keep what an agent has said when it was asked how far it is: it says each reading once."""
        with contextlib.suppress(RayError):
            progress, rows = ray.get(poll, timeout=timeout_s)
            self._progress.update(progress)
            self._keep(rows, agent)

    def _keep(self, rows: list[dict[str, Any]], agent: _Agent) -> None:
        for row in rows:
            row["node"] = agent.host
        self._rows.extend(rows)

    def telemetry(self) -> list[dict[str, Any]]:
        rows, self._rows = self._rows, []
        return rows

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._notes

    def nodes(self) -> list[dict[str, Any]]:
        return list(ray.get([agent.description for agent in self._agents.values()], timeout=30))

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if ray.is_initialized():
            asked = [(agent, agent.call("stop")) for agent in self._agents.values()]
            for poll, agent in self._polls.items():
                self._take(poll, agent, timeout_s=2)
            for agent, ref in asked:
                with contextlib.suppress(RayError):
                    rows, self._notes[agent.host] = ray.get(ref, timeout=2)
                    self._keep(rows, agent)
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
        self.local = folder is not None
        self._folder = folder
        self._driver = driver
        self.launches: dict[str, Launch] = {}
        self._sources = sources
        self._hz = hz
        self._cpus = float(node["Resources"].get("CPU", 0.0))
        self._generation = 0
        self._actor = self._create()
        self.description = self.call("describe")
        self._last: Any = None  # the call that `ready` has to come after: an actor with threads keeps no order

    def _create(self) -> Any:
        affinity = NodeAffinitySchedulingStrategy(self.node_id, soft=False)
        remote = ray.remote(AgentNode)
        return remote.options(
            num_cpus=self._cpus, max_concurrency=2 * int(self._cpus) + 8, scheduling_strategy=affinity, max_restarts=0
        ).remote(sources=dict(self._sources), telemetry_hz=self._hz, folder=self._folder, driver=self._driver)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._actor, method).remote(*arguments)

    def shares(self, demand: Demand, body: str, most: int | None, prefix: str) -> Any:
        return self.call("share_out", demand, body, most, prefix)

    def launch(self, launches: Sequence[Launch], nurseries: Sequence[Nursery]) -> None:
        self._last = self.call("launch", list(launches), list(nurseries))

    def replace(self, worker: str) -> None:
        self._last = self.call("end", worker)

    def ready(self, worker: str) -> Any:
        """Ask for the worker's `Ready`, once what was last launched or ended here has been."""
        return self.call("ready_after", self._last, worker)

    def restart(self, node_alive: bool) -> bool:
        """Make a new actor if the node lives; True also when one was made since the loss."""
        if not node_alive or self._generation >= 100:
            return False
        try:
            ray.get(self.call("alive"), timeout=5)
        except RayError:
            self._generation += 1
            self._actor = self._create()
            self.description = self.call("describe")  # the first may have been lost with the actor
        return True


class AgentNode(Node):
    """The `Node` inside a Ray actor, with what the driver needs besides."""

    def __init__(
        self, *, sources: Mapping[str, Source], telemetry_hz: float, folder: Path | None, driver: int | None
    ) -> None:
        """`driver` is the driver's process id where it runs on this node. Ray's daemon here started this process."""
        roots = [os.getppid()] if driver is None else [os.getppid(), driver]
        super().__init__(sources=sources, telemetry_hz=telemetry_hz, folder=folder, roots=roots)

    def alive(self) -> bool:
        return True

    def ready_after(self, _before: None, name: str) -> Ready:
        return self.ready(name)

    def share_out(self, demand: Demand, body: str, most: int | None, prefix: str) -> list[Launch]:
        return share_out(demand, body=body, most=most, prefix=prefix)

    def poll(self) -> tuple[dict[str, Progress], list[dict[str, Any]]]:
        return self.progress(), self.telemetry()
