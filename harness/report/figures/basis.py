"""What all figures share: their colours, which groups they draw, and frames as rows of plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any, Final, Literal, TypeAlias

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

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
_ORDERED: Final = ("#2b78d4", "#8a5fd0", "#c4479b", "#d4553f", "#b8800f")  # from blue to yellow, for the same reason
_SPREAD: Final = ("#2b78d4", "#d9d9d9", "#d4600a")
_WHITE: Final = "#ffffff"
_BLACK: Final = "#14161a"


def theme(*, dark: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite config of all figures: colours, letters, limits. Charts themselves carry none of it."""
    ink, faint, ground = ("#d7dae0", "#33373f", _BLACK) if dark else ("#24292f", "#e6e8eb", _WHITE)
    return {
        "background": ground,
        "font": "Helvetica, Arial, sans-serif",
        "view": {"stroke": None},
        "mark": {"color": COLOURS[0], "tooltip": None},
        "axis": {
            "labelColor": ink,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "labelFontSize": 11,
            "titleFontSize": 12,
            "labelLimit": 240,
            "titleLimit": 420,
            "gridColor": faint,
            "domainColor": faint,
            "tickColor": faint,
        },
        "axisXQuantitative": {"labelOverlap": "greedy", "labelSeparation": 8},  # px: on a phone numbers would touch
        "legend": {
            "labelColor": ink,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "labelLimit": 240,
            "titleLimit": 240,
            "symbolLimit": MOST,
        },
        "title": {
            "color": ink,
            "subtitleColor": LINE,
            "anchor": "start",
            "fontSize": 13,
            "subtitleFontSize": 11,
            "limit": 720,
            "offset": 10,
        },
        "text": {"color": ink},
        "range": {
            "category": list(COLOURS),
            "ordinal": {"scheme": list(_ORDERED)},
            "ramp": {"scheme": "viridis"},
            "heatmap": {"scheme": "viridis"},
            "diverging": {"scheme": list(_SPREAD)},
        },
    }


def _enabled_as(name: str, *, dark: bool) -> None:
    @alt.theme.register(name, enable=False)
    def themed() -> alt.theme.ThemeConfig:
        config: Any = theme(dark=dark)
        return {"config": config}


_enabled_as("harness", dark=False)
_enabled_as("harness_dark", dark=True)


def spec(figure: Figure, *, dark: bool | None = None, check: bool = True) -> dict[str, Any]:
    """Return a figure as a Vega-Lite specification that is valid JSON: with the theme, or for None without any."""
    found: dict[str, Any] = figure.to_dict(validate=check)
    found.pop("config", None)
    if dark is not None:
        found["config"] = theme(dark=dark)
    return found


def render(figure: Figure, form: Literal["svg", "png", "pdf"], *, dark: bool = False, scale: float = 2.0) -> bytes:
    """Return a figure as a file's bytes; needs neither a browser nor a network. `scale`: pixels a pixel, of PNG."""
    text = json.dumps(spec(figure, dark=dark), allow_nan=False)
    nothing: list[str] = []  # no address may be fetched from
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(text, scale=scale, allowed_base_urls=nothing))
    if form == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(text, allowed_base_urls=nothing))
    return str(vl_convert.vegalite_to_svg(text, allowed_base_urls=nothing)).encode()


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


# Groups --------------------------------------------------------------------------------------------------------------

_IDENTITY = ("setting_id", "arm", "hardware")


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with ``key`` and ``label``; where it has none they are made of its identities.

    Raises:
        ValueError: for a frame that has no column which tells its groups apart.
    """
    if "key" in frame.columns and "label" in frame.columns:
        return frame
    base = "label" if "label" in frame.columns else "key" if "key" in frame.columns else None
    if base is not None:
        return frame.assign(**{("key" if base == "label" else "label"): frame[base]})
    telling = [name for name in _IDENTITY if name in frame.columns]
    if not telling:
        raise ValueError("the frame has no column 'label' or 'setting_id', which tell its groups apart")
    shown = [name for name in telling if name == "setting_id" or frame[name].nunique(dropna=False) > 1] or telling[:1]
    text = frame[shown].astype(str).agg(" ".join, axis=1) if len(frame) else pd.Series(dtype=str, index=frame.index)
    return frame.assign(key=text, label=text)


class Groups:
    """The groups that a figure draws: the first in order of rank, and what its title says of the others."""

    def __init__(self, frame: pd.DataFrame, most: int, *, noun: str = "settings") -> None:
        if most < 1:
            raise ValueError(f"most={most}: a figure draws one group or more")
        first = frame.drop_duplicates("key")
        labels = [str(plain(one)) for one in first["label"].tolist()]
        keys = first["key"].tolist()
        self.keys = keys[:most]
        self._note = f"{most:,} of {len(keys):,} {noun}" if len(keys) > most else ""
        again = {label for label in labels if labels.count(label) > 1} if len(set(labels)) < len(labels) else set()
        # Two groups of one name would be drawn as one.
        names = [f"{label} ({key})" if label in again else label for label, key in zip(labels, keys, strict=True)]
        self.labels = dict(zip(self.keys, names, strict=False))
        self._colours = dict(zip(keys, first["colour"].tolist(), strict=True)) if "colour" in first.columns else {}
        self._place = {key: place for place, key in enumerate(keys)}
        self._shades = dict(zip(keys, first["shade"].tolist(), strict=True)) if "shade" in first.columns else {}

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of these groups, in order of the groups."""
        place = {key: number for number, key in enumerate(self.keys)}
        order = frame["key"].astype(object).map(place)
        return frame[order.notna()].assign(_order=order).sort_values("_order", kind="stable").drop(columns="_order")

    def label(self, table: Rows) -> Rows:
        """Give rows their groups' labels, and their shades where the groups have an order of their own."""
        for row in table:
            row["label"] = self.labels[row["key"]]
            row["place"] = self._place[row["key"]]
            if self._shades:
                row["shade"] = plain(self._shades[row["key"]])
        return table

    def subtitle(self, *parts: str) -> str:
        """Return what stands below the title."""
        return "; ".join(part for part in (*parts, self._note) if part)

    def colour(self, *, legend: bool = True) -> alt.Color:
        """Return the colour by label: few groups each have their own; many, or ordered ones, go from blue to yellow.

        Where the frame has a column ``colour``, it is that, so that a group has the same one in figures of others.
        """
        shown = (
            alt.Legend(title=None, columns=math.ceil(min(len(self), MOST) / 18), symbolOpacity=1)
            if legend and len(self) > 1
            else None
        )
        order = alt.EncodingSortField(field="shade" if self._shades else "place", op="min", order="ascending")
        if self._colours:
            keys = sorted(self.keys, key=lambda key: self._shades.get(key, self._place[key]))
            return alt.Color(
                "label:N", sort=order, legend=shown, scale=alt.Scale(range=[self._colours[key] for key in keys])
            )
        kind = "O" if self._shades or len(self) > len(COLOURS) else "N"
        return alt.Color(f"label:{kind}", sort=order, legend=shown)


def colours(settings: pd.DataFrame) -> pd.DataFrame:
    """Return ``key`` and ``colour`` of the groups, which are rows: what a figure that drew all of them would choose."""
    count = len(settings)
    if count <= len(COLOURS) and "shade" not in settings.columns:
        return pd.DataFrame({"key": settings["key"], "colour": list(COLOURS[:count])})
    place = settings["shade"] if "shade" in settings.columns else pd.Series(np.arange(count), index=settings.index)
    along = (place - place.min()) / max(1, place.max() - place.min()) * (len(_ORDERED) - 1)
    stops = np.array([[int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in _ORDERED])
    mixed = np.column_stack([np.interp(along.to_numpy(float), range(len(_ORDERED)), part) for part in stops.T])
    told = ["#" + "".join(f"{round(part):02x}" for part in one) for one in mixed.tolist()]
    return pd.DataFrame({"key": settings["key"], "colour": told})


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
