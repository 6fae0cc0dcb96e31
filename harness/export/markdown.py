"""A run's settings as a Markdown table, for a pull request or a wiki."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from harness.domain.duration import seconds, significant
from harness.domain.naming import names
from harness.export.rows import records

# Where Markdown would see more than text; an underscore within a word is none, nor is a colon but in an address. Each
# is written as the entity that all dialects take for the letter, where a backslash is not enough in a table's cell.
_SPECIAL: Final = re.compile(r"[\\`*\[\]|~@]|(?<![^\W_])_|_(?![^\W_])|\A[#>+-]|:(?=//)|(?<=www)\.")


def markdown(
    summary: pd.DataFrame,
    *,
    title: str,
    facts: Sequence[str],
    notes: Sequence[str],
    naming: Mapping[str, str],
    metric: str,
    target: str | None,
) -> str:
    """Return a heading, the facts, and one row a setting of a `summary` (see `harness.analyse.summarise`), ranked.

    With a `target` the quickest to reach it stands first, without one the best. Texts of the run, such as labels, are
    shown as they are: nothing in them becomes markup or a link.
    """
    rows = records(summary)
    sides = [(":--", "setting")]
    if target is not None:
        sides += [("--:", f"time to {target}"), ("--:", "reached")]
    sides += [("--:", head) for head in (f"best {metric}", "an epoch", "samples/s", "trials")]
    lines = [f"### {escape(title)}", "", *[f"{escape(fact)}  " for fact in facts], ""]
    lines.append(_line(escape(head) for _, head in sides))
    lines.append(_line(side for side, _ in sides))
    for row, name in zip(rows, names(rows, naming), strict=True):
        cells = [_code(name or title)]  # of one setting alone, which has no axes
        if target is not None:
            cells += [_interval(row, "time_to_target_s"), row["reached_share"]]
        best = row["median_best"]
        cells.append("–" if best is None or math.isnan(best) else f"{best:.4f}" if abs(best) >= 0.1 else f"{best:.3g}")
        cells += [_interval(row, "train_s"), _rate(row["median_samples_per_s"]), f"{row['completed']}/{row['trials']}"]
        lines.append(_line(cells))
    if notes:
        lines += ["", *[f"- {escape(note)}" for note in notes]]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(row: Mapping[str, Any], name: str) -> str:
    """Return a median with its interval, where repeats differ."""
    low, high = row[f"low_{name}"], row[f"high_{name}"]
    told = seconds(row[f"median_{name}"])
    if low is None or high is None or math.isnan(low) or low == high:
        return told
    return f"{told} ({seconds(low)} to {seconds(high)})"


def escape(text: str) -> str:
    """Return a text as one line in which Markdown and HTML see nothing but text."""
    plain = html.escape(_one_line(text), quote=False)
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", plain)


def _code(text: str) -> str:
    """Return a text of the run's own as code, in which no forge looks for mentions either."""
    text = _one_line(text)
    return f"<code>{escape(text)}</code>" if set(text) & set("`|\\") else f"`{text}`"


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _rate(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}" if value >= 100 else significant(value)
