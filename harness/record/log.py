"""The log of a run: one checksummed line a record, synced to disk in groups before it counts.

A line is ``crc32 head<TAB>body<LF>``: eight hexadecimal digits over the rest of the line, a JSON head that is
enough to know which trial it is and how it ended, and a JSON body with everything else (JSON as Python writes
it, so that NaN and infinities survive). Each process that owns a run writes a file of its own, so that no
line of one owner can end up inside a line of another.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError
from harness.record.whole import to_disk

COMMIT_INTERVAL_S = 0.025  # a record is committed at most this long, and one sync, after it was written

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder()
_START = re.compile(rb"(?=[0-9a-f]{8} \{)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One good record: its place (`offset` in bytes), its head, and its body as JSON text until asked for."""

    offset: int
    length: int
    head: dict[str, Any]
    text: str

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.text)
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A stretch of a log file that is no good record. `tail`: nothing good comes after it."""

    path: Path
    offset: int
    length: int
    tail: bool

    def __str__(self) -> str:
        kind = "a record that was cut off" if self.tail else "a damaged record"
        return f"{self.path}: {kind} at byte {self.offset} ({self.length} bytes); the other records are kept"


def encode(head: dict[str, Any], body: dict[str, Any]) -> bytes:
    """Return the line that holds a record."""
    text = f"{_ENCODER.encode(head)}\t{_ENCODER.encode(body)}".encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(line: bytes, offset: int) -> Entry | None:
    """Return the record that a line holds, or None if the line is not whole."""
    if len(line) < 12 or line[8:9] != b" " or line[-1:] != b"\n":
        return None
    text = line[9:-1]
    if b"%08x" % zlib.crc32(text) != line[:8]:
        return None
    decoded = text.decode("ascii")
    head, end = _DECODER.raw_decode(decoded)
    return Entry(offset=offset, length=len(line), head=head, text=decoded[end + 1 :])


def scan(path: Path, *, start: int = 0, end: int | None = None, damages: list[Damage] | None = None) -> Iterator[Entry]:
    """Yield the good records of a log file in order, one line in memory at a time.

    `start` and `end` are byte offsets between records. What is no good record is appended to `damages`.
    """
    bad: list[tuple[int, int]] = []

    def report(*, tail: bool) -> None:
        if damages is not None:
            damages.extend(Damage(path=path, offset=at, length=length, tail=tail) for at, length in bad)
        bad.clear()

    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if end is not None and offset + len(line) > end:
                break
            entry = decode(line, offset)
            if entry is None:
                entry = _rescue(line, offset)
                bad.append((offset, entry.offset - offset if entry else len(line)))
            if entry is not None:
                report(tail=False)
                yield entry
            offset += len(line)
    report(tail=True)


def _rescue(line: bytes, offset: int) -> Entry | None:
    """Return the good record at the end of a bad line: the line feed of the record before it was lost."""
    for match in _START.finditer(line, 1):
        entry = decode(line[match.start() :], offset + match.start())
        if entry is not None:
            return entry
    return None


class LogWriter:
    """Appends records to a new log file; a thread of its own writes and syncs them in groups.

    `guard` is called before each commit and raises if this process must not write any more. After any failure
    nothing more is written: the file keeps exactly the committed records, and every later call raises the error.
    """

    def __init__(self, path: Path, *, guard: Callable[[], None], trials_before: int, way_out: str) -> None:
        """Create `path`, which must not exist.

        `trials_before` are safe in earlier files, for the messages; `way_out` ends this and later messages.

        Raises:
            ResultsError: when it exists or cannot be created.
        """
        self.path = path
        self._guard = guard
        self._trials_safe = trials_before
        self._way_out = way_out
        self._changed = threading.Condition()
        self._waiting: list[tuple[bytes, bool]] = []
        self._hurry = False
        self._closing = False
        self._error: ResultsError | None = None
        self._written = 0  # records given to write()
        self._committed = 0
        self._end = 0  # offset behind the last record given to write()
        self._length = 0  # offset behind the last committed record
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            to_disk(path.parent)
        except OSError as error:
            raise ResultsError(f"{path}: the run's log cannot be created ({error.strerror}); {way_out}") from error
        self._thread = threading.Thread(target=self._commit_all, name="harness-log", daemon=True)
        self._thread.start()

    @property
    def trials_safe(self) -> int:
        """Records of trials that are safe on disk, those of earlier files included."""
        return self._trials_safe

    @property
    def length(self) -> int:
        """Bytes of the file that hold committed records."""
        return self._length

    def write(self, line: bytes, *, trial: bool) -> int:
        """Enqueue one encoded record and return its offset. It counts once it is committed.

        Raises:
            ResultsError: when an earlier record could not be committed.
        """
        with self._changed:
            self._raise()
            if self._closing:
                raise RuntimeError(f"{self.path} is closed")
            offset = self._end
            self._waiting.append((line, trial))
            self._written += 1
            self._end += len(line)
            self._changed.notify_all()
        return offset

    def flush(self) -> None:
        """Return once everything written so far is committed.

        Raises:
            ResultsError: when it could not be.
        """
        with self._changed:
            target = self._written
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._committed >= target or self._error is not None)
            self._raise()

    def close(self) -> None:
        """Commit what can be, and close the file; does not raise."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        os.close(self._file)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _commit_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                batch, self._waiting = self._waiting, []
                self._hurry = False
            try:
                self._commit(b"".join(line for line, _ in batch))
            except Exception as error:
                with self._changed:
                    self._error = error if isinstance(error, ResultsError) else self._failure(error)
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._committed += len(batch)
                self._trials_safe += sum(trial for _, trial in batch)
                self._changed.notify_all()
                # Syncing after every record would keep a slow disk busy: let the next ones gather for a moment.
                ready = time.monotonic() + COMMIT_INTERVAL_S
                while not (self._hurry or self._closing) and (left := ready - time.monotonic()) > 0:
                    self._changed.wait(left)

    def _commit(self, data: bytes) -> None:
        self._guard()
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._length)
            os.lseek(self._file, self._length, os.SEEK_SET)
            raise
        self._length += len(data)

    def _failure(self, error: Exception) -> ResultsError:
        reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
        failure = ResultsError(
            f"{self.path}: cannot be written ({reason}); {self._trials_safe} finished trials are safe in it "
            f"and the files beside it; {self._way_out}"
        )
        failure.__cause__ = error
        return failure
