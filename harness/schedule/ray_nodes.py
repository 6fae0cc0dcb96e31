"""The nodes of a Ray cluster as one driver uses them: looked for, joined, watched, lost, and joined again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import ray
from ray._private.state import available_resources_per_node

from harness.domain.errors import SetupError
from harness.domain.sources import Source
from harness.schedule.agent import Run
from harness.schedule.expected import Expected, wait_for
from harness.schedule.ray_link import Link, Seen, first_line
from harness.schedule.ray_node import Agent
from harness.telemetry.cores import allowed_cpus

_LOOK_EVERY_S: Final = 3.0  # how often to look for nodes that have joined or are gone
_AGAIN_S: Final = 0.5
_JOIN_S: Final = 20.0  # what the nodes have at the start to answer, and others to let go of them


class Nodes:
    """The one node of a Ray of our own, or all of the cluster at `address`; `agents` are those in use."""

    def __init__(
        self,
        address: str | None,
        *,
        hz: float,
        skip_bad: bool,
        expected: Expected | None = None,
        say: Callable[[str], None],
        lost: Callable[[Agent, str], None],
    ) -> None:
        """A cluster that is just being started is waited for where nodes are `expected`. `say` is told what becomes of
        nodes, and `lost` of each that is used no more, with why."""
        self.agents: dict[str, Agent] = {}  # by Ray's id of the node
        self.connected = False
        self._link = Link(address)
        self._hz = hz
        self._skip_bad = skip_bad
        self._expected = expected
        self._say = say
        self._lost = lost
        self._folder: Path | None = None
        self._sources: Mapping[str, Source] = {}
        self._run: Run | None = None
        self._joining: dict[str, Agent] = {}  # those that have yet to answer, or to be let go of by others
        self._given_up: list[Agent] = []  # to give back once the head is there
        self._unusable: dict[str, str] = {}  # by Ray's id of the node: why
        self._aside: set[str] = set()  # names: a node that is back is not used either
        self._described: dict[str, dict[str, Any]] = {}  # by name
        self._looked_s = 0.0

    def start(self, sources: Mapping[str, Source], folder: Path | None) -> None:
        """Connect to the cluster and join its nodes, or start a Ray here that keeps all in `folder`.

        Raises:
            SetupError: when that fails, or nodes are of no use (see `_wait`).
        """
        self._sources, self._folder = sources, folder
        if self._expected is not None:
            self._await(self._expected)
        self._connect()
        try:
            self._join()
        except SetupError:
            if folder is None:
                self.close()
            raise

    def _await(self, expected: Expected) -> None:
        """Wait until the cluster and its nodes are there.

        Raises:
            SetupError: when they do not come.
        """

        def look() -> list[str] | None:
            there = self._link.present()
            return None if there is None else [seen.name for seen in there if seen.cpus]

        wait_for(expected, look, address=str(self._link.address), skip_bad=self._skip_bad, say=self._say)

    def _connect(self) -> None:
        if self._folder is None:
            self._link.connect()
        else:
            self._link.start_here(self._folder, cpus=len(allowed_cpus()))
        self.connected = True

    def begin(self, sources: Mapping[str, Source], run: Run | None) -> None:
        """Begin another run on the nodes that are there; `run` is what is other for it.

        Raises:
            SetupError: when none is there, nor comes.
        """
        self._sources = sources
        if run is not None:
            self._run = replace(run, sources=dict(sources))
            self._aside, self._described = set(), {}
            for agent in self.agents.values():
                agent.begin(self._run)
        if not self.agents and self.connected:
            self._join()

    def _join(self) -> None:
        end_s = time.monotonic() + _JOIN_S
        while True:
            try:
                self._look()
                break
            except Exception as error:  # a head that is busy may be late
                if time.monotonic() >= end_s:
                    raise SetupError(f"Ray does not say which nodes there are: {first_line(error)}") from error
                time.sleep(_AGAIN_S)
        if self._folder is None:
            self._wait()

    def _wait(self) -> None:
        """Wait until each node of the cluster is joined, or known to be of no use.

        Raises:
            SetupError: when one is of no use and none is to be skipped, or all are; naming each, with why.
        """
        end_s = time.monotonic() + _JOIN_S
        while self._joining and time.monotonic() < end_s:
            self._admit(timeout_s=0.5, tell=False)
            if time.monotonic() - self._looked_s > _LOOK_EVERY_S:
                with contextlib.suppress(Exception):  # asked again soon
                    self._look()  # one that Ray has given up meanwhile is none
        bad = dict(self._unusable)
        for agent in self._joining.values():
            agent.told_busy = True
            bad[agent.node_id] = _why_not_joined(agent)
        if not self.agents and not bad:
            raise SetupError(f"the cluster at {self._link.address} has no node with CPUs for trials")
        if bad and not (self._skip_bad and self.agents):
            way_out = "; --skip-bad-nodes goes on without" if self.agents else ""
            if not self.agents and all(agent.held() for agent in self._joining.values()) and not self._unusable:
                way_out = "; try again once they let go, as a run does when it ends"
            raise SetupError(f"the cluster at {self._link.address}: {'; '.join(sorted(bad.values()))}{way_out}")
        for why in bad.values():
            self._say(f"{why}; going on without it")

    def _look(self) -> None:
        """Begin to join the nodes that are new, and go on without those that are gone.

        Raises:
            Exception: of several kinds, when the head does not say.
        """
        self._looked_s = time.monotonic()
        alive = {seen.node_id: seen for seen in self._link.nodes()}
        for agent in [*self.agents.values(), *self._joining.values()]:
            if agent.node_id not in alive:
                self.lose(agent, "Ray has lost it")
        if self._folder is not None and not alive:  # one of our own does not come back
            self._cluster_lost()
            return
        while self._given_up:
            self._given_up[-1].give_back()
            self._given_up.pop()
        here = ray.get_runtime_context().get_node_id()
        known = self.agents.keys() | self._joining.keys() | self._unusable.keys()
        for seen in [seen for seen in alive.values() if seen.node_id not in known and seen.cpus]:
            agent = Agent(
                seen,
                host=self._name_of(seen, alive.values()),
                sources=self._sources,
                hz=self._hz,
                folder=None if self._folder is None else self._folder / "workers",
                driver=os.getpid() if seen.node_id == here else None,
            )
            if self._run is not None:  # it has joined in the middle of a later run
                agent.begin(self._run)
            agent.aside = agent.host in self._aside
            (self.agents if agent.local else self._joining)[agent.node_id] = agent

    def _name_of(self, seen: Seen, alive: Collection[Seen]) -> str:
        """Return what to call a node: its name, with its address too where another has the same."""
        names = [other.name for other in alive]
        used = {agent.host for agent in (*self.agents.values(), *self._joining.values())}
        if names.count(seen.name) == 1 and seen.name not in used:
            return seen.name
        name = f"{seen.name}@{seen.address}"
        alike = [other for other in alive if (other.name, other.address) == (seen.name, seen.address)]
        return name if len(alike) == 1 and name not in used else f"{name}:{seen.port}"

    def _admit(self, *, timeout_s: float, tell: bool) -> None:
        """Take in the nodes that have answered meanwhile, if they can be used; `tell` of those that cannot."""
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
                if tell:
                    self._say(f"node {agent.host} {wrong}; going on without it")
                continue
            self.agents[agent.node_id] = agent
            self._described[agent.host] = agent.described()
            if odd is not None:
                self._say(f"node {agent.host} {odd}")

    # While a run goes on. ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look after the nodes and the cluster, each few seconds, and take in the nodes that have answered.

        A cluster that is gone is waited for. A Ray of our own has its node, as long as that is not lost; then another
        Ray is started.
        """
        if time.monotonic() - self._looked_s > _LOOK_EVERY_S and not (self.agents and self._folder is not None):
            self._look_after()
        if self._joining:
            self._admit(timeout_s=0, tell=True)

    def _look_after(self) -> None:
        if not self.connected:
            self._connect_again()
            return
        for agent in self._joining.values():
            if not agent.told_busy and time.monotonic() - agent.began_s > _JOIN_S:
                agent.told_busy = True
                self._say(f"node {agent.host} has joined, and is held by others or does not answer")
        try:
            self._look()
        except Exception:
            if self._link.lost():
                self._cluster_lost()

    def _cluster_lost(self) -> None:
        where = f"the cluster at {self._link.address}"
        own = "this machine's Ray has lost its node; starting another"
        self._say(own if self._folder is not None else f"{where} is gone; waiting for it to come back")
        for agent in list(self.agents.values()):
            self.lose(agent, "its cluster is gone")
        self._joining, self._given_up, self._unusable = {}, [], {}
        self.connected = False
        self._link.close()

    def _connect_again(self) -> None:
        self._looked_s = time.monotonic()
        if self._folder is not None or self._link.answers():
            with contextlib.suppress(SetupError):
                self._connect()
                self._looked_s = 0.0
                self._say("Ray is back" if self._folder is not None else f"the cluster at {self._link.address} is back")

    def lose(self, agent: Agent, reason: str) -> None:
        """Go on without a node. Where it still lives, or is back, it is joined as a new one."""
        self.agents.pop(agent.node_id, None)
        self._joining.pop(agent.node_id, None)
        self._given_up.append(agent)
        self._looked_s = 0.0
        self._lost(agent, reason)

    def set_aside(self, name: str) -> list[Agent]:
        """Use a node no more, nor one of that name that joins; return those that are there."""
        self._aside.add(name)
        found = [agent for agent in self.agents.values() if agent.host == name]
        for agent in found:
            agent.aside = True
        return found

    # What there is. ---------------------------------------------------------------------------------------------------

    @property
    def expected(self) -> bool:
        """Whether a node may soon be there that is not yet."""
        return not self.agents or any(not agent.told_busy for agent in self._joining.values())

    @property
    def held_by_others(self) -> list[str]:
        """The names of the nodes that have not answered for long, since others hold them as a rule."""
        return [agent.host for agent in self._joining.values() if agent.told_busy]

    def named(self, name: str) -> Agent:
        """Return the node of that name.

        Raises:
            SetupError: when it is gone.
        """
        found = next((agent for agent in self.agents.values() if agent.host == name), None)
        if found is None:
            raise SetupError(f"node {name} is gone")
        return found

    def described(self) -> list[dict[str, Any]]:
        """Return a row for the records of each node that was ever used, and that could say something of itself."""
        for agent in self.agents.values():
            if agent.host not in self._described:
                with contextlib.suppress(ray.exceptions.RayError):
                    self._described[agent.host] = agent.described()
        return list(self._described.values())

    def close(self) -> None:
        """Let go of all nodes."""
        self._link.close()


def _why_not_joined(agent: Agent) -> str:
    if not agent.held():
        return f"node {agent.host} does not answer"
    free = available_resources_per_node().get(agent.node_id, {})
    has = ", ".join(f"{free.get(name, 0):g} of {count:g} {name}s" for name, count in agent.node.bundle.items())
    return f"node {agent.host} is held by others: {has} are free, and a run needs all of it"
