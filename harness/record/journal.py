"""All log files of a run together: which record of a trial is the last one, and the records in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError
from harness.record.log import Damage, Entry, scan
from harness.record.rows import axis_type, merge_types

Key = tuple[str, str]  # trial_id, arm

FOLDER = "log"


@dataclass(slots=True)
class Index:
    """What the heads of a run's records say. A trial written again is the later record's alone."""

    files: list[Path] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # how much of each file has been taken in
    statuses: dict[Key, str] = field(default_factory=dict)
    places: dict[Key, tuple[int, int]] = field(default_factory=dict)  # file number, offset
    axes: dict[str, str] = field(default_factory=dict)  # kind of column by dotted path
    damages: list[Damage] = field(default_factory=list)

    def add(self, head: dict[str, Any], file: int, offset: int) -> None:
        """Take in one record."""
        if head["kind"] != "trial":
            return
        key = (head["trial_id"], head["arm"])
        self.statuses[key] = head["status"]
        self.places[key] = (file, offset)
        for path, value in head["axes"].items():
            kind = axis_type(value)
            known = self.axes.get(path)
            if known != kind:
                self.axes[path] = kind if known is None else merge_types((known, kind))


def log_files(run_folder: Path) -> list[Path]:
    """Return the log files of a run, in the order they were written."""
    return sorted((run_folder / FOLDER).glob("attempt-*.log"))


def log_file(run_folder: Path, attempt: int) -> Path:
    return run_folder / FOLDER / f"attempt-{attempt:04d}.log"


def read_index(run_folder: Path, axes: Mapping[str, str] | None = None) -> Index:
    """Return the index of a run's log; `axes` are kinds of columns known beforehand.

    Raises:
        ResultsError: when a file cannot be read.
    """
    index = Index(axes=dict(axes or {}))
    for number, path in enumerate(log_files(run_folder)):
        end = 0
        try:
            for entry in scan(path, damages=index.damages):
                index.add(entry.head, number, entry.offset)
                end = entry.offset + entry.length
        except OSError as error:
            raise ResultsError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error
        index.files.append(path)
        index.ends.append(end)
    return index


def records(index: Index) -> Iterator[Entry]:
    """Yield the records that count: of each trial the last one, of other kinds all; one in memory at a time."""
    for number, (path, end) in enumerate(zip(index.files, index.ends, strict=True)):
        for entry in scan(path, end=end):
            if _counts(entry, index, number):
                yield entry


def _counts(entry: Entry, index: Index, number: int) -> bool:
    if entry.head["kind"] != "trial":
        return True
    return index.places.get((entry.head["trial_id"], entry.head["arm"])) == (number, entry.offset)
