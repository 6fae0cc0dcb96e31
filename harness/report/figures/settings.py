"""One setting beside another: what its training costs, and what it reaches."""

from __future__ import annotations

import math
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd

from harness.domain.metrics import METRICS
from harness.report.figures import basis
from harness.report.figures.basis import HEIGHT, LINE, MOST, WIDTH, Figure, Width
from harness.report.figures.groups import Groups, named

_ENERGY: Final = {"gpu_j": ("front_gpu", "energy of the GPUs (J)"), "cpu_j": ("front_cpu", "energy of the CPUs (J)")}
_NAMED: Final = 6  # settings on the front; the names of more cover one another


def front(
    settings: pd.DataFrame,
    *,
    metric: str,
    energy: str | None = None,
    most: int = MOST,
    width: Width = WIDTH,
    height: int = HEIGHT,
) -> Figure:
    """Draw a point a setting: the time of the whole training, or with `energy` the energy, against the best value.

    Columns of `settings`: ``median_total_train_s``, or `energy` (``gpu_j``, ``cpu_j``) itself, ``median_best``, and,
    as far as there, ``front`` (``front_gpu``, ``front_cpu``): whether nothing else is both cheaper and better. Those on
    the front are filled and joined. Settings without either value are left out; the cost is on a log scale where it
    spans more than a factor of 10. An empty frame gives an empty figure that says so.

    Raises:
        ValueError: for another `energy`, for a frame without the columns, or `most` below 1.
    """
    if energy is not None and energy not in _ENERGY:
        raise ValueError(f"energy={energy!r}: the energies are {', '.join(_ENERGY)}")
    column, marked, cost = "median_total_train_s", "front", "training time of a trial (s)"
    if energy is not None:
        column, (marked, cost) = energy, _ENERGY[energy]
    told = f"best {metric} against {'energy' if energy else 'training time'}"
    basis.need(settings, column, "median_best")
    settings = named(settings)
    finite = np.isfinite(settings[[column, "median_best"]].to_numpy(dtype=np.float64, na_value=np.nan)).all(axis=1)
    groups = Groups(settings[finite], most)
    fields = {"key": "key", "x": column, "value": "median_best", "front": marked, "n": "trials"}
    table = groups.label(basis.rows(groups.of(settings[finite]), fields))
    if not table:
        why = "no energy was measured" if energy else f"no {metric} was measured"
        return basis.nothing(told, why, width=width, height=height)
    for row in table:
        row["front"] = bool(row["front"])
    bounded = metric in METRICS and METRICS[metric].high is not None
    worth = [] if bounded else table
    costs, values = [row["x"] for row in table], [row["value"] for row in worth]
    pick = basis.highlight()
    shown = alt.when(pick).then(alt.value(1.0)).otherwise(alt.value(0.12))
    x = alt.X("x:Q", title=cost, scale=basis.scale(costs), axis=basis.axis(table, "x"))
    y = alt.Y("value:Q", title=f"best {metric}, median", scale=basis.scale(values), axis=basis.axis(worth, "value"))
    colour = groups.colour()
    tooltip = [
        alt.Tooltip("label:N", title="setting"),
        alt.Tooltip("x:Q", title=cost, format=",.4~g"),
        alt.Tooltip("value:Q", title=f"best {metric}, median", format=".4~g"),
        alt.Tooltip("front:N", title="on the front"),
        alt.Tooltip("n:Q", title="trials"),
    ]
    base = alt.Chart(basis.data(table)).encode(x=x, y=y)
    on, off = base.transform_filter("datum.front"), base.transform_filter("!datum.front")
    layers = [
        on.mark_line(color=LINE, strokeDash=[2, 2], strokeWidth=1.6).encode(order="x:Q"),
        off.mark_point(filled=False, size=60, strokeWidth=1.6).encode(color=colour, opacity=shown, tooltip=tooltip),
        on.mark_point(filled=True, size=110).encode(color=colour, opacity=shown, tooltip=tooltip).add_params(pick),
    ]
    best = sum(row["front"] for row in table)
    if 1 <= best <= _NAMED and len(table) > 1:
        words: dict[str, Any] = {"fontSize": 10, "limit": 180, "dy": -10}
        middle = math.log if basis.spans(costs) else float
        halfway = (middle(min(costs)) + middle(max(costs))) / 2
        for row in table:
            row["right"] = middle(row["x"]) > halfway
        left, right = on.transform_filter("!datum.right"), on.transform_filter("datum.right")
        layers.append(left.mark_text(align="left", dx=-4, **words).encode(text="label:N"))
        layers.append(right.mark_text(align="right", dx=4, **words).encode(text="label:N"))
    note = "filled: nothing else is both cheaper and better" if best else ""
    return alt.layer(
        *layers, width=width, height=height, title=basis.title(told, groups.subtitle("median of the repeats", note))
    )
