"""The shares of nodes that gangs are formed of: asked for, chosen, and left where they cannot be used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from harness.domain.errors import SetupError
from harness.schedule.demand import Demand
from harness.schedule.launch import Launch
from harness.schedule.protocol import NodeExecutor

_STARTS: Final = 2  # a share that could not be started so often is not tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where a member of a gang is."""

    node: str
    share: Launch


class Parts:
    """What each node has for gangs, as far as it was asked."""

    def __init__(self, inner: NodeExecutor) -> None:
        self._inner = inner
        self._shares: dict[Demand, dict[str, list[Launch]]] = {}  # by node
        self._refused: dict[Demand, dict[str, str]] = {}  # by node: why it can hold none
        self._failed: dict[tuple[str, str], list[str]] = {}  # by node and share: why it could not be started

    def look(self, demand: Demand) -> list[str]:
        """Return the nodes that there are, having asked the new ones for their shares; forget those that are gone or do
        not answer, to ask them anew once they are back."""
        hosts = self._inner.hosts(demand)
        shares, refused = self._shares.setdefault(demand, {}), self._refused.setdefault(demand, {})
        for node in shares.keys() - set(hosts):
            del shares[node]
            self._failed = {place: why for place, why in self._failed.items() if place[0] != node}
        for node in hosts:
            if node not in shares:
                try:
                    shares[node] = self._inner.shares(node, demand)
                except SetupError as error:
                    refused[node] = str(error)
                    if node in self._inner.hosts(demand):
                        shares[node] = []
                else:
                    refused.pop(node, None)
        return [node for node in hosts if node in shares]

    def choose(self, demand: Demand, hosts: list[str], *, taken: Collection[Part]) -> tuple[Part, ...]:
        """Return a share of each of the nodes with the most left, the first one's first; none where they are too few.

        `hosts` is what `look` has returned.
        """
        used = {(part.node, part.share.name) for part in taken}
        free = {
            node: [share for share in self._usable(demand, node) if (node, share.name) not in used] for node in hosts
        }
        nodes = sorted((node for node in hosts if free[node]), key=lambda node: -len(free[node]))[: demand.nodes]
        return tuple(Part(node=node, share=free[node][0]) for node in nodes) if len(nodes) == demand.nodes else ()

    def failed(self, part: Part, reason: str) -> None:
        """Note that a share could not be started."""
        self._failed.setdefault((part.node, part.share.name), []).append(reason)

    def expect_possible(self, demand: Demand, hosts: list[str], *, formed: bool) -> None:
        """Raise where no gang can be formed though no node is missing; where one was `formed` before, a node that is
        missing may come back.

        Raises:
            SetupError: with what there is.
        """
        able = [node for node in hosts if self._shares[demand][node]]
        if formed and len(able) < demand.nodes:
            return
        if len([node for node in able if self._usable(demand, node)]) >= demand.nodes:
            return
        there = f"{len(able)} ({', '.join(able)})" if able else "none"
        why = [f"{node}: {reason}" for node, reason in self._refused[demand].items()]
        why += [f"{node}: {reasons[-1]}" for (node, _), reasons in self._failed.items()]
        raise SetupError(
            f"nodes={demand.nodes} asks for more nodes than can hold a part of such a trial ({demand}); there are "
            f"{there}" + "".join(f"\n  {reason}" for reason in dict.fromkeys(why))
        )

    def _usable(self, demand: Demand, node: str) -> list[Launch]:
        """Return the shares of a node but for those that cannot be started."""
        shares = self._shares[demand][node]
        return [share for share in shares if len(self._failed.get((node, share.name), ())) < _STARTS]
