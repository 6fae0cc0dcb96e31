"""What resident workers must have in common with a command that uses them, for their trials to be the same as its own.

It is read anew by every command, within some milliseconds: files of the harness by their sizes and times, packages by
the names of their folders.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.telemetry.cgroup import cpu_quota
from harness.telemetry.cores import allowed_cpus
from harness.telemetry.relevant import PACKAGES, variables

_TOLD: Final = 3  # differences in a message


def likeness(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what matters, by name: versions, cores, and the variables that can change results or speed."""
    return {
        "the harness's files": _files(),
        "Python": f"{platform.python_version()} ({sys.executable})",
        **_versions(),
        "the cores allowed": ",".join(map(str, allowed_cpus())),
        "the CPU quota": f"{cpu_quota() or 'none'}",
        "the niceness": str(os.getpriority(os.PRIO_PROCESS, 0)),
        **variables(environ),
        **{name: environ[name] for name in ("HARNESS_DATA_DIR", "PYTHONPATH", "PYTHONHOME") if name in environ},
    }


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return in words what differs, "" for nothing: the workers' first, the command's second."""
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    told = [f"{name}: {there.get(name, 'not set')} there, {here.get(name, 'not set')} here" for name in names[:_TOLD]]
    return "; ".join(told) + (f"; and {len(names) - _TOLD} more" if len(names) > _TOLD else "")


def _files() -> str:
    """Return a hash over the names, sizes and times of change of the harness's own files."""
    root = Path(__file__).parents[2]
    found = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            state = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 (hundreds of files)
            found.update(f"{folder[len(str(root)) :]}/{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()[:8]


def _versions() -> dict[str, str]:
    """Return the version of each relevant package on the import path, by its distribution's name."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder)  # noqa: PTH208 (many times faster)
        except OSError:
            continue
        for entry in names:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").partition("-")
                name = name.lower().replace("_", "-").replace(".", "-")
                if name in PACKAGES and name != "harness":
                    found.setdefault(name, version)
    return dict(sorted(found.items()))
