"""Warm worker processes on the nodes of a Ray cluster: one started here for the run, or one that is there.

Ray places one *agent* a node and carries the messages; the agent supervises the node's worker processes. A training
process so has no thread of Ray's beside it, can be ended without losing anything else, and keeps the environment it
was started with. Why an agent a node, and not a Ray actor a worker: docs/decisions/worker-processes.md.
"""

from __future__ import annotations

# It registers a lock for forks. Were pandas to import it, in the recorder's thread, that might be amid a fork of Ray's.
import concurrent.futures.thread  # noqa: F401
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from harness.domain.errors import SetupError
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule import ray_environment, reaper
from harness.schedule.agent import News, Request, Run
from harness.schedule.demand import Demand
from harness.schedule.expected import Expected
from harness.schedule.launch import Launch
from harness.schedule.nursery import Nursery, Prestarted, private_folder
from harness.schedule.process import START_TIMEOUT_S
from harness.schedule.protocol import Done, Event, Gone, Progress, Ready, Saved, Worker
from harness.schedule.ray_link import why_lost
from harness.schedule.ray_node import Agent
from harness.schedule.ray_nodes import Nodes
from harness.schedule.ray_refusals import Refusals
from harness.schedule.shares import share_out

_OPEN_S: Final = 30.0  # a node that has not cut itself into shares by then counts as lost: it takes milliseconds
_END_S: Final = 4.0  # what all nodes have at the end for their last readings


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
        skip_bad_nodes: bool = False,
        expected: Expected | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`say` is told what becomes of nodes; with `skip_bad_nodes` a run begins without those that cannot be used.
        Where nodes are `expected`, `start` waits for a cluster at `address` that is just being started."""
        self._body = body
        self._most = workers
        self._prestarted = prestarted
        self._own = address is None
        self._folder: Path | None = None
        self._nodes = Nodes(
            address, hz=telemetry_hz, skip_bad=skip_bad_nodes, expected=expected, say=say, lost=self._node_lost
        )
        self._workers: dict[str, tuple[Worker, Agent]] = {}
        self._opened: dict[Demand, dict[str, list[Worker]]] = {}  # by the node's id: what was opened there, perhaps []
        self._refusals = Refusals(self._nodes, body=body, known=self._known)
        self._held: set[Demand] = set()  # what some node could hold
        self._events: list[Event] = []
        self._ready: dict[str, Ready] = {}
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._progress: dict[str, Progress] = {}
        self._saved: dict[tuple[str, str], Saved] = {}
        self._run: Run | None = None
        self._stopped = False
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self, sources: Mapping[str, Source]) -> None:
        """See `Executor`; called again for another run, the workers that are there announce themselves anew."""
        if self._nodes.connected:
            self._begin_again(sources)
            return
        if self._own:
            self._folder = private_folder()
            self._start_reaper()
        self._nodes.start(sources, self._folder)

    def next_run(self, run: Run) -> None:
        """Say what the next `start` is for, where workers outlive a run; its sources come with `start`."""
        self._run = run

    def rest(self) -> None:
        """End a run, and collect its last readings; what is idle stays for another one (`renew`, then `start`)."""
        self._end("rest")
        self._events = []

    def renew(self) -> None:
        """After `rest`: have the workers be as good as new; those that are not left to be started anew when opened."""
        ready: dict[str, Ready] = {}
        for agent, ref in [(agent, agent.call("renew")) for agent in self._agents]:
            try:
                ready |= {one.worker: one for one in ray.get(ref, timeout=START_TIMEOUT_S)}
            except RayError as error:
                self._nodes.lose(agent, why_lost(error))
        self._ready, self._events = ready, []
        for opened in self._opened.values():
            for node_id, workers in list(opened.items()):
                if any(worker.name not in ready for worker in workers):
                    del opened[node_id]

    def _begin_again(self, sources: Mapping[str, Source]) -> None:
        """Have the nodes that are there begin the next run."""
        run = self._run
        self._nodes.begin(sources, run)
        if run is not None:
            self._rows, self._notes, self._progress, self._saved = [], {}, {}, {}
            self._refusals.forget_all()
            for opened in self._opened.values():  # what was set aside, or could not hold a share, is asked again
                for node_id in [node_id for node_id, workers in opened.items() if not workers]:
                    del opened[node_id]
        self._events.extend(self._ready.values())

    @property
    def _agents(self) -> list[Agent]:
        return list(self._nodes.agents.values())

    @property
    def reaper(self) -> int | None:
        """The process that cleans up after this one, if there is one."""
        return None if self._reaper is None else self._reaper.pid

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
        opened, asked = self._opened.setdefault(demand, {}), []
        for agent in [agent for agent in self._agents if agent.node_id not in opened and not agent.aside]:
            opened[agent.node_id] = []
            if self._refusals.of(agent, demand) is None:
                asked.append((agent, self._ask_open(agent, demand)))
        for agent, launches in asked:
            for launch in self._answer(agent, demand, launches):
                opened[agent.node_id].append(self._add(agent, launch, demand))
                self._held.add(demand)
        if not any(opened.values()) and demand not in self._held and not self._nodes.expected:
            raise SetupError(self._refusals.told(demand))
        return [worker for workers in opened.values() for worker in workers if worker.name in self._workers]

    def _answer(self, agent: Agent, demand: Demand, launches: Any) -> list[Launch]:
        """Return the launches that were promised; none where the node cannot hold any, or is lost."""
        try:
            return launches if isinstance(launches, list) else list(ray.get(launches, timeout=_OPEN_S))
        except RayTaskError as error:
            if not isinstance(error.cause, SetupError | OSError):
                raise
            self._refusals.note(agent, demand, str(error.cause))
        except RayError as error:
            self._nodes.lose(agent, why_lost(error))
        return []

    def _known(self, agent: Agent) -> dict[str, Any] | None:
        """Return what is known of a node; None where it turns out to be lost."""
        try:
            return agent.known()
        except RayError as error:
            self._nodes.lose(agent, why_lost(error))
            return None

    def _ask_open(self, agent: Agent, demand: Demand) -> Any:
        """Begin to open a node's workers for a demand; return their launches, or the promise of them."""
        prefix = "" if agent.local else f"{agent.host}."
        if not agent.local:
            return agent.call("open", demand, self._body, self._most, prefix)
        launches = share_out(demand, body=self._body, most=self._most, prefix=prefix)
        nurseries: Sequence[Nursery] = () if self._prestarted is None else self._prestarted.nurseries
        agent.call("launch", launches, nurseries)
        return launches

    def _add(self, agent: Agent, launch: Launch, demand: Demand) -> Worker:
        worker = Worker(name=launch.name, node=agent.host, demand=demand, cores=launch.cores, gpus=launch.gpus)
        self._workers[launch.name] = (worker, agent)
        return worker

    # For workers that work together (see `harness.schedule.gangs`), which are started one by one. ------------------

    def hosts(self, demand: Demand) -> list[str]:
        """Return the names of the nodes that could hold a part of such a trial; of those that are silent, none."""
        agents = [agent for agent in self._agents if not (agent.aside or agent.silent)]
        found = [agent.host for agent in agents if self._refusals.of(agent, demand) is None]
        if found:
            self._held.add(demand)
        return found

    def shares(self, node: str, demand: Demand) -> list[Launch]:
        """Return the disjoint shares of a node that can each hold a part of such a trial; none is started by that.

        Raises:
            SetupError: when it can hold none, or is gone.
        """
        launches: list[Launch] = self._told(node, "shares", demand, self._body, self._most)
        return launches

    def free_address(self, node: str) -> str:
        """Return an address of a node, IP:PORT, that nobody listens on at this moment.

        Raises:
            SetupError: when the node is gone.
        """
        return str(self._told(node, "free_address", self._nodes.named(node).address))

    def _told(self, node: str, method: str, *arguments: Any) -> Any:
        agent = self._nodes.named(node)
        try:
            return agent.answer(agent.call(method, *arguments), _OPEN_S)
        except RayTaskError as error:
            raise SetupError(str(error.cause)) from None
        except RayError as error:
            raise SetupError(f"node {node}: {why_lost(error)}") from None

    def start_worker(self, node: str, launch: Launch, demand: Demand) -> Worker:
        """Start a worker with this very share; it is `Ready` later, and no part of what `open` returns."""
        agent = self._nodes.named(node)
        agent.call("launch", [launch], ())
        return self._add(agent, launch, demand)

    def end_worker(self, worker: str) -> None:
        """End a worker for good, whatever it does; nothing is told of it any more."""
        if worker not in self._workers:
            return
        _, agent = self._workers.pop(worker)
        agent.call("discard", worker)

    def node_names(self, demand: Demand) -> list[str]:
        names = self.hosts(demand)
        may_come = demand in self._held or self._nodes.expected or any(agent.silent for agent in self._agents)
        if not names and not may_come:
            raise SetupError(self._refusals.told(demand))
        return names

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
        for agent in self._nodes.set_aside(node):
            for opened in self._opened.values():
                opened[agent.node_id] = []

    def _ask(self, what: str, worker: str, *arguments: Any) -> None:
        if worker not in self._workers:  # its node was lost a moment ago, as the next `wait` says
            return
        _, agent = self._workers[worker]
        agent.ask(Request(what=what, worker=worker, arguments=arguments))

    def wait(self, timeout_s: float) -> list[Event]:
        for agent in self._agents:
            agent.send()
        self._nodes.watch()
        listening = {agent.listen(len(self._agents)): agent for agent in self._agents}
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

    def _hear(self, agent: Agent) -> None:
        """Take in what an agent has told."""
        try:
            news = agent.heard()
        except RayError as error:
            self._nodes.lose(agent, why_lost(error))
            return
        self._keep(news, agent)
        for event in news.events:
            known = event.worker in self._workers
            if isinstance(event, Ready):
                self._ready[event.worker] = event
            if isinstance(event, Done) and not event.alive:
                self._ready.pop(event.worker, None)
            if isinstance(event, Gone):
                self._workers.pop(event.worker, None)
            if known:
                self._events.append(event)
        try:
            agent.expect_arrived()
        except RayError as error:
            self._nodes.lose(agent, f"a message to it was lost: {why_lost(error)}")

    def _keep(self, news: News, agent: Agent) -> None:
        for row in news.readings:
            row["node"] = agent.host
        self._rows.extend(news.readings)
        self._progress.update(news.progress)
        self._saved.update({saved.key: saved for saved in news.saved})

    def _node_lost(self, agent: Agent, reason: str) -> None:
        """Go on without the workers of a node."""
        for opened in self._opened.values():
            opened.pop(agent.node_id, None)
        self._refusals.forget(agent)
        for name in [name for name, (_, other) in self._workers.items() if other is agent]:
            del self._workers[name]
            self._ready.pop(name, None)
            self._progress.pop(name, None)
            self._events.append(Gone(worker=name, reason=f"node {agent.host} was lost: {reason}"))

    def progress(self) -> dict[str, Progress]:
        return dict(self._progress)

    def saved(self) -> list[Saved]:
        saved, self._saved = list(self._saved.values()), {}
        return saved

    def save_now(self) -> None:
        for agent in self._agents:
            agent.call("save_now")

    def telemetry(self) -> list[dict[str, Any]]:
        rows, self._rows = self._rows, []
        return rows

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._notes

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes.described()

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if ray.is_initialized():
            self._end("stop")
        if self._prestarted is not None:
            self._prestarted.stop()

    def _end(self, method: str) -> None:
        """Have all nodes end what this run has there, and collect the last readings of those that answer in time."""
        agents = self._agents
        ended, heard = {agent.call(method): agent for agent in agents}, {agent.listen(): agent for agent in agents}
        promised = [*heard, *ended]
        if not promised:
            return
        answered, _ = ray.wait(promised, num_returns=len(promised), timeout=_END_S)
        for ref in [ref for ref in promised if ref in set(answered)]:
            with contextlib.suppress(RayError):
                if ref in heard:
                    self._keep(heard[ref].heard(), heard[ref])
                else:
                    agent = ended[ref]
                    rows, self._notes[agent.host] = ray.get(ref, timeout=_END_S)
                    self._keep(News(readings=rows), agent)

    def close(self, *, leaving: bool) -> None:
        if leaving and self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.write(b"now")  # it takes a second off Ray's own shutdown
            self._reaper.stdin.close()
            return
        self._nodes.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._reaper is not None:
            self._reaper.communicate(b"done")
