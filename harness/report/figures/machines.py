"""Hardware beside hardware: seconds an epoch, and what more of it brings."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, MOST, STEP, WIDTH, Figure, Width
from harness.report.figures.groups import Groups, named


def hardware(hardware: pd.DataFrame, *, most: int = MOST, width: Width = WIDTH, height: int | None = None) -> Figure:
    """Draw the seconds of training that an epoch takes, of each setting on each kind of hardware, with their intervals.

    `hardware` is what `harness.analyse.epoch_seconds` returns: ``hardware``, ``median_s``, ``low_s``, ``high_s``,
    ``n``, ``samples_per_s``, ``relative``. The first `most` settings are drawn. Seconds are on a log scale where they
    span more than a factor of 10. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = "training time of an epoch"
    basis.need(hardware, "hardware", "median_s")
    frame = hardware[hardware["median_s"].notna()]
    frame = frame.assign(**_by_setting(frame))
    groups = Groups(frame, most)
    fields = {"key": "key", "hardware": "hardware", "x": "median_s", "low": "low_s", "high": "high_s", "n": "n"}
    table = groups.label(
        basis.rows(groups.of(frame), fields | {"samples_per_s": "samples_per_s", "relative": "relative"})
    )
    if not table:
        return basis.nothing(told, "no epoch was measured", width=width, height=HEIGHT)
    kinds = list(dict.fromkeys(row["hardware"] for row in table))
    numbers = [row[field] for row in table for field in ("x", "low", "high") if row[field] is not None]
    axis = basis.axis([{"x": number} for number in numbers], "x")
    x = alt.X("x:Q", title="training time of an epoch (s)", scale=basis.scale(numbers), axis=axis)
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=300, symbolOpacity=1)
    colour = alt.Color(
        "hardware:O" if len(kinds) > len(basis.COLOURS) else "hardware:N",
        sort=None,
        legend=legend if len(kinds) > 1 else None,
    )
    beside: dict[str, Any] = {"yOffset": alt.YOffset("hardware:N", sort=None)} if len(kinds) > 1 else {}
    tooltip = [
        alt.Tooltip("label:N", title="setting"),
        alt.Tooltip("hardware:N"),
        alt.Tooltip("x:Q", title="an epoch (s), median", format=",.4~g"),
        alt.Tooltip("low:Q", title="low (s)", format=",.4~g"),
        alt.Tooltip("high:Q", title="high (s)", format=",.4~g"),
        alt.Tooltip("relative:Q", title="× the quickest", format=".3~g"),
        alt.Tooltip("samples_per_s:Q", title="samples a second", format=",.4~g"),
        alt.Tooltip("n:Q", title="repeats"),
    ]
    y = alt.Y("label:N", sort=None, title=None)
    base = alt.Chart(basis.data(table)).encode(y=y, color=colour, tooltip=tooltip, **beside)
    layers = [
        base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        .mark_rule(strokeWidth=2, opacity=0.7)
        .encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x),
    ]
    size: Any = height if height is not None else alt.Step(max(STEP, 14 * len(kinds)), **{"for": "position"})
    parts = ["median of the repeats", "line: its interval"]
    if len(kinds) == 1:
        parts.insert(0, str(kinds[0]))
    return alt.layer(*layers, width=width, height=size, title=basis.title(told, groups.subtitle(*parts)))


def nodes(fleet: pd.DataFrame, *, most: int = MOST, width: Width = WIDTH, height: int | None = None) -> Figure:
    """Draw each node's epoch time over the median of the nodes, with its interval, the slowest first.

    `fleet` are the records of `harness.analyse.fleet.Fleet`: ``node``, ``ratio``, ``low``, ``high``, ``trials``,
    ``verdict``. The first `most` nodes with a ratio are drawn. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for a frame without the columns, or `most` below 1.
    """
    told = "epoch time over the median of the nodes"
    basis.need(fleet, "node", "ratio")
    frame = fleet[fleet["ratio"].notna()]
    frame = frame.assign(key=frame["node"].astype(str), label=frame["node"].astype(str))
    groups = Groups(frame, most, noun="nodes")
    names = ("key", "ratio", "low", "high", "trials", "verdict")
    table = groups.label(basis.rows(groups.of(frame), {name: name for name in names if name in frame.columns}))
    if not table:
        return basis.nothing(told, "no setting ran on two nodes", width=width, height=HEIGHT)
    y = alt.Y("label:N", sort=None, title=None)
    tooltip = [
        alt.Tooltip("label:N", title="node"),
        alt.Tooltip("ratio:Q", title="× the median", format=".4~g"),
        alt.Tooltip("low:Q", format=".4~g"),
        alt.Tooltip("high:Q", format=".4~g"),
        alt.Tooltip("verdict:N", title="against the median"),
        alt.Tooltip("trials:Q"),
    ]
    base = alt.Chart(basis.data(table)).encode(y=y, tooltip=tooltip)
    x = alt.X("ratio:Q", title="× the median", scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(format="~g"))
    layers = [
        alt.Chart(basis.data([{"ratio": 1.0}])).mark_rule(color=LINE, strokeDash=[5, 4]).encode(x="ratio:Q"),
        base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        .mark_rule(strokeWidth=2, opacity=0.7)
        .encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x),
    ]
    size: Any = height if height is not None else alt.Step(STEP, **{"for": "position"})
    subtitle = groups.subtitle("dashed: the median", "line: a node's interval")
    return alt.layer(*layers, width=width, height=size, title=basis.title(told, subtitle))


def _by_setting(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the groups' keys and labels without the hardware, which stands beside them."""
    told = named(frame.drop(columns="hardware") if "key" not in frame.columns else frame)
    keys, labels = told["key"].astype(str), told["label"].astype(str)
    if "setting_id" not in frame.columns or frame["hardware"].nunique() < 2:
        return {"key": keys, "label": labels}
    same = frame["setting_id"].astype(str)
    if "arm" in frame.columns:
        same = same + " " + frame["arm"].astype(str)
    shorn = [
        label.removesuffix(str(kind)).rstrip() or "all" for label, kind in zip(labels, frame["hardware"], strict=True)
    ]
    return {"key": same, "label": pd.Series(shorn, index=frame.index)}


def scaling(scaling: pd.DataFrame, *, most: int = MOST, width: Width = WIDTH, height: int = HEIGHT) -> Figure:
    """Draw the speed-up over the number of CPUs, GPUs or nodes, a line a group, with its interval and the ideal.

    `scaling` is what `harness.analyse.scaling` or ``node_scaling`` returns for one resource: ``count``, ``speedup``,
    ``low``, ``high``, ``efficiency``, ``amdahl_speedup``, ``n``; ``resource`` names it, nodes without it. The dashed
    line is the ideal: a speed-up as large as the ratio of the counts. Dotted lines are Amdahl's curves through the
    measured points, of 8 groups at most. The first `most` groups are drawn. An empty frame gives an empty figure that
    says so.

    Raises:
        ValueError: for a frame without the columns, of several resources, or `most` below 1.
    """
    resource = "nodes"
    if "resource" in scaling.columns and not scaling.empty:
        found = scaling["resource"].unique().tolist()
        if len(found) > 1:
            raise ValueError(f"the frame is of several resources ({', '.join(map(str, found))}); draw each alone")
        resource = str(found[0])
    name = {"cpus": "CPUs", "gpus": "GPUs"}.get(resource, resource)
    told = f"speed-up by the number of {name}"
    basis.need(scaling, "count", "speedup")
    frame = scaling[scaling["count"].notna() & scaling["speedup"].notna()]
    if "label" not in frame.columns and "work" in frame.columns:
        frame = frame.assign(label=frame["trials"].astype(str) + " trials (" + frame["work"].astype(str) + ")")
    if frame.empty:
        return basis.nothing(told, f"nothing ran on several numbers of {name}", width=width, height=height)
    frame = named(frame)
    groups = Groups(frame, most, noun="groups")
    names = ("key", "count", "speedup", "low", "high", "efficiency", "amdahl_speedup", "amdahl_serial_fraction", "n")
    table = groups.label(basis.rows(groups.of(frame), {field: field for field in names}))
    least, largest = min(row["count"] for row in table), max(row["count"] for row in table)
    values = [row[field] for row in table for field in ("speedup", "low", "high") if row[field] is not None]
    log = basis.spans([least, largest, *values], factor=10.0)
    kind: dict[str, Any] = {"type": "log", "nice": False, "padding": 12} if log else {"zero": False, "padding": 12}
    counts = sorted({row["count"] for row in table})
    ticks = alt.Axis(values=counts, format="~g") if len(counts) <= 12 else alt.Axis(tickCount=6, format="~g")
    x = alt.X("count:Q", title=name, scale=alt.Scale(**kind), axis=ticks)
    axis = alt.Axis(tickCount=6, format="~g")
    y = alt.Y("speedup:Q", title=f"speed-up over {least:g}", scale=alt.Scale(**kind), axis=axis)
    tooltip = [
        alt.Tooltip("label:N", title="setting"),
        alt.Tooltip("count:Q", title=name, format="~g"),
        alt.Tooltip("speedup:Q", title="speed-up", format=".3~g"),
        alt.Tooltip("low:Q", format=".3~g"),
        alt.Tooltip("high:Q", format=".3~g"),
        alt.Tooltip("efficiency:Q", format=".0%"),
        alt.Tooltip("amdahl_serial_fraction:Q", title="serial, by Amdahl", format=".2%"),
        alt.Tooltip("n:Q", title="repeats"),
    ]
    colour = groups.colour()
    pick = basis.highlight()
    shown = alt.when(pick).then(alt.value(1.0)).otherwise(alt.value(0.12))
    base = alt.Chart(basis.data(table)).encode(x=x, color=colour, opacity=shown, detail="key:N")
    ideal = [{"count": count, "speedup": count / least} for count in counts]
    layers: list[Any] = [
        alt.Chart(basis.data(ideal)).mark_line(color=LINE, strokeDash=[5, 4]).encode(x="count:Q", y="speedup:Q")
    ]
    parts = ["dashed: ideal", "vertical lines: intervals"]
    if len(groups) <= len(basis.COLOURS) and any(row["amdahl_speedup"] is not None for row in table):
        layers.append(base.mark_line(strokeDash=[2, 3], strokeWidth=1.2).encode(y="amdahl_speedup:Q"))
        parts.append("dotted: Amdahl's curve")
    layers += [
        base.mark_line(strokeWidth=2).encode(y=y).add_params(pick),
        base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule().encode(y="low:Q", y2="high:Q"),
        base.mark_point(**basis.wide(50)).encode(y=y, tooltip=tooltip),
    ]
    return alt.layer(*layers, width=width, height=height, title=basis.title(told, groups.subtitle(*parts)))
