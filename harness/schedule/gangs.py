"""Trials that several nodes run together: a worker on each of them, presented to the loop as one.

The members of a *gang* are started by an executor that knows nodes, one a node, and told of each other: the first one
leads, its address is where the others meet it, and what it measures is the outcome. All run the same trial in step, so
that none can go on alone: when one is lost the others are ended, the trial counts as lost, and the gang is formed anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.losses import Cause
from harness.schedule.order import Demand
from harness.schedule.process import PEER_GONE, Group, Launch
from harness.schedule.protocol import (
    Calibrated,
    Checked,
    Done,
    Event,
    Executor,
    Gone,
    Progress,
    Ready,
    Saved,
    Worker,
)

_STRAGGLE_S: Final = 10.0  # how long the others have to say what they know once one has failed
_BRIEF_S: Final = 2.0  # once a node is lost: those that could notice have, and the others wait for it in vain
_STARTS: Final = 2  # a share that could not be started so often is not tried again


class NodeExecutor(Executor, Protocol):
    """An executor that can start workers one by one."""

    def hosts(self, demand: Demand) -> list[str]:
        """Return the names of the nodes that could hold a part of such a trial."""

    def shares(self, node: str, demand: Demand) -> list[Launch]:
        """Return the disjoint shares of a node that can each hold a part of such a trial; none is started by that.

        Raises:
            SetupError: when it can hold none, or is gone.
        """

    def free_address(self, node: str) -> str:
        """Return an address of a node, IP:PORT, that nobody listens on at this moment.

        Raises:
            SetupError: when the node is gone.
        """

    def start_worker(self, node: str, launch: Launch, demand: Demand) -> Worker:
        """Start a worker with this very share; it is `Ready` later, and no part of what `open` returns."""

    def end_worker(self, worker: str) -> None:
        """End a worker for good, whatever it does; nothing is told of it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Where a member of a gang is."""

    node: str
    share: Launch


@dataclass(slots=True, kw_only=True)
class _Gang:
    worker: Worker  # what the loop knows it by
    parts: tuple[_Part, ...]
    generation: int = 0
    members: list[str] = field(default_factory=list)  # their workers' names, by rank
    ready: dict[str, Ready] = field(default_factory=dict)
    running: bool = False
    asked: tuple[tuple[str, str], int] = (("", ""), 0)  # the key of the trial that it was given last, and the attempt
    aside: bool = False  # one of its nodes is not to be used any more
    answers: dict[str, Checked | Done | Gone] = field(default_factory=dict)  # to what was asked last
    deadline_s: float | None = None  # for those that have not answered

    @property
    def name(self) -> str:
        return self.worker.name

    @property
    def up(self) -> bool:
        return len(self.ready) == len(self.parts)


class Gangs:
    """An `Executor` for trials on any number of nodes: those on one are `inner`'s."""

    def __init__(self, inner: NodeExecutor, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._gangs: dict[str, _Gang] = {}
        self._of: dict[str, _Gang] = {}  # by member
        self._ended: set[str] = set()  # members of before
        self._events: list[Event] = []
        self._shares: dict[Demand, dict[str, list[Launch]]] = {}  # by node
        self._refused: dict[Demand, dict[str, str]] = {}  # by node: why it can hold none
        self._failed: dict[tuple[str, str], list[str]] = {}  # by node and share: why it could not be started
        self._number = 0

    def start(self, sources: Mapping[str, Source]) -> None:
        self._inner.start(sources)

    def open(self, demand: Demand) -> list[Worker]:
        if demand.nodes == 1:
            return self._inner.open(demand)
        hosts = self._look(demand)
        while self._form(demand, hosts):
            pass
        found = [gang.worker for gang in self._gangs.values() if gang.worker.demand == demand and not gang.aside]
        if not found:
            self._expect_possible(demand, hosts)
        return found

    def _look(self, demand: Demand) -> list[str]:
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

    def _usable(self, demand: Demand, node: str) -> list[Launch]:
        """Return the shares of a node but for those that cannot be started."""
        shares = self._shares[demand][node]
        return [share for share in shares if len(self._failed.get((node, share.name), ())) < _STARTS]

    def _form(self, demand: Demand, hosts: list[str]) -> bool:
        """Form one more gang, of the nodes with the most shares left, if there are enough of them."""
        taken = {(part.node, part.share.name) for gang in self._gangs.values() for part in gang.parts}
        free = {
            node: [share for share in self._usable(demand, node) if (node, share.name) not in taken] for node in hosts
        }
        nodes = sorted((node for node in hosts if free[node]), key=lambda node: -len(free[node]))[: demand.nodes]
        if len(nodes) < demand.nodes:
            return False
        parts = tuple(_Part(node=node, share=free[node][0]) for node in nodes)
        first = parts[0].share
        worker = Worker(
            name=f"gang{self._number}",
            node=nodes[0],
            others=tuple(nodes[1:]),
            demand=demand,
            cores=first.cores,
            gpus=first.gpus,
        )
        self._number += 1
        gang = self._gangs[worker.name] = _Gang(worker=worker, parts=parts)
        return self._start(gang)

    def _expect_possible(self, demand: Demand, hosts: list[str]) -> None:
        """Raise where no gang can be formed though no node is missing; one that is missing may come back."""
        able = [node for node in hosts if self._shares[demand][node]]
        if self._number and len(able) < demand.nodes:
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

    def _start(self, gang: _Gang) -> bool:
        """Start a gang's members; False, with the gang gone, where one of its nodes is."""
        gang.generation += 1
        gang.ready, gang.answers, gang.running, gang.deadline_s, gang.members = {}, {}, False, None, []
        addresses: list[str] = []
        try:
            for part in gang.parts:
                addresses.append(self._inner.free_address(part.node))
            for rank, (part, address) in enumerate(zip(gang.parts, addresses, strict=True)):
                ip = address.rpartition(":")[0]
                group = Group(rank=rank, size=len(gang.parts), coordinator=addresses[0], ip=ip)
                launch = replace(part.share, name=f"{gang.name}.{rank}~{gang.generation}", group=group)
                self._inner.start_worker(part.node, launch, gang.worker.demand)
                gang.members.append(launch.name)
                self._of[launch.name] = gang
        except SetupError as error:
            self._lose(gang, str(error), (part.node,))
            return False
        return True

    def _end(self, gang: _Gang) -> None:
        """End all members."""
        for member in gang.members:
            self._inner.end_worker(member)
            self._of.pop(member, None)
            self._ended.add(member)
        gang.members = []

    def _lose(self, gang: _Gang, reason: str, blamed: tuple[str, ...] = ()) -> None:
        """Give a gang up; another is formed when workers are asked for."""
        self._end(gang)
        del self._gangs[gang.name]
        self._events.append(Gone(worker=gang.name, reason=reason, blamed=blamed))

    def check(self, worker: str, trial: Trial) -> None:
        gang = self._gangs.get(worker)
        if gang is None:
            self._inner.check(worker, trial)
            return
        gang.answers = {}
        for member in gang.members:
            self._inner.check(member, trial)

    def calibrate(self, worker: str) -> None:
        gang = self._gangs.get(worker)
        self._inner.calibrate(worker if gang is None else gang.members[0])

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        gang = self._gangs.get(worker)
        if gang is None:
            self._inner.submit(worker, trial, attempt=attempt, state=state)
            return
        gang.answers, gang.running, gang.deadline_s = {}, True, None
        gang.asked = (trial.key, attempt)
        kept = trial.setting.model_copy(update={"save_model": False, "tensorboard": False})
        followed = replace(trial, setting=kept, checkpoint_s=None)  # what is kept is the leader's
        for rank, member in enumerate(gang.members):
            self._inner.submit(member, followed if rank else trial, attempt=attempt, state=state)

    def replace(self, worker: str) -> None:
        gang = self._gangs.get(worker)
        if gang is None:
            self._inner.replace(worker)
        else:
            self._again(gang, "it was to be replaced")

    def _again(self, gang: _Gang, reason: str, blamed: tuple[str, ...] = ()) -> None:
        """Form a gang anew on the nodes it was on, at another address; give it up where one of them is gone."""
        self._end(gang)
        there = set(self._inner.hosts(gang.worker.demand))
        if gang.aside or not there.issuperset(gang.worker.nodes):
            self._lose(gang, reason, blamed)
        else:
            self._start(gang)

    def set_aside(self, node: str) -> None:
        self._inner.set_aside(node)
        for gang in [gang for gang in self._gangs.values() if node in gang.worker.nodes]:
            gang.aside = True
            if not gang.running:
                self._lose(gang, f"node {node} was set aside", (node,))

    def wait(self, timeout_s: float) -> list[Event]:
        for event in self._inner.wait(0 if self._events else timeout_s):
            gang = self._of.get(event.worker)
            if gang is not None:
                self._hear(gang, event)
            elif event.worker not in self._ended:
                self._events.append(event)
        for gang in list(self._gangs.values()):
            if gang.deadline_s is not None and self._clock() >= gang.deadline_s:
                self._finish(gang)
        events, self._events = self._events, []
        return events

    def _hear(self, gang: _Gang, event: Event) -> None:
        """Take in what a member has told."""
        match event:
            case Ready():
                gang.ready[event.worker] = event
                if gang.up:
                    leader = gang.ready[gang.members[0]]
                    slowest_s = max(one.prepare_s for one in gang.ready.values())
                    self._events.append(replace(leader, worker=gang.name, prepare_s=slowest_s))
            case Calibrated():
                self._events.append(replace(event, worker=gang.name))
            case Checked():
                gang.answers[event.worker] = event
                if len(gang.answers) == len(gang.members):
                    wrong = [one.error for one in gang.answers.values() if isinstance(one, Checked) and one.error]
                    self._events.append(Checked(worker=gang.name, error=wrong[0] if wrong else None))
            case Gone() if not gang.running:
                place = gang.parts[gang.members.index(event.worker)]
                if not gang.up:
                    self._failed.setdefault((place.node, place.share.name), []).append(event.reason)
                self._lose(gang, _told(gang, event.worker, event.reason), (place.node,))
            case Done() | Gone():
                self._answered(gang, event)

    def _answered(self, gang: _Gang, event: Done | Gone) -> None:
        before = gang.answers.get(event.worker)
        if not isinstance(before, Done):  # which says more than that its worker is gone
            gang.answers[event.worker] = event
        if isinstance(event, Gone):
            gang.deadline_s = min(gang.deadline_s or math.inf, self._clock() + _BRIEF_S)
        elif not (event.alive and event.outcome.status == "completed") and gang.deadline_s is None:
            gang.deadline_s = self._clock() + _STRAGGLE_S
        if len(gang.answers) == len(gang.members):
            self._finish(gang)

    def _finish(self, gang: _Gang) -> None:
        """Tell how the trial on a gang ended, and form the gang anew where its members have fallen out of step."""
        done = {name: one for name, one in gang.answers.items() if isinstance(one, Done)}
        in_step = len(done) == len(gang.members) and len({one.outcome.status for one in done.values()}) == 1
        alive = in_step and all(one.alive for one in done.values()) and not gang.aside
        outcome = _outcome(gang, done)
        key, attempt = gang.asked
        lost = _first_lost(gang)
        blamed = tuple(part.node for part, name in zip(gang.parts, gang.members, strict=True) if name in lost)
        self._events.append(
            Done(
                worker=gang.name, key=key, attempt=attempt, outcome=outcome, alive=alive, cause=_cause(gang),
                blamed=blamed,
            )
        )  # fmt: skip
        gang.running, gang.deadline_s = False, None
        if not alive:
            self._again(gang, outcome.error or "one of its nodes was set aside", blamed)

    def progress(self) -> dict[str, Progress]:
        found = self._inner.progress()
        leaders = {gang.members[0]: gang.name for gang in self._gangs.values() if gang.members}
        return {
            leaders.get(name, name): one
            for name, one in found.items()
            if name in leaders or (name not in self._of and name not in self._ended)
        }

    def saved(self) -> list[Saved]:
        return self._inner.saved()

    def save_now(self) -> None:
        self._inner.save_now()

    def telemetry(self) -> list[dict[str, Any]]:
        rows = self._inner.telemetry()
        leaders = {f"worker:{gang.members[0]}": f"worker:{gang.name}" for gang in self._gangs.values() if gang.members}
        return [{**row, "device": leaders.get(row["device"], row["device"])} for row in rows] if leaders else rows

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._inner.sampling()

    def node_names(self, demand: Demand) -> list[str]:
        return self._inner.node_names(demand)

    def nodes(self) -> list[dict[str, Any]]:
        return self._inner.nodes()

    def disband(self) -> None:
        """End the members of all gangs."""
        for gang in self._gangs.values():
            self._end(gang)

    def stop(self) -> None:
        self._inner.stop()

    def close(self, *, leaving: bool) -> None:
        self._inner.close(leaving=leaving)


def _told(gang: _Gang, member: str, reason: str) -> str:
    """Return a reason why a member could not go on, with where it is."""
    rank = gang.members.index(member)
    node = f"node {gang.parts[rank].node}"
    if reason.startswith(f"{node} was lost"):
        return reason
    return f"process {rank} of {len(gang.parts)}, on {node}: {reason}"


def _cause(gang: _Gang) -> Cause:
    """Return what ended a trial that was lost: a node, or else what ended the process of the first member that died."""
    if any(isinstance(one, Gone) for one in gang.answers.values()):
        return "node"
    own = [
        one.cause
        for one in gang.answers.values()
        if isinstance(one, Done) and one.outcome.status == "lost" and PEER_GONE not in (one.outcome.error or "")
    ]
    return own[0] if own else "outside"


def _first_lost(gang: _Gang) -> dict[str, str]:
    """Return the members that were lost by themselves, not because another was, each with the reason."""
    gone = {name: one.reason for name, one in gang.answers.items() if isinstance(one, Gone)}
    if gone:  # what the others then end by may look like a fault of their own: JAX aborts
        return gone
    lost = {
        name: one.outcome.error or "?"
        for name, one in gang.answers.items()
        if isinstance(one, Done) and one.outcome.status == "lost"
    }
    if lost and all(PEER_GONE in reason for reason in lost.values()):
        silent = {name: "did not answer" for name in gang.members if name not in gang.answers}
        return silent or lost
    return {name: reason for name, reason in lost.items() if PEER_GONE not in reason}


def _outcome(gang: _Gang, done: Mapping[str, Done]) -> Outcome:
    """Return the leader's outcome, or what the other members say of why there is none."""
    answered = [done[name].outcome for name in gang.members if name in done]  # all measure the same epochs
    own = answered[0] if answered else Outcome(status="lost", ended_at=time.time())
    lost = _first_lost(gang)
    if lost:
        told = "; ".join(_told(gang, name, lost[name]) for name in gang.members if name in lost)
        return replace(own, status="lost", error=told, files={})
    wrong = [name for name in gang.members if name in done and done[name].outcome.status != "completed"]
    if not wrong or wrong[0] == gang.members[0]:
        return own
    said = done[wrong[0]].outcome
    error = _told(gang, wrong[0], str(said.error))
    return replace(own, status=said.status, error=error, error_detail=said.error_detail, step=said.step, files={})
