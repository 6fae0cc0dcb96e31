"""The trials that need the same of a node, block after block, and the workers that take them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from operator import attrgetter

from harness.schedule.demand import Demand
from harness.schedule.phases import Ordered, Phase


@dataclass(slots=True)
class Seat:
    """A worker, and its number among those that serve its demand."""

    name: str
    demand: Demand
    nodes: tuple[str, ...]
    index: int
    busy: bool = False


class Line:
    """The phases of one demand, in order."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.head = 0  # nothing is left in those before
        self.seats: dict[str, Seat] = {}  # by worker, in the order in which they came
        self.spans = False  # whether any worker spans nodes

    def join(self, worker: str, demand: Demand, nodes: tuple[str, ...]) -> Seat:
        """Let a worker take trials from now on."""
        seat = self.seats[worker] = Seat(worker, demand, nodes, len(self.seats))
        self.spans = self.spans or len(nodes) > 1
        return seat

    def leave(self, worker: str) -> None:
        """Count on a worker no more: those after it move up."""
        del self.seats[worker]
        for index, other in enumerate(self.seats.values()):
            other.index = index

    def first(self) -> Phase | None:
        """Return the first phase that holds a trial."""
        while self.head < len(self.phases) and not self.phases[self.head].left:
            self.head += 1
        return self.phases[self.head] if self.head < len(self.phases) else None

    def first_for(self, node: str) -> Phase | None:
        """Return the first phase that holds a trial which this node may take."""
        phase = self.first()
        if phase is None or phase.fresh:
            return phase
        for number in range(self.head, len(self.phases)):
            phase = self.phases[number]
            if phase.fresh or any(self._may(one, node) for one in phase.again):
                return phase
        return None

    def add(self, phase: Phase, one: Ordered) -> None:
        """Add a trial to one of the phases, at its end."""
        phase.add(one)
        self.head = min(self.head, bisect_left(self.phases, phase.place, key=attrgetter("place")))

    def allowed(self, one: Ordered, seat: Seat) -> bool:
        """Whether a worker may take a trial that was lost before: not where that was, while others live elsewhere."""
        others = self.seats.values()
        if not one.lost_nodes.isdisjoint(seat.nodes):
            if any(one.lost_nodes.isdisjoint(other.nodes) for other in others):
                return False
            if seat.name in one.lost_workers:
                return all(other.name in one.lost_workers for other in others)
        return True

    def _may(self, one: Ordered, node: str) -> bool:
        return any(self.allowed(one, seat) for seat in self.seats.values() if node in seat.nodes)
