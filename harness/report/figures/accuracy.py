"""What a training reaches, and when: curves."""

from __future__ import annotations

from typing import Any, Final, Literal

import altair as alt
import pandas as pd

from harness.domain.metrics import METRICS
from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, MOST, WIDTH, Figure, Rows, Width
from harness.report.figures.groups import Groups, named

_BANDS: Final = 8  # groups; the bands of more cover one another
_OVER: Final = {
    "time": ("time_s", "training time (s)"),
    "epoch": ("epoch", "epoch"),
    "samples": ("samples", "samples trained on"),
}


def time_accuracy(
    curves: pd.DataFrame,
    settings: pd.DataFrame | None = None,
    *,
    metric: str,
    target: float | None = None,
    front: pd.DataFrame | None = None,
    untrained: bool = False,
    most: int = MOST,
    width: Width = WIDTH,
    height: int = HEIGHT,
) -> Figure:
    """Draw the median of a metric against training time, a line a group.

    `curves` is what `harness.analyse.curves` returns (``time_s``, ``value``, ``low``, ``high``, ``n``, ``epoch``);
    `settings` only gives the order of rank, in which the first `most` groups are drawn; without it that of `curves`.
    `front`: the rows of `curves` on the front of time and metric, drawn as steps over the lines: at each time the best
    median so far, of all settings. The axis of time is logarithmic where times span more than a factor of 10. What was
    measured before any training (epoch 0, at 0 s) is there if it is asked for by `untrained`, and then on a linear
    axis: it takes most of the other one, too. Of each line 200 points are drawn at most. An empty frame gives an empty
    figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = f"{metric} against training time"
    basis.need(curves, "time_s", "value")
    if settings is not None:
        settings = named(settings)
    table, groups = _table(curves, settings, "time_s", most, untrained)
    if not table:
        return basis.nothing(told, f"no {metric} was measured", width=width, height=height)
    pick = basis.highlight()
    x = alt.X("x:Q", title="training time (s)", scale=basis.scale(_each(table, "x")), axis=basis.axis(table, "x"))
    layers: list[Any] = [*_lines(table, groups, metric, x, "training time (s)", pick)]
    parts = ["median of the repeats"]
    if front is not None and not front.empty:
        stairs = basis.rows(named(front), {**_FIELDS, "x": "time_s", "key": "key", "label": "label"})
        stairs = [row for row in stairs if basis.known(row, "x", "value")]
        names = groups.labels
        for row in stairs:
            row["label"] = names.get(row["key"], row["label"])
        if stairs:
            last = max(_each(table, "x"))
            line = alt.Chart(basis.data([*stairs, {**stairs[-1], "x": last}]))
            layers.append(
                line.mark_line(color=LINE, strokeDash=[2, 2], strokeWidth=1.6, interpolate="step-after").encode(
                    x="x:Q", y="value:Q", tooltip=_tooltip(metric, "training time (s)")
                )
            )
            parts.append("dotted steps: the best by each time")
    if target is not None:
        layers.append(basis.rule_at(target, channel="y", text=f"target {target:g}"))
    return alt.layer(*layers, width=width, height=height, title=basis.title(told, groups.subtitle(*parts)))


def learning_curves(
    curves: pd.DataFrame,
    *,
    metric: str,
    over: Literal["time", "epoch", "samples"] = "time",
    target: float | None = None,
    untrained: bool = False,
    most: int = MOST,
    width: Width = WIDTH,
    height: int = HEIGHT,
) -> Figure:
    """Draw the median of a metric as training goes on, with the band from ``low`` to ``high`` of the repeats.

    `curves` is what `harness.analyse.curves` returns. Bands are there where there is more than one repeat, and seen
    while 8 groups or fewer are shown; the rest is as in `time_accuracy`, and an axis of epochs is never logarithmic.

    Raises:
        ValueError: for another `over`, for a frame without the columns, or `most` below 1.
    """
    if over not in _OVER:
        raise ValueError(f"over={over!r}: learning curves go over {', '.join(_OVER)}")
    column, x_title = _OVER[over]
    told = f"{metric} over {'training time' if over == 'time' else 'samples' if over == 'samples' else 'epochs'}"
    basis.need(curves, column, "value")
    table, groups = _table(curves, None, column, most, untrained)
    if not table:
        return basis.nothing(told, f"no {metric} was measured", width=width, height=height)
    if over == "epoch":
        x = alt.X("x:Q", title=x_title, scale=alt.Scale(nice=False), axis=_whole(_each(table, "x")))
    else:
        x = alt.X("x:Q", title=x_title, scale=basis.scale(_each(table, "x")), axis=basis.axis(table, "x"))
    layers: list[Any] = []
    parts = ["median of the repeats"]
    repeats = [row["n"] or 2 for row in table if basis.known(row, "low", "high")]
    if max(repeats, default=1) > 1:
        few = f"datum.groups <= {_BANDS} && isValid(datum.low) && isValid(datum.high)"
        band = alt.Chart(basis.data(table)).transform_joinaggregate(groups="distinct(key)").transform_filter(few)
        layers.append(
            band.mark_area(opacity=0.16).encode(x=x, y="low:Q", y2="high:Q", color=groups.colour(), detail="key:N")
        )
        if len(groups) <= _BANDS:
            parts.append("band: " + ("quartiles" if min(repeats) >= _QUARTILES else "least to most"))
    layers += _lines(table, groups, metric, x, x_title, basis.highlight())
    if target is not None:
        layers.append(basis.rule_at(target, channel="y", text=f"target {target:g}"))
    return alt.layer(*layers, width=width, height=height, title=basis.title(told, groups.subtitle(*parts)))


_QUARTILES: Final = 5  # repeats; of fewer, `curves` gives the least and the most
_FIELDS: Final = {"epoch": "epoch", "value": "value", "low": "low", "high": "high", "n": "n"}


def _table(
    curves: pd.DataFrame, settings: pd.DataFrame | None, column: str, most: int, untrained: bool
) -> tuple[Rows, Groups]:
    curves = named(curves)
    if not untrained and "epoch" in curves.columns:
        curves = curves[curves["epoch"] != 0]
    drawn = curves[curves[column].notna() & curves["value"].notna()]
    ranked = drawn
    if settings is not None:
        ranked = settings[settings["key"].isin(drawn["key"].unique())]
    groups = Groups(ranked, most)
    table = basis.rows(groups.of(drawn), {"key": "key", "x": column, **_FIELDS})
    table = [row for row in table if basis.known(row, "x", "value")]
    return groups.label(basis.thinned(table)), groups


def _each(table: Rows, field: str) -> list[Any]:
    return [row[field] for row in table]


def _whole(numbers: list[Any]) -> alt.Axis:
    """Return the axis of epochs, at whole numbers only."""
    least, most = min(numbers), max(numbers)
    step = max(1, round((most - least) / 20))
    return alt.Axis(values=list(range(int(least), int(most) + 1, step)), format="d", labelOverlap="greedy")


def _lines(table: Rows, groups: Groups, metric: str, x: alt.X, x_title: str, pick: alt.Parameter) -> list[alt.Chart]:
    """Return the lines of the medians, and their points, which have the tooltips."""
    bounded = metric in METRICS and METRICS[metric].high is not None
    values = [] if bounded else [row["value"] for row in table]
    y = alt.Y("value:Q", title=metric, scale=basis.scale(values), axis=basis.axis([] if bounded else table, "value"))
    shown = alt.when(pick).then(alt.value(1.0)).otherwise(alt.value(0.12))
    base = alt.Chart(basis.data(table)).encode(x=x, y=y, color=groups.colour(), detail="key:N", opacity=shown)
    crowded = len(table) > 400
    points = base.mark_point(**basis.wide(12 if crowded else 28))
    return [
        base.mark_line(strokeWidth=1.2 if len(groups) > _BANDS else 2).add_params(pick),
        points.encode(tooltip=_tooltip(metric, x_title)),
    ]


def _tooltip(metric: str, x_title: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="setting"),
        alt.Tooltip("epoch:Q", title="epoch"),
        alt.Tooltip("x:Q", title=x_title, format=",.4~g"),
        alt.Tooltip("value:Q", title=f"{metric}, median", format=".4~g"),
        alt.Tooltip("low:Q", title="low", format=".4~g"),
        alt.Tooltip("high:Q", title="high", format=".4~g"),
        alt.Tooltip("n:Q", title="repeats"),
    ]
