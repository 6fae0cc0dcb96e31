"""Two sides compared as plain JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.terminal.compare.sentence import conclusion, overall_verdict

if TYPE_CHECKING:
    from harness.analyse.matched import Match, Matched
    from harness.answer.compare import Compared


def document(found: Compared) -> dict[str, Any]:
    """Return all of it as plain JSON; infinite times are the text "Infinity", what is not known is null."""
    return {
        side.name.lower(): {
            "asked": side.asked,
            "runs": [str(run["run_id"]) for run in side.runs.values()],
            "suites": side.unique("suite"),
            "commits": side.unique("commit"),
            "hardware": side.unique("hardware"),
            "trials": len(side.trials),
        }
        for side in (found.first, found.second)
    } | {
        "target": None if found.target is None else found.target.expression,
        "figures": [_figure(found, one) for one in found.matches],
        "only_a": list(found.only[0]),
        "only_b": list(found.only[1]),
        "notes": list(found.notes),
    }


def _figure(found: Compared, one: Match) -> dict[str, Any]:
    together = one.overall
    return {
        "figure": one.figure,
        "compared_as": "ratio" if one.relative else "difference",
        "higher_is_better": one.higher_is_better,
        "conclusion": conclusion(found, one),
        "overall": None if together is None else asdict(together) | {"verdict": overall_verdict(one, together)},
        "settings": [_setting(found, one, row) for row in one.rows],
        "floors": [
            {"node": floor.node, "date": floor.date, "neighbours": floor.neighbours, "repeats": floor.repeats}
            for floor in one.floors
        ],
        "nodes_without_floor": list(one.without_floor),
    }


def _setting(found: Compared, one: Match, row: Matched) -> dict[str, Any]:
    compared, ranks = row.comparison, row.ranks
    return {
        "setting_id": row.setting_id,
        "label": found.label(row),
        "arms": list(row.arms),
        "trials": list(row.trials),
        "measured": list(row.measured),
        "medians": [_plain(value) for value in row.medians],
        "verdict": row.verdict,
        "different_if_alone": row.alone,
        "pairs": row.pairs,
        "t": None
        if compared is None
        else {
            "ratio": compared.ratio, "difference": compared.difference, "low": compared.low, "high": compared.high,
            "p": compared.p, "p_holm": row.p_holm, "repeats": list(compared.repeats), "needed": compared.needed,
            "spread": compared.spread, "floor": compared.floor,
        },
        "ranks": None
        if ranks is None
        else {
            "test": ranks.test, "p": ranks.p, "least_p": ranks.least, "superiority": ranks.superiority,
            "cliffs_delta": ranks.cliffs_delta,
        },
        "reached": None
        if row.reached is None
        else {"a": list(row.reached[0]), "b": list(row.reached[1]), "p": row.reached_p, "p_holm": row.reached_p_holm},
    }  # fmt: skip


def _plain(value: float | None) -> float | str | None:
    return "Infinity" if value is not None and math.isinf(value) else value
