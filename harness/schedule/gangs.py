"""Trials that several nodes run together: a worker on each of them, presented to the loop as one.

The members of a *gang* are started by an executor that knows nodes, one a node, and told of each other: the first one
leads, its address is where the others meet it, and what it measures is the outcome. All run the same trial in step, so
that none can go on alone: when one is lost the others are ended, the trial counts as lost, and the gang is formed anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from harness.domain.errors import SetupError
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.gang import Gang
from harness.schedule.launch import Group
from harness.schedule.parts import Parts
from harness.schedule.protocol import (
    Calibrated,
    Checked,
    Done,
    Event,
    Gone,
    NodeExecutor,
    Progress,
    Ready,
    Saved,
    Worker,
)

_STRAGGLE_S: Final = 10.0  # how long the others have to say what they know once one has failed
_BRIEF_S: Final = 2.0  # once a node is lost: those that could notice have, and the others wait for it in vain


class Gangs:
    """An `Executor` for trials on any number of nodes: those on one are `inner`'s."""

    def __init__(self, inner: NodeExecutor, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._gangs: dict[str, Gang] = {}
        self._of: dict[str, Gang] = {}  # by member
        self._ended: set[str] = set()  # members of before
        self._events: list[Event] = []
        self._parts = Parts(inner)
        self._number = 0  # of the next gang

    def start(self, sources: Mapping[str, Source]) -> None:
        self._inner.start(sources)

    def open(self, demand: Demand) -> list[Worker]:
        if demand.nodes == 1:
            return self._inner.open(demand)
        hosts = self._parts.look(demand)
        while self._form(demand, hosts):
            pass
        found = [gang.worker for gang in self._gangs.values() if gang.worker.demand == demand and not gang.aside]
        if not found:
            self._parts.expect_possible(demand, hosts, formed=self._number > 0)
        return found

    def _form(self, demand: Demand, hosts: list[str]) -> bool:
        """Form one more gang, if there are shares left on enough nodes."""
        taken = [part for gang in self._gangs.values() for part in gang.parts]
        parts = self._parts.choose(demand, hosts, taken=taken)
        if not parts:
            return False
        first = parts[0]
        worker = Worker(
            name=f"gang{self._number}",
            node=first.node,
            others=tuple(part.node for part in parts[1:]),
            demand=demand,
            cores=first.share.cores,
            gpus=first.share.gpus,
        )
        self._number += 1
        gang = self._gangs[worker.name] = Gang(worker=worker, parts=parts)
        return self._start(gang)

    def _start(self, gang: Gang) -> bool:
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

    def _end(self, gang: Gang) -> None:
        """End all members."""
        for member in gang.members:
            self._inner.end_worker(member)
            self._of.pop(member, None)
            self._ended.add(member)
        gang.members = []

    def _lose(self, gang: Gang, reason: str, blamed: tuple[str, ...] = ()) -> None:
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

    def _again(self, gang: Gang, reason: str, blamed: tuple[str, ...] = ()) -> None:
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

    def _hear(self, gang: Gang, event: Event) -> None:
        """Take in what a member has told."""
        match event:
            case Ready():
                gang.ready[event.worker] = event
                if gang.up:
                    self._events.append(gang.readiness())
            case Calibrated():
                self._events.append(replace(event, worker=gang.name))
            case Checked():
                gang.answers[event.worker] = event
                if gang.answered:
                    self._events.append(gang.checked())
            case Gone() if not gang.running:
                part = gang.part(event.worker)
                if not gang.up:
                    self._parts.failed(part, event.reason)
                self._lose(gang, gang.told(event.worker, event.reason), (part.node,))
            case Done() | Gone():
                self._answered(gang, event)

    def _answered(self, gang: Gang, event: Done | Gone) -> None:
        before = gang.answers.get(event.worker)
        if not isinstance(before, Done):  # which says more than that its worker is gone
            gang.answers[event.worker] = event
        if isinstance(event, Gone):
            gang.deadline_s = min(gang.deadline_s or math.inf, self._clock() + _BRIEF_S)
        elif not (event.alive and event.outcome.status == "completed") and gang.deadline_s is None:
            gang.deadline_s = self._clock() + _STRAGGLE_S
        if gang.answered:
            self._finish(gang)

    def _finish(self, gang: Gang) -> None:
        """Tell how the trial on a gang ended, and form the gang anew where its members have fallen out of step."""
        done = gang.done()
        self._events.append(done)
        gang.running, gang.deadline_s = False, None
        if not done.alive:
            self._again(gang, done.outcome.error or "one of its nodes was set aside", done.blamed)

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
