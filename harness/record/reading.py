"""Recorded runs → tables: one run, all runs of a suite, or a whole results folder, ended or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.domain.errors import ResultsError
from harness.record import choosing, joining, journal, merging, shards, tables
from harness.record.rows import axis_cell, merge_types
from harness.record.runs import SUBMITTED, find_runs, is_live, refuse_newer
from harness.record.schema import TABLES

if TYPE_CHECKING:
    import pandas as pd

# Text with few different values among many rows: held as pandas categories. Arrow's dictionaries group and join as
# quickly (0.1 s for 10 million rows, either way) but have no `.str`, and compare row by row: 0.1 s against 0.
_CATEGORIES = {
    "epochs": ("run_id", "trial_id", "setting_id", "arm"),
    "telemetry": ("run_id", "node", "device", "metric"),
}

_PIECE = 65_536  # rows of nulls


@dataclass(frozen=True, kw_only=True)
class Results:
    """The tables of one or several runs, each read when first asked for.

    Data frames have the columns of docs/results.md, Arrow-backed (``pd.ArrowDtype``): whole numbers stay whole beside
    nulls, a null is ``pd.NA`` and NaN is NaN, and cells of lists are lists. Identities in `epochs` and `telemetry` are
    categories. Each further metric in `extra` is a column of `epochs`, NumPy's, NaN where a row does not have it.
    ``frame[column].to_numpy(dtype=float, na_value=np.nan)`` gives plain numbers, where null and NaN are one.
    """

    folders: tuple[Path, ...]
    runs: list[dict[str, Any]]  # run.json of each
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def trials(self) -> pd.DataFrame:
        return _frame("trials", self.arrow("trials"))

    @cached_property
    def epochs(self) -> pd.DataFrame:
        return _frame("epochs", self.arrow("epochs"))

    @cached_property
    def telemetry(self) -> pd.DataFrame:
        return _frame("telemetry", self.arrow("telemetry"))

    @cached_property
    def nodes(self) -> pd.DataFrame:
        return _frame("nodes", self.arrow("nodes"))

    def arrow(self, table: str) -> pa.Table:
        """Return one table of all runs as Arrow; runs that lack an axis have null there.

        Raises:
            ResultsError: when a file is missing, cut off, or has a newer schema, or no run has a column asked for.
        """
        found = []
        for folder, run in zip(self.folders, self.runs, strict=True):
            try:
                found.append(self._read(folder, table))
            except ResultsError as error:
                if len(self.folders) == 1:
                    raise
                way = f"harness.load(…, runs=\"run_id != '{run.get('run_id')}'\")"
                raise ResultsError(f"{error}; or leave the run out: {way}") from error
        rows, wanted = _concat(found), self.columns.get(table)
        if wanted is None:
            return rows
        for column in wanted:
            if column not in rows.column_names:
                names = ", ".join(dict.fromkeys(name for folder in self.folders for name in self._names(folder, table)))
                place = self.folders[0] if len(self.folders) == 1 else f"{self.folders[0]} … {self.folders[-1]}"
                raise ResultsError(f"{place}: {table} has no column {column!r}; it has {names}")
        return rows.select(list(wanted))

    @cached_property
    def _parts(self) -> dict[Path, dict[Path, dict[str, Any]]]:
        """By run, the folders that hold its records, each with its run.json: the run's own, or, of one in shards that
        are not merged, those that have begun."""
        parts = {}
        for folder, content in zip(self.folders, self.runs, strict=True):
            begun = shards.begun(folder, content) if shards.apart(content) else {}
            unread = content | {"state": SUBMITTED} if shards.apart(content) else content
            parts[folder] = begun or {folder: unread}
        return parts

    @cached_property
    def _live(self) -> dict[Path, dict[str, pa.Table]]:
        """The tables of the runs and shards that have not ended, as their logs were when first asked for."""
        live = {}
        for folder, content in (part for parts in self._parts.values() for part in parts.items()):
            if is_live(content):
                try:
                    live[folder] = _read_log(folder, content)
                except FileNotFoundError:  # the run has just ended: its parts became tables meanwhile
                    live[folder] = _read_log(folder, content)
        return live

    def _read(self, folder: Path, table: str) -> pa.Table:
        """Return a table of a run, from all its parts."""
        parts = list(self._parts[folder])
        if len(parts) == 1:
            return self._read_part(parts[0], table)
        if table != "nodes":
            return _concat([self._read_part(part, table) for part in parts])
        whole = merging.one_row_a_node([self._read_part(part, table, all_columns=True) for part in parts])
        return _select(whole, self.columns.get(table))

    def _read_part(self, folder: Path, table: str, *, all_columns: bool = False) -> pa.Table:
        columns = None if all_columns else self.columns.get(table)
        if table == "telemetry":
            return _read_telemetry(folder, columns, live=folder in self._live)
        if folder in self._live:
            return _select(_encoded(self._live[folder][table], table), columns)
        return _read_parquet(folder / f"{table}.parquet", table, columns)

    def _names(self, folder: Path, table: str) -> list[str]:
        """Return the columns that a table of a run has."""
        folder = next(iter(self._parts[folder]))
        if folder in self._live and table != "telemetry":
            return list(self._live[folder][table].column_names)
        path = folder / f"{table}.parquet"
        return list(pq.read_schema(path).names) if path.exists() else list(TABLES[table].names())


def load(
    path: str | Path | Sequence[str | Path],
    *,
    runs: str | Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Results:
    """Return the results in `path`: one run's folder, a suite's or a results folder; or several of these.

    Runs that go on, or were killed, are read from their log and parts. Less is read, and quicker, with

    - `runs`: those of this id or suite, or that a condition holds for, or any of several: ``"batch_size"`` or
      ``"suite == 'batch_size' and state == 'completed' and started_at >= '2026-11'"``. It may ask for whatever their
      run.json holds (``trials``, ``noise``, ``counts.failed`` …), and for ``commit`` and ``dirty``, of the repository
      that the suite lay in;
    - `columns`, by table: ``{"epochs": ["trial_id", "val_accuracy"]}``. Of 10 million epochs all columns are 2 GiB
      or more, of which a question needs a few.

    Raises:
        ResultsError: when no run is there or none is chosen, a file of those that are cannot be read, or a run is there
            twice, as a copy.
    """
    for table in columns or {}:
        if table not in TABLES:
            raise ResultsError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}")
    folders: dict[Path, None] = {}
    for folder in map(Path, [path] if isinstance(path, str | Path) else path):
        found = find_runs(folder)
        if not found:
            raise ResultsError(f"{folder}: no run is recorded here; name a run, a suite's folder or a results folder")
        folders.update(dict.fromkeys(found))
    chosen = _each_once(choosing.choose(list(folders), [runs] if isinstance(runs, str) else runs))
    return Results(folders=tuple(chosen), runs=list(chosen.values()), columns=dict(columns or {}))


def _each_once(chosen: Mapping[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Return each run once, where folders are named by several paths; refuse copies, which would count twice."""
    homes: dict[tuple[Any, Any], Path] = {}
    for folder, content in chosen.items():
        first = homes.setdefault((content.get("suite"), content.get("run_id")), folder)
        if first is not folder and first.resolve() != folder.resolve():
            raise ResultsError(f"{folder}: is the same run as {first}, and would count twice; leave out one of them")
    return {folder: chosen[folder] for folder in homes.values()}


def _read_log(folder: Path, content: Mapping[str, Any]) -> dict[str, pa.Table]:
    index = journal.read_index(folder)
    records = joining.joined(index, joining.readings(folder), joining.recorded_gaps(content))
    return tables.read_records(records, run_id=str(content["run_id"]), axes=index.axes)


def _read_telemetry(folder: Path, columns: Sequence[str] | None, *, live: bool) -> pa.Table:
    path = folder / "telemetry.parquet"
    if path.exists() and not live:
        return _read_parquet(path, "telemetry", columns)
    parts = sorted((folder / "parts" / "telemetry").glob("*.parquet"))
    try:
        found = [_read_parquet(part, "telemetry", columns) for part in parts]
    except ResultsError:
        if path.exists():  # the run has just ended, and its parts are gone
            return _read_parquet(path, "telemetry", columns)
        raise
    if found:
        return pa.concat_tables(found)
    return _select(_encoded(tables.arrow_schema("telemetry").empty_table(), "telemetry"), columns)


def _read_parquet(path: Path, table: str, columns: Sequence[str] | None) -> pa.Table:
    try:
        # Ahead of use, it would hold the bytes of the whole file beside what is made of them.
        with pq.ParquetFile(path, read_dictionary=list(_CATEGORIES.get(table, ())), pre_buffer=False) as file:
            schema = file.schema_arrow
            metadata = schema.metadata or {}
            version = metadata.get(b"harness_schema_version", b"").decode()
            refuse_newer(path, version or None)
            names = [name for name in schema.names if columns is None or name in columns]
            empty = _empty(file.metadata, set(names).difference(_CATEGORIES.get(table, ())))
            rows = file.read(columns=[name for name in names if name not in empty])
            for name in empty:
                field = schema.field(name)
                rows = rows.append_column(field, _nulls(file.metadata.num_rows, field.type))
            return tables.with_all_columns(rows.select(names), table, columns)
    except FileNotFoundError:
        raise ResultsError(f"{path}: is missing; {_way_out(path)}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # KeyError: a name in the schema is damaged
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ResultsError(f"{path}: is cut off or damaged ({reason}); {_way_out(path)}") from error


def _empty(metadata: pq.FileMetaData, names: set[str]) -> list[str]:
    """Return those of the columns, lists and maps aside, that hold nothing but nulls, as the row groups say."""
    paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
    left = {place: name for place, name in enumerate(paths) if name in names}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for place in list(left):
            statistics = group.column(place).statistics
            if statistics is None or not statistics.has_null_count or statistics.null_count != group.num_rows:
                del left[place]
    return list(left.values())


def _nulls(count: int, kind: pa.DataType) -> pa.ChunkedArray:
    """Return nulls that share one piece of memory: a machine without GPUs leaves a third of all columns empty."""
    piece = pa.nulls(min(count, _PIECE), kind)
    return pa.chunked_array([*([piece] * (count // _PIECE)), piece[: count % _PIECE]], kind)


def _way_out(path: Path) -> str:
    folder = path.parent
    if path.name == "telemetry.parquet" and not (folder / shards.FOLDER).is_dir():
        return "the log does not hold readings: restore it from a copy, or remove it to read the other tables"
    if journal.log_files(folder) or (folder / shards.FOLDER).is_dir():
        call = f"from harness.record.compact import rebuild; rebuild(Path({str(folder)!r}))"
        what = "the log" if journal.log_files(folder) else "its shards"
        return f'{what} can rebuild it: python -c "from pathlib import Path; {call}"'
    return "the run's log is gone too, so it cannot be rebuilt: restore it from a copy"


def _encoded(rows: pa.Table, table: str) -> pa.Table:
    """Return rows with the columns as dictionaries that `_read_parquet` reads as such."""
    for name in _CATEGORIES.get(table, ()):
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].dictionary_encode())
    return rows


def _select(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Return those of the columns that there are."""
    return table if columns is None else table.select([name for name in columns if name in table.column_names])


def _concat(found: list[pa.Table]) -> pa.Table:
    """Return all rows, with a column for each axis that any of the tables has."""
    kinds: dict[str, set[str]] = {}
    for table in found:
        for column in table.schema:
            kinds.setdefault(column.name, set()).add(tables.axis_kind(column))
    odd = {name for name, types in kinds.items() if len(types) > 1 and merge_types(types) == "json"}
    if odd:  # an axis that is a number in one suite and a text in another: JSON text, as within one run
        found = [_as_json(table, odd) for table in found]
    return pa.concat_tables(found, promote_options="permissive").unify_dictionaries()


def _as_json(table: pa.Table, names: set[str]) -> pa.Table:
    for position, column in enumerate(table.schema):
        if column.name in names and not pa.types.is_null(column.type) and not tables.is_json(column):
            values = [axis_cell(value, "json") for value in table[column.name].to_pylist()]
            table = table.set_column(position, pa.field(column.name, pa.string()), pa.array(values, pa.string()))
    return table


def _frame(name: str, table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(_series(name, table)), copy=False)


def _series(name: str, table: pa.Table) -> Iterator[tuple[str, pd.Series]]:
    import pandas as pd

    for column in table.column_names:
        values = table[column]
        kind = values.type
        if pa.types.is_map(kind):
            yield from _expanded(values)
            continue
        if column in _CATEGORIES.get(name, ()):
            encoded = values if pa.types.is_dictionary(kind) else values.dictionary_encode()
            yield column, encoded.to_pandas()  # `_concat` has given all chunks one dictionary
        else:
            yield column, pd.Series(pd.arrays.ArrowExtensionArray(values))


def _expanded(maps: pa.ChunkedArray) -> Iterator[tuple[str, pd.Series]]:
    """Return a column of numbers for each key of a column of maps, NaN where a row does not have it."""
    import numpy as np
    import pandas as pd

    if maps.null_count == len(maps):
        return
    rows = maps.combine_chunks()
    counts = np.diff(rows.offsets.to_numpy()) if len(rows) else np.zeros(0, dtype=np.int64)
    owners = np.repeat(np.arange(len(rows)), counts)
    start, end = (rows.offsets[0].as_py(), rows.offsets[-1].as_py()) if len(rows) else (0, 0)
    names, items = rows.keys[start:end].dictionary_encode(), rows.items[start:end].to_numpy(zero_copy_only=False)
    codes = names.indices.to_numpy(zero_copy_only=False)
    for code, name in enumerate(names.dictionary.to_pylist()):
        values = np.full(len(rows), np.nan)
        values[owners[codes == code]] = items[codes == code]
        yield name, pd.Series(values)
