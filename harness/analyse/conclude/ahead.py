"""The first of several variants against the others: by how much they are behind, and whether that is shown.

Everything is decided as in `compare`: ratios on logs, 98 % intervals, the node's noise floor; of few repeats by the
spread that all variants share (see `among`). The one that is held against the others was picked because it came
first, and one of several equal ones does so too: of k variants it is called different from another only if that also
holds after Holm's correction (A simple sequentially rejective multiple test procedure, 1979) for all k (k - 1) / 2
pairs. Only the pairs with the first are computed and ranked, as if all others had larger p values, which at most makes
it stricter. Of very many only the nearest and the last are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from harness.analyse.among import common, steadied
from harness.analyse.compare import Comparison, Spread, compare, compare_values
from harness.analyse.conclude.conclusion import Verdict
from harness.analyse.conclude.variants import Variant
from harness.domain.design import ALARMS
from harness.domain.repeats import WITHIN_METRICS

_NEAREST: Final = 20  # variants next to the first that are compared with it, besides the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A variant that is not the first, against the first."""

    variant: Variant
    ratio: float | None  # of the medians; None: the first's is 0, or the figures are no times
    comparison: Comparison | None  # None: figures that cannot be compared
    different: bool  # it is shown to be behind, also after the correction


def by_ratio(first: Variant, others: Sequence[Variant], noise: Spread | None) -> list[Behind]:
    """Compare times with the first. Repeats of the others that missed are left out, which can only hide a difference;
    where some of the first did, or a time is 0, nothing is called different."""
    shared = common([one.finite for one in (first, *others)], relative=True)

    def seen(one: Variant) -> Comparison | None:
        if not first.complete or not all((side.finite > 0).all() for side in (first, one)):
            return None
        return steadied(first.finite, one.finite, compare(first.figures, one.figures, noise=noise), shared)

    held = _held(others)
    ratios = [one.median / first.median if first.median > 0 else None for one in held]
    return _corrected(held, ratios, [seen(one) for one in held], of=len(others) + 1)


def by_difference(first: Variant, others: Sequence[Variant], *, lower: bool) -> list[Behind]:
    """Compare values of a metric, of which less is better if `lower`, with the first."""
    shared = common([one.finite for one in (first, *others)], relative=False)
    held = _held(others)
    seen = [
        steadied(first.finite, one.finite, _difference(first, one, lower=lower), shared, higher_is_slower=lower)
        for one in held
    ]
    return _corrected(held, [None] * len(held), seen, of=len(others) + 1)


def verdict(behind: Sequence[Behind]) -> Verdict:
    """Return whether the first is ahead of the next."""
    if behind[0].different:
        return "different"
    if all(one.comparison is not None and one.comparison.verdict == "no difference shown" for one in behind):
        return "no difference shown"
    return "cannot tell: too few repeats"


def _held(others: Sequence[Variant]) -> list[Variant]:
    """Return those of the others, in order, that are compared with the first."""
    return [*others[:_NEAREST], *others[_NEAREST:][-1:]]


def _difference(first: Variant, other: Variant, *, lower: bool) -> Comparison:
    """Compare values of a metric.

    Shares of a few samples take few values, so that the differences of pairs can happen to be equal although the values
    vary. As if without any spread they would pass for sure, so that they are then compared as two samples.
    """
    how: dict[str, Any] = {"higher_is_slower": lower, "relative": False, "within": WITHIN_METRICS}
    seen = compare(first.figures, other.figures, **how)
    finest = 1e-9 * float(np.abs(first.values).max())
    if seen.spread is None or not seen.spread <= finest < float(np.ptp(first.values)):
        return seen
    return compare_values(first.finite, other.finite, pairs=None, **how)


def _corrected(
    others: Sequence[Variant], ratios: Sequence[float | None], seen: Sequence[Comparison | None], *, of: int
) -> list[Behind]:
    """Return the others with whether they are shown to be behind, after Holm's correction for all pairs of `of`."""
    pairs = of * (of - 1) // 2
    shown = set()
    by_p = sorted((one.p, number) for number, one in enumerate(seen) if one is not None and one.p is not None)
    for rank, (p, number) in enumerate(by_p):
        if p * (pairs - rank) >= ALARMS:
            break
        one = seen[number]
        if one is not None and one.verdict == "different: slower":
            shown.add(number)
    return [
        Behind(variant=variant, ratio=ratio, comparison=one, different=number in shown)
        for number, (variant, ratio, one) in enumerate(zip(others, ratios, seen, strict=True))
    ]
