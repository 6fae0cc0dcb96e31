"""When each repeat reached the target."""

from __future__ import annotations

import math
from typing import Any, Final

import altair as alt
import pandas as pd

from harness.report.figures import basis
from harness.report.figures.basis import DOTS, HEIGHT, LINE, MOST, STEP, WIDTH, Figure, Rows, Width
from harness.report.figures.groups import Groups, named

_OF_TARGET: Final = {"x": "median", "low": "low", "high": "high"}


def time_to_accuracy(
    reach: pd.DataFrame,
    settings: pd.DataFrame | None = None,
    *,
    target: str = "the target",
    most: int = MOST,
    width: Width = WIDTH,
    height: int | None = None,
) -> Figure:
    """Draw when each trial reached the target, a row a setting: its repeats as dots, their median and its interval.

    `reach` is what `harness.analyse.time_to_target` returns (``time_to_target_s``; ``seed`` where known); `settings`
    has ``median_time_to_target_s``, ``low_time_to_target_s`` and ``high_time_to_target_s``, and the order of rank.
    Trials that missed the target (infinite) are crosses at the right edge; those of which it is not known (NaN) are
    not there. Of each setting 100 trials are drawn at most. Seconds are on a log scale where they span more than a
    factor of 10. An empty frame gives an empty figure that says so. `target` is its text, as "val_accuracy >= 0.9".

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = f"training time to {target}"
    basis.need(reach, "time_to_target_s")
    reach = named(reach)
    reach = reach[reach["time_to_target_s"].notna()]
    ranked = reach if settings is None else named(settings)
    groups = Groups(ranked[ranked["key"].isin(reach["key"].unique())], most)
    reach = groups.of(reach.sort_values("time_to_target_s", kind="stable"))
    fields = {"key": "key", "seed": "seed", "x": "time_to_target_s", "epoch": "target_epoch"}
    table = groups.label(basis.rows(reach, fields))
    if not table:
        return basis.nothing(told, "no trial has anything that could reach a target", width=width, height=HEIGHT)
    times = [row["x"] for row in table if row["x"] is not None]
    edge = _edge(times)
    for row in table:
        row["missed"] = row["x"] is None  # infinite: no number in JSON
        row["told"] = "missed" if row["missed"] else f"{row['x']:,.4g} s"
        row["x"] = edge if row["missed"] else row["x"]
    missed = sum(row["missed"] for row in table)
    parts = ["a dot a trial"]
    if missed:
        parts.append(f"crosses at the edge: {missed:,} of {len(table):,} missed it")
    axis = basis.axis([{"x": one} for one in times], "x") if times else alt.Axis(labels=False, ticks=False)
    scale = basis.scale([*times, *([edge] if missed else [])])
    x = alt.X("x:Q", title="training time (s)", scale=scale, axis=axis)
    y = alt.Y("label:N", sort=None, title=None)
    tooltip = [
        alt.Tooltip("label:N", title="setting"),
        alt.Tooltip("seed:N", title="seed"),
        alt.Tooltip("told:N", title="time to the target"),
        alt.Tooltip("epoch:Q", title="reached in epoch", format=".4~g"),
    ]
    dots = alt.Chart(basis.data(basis.thinned(table, DOTS))).encode(
        x=x, y=y, color=groups.colour(legend=False), tooltip=tooltip
    )
    above, below = -3, 5  # pixels: the interval would cover the dots
    cross: dict[str, Any] = {"shape": "cross", "angle": 45, "size": 80}
    layers: list[Any] = [
        dots.transform_filter("!datum.missed").mark_point(filled=True, size=42, opacity=0.75, yOffset=above),
        dots.transform_filter("datum.missed").mark_point(filled=True, opacity=1, yOffset=above, **cross),
    ]
    bars = [] if settings is None else _bars(groups, named(settings), edge)
    if bars:
        told_of_bar = [
            alt.Tooltip("label:N", title="setting"),
            alt.Tooltip("x:Q", title="median (s)", format=",.4~g"),
            alt.Tooltip("told:N", title="interval"),
            alt.Tooltip("n:Q", title="trials"),
        ]
        bar = alt.Chart(basis.data(bars)).encode(y=y, tooltip=told_of_bar)
        line = bar.transform_filter("isValid(datum.low)").mark_rule(color=LINE, strokeWidth=1.6, yOffset=below)
        layers.append(line.encode(x="low:Q", x2="high:Q"))
        layers.append(bar.mark_tick(color=LINE, thickness=3, size=9, yOffset=below).encode(x="x:Q"))
        parts.append("bar: median, line: its interval")
    size: Any = height if height is not None else alt.Step(STEP)
    return alt.layer(*layers, width=width, height=size, title=basis.title(told, groups.subtitle(*parts)))


def _bars(groups: Groups, settings: pd.DataFrame, edge: float) -> Rows:
    """Return the medians and intervals of the groups that have a finite median; what is infinite ends at the edge."""
    of_target = {name: f"{what}_time_to_target_s" for name, what in _OF_TARGET.items()}
    if of_target["x"] not in settings.columns:
        return []
    settings = groups.of(settings)
    bars = groups.label(basis.rows(settings, {"key": "key", "n": "reached_of", **of_target}))
    ends = _floats(settings, of_target["high"])
    for row, end in zip(bars, ends, strict=True):
        if row["low"] is None or math.isnan(end):
            row["low"] = row["high"] = None
            row["told"] = "none: one repeat"
        else:
            row["high"] = min(end, edge)
            row["told"] = f"{row['low']:,.4g} to {'never' if math.isinf(end) else f'{end:,.4g}'} s"
    return [row for row in bars if row["x"] is not None]


def _floats(frame: pd.DataFrame, column: str) -> list[float]:
    if column not in frame.columns:
        return [math.nan] * len(frame)
    return [math.nan if pd.isna(one) else float(one) for one in frame[column].tolist()]


def _edge(times: list[Any]) -> float:
    """Return where misses are drawn: right of all times."""
    if not times:
        return 1.0
    if basis.spans(times):
        return float(max(times) * (max(times) / min(times)) ** 0.12)
    return float(max(times) * 1.15) or 1.0
