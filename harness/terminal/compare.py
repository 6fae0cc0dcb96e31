"""Two sides compared, for people, for pull requests and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from harness.domain.repeats import MOST_NEEDED, TIMES
from harness.terminal.text import fits, plural, print_lines, print_table, significant

if TYPE_CHECKING:
    from harness.analyse.match import Match, Matched
    from harness.analyse.overall import Overall
    from harness.answer.compare import Compared, Side

_SHOWN: Final = 40  # settings of a table; --json and --markdown have all
_NAMED: Final = 4
_DISPENSABLE: Final = ("B larger", "p (ranks)", "floor", "needed", "p (Holm)", "p (t)", "repeats")
_LEVEL: Final = 0.02  # at which something is called different
_CANNOT: Final = "cannot tell: too few repeats"
_NEITHER: Final = (_CANNOT, "no difference shown", "no figure in A", "no figure in B", "no figure in either")


def print_compared(found: Compared) -> None:
    """Print the conclusion, what A and B are, a table a figure, and what else a person should know."""
    print_lines(conclusion(found, one) for one in found.matches)
    print_lines(["", *(_described(side) for side in (found.first, found.second))])
    for one in found.matches:
        typer.echo("")
        columns, rows = _table(found, one)
        more = len(one.rows) - _SHOWN
        shown = rows if more <= 0 else [*rows[:_SHOWN], *rows[len(one.rows) :]]
        columns, shown, dropped = _narrowed(columns, shown)
        print_table(columns, shown, title=_title(found, one))
        if dropped:
            typer.echo(f"(not shown for want of width: {', '.join(dropped)}; --json and --markdown have them)")
        if more > 0:
            typer.echo(f"… and {plural(more, 'setting')} more; --json has all")
    lines = list(_remarks(found))
    if lines:
        print_lines(["", *lines])


def markdown(found: Compared) -> str:
    """Return the same as Markdown: for a pull request."""
    parts = [f"**{conclusion(found, one)}**" for one in found.matches]
    parts.append("\n".join(f"- {_escaped(_described(side))}" for side in (found.first, found.second)))
    for one in found.matches:
        columns, rows = _table(found, one)
        lines = [f"{_escaped(_title(found, one))}", ""]
        lines.append("| " + " | ".join(_escaped(heading) for heading, _ in columns) + " |")
        lines.append("|" + "|".join("---:" if side == "right" else "---" for _, side in columns) + "|")
        lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
        parts.append("\n".join(lines))
    remarks = [f"- {_escaped(line)}" for line in _remarks(found)]
    return "\n\n".join([*parts, *(["\n".join(remarks)] if remarks else [])])


def document(found: Compared) -> dict[str, Any]:
    """Return all of it as plain JSON; infinite times are the text "Infinity", what is not known is null."""
    return {
        side.name.lower(): {
            "asked": side.asked,
            "runs": [str(run["run_id"]) for run in side.runs.values()],
            "suites": _unique(side, "suite"),
            "commits": _unique(side, "commit"),
            "hardware": _unique(side, "hardware"),
            "trials": len(side.trials),
        }
        for side in (found.first, found.second)
    } | {
        "target": found.target,
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
        "overall": None if together is None else asdict(together) | {"verdict": _overall_verdict(one, together)},
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


def _unique(side: Side, column: str) -> list[str]:
    return sorted({str(value) for value in side.trials[column].dropna()})


def conclusion(found: Compared, one: Match) -> str:
    """Return what B is against A, in one sentence with its numbers."""
    name = "" if one.figure == "train_s" and len(found.matches) == 1 else f"{one.figure}: "
    if one.same:
        many = plural(sum(row.trials[0] for row in one.rows), "trial")
        return f"{name}A and B are the same {many}: each ratio is 1 exactly, and there is nothing to test"
    rows = [row for row in one.rows if row.verdict != "the same trials"]
    together = one.overall
    if together is not None:
        verdict = _overall_verdict(one, together)
        numbers = [_interval_text(one, together.effect, together.low, together.high), *_floor(together.floor)]
        effect: float | None = together.effect
    else:
        row = next((row for row in rows if row.effect is not None), rows[0])
        verdict, effect = row.verdict, row.effect
        name += f"{found.label(row)}: " if len(rows) > 1 and effect is not None else ""
        compared = row.comparison
        numbers = [] if compared is None else [_interval_text(one, effect, compared.low, compared.high)]
        numbers += [] if compared is None else _floor(compared.floor)
    numbers.append(_counts(rows))
    if any(row.reached is not None and row.reached_p is not None for row in rows):
        shares = [[sum(row.reached[at][k] for row in rows if row.reached) for k in (0, 1)] for at in (0, 1)]
        numbers.append(
            "reached by " + " and ".join(f"{hits}/{of} of {s}" for s, (hits, of) in zip("AB", shares, strict=True))
        )
    told = "; ".join(filter(None, numbers))
    return f"{name}{_statement(one, verdict, effect)}{f' ({told})' if told else ''}"


def _statement(one: Match, verdict: str, effect: float | None) -> str:
    if verdict in ("slower", "faster", "worse", "better") and effect is not None:
        if one.relative:
            by = f"{_percent(effect)} "
            return (
                f"B is {by}{verdict}"
                if verdict in ("slower", "faster")
                else f"B is {by}{'higher' if effect > 1 else 'lower'}, {verdict}"
            )
        return f"B is {significant(abs(effect))} {'higher' if effect > 0 else 'lower'}, {verdict}"
    if verdict.startswith("reached"):
        return f"B has {verdict} what was to be reached"
    return {_CANNOT: "Cannot tell: too few repeats", "no difference shown": "No difference shown"}.get(
        verdict, f"There is {verdict}"
    )


def _percent(ratio: float) -> str:
    """Return by how much a ratio is above or below 1; from threefold on as a factor."""
    if ratio >= 3 or ratio <= 1 / 3:
        return f"{max(ratio, 1 / ratio):.3g} times"
    return f"{100 * abs(ratio - 1):.1f} %"


def _interval_text(one: Match, effect: float | None, low: float | None, high: float | None) -> str:
    if effect is None:
        return ""
    word = "ratio" if one.relative else "difference"
    known = "" if low is None or high is None else f", 98 % {_effect(one, low, 3)} to {_effect(one, high, 3)}"
    return f"{word} {_effect(one, effect, 4)}{known}"


def _effect(one: Match, value: float, digits: int) -> str:
    if not one.relative:
        return "0" if value == 0 else f"{value:+.{digits - 1}g}"
    return f"{value:.{digits - 1}f}" if 0.1 <= value < 100 else f"{value:.3g}"


def _floor(floor: float | None) -> list[str]:
    return [] if floor is None else [f"floor {floor:.3g}"]


def _counts(rows: Sequence[Matched]) -> str:
    """Return how many settings are called what: ``3 of 4 settings slower, no difference shown in 1``."""
    if len(rows) < 2:
        return ""
    counts: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: -abs(row.worse)):
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    of = f" of {plural(len(rows), 'setting')}"
    told: list[str] = []
    for verdict, count in counts.items():
        called = verdict.partition(":")[0]
        where = f"{count}{of if not told else ''}"
        told.append(f"{where} {called}" if verdict not in _NEITHER else f"{called} in {where}")
    return ", ".join(told)


def _overall_verdict(one: Match, together: Overall) -> str:
    if together.verdict not in ("larger", "smaller"):
        return together.verdict
    worse = (together.verdict == "smaller") is one.higher_is_better
    if one.figure in TIMES or one.figure.endswith("_s"):
        return "slower" if worse else "faster"
    return "worse" if worse else "better"


def _described(side: Side) -> str:
    runs = list(side.runs.values())
    told = ", ".join(f"{run.get('suite')}/{run['run_id']}" for run in runs[:_NAMED])
    told += f" and {plural(len(runs) - _NAMED, 'run')} more" if len(runs) > _NAMED else ""
    parts = [told, plural(len(side.trials), "trial"), *_unique(side, "hardware")]
    commits = [commit[:10] for commit in _unique(side, "commit")]
    if commits:
        dirty = " with changes" if (side.trials["dirty"] == True).any() else ""  # noqa: E712  # a column
        parts.append(f"commit {', '.join(commits[:_NAMED])}{dirty}")
    asked = "" if any(side.asked in (run["run_id"], run.get("suite")) for run in runs) else f"{side.asked}: "
    return f"{side.name}  {asked}{', '.join(parts)}"


def _title(found: Compared, one: Match) -> str:
    goal = f" ({found.target}; a miss counts as infinite)" if one.figure == "time_to_target" else ""
    kinds = {row.pairs for row in one.rows if row.comparison is not None}
    pairs = {"block": "pairs of one block", "seed": "pairs of one seed", None: "two samples"}
    tests = f"; {' or '.join(pairs[kind] for kind in pairs if kind in kinds)}" if kinds else ""
    return f"{one.figure}{goal}: medians over the repeats, 98 % intervals{tests}"


def _table(found: Compared, one: Match) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return the columns and rows of a figure's table, the row of all settings last."""
    reached = any(row.reached is not None for row in one.rows)
    floors = any(row.comparison is not None and row.comparison.floor is not None for row in one.rows)
    unit = (
        " (s)"
        if (one.figure.endswith("_s") and not one.figure.endswith("_per_s")) or one.figure == "time_to_target"
        else ""
    )
    headings = ["setting", f"A{unit}", f"B{unit}", "ratio" if one.relative else "B − A", "98 % interval"]
    headings += [
        *(["floor"] if floors else []),
        "p (Holm)" if len(one.rows) > 1 else "p (t)",
        "p (ranks)",
        "B larger",
        "repeats",
        "needed",
    ]
    headings += [*(["reached"] if reached else []), "verdict"]
    columns = [(heading, "left" if heading in ("setting", "verdict") else "right") for heading in headings]
    rows = []
    for row in one.rows:
        compared, ranks = row.comparison, row.ranks
        cells = [found.label(row), *map(_number, row.medians)]
        cells += [
            "1" if row.verdict == "the same trials" and one.relative else _or(row.effect, lambda x: _effect(one, x, 4))
        ]
        cells.append(
            _interval(one, None if compared is None else compared.low, None if compared is None else compared.high)
        )
        cells += [_or(None if compared is None else compared.floor, "{:.3g}".format)] if floors else []
        cells.append(_or(row.p_holm, _p))
        cells.append("–" if ranks is None else "too few" if ranks.least >= _LEVEL else _p(ranks.p))
        cells.append(_or(None if ranks is None else ranks.superiority, lambda x: f"{100 * x:.0f} %"))
        cells.append(_repeats(row))
        cells.append(_or(None if compared is None else compared.needed, _needed))
        if reached:
            cells.append("–" if row.reached is None else ", ".join(f"{hits}/{of}" for hits, of in row.reached))
        rows.append([*cells, row.verdict.partition(":")[0] + ("*" if row.alone else "")])
    together = one.overall
    if together is not None:
        cells = [f"all {together.settings}", "", "", _effect(one, together.effect, 4)]
        cells += [
            _interval(one, together.low, together.high),
            *([_or(together.floor, "{:.3g}".format)] if floors else []),
        ]
        cells += [
            _or(together.p, _p),
            *[""] * 4,
            *([""] if reached else []),
            _overall_verdict(one, together).partition(":")[0],
        ]
        rows.append(cells)
    return columns, rows


def _narrowed(
    columns: list[tuple[str, str]], rows: list[list[str]]
) -> tuple[list[tuple[str, str]], list[list[str]], list[str]]:
    """Return a table without the columns that can best be done without, where a terminal is too narrow for all."""
    dropped: list[str] = []
    for heading in _DISPENSABLE:
        place = next((n for n, column in enumerate(columns) if column[0] == heading), None)
        if fits(columns, rows) or place is None:
            continue
        columns = columns[:place] + columns[place + 1 :]
        rows = [row[:place] + row[place + 1 :] for row in rows]
        dropped.append(heading)
    return columns, rows, dropped


def _or(value: float | None, shown: Any) -> str:
    return "–" if value is None else shown(value)


def _interval(one: Match, low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{_effect(one, low, 4)} to {_effect(one, high, 4)}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return "never" if math.isinf(value) else significant(value) if value > 0 else f"{value:.3g}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def _needed(count: int) -> str:
    return f"> {MOST_NEEDED:,}" if count > MOST_NEEDED else f"{count:,}"


def _repeats(row: Matched) -> str:
    first, second = row.measured if row.comparison is None else row.comparison.repeats
    return str(first) if first == second else f"{first}, {second}"


def _remarks(found: Compared) -> Iterator[str]:
    for one in found.matches:
        yield from _about_figure(found, one)
    for name, labels in zip("AB", found.only, strict=True):
        if labels:
            more = f", and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
            yield f"only in {name}: {plural(len(labels), 'setting')} ({', '.join(labels[:_NAMED])}{more})"
    yield from found.notes


def _about_figure(found: Compared, one: Match) -> Iterator[str]:
    name = f"{one.figure}: " if len(found.matches) > 1 else ""
    compared = [row for row in one.rows if row.comparison is not None]
    if one.relative and compared:
        for floor in one.floors:
            how = f"{plural(floor.repeats, 'repeat')}, {plural(floor.neighbours, 'neighbour')}"
            yield f"{name}noise floor of {floor.node}, {floor.date[:10]} ({how}): nothing within is called different"
        if one.without_floor:
            nodes = ", ".join(one.without_floor[:_NAMED])
            yield f"{name}no noise floor of this figure is known for {nodes}, with as many neighbours" + (
                "; `harness aa SUITE` measures it" if one.figure in ("train_s", "samples_per_s") else ""
            )
    alone = [found.label(row) for row in one.rows if row.alone]
    if alone:
        more = " …" if len(alone) > _NAMED else ""
        yield (
            f"{name}* {', '.join(alone[:_NAMED])}{more}: different if looked at alone, but of {len(one.rows)} settings "
            "some are by chance (Holm's correction)"
        )
    small = [row for row in compared if row.ranks is not None and row.ranks.least >= _LEVEL]
    if small:
        least = min(row.ranks.least for row in small if row.ranks is not None)
        yield f"{name}too few repeats for ranks: however far apart, p is at least {least:.2g} in {_of(small, compared)}"
    split = [
        row
        for row in compared
        if row.ranks is not None
        and row.ranks.least < _LEVEL
        and row.comparison is not None
        and row.comparison.p is not None
        and (row.comparison.p < _LEVEL) != (row.ranks.p < _LEVEL)
    ]
    if split:
        yield f"{name}t and ranks disagree at 2 % in {_of(split, compared)}: outliers, or a difference at the edge"


def _of(some: Sequence[Matched], every: Sequence[Matched]) -> str:
    return f"{len(some)} of {plural(len(every), 'setting')}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
