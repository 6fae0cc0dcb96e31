"""Data frames as Arrow tables and as rows of plain Python values, where null and NaN are two things."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa


def arrow(frame: pd.DataFrame) -> pa.Table:
    """Return a data frame as an Arrow table; categories become text.

    NaN stays NaN in Arrow-backed columns, and becomes null in NumPy's, which have no other null.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(place, column.name, table[place].cast(column.type.value_type))
    return table


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a data frame as dictionaries of plain Python values, None for null."""
    rows: list[dict[str, Any]] = arrow(frame).to_pylist()
    return rows
