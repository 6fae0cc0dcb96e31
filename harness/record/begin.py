"""The beginning of a run: its folder, what run.json holds by then, and the next process's attempt at it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError
from harness.record import journal, owner, parts, runs
from harness.record.journal import Index
from harness.record.rows import axis_type, merge_types
from harness.record.runfile import cannot_write
from harness.record.schema import AXIS_COLUMNS, SCHEMA_VERSION


def new_run(results: Path, suite: str, run_id: str | None) -> tuple[Path, dict[str, Any]]:
    """Make the folder of a new run; return it, and how its run.json begins.

    Raises:
        ResultsError: when the folder exists, or cannot be written.
    """
    run_id = run_id or runs.new_run_id()
    folder = runs.run_folder(results, suite, run_id)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if folder.is_dir():
            way = f"go on with it by --resume --run {shlex.quote(run_id)}, or give the new one another name"
            raise ResultsError(f"{folder}: this run exists already; {way}") from None
        raise cannot_write(folder, "there is a file of that name") from None
    except OSError as error:
        raise cannot_write(folder, error.strerror) from error
    return folder, {"schema_version": SCHEMA_VERSION, "suite": suite, "run_id": run_id}


def refuse_another_suite(run_folder: Path, content: dict[str, Any], suite_sha256: str) -> None:
    """Raise ResultsError if a run is of another suite than this, with the ways out."""
    recorded = content.get("suite_sha256")
    if recorded == suite_sha256:
        return
    submitted = "submitted_at" in content
    since = "was submitted" if submitted else "began"
    way = "submit it anew" if submitted else "begin a new run, or resume all the same with --force"
    raise ResultsError(
        f"{run_folder}: the suite has changed since this run {since} (sha256 {str(recorded)[:12]} then, "
        f"{suite_sha256[:12]} now), or other --set, --where or --small are asked for: undo the change and go "
        f"on with `{runs.resume_command(content)}`; or {way}"
    )


def next_attempt(run_folder: Path, content: Mapping[str, Any]) -> int:
    """Return the number of the next process to write a run, by its run.json and its log, where one says more."""
    attempt = len(content.get("attempts", ())) + 1
    for path in journal.log_files(run_folder)[-1:]:
        attempt = max(attempt, int(path.stem.rpartition("-")[2]) + 1)
    return attempt


def enter(
    folder: Path,
    content: dict[str, Any],
    index: Index | None,
    me: owner.Owner,
    *,
    suite_sha256: str | None = None,
    attempt_info: Mapping[str, Any] | None = None,
) -> Index:
    """Write into run.json, and `content`, that an attempt of this process goes on; return the index of the log.

    Without an `index` it is read, and what an earlier process left is put in order.

    Raises:
        ResultsError: when the log cannot be read.
        OSError: when something cannot be written.
    """
    (folder / journal.FOLDER).mkdir(exist_ok=True)
    if index is None:
        index = journal.read_index(folder)
        parts.clear(folder, ended=not runs.is_live(content))
    axes = content.get("axes")
    for path, values in axes.items() if isinstance(axes, dict) else ():
        kinds = [axis_type(value) for value in values] if isinstance(values, list) else []
        if path not in AXIS_COLUMNS and kinds:
            index.axes[path] = merge_types([index.axes.get(path, "null"), *kinds])
    content["state"] = "running"
    content.setdefault("started_at", runs.now_text())
    content["schema_version"] = SCHEMA_VERSION  # of a run that an older harness began, from here on
    if suite_sha256 is not None:
        content["suite_sha256"] = suite_sha256
    content["attempts"] = [
        *content.get("attempts", ()),
        {
            "attempt": me.attempt,
            "host": me.host,
            "pid": me.pid,
            "slurm_job_id": me.slurm_job_id,
            "slurm_restart": me.slurm_restart,
            "suite_sha256": content.get("suite_sha256"),
            "started_at": runs.now_text(),
            **(attempt_info or {}),
        },
    ]
    for name in ("ended_at", "counts", "pending", "stopped", "unserved", "wrong"):  # of the attempt before
        content.pop(name, None)
    runs.write_run_file(folder, content)
    return index
