"""Who is first, and by how much: the parts that such a sentence is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.analyse.conclude.ahead import Behind
from harness.analyse.conclude.variants import Variant
from harness.analyse.conclude.words import interval, ratio, span, times_as_long
from harness.domain.duration import seconds

MOST: Final = 3  # things that are named one by one


def spread(one: Variant) -> str:
    """Return how many repeats a median time is of and their range, in brackets; nothing for one repeat."""
    if len(one.values) == 1 or not len(one.finite):
        return ""
    count = f"{len(one.values)}" if one.complete else f"{len(one.finite)} of {len(one.values)}"
    return f" ({count} repeats: {span(float(one.finite.min()), float(one.finite.max()))})"


def distances(behind: Sequence[Behind]) -> str:
    """Return how much longer the next and the last take than the first, where that is shown, and otherwise their
    medians: the rest of a sentence. An interval stands beside each ratio that is claimed."""
    following, last = behind[0], behind[-1]
    if _fewest(behind) == 1:
        told = f"{last.variant.name} takes {_longer(last)}"
        if len(behind) > 1:
            told = (
                f"the next, {following.variant.name}, takes {_longer(following)}, and the last, {last.variant.name}, "
                f"{_longer(last)}"
            )
        return f"; {told}, in one repeat each, so chance is not ruled out"
    if following.different:
        if len(behind) == 1:
            return f"; {last.variant.name} takes {_surely(last)}"
        told = f"; the next, {following.variant.name}, takes {_surely(following)}"
        if last.different:
            return f"{told}, and the last, {last.variant.name}, {_surely(last)}"
        return f"{told}, while the last, {_with_median(last)}, cannot be told from it"
    told = f"; {_with_median(following)} cannot be told from it"
    if len(behind) == 1:
        return told
    if last.different:
        return f"{told}, while the last, {last.variant.name}, takes {_surely(last)}"
    some = [one for one in behind if one.different]
    if some:
        return f"{told}, while {some[-1].variant.name} takes {_surely(some[-1])}"
    return f"{told}, nor can {'the last,' if len(behind) == 2 else 'any other, up to'} {_with_median(last)}"


def how_sure(behind: Sequence[Behind], called: str, count: int) -> str:
    """Return the intervals against the first of `count` variants, and what else decided: a sentence, or nothing."""
    told = []
    for one in behind:
        seen = one.comparison
        if seen is None or seen.low is None or seen.high is None:
            continue
        if seen.ratio is not None:
            told.append(f"{one.variant.name} takes {interval(seen.low, seen.high)} times as long")
        else:
            told.append(f"{one.variant.name} differs by {seen.low:.3g} to {seen.high:.3g}")
    if not told:
        return ""
    rest = " …" if len(told) > MOST else ""
    floors = [one.comparison.floor for one in behind if one.comparison is not None and one.comparison.floor]
    floor = f"; the node's noise alone comes to {ratio(max(floors))} times" if floors else ""
    picked = f"; one of {count} {called} was picked, so Holm's correction for all pairs decides" if count > 2 else ""
    return f"With 98 % confidence, against the first: {', '.join(told[:MOST])}{rest}{floor}{picked}."


def _longer(one: Behind) -> str:
    return seconds(one.variant.median) if one.ratio is None else times_as_long(one.ratio, None)


def _surely(one: Behind) -> str:
    return seconds(one.variant.median) if one.ratio is None else times_as_long(one.ratio, one.comparison)


def _with_median(one: Behind) -> str:
    return f"{one.variant.name} ({seconds(one.variant.median)})"


def _fewest(behind: Sequence[Behind]) -> int:
    """Return the repeats of the smallest variant that was compared."""
    return min(min(one.comparison.repeats) if one.comparison is not None else len(one.variant.values) for one in behind)
