"""How fast a run goes: how long trials take, how many end a minute, and how long those that are left may take."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from harness.domain.outcome import Finished
from harness.domain.trial import Trial
from harness.schedule.demand import Demand

_LAST: Final = 200  # trials that the rate is taken over
_SERVED: Final = 64  # trials that began last; workers for what these ask for take on what is left


class Pace:
    """Takes in what begins and ends, each in constant time."""

    def __init__(self, pending: Sequence[Trial], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting = Counter(trial.setting_id for trial in pending)
        self._spent: dict[str, tuple[float, int]] = {}  # wall time and number of the trials that ended, by setting
        self._demands: deque[Demand | None] = deque(maxlen=_SERVED)
        self._ends_s: deque[float] = deque(maxlen=_LAST)
        self._first_s: float | None = None  # when the first trial began
        self.longest_s: float | None = None  # of the trials that came to an end of their own

    def started(self, demand: Demand | None) -> None:
        """Take in a trial that begins on a worker for `demand`."""
        self._first_s = self._clock() if self._first_s is None else self._first_s
        self._demands.append(demand)

    def finished(self, finished: Finished) -> None:
        """Take in a trial that is done."""
        setting_id, wall_s = finished.trial.setting_id, finished.outcome.watches.wall_s
        total_s, count = self._spent.get(setting_id, (0.0, 0))
        self._spent[setting_id] = (total_s + wall_s, count + 1)
        self.less(setting_id, 1)
        self._ends_s.append(self._clock())
        if finished.outcome.status != "lost":
            self.longest_s = max(self.longest_s or 0.0, wall_s)

    def less(self, setting_id: str, fewer: int) -> None:
        """Take in that so many trials of a setting are not waited for any more."""
        self._waiting[setting_id] = max(0, self._waiting[setting_id] - fewer)

    def left_s(self, workers: Iterable[Demand | None]) -> float | None:
        """Return the seconds left on workers for these demands, by the wall time of the trials that ended: of the same
        setting where there are any, else of all. None before the first trial has ended."""
        if not self._spent:
            return None
        mean_s = sum(total for total, _ in self._spent.values()) / sum(count for _, count in self._spent.values())
        left_s = 0.0
        for setting, count in self._waiting.items():
            if count:
                total_s, ended = self._spent.get(setting, (mean_s, 1))
                left_s += count * total_s / ended
        serving = set(self._demands)
        return left_s / max(1, sum(demand in serving for demand in workers))

    def trials_per_min(self) -> float | None:
        """Return how many trials end a minute, over the last 200."""
        return rate(self._ends_s, None if len(self._ends_s) == _LAST else self._first_s)


def rate(ends_s: Sequence[float], first_s: float | None = None) -> float | None:
    """Return how many ended a minute from `first_s`, or else the first of them, to the last; None for too few."""
    if not ends_s:
        return None
    count, since_s = (len(ends_s), first_s) if first_s is not None else (len(ends_s) - 1, ends_s[0])
    span_s = ends_s[-1] - since_s
    return 60 * count / span_s if count and span_s > 0 else None
