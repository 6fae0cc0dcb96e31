"""Runs as folders: their names, run.json, and what state each is in, without opening a table."""

from __future__ import annotations

import contextlib
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
from harness.record import owner, shards
from harness.record.journal import read_index
from harness.record.runfile import (
    ENDED,
    FILE,
    SUBMITTED,
    is_live,
    now_text,
    read_run_file,
    read_single,
    refuse_newer,
    write_run_file,
)

__all__ = [  # those of runfile.py among them
    "ENDED",
    "FILE",
    "SUBMITTED",
    "RunStatus",
    "as_called",
    "find_run",
    "find_runs",
    "is_live",
    "list_runs",
    "new_run_id",
    "now_text",
    "read_run",
    "read_run_file",
    "refuse_newer",
    "resume_command",
    "run_folder",
    "write_run_file",
]

_TIMED = re.compile(r"\d{8}-\d{6}\b")
_SAFE_NAME = re.compile(r"\w[\w .+=,@()-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One run at a glance. `state` is one of `ENDED`, ``submitted`` (not begun), ``running``, ``dead`` (killed before
    it could end) or ``unreadable`` (its run.json is)."""

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
    submitted_at: datetime | None = None  # to a queue; None: it was not


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
        found = sorted(file.parent for pattern in (f"*/{FILE}", f"*/*/{FILE}") for file in path.glob(pattern))
        return [folder for folder in found if not shards.is_shard(folder)]
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def list_runs(results: Path) -> list[RunStatus]:
    """Return every run in a results folder, a suite's folder or a run's, oldest first; none if it does not exist."""
    if not results.exists():
        return []
    return sorted((_status(folder) for folder in find_runs(results)), key=_age)


def _age(run: RunStatus) -> tuple[str, str, str]:
    """Return what puts runs in the order they were made, those of one second, and of names of their own, among them."""
    made = run.submitted_at or run.started_at
    second, instant = "", ""
    if made is not None:
        second, instant = f"{made.astimezone(UTC):%Y%m%d-%H%M%S}", made.isoformat()
    return run.run_id[:15] if _TIMED.match(run.run_id) else second, instant, run.run_id


def find_run(
    results: Path,
    *,
    suite: str,
    run: str | None = None,
    noise: bool = False,
    asked: str | None = None,
    shard: tuple[int, int] | None = None,
) -> Path:
    """Return the folder of the run to resume: `run` by its id, else the suite's latest that has something left to do.

    Without an id only runs that have begun are looked at, and of these only those that measure the noise floor, or,
    without `noise`, only the others. One that has nothing left to do will do where it is of what is `asked` for, a
    suite's sha256; None: whatever it is of. To resume a `shard`, which of how many, it has to be in so many.

    Raises:
        ResultsError: when there is none, or it is in shards otherwise than is asked for.
    """
    if run is not None and (run_folder(results, suite, run) / FILE).exists():
        shards.check(folder := run_folder(results, suite, run), shard)
        return folder
    found = list_runs(results / suite)
    if not found or run is not None:
        there = f"its runs are {', '.join(one.run_id for one in found)}" if found else "it has no runs"
        what = f"no run {run!r}" if run is not None else "no run"
        raise ResultsError(f"{results / suite}: {what} of suite {suite!r} to resume; {there}; run it without --resume")
    begun = [one for one in found if one.state not in ("unreadable", SUBMITTED)]
    there_is = {one.folder: read_run_file(one.folder) for one in begun}
    there_is = {folder: content for folder, content in there_is.items() if "shards" not in content}
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
    """Return the command that goes on with a run, from the ``again`` or the ``command`` of its run.json."""
    again = content.get("again")
    if isinstance(again, list) and again:
        return shlex.join(map(str, again))
    command = content.get("command")
    if not isinstance(command, list) or not command:
        return "the same command with --resume"
    words = [word for word in as_called(command) if word != "--resume"]
    if "--run" not in words:
        words += ["--run", str(content["run_id"])]
    return shlex.join([*words, "--resume"])


def read_run(folder: Path) -> dict[str, Any]:
    """Return run.json of a run with its state as it is now, as `read_single`; of one in shards that are not merged yet
    with what these have done, taken together.

    Raises:
        ResultsError: as `read_run_file`.
    """
    content = read_single(folder)
    return content | shards.summed(folder, content) if shards.apart(content) else content


def _status(folder: Path) -> RunStatus:
    try:
        content = read_run(folder)
        own_log = is_live(content) and "shards" not in content
        statuses = read_index(folder).statuses if own_log else {}
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
    if own_log:
        counts = dict(Counter(statuses.values()))
        holder = owner.read(folder)
    state = str(content.get("state", ""))
    goes_on = state in ("dead", "interrupted", "preempted") or "wrong" in content
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
        hint=f"go on with: {resume_command(content)}" if goes_on else None,
        submitted_at=_instant(content.get("submitted_at")),
    )


def _instant(text: Any) -> datetime | None:
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(text)
    return None
