"""What the hardware did while trials ran."""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import pandas as pd

from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, WIDTH, Figure, Rows, Width
from harness.report.figures.groups import Groups

# How a metric's readings are told: title, and by what its values are divided for that. In the order of the panels.
_TOLD: Final = {
    "cpu_percent": ("CPU (%)", 1.0),
    "rss_bytes": ("memory (GB)", 1e9),
    "cpu_frequency_hz": ("CPU clock (GHz)", 1e9),
    "temperature_c": ("sensor (°C)", 1.0),
    "gpu_utilisation_percent": ("GPU (%)", 1.0),
    "gpu_memory_used_bytes": ("GPU mem. (GB)", 1e9),
    "gpu_power_w": ("GPU (W)", 1.0),
    "gpu_sm_clock_hz": ("GPU clock (GHz)", 1e9),
    "gpu_temperature_c": ("GPU (°C)", 1.0),
}
_TRIALS: Final = 12
_MARKS: Final = 100  # ends of epochs of a trial


def telemetry(
    readings: pd.DataFrame,
    marks: pd.DataFrame | None = None,
    *,
    most: int = _TRIALS,
    width: Width = WIDTH,
    height: int = 74,
) -> Figure:
    """Draw what the hardware did while trials ran: a panel a metric, one above the other, a line a trial.

    `readings` is what `harness.analyse.readings.trial_readings` returns (``metric``, ``time_s``, ``value``), with
    ``trial``, which names each, or ``trial_id``; ``length_s``, if there, shades the span of a trial that is drawn
    alone. `marks` is what `trial_epochs` of the same module returns: the ends of
    the epochs are ticks at the foot of each panel, and lines through it where there is one trial; of more than 100
    epochs evenly spaced ones. The first `most` trials are drawn, of each and each metric 200 readings at most;
    `height` is a panel's, and so is `width`: Vega-Lite does not know "container" where panels are joined, so that
    whoever shows them so sets it. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = "the hardware while trials ran"
    basis.need(readings, "metric", "time_s", "value")
    frame = _by_trial(readings[readings["value"].notna() & readings["metric"].isin(list(_TOLD))])
    groups = Groups(frame, most, noun="trials")
    fields = {"x": "time_s", "value": "value", "metric": "metric", "devices": "devices", "end": "length_s"}
    table = [row for row in _rows(frame, groups, fields) if basis.known(row, "x", "value")]
    if not table:
        return basis.nothing(told, "nothing was read while these trials ran", width=width, height=HEIGHT)
    ends = (
        []
        if marks is None
        else basis.thinned(_rows(_by_trial(marks), groups, {"x": "end_s", "epoch": "epoch"}), _MARKS)
    )
    drawn = [metric for metric in _TOLD if any(row["metric"] == metric for row in table)]
    panels = [
        _panel(
            *_TOLD[metric], [row for row in table if row["metric"] == metric], _keyed(ends), groups,
            last=metric == drawn[-1], width=width, height=height,
        )
        for metric in drawn
    ]  # fmt: skip
    parts = ["ticks: ends of epochs"] if ends else []
    if len(groups) == 1:
        parts.insert(0, table[0]["label"])
        if table[0]["end"] is not None:
            parts.append("shaded: while it ran")
    joined: alt.VConcatChart = alt.vconcat(*panels, spacing=8, title=basis.title(told, groups.subtitle(*parts)))
    shared: alt.VConcatChart = joined.resolve_scale(x="shared", color="shared")
    return shared


def _by_trial(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with a group a trial; ``group`` is the key of its setting."""
    name = "trial" if "trial" in frame.columns else "trial_id"
    basis.need(frame, name)
    names = frame[name].astype(str)
    kept = frame.drop(columns="shade", errors="ignore")
    return kept.assign(group=frame["key"] if "key" in frame.columns else names, key=names, label=names)


def _rows(frame: pd.DataFrame, groups: Groups, fields: dict[str, str]) -> Rows:
    return groups.label(basis.rows(groups.of(frame), {"key": "key", "group": "group", **fields}))


def _keyed(table: Rows) -> Rows:
    """Return rows by their settings' keys, after they were by trials."""
    return [{**{name: cell for name, cell in row.items() if name != "group"}, "key": row["group"]} for row in table]


def _panel(
    name: str, unit: float, table: Rows, ends: Rows, groups: Groups, *, last: bool, width: Width, height: int
) -> Figure:
    colour = groups.colour()
    points = _keyed(basis.thinned(table))
    for row in points:
        row["value"] = row["value"] / unit
    x = alt.X(
        "x:Q",
        title="time since the trial's start (s)" if last else None,
        scale=alt.Scale(nice=False),
        axis=alt.Axis(labels=last, ticks=last, tickCount=5),
    )
    y_scale = alt.Scale(zero="%" in name, nice=True)
    y = alt.Y("value:Q", title=name, scale=y_scale, axis=alt.Axis(tickCount=2, titleFontSize=10, titleAnchor="middle"))
    tooltip = [
        alt.Tooltip("label:N", title="trial"),
        alt.Tooltip("x:Q", title="time (s)", format=".4~g"),
        alt.Tooltip("value:Q", title=name, format=",.4~g"),
        alt.Tooltip("devices:Q", title="devices"),
    ]
    layers: list[Any] = []
    spans = [{**row, "x": 0} for row in {row["key"]: row for row in table}.values() if row["end"] is not None]
    if spans:
        of_one = alt.Chart(basis.data(_keyed(spans))).transform_joinaggregate(trials="distinct(label)")
        span = of_one.transform_filter("datum.trials === 1").mark_rect(color=LINE, opacity=0.12)
        layers.append(span.encode(x=x, x2="end:Q"))
    if ends:
        told = [alt.Tooltip("label:N", title="trial"), alt.Tooltip("epoch:Q", title="end of epoch"),
                alt.Tooltip("x:Q", title="time (s)", format=".4~g")]  # fmt: skip
        base = alt.Chart(basis.data(ends)).encode(x=x, tooltip=told)
        if len(groups) == 1:
            layers.append(base.mark_rule(color=LINE, opacity=0.35))
        else:
            tick = base.mark_tick(orient="vertical", size=6, thickness=1, opacity=0.8)
            layers.append(tick.encode(y=alt.value(height - 3), color=colour))
    line = alt.Chart(basis.data(points)).encode(x=x, y=y, color=colour, detail="label:N")
    layers += [line.mark_line(strokeWidth=1.4), line.mark_point(**basis.wide(8)).encode(tooltip=tooltip)]
    return alt.layer(*layers, width=width, height=height)
