"""Values, durations and tables as text for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.domain.duration import seconds as seconds
from harness.domain.duration import significant as significant
from harness.domain.naming import label as label
from harness.domain.naming import plural as plural


def tally(counts: Mapping[str, int]) -> str:
    """Return how many trials ended as what: ``3 completed, 1 failed``."""
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none finished"


def about(value: float) -> str:
    """Return an estimated duration, or one that still grows: whole seconds below a minute."""
    return f"{value:.0f} s" if value < 100 else seconds(value)


def speed(epoch_s: float | None, trials_per_min: float | None) -> str:
    """Return how fast trials go: ``0.52 s/epoch``, without epochs ``34.0/min``, empty where neither is known."""
    if epoch_s is not None:
        return f"{significant(epoch_s)} s/epoch"
    return "" if trials_per_min is None else f"{significant(trials_per_min)}/min"


def printable(text: str) -> str:
    """Return text for one line of a terminal: what would break the line or steer the terminal is a question mark."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


Columns = Sequence[tuple[str, str]]  # the heading of each, and "left" or "right"


def fits(columns: Columns, rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a table can be printed without breaking a word or a cell; in a file or a pipe it always can."""
    console = Console()
    return not console.is_terminal or sum(_least_widths(columns, rows)) + 2 * (len(columns) - 1) <= console.width


def narrowed(
    columns: Columns, rows: Sequence[Sequence[str]], dispensable: Iterable[str]
) -> tuple[Columns, Sequence[Sequence[str]], list[str]]:
    """Return a table without as many of the `dispensable` columns, in that order, as it takes to fit, and which."""
    dropped: list[str] = []
    for heading in dispensable:
        place = next((n for n, column in enumerate(columns) if column[0] == heading), None)
        if place is None or fits(columns, rows):
            continue
        columns = [*columns[:place], *columns[place + 1 :]]
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
        dropped.append(heading)
    return columns, rows, dropped


def _least_widths(columns: Columns, rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column is if its heading is broken between words."""
    words = [max(map(cell_len, _parts(heading).split()), default=0) for heading, _ in columns]
    return [max([word, *(cell_len(row[place]) for row in rows)]) for place, word in enumerate(words)]


def _parts(heading: str) -> str:
    """Return a heading with a line for each part of a dotted path: it breaks behind a dot, not anywhere."""
    return re.sub(r"(?<=[a-z_])\.(?=[a-z_])", ".\n", heading)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard output; what a terminal's width breaks goes on indented by its line's own spaces."""
    console = Console(highlight=False)
    for line in map(printable, lines):
        if not console.is_terminal:
            console.file.write(line + "\n")
            continue
        indent = len(line) - len(line.lstrip())
        console.print(Padding(Text(line.lstrip()), (0, 0, 0, indent)))


def print_table(columns: Columns, rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table to standard output; a column is its heading and "left" or "right".

    On a terminal a heading is broken between words where the column's cells are narrower, and cells are folded to fit;
    in a file or a pipe each row is one line.
    """
    console = Console(highlight=False)
    columns = [(printable(heading), side) for heading, side in columns]
    rows = [[printable(cell) for cell in row] for row in rows]
    if title is not None:
        console.print(Text(printable(title), style="italic"), soft_wrap=True)
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip((heading for heading, _ in columns), *rows, strict=True)]
        sides = [(str.rjust if side == "right" else str.ljust) for _, side in columns]
        for row in ([heading for heading, _ in columns], *rows):
            cells = (side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True))
            console.file.write("  ".join(cells).rstrip() + "\n")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for (heading, side), width in zip(columns, _least_widths(columns, rows), strict=True):
        lines = [line for part in _parts(heading).split("\n") for line in wrap(part, max(1, width))]
        table.add_column("\n".join(lines), justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    console.print(table)
