"""Why nodes of a Ray cluster cannot hold what trials need, found out once, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.domain.errors import SetupError
from harness.schedule.demand import Demand
from harness.schedule.eligible import refusal, what_there_is
from harness.schedule.ray_node import Agent
from harness.schedule.ray_nodes import Nodes
from harness.schedule.shares import share_out

_NAMED: Final = 6  # nodes that are named with why they cannot hold a trial


class Refusals:
    """What each node refuses, found out once. `known` is what a node says of itself, None where it turns out to be
    lost."""

    def __init__(self, nodes: Nodes, *, body: str, known: Callable[[Agent], Mapping[str, Any] | None]) -> None:
        self._nodes = nodes
        self._body = body
        self._known = known
        self._found: dict[Demand, dict[str, str | None]] = {}  # by the node's id: why it holds none; None: it can

    def of(self, agent: Agent, demand: Demand) -> str | None:
        """Return why a node cannot hold a trial that needs this; None: it can, as far as is known."""
        found = self._found.setdefault(demand, {})
        if agent.node_id in found:
            return found[agent.node_id]
        try:
            if agent.local:  # as this process is
                share_out(demand, body=self._body)
        except SetupError as error:
            found[agent.node_id] = str(error)
            return str(error)
        about = self._known(agent)
        if about is None:
            return f"{agent.host} is lost"
        why = refusal(about, demand)
        found[agent.node_id] = None if why is None else f"{agent.host} {why}"
        return found[agent.node_id]

    def note(self, agent: Agent, demand: Demand, why: str) -> None:
        """Note what a node has said itself, once it was asked."""
        self._found.setdefault(demand, {})[agent.node_id] = f"{agent.host}: {why}"

    def forget(self, agent: Agent) -> None:
        """Forget what a node refused, which is lost."""
        for found in self._found.values():
            found.pop(agent.node_id, None)

    def forget_all(self) -> None:
        """Ask every node anew, for another run."""
        self._found = {}

    def told(self, demand: Demand) -> str:
        """Return in words why no node can hold a trial, and what there is."""
        agents = self._nodes.agents
        whys = sorted(why for agent in list(agents.values()) if (why := self.of(agent, demand)) is not None)
        left = sorted(agents.values(), key=lambda agent: agent.host)  # without those that were just found to be lost
        if demand.node and demand.node not in {agent.host for agent in left}:
            whys = [f"no node is called {demand.node}"]
        whys += [f"{name} is held by others" for name in self._nodes.held_by_others]
        whys = list(dict.fromkeys(whys))
        told = "; ".join(whys[:_NAMED]) + (f"; and {len(whys) - _NAMED} more" if len(whys) > _NAMED else "")
        there = what_there_is([about for agent in left if (about := self._known(agent)) is not None])
        return f"no node can hold a trial that needs {demand}: {told}\nthere is:\n{there}"
