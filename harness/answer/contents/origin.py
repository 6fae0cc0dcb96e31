"""Where the figures come from, and how to get them again: nodes, packages, commands, suites."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from harness.domain.naming import axis
from harness.record import runs

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.content import Grid, Source

SOURCES: Final = 20  # runs that are described one by one
_NODES: Final = 50


def node_grid(nodes: pd.DataFrame) -> Grid | None:
    from harness.report.content import Grid

    rows = list(dict.fromkeys(tuple(_node(row).values()) for row in nodes.to_dict("records")))
    if not rows:
        return None
    headings = list(_node(nodes.to_dict("records")[0]))
    kept = [place for place in range(len(headings)) if any(row[place] not in ("", "–") for row in rows)]
    return Grid(
        headings=tuple(headings[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows[:_NODES]),
        numeric=frozenset({"threads", "cores", "memory"}),
    )


def _node(row: Mapping[Any, Any]) -> dict[str, str]:
    within = [axis(row[name]) for name in ("container", "virtualisation")]
    return {
        "node": axis(row["node"]),
        "CPU": axis(row["cpu_model"]),
        "threads": axis(row["cpu_count_logical"]),
        "cores": axis(row["cpu_count_physical"]),
        "memory": "–" if axis(row["memory_bytes"]) == "–" else f"{row['memory_bytes'] / 2**30:.0f} GiB",
        "GPUs": _gpus(row["gpu_names"]),
        "driver": axis(row["gpu_driver"]),
        "governor": axis(row["governor"]),
        "system": axis(row["os"]),
        "kernel": axis(row["kernel"]),
        "Python": axis(row["python"]),
        "within": ", ".join(one for one in within if one != "–"),
    }


def package_grid(nodes: pd.DataFrame) -> Grid | None:
    """Return the versions of packages and the variables of the environment; where nodes differ, all of them."""
    from harness.report.content import Grid

    found: dict[str, dict[str, None]] = {}
    for column in ("versions", "environment"):
        for told in nodes[column].dropna().tolist():
            with contextlib.suppress(ValueError, AttributeError):  # whoever wrote that, the harness did not
                for name, value in json.loads(told).items():
                    found.setdefault(name, {})[str(value)] = None
    if not found:
        return None
    rows = tuple((name, "; ".join(one or "(empty)" for one in values)) for name, values in found.items())
    return Grid(headings=("name", "value"), rows=rows)


def _gpus(names: Any) -> str:
    if not isinstance(names, list | tuple) and not hasattr(names, "tolist"):
        return "–"
    counts = Counter(map(str, names))
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or "none"


def sources(all_runs: Sequence[Mapping[str, Any]]) -> Iterator[Source]:
    from harness.report.content import Source

    told: set[str] = set()
    for run in all_runs[:SOURCES]:
        text = str(run.get("suite_text") or "")
        digest = str(run.get("suite_sha256"))
        yield Source(
            title=f"{run.get('suite')} {run.get('run_id')}",
            facts=tuple(_how(run)),
            command=_command(run),
            suite_path=str(run.get("suite_path") or "the suite"),
            suite_text="" if digest in told else text,
        )
        told.add(digest)


def _command(run: Mapping[str, Any]) -> str:
    return shlex.join(runs.as_called(list(map(str, run.get("command") or ["harness", "run", run.get("suite_path")]))))


def _how(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Run", str(run.get("run_id"))
    began, ended = run.get("started_at"), run.get("ended_at")
    yield "Time", f"{instant(str(began))}" + (f" to {instant(str(ended))}" if ended else "")
    yield "State", str(run.get("state"))
    git = ((run.get("attempts") or [{}])[0] or {}).get("suite_git") or {}
    if git.get("commit"):
        changed = ", with changes that were not committed" if git.get("dirty") else ""
        yield "Commit of the suite", f"{git['commit']}{changed}"
    yield "Suite's SHA-256", str(run.get("suite_sha256"))
    yield "Seed of the order", f"{run.get('schedule_seed')} (each block of repeats is shuffled)"
    yield "Version of harness", str(run.get("harness_version"))
    yield "Dataset", "is found by its name; HARNESS_DATA_DIR is a folder with local copies"


def instant(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return text
