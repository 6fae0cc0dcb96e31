"""Two sides compared, for people, for pull requests and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from harness.terminal.compare.document import document
from harness.terminal.compare.remarks import described, remarks
from harness.terminal.compare.sentence import conclusion
from harness.terminal.compare.table import table, title
from harness.terminal.text import narrowed, plural, print_lines, print_table

if TYPE_CHECKING:
    from harness.answer.compare import Compared

__all__ = ["document", "markdown", "print_compared"]

_SHOWN: Final = 40  # settings of a table; --json and --markdown have all
_DISPENSABLE: Final = ("B larger", "p (ranks)", "floor", "needed", "p (Holm)", "p (t)", "repeats")


def print_compared(found: Compared) -> None:
    """Print the conclusion, what A and B are, a table a figure, and what else a person should know."""
    print_lines(conclusion(found, one) for one in found.matches)
    print_lines(["", *(described(side) for side in (found.first, found.second))])
    for one in found.matches:
        typer.echo("")
        columns, rows = table(found, one)
        more = len(one.rows) - _SHOWN
        first = rows if more <= 0 else [*rows[:_SHOWN], *rows[len(one.rows) :]]
        shown, lines, dropped = narrowed(columns, first, _DISPENSABLE)
        print_table(shown, lines, title=title(found, one))
        if dropped:
            typer.echo(f"(not shown for want of width: {', '.join(dropped)}; --json and --markdown have them)")
        if more > 0:
            typer.echo(f"… and {plural(more, 'setting')} more; --json has all")
    known = list(remarks(found))
    if known:
        print_lines(["", *known])


def markdown(found: Compared) -> str:
    """Return the same as Markdown: for a pull request."""
    from harness.export.markdown import escape

    parts = [f"**{escape(conclusion(found, one))}**" for one in found.matches]
    parts.append("\n".join(f"- {escape(described(side))}" for side in (found.first, found.second)))
    for one in found.matches:
        columns, rows = table(found, one)
        lines = [escape(title(found, one)), ""]
        lines.append("| " + " | ".join(escape(heading) for heading, _ in columns) + " |")
        lines.append("|" + "|".join("---:" if side == "right" else "---" for _, side in columns) + "|")
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
        parts.append("\n".join(lines))
    known = [f"- {escape(line)}" for line in remarks(found)]
    return "\n\n".join([*parts, *(["\n".join(known)] if known else [])])
