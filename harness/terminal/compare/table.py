"""The table of a figure: a row a setting, and one of all together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.domain.design import ALARMS
from harness.domain.repeats import MOST_NEEDED
from harness.terminal.compare.sentence import effect_text, overall_verdict
from harness.terminal.text import significant

if TYPE_CHECKING:
    from harness.analyse.matched import Match, Matched
    from harness.answer.compare import Compared


def title(found: Compared, one: Match) -> str:
    """Return what the table is of, and how it was compared."""
    goal = f" ({found.target}; a miss counts as infinite)" if one.figure == "time_to_target" else ""
    kinds = {row.pairs for row in one.rows if row.comparison is not None}
    pairs = {"block": "pairs of one block", "seed": "pairs of one seed", None: "two samples"}
    tests = f"; {' or '.join(pairs[kind] for kind in pairs if kind in kinds)}" if kinds else ""
    return f"{one.figure}{goal}: medians over the repeats, 98 % intervals{tests}"


def table(found: Compared, one: Match) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return the columns and rows of a figure's table, the row of all settings last."""
    in_seconds = one.figure == "time_to_target" or (one.figure.endswith("_s") and not one.figure.endswith("_per_s"))
    a, b = ("A (s)", "B (s)") if in_seconds else ("A", "B")
    effect, p = "ratio" if one.relative else "B − A", "p (Holm)" if len(one.rows) > 1 else "p (t)"
    headings = ["setting", a, b, effect, "98 % interval", "floor", p, "p (ranks)", "B larger", "repeats", "needed"]
    headings += ["reached", "verdict"]
    rows = [dict(zip(headings, _cells(found, one, row), strict=True)) for row in one.rows]
    together = one.overall
    if together is not None:
        rows.append(
            {
                "setting": f"all {together.settings}",
                effect: effect_text(one, together.effect, 4),
                "98 % interval": _interval(one, together.low, together.high),
                "floor": _or(together.floor, _floor),
                p: _or(together.p, _p),
                "verdict": overall_verdict(one, together).partition(":")[0],
            }
        )
    if all(row.comparison is None or row.comparison.floor is None for row in one.rows):
        headings.remove("floor")
    if all(row.reached is None for row in one.rows):
        headings.remove("reached")
    columns = [(heading, "left" if heading in ("setting", "verdict") else "right") for heading in headings]
    return columns, [[row.get(heading, "") for heading in headings] for row in rows]


def _cells(found: Compared, one: Match, row: Matched) -> list[str]:
    compared, ranks = row.comparison, row.ranks
    same = row.verdict == "the same trials" and one.relative
    return [
        found.label(row),
        *map(_number, row.medians),
        "1" if same else _or(row.effect, lambda value: effect_text(one, value, 4)),
        "–" if compared is None else _interval(one, compared.low, compared.high),
        _or(None if compared is None else compared.floor, _floor),
        _or(row.p_holm, _p),
        "–" if ranks is None else "too few" if ranks.least >= ALARMS else _p(ranks.p),
        _or(None if ranks is None else ranks.superiority, lambda share: f"{100 * share:.0f} %"),
        _repeats(row),
        _or(None if compared is None else compared.needed, _needed),
        "–" if row.reached is None else ", ".join(f"{hits}/{of}" for hits, of in row.reached),
        row.verdict.partition(":")[0] + ("*" if row.alone else ""),
    ]


def _or(value: float | None, shown: Callable[[float], str]) -> str:
    return "–" if value is None else shown(value)


def _interval(one: Match, low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{effect_text(one, low, 4)} to {effect_text(one, high, 4)}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return "never" if math.isinf(value) else significant(value) if value > 0 else f"{value:.3g}"


def _floor(value: float) -> str:
    return f"{value:.3g}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def _needed(count: float) -> str:
    return f"> {MOST_NEEDED:,}" if count > MOST_NEEDED else f"{count:,}"


def _repeats(row: Matched) -> str:
    first, second = row.measured if row.comparison is None else row.comparison.repeats
    return str(first) if first == second else f"{first}, {second}"
