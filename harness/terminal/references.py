"""Published values beside measured ones, as a table on standard output or as JSON for programs."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.answer.published import line, recorded_with, settings, sources
from harness.domain.errors import SuiteError
from harness.domain.reference import Alike, Direction, load_references
from harness.terminal.text import fits, plural, print_lines, print_table, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from harness.analyse.references import Judged
    from harness.record.reading import Results

_TITLE = "published beside measured  (median ± standard deviation of the repeats)"
_ARM = ("arm", "left")
_COLUMNS = (
    ("reference", "left"),
    ("settings", "left"),
    _ARM,
    ("quantity", "left"),
    ("published", "right"),
    ("measured", "right"),
    ("repeats", "right"),
    ("verdict", "left"),
)


@dataclass(frozen=True, kw_only=True)
class References:
    """The references of a run, each with what was measured and its verdict."""

    rows: tuple[Judged, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as plain JSON; what is not known is null."""
        return [_record(row) for row in self.rows]

    def print(self) -> None:
        """Print the table, and below it what was published where."""
        if not self.rows:
            return
        typer.echo("")
        lines = [line(row) for row in self.rows]
        with_arm = len({(row.arm, settings(row)) for row in self.rows}) > len({settings(row) for row in self.rows})
        columns = [column for column in _COLUMNS if with_arm or column != _ARM]
        cells = [[one[heading] for heading, _ in columns] for one in lines]
        if fits(columns, cells):
            print_table(columns, cells, title=_TITLE)
        else:
            print_lines(itertools.chain([_TITLE], *map(_block, lines)))
        for said in sources(self.rows):
            typer.echo(printable(said))

    def conclude(self, *, check: bool, err: bool) -> None:
        """Print how many verdicts there are of each kind, in one line: if there are any, or if they were asked for."""
        counts = Counter(row.verdict for row in self.rows)
        told = [f"{counts['reproduced']} reproduced", f"{counts['missed']} missed"]
        told += [f"{counts['not measured']} not measured"] if counts["not measured"] else []
        told += [f"{counts['none']} without verdict"] if counts["none"] else []
        nothing = "; nothing could be judged" if counts["none"] == len(self.rows) else ""
        if self.rows:
            typer.echo(f"References: {', '.join(told)}{nothing}", err=err)
        elif check:
            typer.echo("References: none; nothing could be judged", err=err)

    @property
    def hold(self) -> bool:
        """Whether something was judged, all of it was reproduced, and nothing failed that was to be judged."""
        verdicts = {row.verdict for row in self.rows}
        return "reproduced" in verdicts and not verdicts & {"missed", "not measured"}


def references(
    folder: Path,
    results: Results,
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    axes: Mapping[str, str],
    own: Path | None = None,
) -> References:
    """Return the references that were recorded with a run, then those of the user's own file.

    They are held against `trials` and `epochs`: those of the results, or some of them.

    Raises:
        SuiteError: when the own file is wrong.
        ResultsError: when those of the run cannot be read.
    """
    asked = () if own is None else load_references(own)
    run = results.runs[0]
    known = recorded_with(folder, run)
    if not asked and not known:
        return References()
    from harness.analyse.references import find, judge

    try:
        known += find(asked, trials)
    except SuiteError as error:
        raise SuiteError(f"{own}: {error}") from None
    unfinished = len(results.trials) < int(run.get("trials") or 0)
    judged = judge(known, trials, epochs, results.nodes, axes=axes, target=run.get("target"), unfinished=unfinished)
    return References(rows=tuple(judged))


def _block(line: Mapping[str, str]) -> list[str]:
    """Return a row for a terminal that is too narrow for the table."""
    arm = f" ({line['arm']})" if line["arm"] not in ("", "default") else ""
    where = f"{line['settings']}{arm}: " if line["settings"] else ""
    repeats = f" of {plural(int(line['repeats']), 'repeat')}" if line["repeats"] else ""
    return [
        f"{line['reference']}  {where}{line['quantity']}",
        f"    published {line['published']}, measured {line['measured']}{repeats}",
        f"    {line['verdict']}",
    ]


def _record(row: Judged) -> dict[str, Any]:
    reference = row.reference.plain()
    return {
        "kind": type(row.reference).__name__.lower(),
        **reference,
        "setting_ids": list(row.setting_ids),
        "arm": row.arm,
        "axes": dict(row.point),
        "measured": row.measured,
        **({"measured_lower": row.lower} if isinstance(row.reference, Direction | Alike) else {}),
        **({"ratio": row.ratio} if isinstance(row.reference, Alike) else {}),
        "std": row.std,
        "repeats": row.repeats,
        "verdict": None if row.verdict == "none" else row.verdict.replace(" ", "_"),
        "by": row.by,
        "reason": row.reason or None,
    }
