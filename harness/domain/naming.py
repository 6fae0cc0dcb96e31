"""What a setting or a trial is called in front of people: the values of the axes that tell it from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.domain.component import text

if TYPE_CHECKING:
    from harness.domain.trial import Trial

# What tells variants of one setting apart, in this order, where the axes do not.
FURTHER: Final = ("arm", "hardware")


def missing(value: Any) -> bool:
    """Tell whether a cell of a table is empty: None, NaN or pandas's NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA is neither equal to itself nor not
        return True


def plural(count: int, noun: str) -> str:
    """Return ``1 trial`` or ``12 trials``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def commonest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return names with their counts, the commonest first and equally common ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def axis(value: Any) -> str:
    """Return an axis's value as text; a setting of another part of the grid does not have it."""
    return "–" if missing(value) else text(value)


def label(trial: Trial) -> str:
    """Return a trial's place in the grid as text: ``batch_size=32 seed=1``; a label stands for whole components."""
    labelled = any(path == "label" for path, _ in trial.axes)
    told = [(path, value) for path, value in trial.axes if not (labelled and isinstance(value, dict))]
    return " ".join([f"{path}={text(value)}" for path, value in told] + [f"seed={trial.seed}"])


def place(row: Mapping[Any, Any], naming: Mapping[str, str]) -> str:
    """Return a recorded setting's place in the grid as text: ``batch_size=32 optimizer.learning_rate=0.1``.

    `naming` is the axes that tell the settings apart, each with the column of `row` that holds its value.
    """
    return " ".join(f"{path}={axis(row[column])}" for path, column in naming.items())


def place_and_seed(row: Mapping[Any, Any], naming: Mapping[str, str]) -> str:
    """Return a recorded trial's place in the grid as text: ``batch_size=32 seed=1``."""
    return f"{place(row, naming)} seed={row['seed']}".lstrip()


def names(rows: Sequence[Mapping[Any, Any]], naming: Mapping[str, str], further: Sequence[str] = FURTHER) -> list[str]:
    """Return what each group of trials is called, given one of its trials.

    A name is the place in the grid. Where that does not tell all groups apart the columns `further` follow, as far as
    the rows have them and they differ, and last, for those still alike, the setting's identity. One group alone,
    without axes, has an empty name.
    """
    found = [place(row, naming) for row in rows]
    for column in further:
        values = [axis(row.get(column)) for row in rows]
        if len(set(found)) < len(found) and len(set(values)) > 1:
            found = [f"{name} {value}".lstrip() for name, value in zip(found, values, strict=True)]
    again = Counter(found)
    return [
        f"{name} {row['setting_id']}".lstrip() if again[name] > 1 else name
        for name, row in zip(found, rows, strict=True)
    ]
