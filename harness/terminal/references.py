"""Published values beside measured ones, as a table on standard output or as JSON for programs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.domain.applied import Applied, applied
from harness.domain.component import text
from harness.domain.errors import ResultsError, SuiteError
from harness.domain.reference import Direction, Reference, load_references
from harness.record import runs
from harness.terminal.text import fits, plural, print_lines, print_table, significant

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
_EPOCHS = {"last": "last epoch", "best": "best epoch", "all": "median epoch"}


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
        lines = [_line(row) for row in self.rows]
        with_arm = len({(row.arm, _settings(row)) for row in self.rows}) > len({_settings(row) for row in self.rows})
        columns = [column for column in _COLUMNS if with_arm or column != _ARM]
        cells = [[line[heading] for heading, _ in columns] for line in lines]
        if fits(columns, cells):
            print_table(columns, cells, title=_TITLE)
        else:
            print_lines(itertools.chain([_TITLE], *map(_block, lines)))
        told: dict[str, dict[str, None]] = {}
        for row in self.rows:
            for said in (row.reference.source, row.reference.note):
                if said:
                    told.setdefault(said, {})[row.reference.name] = None
        for said, names in told.items():
            typer.echo(f"{', '.join(names)}: {said}")

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
    judged = judge(known, trials, epochs, results.nodes, axes=axes, unfinished=unfinished)
    return References(rows=tuple(judged))


def recorded_with(folder: Path, run: Mapping[str, Any]) -> list[Applied]:
    """Return the references in run.json.

    Raises:
        ResultsError: naming the file, when they are not what a harness wrote.
    """
    try:
        return [applied(plain) for plain in run.get("references", ())]
    except (SuiteError, TypeError, AttributeError) as error:
        raise ResultsError(f"{folder / runs.FILE}: its references cannot be read ({error}); restore it") from error


def _line(row: Judged) -> dict[str, str]:
    """Return a row's cells by their heading."""
    return {
        "reference": row.reference.name,
        "settings": _settings(row),
        "arm": row.arm or "",
        "quantity": _quantity(row),
        "published": _published(row),
        "measured": _measured(row),
        "repeats": str(row.repeats) if row.repeats else "",
        "verdict": _verdict(row),
    }


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


def _quantity(row: Judged) -> str:
    reference, epoch = row.reference, row.reference.epoch
    at = "" if epoch is None else f", {_EPOCHS.get(str(epoch), f'epoch {epoch}')}"
    mean = isinstance(reference, Reference) and reference.over and row.setting_ids
    return f"{reference.metric}{at}" + (f", mean of {len(row.setting_ids)}" if mean else "")


def _settings(row: Judged) -> str:
    if isinstance(row.reference, Direction):
        return f"{row.reference.higher}  >  {row.reference.lower}"
    told = " ".join(f"{path}={text(value)}" for path, value in row.point.items())
    return told or ("" if row.reference.where == "true" else row.reference.where)


def _published(row: Judged) -> str:
    reference = row.reference
    if isinstance(reference, Direction):
        return "higher > lower"
    told = []
    if reference.value is not None:
        told.append(
            _exact(reference.value) + ("" if reference.tolerance is None else f" ± {_exact(reference.tolerance)}")
        )
    if reference.at_least is not None:
        told.append(f"≥ {_exact(reference.at_least)}")
    if reference.at_most is not None:
        told.append(f"≤ {_exact(reference.at_most)}")
    return ", ".join(told) + _unit(row)


def _measured(row: Judged) -> str:
    if row.measured is None:
        return "–"
    if row.lower is not None:
        sign = ">" if row.measured > row.lower else "≤"
        return f"{_figure(row, row.measured)} {sign} {_figure(row, row.lower)}{_unit(row)}"
    std = "" if row.std is None else f" ± {_figure(row, row.std, beside=row.measured)}"
    return f"{_figure(row, row.measured)}{std}{_unit(row)}"


def _verdict(row: Judged) -> str:
    by = None if row.by is None else f"{_figure(row, abs(row.by))}{_unit(row)}"
    if row.verdict == "none":
        return f"– {row.reason}"
    if row.verdict == "not measured":
        return f"not measured ({row.reason})"
    if isinstance(row.reference, Direction) or row.reference.value is not None:
        return "reproduced" if by is None else f"missed by {by}"
    if by is None or row.by is None:
        return "met"
    return f"exceeds by {by}" if row.by > 0 else f"falls short by {by}"


def _is_time(row: Judged) -> bool:
    """Tell whether it is a time, or a sum of times."""
    metric = row.reference.metric
    return metric.endswith("_s") and not metric.endswith("per_s") and not set("*/") & set(metric)


def _unit(row: Judged) -> str:
    return " s" if _is_time(row) else ""


def _exact(value: float) -> str:
    """Return a published figure as it was written; large whole numbers with commas."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.12g}"


def _figure(row: Judged, value: float, beside: float | None = None) -> str:
    """Return a measured figure with as many digits as its published ones ask for.

    A time has three significant digits, or as many decimals as the one that it stands `beside`.
    """
    reference = row.reference
    expected = [] if isinstance(reference, Direction) else [reference.value, reference.at_least, reference.at_most]
    told = [one for one in expected if one is not None]
    if _is_time(row):
        decimals = len(significant(beside or value).partition(".")[2])
        return f"{value:.{decimals}f}"
    if told and value == int(value) and all(one == int(one) for one in told):
        return f"{value:,.0f}"
    if told and value and abs(value) < 1e-3 and max(map(abs, told)) < 1e-3:
        return f"{value:.3g}"
    tolerance = reference.tolerance if not isinstance(reference, Direction) else None
    finest = max((len(_exact(one).partition(".")[2]) for one in told if "e" not in _exact(one)), default=0)
    finest = max(finest, 1 - math.floor(math.log10(tolerance)) if tolerance else 0)
    return f"{value:.{min(max(4, finest), 12)}f}"


def _record(row: Judged) -> dict[str, Any]:
    reference = row.reference.plain()
    return {
        "kind": type(row.reference).__name__.lower(),
        **reference,
        "setting_ids": list(row.setting_ids),
        "arm": row.arm,
        "axes": dict(row.point),
        "measured": row.measured,
        **({"measured_lower": row.lower} if isinstance(row.reference, Direction) else {}),
        "std": row.std,
        "repeats": row.repeats,
        "verdict": None if row.verdict == "none" else row.verdict.replace(" ", "_"),
        "by": row.by,
        "reason": row.reason or None,
    }
