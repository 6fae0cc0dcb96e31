"""Whose fault it is that trials are lost, and what follows: which run again, and which nodes are used no more. Pure.

A trial whose worker or node is lost runs again, but not for ever: one that ends whatever it runs on must not take down
the fleet. What ended it tells whom to blame:

"trial"    Its process ended by itself (an exit code, a segmentation fault), or the kernel ended it because memory had
           run out. `LOST_ATTEMPTS` times, or on `LOST_NODES` different nodes, and the trial is recorded as lost.
"node"     Its node, or what supervises it there, was lost. That is rarely a trial's doing, but some take a node's
           memory with them: after `NODES_LOST` nodes it is recorded as lost.
"outside"  Something else killed the worker. That says nothing about the trial: of 300 runs of 12 trials of 10 to 30 s
           on two workers, one of which was killed every 20 s (simulated, as in tests/schedule/test_losses.py), 136
           would have given a trial up after three attempts, and none did after `LOST_IN_ALL`. A trial that is always
           killed, as by a daemon that watches over the memory, still ends after so many.

An attempt that saved a state further on than it began from counts for nothing: the trial comes to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

LOST_ATTEMPTS: Final = 3
LOST_NODES: Final = 2
NODES_LOST: Final = 3
LOST_IN_ALL: Final = 8
INCIDENTS: Final = 3  # a node that loses trials so often, and completes none in between, is set aside
_INCIDENT_S: Final = 1.0  # what is lost within so long is lost at once

Cause = Literal["trial", "node", "outside"]
Key = tuple[str, str]


@dataclass(slots=True)
class _Story:
    """How a trial was lost, time after time."""

    own: list[str] = field(default_factory=list)  # nodes where it ended itself
    down: list[str] = field(default_factory=list)  # nodes that were lost with it
    counted: int = 0
    told: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Incident:
    at_s: float
    keys: set[Key]
    reason: str


class Losses:
    """What was lost so far: of each trial that has not ended, and of each node since it last completed one."""

    def __init__(self) -> None:
        self._stories: dict[Key, _Story] = {}
        self._incidents: dict[str, list[_Incident]] = {}

    def lost(
        self, key: Key, *, nodes: Collection[str], reason: str, cause: Cause, advanced: bool, now_s: float
    ) -> bool:
        """Note that an attempt at a trial was lost; return whether it may run again."""
        where = ", ".join(nodes)
        story = self._stories.setdefault(key, _Story())
        story.told[f"on {where}: {reason}"] += 1
        for node in nodes:
            incidents = self._incidents.setdefault(node, [])
            if incidents and now_s - incidents[-1].at_s < _INCIDENT_S:
                incidents[-1].keys.add(key)
            else:
                incidents.append(_Incident(now_s, {key}, reason))
                del incidents[:-INCIDENTS]
        if advanced:
            return True
        story.counted += 1
        if cause == "trial":
            story.own.append(where)
        elif cause == "node":
            story.down.append(where)
        return not (
            len(story.own) >= LOST_ATTEMPTS
            or len(set(story.own)) >= LOST_NODES
            or len(story.down) >= NODES_LOST
            or story.counted >= LOST_IN_ALL
        )

    def ended(self, nodes: Collection[str]) -> None:
        """Note that an attempt at a trial came to an end of its own there, whatever that is."""
        for node in nodes:
            self._incidents.pop(node, None)

    def told(self, key: Key) -> str | None:
        """Return in one line how a trial was lost, each time it was; None where it never was."""
        story = self._stories.get(key)
        if story is None:
            return None
        times = {reason: f" ({count} times)" if count > 1 else "" for reason, count in story.told.items()}
        return "; ".join(f"{reason}{count}" for reason, count in times.items())

    def forget(self, key: Key) -> None:
        """Note that a trial has ended for good."""
        self._stories.pop(key, None)

    def failing(self, node: str) -> str | None:
        """Return why a node seems to be broken: it lost several trials, time after time, and completed none.

        One trial that was lost each time is itself to blame.
        """
        incidents = self._incidents.get(node, [])
        keys = [incident.keys for incident in incidents]
        if len(incidents) < INCIDENTS or len(set().union(*keys)) < INCIDENTS or set.intersection(*keys):
            return None
        reasons = "; ".join(dict.fromkeys(incident.reason for incident in incidents))
        return f"{len(set().union(*keys))} different trials were lost there, {INCIDENTS} times in a row: {reasons}"

    def sound(self, node: str) -> bool:
        """Whether a node has lost nothing since it last completed a trial."""
        return node not in self._incidents
