"""Published conclusions, directions and likenesses, that a run confirms or refutes: in words, no surer than it is.

`judge` goes by medians. A conclusion is called confirmed or refuted only where the repeats show it too, at 2 % false
alarms (see `compare`), and is left undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from harness.analyse.compare import compare
from harness.analyse.references import Judged
from harness.domain.reference import TIME_TO_TARGET, Alike, Direction

Standing = Literal["confirmed", "refuted", "undecided"]

_MOST: Final = 3  # conclusions that are named one by one
_LONGEST: Final = 80  # letters of a condition


def standing(judged: Judged) -> Standing | None:
    """Return what comes of a published conclusion; None for other references, and where its settings were not run.

    A direction is confirmed, or refuted, where the groups are called different. A likeness is confirmed where it is
    reproduced and the 98 % intervals of all settings' ratios to the one with the smallest median, and of the one with
    the largest to all, end at or below what it allows; it is refuted where it is missed by more than one repeat.
    """
    reference = judged.reference
    if not isinstance(reference, Direction | Alike) or judged.verdict == "none":
        return None
    if not judged.sides or judged.verdict == "not measured":
        return "undecided"
    if isinstance(reference, Alike):
        if judged.verdict == "missed":
            return "refuted" if judged.repeats > 1 else "undecided"
        first, last = judged.sides[0], judged.sides[-1]
        pairs = [(first, one) for one in judged.sides[1:]] + [(one, last) for one in judged.sides[1:-1]]
        highs = (compare(*pair).high for pair in pairs)
        return "confirmed" if all(high is not None and high <= reference.most for high in highs) else "undecided"
    seen = judged.comparison()
    if seen is None or not seen.different:
        return "undecided"
    return "confirmed" if seen.verdict == "different: slower" else "refuted"  # the higher group is the larger one


def published(references: Sequence[Judged]) -> tuple[str, str]:
    """Return how the published conclusions among the references stand, as the end of a sentence, and a further sentence
    on those that are not confirmed; both empty where there are none."""
    found = [(one, how) for one in references if (how := standing(one)) is not None]
    if not found:
        return "", ""
    refuted, undecided = ([one for one, how in found if how == kind] for kind in ("refuted", "undecided"))
    open_ones = [f"{_name(one)} is refuted: {_evidence(one)}" for one in refuted]
    open_ones += [f"{_name(one)} is undecided: {_evidence(one)}" for one in undecided]
    more = f"; and {len(open_ones) - _MOST} more" if len(open_ones) > _MOST else ""
    further = f"{'; '.join(open_ones[:_MOST])}{more}." if open_ones else ""
    if len(found) == 1:
        ((only, how),) = found
        told = "neither confirmed nor refuted" if how == "undecided" else how
        return f"; the published conclusion that {_claim(only)} is {told}", further
    named = "; ".join(map(_claim, refuted[:_MOST])) + (" …" if len(refuted) > _MOST else "")
    counts = [
        f"{_are(len(found) - len(refuted) - len(undecided))} confirmed",
        f"{_are(len(refuted))} refuted" + (f" ({named})" if refuted else ""),
    ]
    alike = next((one for one in undecided if isinstance(one.reference, Alike) and one.ratio is not None), None)
    among = "" if alike is None else f" (among them that {_claim(alike)}: {_apart(alike)})"
    counts += [f"{_are(len(undecided))} neither{among}"] if undecided else []
    return f"; of {len(found)} published conclusions {', '.join(counts[:-1])} and {counts[-1]}", further


def _are(count: int) -> str:
    return f"{count or 'none'} {'is' if count < 2 else 'are'}"


def _name(judged: Judged) -> str:
    return f"{_short(judged.reference.name)} ({_claim(judged)})"


def _claim(judged: Judged) -> str:
    """Return what was published, such as "time_to_target is about the same for batch_size in [16, 32]"."""
    reference = judged.reference
    quantity = "the time to the target" if reference.metric == TIME_TO_TARGET else reference.metric
    if reference.epoch is not None:
        quantity += {"all": " of an epoch", "last": " at the end", "best": " at best"}.get(
            str(reference.epoch), f" after epoch {reference.epoch}"
        )
    arm = f" ({judged.arm})" if judged.arm not in (None, "default") else ""
    if isinstance(reference, Alike):
        where = "all settings" if reference.where == "true" else _short(reference.where)
        return f"{quantity} is about the same for {where}{arm}"
    assert isinstance(reference, Direction)  # there is no other kind of conclusion
    return f"{quantity} is higher with {_short(reference.higher)} than with {_short(reference.lower)}{arm}"


def _evidence(judged: Judged) -> str:
    """Return the medians, and how sure their order is."""
    if judged.measured is None or judged.lower is None:
        return judged.reason
    told = f"medians of {judged.measured:.4g} and {judged.lower:.4g}"
    if isinstance(judged.reference, Alike):
        few = "" if judged.repeats > 1 and judged.verdict == "missed" else ", too few repeats to tell"
        return f"{told}, {_apart(judged)}{few}"
    seen = judged.comparison()
    if seen is None or seen.low is None or seen.high is None:
        return f"{told}, too few repeats to tell"
    what = "ratio" if seen.ratio is not None else "difference"
    return f"{told}, with 98 % confidence a {what} of {seen.low:.3g} to {seen.high:.3g}"


def _apart(judged: Judged) -> str:
    """Return how far apart the medians of a likeness lie."""
    assert isinstance(judged.reference, Alike)  # as called
    return f"{judged.ratio or 1:.2f} times apart where {judged.reference.most:.12g} is allowed"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
