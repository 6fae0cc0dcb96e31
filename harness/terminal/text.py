"""Values, durations and tables as text for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.domain.component import text
from harness.domain.duration import seconds as seconds
from harness.domain.duration import significant as significant
from harness.domain.trial import Trial


def label(trial: Trial) -> str:
    """Return a trial's place in the grid as text: ``batch_size=32 seed=1``; a label stands for whole components."""
    labelled = any(path == "label" for path, _ in trial.axes)
    told = [(path, value) for path, value in trial.axes if not (labelled and isinstance(value, dict))]
    return " ".join([f"{path}={text(value)}" for path, value in told] + [f"seed={trial.seed}"])


def about(value: float) -> str:
    """Return an estimated duration, or one that still grows: whole seconds below a minute."""
    return f"{value:.0f} s" if value < 100 else seconds(value)


def plural(count: int, noun: str) -> str:
    """Return ``1 trial`` or ``12 trials``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """Return text for one line of a terminal: what would break the line or steer the terminal is a question mark."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def fits(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a table can be printed with each row in one line; in a file or a pipe it always can."""
    console = Console()
    cells = zip((heading for heading, _ in columns), *rows, strict=True)
    return not console.is_terminal or sum(max(map(len, column)) + 2 for column in cells) - 2 <= console.width


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard output; what a terminal's width breaks goes on indented by its line's own spaces."""
    console = Console(highlight=False)
    for line in lines:
        if not console.is_terminal:
            console.file.write(line + "\n")
            continue
        indent = len(line) - len(line.lstrip())
        console.print(Padding(Text(line.lstrip()), (0, 0, 0, indent)))


def print_table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table to standard output; a column is its heading and "left" or "right".

    On a terminal cells are folded to fit; in a file or a pipe each row is one line.
    """
    console = Console(highlight=False)
    columns = [(printable(heading), side) for heading, side in columns]
    rows = [[printable(cell) for cell in row] for row in rows]
    if title is not None:
        console.print(Text(title, style="italic"), soft_wrap=True)
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip((heading for heading, _ in columns), *rows, strict=True)]
        sides = [(str.rjust if side == "right" else str.ljust) for _, side in columns]
        for row in ([heading for heading, _ in columns], *rows):
            cells = (side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True))
            console.file.write("  ".join(cells).rstrip() + "\n")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading, side in columns:
        broken = re.sub(r"(?<=[a-z_])\.(?=[a-z_])", ".\n", heading)  # a dotted path breaks behind a dot, not anywhere
        table.add_column(broken, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    console.print(table)
