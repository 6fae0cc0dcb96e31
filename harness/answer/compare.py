"""Two sides that the user named → their settings compared, and what else differs between them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.answer.notes import notes
from harness.answer.sides import Side, apart, find_side, known_runs
from harness.domain.component import text
from harness.domain.errors import ResultsError
from harness.domain.naming import axis, place, plural
from harness.domain.paths import MISSING, leaves, read
from harness.domain.setting import EXECUTION

if TYPE_CHECKING:
    from harness.analyse.matched import Match, Matched
    from harness.domain.suite import Target

_SHOWN: Final = 4  # settings, paths and values in a message
_WIDE: Final = 24  # characters of a value there


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Both sides, a `Match` a figure, and what a person should know besides."""

    first: Side
    second: Side
    matches: tuple[Match, ...]
    labels: Mapping[tuple[str, tuple[str, str]], str]  # what a matched setting is called: by its id and arms
    only: tuple[tuple[str, ...], tuple[str, ...]]  # what the settings are called that one side alone has
    target: Target | None
    notes: tuple[str, ...]

    def label(self, row: Matched) -> str:
        """Return what a matched setting is called."""
        return self.labels[row.setting_id, row.arms]

    def fails(self, over: float) -> list[str]:
        """Return what is worse in B by more than the share `over` and called different, as one line each.

        A setting by its own verdict, all together by theirs. Ratios count as they are (of a rate, its inverse); a
        difference counts as a share of A's median, fewer trials that reach the target as a share of A's. A setting
        that has the figure in A, but in none of its trials in B, fails too.
        """
        return [line for one in self.matches for line in self._failing(one, over)]

    def unsure(self) -> list[str]:
        """Return for each figure in how many settings there are too few repeats to tell, as one line each."""
        counts = [sum(row.verdict.startswith("cannot tell") for row in found.rows) for found in self.matches]
        return [
            f"{count} of {plural(len(found.rows), 'setting')} of {found.figure}"
            for count, found in zip(counts, self.matches, strict=True)
            if count
        ]

    def _failing(self, found: Match, over: float) -> Iterator[str]:
        together = found.overall
        if together is not None and together.verdict == ("smaller" if found.higher_is_better else "larger"):
            medians = [row.medians[0] for row in found.rows if row.comparison is not None and row.medians[0]]
            by = _worse_by(found, together.effect, sum(map(abs, medians)) / max(1, len(medians)))
            if by > over:
                yield f"{found.figure}, {together.settings} settings together: worse by {100 * by:.3g} %"
        for row in found.rows:
            if row.verdict == "no figure in B" and row.trials[1]:
                yield f"{found.figure}, {self.label(row)}: none of {plural(row.trials[1], 'trial')} of B has it"
            elif row.verdict == "reached less often" and row.reached is not None:
                (hits, of), (other_hits, other_of) = row.reached
                by = 1 - (other_hits / other_of) / (hits / of)
                if by > over:
                    told = f"reached in {other_hits}/{plural(other_of, 'trial')}, not {hits}/{of}"
                    yield f"{found.figure}, {self.label(row)}: {told}"
            elif row.worse == 1 and row.effect is not None:
                by = _worse_by(found, row.effect, abs(row.medians[0] or 0))
                if by > over:
                    yield f"{found.figure}, {self.label(row)}: worse by {100 * by:.3g} %"


def _worse_by(found: Match, effect: float, against: float) -> float:
    if found.relative:
        return (1 / effect if found.higher_is_better else effect) - 1
    return abs(effect) / against if against else float("inf")


def compare(
    first: str,
    second: str,
    *,
    results: Path = Path("results"),
    within: Sequence[str] = (),
    where: Sequence[str] = (),
    figures: Sequence[str] = ("train_s",),
    target: str | None = None,
    discard: Sequence[str] = (),
    mix: Collection[str] = (),
) -> Compared:
    """Return what the second side is against the first.

    A side is a run, all runs of a folder (see `find_runs`), or an expression over trials, which selects from the runs
    `within`, or from all in `results`. `where` holds for both sides, `figures`, `target` and `mix` are as for
    `analyse.match.match`; "all" mixes whatever there is.

    Raises:
        ResultsError: for a side that there is not, and for all that cannot be compared.
        SuiteError: for an expression, a warning, a target or a name in `mix` that is none.
    """
    import pandas as pd

    from harness.analyse.match import match
    from harness.analyse.pairing import MIXABLE

    first_side, second_side = (
        find_side(name, asked, results=results, within=within, where=where, discard=discard, target=target,
              targeted="time_to_target" in figures)
        for name, asked in zip("AB", (first, second), strict=True)
    )  # fmt: skip
    sides = (first_side, second_side)
    goals = {side.gathered.target for side in sides}
    if len(goals) > 1 and "time_to_target" in figures:
        told = " and ".join(f"{side.name} {side.gathered.target or 'none'}" for side in sides)
        raise ResultsError(f"A and B have different targets ({told}); say which one counts: --target 'METRIC >= VALUE'")
    goal = sides[0].gathered.target
    one, (other, copied) = sides[0], apart(*sides)
    _expect_common(one, other)
    known = known_runs(results, sides)
    nodes = pd.concat([one.nodes, other.nodes])
    matches = tuple(
        match(
            one, other, figure=figure, target=None if goal is None else goal.model_dump(),
            mix=MIXABLE if "all" in mix else mix, runs=known, nodes=nodes,
        )
        for figure in figures
    )  # fmt: skip
    labels, only = _labels((one, other), matches[0])
    return Compared(
        first=one, second=other, matches=matches, labels=labels, only=only,
        target=goal if "time_to_target" in figures else None,
        notes=(*copied, *notes((one, other), matches)),
    )  # fmt: skip


def _expect_common(*sides: Side) -> None:
    """Raise if the sides have no setting in common: which of several settings is quickest is another question."""
    if set(sides[0].trials["setting_id"]) & set(sides[1].trials["setting_id"]):
        return
    told = []
    for side in sides:
        rows = side.trials.drop_duplicates("setting_id")
        labelled = side.gathered.naming.keys() == {"label"}
        names = [
            str(row["label"]) if labelled else _called(side, row) or _alone(side, row)
            for row in rows.to_dict("records")
        ]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        told.append(f"{side.name} has {', '.join(names[:_SHOWN])}{more} of {' and '.join(side.unique('suite'))}")
    apart_in = _apart_in(*sides)[:_SHOWN]
    why = f" They differ in {'; '.join(apart_in)}." if apart_in else ""
    raise ResultsError(
        f"A and B have no setting in common: {'; '.join(told)}.{why} `harness compare` holds each setting against "
        "itself elsewhere (another run, commit, machine or arm); which of several settings is quicker, and whether "
        "that is real, `harness report RUN` tells in its first sentence"
    )


def _apart_in(*sides: Side) -> list[str]:
    """Return in what all settings of one side differ from all of the other, axes aside, with what each side has
    there; nothing for sides of different suites, which differ in most."""
    if not set.intersection(*(set(side.unique("suite")) for side in sides)):
        return []
    settings = [[json.loads(one) for one in side.trials["setting"].unique()] for side in sides]
    axes = {path for side in sides for path in side.gathered.axes}
    paths = sorted({path for side in settings for one in side for path in leaves(one)} - axes)
    values = {path: [{_value(one, path) for one in side} for side in settings] for path in paths}
    return [
        f"{path} ({', '.join(f'{_few(found)} in {side.name}' for side, found in zip(sides, both, strict=True))})"
        for path, both in values.items()
        if not set.intersection(*both)
    ]


def _value(setting: Mapping[str, Any], path: str) -> str:
    value = read(setting, path)
    return "not said" if value is MISSING else text(value)  # a default is left out of a setting's identity


def _few(values: Collection[str]) -> str:
    shown = ", ".join(value if len(value) <= _WIDE else f"{value[:_WIDE]}…" for value in sorted(values)[:_SHOWN])
    return f"{shown}, …" if len(values) > _SHOWN else shown


def _called(side: Side, row: Mapping[Any, Any]) -> str:
    """Return what a setting is called by those of the axes that are part of it and that it has."""
    axes = {path: column for path, column in side.gathered.axes.items() if path not in EXECUTION}
    return place(row, {path: column for path, column in axes.items() if axis(row[column]) != "–"})


def _alone(side: Side, row: Mapping[Any, Any]) -> str:
    """Return what a setting without axes is called: its suite, unless there are others without axes."""
    return str(row["suite"] if side.trials["setting_id"].nunique() == 1 else row["setting_id"])


def _labels(
    sides: tuple[Side, Side], found: Match
) -> tuple[dict[tuple[str, tuple[str, str]], str], tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return what the matched settings are called, and those of either side alone."""
    rows = [side.trials.drop_duplicates("setting_id").set_index("setting_id") for side in sides]
    by_id = [
        {str(setting): row for setting, row in zip(one.index, one.to_dict("records"), strict=True)} for one in rows
    ]

    def called(setting: str, at: int) -> str:
        row = by_id[at][setting]
        if sides[at].gathered.naming.keys() == {"label"} and by_id[1 - at].get(setting, row)["label"] == row["label"]:
            return str(row["label"])  # settings have names of their own
        return _called(sides[at], row) or _alone(sides[at], row)

    several = len({row.setting_id for row in found.rows}) < len(found.rows)
    labels = {
        (row.setting_id, row.arms): " ".join([called(row.setting_id, 0), *([row.arms[0]] if several else [])])
        for row in found.rows
    }
    matched = {row.setting_id for row in found.rows}
    only = tuple(
        tuple(f"{called(setting, at)} {arm}" if setting in matched else called(setting, at) for setting, arm in groups)
        for at, groups in enumerate(found.only)
    )
    return labels, (only[0], only[1])
