"""Which groups a figure draws: their names, their order and their colours."""

from __future__ import annotations

import math
from typing import Final

import altair as alt
import numpy as np
import pandas as pd

from harness.report.figures.basis import COLOURS, MOST, ORDERED, Rows, plain

_IDENTITY: Final = ("setting_id", "arm", "hardware")


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
    along = (place - place.min()) / max(1, place.max() - place.min()) * (len(ORDERED) - 1)
    stops = np.array([[int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in ORDERED])
    mixed = np.column_stack([np.interp(along.to_numpy(float), range(len(ORDERED)), part) for part in stops.T])
    told = ["#" + "".join(f"{round(part):02x}" for part in one) for one in mixed.tolist()]
    return pd.DataFrame({"key": settings["key"], "colour": told})
