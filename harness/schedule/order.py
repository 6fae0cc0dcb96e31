"""Which trial a free worker takes next: shuffled blocks that rotate over the workers. Pure and deterministic.

A *block* holds one repeat of every setting, shuffled, so that a machine that slows down with time slows all
settings alike. Settings that probably share a compiled program form a *group*; each group has a home among the
workers, which moves on by one with each block, so that no setting belongs to a core. A free worker takes, in this
order: a trial at home with it; one whose program it has warm; the same from the next block; whatever is left.

Trials that need different shares of a node (other `cpus` or `gpus`, or `exclusive`) are kept in phases of their own
within a block, and a phase begins when the one before it has ended: shares of a node would overlap otherwise.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.domain.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Demand:
    """What a trial needs of a node: a share of so many physical cores and GPUs, alone or beside others."""

    backend: str  # what its process has imported; "none" for a workload that brings its own
    cpus: float  # physical cores of each node; below 1: so much of an unpinned, packed one
    gpus: float  # of each node; below 1: so much of a packed one
    exclusive: bool
    devices: int = 1  # of each node that a batch is split over
    nodes: int = 1  # that the trial spans
    accelerator: str = ""  # the kind of GPU; "": any, or none
    labels: tuple[tuple[str, str], ...] = ()  # that the node must have
    node: str = ""  # its name; "": any

    @classmethod
    def of(cls, trial: Trial) -> Demand:
        setting = trial.setting
        return cls(
            backend=setting.needs,
            cpus=setting.cpus,
            gpus=float(setting.gpus),
            exclusive=setting.exclusive,
            devices=setting.devices,
            nodes=setting.nodes,
            accelerator=setting.accelerator or "",
            labels=tuple(sorted(setting.node_labels.items())),
            node=setting.node or "",
        )

    def __str__(self) -> str:
        told = [f"cpus={self.cpus:g}", *([f"gpus={self.gpus:g}"] if self.gpus else [])]
        told += ["exclusive"] if self.exclusive else []
        told += [f"devices={self.devices}"] if self.devices > 1 else []
        told += [f"nodes={self.nodes}"] if self.nodes > 1 else []
        told += [f"accelerator={self.accelerator}"] if self.accelerator else []
        told += [f"node_labels.{name}={value}" for name, value in self.labels]
        return ", ".join(told + ([f"node={self.node}"] if self.node else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A trial with its block and the rank of its group, the same in every block."""

    trial: Trial
    block: int
    group: int


class _Phase:
    """Trials of one block and one demand, in shuffled order; taking one costs constant time on average."""

    def __init__(self, *, block: int, demand: Demand, trials: Sequence[Ordered]) -> None:
        self.block = block
        self.demand = demand
        self.left = 0
        self._order: list[Ordered | None] = []
        self._places: dict[str, deque[int]] = defaultdict(deque)  # program key -> places in the order
        self._arms: dict[tuple[str, str], list[int]] | None = None  # places by setting and arm, once they are asked for
        self._cursors: dict[tuple[int, int], int] = {}  # (index, workers) -> the first place not yet looked at
        self._head = 0
        for one in trials:
            self.add(one)

    def add(self, one: Ordered) -> None:
        self._places[one.trial.program_key].append(len(self._order))
        if self._arms is not None:
            self._arms.setdefault((one.trial.setting_id, one.trial.arm), []).append(len(self._order))
        self._order.append(one)
        self.left += 1

    def withdraw(self, setting_id: str, arm: str) -> list[Ordered]:
        """Take out the trials of one arm of a setting."""
        if self._arms is None:
            self._arms = {}
            for place, one in enumerate(self._order):
                if one is not None:
                    self._arms.setdefault((one.trial.setting_id, one.trial.arm), []).append(place)
        taken = [self._take(place) for place in self._arms.pop((setting_id, arm), []) if self._order[place] is not None]
        return [one for one in taken if one is not None]

    def at_home(self, index: int, workers: int) -> Ordered | None:
        """Take the first trial whose group has its home at worker `index` in this block."""
        place = self._cursors.get((index, workers), 0)
        while place < len(self._order):
            one = self._order[place]
            place += 1
            if one is not None and (one.group + one.block) % workers == index:
                self._cursors[index, workers] = place
                return self._take(place - 1)
        self._cursors[index, workers] = place
        return None

    def warm(self, keys: Collection[str]) -> Ordered | None:
        """Take a trial with one of these program keys."""
        for key in keys:
            places = self._places.get(key)
            while places:
                place = places.popleft()
                if self._order[place] is not None:
                    return self._take(place)
        return None

    def first(self) -> Ordered | None:
        """Take the first trial left."""
        while self._head < len(self._order):
            self._head += 1
            if self._order[self._head - 1] is not None:
                return self._take(self._head - 1)
        return None

    def _take(self, place: int) -> Ordered | None:
        one, self._order[place] = self._order[place], None
        self.left -= 1
        return one


class Queue:
    """The trials still to run, in the order that `seed` shuffles them into."""

    def __init__(self, trials: Sequence[Trial], *, seed: int) -> None:
        rng = random.Random(seed)
        names = sorted({trial.program_key for trial in trials})
        rng.shuffle(names)
        rank = {name: number for number, name in enumerate(names)}
        blocks: dict[int, dict[Demand, list[Ordered]]] = defaultdict(lambda: defaultdict(list))
        for trial in trials:
            ordered = Ordered(trial=trial, block=trial.repeat, group=rank[trial.program_key])
            blocks[trial.repeat][Demand.of(trial)].append(ordered)
        self._phases: list[_Phase] = []
        for block in sorted(blocks):
            demands = sorted(blocks[block])
            rng.shuffle(demands)
            for demand in demands:
                waiting = blocks[block][demand]
                rng.shuffle(waiting)
                self._phases.append(_Phase(block=block, demand=demand, trials=waiting))
        self._running = 0
        self._current: Demand | None = None
        self._held: dict[tuple[str, str], list[Ordered]] = {}  # by setting and arm: not needed, as far as is known

    def __len__(self) -> int:
        """How many trials still wait, those that are held back left out."""
        return sum(phase.left for phase in self._phases)

    @property
    def demands(self) -> list[Demand]:
        """Every demand still waiting, the next one first."""
        return list(dict.fromkeys(phase.demand for phase in self._phases if phase.left))

    @property
    def demand(self) -> Demand | None:
        """The demand of the phase that may start trials now; None when nothing waits or a phase has yet to end."""
        phase = self._first()
        if phase is None or (self._running and self._current != phase.demand):
            return None
        return phase.demand

    def take(self, *, index: int, workers: int, warm: Collection[str]) -> Ordered | None:
        """Return the next trial for worker number `index` of `workers`, or None if there is none for it now.

        `warm` holds the program keys that the worker has compiled.
        """
        demand = self.demand
        if demand is None:
            return None
        open_phases = self._open(demand)
        for phase in open_phases:
            taken = phase.at_home(index, workers) or phase.warm(warm)
            if taken is not None:
                return self._started(taken, demand)
        for phase in open_phases:
            taken = phase.first()
            if taken is not None:
                return self._started(taken, demand)
        return None

    def ended(self) -> None:
        """Say that a trial taken before has ended."""
        self._running -= 1

    def put_back(self, ordered: Ordered) -> None:
        """Let a trial run again: at the end of what its block still holds."""
        held = self._held.get((ordered.trial.setting_id, ordered.trial.arm))
        if held is not None:
            held.append(ordered)
            return
        demand = Demand.of(ordered.trial)
        for phase in self._phases:
            if phase.block == ordered.block and phase.demand == demand:
                phase.add(ordered)
                return
        raise ValueError(f"{ordered.trial.trial_id} was not taken from this queue")

    def hold(self, setting_id: str, arm: str) -> int:
        """Hold the waiting trials of one arm of a setting back, which may never be needed; return how many."""
        if (setting_id, arm) in self._held:
            return 0
        held = [one for phase in self._phases if phase.left for one in phase.withdraw(setting_id, arm)]
        self._held[setting_id, arm] = held
        return len(held)

    def release(self, setting_id: str, arm: str) -> int:
        """Let what was held back run after all, at the end of what its blocks still hold; return how many."""
        held = self._held.pop((setting_id, arm), [])
        for one in held:
            self.put_back(one)
        return len(held)

    def _first(self) -> _Phase | None:
        return next((phase for phase in self._phases if phase.left), None)

    def _open(self, demand: Demand) -> list[_Phase]:
        """The first phase with trials and, if it needs the same of a node, the one after it."""
        found: list[_Phase] = []
        for phase in self._phases:
            if phase.left:
                if phase.demand != demand or len(found) == 2:
                    break
                found.append(phase)
        return found

    def _started(self, ordered: Ordered, demand: Demand) -> Ordered:
        self._running += 1
        self._current = demand
        return ordered


def first_trials(trials: Sequence[Trial], *, seed: int, workers: int) -> list[Trial]:
    """Return the trial that each worker takes first, as far as there are trials for all."""
    queue = Queue(trials, seed=seed)
    taken = (queue.take(index=index, workers=workers, warm=()) for index in range(workers))
    return [ordered.trial for ordered in taken if ordered is not None]
