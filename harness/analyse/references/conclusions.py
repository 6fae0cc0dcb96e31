"""Published conclusions: directions and likenesses, held against the medians and what the repeats show of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.analyse.references.judged import Judged
from harness.analyse.references.recorded import NotRecordedError, Recorded, no_number
from harness.domain.component import text
from harness.domain.expression import Expression
from harness.domain.reference import Alike, Direction


def direction(reference: Direction, groups: Sequence[Sequence[str]], recorded: Recorded) -> Judged:
    """Judge a direction by the medians of its two groups."""
    about: dict[str, Any] = {"reference": reference, "setting_ids": tuple(one for group in groups for one in group)}
    found = [recorded.select(ids, where) for ids, where in zip(groups, reference.conditions, strict=True)]
    if not all(map(len, found)):
        return Judged(**about, reason=recorded.not_run if all(groups) else "no trial of this run meets it")
    about["target"] = recorded.goal(reference)
    rows = np.concatenate(found)
    if bad := recorded.not_completed(rows):
        return Judged(**about, verdict="not measured", reason=bad)
    try:
        higher, lower = (recorded.values(reference, part) for part in found)
    except NotRecordedError as error:
        return Judged(**about, verdict="not measured", reason=str(error))
    if reason := no_number(reference, np.concatenate([higher, lower])):
        return Judged(**about, verdict="not measured", reason=reason)
    above, below = float(np.median(higher)), float(np.median(lower))
    about |= {"measured": above, "lower": below, "repeats": min(len(higher), len(lower))}
    about |= {"sides": (recorded.side(found[1], lower), recorded.side(found[0], higher))}
    return Judged(
        **about, verdict="reproduced" if above > below else "missed", by=None if above > below else above - below
    )


def alike(reference: Alike, groups: Sequence[Sequence[str]], recorded: Recorded) -> list[Judged]:
    """Hold settings against one another, in each arm by itself; the arms of one setting where there is no other."""
    about: dict[str, Any] = {"reference": reference, "target": recorded.goal(reference)}
    found = {ids[0]: recorded.select(ids, reference.where) for ids in groups}
    run = {identity: rows for identity, rows in found.items() if len(rows)}
    if not run:
        reason = recorded.not_run if found else "no trial of this run meets it"
        return [Judged(**about, setting_ids=tuple(found), reason=reason)]
    if len(run) < len(found):
        reason = f"not run: {len(found) - len(run)} of {len(found)} settings"
        return [Judged(**about, setting_ids=tuple(run), reason=reason)]
    if len(run) == 1:
        ((identity, rows),) = run.items()
        return [_likeness(about | {"setting_ids": (identity,)}, [one for _, one in recorded.by_arm(rows)], recorded)]
    by_arm: dict[str, dict[str, np.ndarray]] = {}
    for identity, rows in run.items():
        for arm, of_arm in recorded.by_arm(rows):
            by_arm.setdefault(arm, {})[identity] = of_arm
    return [
        _likeness(about | {"setting_ids": tuple(of_arm), "arm": arm}, list(of_arm.values()), recorded)
        for arm, of_arm in by_arm.items()
    ]


def _likeness(about: Mapping[str, Any], sets: Sequence[np.ndarray], recorded: Recorded) -> Judged:
    """Judge one likeness over sets of trials, a set a setting or arm, by what the repeats show (see `Likeness.shown`).

    A repeat that missed the target counts as infinite. The likeness is missed where a set never reached it and that
    with the smallest median always did, in at least two repeats each; with misses it is not reproduced.
    """
    reference: Alike = about["reference"]
    if len(sets) < 2:
        return Judged(**about, reason="one setting alone, and nothing to hold it against")
    rows = np.concatenate(sets)
    if bad := recorded.not_completed(rows):
        return Judged(**about, verdict="not measured", reason=bad)
    try:
        values = [recorded.values(reference, part) for part in sets]
    except NotRecordedError as error:
        return Judged(**about, verdict="not measured", reason=str(error))
    every = np.concatenate(values)
    if np.isnan(every).any() or (np.isinf(every).any() and not reference.needs_target):
        return Judged(**about, verdict="not measured", reason=no_number(reference, every))
    medians = [float(np.median(part)) for part in values]
    order = np.argsort(medians, kind="stable")
    least, most = int(order[0]), int(order[-1])
    about = {**about, "repeats": min(map(len, values))}
    if medians[least] <= 0 or not math.isfinite(medians[least]):
        reason = "no setting reached the target" if medians[least] > 0 else "a median is not above 0: there is no ratio"
        return Judged(**about, verdict="not measured", reason=reason)
    if np.isinf(every).any():
        never = sum(bool(np.isinf(part).all()) for part in values)
        if never and np.isfinite(values[least]).all() and about["repeats"] > 1:
            return Judged(**about, verdict="missed", reason=f"{never} of {len(sets)} never reached the target")
        missed = int(np.isinf(every).sum())
        return Judged(**about, verdict="not measured", reason=f"{missed} of {len(every)} did not reach the target")
    from harness.analyse.likeness import Likeness  # here, since it loads what comparisons take

    sides = tuple(recorded.side(sets[one], values[one]) for one in order)
    about |= {"measured": medians[most], "lower": medians[least], "sides": sides}
    about |= {"ends": _ends(reference, sets[least], sets[most], recorded)}
    shown = Likeness(sides).shown(reference.most)
    if shown == "open":
        return Judged(**about, verdict="not measured", reason="too few repeats to tell")
    by = None if shown == "within" else medians[most] / medians[least] - reference.most
    return Judged(**about, verdict="reproduced" if shown == "within" else "missed", by=by)


def _ends(reference: Alike, first: np.ndarray, last: np.ndarray, recorded: Recorded) -> tuple[str, str]:
    """Return what the sets with the smallest and the largest median are called: by the axes that the reference names,
    by all where those do not tell them apart, and by their arms where no axis does."""
    points = [recorded.point(rows) for rows in (first, last)]
    named = set(Expression(reference.where).names)
    for chosen in (named, set(points[0]) | set(points[1])):
        told = [" ".join(f"{path}={text(point[path])}" for path in point if path in chosen) for point in points]
        if told[0] != told[1]:
            return told[0], told[1]
    arms = recorded.trials["arm"].tolist()
    return str(arms[first[0]]), str(arms[last[0]])
