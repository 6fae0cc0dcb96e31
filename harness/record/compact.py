"""A run's log and the parts of its readings → its Parquet tables: at its end, and once more where these are lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError
from harness.record import journal, owner, shards
from harness.record.journal import Index
from harness.record.runfile import cannot_write, read_run_file


def compact(
    folder: Path, run_id: str, axes: Mapping[str, str], *, contents: Iterable[Mapping[str, Any]], ends: bool
) -> Index:
    """Write the tables from what the log really holds, and return its index.

    `contents` are what run.json holds or is to hold; where the run `ends`, its parts of readings become a table too.
    """
    from harness.record import joining, tables

    index = journal.read_index(folder, axes)
    paths = {name: folder / f"{name}.parquet" for name in ("trials", "epochs", "nodes")}
    if ends:
        paths["telemetry"] = folder / "telemetry.parquet"
    with tables.aside(paths) as hidden:
        readings = joining.readings(folder)
        if ends:
            merged = hidden.pop("telemetry")
            tables.merge("telemetry", readings, merged)
            readings = [merged]
        records = joining.joined(index, readings, joining.recorded_gaps(*contents))
        tables.write_tables(records, run_id=run_id, axes=index.axes, paths=hidden)
    return index


def rebuild(run_folder: Path) -> None:
    """Write trials, epochs and nodes of a run that nobody is writing anew from its log and its readings.

    The readings themselves are not in the log and stay as they are; without them, what is made of them is null.

    Raises:
        ResultsError: when the log is gone, the run has an owner, or the readings cannot be read.
    """
    content = read_run_file(run_folder)
    if "shards" in content:
        if not shards.merge(run_folder, anew=True):
            raise ResultsError(f"{run_folder}: its shards have not all ended, or are just being merged; wait for them")
        return
    if not journal.log_files(run_folder):
        raise ResultsError(f"{run_folder}: the log is gone, so the tables cannot be rebuilt; restore them from a copy")
    holder = owner.read(run_folder)
    if holder is not None and holder.alive() is not False:
        raise ResultsError(f"{run_folder}: this run belongs to {holder}; its tables can be rebuilt when it has ended")
    try:
        compact(run_folder, str(content["run_id"]), {}, contents=(content,), ends=False)
    except OSError as error:
        raise cannot_write(run_folder, error.strerror or str(error)) from error
