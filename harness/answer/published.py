"""Published values beside measured ones, as text: what a terminal and a page show of each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.domain.applied import Applied, applied
from harness.domain.component import text
from harness.domain.duration import significant
from harness.domain.errors import ResultsError, SuiteError
from harness.domain.metrics import goal_text
from harness.domain.reference import TIME_TO_TARGET, Alike, Direction, Reference
from harness.record import runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.analyse.references import Judged

_EPOCHS = {"last": "last epoch", "best": "best epoch", "all": "median epoch"}


def recorded_with(folder: Path, run: Mapping[str, Any]) -> list[Applied]:
    """Return the references in run.json.

    Raises:
        ResultsError: naming the file, when they are not what a harness wrote.
    """
    try:
        return [applied(plain) for plain in run.get("references", ())]
    except (SuiteError, TypeError, AttributeError) as error:
        raise ResultsError(f"{folder / runs.FILE}: its references cannot be read ({error}); restore it") from error


def line(row: Judged) -> dict[str, str]:
    """Return a row's cells by their heading."""
    return {
        "reference": row.reference.name,
        "settings": settings(row),
        "arm": row.arm or "",
        "quantity": _quantity(row),
        "published": _published(row),
        "measured": _measured(row),
        "repeats": str(row.repeats) if row.repeats else "",
        "verdict": _verdict(row),
    }


def sources(rows: Iterable[Judged]) -> list[str]:
    """Return what was published where, and what is to be known of it: a sentence each, with the references' names."""
    told: dict[str, dict[str, None]] = {}
    for row in rows:
        for said in (row.reference.source, row.reference.note):
            if said:
                told.setdefault(said, {})[row.reference.name] = None
    return [f"{', '.join(names)}: {said}" for said, names in told.items()]


def settings(row: Judged) -> str:
    """Return which settings a reference is of."""
    if isinstance(row.reference, Direction):
        return f"{row.reference.higher}  >  {row.reference.lower}"
    if isinstance(row.reference, Alike) and row.reference.where == "true":
        return f"all {len(row.setting_ids)}" if len(row.setting_ids) > 1 else ""
    told = " ".join(f"{path}={text(value)}" for path, value in row.point.items())
    return told or ("" if row.reference.where == "true" else row.reference.where)


def _quantity(row: Judged) -> str:
    reference, epoch = row.reference, row.reference.epoch
    at = "" if epoch is None else f", {_EPOCHS.get(str(epoch), f'epoch {epoch}')}"
    mean = isinstance(reference, Reference) and reference.over and row.setting_ids
    metric = (
        reference.metric.replace(TIME_TO_TARGET, f"time to {_goal(row.target)}") if row.target else reference.metric
    )
    return f"{metric}{at}" + (f", mean of {len(row.setting_ids)}" if mean else "")


def _goal(target: Mapping[str, Any]) -> str:
    return goal_text(target["metric"], target.get("at_least"), target.get("at_most"))


def _published(row: Judged) -> str:
    reference = row.reference
    if isinstance(reference, Direction):
        return "higher > lower"
    if isinstance(reference, Alike):
        return f"≤ {_exact(reference.most)} × apart"
    told = []
    if reference.value is not None:
        told.append(
            _exact(reference.value) + ("" if reference.tolerance is None else f" ± {_exact(reference.tolerance)}")
        )
    if reference.at_least is not None:
        told.append(f"≥ {_exact(reference.at_least)}")
    if reference.at_most is not None:
        told.append(f"≤ {_exact(reference.at_most)}")
    return ", ".join(told) + _unit(row)


def _measured(row: Judged) -> str:
    if row.measured is None:
        return "–"
    if isinstance(row.reference, Alike) and row.lower is not None:
        return f"{_figure(row, row.lower)} to {_figure(row, row.measured)}{_unit(row)}: {row.ratio:.2f} ×"
    if row.lower is not None:
        sign = ">" if row.measured > row.lower else "≤"
        return f"{_figure(row, row.measured)} {sign} {_figure(row, row.lower)}{_unit(row)}"
    std = "" if row.std is None else f" ± {_figure(row, row.std, beside=row.measured)}"
    return f"{_figure(row, row.measured)}{std}{_unit(row)}"


def _verdict(row: Judged) -> str:
    by = None if row.by is None else f"{_figure(row, abs(row.by))}{_unit(row)}"
    if row.verdict == "none":
        return f"– {row.reason}"
    if row.verdict == "not measured":
        return f"not measured ({row.reason})"
    if isinstance(row.reference, Alike):
        if row.verdict == "reproduced":
            return "reproduced"
        return f"missed by {row.by:.2f} ×" if row.by is not None else f"missed ({row.reason})"
    if isinstance(row.reference, Direction):
        from harness.analyse.standing import standing

        unsure = " (unsure)" if standing(row) == "undecided" else ""
        return ("reproduced" if by is None else f"missed by {by}") + unsure
    if row.reference.value is not None:
        return "reproduced" if by is None else f"missed by {by}"
    if by is None or row.by is None:
        return "met"
    return f"exceeds by {by}" if row.by > 0 else f"falls short by {by}"


def _is_time(row: Judged) -> bool:
    """Tell whether it is a time, or a sum of times."""
    metric = row.reference.metric.replace(TIME_TO_TARGET, "train_s")
    return metric.endswith("_s") and not metric.endswith("per_s") and not set("*/") & set(metric)


def _unit(row: Judged) -> str:
    return " s" if _is_time(row) else ""


def _exact(value: float) -> str:
    """Return a published figure as it was written; large whole numbers with commas."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.12g}"


def _figure(row: Judged, value: float, beside: float | None = None) -> str:
    """Return a measured figure with as many digits as its published ones ask for.

    A time has three significant digits, or as many decimals as the one that it stands `beside`.
    """
    reference = row.reference
    expected = [reference.value, reference.at_least, reference.at_most] if isinstance(reference, Reference) else []
    told = [one for one in expected if one is not None]
    if _is_time(row):
        decimals = len(significant(beside or value).partition(".")[2])
        return f"{value:.{decimals}f}"
    if told and value == int(value) and all(one == int(one) for one in told):
        return f"{value:,.0f}"
    if told and value and abs(value) < 1e-3 and max(map(abs, told)) < 1e-3:
        return f"{value:.3g}"
    tolerance = reference.tolerance if isinstance(reference, Reference) else None
    finest = max((len(_exact(one).partition(".")[2]) for one in told if "e" not in _exact(one)), default=0)
    finest = max(finest, 1 - math.floor(math.log10(tolerance)) if tolerance else 0)
    return f"{value:.{min(max(4, finest), 12)}f}"
