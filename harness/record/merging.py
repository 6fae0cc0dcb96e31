"""The tables of a run's shards → those of the run, streamed one after another, every trial there once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.domain.errors import ResultsError
from harness.record import tables
from harness.record.rows import axis_type, merge_types
from harness.record.schema import AXIS_COLUMNS, TABLES


@contextlib.contextmanager
def written(top: Path, folders: Sequence[Path], content: Mapping[str, Any]) -> Iterator[None]:
    """Write the four tables of the run in `top` from those of its shards; they take their places at the end.

    Raises:
        ResultsError: when a trial is in two shards, or one of their tables is damaged.
        FileNotFoundError: when one is missing.
    """
    _refuse_twice(folders)
    with tables.aside({table: top / f"{table}.parquet" for table in TABLES}) as hidden:
        for table in ("trials", "epochs", "telemetry"):
            axes = _axes(folders, content) if table == "trials" else None
            with _each(folders, table) as parts:
                tables.merge(table, parts, hidden[table], axes=axes)
        with _each(folders, "nodes") as parts:
            tables.write_rows(one_row_a_node(map(pq.read_table, parts)), hidden["nodes"])
        yield


def _refuse_twice(folders: Sequence[Path]) -> None:
    """Raise for a trial that two shards have."""
    homes: dict[tuple[str, str], Path] = {}
    with _each(folders, "trials") as parts:
        for part in parts:
            rows, folder = pq.read_table(part, columns=["trial_id", "arm"]), part.parent
            for key in zip(rows["trial_id"].to_pylist(), rows["arm"].to_pylist(), strict=True):
                first = homes.setdefault(key, folder)
                if first is not folder:
                    raise ResultsError(
                        f"{folder.parent.parent}: trial {key[0]} (arm {key[1]}) is recorded in shard {first.name} and "
                        f"in shard {folder.name}, and would count twice; remove the folder of the one that was run "
                        "with another suite or number of shards, and ask for that shard once more"
                    )


def _axes(folders: Sequence[Path], content: Mapping[str, Any]) -> dict[str, str]:
    """Return the kinds of the columns of axes that the shards' trials have, taken together with what was planned."""
    axes: dict[str, str] = {}
    planned = content.get("axes")
    for path, values in planned.items() if isinstance(planned, dict) else ():
        if path not in AXIS_COLUMNS and values:
            axes[path] = merge_types([axis_type(value) for value in values])
    with _each(folders, "trials") as parts:
        for schema in map(pq.read_schema, parts):
            for path in json.loads((schema.metadata or {}).get(b"harness_axes", b"[]")):
                axes[path] = merge_types([axes.get(path, "null"), tables.axis_kind(schema.field(path))])
    return axes


def one_row_a_node(parts: Iterable[pa.Table]) -> pa.Table:
    """Return the nodes of all shards: of a node that several describe the last word, and all that was calibrated."""
    schema = tables.arrow_schema("nodes")
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for row in tables.with_all_columns(part, "nodes", None).to_pylist():
            earlier = found.get(row["node"], {})
            told = {name: value for name, value in row.items() if value is not None}
            calibrated = json.loads(earlier.get("calibration") or "{}") | json.loads(row.get("calibration") or "{}")
            found[row["node"]] = earlier | told | ({"calibration": json.dumps(calibrated)} if calibrated else {})
    return pa.Table.from_pylist(list(found.values()), schema=schema)


@contextlib.contextmanager
def _each(folders: Sequence[Path], table: str) -> Iterator[Iterator[Path]]:
    """Give the files of a table one after another, and raise what is wrong with the last one as an error that names it.

    Raises:
        ResultsError: for one that is damaged, with the way out.
    """
    last: list[Path] = []

    def parts() -> Iterator[Path]:
        for folder in folders:
            last[:] = [folder / f"{table}.parquet"]
            yield last[0]

    try:
        yield parts()
    except (pa.ArrowException, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        call = f"from harness.record.compact import rebuild; rebuild(Path({str(last[0].parent)!r}))"
        way = f'the log can rebuild it: python -c "from pathlib import Path; {call}"'
        if table == "telemetry":
            way = "the log does not hold readings: restore it from a copy"
        raise ResultsError(f"{last[0]}: is cut off or damaged ({reason}); {way}") from error
