"""Published conclusions that a run confirms or refutes, in words: what a report leads with, and what it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.analyse.conclude.first import MOST
from harness.analyse.conclude.words import interval, ratio, short, times_as_long
from harness.analyse.likeness import Likeness
from harness.analyse.references import Judged
from harness.analyse.standing import Standing, standing
from harness.domain.duration import seconds
from harness.domain.metrics import goal_text
from harness.domain.reference import TIME_TO_TARGET, Alike, Direction
from harness.domain.repeats import MOST_NEEDED

_LONGEST: Final = 80  # letters of a condition
_ORDER: Final = ("refuted", "undecided", "confirmed")


def leading(references: Sequence[Judged], target: Mapping[str, Any]) -> Judged | None:
    """Return the published conclusion that is about the time to this target (``metric``, ``at_least``, ``at_most``).

    Of several, as of several arms, a refuted one comes first, then an undecided one.
    """
    found = [
        (_ORDER.index(how), number)
        for number, one in enumerate(references)
        if one.reference.metric == TIME_TO_TARGET and one.target is not None and (how := standing(one)) is not None
        if all(one.target.get(key) == value for key, value in target.items())
    ]
    return references[min(found)[1]] if found else None


def verdict_on(judged: Judged, how: Standing) -> str:
    """Return the sentence that says how a conclusion about the time to the target stands, with its numbers."""
    quantity = _quantity(judged)
    if isinstance(judged.reference, Alike):
        where = _where(judged.reference, len(judged.setting_ids))
        told = ("is", "is not", f"about the same for {where}")
    else:
        assert isinstance(judged.reference, Direction)  # there is no other kind of conclusion
        higher, lower = (_condition(one) for one in (judged.reference.higher, judged.reference.lower))
        told = ("is", "is not", f"longer with {higher} than with {lower}")
    name = f"{told[2]}{_arm(judged)} ({short(judged.reference.name, _LONGEST)})"
    numbers = _numbers(judged) or judged.reason
    if how == "confirmed":
        return f"Confirmed: {quantity} {told[0]} {name}: {numbers}."
    if how == "refuted":
        return f"Refuted: {quantity} {told[1]} {name}: {numbers}."
    few = f"; {_would_tell(judged)}" if judged.measured is not None else ""
    return f"Undecided: whether {quantity} {told[0]} {name}: {numbers}{few}."


def counted(references: Sequence[Judged], lead: Judged | None) -> str:
    """Return how the published conclusions stand, but for the one that was told: a sentence, if there are others."""
    found = [(one, how) for one in references if one is not lead and (how := standing(one)) is not None]
    if not found:
        return ""
    other = "" if lead is None else "other "
    if len(found) == 1:
        ((only, how),) = found
        because = "" if how == "confirmed" else f": {_evidence(only)}"
        return f"The {other}published conclusion that {_claim(only)} is {how}{because}."
    counts = [(how, sum(one == how for _, one in found)) for how in ("confirmed", "refuted", "undecided")]
    told = [f"{count} {'is' if count == 1 else 'are'} {how}" for how, count in counts if count]
    told = [" and ".join([", ".join(told[:-1]), told[-1]])] if len(told) > 1 else told
    # Refuted ones come first: they say more.
    open_ones = [(one, how) for kind in ("refuted", "undecided") for one, how in found if how == kind]
    named = [f"that {_claim(one)} is {how} ({_evidence(one)})" for one, how in open_ones[:MOST]]
    more = f"; and {len(open_ones) - MOST} more" if len(open_ones) > MOST else ""
    rest = f": {'; '.join(named)}{more}" if named else ""
    return f"Of {len(found)} {other}published conclusions {told[0]}{rest}."


def _numbers(judged: Judged) -> str:
    """Return the medians of a time to the target and how far they lie apart; nothing where they were not measured."""
    if judged.measured is None or judged.lower is None:
        return ""
    seen = judged.comparison()
    apart = "" if judged.ratio is None else f", {times_as_long(judged.ratio, seen)}"
    if not isinstance(judged.reference, Alike):
        return f"{seconds(judged.measured)} against {seconds(judged.lower)}{apart}"
    least, most = (f" ({short(end)})" for end in judged.ends or ("–", "–"))
    allowed = f" where at most {judged.reference.most:.12g} was claimed"
    return f"it runs from {seconds(judged.lower)}{least} to {seconds(judged.measured)}{most}{apart}{allowed}"


def _would_tell(judged: Judged) -> str:
    """Return how many repeats there are, and about how many would decide."""
    had = f"{judged.repeats} repeats are too few" if judged.repeats > 1 else "one repeat is too few"
    needed = None
    if isinstance(judged.reference, Alike):
        needed = Likeness(judged.sides).needed(judged.reference.most)
    elif (seen := judged.comparison()) is not None:
        needed = seen.needed
    if needed is None or needed <= judged.repeats:
        return had
    return f"{had}, some {ratio(needed)} would tell" if needed <= MOST_NEEDED else f"{had}, and so are {MOST_NEEDED:,}"


def _claim(judged: Judged) -> str:
    """Return what was published, such as "A2: time_to_target is about the same for batch_size in [16, 32]"."""
    reference, quantity = judged.reference, _quantity(judged)
    if reference.epoch is not None:
        quantity += {"all": " of an epoch", "last": " at the end", "best": " at best"}.get(
            str(reference.epoch), f" after epoch {reference.epoch}"
        )
    if isinstance(reference, Alike):
        return f"{quantity} is about the same for {_where(reference, len(judged.setting_ids))}{_arm(judged)}"
    assert isinstance(reference, Direction)  # there is no other kind of conclusion
    return (
        f"{quantity} is higher with {_condition(reference.higher)} than with {_condition(reference.lower)}"
        f"{_arm(judged)}"
    )


def _evidence(judged: Judged) -> str:
    """Return the medians, and how sure their order is."""
    if judged.measured is None or judged.lower is None:
        return judged.reason
    told = f"medians of {judged.measured:.4g} and {judged.lower:.4g}"
    if isinstance(judged.reference, Alike):
        return f"{told}, {ratio(judged.ratio or 1)} times apart where {judged.reference.most:.12g} is allowed"
    seen = judged.comparison()
    if seen is None or seen.low is None or seen.high is None:
        return f"{told}, too few repeats to tell"
    if seen.ratio is None:
        return f"{told}, with 98 % confidence {seen.low:.3g} to {seen.high:.3g} apart"
    return f"{told}, with 98 % confidence a ratio of {interval(seen.low, seen.high)}"


def _quantity(judged: Judged) -> str:
    if judged.reference.metric != TIME_TO_TARGET:
        return judged.reference.metric
    target = judged.target
    if target is None:
        return "the time to the target"
    return f"the time to {goal_text(target['metric'], target.get('at_least'), target.get('at_most'))}"


def _where(reference: Alike, count: int) -> str:
    return (
        (f"all {count} settings" if count > 1 else "all arms")
        if reference.where == "true"
        else _condition(reference.where)
    )


def _arm(judged: Judged) -> str:
    return f" with {judged.arm}" if judged.arm not in (None, "default") else ""


def _condition(text: str) -> str:
    """Return a condition; that one path has one value as people write it."""
    return short(text.replace(" == ", "="), _LONGEST)
