"""What B is against A, in one sentence with its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from harness.domain.repeats import TIMES
from harness.terminal.text import plural, significant

if TYPE_CHECKING:
    from harness.analyse.matched import Match, Matched
    from harness.analyse.overall import Overall
    from harness.answer.compare import Compared

_SIGNS: Final = {"slower": 1, "worse": 1, "faster": -1, "better": -1}
_NEITHER: Final = (
    "cannot tell: too few repeats", "no difference shown", "no figure in A", "no figure in B", "no figure in either",
    "reached by none",
)  # fmt: skip
_MANIFOLD: Final = 3  # from this ratio on it is told as a multiple, not in per cent


def conclusion(found: Compared, one: Match) -> str:
    """Return what B is against A, in one sentence with its numbers.

    Where settings differ in a way that the verdict on all together does not say, the settings come first.
    """
    name = "" if one.figure == "train_s" and len(found.matches) == 1 else f"{one.figure}: "
    if one.same:
        many = plural(sum(row.trials[0] for row in one.rows), "trial")
        return f"{name}A and B are the same {many}: each ratio is 1 exactly, and there is nothing to test"
    rows = [row for row in one.rows if row.verdict != "the same trials"]
    told, said, numbers = _overall(one) if one.overall is not None else _single(found, one, rows)
    counts = _counts(found, rows)
    if not told:
        told = counts
    elif {row.worse for row in rows} - {0, said}:
        told = f"{counts}; {'all together' if one.overall is not None else 'where it can be compared'}: {told}"
    else:
        numbers.append(counts)
    shares = [row.reached for row in rows if row.reached is not None]
    if any(hits < of for sides in shares for hits, of in sides):
        both = [[sum(sides[at][k] for sides in shares) for k in (0, 1)] for at in (0, 1)]
        reached = " and ".join(f"{hits}/{of} of {side}" for side, (hits, of) in zip("AB", both, strict=True))
        numbers.append(f"reached by {reached}")
    known = "; ".join(filter(None, numbers))
    return f"{name}{told}{f' ({known})' if known else ''}"


def _overall(one: Match) -> tuple[str, int, list[str]]:
    """Return what is said of all settings together, whether that is worse (1), better (-1) or neither, and numbers."""
    together = one.overall
    assert together is not None  # as the caller has made sure
    verdict = overall_verdict(one, together)
    numbers = [_interval_text(one, together.effect, together.low, together.high), *_floor(together.floor)]
    return _statement(one, verdict, together.effect), _SIGNS.get(verdict, 0), numbers


def _single(found: Compared, one: Match, rows: Sequence[Matched]) -> tuple[str, int, list[str]]:
    """Return the same of the one setting whose figures could be compared, or of all that are called alike."""
    row = next((row for row in rows if row.comparison is not None), None)
    if row is not None and row.comparison is not None:
        numbers = [_interval_text(one, row.effect, row.comparison.low, row.comparison.high)]
        label = f"{found.label(row)}: " if len(rows) > 1 else ""
        told = label + _statement(one, row.verdict, row.effect)
        return told, row.worse, [*numbers, *_floor(row.comparison.floor)]
    verdicts = {row.verdict for row in rows}
    if len(verdicts) > 1:
        return "", 0, []
    if verdicts == {"reached by none"}:
        return f"No trial of A or B reached {found.target}", 0, []
    return _statement(one, verdicts.pop(), None), rows[0].worse, []


def _statement(one: Match, verdict: str, effect: float | None) -> str:
    if verdict in _SIGNS and effect is not None:
        if not one.relative:
            return f"B is {significant(abs(effect))} {'higher' if effect > 0 else 'lower'}, {verdict}"
        many, percent = max(effect, 1 / effect), f"{100 * abs(effect - 1):.1f} %"
        if verdict == "slower":
            return f"B is slower: it takes {many:.3g} times as long" if many >= _MANIFOLD else f"B is {percent} slower"
        if verdict == "faster" and many >= _MANIFOLD:
            return f"B is faster, {many:.3g} times as fast"
        if verdict == "faster":  # of a time, by how much less is not by how much faster
            return f"B is {percent} faster" if one.higher_is_better else f"B is faster: it takes {percent} less time"
        if effect >= _MANIFOLD:
            return f"B is {many:.3g} times as high, {verdict}"
        return f"B is {percent} {'higher' if effect > 1 else 'lower'}, {verdict}"
    if verdict in ("reached less often", "reached more often"):
        return f"B {verdict.replace('reached', 'reached the target')}"
    if verdict.startswith("no figure"):
        return f"No trial of {verdict.removeprefix('no figure in ').replace('either', 'A or B')} has this figure"
    return verdict[:1].upper() + verdict[1:]  # as "No difference shown"


def _interval_text(one: Match, effect: float | None, low: float | None, high: float | None) -> str:
    if effect is None:
        return ""
    word = "ratio" if one.relative else "difference"
    if low is None or high is None:
        return f"{word} {effect_text(one, effect, 4)}"
    return (
        f"{word} {effect_text(one, effect, 4)}, 98 % interval {effect_text(one, low, 3)} to {effect_text(one, high, 3)}"
    )


def effect_text(one: Match, value: float, digits: int) -> str:
    """Return a ratio with so many digits, or a difference with its sign."""
    if not one.relative:
        return "0" if value == 0 else f"{value:+.{digits - 1}g}"
    return f"{value:.{digits - 1}f}" if 0.1 <= value < 100 else f"{value:.3g}"


def _floor(floor: float | None) -> list[str]:
    return [] if floor is None else [f"noise floor {floor:.3g}"]


def _counts(found: Compared, rows: Sequence[Matched]) -> str:
    """Return how many settings are called what: ``3 of 4 settings slower, no difference shown in 1``."""
    if len(rows) < 2:
        return ""
    counts = Counter(row.verdict for row in sorted(rows, key=lambda row: -abs(row.worse)))
    of = f" of {plural(len(rows), 'setting')}"
    told: list[str] = []
    for verdict, count in counts.items():
        called = verdict.partition(":")[0]
        where = f"{count}{of if not told else ''}"
        told.append(f"{called} in {where}" if verdict in _NEITHER else f"{where} {called}")
    return ", ".join(told)


def overall_verdict(one: Match, together: Overall) -> str:
    """Return what all settings together are called, in the words for a setting."""
    if together.verdict not in ("larger", "smaller"):
        return together.verdict
    worse = (together.verdict == "smaller") is one.higher_is_better
    if one.figure in TIMES or one.figure.endswith("_s"):
        return "slower" if worse else "faster"
    return "worse" if worse else "better"
