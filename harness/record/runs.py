"""Runs as folders: their names, run.json, and what state each is in, without opening a table."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError
from harness.record import owner
from harness.record.journal import read_index
from harness.record.schema import SCHEMA_VERSION

FILE = "run.json"

ENDED = ("completed", "failed", "interrupted", "preempted")

_SAFE_NAME = re.compile(r"\w[\w .+=,@()-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One run at a glance. `state` is one of `ENDED`, ``running``, ``dead`` (killed before it could end)
    or ``unreadable`` (its run.json is)."""

    suite: str
    run_id: str
    folder: Path
    state: str
    counts: dict[str, int]  # finished trials by status
    planned: int | None  # trials of the whole run
    started_at: datetime | None
    ended_at: datetime | None
    owner: str | None  # of a run that is going on, or was killed
    hint: str | None  # how to go on, where there is something left to do


def new_run_id(now: datetime | None = None) -> str:
    """Return an id that sorts by time: UTC to the second and four random digits, ``20261121-211530-7f3a``."""
    return f"{(now or datetime.now(UTC)).astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_folder(results: Path, suite: str, run_id: str) -> Path:
    """Return the folder of a run.

    Raises:
        ResultsError: for a name that could lead out of `results`, or that some system cannot store.
    """
    for what, name in (("suite", suite), ("run", run_id)):
        if not _SAFE_NAME.fullmatch(name) or name.endswith((" ", ".")) or len(name.encode("utf-8", "replace")) > 200:
            raise ResultsError(
                f"the {what}'s name {name!r} cannot be a folder's name; use up to 100 letters, digits and _ - . + = , "
                "@ ( ) or spaces, beginning with a letter or digit"
            )
    return results / suite / run_id


def write_run_file(folder: Path, content: dict[str, Any]) -> None:
    """Replace run.json, whole or not at all."""
    path = folder / FILE
    hidden = folder / f".{FILE}.tmp"
    with hidden.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def find_runs(path: Path) -> list[Path]:
    """Return the folders of all runs in `path`, which is a run, a suite's folder or a results folder, by name.

    Raises:
        ResultsError: when there is no such folder.
    """
    if not path.is_dir():
        raise ResultsError(f"{path}: there is no such folder; name a run, a suite's folder or a results folder")
    try:
        if (path / FILE).exists():
            return [path]
        return sorted(file.parent for pattern in (f"*/{FILE}", f"*/*/{FILE}") for file in path.glob(pattern))
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def list_runs(results: Path) -> list[RunStatus]:
    """Return every run in a results folder, a suite's folder or a run's, oldest first; none if it does not exist."""
    if not results.exists():
        return []
    return sorted((_status(folder) for folder in find_runs(results)), key=_age)


def _age(run: RunStatus) -> tuple[str, str, str]:
    """Return what puts runs in the order they began, those of one second among them."""
    return run.run_id[:15], "" if run.started_at is None else run.started_at.isoformat(), run.run_id


def find_run(
    results: Path, *, suite: str, run: str | None = None, noise: bool = False, asked: str | None = None
) -> Path:
    """Return the folder of the run to resume: `run` by its id, else the suite's latest that has something left to do.

    Without an id only runs that measure the noise floor are looked at, or, without `noise`, only the others. One that
    has nothing left to do will do where it is of what is `asked` for, a suite's sha256; None: whatever it is of.

    Raises:
        ResultsError: when there is none.
    """
    if run is not None and (run_folder(results, suite, run) / FILE).exists():
        return run_folder(results, suite, run)
    found = list_runs(results / suite)
    if not found or run is not None:
        there = f"its runs are {', '.join(one.run_id for one in found)}" if found else "it has no runs"
        what = f"no run {run!r}" if run is not None else "no run"
        raise ResultsError(f"{results / suite}: {what} of suite {suite!r} to resume; {there}; run it without --resume")
    there_is = {one.folder: read_run_file(one.folder) for one in found if one.state != "unreadable"}
    found = [one for one in found if one.folder in there_is and bool(there_is[one.folder].get("noise")) is noise]
    left = [one for one in found if one.state in ("dead", "running", *ENDED[1:]) or set(one.counts) - {"completed"}]
    same = [one for one in found if asked is None or there_is[one.folder].get("suite_sha256") == asked]
    if not left and not same:
        kind = "run of `harness aa`" if noise else "run"
        raise ResultsError(f"there is no unfinished {kind} of {suite} in {results}/; begin one without --resume")
    return (left or same)[-1].folder


def as_called(command: Sequence[str]) -> list[str]:
    """Return the words that call the program again, from a command as run.json holds it: by its name, not its place."""
    program = Path(command[0]).name
    return [*(["python", "-m", "harness"] if program == "__main__.py" else [program]), *command[1:]]


def resume_command(content: dict[str, Any]) -> str:
    """Return the command that goes on with a run, from the ``command`` of its run.json."""
    command = content.get("command")
    if not isinstance(command, list) or not command:
        return "the same command with --resume"
    words = [word for word in as_called(command) if word != "--resume"]
    if "--run" not in words:
        words += ["--run", str(content["run_id"])]
    return shlex.join([*words, "--resume"])


def is_live(content: dict[str, Any]) -> bool:
    """Tell whether run.json is that of a run that has not ended: going on, or killed."""
    return content.get("state") not in ENDED


def read_run(folder: Path) -> dict[str, Any]:
    """Return run.json of a run, its ``state`` as it is now: of a run that has not ended ``running`` or ``dead``.

    Raises:
        ResultsError: as `read_run_file`.
    """
    content = read_run_file(folder)
    if not is_live(content):
        return content
    holder = owner.read(folder)
    state = "dead" if holder is None or holder.alive() is False else "running"
    if state == "dead":
        content = read_run_file(folder)  # it may have ended in between
    return content | {"state": state} if is_live(content) else content


def _status(folder: Path) -> RunStatus:
    try:
        content = read_run(folder)
        statuses = read_index(folder).statuses if is_live(content) else {}
    except ResultsError as error:
        return RunStatus(
            suite=folder.parent.name,
            run_id=folder.name,
            folder=folder,
            state="unreadable",
            counts={},
            planned=None,
            started_at=None,
            ended_at=None,
            owner=None,
            hint=str(error),
        )
    holder, counts = None, content.get("counts") or {}
    if is_live(content):
        counts = dict(Counter(statuses.values()))
        holder = owner.read(folder)
    state = str(content.get("state", ""))
    planned = content.get("trials")
    return RunStatus(
        suite=str(content.get("suite", folder.parent.name)),
        run_id=str(content.get("run_id", folder.name)),
        folder=folder,
        state=state,
        counts=counts,
        planned=planned,
        started_at=_instant(content.get("started_at")),
        ended_at=_instant(content.get("ended_at")),
        owner=str(holder) if holder is not None else None,
        hint=f"go on with: {resume_command(content)}" if state in ("dead", "interrupted", "preempted") else None,
    )


def _instant(text: Any) -> datetime | None:
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(text)
    return None


def now_text() -> str:
    """Return this instant as run.json holds it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
