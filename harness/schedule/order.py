"""Which trial a free worker takes next: shuffled blocks that rotate over the workers. Pure and deterministic.

A *block* holds one repeat of every setting, shuffled, so that a machine that slows down with time slows all
settings alike. Settings that probably share a compiled program form a *group*; each group has a home among the
workers, which moves on by one with each block, so that no setting belongs to a core. A free worker takes, in this
order: a trial at home with it; one whose program it has warm; the same from the next block; whatever is left.

Trials that need different shares of a node (other `cpus` or `gpus`, or `exclusive`) are kept in *phases* of their own
within a block (see `harness.schedule.phases`). Shares of a node would overlap otherwise, so a node serves one demand at
a time: that of the first phase with trials left that it can serve, its *due* one. While others still run there, it
drains. What other nodes do is nothing to it, so that demands that live on different nodes run at the same time.

A worker that spans nodes needs all of them. A phase that such a worker would serve claims its nodes once none of them
has anything to do before; until then they go on with what comes later.

So nothing starves and nothing locks: the first phase of all with trials left is due on every node that can serve it,
and once what runs there has ended, it runs.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from operator import itemgetter

from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.lines import Line, Seat
from harness.schedule.phases import Ordered, Phase


class Queue:
    """The trials still to run, in the order that `seed` shuffles them into, and the workers that take them.

    `changed` gathers the nodes for which there may be something else to do than before, for whoever asks to empty.
    """

    def __init__(self, trials: Sequence[Trial], *, seed: int) -> None:
        rng = random.Random(seed)
        names = sorted({trial.program_key for trial in trials})
        rng.shuffle(names)
        rank = {name: number for number, name in enumerate(names)}
        blocks: dict[int, dict[Demand, list[Ordered]]] = defaultdict(lambda: defaultdict(list))
        demands: dict[int, Demand] = {}  # by the setting's id(): trials of a plan share their settings
        for trial in trials:
            demand = demands.get(id(trial.setting)) or demands.setdefault(id(trial.setting), Demand.of(trial))
            ordered = Ordered(trial=trial, block=trial.repeat, group=rank[trial.program_key])
            blocks[trial.repeat][demand].append(ordered)
        self._lines: dict[Demand, Line] = defaultdict(Line)
        self._phases: dict[tuple[int, Demand], Phase] = {}
        for block in sorted(blocks):
            shuffled = sorted(blocks[block])
            rng.shuffle(shuffled)
            for demand in shuffled:
                waiting = blocks[block][demand]
                rng.shuffle(waiting)
                phase = Phase(place=len(self._phases), trials=waiting)
                self._phases[block, demand] = phase
                self._lines[demand].phases.append(phase)
        self._left = len(trials)
        self._spans = False  # whether any worker spans nodes
        self._seats: dict[str, Seat] = {}
        self._served: dict[str, dict[Demand, int]] = {}  # by node: demands, with how many workers
        self._running: dict[str, dict[Demand, int]] = {}  # by node: demands, with how many trials
        self._held: dict[tuple[str, str], list[Ordered]] = {}  # by setting and arm: not needed, as far as is known
        self._demand_of: dict[tuple[str, str], Demand] | None = None  # by setting and arm, once that is asked for
        self.changed: set[str] = set()

    def __len__(self) -> int:
        """How many trials still wait, those that are held back left out."""
        return self._left

    @property
    def demands(self) -> list[Demand]:
        """Every demand still waiting, the next one first."""
        first = {demand: phase.place for demand, line in self._lines.items() if (phase := line.first()) is not None}
        return sorted(first, key=first.__getitem__)

    @property
    def workers(self) -> dict[str, Demand]:
        """Those that take trials, each with the demand that it serves."""
        return {name: seat.demand for name, seat in self._seats.items()}

    @property
    def kinds(self) -> int:
        """How many different demands there ever were."""
        return len(self._lines)

    def waits(self, demand: Demand) -> bool:
        """Whether trials of a demand wait."""
        return demand in self._lines and self._lines[demand].first() is not None

    def join(self, worker: str, demand: Demand, nodes: tuple[str, ...]) -> None:
        """Let a worker take trials from now on, which holds a share of these nodes."""
        line = self._lines[demand]
        self._seats[worker] = line.join(worker, demand, nodes)
        self._spans = self._spans or line.spans
        for node in nodes:
            served = self._served.setdefault(node, {})
            served[demand] = served.get(demand, 0) + 1
        self._touch(line)

    def leave(self, worker: str) -> None:
        """Count on a worker no more; what it runs has ended."""
        seat = self._seats.pop(worker)
        if seat.busy:
            self._count(seat, -1)
        line = self._lines[seat.demand]
        line.leave(worker)
        for node in seat.nodes:
            served = self._served[node]
            served[seat.demand] -= 1
            if not served[seat.demand]:
                del served[seat.demand]
        self._touch(line)
        self.changed.update(seat.nodes)

    def due(self, node: str) -> Demand | None:
        """Return the demand whose trials may start on a node as soon as no other's run there; None: nothing waits."""
        found = self._claim(node, None)
        return None if found is None else found[1]

    def ahead(self, demand: Demand, nodes: Collection[str]) -> bool:
        """Whether the next trial of a demand comes before what is due on one of these nodes, if it could serve it."""
        phase = self._lines[demand].first()
        if phase is None:
            return False
        claims = (self._claim(node, None) for node in nodes)
        return any(claim is None or phase.place < claim[0] for claim in claims)

    def _claim(self, node: str, before: int | None) -> tuple[int, Demand] | None:
        """Return the first phase, by its place, that claims a node, if there is one `before` a place, and its demand.

        Whether a phase of workers that span nodes does so rests on phases before it alone, so that this ends.
        """
        ranked = []
        for demand in self._served.get(node, ()):
            phase = self._lines[demand].first_for(node)
            if phase is not None and (before is None or phase.place < before):
                ranked.append((phase.place, demand))
        if not self._spans:
            return min(ranked, key=itemgetter(0), default=None)
        for place, demand in sorted(ranked, key=itemgetter(0)):
            line = self._lines[demand]
            if not line.spans:
                return place, demand
            for seat in line.seats.values():
                others = [other for other in seat.nodes if other != node]
                if node in seat.nodes and all(self._claim(other, place) is None for other in others):
                    return place, demand
        return None

    def take(self, worker: str, *, warm: Collection[str] = ()) -> Ordered | None:
        """Return the next trial for a worker that is free, or None if there is none for it now.

        `warm` holds the program keys that the worker has compiled, in a fixed order.
        """
        seat = self._seats[worker]
        line, workers = self._lines[seat.demand], len(self._lines[seat.demand].seats)
        for node in seat.nodes:
            if self.due(node) != seat.demand or self._running.get(node, {}).keys() - {seat.demand}:
                return None
        phases = self._open(seat, line)
        for phase in phases:
            taken = phase.at_home(seat.index, workers) or phase.warm(warm)
            if taken is None and not phase.fresh:
                taken = phase.once_more(lambda one: line.allowed(one, seat))
            if taken is not None:
                return self._started(taken, seat, line, phase)
        for phase in phases:
            taken = phase.first()
            if taken is not None:
                return self._started(taken, seat, line, phase)
        return None

    def ended(self, worker: str) -> None:
        """Say that the trial that a worker took has ended."""
        seat = self._seats[worker]
        seat.busy = False
        self._count(seat, -1)

    def put_back(self, ordered: Ordered) -> None:
        """Let a trial run again: at the end of what its block still holds."""
        held = self._held.get((ordered.trial.setting_id, ordered.trial.arm))
        if held is not None:
            held.append(ordered)
            return
        demand = Demand.of(ordered.trial)
        line = self._lines[demand]
        line.add(self._phases[ordered.block, demand], ordered)
        self._left += 1
        if self._demand_of is not None:
            self._demand_of[ordered.trial.setting_id, ordered.trial.arm] = demand
        self._touch(line)

    def hold(self, setting_id: str, arm: str) -> int:
        """Hold the waiting trials of one arm of a setting back, which may never be needed; return how many."""
        if (setting_id, arm) in self._held:
            return 0
        if self._demand_of is None:
            self._demand_of = {
                (one.trial.setting_id, one.trial.arm): demand
                for (_, demand), phase in self._phases.items()
                for one in phase.waiting()
            }
        demand = self._demand_of.get((setting_id, arm))
        held: list[Ordered] = []
        if demand is not None:
            line = self._lines[demand]
            held = [one for phase in line.phases if phase.left for one in phase.withdraw(setting_id, arm)]
            self._touch(line)
        self._held[setting_id, arm] = held
        self._left -= len(held)
        return len(held)

    def release(self, setting_id: str, arm: str) -> int:
        """Let what was held back run after all, at the end of what its blocks still hold; return how many."""
        held = self._held.pop((setting_id, arm), [])
        for one in held:
            self.put_back(one)
        return len(held)

    def _open(self, seat: Seat, line: Line) -> list[Phase]:
        """The first phase with trials and the one after it, if no other demand of its nodes comes in between."""
        line.first()
        found: list[Phase] = []
        for number in range(line.head, len(line.phases)):
            phase = line.phases[number]
            if not phase.left:
                continue
            if found and any(self._between(node, seat.demand, phase.place) for node in seat.nodes):
                break
            found.append(phase)
            if len(found) == 2:
                break
        return found

    def _between(self, node: str, demand: Demand, place: int) -> bool:
        others = [self._lines[other].first_for(node) for other in self._served[node] if other != demand]
        return any(other is not None and other.place < place for other in others)

    def _started(self, taken: Ordered, seat: Seat, line: Line, phase: Phase) -> Ordered:
        self._left -= 1
        seat.busy = True
        self._count(seat, 1)
        if not phase.left or not phase.fresh:
            self._touch(line)
        return taken

    def _count(self, seat: Seat, change: int) -> None:
        for node in seat.nodes:
            running = self._running.setdefault(node, {})
            running[seat.demand] = running.get(seat.demand, 0) + change
            if not running[seat.demand]:
                del running[seat.demand]
                self.changed.update(seat.nodes)

    def _touch(self, line: Line) -> None:
        """Note that for the nodes that a demand's workers are on, something may have changed."""
        if self._spans:
            self.changed.update(self._served)
        else:
            self.changed.update(node for seat in line.seats.values() for node in seat.nodes)


def first_trials(trials: Sequence[Trial], *, seed: int, workers: int) -> list[Trial]:
    """Return the trial that each of the workers of a node takes first, as far as there are trials for all."""
    queue = Queue(trials, seed=seed)
    names = [str(number) for number in range(workers)]
    for name in names:
        queue.join(name, queue.demands[0], ("here",))
    taken = (queue.take(name) for name in names)
    return [ordered.trial for ordered in taken if ordered is not None]
