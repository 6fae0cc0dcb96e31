"""The state of the Git repository that a file is in, so that a result can be traced to what made it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from time import monotonic
from typing import Any, Final

_LIMIT_S: Final = 2.0  # for all questions together; a big repository on a slow disk is then not described


def git_state(path: Path) -> dict[str, Any] | None:
    """Return ``commit``, ``branch`` and ``dirty`` of the repository that holds a file; takes milliseconds.

    ``branch`` is None for a detached head, ``commit`` before the first commit. ``dirty``: the file itself is not
    committed, or something that is tracked differs from the commit. None where there is no repository, no Git, or no
    answer in time. No lock of the repository is taken.
    """
    deadline = monotonic() + _LIMIT_S
    path = path.resolve()
    told = _git(path.parent, deadline, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    known = _git(path.parent, deadline, "ls-files", "--", path.name)
    if told is None or known is None:
        return None
    lines = told.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit, branch = heads.get("branch.oid"), heads.get("branch.head")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": not known or any(not line.startswith("#") for line in lines),
    }


def _git(folder: Path, deadline: float, *arguments: str) -> str | None:
    """Return what a question to Git is answered by, None where it cannot answer."""
    try:
        asked = subprocess.run(
            # A monitor that the repository's configuration names would be a program to run.
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=max(0.01, deadline - monotonic()),
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout
