"""Values, durations and tables as text for people."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.domain.component import text
from harness.domain.trial import Trial


def label(trial: Trial) -> str:
    """Return a trial's place in the grid as text: ``batch_size=32 seed=1``; a label stands for whole components."""
    labelled = any(path == "label" for path, _ in trial.axes)
    told = [(path, value) for path, value in trial.axes if not (labelled and isinstance(value, dict))]
    return " ".join([f"{path}={text(value)}" for path, value in told] + [f"seed={trial.seed}"])


def seconds(value: float | None) -> str:
    """Return a measured duration for people: ``0.32 s``, ``12.1 s``, ``3 min 05 s``, ``2 h 14 min``."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if value < 100:
        return f"{significant(value)} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"


def about(value: float) -> str:
    """Return an estimated duration, or one that still grows: whole seconds below a minute."""
    return f"{value:.0f} s" if value < 100 else seconds(value)


def significant(value: float) -> str:
    """Return a figure above 0 with three significant digits: ``0.0581``, ``1.50``, ``12.1``; 0 below a millionth."""
    if value < 1e-6:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def plural(count: int, noun: str) -> str:
    """Return ``1 trial`` or ``12 trials``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


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
