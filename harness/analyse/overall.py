"""Comparisons of several settings → one for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy import special

from harness.analyse.compare import ALARMS, POWER, SLOW_DOWN, Comparison, pairs_of, t_quantile

_CLUSTER: Final = ["run_id", "block"]


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


def overall(
    compared: Sequence[tuple[Comparison, tuple[pd.DataFrame, pd.DataFrame]]],
    *,
    relative: bool,
    within: float | None = None,
) -> Overall:
    """Return the mean effect over settings, each of which counts the same, and how well it is known.

    `compared` holds each setting's comparison and the trials it was made of (``run_id``, ``block``, ``value``). Ratios
    are averaged as logs: the geometric mean is the one mean of normalised figures that does not depend on which
    side they are normalised by (Fleming and Wallace 1986).

    What is inferred to is these settings, measured again, not others. The variance is that of the sum of the repeats'
    influences on the mean, where all trials of one block count as one influence (a cluster-robust variance: Liang and
    Zeger 1986, each setting's deviations scaled by n / (n - 1)), since what disturbs a block disturbs all
    settings in it, and what disturbs both sides' block alike cancels. With complete blocks it is the t test of the
    blocks' means. Degrees of freedom by Welch and Satterthwaite over the sides.
    """
    effects = [_effect(one, relative) for one, _ in compared]
    effect = float(np.mean(effects))
    logs = [math.log(one.floor) for one, _ in compared if one.floor is not None]
    floor = float(np.mean(logs)) if logs and relative else None
    error, freedom = _error([parts for _, parts in compared], relative=relative)
    low = high = p = None
    verdict: Literal["larger", "smaller", "no difference shown", "cannot tell: too few repeats"]
    verdict = "cannot tell: too few repeats"
    show = math.exp if relative else float
    if freedom is not None:
        reach = t_quantile(1 - ALARMS / 2, freedom)
        low, high = show(effect - reach * error), show(effect + reach * error)
        p = 2 * float(special.stdtr(freedom, -abs(effect) / error)) if error > 0 else float(effect == 0)
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
    assert value is not None  # one that has an interval
    return math.log(value) if relative else value


def _error(compared: Sequence[tuple[pd.DataFrame, pd.DataFrame]], *, relative: bool) -> tuple[float, float | None]:
    """Return the standard error of the mean effect and its degrees of freedom; None where there are none."""
    parts = [
        part
        for number, sides in enumerate(compared)
        for part in _influences(number, sides, relative=relative, of=len(compared))
    ]
    table = pd.concat(parts, ignore_index=True)
    clusters = table.groupby(_CLUSTER, sort=False, observed=True).agg(
        influence=("influence", "sum"),
        sides=("side", lambda found: "".join(sorted(set(found)))),
        settings=("setting", lambda found: tuple(sorted(set(found)))),
    )
    variance = freedom = 0.0
    for _, own in clusters.groupby("sides", sort=False):
        of_part = float((own["influence"] ** 2).sum())
        # Each group of blocks that hold the same settings has its mean taken off once.
        degrees = len(own) - own["settings"].nunique()
        if degrees < 1:
            return math.nan, None
        variance += of_part
        freedom += of_part**2 / degrees
    if variance == 0:
        return 0.0, float(len(clusters) - 1)
    return math.sqrt(variance), variance**2 / freedom


def _influences(
    number: int, sides: tuple[pd.DataFrame, pd.DataFrame], *, relative: bool, of: int
) -> list[pd.DataFrame]:
    """Return by how much each trial, or pair, moves the mean over `of` settings."""

    def influence(keys: pd.DataFrame, values: np.ndarray, side: str) -> pd.DataFrame:
        count = len(values)
        moved = (values - values.mean()) / count * math.sqrt(count / (count - 1)) / of
        return keys[_CLUSTER].assign(influence=-moved if side == "A" else moved, side=side, setting=number)

    pairs = pairs_of(*sides)
    scale = np.log if relative else np.asarray
    if pairs is not None:
        differences = scale(pairs["value_y"].to_numpy(float)) - scale(pairs["value_x"].to_numpy(float))
        return [influence(pairs, differences, "both")]
    return [influence(one, scale(one["value"].to_numpy(float)), side) for side, one in zip("AB", sides, strict=True)]
