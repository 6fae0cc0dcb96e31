"""Records ↔ Parquet: the Arrow schemas, and the writing of a run's tables in bounded memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.record.rows import axis_cell
from harness.record.schema import SCHEMA_VERSION, TABLES, Column
from harness.record.whole import to_disk

BATCH_CELLS = 2**16  # held as Python values
GROUP_CELLS = 2**20  # of a row group, held as Arrow arrays
GROUP_ROWS = {"telemetry": 65_536, "trials": 1024}  # the latter are wide, and text: twice in memory while written

_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "null": pa.null(),
    "json": pa.string(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    "list<int32>": pa.list_(pa.int32()),
    "list<int64>": pa.list_(pa.int64()),
    "list<string>": pa.list_(pa.string()),
    "map<string, float64>": pa.map_(pa.string(), pa.float64()),
}

Columns = Mapping[str, Sequence[Any]]
Record = tuple[dict[str, Any], dict[str, Any]]  # head and body, as in the log


def arrow_schema(table: str, axes: Mapping[str, str] | None = None) -> pa.Schema:
    """Return the Arrow schema of a table; `axes` are the kinds of the further columns of `trials`."""
    metadata = {"harness_schema_version": str(SCHEMA_VERSION), "harness_table": table}
    fields = [_field(column) for column in TABLES[table].columns]
    if table == "trials":
        axes = axes or {}
        metadata["harness_axes"] = json.dumps(sorted(axes))
        fields += [_axis_field(path, axes[path]) for path in sorted(axes)]
    return pa.schema(fields, metadata=metadata)


def with_all_columns(rows: pa.Table, table: str, wanted: Collection[str] | None) -> pa.Table:
    """Return rows of an older version with the columns that it did not have, all null; `wanted` limits them."""
    known = set(rows.column_names)
    for column in TABLES[table].columns:
        if column.name not in known and (wanted is None or column.name in wanted):
            kind = _TYPES[column.type]
            rows = rows.append_column(pa.field(column.name, kind), pa.nulls(len(rows), kind))
    return rows


def _field(column: Column) -> pa.Field:
    metadata = {"description": column.description}
    if column.unit is not None:
        metadata["unit"] = column.unit
    if column.null is not None:
        metadata["null"] = column.null
    return pa.field(column.name, _TYPES[column.type], metadata=metadata)


def _axis_field(path: str, kind: str) -> pa.Field:
    description = "axis of the grid" + (", as JSON" if kind == "json" else "")
    return pa.field(path, _TYPES[kind], metadata={"description": description, "null": "this trial does not have it"})


class _Sink:
    """Gathers columns of Python values and hands them on as Arrow tables, a row group each."""

    def __init__(self, table: str, schema: pa.Schema, hand_on: Callable[[pa.Table], None]) -> None:
        self._schema = schema
        self._hand_on = hand_on
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._batch_rows, self._group_rows = BATCH_CELLS // len(schema), _group_rows(table, schema)
        self._rows = 0
        self._batches: list[pa.RecordBatch] = []
        self._batched_rows = 0

    def extend(self, columns: Columns, rows: int) -> None:
        """Add rows; a column that is not given is null in them."""
        for name, values in self._columns.items():
            values.extend(columns[name] if name in columns else [None] * rows)
        self._rows += rows
        if self._rows >= self._batch_rows:
            self._batch()

    def finish(self) -> None:
        self._batch()
        self._pass()

    def _batch(self) -> None:
        arrays = [_array(self._columns[field.name], field.type) for field in self._schema]
        self._batches.append(pa.record_batch(arrays, schema=self._schema))
        self._batched_rows += self._rows
        self._rows = 0
        for values in self._columns.values():
            values.clear()
        if self._batched_rows >= self._group_rows:
            self._pass()

    def _pass(self) -> None:
        if self._batches:
            self._hand_on(pa.Table.from_batches(self._batches, self._schema).combine_chunks())
            self._batches.clear()
            self._batched_rows = 0


def _group_rows(table: str, schema: pa.Schema) -> int:
    """Return how many rows of a table are a row group."""
    return GROUP_ROWS.get(table, GROUP_CELLS // len(schema))


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        values = [None if value is None else round(value * 1e6) for value in values]
    if pa.types.is_map(kind):
        values = [None if value is None else list(value.items()) for value in values]
    return pa.array(values, type=kind, from_pandas=False)  # so that NaN stays NaN


def _feed(records: Iterable[Record], *, run_id: str, axes: Mapping[str, str], sinks: Mapping[str, _Sink]) -> None:
    for head, body in records:
        if head["kind"] == "node":
            _feed_row(body, run_id, sinks["nodes"])
        elif head["kind"] == "trial":
            row = body["trial"] | {path: axis_cell(head["axes"].get(path), kind) for path, kind in axes.items()}
            _feed_row(row, run_id, sinks["trials"])
            _feed_epochs(body, run_id, sinks["epochs"])
    for sink in sinks.values():
        sink.finish()


def _feed_row(row: dict[str, Any], run_id: str, sink: _Sink) -> None:
    sink.extend({"run_id": (run_id,), **{name: (value,) for name, value in row.items()}}, 1)


def _feed_epochs(body: dict[str, Any], run_id: str, sink: _Sink) -> None:
    columns: dict[str, list[Any]] = body["epochs"]
    rows = len(columns["epoch"])
    if not rows:
        return
    trial = body["trial"]
    columns["run_id"] = [run_id] * rows
    for name in ("trial_id", "setting_id", "arm"):
        columns[name] = [trial[name]] * rows
    columns["samples_per_s"] = [
        samples / train_s if train_s and samples is not None else None
        for samples, train_s in zip(columns["samples"], columns["train_s"], strict=True)
    ]
    sink.extend(columns, rows)


def write_tables(records: Iterable[Record], *, run_id: str, axes: Mapping[str, str], paths: Mapping[str, Path]) -> None:
    """Write records as Parquet files in one pass: `paths` by table, ``trials``, ``epochs`` and, for nodes, ``nodes``.

    A column that a record lacks is null in its row.
    """
    with contextlib.ExitStack() as stack:
        sinks = {}
        for table, path in paths.items():
            schema = arrow_schema(table, axes)
            sinks[table] = _Sink(table, schema, stack.enter_context(_writer(path, schema)).write_table)
        _feed(records, run_id=run_id, axes=axes, sinks=sinks)


def read_records(records: Iterable[Record], *, run_id: str, axes: Mapping[str, str]) -> dict[str, pa.Table]:
    """Return records as Arrow tables in memory: ``trials``, ``epochs`` and ``nodes``."""
    groups: dict[str, list[pa.Table]] = {table: [] for table in ("trials", "epochs", "nodes")}
    sinks = {table: _Sink(table, arrow_schema(table, axes), groups[table].append) for table in groups}
    _feed(records, run_id=run_id, axes=axes, sinks=sinks)
    return {table: pa.concat_tables(groups[table]) for table in groups}


def write_telemetry(columns: Columns, path: Path, *, run_id: str) -> None:
    """Write readings, given as the columns of `telemetry` without the run, as one Parquet file."""
    schema = arrow_schema("telemetry")
    rows = len(columns["time"])
    with _writer(path, schema) as writer:
        sink = _Sink("telemetry", schema, writer.write_table)
        sink.extend({**columns, "run_id": [run_id] * rows}, rows)
        sink.finish()


def merge(table: str, parts: Iterable[Path], path: Path, *, axes: Mapping[str, str] | None = None) -> None:
    """Write the rows of all files into one, in order, a row group in memory at a time.

    `axes` are the kinds of the further columns of `trials`, as in `arrow_schema`.
    """
    schema = arrow_schema(table, axes)
    most = _group_rows(table, schema)
    with _writer(path, schema) as writer:
        waiting: list[pa.Table] = []
        rows = 0
        for part in parts:
            with pq.ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    waiting.append(_fitted(file.read_row_group(group), schema))
                    rows += waiting[-1].num_rows
                    if rows >= most:
                        writer.write_table(pa.concat_tables(waiting).combine_chunks())
                        waiting, rows = [], 0
        writer.write_table(pa.concat_tables([schema.empty_table(), *waiting]).combine_chunks())


def _fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with the columns of a schema: null where they have none, an axis of several kinds as JSON text."""
    columns, known = [], {field.name: field for field in rows.schema}
    for field in schema:
        column = rows[field.name] if field.name in known else pa.nulls(len(rows), field.type)
        if is_json(field) and field.name in known and not is_json(known[field.name]):
            column = pa.array([axis_cell(value, "json") for value in column.to_pylist()], field.type)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def axis_kind(column: pa.Field) -> str:
    """Return the kind of a column, as `merge_types` knows it; "json" for an axis that holds JSON text."""
    if pa.types.is_null(column.type):
        return "null"
    return "json" if is_json(column) else {"double": "float64"}.get(str(column.type), str(column.type))


def is_json(column: pa.Field) -> bool:
    return b"as JSON" in (column.metadata or {}).get(b"description", b"")


def write_rows(rows: pa.Table, path: Path) -> None:
    """Write rows that have the schema of their table as one Parquet file."""
    with _writer(path, rows.schema) as writer:
        writer.write_table(rows)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=text, write_statistics=True)


@contextlib.contextmanager
def aside(paths: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Give a hidden name beside each of `paths` to write to; at the end sync all and rename them into place.

    When writing fails, the files that were there before are left as they were.
    """
    hidden = {name: path.with_name(f".{path.name}.tmp") for name, path in paths.items()}
    try:
        yield dict(hidden)
        for path in hidden.values():
            to_disk(path)
        for name, path in paths.items():
            hidden[name].replace(path)
        for folder in {path.parent for path in paths.values()}:
            to_disk(folder)
    finally:
        for path in hidden.values():
            path.unlink(missing_ok=True)
