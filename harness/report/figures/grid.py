"""A figure over the axes of the grid."""

from __future__ import annotations

import math
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd

from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, MOST, WIDTH, Figure, Rows

_LEVEL: Final = 10  # values of an axis; the names of more stand aslant
_TOLD: Final = 16  # cells beside one another; narrower ones have no room for their number


def heat_map(
    settings: pd.DataFrame,
    *,
    x: str,
    y: str | None = None,
    figure: str,
    title: str | None = None,
    most: int = MOST,
    width: int | None = None,
    height: int | None = None,
) -> Figure:
    """Draw a figure of the settings over a grid of two axes, or over one as a strip.

    `x`, `y` and `figure` are columns of `settings`; `title` is what the figure is called, its column if left out.
    Where other axes make several settings of one cell, the cell is their median, in which infinity (a target missed)
    counts as such: "never". Values of an axis go by their size, or by their letters; of each axis the first `most`
    are drawn. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    name = figure.replace("_", " ") if title is None else title
    told = f"{name} by {x}" + (f" and {y}" if y else "")
    columns = [x, *([y] if y else []), figure]
    basis.need(settings, *columns)
    if most < 1:
        raise ValueError(f"most={most}: a figure draws one value or more of an axis")
    cells = _cells(settings, x, y, figure)
    if not cells:
        return basis.nothing(told, f"no {name} was measured", width=width or WIDTH, height=HEIGHT)
    rights, downs = (basis.ordered(place[side] for place in cells) for side in (0, 1))
    notes = [
        f"{most:,} of {len(values):,} values of {column}"
        for values, column in ((rights, x), (downs, y))
        if len(values) > most
    ]
    table: Rows = [
        {"x": _text(right), "y": _text(down), "x_order": rights.index(right), "y_order": downs.index(down),
         "value": basis.plain(np.median(values)), "told": basis.short(np.median(values)), "n": len(values)}
        for (right, down), values in cells.items()
        if right in rights[:most] and down in downs[:most]
    ]  # fmt: skip
    known = [row["value"] for row in table if row["value"] is not None]
    log = basis.spans(known)
    middle = _middle(known, log=log)
    for row in table:
        row["bright"] = row["value"] is not None and row["value"] > middle
    many = any(row["n"] > 1 for row in table)
    across, down = len({row["x"] for row in table}), len({row["y"] for row in table})
    size_x: Any = width if width is not None else alt.Step(max(34, min(70, WIDTH // across)))
    size_y: Any = height if height is not None else alt.Step(28)
    names = alt.Axis(labelAngle=0 if across <= _LEVEL else -45)
    at_x = alt.X("x:N", title=x, sort=alt.EncodingSortField("x_order", op="min"), axis=names)
    order_y = alt.EncodingSortField("y_order", op="min")
    at_y = alt.Y("y:N", title=y, sort=order_y, axis=alt.Axis() if y else None)
    tooltip = [
        alt.Tooltip("x:N", title=x), *([alt.Tooltip("y:N", title=y)] if y else []),
        alt.Tooltip("told:N", title=name), alt.Tooltip("n:Q", title="settings"),
    ]  # fmt: skip
    base = alt.Chart(basis.data(table)).encode(x=at_x, y=at_y, tooltip=tooltip)
    legend = alt.Legend(title=name, format=".3~g", gradientLength=min(160, max(60, 28 * down)))
    colour = alt.Color("value:Q", scale=alt.Scale(type="log" if log else "linear", zero=False), legend=legend)
    layers = [
        base.mark_rect(stroke=LINE, strokeOpacity=0.35).encode(
            color=alt.when("isValid(datum.value)").then(colour).otherwise(alt.value("transparent"))
        )
    ]
    if across <= _TOLD:
        words = base.mark_text(fontSize=10).encode(text="told:N")
        layers.append(words.encode(color=_ink()))
    note = "; ".join([*(["median over the other axes"] if many else []), *notes])
    return alt.layer(*layers, width=size_x, height=size_y, title=basis.title(told, note))


def _cells(settings: pd.DataFrame, x: str, y: str | None, figure: str) -> dict[tuple[Any, Any], list[float]]:
    """Return the figures of the settings at each place of the grid."""
    rights = [basis.plain(one) for one in settings[x].tolist()]
    downs = [basis.plain(one) for one in settings[y].tolist()] if y else [""] * len(settings)
    cells: dict[tuple[Any, Any], list[float]] = {}
    for right, down, value in zip(rights, downs, settings[figure].tolist(), strict=True):
        if not pd.isna(value):
            cells.setdefault((right, down), []).append(float(value))
    return cells


def _ink() -> Any:
    """Return the colour of a cell's text: what can be read on the cell."""
    return (
        alt.when("!isValid(datum.value)")
        .then(alt.value(LINE))
        .when("datum.bright")
        .then(alt.value("#111111"))
        .otherwise(alt.value("#ffffff"))
    )


def _middle(values: list[float], *, log: bool) -> float:
    """Return from where on the colours are bright."""
    if not values or min(values) == max(values):
        return math.inf
    low, high = min(values), max(values)
    return float(low * (high / low) ** 0.55) if log else low + 0.55 * (high - low)


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
