"""The tables of runs as CSV, for programs that read no Parquet.

Null is an empty field, a text without letters is ``""``, NaN is ``nan``; numbers have all their digits; instants are
ISO 8601 in UTC; lists and mappings are JSON; lines end in a line feed, and the encoding is UTF-8.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from harness.export.rows import arrow

_BATCH_ROWS: Final = 65_536
_BYTE_ORDER_MARK: Final = "\ufeff".encode()  # by which Excel knows UTF-8

# What Excel and LibreOffice take for the beginning of a formula, or skip before one.
_FORMULA: Final = r"\A([=+\-@\t\r\n＝＋－＠])"
_IN_FRONT: Final = r"'\1"


def write_csv(frame: pd.DataFrame, path: Path, *, spreadsheet: bool = False) -> None:
    """Write one table as a CSV file with a line of names.

    A text is written as it is, so that a program reads back what was recorded. A spreadsheet would evaluate a text that
    begins as a formula does, such as an error message ``=HYPERLINK(…)`` in results from someone else; with
    `spreadsheet` such a text gets an apostrophe in front, and the file a byte order mark. Numbers, and negative ones
    with them, are none of these texts.
    """
    table = arrow(frame)
    plain = pa.schema([(column.name, _plain(column.type)) for column in table.schema])
    options = pa_csv.WriteOptions(batch_size=_BATCH_ROWS, quoting_style="needed")
    with path.open("wb") as file:
        if spreadsheet:
            file.write(_BYTE_ORDER_MARK)
            plain = pa.schema([(re.sub(_FORMULA, _IN_FRONT, column.name), column.type) for column in plain])
        with pa_csv.CSVWriter(file, plain, write_options=options) as writer:
            for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
                columns = [_texts(column) for column in batch.columns]
                if spreadsheet:
                    columns = [_defused(column) if _is_text(column.type) else column for column in columns]
                writer.write_batch(pa.record_batch(columns, schema=plain))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_nested(kind) or _is_text(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(column: pa.Array) -> pa.Array:
    """Return a column with text for what CSV has no way to hold."""
    if pa.types.is_map(column.type):
        return pa.array([None if value is None else _json(dict(value)) for value in column.to_pylist()], pa.string())
    if pa.types.is_nested(column.type):
        return pa.array([None if value is None else _json(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.string()) if pa.types.is_large_string(column.type) else column


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _defused(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, _FORMULA, _IN_FRONT)
