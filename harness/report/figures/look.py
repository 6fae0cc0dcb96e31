"""The look of all figures, light and dark, and figures as specifications and as files."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import altair as alt
import vl_convert

from harness.report.figures.basis import COLOURS, LINE, MOST, ORDERED, Figure

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
            "ordinal": {"scheme": list(ORDERED)},
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
