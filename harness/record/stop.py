"""Asking a run to end: a file in its folder, since a process cannot be reached on another host.

Whoever wants a run to end writes `stop.json`; the run's owner looks for it once a second, and it alone removes it. A
request is addressed to one attempt, so that it does not end a later one.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from harness.domain.errors import ResultsError
from harness.record.whole import write_whole

FILE: Final = "stop.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """To end after the trials that run; or `now`, those too."""

    attempt: int
    now: bool
    host: str  # from which it was asked
    pid: int


def ask(folder: Path, request: StopRequest) -> None:
    """Ask the owner of the run in `folder` to end it.

    Raises:
        ResultsError: when the request cannot be written there.
    """
    try:
        write_whole(folder / FILE, json.dumps(asdict(request)).encode())
    except OSError as error:
        raise ResultsError(
            f"{folder}: the request to stop cannot be written there ({error.strerror}); give yourself the right to, "
            "or end the run by Ctrl-C or SIGTERM where it runs"
        ) from error


def asked(folder: Path, *, attempt: int) -> StopRequest | None:
    """Return what this attempt of a run is asked for, if anything."""
    try:
        request = _reader().validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return request if request.attempt == attempt else None


@cache
def _reader() -> TypeAdapter[StopRequest]:
    return TypeAdapter(StopRequest)  # which takes 10 ms to make


def forget(folder: Path) -> None:
    """Remove the request, answered or out of date."""
    with contextlib.suppress(OSError):
        (folder / FILE).unlink()
