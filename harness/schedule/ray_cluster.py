"""Warm worker processes on the nodes of a Ray cluster: one started here for the run, or one that is there.

Ray places one *agent* a node and carries the messages; the agent supervises the node's worker processes. A training
process so has no thread of Ray's beside it, can be ended without losing anything else, and keeps the environment it
was started with. Why an agent a node, and not a Ray actor a worker: docs/decisions/worker-processes.md.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError, RayTaskError

from harness.domain.errors import SetupError
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule import ray_environment, reaper
from harness.schedule.agent import News, Request, Run
from harness.schedule.eligible import refusal, what_there_is
from harness.schedule.node import Prestarted
from harness.schedule.order import Demand
from harness.schedule.process import START_TIMEOUT_S, Launch, Nursery, private_folder
from harness.schedule.protocol import Done, Event, Gone, Progress, Ready, Saved, Worker
from harness.schedule.ray_link import Link, Seen, first_line
from harness.schedule.ray_node import Agent
from harness.schedule.shares import share_out

_LOOK_EVERY_S: Final = 3.0  # how often to look for nodes that have joined or are gone
_JOIN_S: Final = 20.0  # what the nodes have at the start to answer, and others to let go of them


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
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`say` is told what becomes of nodes; with `skip_bad_nodes` a run begins without those that cannot be used."""
        self._body = body
        self._link = Link(address)
        self._skip = skip_bad_nodes
        self._say = say
        self._most = workers
        self._hz = telemetry_hz
        self._prestarted = prestarted
        self._folder: Path | None = None
        self._agents: dict[str, Agent] = {}  # by Ray's id of the node
        self._joining: dict[str, Agent] = {}  # those that have yet to answer, or to be let go of by others
        self._given_up: list[Agent] = []  # to give back once the head is there
        self._unusable: dict[str, str] = {}  # by Ray's id of the node: why
        self._workers: dict[str, tuple[Worker, Agent]] = {}
        self._opened: dict[Demand, dict[str, list[Worker]]] = {}  # by the node's id: what was opened there, perhaps []
        self._refused: dict[Demand, dict[str, str]] = {}  # by the node's name: why it holds none
        self._held: set[Demand] = set()  # what some node could hold
        self._events: list[Event] = []
        self._ready: dict[str, Ready] = {}
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._sources: Mapping[str, Source] = {}
        self._progress: dict[str, Progress] = {}
        self._saved: dict[tuple[str, str], Saved] = {}
        self._rows_of_nodes: dict[str, dict[str, Any]] = {}
        self._looked_s = 0.0
        self._connected = self._began = False
        self._run: Run | None = None
        self._stopped = False
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self, sources: Mapping[str, Source]) -> None:
        """See `Executor`; called again for another run, the workers that are there announce themselves anew."""
        self._sources = sources
        if self._agents:
            self._begin_again()
            return
        if self._link.address is None:
            self._folder = private_folder()
            self._start_reaper()
            self._link.start_here(self._folder, cpus=max(1, os.cpu_count() or 1))
        else:
            self._link.connect()
        self._connected = True
        try:
            self._look_for_nodes()
            if self._link.address is not None:
                self._wait_for_nodes()
        except Exception as error:
            if self._link.address is not None:
                self._link.close()
            if isinstance(error, SetupError):
                raise
            raise SetupError(f"Ray does not say which nodes there are: {first_line(error)}") from error

    def next_run(self, run: Run) -> None:
        """Say what the next `start` is for, where workers outlive a run; its sources come with `start`."""
        self._run = run

    def rest(self) -> None:
        """End a run, and collect its last readings; what is idle stays for another one (`renew`, then `start`)."""
        asked = [(agent, agent.call("rest")) for agent in self._agents.values()]
        for agent, ref in asked:
            with contextlib.suppress(RayError):
                self._keep(agent.heard(timeout_s=2), agent)
            with contextlib.suppress(RayError):
                rows, self._notes[agent.host] = ray.get(ref, timeout=5)
                self._keep(News(readings=rows), agent)
        self._events = []

    def renew(self) -> None:
        """After `rest`: have the workers be as good as new; those that are not left to be started anew when opened."""
        ready: dict[str, Ready] = {}
        for agent, ref in [(agent, agent.call("renew")) for agent in self._agents.values()]:
            try:
                ready |= {one.worker: one for one in ray.get(ref, timeout=START_TIMEOUT_S)}
            except RayError as error:
                self._agent_lost(agent, first_line(error))
        self._ready, self._events = ready, []
        for opened in self._opened.values():
            for node_id, workers in list(opened.items()):
                if any(worker.name not in ready for worker in workers):
                    del opened[node_id]

    def _begin_again(self) -> None:
        """Have the nodes that are there begin the next run."""
        if self._run is not None:
            run = replace(self._run, sources=dict(self._sources))
            self._rows, self._notes, self._progress, self._saved, self._rows_of_nodes = [], {}, {}, {}, {}
            for agent in self._agents.values():
                agent.begin(run)
                for opened in self._opened.values():  # what was set aside, or could not hold a share, is asked again
                    if not opened.get(agent.node_id, True):
                        del opened[agent.node_id]
        self._events.extend(self._ready.values())

    # The nodes: those that are there, that join, and that are lost. ---------------------------------------------------

    def _wait_for_nodes(self) -> None:
        """Wait until each node of the cluster is joined, or known to be of no use.

        Raises:
            SetupError: when one is of no use and none is to be skipped, or all are; naming each, with why.
        """
        end_s = time.monotonic() + _JOIN_S
        while self._joining and time.monotonic() < end_s:
            self._admit(timeout_s=0.5)
        bad = dict(self._unusable)
        for agent in self._joining.values():
            agent.told_busy = True
            bad[agent.node_id] = self._why_not_joined(agent)
        if not self._agents and not bad:
            raise SetupError(f"the cluster at {self._link.address} has no node with CPUs for trials")
        if bad and not (self._skip and self._agents):
            way_out = "; --skip-bad-nodes goes on without" if self._agents else ""
            raise SetupError(f"the cluster at {self._link.address}: {'; '.join(bad.values())}{way_out}")
        for why in bad.values():
            self._say(f"{why}; going on without it")

    def _why_not_joined(self, agent: Agent) -> str:
        if not agent.held():
            return f"node {agent.host} does not answer"
        free = available_resources_per_node().get(agent.node_id, {})
        has = ", ".join(f"{free.get(name, 0):g} of {count:g} {name}s" for name, count in agent.node.bundle.items())
        return f"node {agent.host} is held by others: {has} are free, and a run needs all of it"

    def _look_for_nodes(self) -> None:
        """Begin to join the nodes that are new, and go on without those that are gone.

        Raises:
            Exception: of several kinds, when the head does not say.
        """
        self._looked_s = time.monotonic()
        alive = {seen.node_id: seen for seen in self._link.nodes()}
        for agent in [*self._agents.values(), *self._joining.values()]:
            if agent.node_id not in alive:
                self._agent_lost(agent, "Ray has lost it")
        while self._given_up:
            self._given_up.pop().give_back()
        here = ray.get_runtime_context().get_node_id()
        known = self._agents.keys() | self._joining.keys() | self._unusable.keys()
        for seen in [seen for seen in alive.values() if seen.node_id not in known and seen.cpus]:
            agent = Agent(
                seen,
                host=self._name_of(seen, alive),
                sources=self._sources,
                hz=self._hz,
                folder=None if self._folder is None else self._folder / "workers",
                driver=os.getpid() if seen.node_id == here else None,
            )
            (self._agents if agent.local else self._joining)[agent.node_id] = agent

    def _name_of(self, seen: Seen, alive: Mapping[str, Seen]) -> str:
        """Return what to call a node: its host name, with its address too where another has the same."""
        hosts = [other.hostname for other in alive.values()]
        used = {agent.host for agent in (*self._agents.values(), *self._joining.values())}
        if hosts.count(seen.hostname) == 1 and seen.hostname not in used:
            return seen.hostname
        name = f"{seen.hostname}@{seen.address}"
        alike = [other for other in alive.values() if (other.hostname, other.address) == (seen.hostname, seen.address)]
        return name if len(alike) == 1 and name not in used else f"{name}:{seen.port}"

    def _admit(self, *, timeout_s: float) -> None:
        """Take in the nodes that have answered meanwhile, if they can be used."""
        asked = {agent.ready: agent for agent in self._joining.values()}
        if not asked:
            return
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
        for agent in [asked[ref] for ref in answered]:
            del self._joining[agent.node_id]
            wrong, odd = agent.examine()
            if wrong is not None:
                self._unusable[agent.node_id] = f"node {agent.host} {wrong}"
                self._given_up.append(agent)
                if self._began:
                    self._say(f"node {agent.host} {wrong}; going on without it")
                continue
            self._agents[agent.node_id] = agent
            self._rows_of_nodes[agent.host] = agent.described()
            if odd is not None:
                self._say(f"node {agent.host} {odd}")

    def _watch_cluster(self) -> None:
        """Look after the nodes, each few seconds, and after the cluster: gone, it is waited for."""
        if not self._connected:
            self._connect_again()
            return
        for agent in self._joining.values():
            if not agent.told_busy and time.monotonic() - agent.began_s > _JOIN_S:
                agent.told_busy = True
                self._say(f"node {agent.host} has joined, and is held by others or does not answer")
        try:
            self._look_for_nodes()
        except Exception:
            if self._link.lost():
                self._cluster_lost()

    def _cluster_lost(self) -> None:
        self._say(f"the cluster at {self._link.address} is gone; waiting for it to come back")
        for agent in list(self._agents.values()):
            self._agent_lost(agent, "its cluster is gone")
        self._joining, self._given_up, self._unusable = {}, [], {}
        self._connected = False
        self._link.close()

    def _connect_again(self) -> None:
        self._looked_s = time.monotonic()
        if self._link.answers():
            with contextlib.suppress(SetupError):
                self._link.connect()
                self._connected = True
                self._looked_s = 0.0
                self._say(f"the cluster at {self._link.address} is back")

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
        opened, refused = self._opened.setdefault(demand, {}), self._refused.setdefault(demand, {})
        new = [agent for agent in self._agents.values() if agent.node_id not in opened and not agent.aside]
        asked = []
        for agent in new:
            opened[agent.node_id] = []
            why = refusal(agent.known(wait=not agent.local), demand)
            if why is None:
                asked.append((agent, self._ask_open(agent, demand)))
            else:
                refused[agent.host] = f"{agent.host} {why}"
        for agent, launches in asked:
            try:
                for launch in ray.get(launches) if not isinstance(launches, list) else launches:
                    opened[agent.node_id].append(self._add(agent, launch, demand))
                    self._held.add(demand)
            except RayTaskError as error:
                if not isinstance(error.cause, SetupError):
                    raise
                refused[agent.host] = str(error.cause)
            except SetupError as error:
                refused[agent.host] = str(error)
            except RayError as error:
                self._agent_lost(agent, first_line(error))
        if not any(opened.values()) and demand not in self._held and self._agents and not self._joining:
            raise SetupError(self._cannot_hold(demand))
        return [worker for workers in opened.values() for worker in workers if worker.name in self._workers]

    def _cannot_hold(self, demand: Demand) -> str:
        why = "; ".join(dict.fromkeys(self._refused.get(demand, {}).values()))
        there = what_there_is([agent.known() for agent in self._agents.values()])
        return f"no node can hold a trial that needs {demand}: {why}\nthere is:\n{there}"

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
        """Return the names of the nodes that could hold a part of such a trial."""
        return [
            agent.host
            for agent in self._agents.values()
            if not agent.aside and refusal(agent.known(wait=not agent.local), demand) is None
        ]

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
        return str(self._told(node, "free_address", self._agent_of(node).address))

    def _told(self, node: str, method: str, *arguments: Any) -> Any:
        try:
            return ray.get(self._agent_of(node).call(method, *arguments), timeout=30)
        except RayTaskError as error:
            raise SetupError(str(error.cause)) from None
        except RayError as error:
            raise SetupError(f"node {node} does not answer: {str(error).strip().splitlines()[0]}") from None

    def start_worker(self, node: str, launch: Launch, demand: Demand) -> Worker:
        """Start a worker with this very share; it is `Ready` later, and no part of what `open` returns."""
        agent = self._agent_of(node)
        agent.call("launch", [launch], ())
        return self._add(agent, launch, demand)

    def end_worker(self, worker: str) -> None:
        """End a worker for good, whatever it does; nothing is told of it any more."""
        if worker not in self._workers:
            return
        _, agent = self._workers.pop(worker)
        agent.call("discard", worker)

    def _agent_of(self, node: str) -> Agent:
        found = next((agent for agent in self._agents.values() if agent.host == node), None)
        if found is None:
            raise SetupError(f"node {node} is gone")
        return found

    def node_names(self, demand: Demand) -> list[str]:
        names = self.hosts(demand)
        if not names:
            self.open(demand)  # it says why
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
        self._began = True
        if time.monotonic() - self._looked_s > _LOOK_EVERY_S and not (self._agents and self._folder is not None):
            self._watch_cluster()
        if self._joining:
            self._admit(timeout_s=0)
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

    def _hear(self, agent: Agent) -> None:
        """Take in what an agent has told."""
        try:
            news = agent.heard()
        except RayError as error:
            self._agent_lost(agent, first_line(error))
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

    def _keep(self, news: News, agent: Agent) -> None:
        for row in news.readings:
            row["node"] = agent.host
        self._rows.extend(news.readings)
        self._progress.update(news.progress)
        self._saved.update({saved.key: saved for saved in news.saved})

    def _agent_lost(self, agent: Agent, reason: str) -> None:
        """Go on without a node: its workers are gone. Where it still lives, or is back, it is joined as a new one."""
        self._agents.pop(agent.node_id, None)
        self._joining.pop(agent.node_id, None)
        self._given_up.append(agent)
        for opened in self._opened.values():
            opened.pop(agent.node_id, None)
        for name in [name for name, (_, other) in self._workers.items() if other is agent]:
            del self._workers[name]
            self._ready.pop(name, None)
            self._events.append(Gone(worker=name, reason=f"node {agent.host} was lost: {reason}"))
        self._looked_s = 0.0

    def progress(self) -> dict[str, Progress]:
        return dict(self._progress)

    def saved(self) -> list[Saved]:
        saved, self._saved = list(self._saved.values()), {}
        return saved

    def save_now(self) -> None:
        for agent in self._agents.values():
            agent.call("save_now")

    def telemetry(self) -> list[dict[str, Any]]:
        rows, self._rows = self._rows, []
        return rows

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._notes

    def nodes(self) -> list[dict[str, Any]]:
        for agent in self._agents.values():
            if agent.host not in self._rows_of_nodes:
                with contextlib.suppress(RayError):
                    self._rows_of_nodes[agent.host] = agent.described()
        return list(self._rows_of_nodes.values())

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
        self._link.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._reaper is not None:
            self._reaper.communicate(b"done")
