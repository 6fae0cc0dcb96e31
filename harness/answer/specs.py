"""Specifications of charts, as Vega-Lite has them, changed: other axes, fewer rows, other names of their data."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.report.figures import basis

if TYPE_CHECKING:
    import pandas as pd

_OTHERS: Final = {
    "linear": ("values", "labelOverlap"),
    "log": ("tickCount", "tickMinStep"),
}  # of axes of the other kind


def along(
    channel: Literal["x", "y"], spec: Mapping[str, Any], values: pd.Series, *, before: str = "", wide: bool = True
) -> dict[str, dict[str, Any]]:
    """Return a specification with the axis of these values as it fits them, linear, and logarithmic.

    Across, it fits values that are `wide` apart to be on a log scale; up, it fits as it is.
    """
    import numpy as np

    every = values.to_numpy(dtype=float, na_value=math.nan)
    numbers = every[np.isfinite(every)].tolist()
    positive = [one for one in numbers if one > 0]
    linear = basis.linear(numbers)
    kinds: dict[str, dict[str, Any]] = {"linear": {}, "log": basis.log_axis(positive) if positive else {}}
    found = {}
    for kind, axis in kinds.items():
        changed = copy.deepcopy(dict(spec))
        fields = set()
        for unit in units(changed):
            place = unit.get("encoding", {}).get(channel, {})
            if place.get("type") != "quantitative" or "field" not in place:
                continue
            whole = place.get("axis", {}).get("format") == "d"  # such numbers have their own ticks, and no room around
            kept = {name: one for name, one in place.get("scale", {}).items() if whole and name != "zero"}
            around = linear if kind == "linear" else {"nice": False, "padding": 8}
            place["scale"] = {**({"zero": False} if whole and kind == "linear" else around), **kept, "type": kind}
            if "axis" in place and not whole:
                place["axis"] = {name: one for name, one in place["axis"].items() if name not in _OTHERS[kind]} | axis
            fields.add(place["field"])
        if kind == "log":  # 0, as the untrained model's time, has no place on it
            for field in fields:
                changed = filtered(changed, f"!isNumber(datum.{field}) || datum.{field} > 0")
        found[before + kind] = changed
    fits = channel == "x" and wide and basis.spans(numbers)
    return {before + "auto": found[before + "log"] if fits else dict(spec), **found}


def filtered(spec: Mapping[str, Any], test: str) -> dict[str, Any]:
    """Return a specification that draws only what passes the test; what has not its fields must."""
    changed = copy.deepcopy(dict(spec))
    for unit in units(changed):
        unit["transform"] = [{"filter": test}, *unit.get("transform", [])]
    return changed


def units(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts that draw, of charts in layers and beside one another too."""
    if "mark" in spec:
        yield spec
    for kind in ("layer", "hconcat", "vconcat", "concat"):
        for inner in spec.get(kind, []):
            yield from units(inner)
    if isinstance(spec.get("spec"), dict):
        yield from units(spec["spec"])


def renamed(spec: Any, names: Mapping[str, str]) -> Any:
    """Return a specification with its data called by other names."""
    if isinstance(spec, list):
        return [renamed(one, names) for one in spec]
    if not isinstance(spec, dict):
        return spec
    found = {key: renamed(value, names) for key, value in spec.items()}
    if "name" in spec.get("data", {}):
        found["data"] = {"name": names[spec["data"]["name"]]}
    return found
