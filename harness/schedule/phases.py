"""The trials of one block that need the same of a node; taking one costs constant time on average."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from harness.domain.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A trial with its block and the rank of its group, the same in every block."""

    trial: Trial
    block: int
    group: int
    lost_nodes: frozenset[str] = frozenset()  # where it was lost before, to be tried elsewhere if there is such a place
    lost_workers: frozenset[str] = frozenset()


class Phase:
    """Trials in shuffled order. `place` is its own among all phases; `fresh` of the `left` trials were never lost."""

    def __init__(self, *, place: int, trials: Sequence[Ordered]) -> None:
        self.place = place
        self.fresh = len(trials)
        self.again: list[Ordered] = []  # those that were lost before
        self._order: list[Ordered | None] = list(trials)
        self._head = 0
        # Places in the order, the last first, each kept only once it is asked for:
        self._homes: list[list[int]] = []  # by the worker's number
        self._programs: dict[str, list[int]] | None = None  # by program key
        self._arms: dict[tuple[str, str], list[int]] | None = None  # by setting and arm

    @property
    def left(self) -> int:
        return self.fresh + len(self.again)

    def waiting(self) -> Iterator[Ordered]:
        """Yield the trials left."""
        yield from (one for one in self._order if one is not None)
        yield from self.again

    def add(self, one: Ordered) -> None:
        """Add a trial at the end."""
        if one.lost_workers:
            self.again.append(one)
            return
        place = len(self._order)
        self._order.append(one)
        self.fresh += 1
        if self._homes:
            self._homes[(one.group + one.block) % len(self._homes)].insert(0, place)
        if self._programs is not None:
            self._programs.setdefault(one.trial.program_key, []).insert(0, place)
        if self._arms is not None:
            self._arms.setdefault((one.trial.setting_id, one.trial.arm), []).append(place)

    def withdraw(self, setting_id: str, arm: str) -> list[Ordered]:
        """Take out the trials of one arm of a setting."""
        if self._arms is None:
            self._arms = {}
            for place, one in enumerate(self._order):
                if one is not None:
                    self._arms.setdefault((one.trial.setting_id, one.trial.arm), []).append(place)
        taken = [self._take(place) for place in self._arms.pop((setting_id, arm), []) if self._order[place] is not None]
        lost = [one for one in self.again if (one.trial.setting_id, one.trial.arm) == (setting_id, arm)]
        if lost:
            self.again = [one for one in self.again if one not in lost]
        return taken + lost

    def at_home(self, index: int, workers: int) -> Ordered | None:
        """Take the first trial whose group has its home at worker `index` of so many in this block."""
        if not self.fresh:
            return None
        if len(self._homes) != workers:
            self._homes = [[] for _ in range(workers)]
            for place in range(len(self._order) - 1, -1, -1):
                one = self._order[place]
                if one is not None:
                    self._homes[(one.group + one.block) % workers].append(place)
        return self._last_of(self._homes[index])

    def warm(self, keys: Collection[str]) -> Ordered | None:
        """Take a trial with one of these program keys."""
        if not self.fresh or not keys:
            return None
        if self._programs is None:
            self._programs = {}
            for place in range(len(self._order) - 1, -1, -1):
                one = self._order[place]
                if one is not None:
                    self._programs.setdefault(one.trial.program_key, []).append(place)
        few, many = (keys, self._programs) if len(keys) < len(self._programs) else (self._programs, keys)
        for key in [key for key in few if key in many]:
            taken = self._last_of(self._programs[key])
            if taken is not None:
                return taken
            del self._programs[key]
        return None

    def first(self) -> Ordered | None:
        """Take the first trial left of those that were never lost."""
        while self.fresh:
            self._head += 1
            if self._order[self._head - 1] is not None:
                return self._take(self._head - 1)
        return None

    def once_more(self, allowed: Callable[[Ordered], bool]) -> Ordered | None:
        """Take the first of those that were lost before and that are `allowed`."""
        for number, one in enumerate(self.again):
            if allowed(one):
                return self.again.pop(number)
        return None

    def _last_of(self, places: list[int]) -> Ordered | None:
        while places:
            place = places.pop()
            if self._order[place] is not None:
                return self._take(place)
        return None

    def _take(self, place: int) -> Ordered:
        one, self._order[place] = self._order[place], None
        assert one is not None
        self.fresh -= 1
        return one
