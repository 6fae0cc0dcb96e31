"""An executor over real agents and worker processes on this machine, each agent playing a node: no Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scripted import ScriptedBody

from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.agent import AgentNode, Request
from harness.schedule.demand import Demand
from harness.schedule.launch import Launch
from harness.schedule.protocol import Event, Gone, Progress, Ready, Saved, Worker


class UnevenBody(ScriptedBody):
    """Follows the script, but for "fail second": the first process then hangs."""

    def run(self, trial: Trial, *arguments: Any, **options: Any) -> Outcome:
        if os.environ["HARNESS_GROUP"].startswith("0 ") and trial.setting.label == "fail second":
            time.sleep(3600)
        return super().run(trial, *arguments, **options)


class LocalNodes:
    """See `harness.schedule.protocol.NodeExecutor`. Every node has the cores given, and each of them is a share."""

    def __init__(self, names: Sequence[str], *, body: str, cores: Sequence[tuple[int, ...]] = ((0,),)) -> None:
        self.agents = {name: AgentNode(sources={}, telemetry_hz=0.0, folder=None, driver=None) for name in names}
        self.workers: dict[str, Worker] = {}
        self.pids: dict[str, int] = {}
        self._body, self._cores = body, cores
        self._asked = dict.fromkeys(names, 0)
        self._lost: list[Event] = []
        self._progress: dict[str, Progress] = {}

    def start(self, sources: Mapping[str, Source]) -> None: ...

    def open(self, demand: Demand) -> list[Worker]:
        if not any(worker.demand == demand for worker in self.workers.values()):
            for node in self.agents:
                for share in self.shares(node, demand):
                    self.start_worker(node, replace(share, name=f"{node}.{share.name}"), demand)
        return [worker for worker in self.workers.values() if worker.demand == demand]

    def hosts(self, demand: Demand) -> list[str]:
        return list(self.agents)

    def node_names(self, demand: Demand) -> list[str]:
        return self.hosts(demand)

    def shares(self, node: str, demand: Demand) -> list[Launch]:
        if demand.cpus > 1:
            raise SetupError(f"cpus={demand.cpus:g} asks for more cores than {node} has (1)")
        common = {"body": self._body, "backend": demand.backend, "devices": demand.devices}
        return [Launch(name=str(number), cores=cores, **common) for number, cores in enumerate(self._cores)]  # type: ignore[arg-type]

    def free_address(self, node: str) -> str:
        return self.agents[node].free_address("127.0.0.1")

    def start_worker(self, node: str, launch: Launch, demand: Demand) -> Worker:
        worker = self.workers[launch.name] = Worker(name=launch.name, node=node, demand=demand, cores=launch.cores)
        self.agents[node].launch([launch])
        return worker

    def end_worker(self, worker: str) -> None:
        if worker in self.workers:
            self.agents[self.workers.pop(worker).node].discard(worker)

    def lose(self, node: str) -> None:
        """Be without a node from one moment to the next."""
        agent = self.agents.pop(node)
        for name in [name for name, worker in self.workers.items() if worker.node == node]:
            agent.discard(name)
            del self.workers[name]
            self._lost.append(Gone(worker=name, reason=f"node {node} was lost"))
        agent.stop()

    def check(self, worker: str, trial: Trial) -> None:
        self._ask("check", worker, trial)

    def calibrate(self, worker: str) -> None:
        self._ask("calibrate", worker)

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        self._ask("run", worker, trial, attempt, state)

    def replace(self, worker: str) -> None:
        self._ask("end", worker)
        self._ask("ready", worker)

    def _ask(self, what: str, worker: str, *arguments: Any) -> None:
        node = self.workers[worker].node
        self.agents[node].ask(self._asked[node], [Request(what=what, worker=worker, arguments=arguments)])
        self._asked[node] += 1

    def set_aside(self, node: str) -> None: ...

    def wait(self, timeout_s: float) -> list[Event]:
        deadline = time.monotonic() + timeout_s
        while True:
            events, self._lost = self._lost, []
            for agent in self.agents.values():
                news = agent.listen(0.0)
                events += news.events
                self._progress |= news.progress
            told = [event for event in events if event.worker in self.workers or isinstance(event, Gone)]
            for event in told:
                if isinstance(event, Ready):
                    self.pids[event.worker] = event.pid
                if isinstance(event, Gone):
                    self.workers.pop(event.worker, None)
            if told or time.monotonic() > deadline:
                return told
            time.sleep(0.01)

    def progress(self) -> dict[str, Progress]:
        return dict(self._progress)

    def saved(self) -> list[Saved]:
        return [one for agent in self.agents.values() for one in agent.saved()]

    def save_now(self) -> None:
        for agent in self.agents.values():
            agent.save_now()

    def telemetry(self) -> list[dict[str, Any]]:
        return [{"device": f"worker:{name}"} for name in self.workers]

    def sampling(self) -> dict[str, dict[str, Any]]:
        return {}

    def nodes(self) -> list[dict[str, Any]]:
        return []

    def stop(self) -> None:
        for agent in self.agents.values():
            agent.stop()

    def close(self, *, leaving: bool) -> None: ...
