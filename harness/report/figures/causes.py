"""What makes the difference: the shares of a figure's variance, and the levels of each axis."""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import pandas as pd

from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, MOST, STEP, WIDTH, Figure, Width
from harness.report.figures.groups import Groups


def effects(
    effects: pd.DataFrame,
    *,
    figure: str = "the figure",
    most: int = MOST,
    width: Width = WIDTH,
    height: int | None = None,
) -> Figure:
    """Draw the share of each axis, and of each pair of axes, in the variance of a figure, with its interval.

    `effects` is what `harness.analyse.effects` returns (``term``, ``share``, ``low``, ``high``, ``p``, ``kind``,
    ``levels``, ``n``, ``note``); `figure` is what it is about. The first `most` terms are drawn, and what is left over
    (of kind "left") in grey. Terms without a share are not there. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = f"what {figure} depends on"
    basis.need(effects, "term", "share")
    frame = effects[effects["share"].notna()]
    left = frame["kind"] == "left" if "kind" in frame.columns else pd.Series(False, index=frame.index)
    note = _limit(int((~left).sum()), most, "terms")
    frame = pd.concat([frame[~left].head(most), frame[left]])
    names = ("term", "share", "low", "high", "p", "kind", "levels", "n", "note")
    table = basis.rows(frame, {name: name for name in names})
    if not table:
        return basis.nothing(
            told, "no share can be told: too few repeats, or nothing varies", width=width, height=HEIGHT
        )
    for row in table:
        row["left"] = row["kind"] == "left"
    y = alt.Y("term:N", sort=None, title=None)
    x = alt.X("share:Q", title="share of the variance", axis=alt.Axis(format="%", tickCount=6))
    tooltip = [
        alt.Tooltip("term:N"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%"),
        alt.Tooltip("high:Q", format=".1%"),
        alt.Tooltip("p:Q", format=".2~g", title="p"),
        alt.Tooltip("levels:Q"),
        alt.Tooltip("n:Q", title="trials"),
        alt.Tooltip("note:N"),
    ]
    base = alt.Chart(basis.data(table)).encode(y=y, tooltip=tooltip)
    bar = base.mark_bar(height={"band": 0.6})
    layers = [
        bar.transform_filter("!datum.left").encode(x=x),
        bar.transform_filter("datum.left").encode(x=x, color=alt.value(LINE)),
        _interval(base),
    ]
    size: Any = height if height is not None else alt.Step(STEP + 4)
    parts = "; ".join(part for part in ("line: interval of the share; grey: no axis's", note) if part)
    return alt.layer(*layers, width=width, height=size, title=basis.title(told, parts))


def levels(
    levels: pd.DataFrame,
    *,
    figure: str = "the figure",
    most: int = MOST,
    width: Width = WIDTH,
    height: int | None = None,
) -> Figure:
    """Draw what each level of each axis does to a figure, against the mean of the axis's levels, with its interval.

    `levels` is what `harness.analyse.levels` returns: ``axis``, ``level``, ``ratio`` (times and rates) or
    ``difference`` (metrics), ``low``, ``high``, ``n``, ``left_out``; `figure` is what it is about. The first `most`
    levels are drawn; those without a value are not there. Ratios are on a log scale. An empty frame gives an empty
    figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = f"{figure} by level of each axis"
    basis.need(levels, "axis", "level")
    column = "ratio" if "ratio" in levels.columns else "difference"
    if levels.empty:
        return basis.nothing(told, "no axis is varied, or no trial has the figure", width=width, height=HEIGHT)
    basis.need(levels, column)
    frame = levels[levels[column].notna()]
    names = {
        "axis": "axis",
        "level": "level",
        "value": column,
        "low": "low",
        "high": "high",
        "n": "n",
        "out": "left_out",
    }
    table = basis.rows(frame.head(most), names)
    note = _limit(len(frame), most, "levels")
    if not table:
        return basis.nothing(told, "no level has a value", width=width, height=HEIGHT)
    for row in table:
        row["name"] = f"{row['axis']}={row['level']}"
    ratio = column == "ratio"
    numbers = [row[field] for row in table for field in ("value", "low", "high") if row[field] is not None]
    x_scale = alt.Scale(type="log", nice=False, padding=12) if ratio and min(numbers) > 0 else basis.scale([])
    x_title = f"{figure}: {'ratio to' if ratio else 'difference from'} the mean of the axis"
    x = alt.X("value:Q", title=x_title, scale=x_scale, axis=alt.Axis(tickCount=6, format="~g" if ratio else "+~g"))
    tooltip = [
        alt.Tooltip("name:N", title="level"),
        alt.Tooltip("value:Q", title=column, format=".4~g"),
        alt.Tooltip("low:Q", format=".4~g"),
        alt.Tooltip("high:Q", format=".4~g"),
        alt.Tooltip("n:Q", title="trials"),
        alt.Tooltip("out:Q", title="trials without it"),
    ]
    mean = alt.Chart(basis.data([{"at": 1.0 if ratio else 0.0}]))
    axes = len({row["axis"] for row in table})
    kind = "axis:O" if axes > len(basis.COLOURS) else "axis:N"
    colour = alt.Color(kind, sort=None, legend=None)
    base = alt.Chart(basis.data(table)).encode(y=alt.Y("name:N", sort=None, title=None), tooltip=tooltip)
    layers = [
        mean.mark_rule(color=LINE, strokeDash=[4, 3]).encode(x="at:Q"),
        _interval(base),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, color=colour),
    ]
    size: Any = height if height is not None else alt.Step(STEP)
    parts = "; ".join(part for part in ("line: interval", note) if part)
    return alt.layer(*layers, width=width, height=size, title=basis.title(told, parts))


def profiles(profiles: pd.DataFrame, *, most: int = MOST, width: Width = WIDTH, height: int = HEIGHT) -> Figure:
    """Draw performance profiles: on what share of the problems each solver is within a factor of the best.

    `profiles` is what `harness.analyse.performance_profile` returns: ``solver``, ``tau``, ``rho``, the best solver
    first. The first `most` solvers are drawn, as steps. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = "how often within which factor of the quickest"
    basis.need(profiles, "solver", "tau", "rho")
    frame = profiles.assign(key=profiles["solver"].astype(str), label=profiles["solver"].astype(str))
    groups = Groups(frame, most, noun="solvers")
    table = groups.label(basis.rows(groups.of(frame), {"key": "key", "tau": "tau", "rho": "rho"}))
    if not table:
        return basis.nothing(told, "there is nothing to compare by", width=width, height=height)
    pick = basis.highlight()
    shown = alt.when(pick).then(alt.value(1.0)).otherwise(alt.value(0.12))
    x = alt.X(
        "tau:Q", title="factor of the quickest", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickCount=7)
    )
    y = alt.Y("rho:Q", title="share of the problems", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    tooltip = [
        alt.Tooltip("label:N", title="solver"),
        alt.Tooltip("tau:Q", title="within a factor of", format=".3~g"),
        alt.Tooltip("rho:Q", title="share of the problems", format=".1%"),
    ]
    base = alt.Chart(basis.data(table)).encode(x=x, y=y, color=groups.colour(), opacity=shown, detail="key:N")
    line = base.mark_line(interpolate="step-after", strokeWidth=2).add_params(pick)
    points = base.mark_point(**basis.wide(24)).encode(tooltip=tooltip)
    subtitle = groups.subtitle("higher is better")
    return alt.layer(line, points, width=width, height=height, title=basis.title(told, subtitle))


_KNOWN: Final = "isValid(datum.low) && isValid(datum.high)"


def _interval(base: alt.Chart) -> alt.Chart:
    line: alt.Chart = base.transform_filter(_KNOWN).mark_rule(color=LINE, strokeWidth=1.8)
    return line.encode(x="low:Q", x2="high:Q")


def _limit(count: int, most: int, noun: str) -> str:
    if most < 1:
        raise ValueError(f"most={most}: a figure draws one of its {noun} or more")
    return f"{most:,} of {count:,} {noun}" if count > most else ""
