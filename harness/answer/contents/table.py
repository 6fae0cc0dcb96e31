"""The table of settings: its columns, its rows, and the axes that it can be filtered by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.answer.tables import Tables
from harness.domain.duration import seconds, significant
from harness.domain.naming import axis

if TYPE_CHECKING:
    import numpy as np

    from harness.report.content import Axis, Cell, Heading, Row

_VALUES: Final = 30  # of an axis that the page can be filtered by
_NEVER: Final = 1e300  # what a time that is infinite is sorted by
_ENERGIES: Final = {
    "median_gpu_j_to_target": "GPU J to target",
    "median_gpu_j_per_sample": "GPU J/sample",
    "median_cpu_j_to_target": "CPU J to target",
    "median_cpu_j_per_sample": "CPU J/sample",
}


def columns(tables: Tables, doubts: Sequence[str]) -> tuple[tuple[Heading, ...], list[tuple[Cell, ...]]]:
    """Return the columns of the table of settings, and its cells row by row."""
    from harness.analyse.frames import floats
    from harness.report.content import Cell, Heading

    settings = tables.settings

    def number(column: str, text: Any) -> list[Cell]:
        return [_cell(value, text) for value in floats(settings, column).tolist()]

    found: list[tuple[Heading, list[Cell]]] = []
    if tables.gathered.target is not None:
        columns = ("median", "low", "high")
        spans = zip(*(floats(settings, f"{name}_time_to_target_s").tolist() for name in columns), strict=True)
        found.append(
            (
                Heading(
                    text=f"Time to {tables.goal_text}",
                    help=f"median of the repeats ({100 * tables.confidence:g} % interval)",
                ),
                [*map(_time, spans)],
            )
        )
        reached = [
            _share(*one) for one in zip(settings["reached"].tolist(), settings["reached_of"].tolist(), strict=True)
        ]
        found.append((Heading(text="Reached", help="trials that reached the target, of those that could"), reached))
    best = Heading(text=f"Best {tables.metric}", help="median over the repeats of each one's best epoch")
    digits = _decimals(floats(settings, "median_best"))
    found.append((best, number("median_best", lambda value: f"{value:.{digits}f}")))
    found.append((Heading(text="s/epoch", help="median"), number("median_train_s", significant)))
    found.append((Heading(text="Samples/s", help="median"), number("median_samples_per_s", lambda one: f"{one:,.0f}")))
    for column, title in _ENERGIES.items():
        cells = number(column, lambda value: f"{value:.3g}")
        if any(cell.sort is not None for cell in cells):
            found.append((Heading(text=title, help="median"), cells))
    done = [_share(*one) for one in zip(settings["completed"].tolist(), settings["trials"].tolist(), strict=True)]
    found.append((Heading(text="Trials", help="completed, of all"), done))
    if any(doubts):
        told = [Cell(text=one or "–", sort=one or None) for one in doubts]
        found.append((Heading(text="Doubts", numeric=False, help="warnings, and on how many trials"), told))
    kept = [one for one in found if any(cell.text != "–" for cell in one[1])]
    return tuple(heading for heading, _ in kept), list(zip(*(cells for _, cells in kept), strict=True))


def _decimals(values: np.ndarray) -> int:
    """Return how many decimals four significant digits of the smallest value are, or fewer where all end before."""
    numbers = [abs(float(f"{value:.4g}")) for value in values.tolist() if math.isfinite(value) and value != 0]
    if not numbers:
        return 0
    most = min(12, max(0, 3 - math.floor(math.log10(min(numbers)))))
    return next(digits for digits in range(most + 1) if digits == most or all(
        round(number, digits) == round(number, most) for number in numbers))  # fmt: skip


def _cell(value: float, text: Any) -> Cell:
    from harness.report.content import Cell

    if math.isnan(value):
        return Cell(text="–")
    return Cell(text=text(value), sort=value) if math.isfinite(value) else Cell(text="never", sort=_NEVER)


def _time(span: tuple[float, float, float]) -> Cell:
    from harness.report.content import Cell

    median, low, high = span
    if median != median:
        return Cell(text="–")
    within = f" ({seconds(low)} to {seconds(high)})" if low == low and high == high and low != high else ""
    return Cell(text=f"{seconds(median)}{within}", sort=min(median, _NEVER))


def _share(part: Any, of: Any) -> Cell:
    from harness.report.content import Cell

    if part != part or of != of or not of:
        return Cell(text="–")
    return Cell(text=f"{int(part)}/{int(of)}", sort=part / of)


def filter_axes(tables: Tables) -> tuple[tuple[Axis, ...], list[tuple[str, ...]]]:
    """Return what settings can be chosen by, and each setting's values: axes, arms and hardware where they vary."""
    from harness.report.content import Axis

    settings = tables.settings
    columns = dict(tables.varied)
    columns |= {name: name for name in ("arm", "hardware") if name in tables.by and settings[name].nunique() > 1}
    found, of_rows = [], []
    for path, column in columns.items():
        values = settings[column].tolist()
        texts = [axis(value) for value in values]
        distinct = {text: value for value, text in zip(values, texts, strict=True)}
        if 1 < len(distinct) <= _VALUES:
            found.append(Axis(name=path, values=tuple(sorted(distinct, key=lambda text: _order(distinct[text])))))
            of_rows.append(texts)
    rows: list[tuple[str, ...]] = list(zip(*of_rows, strict=True)) if of_rows else [()] * len(settings)
    return tuple(found), rows


def _order(value: Any) -> tuple[int, float, str]:
    """Return what sorts an axis's values: numbers by size, then texts, what is missing last."""
    text = axis(value)
    if text == "–":
        return 2, 0.0, ""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, text)


def table_rows(tables: Tables, cells: Sequence[tuple[Cell, ...]], values: Sequence[tuple[str, ...]]) -> tuple[Row, ...]:
    from harness.report.content import Row

    names = zip(*(tables.settings[name].tolist() for name in ("key", "label", "name")), strict=True)
    return tuple(
        Row(key=key, label=label, whole="" if whole == label else whole, axes=of_axes, cells=of_row)
        for (key, label, whole), of_axes, of_row in zip(names, values, cells, strict=True)
    )
