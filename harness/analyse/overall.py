"""Comparisons of several settings → one for all of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from harness.analyse.compare import Comparison, Pairs, t_quantile
from harness.analyse.tails import student
from harness.domain.design import ALARMS, POWER, SLOW_DOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One setting compared, and what it was made of; two values in brackets are A's and B's."""

    comparison: Comparison
    values: tuple[np.ndarray, np.ndarray]
    keys: tuple[Sequence[Hashable], Sequence[Hashable]]  # the block that each was measured in, unique over runs
    pairs: Pairs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """All settings together: the geometric mean of their ratios, or the mean of their differences."""

    effect: float
    low: float | None  # 98 % interval; None: too few repeats for one
    high: float | None
    p: float | None
    freedom: float | None  # degrees of freedom
    floor: float | None  # geometric mean of the settings' noise floors, as a ratio; None: none is known
    settings: int
    verdict: Literal["larger", "smaller", "no difference shown", "cannot tell: too few repeats"]


def overall(compared: Sequence[Sample], *, relative: bool, within: float | None = None) -> Overall:
    """Return the mean effect over settings, each of which counts the same, and how well it is known.

    Ratios are averaged as logs: the geometric mean is the one mean of normalised figures that does not depend on which
    side they are normalised by (Fleming and Wallace 1986).

    What is inferred to is these settings, measured again, not others. The variance is that of the sum of the repeats'
    influences on the mean, where all trials of one block count as one influence (a cluster-robust variance: Liang and
    Zeger 1986, each setting's deviations scaled by n / (n - 1)), since what disturbs a block disturbs all
    settings in it, and what disturbs both sides' block alike cancels. With complete blocks it is the t test of the
    blocks' means. Degrees of freedom by Welch and Satterthwaite over the sides.
    """
    effects = [_effect(one.comparison, relative) for one in compared]
    effect = float(np.mean(effects))
    floors = [one.comparison.floor for one in compared]
    logs = [math.log(one) for one in floors if one is not None]
    floor = float(np.mean(logs)) if logs and relative else None
    error, freedom = _error(compared, relative=relative)
    low = high = p = None
    verdict: Literal["larger", "smaller", "no difference shown", "cannot tell: too few repeats"]
    verdict = "cannot tell: too few repeats"
    show = math.exp if relative else float
    if freedom is not None:
        reach = t_quantile(1 - ALARMS / 2, freedom)
        low, high = show(effect - reach * error), show(effect + reach * error)
        p = student(effect / error, freedom) if error > 0 else float(effect == 0)
        if p < ALARMS and abs(effect) > (floor or 0):
            verdict = "larger" if effect > 0 else "smaller"
        elif relative:  # as for one setting: a slow-down of 10 % would have been found
            found = (reach + t_quantile(POWER, freedom)) * error <= math.log(SLOW_DOWN)
            verdict = "no difference shown" if found and (floor or 0) <= math.log(SLOW_DOWN) else verdict
        elif within is None or reach * error <= math.sqrt(2) * within:
            verdict = "no difference shown"
    return Overall(
        effect=show(effect), low=low, high=high, p=p, freedom=freedom,
        floor=None if floor is None else math.exp(floor), settings=len(compared), verdict=verdict,
    )  # fmt: skip


def _effect(found: Comparison, relative: bool) -> float:
    value = found.ratio if relative else found.difference
    assert value is not None  # neither side was empty
    return math.log(value) if relative else value


def _error(compared: Sequence[Sample], *, relative: bool) -> tuple[float, float | None]:
    """Return the standard error of the mean effect and its degrees of freedom; None where there are none."""
    clusters: dict[Hashable, _Cluster] = {}
    for number, one in enumerate(compared):
        for side, keys, values in _influential(one, relative=relative):
            count = len(values)
            if count < 2:
                return math.nan, None
            moved = (values - values.mean()) / count * math.sqrt(count / (count - 1)) / len(compared)
            for key, by in zip(keys, moved.tolist(), strict=True):
                cluster = clusters.setdefault(key, _Cluster())
                cluster.influence += -by if side == "A" else by
                cluster.sides.add(side)
                cluster.settings.append(number)
    parts: dict[frozenset[str], list[_Cluster]] = {}
    for cluster in clusters.values():
        parts.setdefault(frozenset(cluster.sides), []).append(cluster)
    variance = weight = 0.0
    for part in parts.values():
        # Each group of blocks that hold the same settings has its mean taken off once.
        degrees = len(part) - len({tuple(one.settings) for one in part})
        if degrees < 1:
            return math.nan, None
        of_part = sum(one.influence**2 for one in part)
        variance += of_part
        weight += of_part**2 / degrees
    return (math.sqrt(variance), variance**2 / weight) if variance > 0 else (0.0, float(len(clusters) - 1))


@dataclass(kw_only=True)
class _Cluster:
    """What was measured in one block of one run."""

    influence: float = 0.0
    sides: set[str] = field(default_factory=set)
    settings: list[int] = field(default_factory=list)


def _influential(one: Sample, *, relative: bool) -> Iterator[tuple[str, Sequence[Hashable], np.ndarray]]:
    """Yield what moves the mean of a setting: differences of pairs, or the figures of each side, with their blocks."""
    first, second = (np.log(values) if relative else values for values in one.values)
    if one.pairs is None:
        yield "A", one.keys[0], first
        yield "B", one.keys[1], second
    else:
        yield "both", [one.keys[0][place] for place in one.pairs[0]], second[one.pairs[1]] - first[one.pairs[0]]
