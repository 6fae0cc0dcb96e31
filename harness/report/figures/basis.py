"""What all figures share: sizes and colours, frames as rows of plain values, and the parts of charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any, Final, Literal, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

Figure: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart
Width: TypeAlias = int | Literal["container"]
Rows: TypeAlias = list[dict[str, Any]]

WIDTH: Final = 560  # pixels, of the plot itself
HEIGHT: Final = 320
STEP: Final = 22  # pixels for each row of a figure that lists groups
MOST: Final = 30  # groups
POINTS: Final = 200  # of each line
DOTS: Final = 100  # of each group
_NEAR: Final = 0.05  # of the largest value: what is as near to 0 would have its room on the other side of it
LINE: Final = "#858585"  # targets, fronts: as plain on white as on near-black

# Each stands out from white and from near-black (contrast 2.5 or more), and from each other one also for people who see
# red and green alike (a difference of 29 or more, CIE 1976).
COLOURS: Final = ("#1f77c9", "#e06e13", "#21b284", "#993976", "#25accd", "#944833", "#8209ed")
ORDERED: Final = ("#2b78d4", "#8a5fd0", "#c4479b", "#d4553f", "#b8800f")  # from blue to yellow, for the same reason


# Rows ----------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return a cell as JSON can hold it: text without control characters, numbers that are none or endless as None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if value.isprintable() else "".join(one if one.isprintable() else " " for one in value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return plain(value.item() if hasattr(value, "item") else str(value))


def rows(frame: pd.DataFrame, columns: Mapping[str, str]) -> Rows:
    """Return a frame's rows, given the name of each field and the column that it is from; no such column: all None."""
    found = {
        field: _cells(frame[column], whole=field == "key") if column in frame.columns else [None] * len(frame)
        for field, column in columns.items()
    }
    return [dict(zip(found, cells, strict=True)) for cells in zip(*found.values(), strict=True)]


def _cells(column: pd.Series, *, whole: bool) -> list[Any]:
    """Return what `plain` makes of each cell; numbers all at once. `whole`: texts stay as they are, since groups are
    looked up by them and nobody reads them."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return [one if whole and isinstance(one, str) else plain(one) for one in column.tolist()]
    return [one if math.isfinite(one) else None for one in column.to_numpy(np.float64, na_value=np.nan).tolist()]


def need(frame: pd.DataFrame, *columns: str) -> None:
    """Raise a ValueError unless the frame has these columns."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        there = ", ".join(map(str, frame.columns)) or "none"
        raise ValueError(f"the frame has no column {missing[0]!r}; it has {there}")


def known(row: Mapping[str, Any], *fields: str) -> bool:
    """Tell whether a row has all of these fields."""
    return all(row[field] is not None for field in fields)


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def thinned(table: Rows, most: int = POINTS) -> Rows:
    """Return at most so many rows of each key, evenly spaced; those of a key are neighbours."""
    by_key: dict[Any, Rows] = {}
    for row in table:
        by_key.setdefault(row["key"], []).append(row)
    return [row for of_key in by_key.values() for row in evenly(of_key, most)]


# Parts of charts -----------------------------------------------------------------------------------------------------


def spans(values: Iterable[float | None], *, factor: float = 10.0) -> bool:
    """Tell whether values, all above 0, differ by more than the factor: then they are drawn on a log scale."""
    found = [value for value in values if value is not None]
    return bool(found) and min(found) > 0 and max(found) > factor * min(found)


def scale(values: Iterable[float | None], *, zero: bool = False) -> alt.Scale:
    """Return the scale that values are drawn on: logarithmic where they span more than a factor of 10."""
    found = [value for value in values if value is not None]
    if spans(found):
        return alt.Scale(type="log", nice=False, padding=8)
    return alt.Scale(**linear(found, zero=zero))


def linear(values: Sequence[float], *, zero: bool = False) -> dict[str, Any]:
    """Return a linear scale of values: with room around them, but of what cannot be below 0 from 0 on."""
    if values and 0 <= min(values) <= _NEAR * max(values):
        return {"zero": True, "nice": True}
    return {"zero": zero, "nice": True, "padding": 8}


DIGITS: Final = ",.6~g"  # left to itself, Vega tells an axis of a single value by its first digit, 0.9 as 1


def axis(table: Rows, *fields: str) -> alt.Axis:
    """Return the axis of numbers: on a log scale with as many labels as do not overlap."""
    values = [row[field] for row in table for field in fields if row[field] is not None]
    if spans(values):
        return alt.Axis(**log_axis(values))
    return alt.Axis(tickCount=6, format=DIGITS)


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """Return an axis on a log scale: ticks at round numbers, the more of a decade the fewer decades there are."""
    low, high = math.log10(min(values)), math.log10(max(values))
    round_ones = range(1, 10) if high - low < 1.5 else (1, 2, 5) if high - low < 4 else (1,)
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    ticks = [float(f"{first}e{power}") for power in powers for first in round_ones]
    ticks = [tick for tick in ticks if low - 0.2 <= math.log10(tick) <= high + 0.2]
    # Of few, or of hundreds of decades, Vega knows better.
    chosen: dict[str, Any] = {"values": ticks} if 3 < len(ticks) < 40 else {"tickCount": 6}
    return {**chosen, "format": DIGITS, "labelOverlap": "greedy"}


def data(table: Rows) -> dict[str, Any]:
    """Return rows as the data of a chart; Altair's limit of rows is for data frames alone."""
    kept = _apart.get()
    if kept is None:
        return {"values": table}
    name = f"rows-{len(kept)}"
    kept[name] = table
    return {"name": name}


@contextmanager
def rows_apart() -> Iterator[dict[str, Rows]]:
    """Give the rows of the charts that are made within, by the names of their data; the charts hold none.

    Altair copies what a chart holds a dozen times, cell by cell, which 100,000 rows take a minute for.
    """
    kept: dict[str, Rows] = {}
    token = _apart.set(kept)
    try:
        yield kept
    finally:
        _apart.reset(token)


_apart: ContextVar[dict[str, Rows] | None] = ContextVar("rows_apart", default=None)


def title(text: str, subtitle: str = "") -> alt.TitleParams:
    """Return a chart's title, and in small letters what else is to be known."""
    return alt.TitleParams(text, subtitle=subtitle) if subtitle else alt.TitleParams(text)


def nothing(text: str, why: str, *, width: Width, height: int) -> alt.Chart:
    """Return an empty chart that says why it is empty."""
    chart = alt.Chart(data([{"why": why}]), width=width, height=min(height, 80), title=title(text))
    words: alt.Chart = chart.mark_text(color=LINE, fontSize=12, limit=WIDTH).encode(text="why:N")
    return words


def rule_at(value: float, *, channel: Literal["x", "y"], text: str) -> Figure:
    """Return a dashed line across the figure, with its text at the end."""
    base = alt.Chart(data([{"at": plain(value), "text": text}]))
    line = base.mark_rule(color=LINE, strokeDash=[4, 3], strokeWidth=1.2)
    words = base.mark_text(color=LINE, align="left", baseline="bottom", dx=4, dy=-2, fontSize=10, limit=160)
    if channel == "y":
        at = alt.Y("at:Q")
        return alt.layer(line.encode(y=at), words.encode(y=at, x=alt.value(0), text="text:N"))
    at_x = alt.X("at:Q")
    return alt.layer(line.encode(x=at_x), words.encode(x=at_x, y=alt.value(0), text="text:N"))


def wide(size: int) -> dict[str, Any]:
    """Return a point of an area in pixels with an unseen edge, so that a mouse that is near it finds its tooltip."""
    return {"filled": True, "size": size, "stroke": "transparent", "strokeWidth": 14, "strokeJoin": "round"}


def highlight() -> alt.Parameter:
    """Return a choice of groups by clicks on the legend; the others fade."""
    return alt.selection_point(fields=["label"], bind="legend")


def short(value: Any) -> str:
    """Return a number for a cell of a figure: three significant digits, thousands whole."""
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, str):
        return str(plain(value))
    number = float(value)
    if math.isinf(number):
        return "never"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def ordered(values: Iterable[Any]) -> list[Any]:
    """Return the distinct values in their own order: numbers by size, before texts by letters; None last."""
    distinct = list(dict.fromkeys(values))
    key: Callable[[Any], tuple[int, Any]] = lambda one: (  # noqa: E731
        (2, 0) if one is None else (0, float(one)) if isinstance(one, int | float) else (1, str(one))
    )
    return sorted(distinct, key=key)
