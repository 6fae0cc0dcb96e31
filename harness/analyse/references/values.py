"""Published values and bounds beside the median of the repeats.

The median is held against the value, within the larger of the tolerance and three standard deviations of the repeats,
since a published figure is of one run. A bound is held against the median alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.analyse.references.judged import Judged, Verdict
from harness.analyse.references.recorded import NotRecordedError, Recorded, no_number
from harness.domain.reference import Reference

_STANDARD_DEVIATIONS = 3


def beside(reference: Reference, groups: Sequence[Sequence[str]], recorded: Recorded) -> list[Judged]:
    """Return a row for each group of settings and arm, and one for what was not run."""
    found = []
    missing = 0
    for ids in groups:
        rows = recorded.select(ids, reference.where)
        missing += not len(rows)
        for arm, of_arm in recorded.by_arm(rows):
            found.append(_row(reference, tuple(ids), arm, of_arm, recorded))
    if missing or not groups:
        reason = recorded.not_run if groups else "no trial of this run meets it"
        if found:
            reason = f"not run: {missing} of {len(groups)} settings"
        ids = tuple(one for group in groups for one in group) if not found else ()
        found.append(Judged(reference=reference, setting_ids=ids, reason=reason))
    return found


def _row(reference: Reference, ids: tuple[str, ...], arm: str, rows: np.ndarray, recorded: Recorded) -> Judged:
    about: dict[str, Any] = {"reference": reference, "setting_ids": ids, "arm": arm}
    about |= {"point": recorded.point(rows, without=reference.over), "target": recorded.goal(reference)}
    other = ""
    if reference.hardware is not None:
        here = recorded.on(reference.hardware, rows)
        other = "" if len(here) else f"{'for' if reference.value is None else 'published on'} {reference.hardware}"
        rows = here if len(here) else rows
    judged = reference.can_be_judged and not other
    unmeasured: Verdict = "not measured" if judged else "none"
    if bad := recorded.not_completed(rows):
        return Judged(**about, verdict=unmeasured, reason=other or bad)
    try:
        values = recorded.values(reference, rows)
    except NotRecordedError as error:
        return Judged(**about, verdict=unmeasured, reason=other or str(error))
    if reason := no_number(reference, values):
        return Judged(**about, verdict=unmeasured, reason=other or reason)
    by_seed = recorded.trials.iloc[rows].assign(value=values).groupby("seed", sort=False)
    complete = by_seed["setting_id"].nunique() == len(ids)
    repeats = by_seed["value"].mean()[complete].to_numpy()
    if not len(repeats):
        most = by_seed["setting_id"].nunique().max()
        return Judged(**about, reason=f"not run: {len(ids) - most} of the {len(ids)} that the mean is over")
    measured = float(np.median(repeats))
    std = float(np.std(repeats, ddof=1)) if len(repeats) > 1 else None
    about |= {"measured": measured, "std": std, "repeats": len(repeats)}
    if not judged:
        return Judged(**about, reason=other or "for comparison")
    by = _outside(reference, measured, std)
    return Judged(**about, verdict="missed" if by else "reproduced", by=by or None)


def _outside(reference: Reference, measured: float, std: float | None) -> float:
    """Return how far the median lies outside what is expected: positive above, negative below, 0 within."""
    low, high = reference.at_least, reference.at_most
    if reference.value is not None:
        slack = max(reference.tolerance or 0.0, _STANDARD_DEVIATIONS * (std or 0.0))
        slack += 1e-9 * slack + 1e-12 * abs(reference.value)  # what is lost in writing decimals as binary numbers
        low, high = reference.value - slack, reference.value + slack
    if high is not None and measured > high:
        return measured - high
    if low is not None and measured < low:
        return measured - low
    return 0.0
