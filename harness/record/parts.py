"""A run's records and readings as Parquet parts while it goes on, for other programs to read; the tables replace them.

The records of trials are in the log besides; readings are in the parts alone until the run ends.
"""

from __future__ import annotations

import importlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError
from harness.record.journal import Index
from harness.record.log import Entry, LogWriter, scan

FOLDER = "parts"
PART_TRIALS = 500  # trials of a part
PART_INTERVAL_S = 5.0  # at first; parts of a long run come at a twentieth of its age, up to:
PART_INTERVAL_MOST_S = 60.0
PREPARE_AFTER_S = 2.0

_READING = ("node", "time", "device", "metric", "value")


class Parts:
    """Writes the parts of a run, in a thread of its own; `lock` is the recorder's, who changes `index` under it."""

    def __init__(
        self,
        folder: Path,
        *,
        run_id: str,
        index: Index,
        log: LogWriter,
        lock: threading.Lock,
        guard: Callable[[], None],
    ) -> None:
        self._folder = folder / FOLDER
        self._run_id = run_id
        self._index = index
        self._log = log
        self._lock = lock
        self._guard = guard
        self._readings: dict[str, list[Any]] = {name: [] for name in _READING}
        self._place = (0, 0)  # file number, offset: what the parts of trials hold already
        self._written = 0
        self._new_trials = 0
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._write, name="harness-parts", daemon=True)
        self._thread.start()

    def count_trial(self) -> None:
        """Take note of a trial in the log; the caller holds the lock."""
        self._new_trials += 1
        if self._new_trials >= PART_TRIALS:
            self._wake.set()

    def add_telemetry(self, rows: Iterable[Mapping[str, Any]], *, node: str | None) -> None:
        """As `Recorder.add_telemetry`."""
        default = node or socket.gethostname()
        with self._lock:
            for row in rows:
                value = row["value"]
                self._readings["node"].append(str(row.get("node") or default))
                self._readings["time"].append(float(row["time"]))
                self._readings["device"].append(str(row["device"]))
                self._readings["metric"].append(str(row["metric"]))
                self._readings["value"].append(None if value is None else float(value))

    def stop(self) -> None:
        """End the thread; what it has not written yet stays for `write_readings`."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def remove(self) -> None:
        """Remove all parts, and the readings that are in none yet."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._readings = {name: [] for name in _READING}

    def write_readings(self) -> None:
        """Write the readings gathered since the last time as a part."""
        from harness.record import tables

        with self._lock:
            readings, self._readings = self._readings, {name: [] for name in _READING}
        if not readings["time"]:
            return
        folder = self._folder / "telemetry"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem) for path in folder.glob("*.parquet")), default=-1)
            with tables.aside({"telemetry": folder / f"{number:05d}.parquet"}) as hidden:
                tables.write_telemetry(readings, hidden["telemetry"], run_id=self._run_id)
        except OSError:
            with self._lock:
                for name, values in readings.items():
                    self._readings[name][:0] = values
            raise

    def write_trials(self) -> bool:
        """Write the next trials that are committed as a part, and tell whether there were as many as fit one."""
        from harness.record import tables

        with self._lock:
            axes = dict(self._index.axes)
            self._new_trials = 0
        entries, place = self._next_entries()
        if not entries:
            return False
        paths = {table: self._folder / table / f"{self._written:05d}.parquet" for table in ("trials", "epochs")}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with tables.aside(paths) as hidden:
            records = ((entry.head, entry.body()) for entry in entries)  # what is made of readings comes at the end
            tables.write_tables(records, run_id=self._run_id, axes=axes, paths=hidden)
        self._written += 1
        self._place = place
        return len(entries) == PART_TRIALS

    def _next_entries(self) -> tuple[list[Entry], tuple[int, int]]:
        number, offset = self._place
        entries: list[Entry] = []
        last = len(self._index.files) - 1
        while True:
            end = self._log.length if number == last else self._index.ends[number]
            for entry in scan(self._index.files[number], start=offset, end=end):
                offset = entry.offset + entry.length
                if entry.head["kind"] == "trial":
                    entries.append(entry)
                if len(entries) == PART_TRIALS:
                    return entries, (number, offset)
            if number == last:
                return entries, (number, offset)
            number, offset = number + 1, 0

    def _write(self) -> None:
        """The thread that writes parts. A full disk does not end it: the log says so, and to more effect."""
        started = time.monotonic()
        if not self._wake.wait(PREPARE_AFTER_S):
            _prepare()
        while not self._stopping:
            interval = (time.monotonic() - started) / 20
            self._wake.wait(min(max(interval, PART_INTERVAL_S), PART_INTERVAL_MOST_S))
            self._wake.clear()
            if self._stopping:
                return
            try:
                self._guard()
                self.write_readings()
                while self.write_trials():
                    pass
            except (OSError, ResultsError):
                continue


def _prepare() -> None:
    """Import what writing tables needs, while the workers start and nothing is being measured."""
    for module in ("harness.record.joining", "pandas"):  # PyArrow looks for pandas when it first converts something
        importlib.import_module(module)
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # of many small columns PyArrow's own makes three times as much


def clear(run_folder: Path, *, ended: bool) -> None:
    """Make a resumed run's parts hold all earlier readings once, and nothing else.

    Parts of trials are written anew from the log. After a run that had ended, its readings are in
    telemetry.parquet, which becomes the first part; after one that was killed they are in the parts.
    """
    parts, table = run_folder / FOLDER, run_folder / "telemetry.parquet"
    for path in (*run_folder.glob(".*.tmp"), *parts.glob("*/.*.tmp")):
        path.unlink(missing_ok=True)  # `harness stop` may just be done with its own
    for name in ("trials", "epochs"):
        shutil.rmtree(parts / name, ignore_errors=True)
    if not table.exists():
        return
    if ended:
        shutil.rmtree(parts, ignore_errors=True)
        (parts / "telemetry").mkdir(parents=True)
        table.rename(parts / "telemetry" / "00000.parquet")
    else:
        table.unlink()  # killed between writing the tables and run.json: the parts are all still there
