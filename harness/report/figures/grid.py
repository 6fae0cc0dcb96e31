"""A figure over the axes of the grid."""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd

from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, MOST, WIDTH, Figure

_LEVEL: Final = 10  # values of an axis; the names of more stand aslant
_TOLD: Final = 16  # cells beside one another; narrower ones have no room for their number
_ROW: Final = 32  # pixels
_LETTER: Final = 7  # pixels, of the widest common ones
_BRIGHT: Final = 0.55  # of the way along the colours
_NEVER: Final = 1e300  # stands for infinity; the median of it and of a number is above a quarter of it


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
    if "key" not in settings.columns:
        settings = settings.assign(key=range(len(settings)))
    fields = {"key": "key", "label": "label", "right": x, "down": y or "", "value": figure}
    table = [row for row in basis.rows(_never(settings, figure), fields) if row["value"] is not None]
    if not table:
        return basis.nothing(told, f"no {name} was measured", width=width or WIDTH, height=HEIGHT)
    rights, downs = (basis.ordered(row[side] for row in table) for side in ("right", "down"))
    notes = [
        f"{most:,} of {len(values):,} values of {column}"
        for values, column in ((rights, x), (downs, y))
        if len(values) > most
    ]
    places = [{value: place for place, value in enumerate(values[:most])} for values in (rights, downs)]
    table = [
        {"key": row["key"], "label": row["label"], "value": row["value"], "x": _text(row["right"]),
         "y": _text(row["down"]) if y else "", "x_order": places[0][row["right"]], "y_order": places[1][row["down"]]}
        for row in table
        if row["right"] in places[0] and row["down"] in places[1]
    ]  # fmt: skip
    many = len({(row["x"], row["y"]) for row in table}) < len(table)
    log = basis.spans(row["value"] for row in table if row["value"] < _NEVER)
    across = len(places[0])
    size_x: Any = width if width is not None else alt.Step(max(34, min(100, 2 * WIDTH // across)))
    size_y: Any = height if height is not None else alt.Step(_ROW if y else 2 * _ROW)
    step = size_x.step if width is None else width / across
    aslant = across > _LEVEL or max(len(row["x"]) for row in table) * _LETTER > step
    names = alt.Axis(labelAngle=-45, labelLimit=140) if aslant else alt.Axis(labelAngle=0)
    at_x = alt.X("x:N", title=x, sort=alt.EncodingSortField("x_order", op="min"), axis=names)
    order_y = alt.EncodingSortField("y_order", op="min")
    at_y = alt.Y("y:N", title=y, sort=order_y, axis=alt.Axis() if y else None)
    tooltip = [
        alt.Tooltip("label:N", title="setting"),
        alt.Tooltip("x:N", title=x), *([alt.Tooltip("y:N", title=y)] if y else []),
        alt.Tooltip("told:N", title=name),
    ]  # fmt: skip
    base = _cells(alt.Chart(basis.data(table)), log=log).encode(x=at_x, y=at_y, tooltip=tooltip)
    legend = alt.Legend(title=name, format=".3~g", orient="top", gradientLength=200, titleLimit=400)
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    several = len({row["value"] for row in table if row["value"] < _NEVER}) > 1
    colour = alt.Color("shown:Q", scale=scale, legend=legend if several else None)
    layers = [
        base.mark_rect(stroke=LINE, strokeOpacity=0.35).encode(
            color=alt.when("isValid(datum.shown)").then(colour).otherwise(alt.value("transparent"))
        )
    ]
    if across <= _TOLD:
        layers.append(base.mark_text(fontSize=11).encode(text="told:N", color=_ink()))
    note = "; ".join([*(["median over the other axes"] if many else []), *notes])
    return alt.layer(*layers, width=size_x, height=size_y, title=basis.title(told, note))


def _never(settings: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Return the settings with a number for what is infinite, since JSON has none."""
    values = settings[figure].to_numpy(dtype=np.float64, na_value=np.nan)
    return settings.assign(**{figure: np.where(np.isinf(values), _NEVER, values)})


def _cells(chart: alt.Chart, *, log: bool) -> alt.Chart:
    """Return the chart with a row a cell: ``shown`` is the median of its settings, none for never; ``told`` the same as
    text; ``bright``: whether its colour is; ``key`` only where the cell is one setting.

    It is the chart that computes them, so that a page which gives it fewer settings has it draw these.
    """
    share = "log(datum.shown / datum.least) / log(datum.most / datum.least)"
    if not log:
        share = "(datum.shown - datum.least) / (datum.most - datum.least)"
    found: alt.Chart = (
        chart.transform_aggregate(
            middle="median(value)", n="count()", its="values(key)", groupby=["x", "y", "x_order", "y_order"]
        )
        .transform_calculate(
            shown=f"datum.middle < {_NEVER / 4:g} ? datum.middle : null",
            key="datum.n === 1 ? datum.its[0].key : null",
            label="datum.n === 1 ? datum.its[0].label || 'one setting' : datum.n + ' settings'",
            told="!isValid(datum.shown) ? 'never' : format(datum.shown, abs(datum.shown) >= 999.5 ? ',.0f' : '.3~g')",
        )
        .transform_joinaggregate(least="min(shown)", most="max(shown)")
        .transform_calculate(bright=f"datum.most > datum.least && {share} > {_BRIGHT}")
    )
    return found


def _ink() -> Any:
    """Return the colour of a cell's text: what can be read on the cell."""
    return (
        alt.when("!isValid(datum.shown)")
        .then(alt.value(LINE))
        .when("datum.bright")
        .then(alt.value("#111111"))
        .otherwise(alt.value("#ffffff"))
    )


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
