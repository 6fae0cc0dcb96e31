"""run.json of a run: written whole or not at all, read with what is wrong with it, and the state that it stands for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import ResultsError
from harness.record import owner
from harness.record.schema import SCHEMA_VERSION
from harness.record.whole import write_whole

FILE: Final = "run.json"

ENDED: Final = ("completed", "failed", "interrupted", "preempted")
SUBMITTED: Final = "submitted"  # made for a job in a queue, and begun by nobody yet


def write_run_file(folder: Path, content: dict[str, Any]) -> None:
    """Replace run.json, whole or not at all."""
    write_whole(folder / FILE, (json.dumps(content, indent=2) + "\n").encode(), sync=True)


def read_run_file(folder: Path) -> dict[str, Any]:
    """Return run.json of a run.

    Raises:
        ResultsError: when there is none, it is no JSON object, or a newer harness wrote it.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"{folder}: no run is recorded here (there is no {FILE}); name a run's folder") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{path}: is damaged ({error}); restore it from a copy, or remove the run's folder"
        ) from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: is not a JSON object; restore it from a copy, or remove the run's folder")
    refuse_newer(path, content.get("schema_version"))
    return content


def refuse_newer(path: Path, version: Any) -> None:
    """Raise ResultsError if `path` says that it has a version of the schema that this harness does not know."""
    if version is None or not str(version).isdecimal() or int(version) > SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: has schema version {version}, and this harness reads versions up to {SCHEMA_VERSION}; "
            "install the version of harness that wrote it, or a newer one"
        )


def is_live(content: dict[str, Any]) -> bool:
    """Tell whether run.json is that of a run that has not ended: going on, killed, or not begun."""
    return content.get("state") not in ENDED


def read_single(folder: Path) -> dict[str, Any]:
    """Return run.json of a run, ``state`` as it is now: of one that has begun and not ended ``running`` or ``dead``.

    Raises:
        ResultsError: as `read_run_file`.
    """
    content = read_run_file(folder)
    if not _begun(content):
        return content
    holder = owner.read(folder)
    state = "dead" if holder is None or holder.alive() is False else "running"
    if state == "dead":
        content = read_run_file(folder)  # it may have ended in between
    return content | {"state": state} if _begun(content) else content


def _begun(content: dict[str, Any]) -> bool:
    """Tell whether a run has begun and not ended, as its run.json says."""
    return is_live(content) and content.get("state") != SUBMITTED


def cannot_write(folder: Path, reason: str | None) -> ResultsError:
    """Return the error for a run whose files cannot be written."""
    return ResultsError(
        f"{folder}: the results cannot be written there ({reason}); make room or give yourself the right to "
        "write there, or choose another place with --results DIR"
    )


def now_text() -> str:
    """Return this instant as run.json holds it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
