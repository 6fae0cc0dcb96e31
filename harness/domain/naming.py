"""What a setting or a trial is called in front of people: the values of the axes that tell it from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.domain.component import text


def missing(value: Any) -> bool:
    """Tell whether a cell of a table is empty: None, NaN or pandas's NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA is neither equal to itself nor not
        return True


def axis(value: Any) -> str:
    """Return an axis's value as text; a setting of another part of the grid does not have it."""
    return "–" if missing(value) else text(value)


def place(row: Mapping[Any, Any], naming: Mapping[str, str]) -> str:
    """Return a recorded setting's place in the grid as text: ``batch_size=32 optimizer.learning_rate=0.1``.

    `naming` is the axes that tell the settings apart, each with the column of `row` that holds its value.
    """
    return " ".join(f"{path}={axis(row[column])}" for path, column in naming.items())


def place_and_seed(row: Mapping[Any, Any], naming: Mapping[str, str]) -> str:
    """Return a recorded trial's place in the grid as text: ``batch_size=32 seed=1``."""
    return f"{place(row, naming)} seed={row['seed']}".lstrip()
