"""CSV and Parquet files: named columns → arrays of numbers and labels. What is wrong is named by row and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.parts import Array
from harness.domain.errors import DataError, known


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The columns of a file, each of them a pyarrow ChunkedArray of `rows` values."""

    path: Path
    columns: dict[str, Any]  # in the order of the file
    rows: int  # at least 1
    first: int  # what the first of them is called: 2 below a header, 1 without

    def place(self, column: str, row: int) -> str:
        """Return where a value is, `row` counted from 0, as a person finds it."""
        header = " (the header is row 1)" if self.first == 2 else ""
        return f"{self.path}, row {row + self.first}{header}, column {column!r}"

    def require(self, names: Sequence[str]) -> None:
        """Raise unless the file has all of these columns.

        Raises:
            DataError: naming those it lacks and those it has.
        """
        if missing := [name for name in names if name not in self.columns]:
            has = list(self.columns)
            some = ", ".join(map(repr, has[:12])) + (f" and {len(has) - 12} more" if len(has) > 12 else "")
            hint = "; values are separated by commas, and the first row names the columns" if len(has) == 1 else ""
            columns = "column" if len(missing) == 1 else "columns"
            raise DataError(f"{self.path} has no {columns} {', '.join(map(repr, missing[:12]))}; it has {some}{hint}")


def read(path: Path) -> Table:
    """Return a CSV or Parquet file as it is, before its values are looked at.

    Raises:
        DataError: for a file that is empty, cut off, ragged, or of another kind than its name says.
    """
    csv = path.suffix.lower() == ".csv"
    try:
        table = _read_csv(path) if csv else _read_parquet(path)
        names = table.column_names
    except DataError:
        raise
    except Exception as error:  # a broken file can make the readers raise almost anything
        raise DataError(f"{path} cannot be read as {'CSV' if csv else 'Parquet'}: {error}") from error
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{path} has several columns named {known(map(repr, twice))}; give each a name of its own")
    if table.num_rows == 0:
        raise DataError(f"{path} is empty: it has {len(names)} columns and no rows")
    columns = dict(zip(names, table.columns, strict=True))
    return Table(path=path, columns=columns, rows=table.num_rows, first=2 if csv else 1)


def numbers(table: Table, names: Sequence[str]) -> Array:
    """Return these columns as numbers, a row a sample, in the smallest type that holds the types of all of them.

    Raises:
        DataError: naming the row, the column and the value, for one that is no finite number.
    """
    if not names:
        raise DataError(f"{table.path} has no columns but its target, and nothing to learn from")
    columns = [_numbers(table, name) for name in names]
    made = np.empty((table.rows, len(names)), np.result_type(*columns))
    for index, column in enumerate(columns):
        made[:, index] = column
    return made


def values(table: Table, name: str) -> Array:
    """Return a column as an array of its own kind: integers, floats, truth values, or texts for anything else.

    Raises:
        DataError: for a value that is missing.
    """
    from pyarrow import types

    column = table.columns[name]
    if _is_number(column.type):
        return _numbers(table, name)
    _check_present(table, name)
    if types.is_boolean(column.type):
        return np.asarray(column.to_numpy())
    texts = column.to_pylist()
    for row, text in enumerate(texts):
        if text == "" or isinstance(text, bytes):
            what = "is empty" if text == "" else f"{text!r} is no text in UTF-8"
            raise DataError(f"{table.place(name, row)}: {what}")
    return np.array([str(text) for text in texts])


def ids(table: Table, name: str) -> tuple[str | int, ...]:
    """Return what a column calls its rows."""
    return tuple(one if isinstance(one, int | str) else str(one) for one in table.columns[name].to_pylist())


def _read_csv(path: Path) -> Any:
    from pyarrow import csv

    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty: it has 0 bytes")
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False),  # or a ragged row would not be named by its number
        convert_options=csv.ConvertOptions(null_values=[""]),  # a text such as "NA" is named as it stands
    )


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path, partitioning=None)


def _numbers(table: Table, name: str) -> Array:
    from pyarrow import float64, types

    column = table.columns[name]
    if types.is_decimal(column.type):
        column = column.cast(float64())
    if types.is_boolean(column.type):
        _check_present(table, name)
        return np.asarray(column.to_numpy(), np.uint8)
    if not _is_number(column.type):
        _check_present(table, name)
        offender = next((row for row, value in enumerate(column.to_pylist()) if not _reads_as_number(value)), 0)
        raise DataError(
            f"{table.place(name, offender)}: {column[offender].as_py()!r} is no number; correct it, or leave the "
            f"column out with data_file(..., drop=[{name!r}])"
        )
    _check_present(table, name)
    made = np.asarray(column.to_numpy())
    if made.dtype.kind == "f" and not (finite := np.isfinite(made)).all():
        row = int(np.argmin(finite))
        raise DataError(f"{table.place(name, row)}: {made[row]} is no finite number; fill it in or leave the row out")
    return made


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _reads_as_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _check_present(table: Table, name: str) -> None:
    column = table.columns[name]
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(f"{table.place(name, row)}: is empty; fill it in, or leave the row or the column out")
