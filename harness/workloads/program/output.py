"""What a program prints, sorted as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.workloads.reported import ReportError

LINE_BYTES: Final = 1 << 20  # a report longer than this is refused, other lines are dropped
_TAIL_BYTES: Final = 4000  # of what it printed


class Output:
    """What a program prints: the lines that may be reports, and the end of all else. Holds little, whatever comes."""

    def __init__(self) -> None:
        self._rest = b""  # of the last line, not ended yet
        self._dropping = False  # that line, which is too long
        self._tail = b""
        self._errors = b""

    def add(self, stream: str, data: bytes) -> Iterator[bytes]:
        """Take what came on "out" or "err"; yield each whole line that may be a report.

        Raises:
            ReportError: for a report of more than `LINE_BYTES`.
        """
        if stream == "err":
            self.keep(data)
            self._errors = (self._errors + data)[-_TAIL_BYTES:]
            return
        if self._dropping:
            dropped, newline, data = data.partition(b"\n")
            self.keep(dropped + newline)
            if not newline:
                return
            self._dropping = False
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        yield from self._sorted(whole + newline)
        if len(self._rest) > LINE_BYTES:
            if self._rest.lstrip().startswith(b"{"):
                raise ReportError(f"a line that began as a report is longer than {LINE_BYTES >> 20} MiB")
            self.keep(self._rest)
            self._rest, self._dropping = b"", True

    def rest(self) -> Iterator[bytes]:
        """Yield the last line, if it may be a report, when there will be no more."""
        rest, self._rest = self._rest, b""
        yield from self._sorted(rest)

    def keep(self, data: bytes) -> None:
        """Take what is no report."""
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    def tail(self) -> str:
        """Return the last of what it printed, reports left out."""
        return (self._tail + self._rest[-_TAIL_BYTES:])[-_TAIL_BYTES:].decode(errors="replace")

    def last_line(self) -> str:
        """Return the last line of it that is not blank, or nothing."""
        return _last_line(self.tail())

    def last_error(self) -> str:
        """Return the last line on standard error that is not blank, or nothing."""
        return _last_line(self._errors.decode(errors="replace"))

    def _sorted(self, lines: bytes) -> Iterator[bytes]:
        if b"{" not in lines:  # at the speed of memory, for whoever prints gigabytes
            self.keep(lines)
            return
        for line in lines.splitlines(keepends=True):
            if line.lstrip().startswith(b"{"):
                yield line
            elif not line.isspace():
                self.keep(line)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1][:300]) if lines else ""
