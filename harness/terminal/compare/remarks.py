"""What a person should know besides the table of a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from harness.domain.design import ALARMS
from harness.terminal.text import plural

if TYPE_CHECKING:
    from harness.analyse.matched import Match, Matched
    from harness.answer.compare import Compared
    from harness.answer.sides import Side

_NAMED: Final = 4


def described(side: Side) -> str:
    runs = list(side.runs.values())
    told = ", ".join(f"{run.get('suite')}/{run['run_id']}" for run in runs[:_NAMED])
    told += f" and {plural(len(runs) - _NAMED, 'run')} more" if len(runs) > _NAMED else ""
    parts = [told, plural(len(side.trials), "trial"), *side.unique("hardware")]
    commits = [commit[:10] for commit in side.unique("commit")]
    if commits:
        dirty = " with changes" if (side.trials["dirty"] == True).any() else ""  # noqa: E712  # a column
        parts.append(f"commit {', '.join(commits[:_NAMED])}{dirty}")
    asked = "" if any(side.asked in (run["run_id"], run.get("suite")) for run in runs) else f"{side.asked}: "
    return f"{side.name}  {asked}{', '.join(parts)}"


def remarks(found: Compared) -> Iterator[str]:
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
    small = [row for row in compared if row.ranks is not None and row.ranks.least >= ALARMS]
    if small:
        least = min(row.ranks.least for row in small if row.ranks is not None)
        yield f"{name}too few repeats for ranks: however far apart, p is at least {least:.2g} in {_of(small, compared)}"
    split = [
        row
        for row in compared
        if row.ranks is not None
        and row.ranks.least < ALARMS
        and row.comparison is not None
        and row.comparison.p is not None
        and (row.comparison.p < ALARMS) != (row.ranks.p < ALARMS)
    ]
    if split:
        yield f"{name}t and ranks disagree at 2 % in {_of(split, compared)}: outliers, or a difference at the edge"


def _of(some: Sequence[Matched], every: Sequence[Matched]) -> str:
    return f"{len(some)} of {plural(len(every), 'setting')}"
