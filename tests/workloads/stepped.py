"""A clock that only moves when told to, for functions that run as workloads.

Their source runs anew in a module of its own, which shares what it imports with the tests.
"""

from __future__ import annotations


class Clock:
    """Seconds, from wherever it stands."""

    def __init__(self) -> None:
        self._now_s = 100.0

    def __call__(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds


CLOCK = Clock()
