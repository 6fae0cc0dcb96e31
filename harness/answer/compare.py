"""Two sides that the user named → their settings compared, and what else differs between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.answer.gather import Gathered, find_runs, gather
from harness.domain.errors import ResultsError
from harness.domain.expression import Expression
from harness.domain.naming import axis, place
from harness.domain.setting import EXECUTION
from harness.record import runs

if TYPE_CHECKING:
    import pandas as pd

    from harness.analyse.match import Match, Matched

# What only an expression has: names of runs and suites may hold most other characters.
_EXPRESSION: Final = re.compile(r"[<>]|[=!]=|\b(?:in|not|and|or)\b")
_SHOWN: Final = 4  # values in a message


@dataclass(frozen=True, kw_only=True)
class Side:
    """What A or B stands for: its trials, described, with their epochs, runs (run.json) and nodes."""

    name: str
    asked: str  # as the user named it
    trials: pd.DataFrame
    epochs: pd.DataFrame
    runs: Mapping[Path, Mapping[str, Any]]  # by folder; only those that have a trial of this side
    nodes: pd.DataFrame
    gathered: Gathered  # what it was made of


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Both sides, a `Match` a figure, and what a person should know besides."""

    first: Side
    second: Side
    matches: tuple[Match, ...]
    labels: Mapping[tuple[str, tuple[str, str]], str]  # what a matched setting is called: by its id and arms
    only: tuple[tuple[str, ...], tuple[str, ...]]  # what the settings are called that one side alone has
    target: str | None
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
            f"{count} of {len(found.rows)} settings of {found.figure}"
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
                yield f"{found.figure}, {self.label(row)}: none of {row.trials[1]} trials of B has it"
            elif row.verdict == "reached less often" and row.reached is not None:
                (hits, of), (other_hits, other_of) = row.reached
                by = 1 - (other_hits / other_of) / (hits / of)
                if by > over:
                    told = f"reached in {other_hits}/{other_of} trials, not {hits}/{of}"
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
        _side(name, asked, results=results, within=within, where=where, discard=discard, target=target,
              targeted="time_to_target" in figures)
        for name, asked in zip("AB", (first, second), strict=True)
    )  # fmt: skip
    sides = (first_side, second_side)
    goals = {side.gathered.target for side in sides}
    if len(goals) > 1 and "time_to_target" in figures:
        told = " and ".join(f"{side.name} {side.gathered.target or 'none'}" for side in sides)
        raise ResultsError(f"A and B have different targets ({told}); say which one counts: --target 'METRIC >= VALUE'")
    goal = sides[0].gathered.target
    one, (other, copied) = sides[0], _apart(*sides)
    known = _known_runs(results, sides)
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
        target=str(goal) if goal is not None and "time_to_target" in figures else None,
        notes=(*copied, *_notes((one, other), matches)),
    )  # fmt: skip


def _side(name: str, asked: str, *, results: Path, within: Sequence[str], where: Sequence[str], **options: Any) -> Side:
    names, conditions = [asked], list(where)
    by_name = Path(asked).is_dir() or not _EXPRESSION.search(asked) or asked in _names(results)
    if not by_name:
        names, conditions = _runs_with(name, asked, find_runs(within or [str(results)], results)), [asked, *where]
    try:
        found = gather(names, results=results, where=conditions, **options)
    except ResultsError as error:
        unknown = by_name and not Path(asked).is_dir() and "no run or suite" in str(error)
        hint = '; nor is it an expression over trials, such as "cpus == 2" or "\'1a2b3c4\' in commit"'
        raise ResultsError(f"{name}: {error}{hint if unknown else ''}") from None
    here = set(found.trials["run_id"])
    folders = zip(found.results.folders, found.runs, strict=True)
    chosen = {folder.resolve(): run for folder, run in folders if run["run_id"] in here}
    if len(chosen) > len(here):
        twice, _ = Counter(str(run["run_id"]) for run in chosen.values()).most_common(1)[0]
        raise ResultsError(f"{name}: the run {twice} is there twice, as a copy; name one of its folders")
    return Side(
        name=name, asked=asked, trials=_in_order(found), epochs=found.epochs, runs=chosen, nodes=found.results.nodes,
        gathered=found,
    )  # fmt: skip


def _in_order(found: Gathered) -> pd.DataFrame:
    """Return the trials in the order of their axes, as tables list them."""
    axes = list(found.axes.values())
    return found.trials.sort_values(axes, kind="stable", ignore_index=True) if axes else found.trials


def _names(results: Path) -> set[str]:
    """Return the suites and run ids in a results folder, which come before expressions."""
    return {part for folder in (runs.find_runs(results) if results.is_dir() else []) for part in folder.parts[-2:]}


def _runs_with(name: str, asked: str, folders: Sequence[Path]) -> list[str]:
    """Return those of the runs that have a trial for which an expression holds: only their epochs need be read."""
    from harness.analyse.described import described, select
    from harness.record.reading import load

    loaded = load(folders)
    trials = described(loaded.trials, loaded.runs, loaded.nodes)
    found = set(select(trials, asked)["run_id"])
    if not found:
        paths = Expression(asked).names
        there = "; ".join(f"{path} is {_values(trials[path])}" for path in paths if path in trials.columns)
        start = ", and the start of a commit is found by \"'1a2b3c4' in commit\"" if "commit" in paths else ""
        raise ResultsError(
            f"{name}: {asked!r} holds for none of {len(trials)} trials of {len(folders)} runs"
            f"{': there ' + there if there else ''}{start}"
        )
    return [str(folder) for folder, run in zip(loaded.folders, loaded.runs, strict=True) if run["run_id"] in found]


def _values(column: pd.Series) -> str:
    counts = Counter(axis(value) for value in column.tolist())
    told = ", ".join(f"{value} ({count} trials)" for value, count in counts.most_common(_SHOWN))
    return told + (f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _apart(first: Side, second: Side) -> tuple[Side, list[str]]:
    """Return the second side so that equal ids are the same trials, and what was done for that: a run of B that is a
    copy of one of A, in another folder, gets an id of its own, since somebody may have changed it."""
    homes = {run["run_id"]: folder for folder, run in first.runs.items()}
    copies = {
        run["run_id"]: f"{run['run_id']} (B)"
        for folder, run in second.runs.items()
        if homes.get(run["run_id"], folder) != folder
    }
    if not copies:
        return second, []

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(run_id=frame["run_id"].astype(object).replace(copies))

    told = [f"A and B have the run {run} in two folders: it is compared as two runs" for run in copies]
    changed = replace(second, trials=renamed(second.trials), epochs=renamed(second.epochs), nodes=renamed(second.nodes))
    return changed, told


def _known_runs(results: Path, sides: Sequence[Side]) -> list[Mapping[str, Any]]:
    """Return run.json of all runs that may have measured a noise floor: of `results`, and of the results folders that
    the sides lie in."""
    found: dict[Path, Mapping[str, Any]] = {folder: run for side in sides for folder, run in side.runs.items()}
    homes = {results.resolve(), *(folder.parent.parent for folder in found)}
    for folder in [folder.resolve() for home in sorted(homes) if home.is_dir() for folder in runs.find_runs(home)]:
        if folder not in found:
            with suppress(ResultsError):  # what is wrong with a run is for `status` to say
                found[folder] = runs.read_run_file(folder)
    return list(found.values())


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
        axes = dict(sides[at].gathered.axes)
        if sides[at].gathered.naming.keys() == {"label"} and by_id[1 - at].get(setting, row)["label"] == row["label"]:
            return str(row["label"])  # settings have names of their own
        axes = {path: column for path, column in axes.items() if path not in EXECUTION and axis(row[column]) != "–"}
        return place(row, axes) or setting

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


def _notes(sides: tuple[Side, Side], matches: Sequence[Match]) -> Iterator[str]:
    """Yield what else a person should know: what differs between the sides, and which of their trials do not count."""
    mixture = matches[0].mixture
    for name, how in mixture.allowed.items():
        yield f"mixed, as allowed: {name}: {how}"
    for name, values in _differing(sides).items():
        yield f"{name} differs: {values}"
    for side, strays in zip(sides, mixture.strays, strict=True):
        if strays:
            told = f"{strays} of {len(side.trials)} trials of {side.name}"
            yield f"neighbours: {told} ran alone although most did not, or the other way round"
        ended = Counter(side.trials["status"].tolist())
        del ended["completed"]
        if ended:
            told = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
            yield f"{sum(ended.values())} of {len(side.trials)} trials of {side.name} did not complete ({told})"
        going = [run for run in side.runs.values() if run.get("state") not in ("completed", "failed")]
        if going:
            told = ", ".join(f"{run['run_id']} is {run.get('state')}" for run in going[:_SHOWN])
            yield f"not all of {side.name} was run: {told}"
        left = side.gathered.discarded
        if left is not None:
            kept = f"; {left.unjudged} were kept although it could not be judged" if left.unjudged else ""
            yield f"left out of {side.name}: {len(left.trials)} of {left.of} trials for {', '.join(left.names)}{kept}"
    yield from _warnings(sides)
    for found in matches:
        yield from _without_figure(found)


def _differing(sides: tuple[Side, Side]) -> dict[str, str]:
    """Return what the sides were measured with and on, where that is not the same."""
    seen = {
        "harness": [{str(run.get("harness_version", "unknown")) for run in side.runs.values()} for side in sides],
        "versions": [set(side.trials["versions"].dropna()) for side in sides],
        "hardware": [set(side.trials["hardware"].dropna()) for side in sides],
        "node": [set(side.trials["node"].dropna()) for side in sides],
    }
    found = {}
    for name, (first, second) in seen.items():
        if first and second and (first != second or (name != "node" and len(first) > 1)):
            told = [" and ".join(sorted(one)[:_SHOWN]) + (" …" if len(one) > _SHOWN else "") for one in (first, second)]
            found[name] = f"{told[0]} in A, {told[1]} in B"
    return found


def _warnings(sides: tuple[Side, Side]) -> Iterator[str]:
    from harness.analyse.discard import listed

    told = []
    for side in sides:
        lists = listed(side.trials, "warnings")
        counts = Counter(name for names in lists for name in set(names))
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        told.append(f"{sum(map(bool, lists))} of {len(lists)} trials of {side.name}{f' ({kinds})' if kinds else ''}")
        if not counts:
            told[-1] = f"none of {side.name}"
    if any(not one.startswith("none") for one in told):
        yield f"warnings: on {told[0]}, {told[1]}; --discard NAME leaves them out"


def _without_figure(found: Match) -> Iterator[str]:
    for at, name in enumerate("AB"):
        rows = [row for row in found.rows if row.verdict != "the same trials"]
        lacking = sum(
            row.trials[at] - (row.measured[at] if row.reached is None else row.reached[at][1]) for row in rows
        )
        if lacking:
            yield f"{lacking} of {sum(row.trials[at] for row in rows)} trials of {name} have no {found.figure}"
        missed = sum(row.reached[at][1] - row.reached[at][0] for row in rows if row.reached is not None)
        if missed:
            yield (
                f"{missed} trials of {name} missed the target: ratios are of those that reached it, "
                "and the shares are compared too"
            )
