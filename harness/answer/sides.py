"""What the user calls A or B → its trials, epochs and runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.answer.gather import Gathered, find_runs, gather
from harness.domain.errors import ResultsError
from harness.domain.expression import Expression
from harness.domain.naming import axis, plural
from harness.record import runs

if TYPE_CHECKING:
    import pandas as pd

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

    def unique(self, column: str) -> list[str]:
        """Return the different values of a column of the trials as text, sorted."""
        return sorted({str(value) for value in self.trials[column].dropna()})


def find_side(
    name: str, asked: str, *, results: Path, within: Sequence[str], where: Sequence[str], **options: Any
) -> Side:
    """Return the trials of a side, which has a `name` and which the user `asked` for (see `answer.compare.compare`).

    Raises:
        ResultsError: when there are none, or a run is there twice.
        SuiteError: as `gather`, whose `options` these are.
    """
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
            f"{name}: {asked!r} holds for none of {plural(len(trials), 'trial')} of {plural(len(folders), 'run')}"
            f"{': there ' + there if there else ''}{start}"
        )
    return [str(folder) for folder, run in zip(loaded.folders, loaded.runs, strict=True) if run["run_id"] in found]


def _values(column: pd.Series) -> str:
    counts = Counter(axis(value) for value in column.tolist())
    told = ", ".join(f"{value} ({plural(count, 'trial')})" for value, count in counts.most_common(_SHOWN))
    return told + (f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def apart(first: Side, second: Side) -> tuple[Side, list[str]]:
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


def known_runs(results: Path, sides: Sequence[Side]) -> list[Mapping[str, Any]]:
    """Return run.json of all runs that may have measured a noise floor: of `results`, and of the results folders that
    the sides lie in."""
    found: dict[Path, Mapping[str, Any]] = {folder: run for side in sides for folder, run in side.runs.items()}
    homes = {results.resolve(), *(folder.parent.parent for folder in found)}
    for folder in [folder.resolve() for home in sorted(homes) if home.is_dir() for folder in runs.find_runs(home)]:
        if folder not in found:
            with suppress(ResultsError):  # what is wrong with a run is for `status` to say
                found[folder] = runs.read_run_file(folder)
    return list(found.values())
