"""Settings as pytest-benchmark stores benchmarks, for ``pytest-benchmark compare`` and what else reads its JSON.

A benchmark is a setting and arm, a round is one epoch: its ``train_s``, of completed trials, warm-up epochs left out
where there are others. All statistics are defined as pytest-benchmark 5 defines them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.domain.errors import ResultsError
from harness.domain.naming import axis, names
from harness.export.rows import records

_ROUND = "train_s of one epoch of a completed trial, in seconds; warm-up epochs are left out where there are others"


def write_pytest_benchmark(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    nodes: pd.DataFrame,
    path: Path,
    *,
    runs: Sequence[Mapping[str, Any]],
    metric: str,
    target: str | None,
    axes: Mapping[str, str],
    naming: Mapping[str, str],
) -> int:
    """Write one JSON file and return the number of benchmarks in it.

    `trials` have ``suite``, ``hardware``, ``best`` of the `metric` and, with a `target`, ``reached`` and
    ``time_to_target_s``. What more there is than pytest-benchmark's own fields stands in ``extra_info``; there a trial
    that missed the target has null as its time. The benchmarks' names are the same for the same settings in any run,
    so that two files can be compared.

    Raises:
        ResultsError: when no completed trial has a timed epoch.
    """
    steady = _rounds(epochs)
    rows = records(trials)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == "completed" and _key(row) in steady:
            found.setdefault((row["suite"], row["setting_id"], row["arm"], row["hardware"]), []).append(row)
    if not found:
        raise ResultsError("no completed trial has a timed epoch, so there is nothing to make benchmarks of")
    called = _names({key: group[0] for key, group in found.items()}, naming)
    benchmarks = []
    for key, group in found.items():
        params = {name: group[0][column] for name, column in axes.items() if group[0][column] is not None}
        benchmarks.append(
            {
                "group": key[0],
                "name": called[key],
                "fullname": f"{key[0]}::{called[key]}",
                "params": params,
                "param": "-".join(axis(value) for value in params.values()),
                "extra_info": _extra(group, metric=metric, target=target),
                "options": {"timer": "perf_counter"},
                "stats": statistics([second for row in group for second in steady[_key(row)]]),
            }
        )
    document = {
        "machine_info": _machine(records(nodes), {row["node"] for row in rows}),
        "commit_info": _commit(runs),
        "benchmarks": benchmarks,
        "datetime": _began(runs),
        "version": ", ".join(sorted({f"harness {run.get('harness_version')}" for run in runs})),
    }
    text = json.dumps(_finite(document), indent=4, default=str)
    path.write_text(text + "\n", encoding="utf-8")
    return len(benchmarks)


def statistics(data: Sequence[float]) -> dict[str, Any]:
    """Return pytest-benchmark's statistics of the rounds, in seconds.

    The quartiles are its "method 2" for even and "method 3" for odd numbers of rounds, which are both Hazen's
    (positions (n - 2) / 4 and (3 n - 2) / 4, counted from 0, with linear interpolation). Outliers lie more than a
    standard deviation from the mean, or more than 1.5 interquartile ranges outside the quartiles; ``ld15iqr`` and
    ``hd15iqr`` are the lowest and the highest round within those fences. ``ops`` is rounds over their sum.
    """
    values = np.sort(np.asarray(data, dtype=np.float64))
    q1, median, q3 = (float(one) for one in np.quantile(values, [0.25, 0.5, 0.75], method="hazen"))
    mean, iqr, total = float(values.mean()), q3 - q1, float(values.sum())
    stddev = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    within = values[(values >= low) & (values <= high)]
    far = int(((values < mean - stddev) | (values > mean + stddev)).sum())
    outside = len(values) - len(within)
    return {
        "min": float(values[0]), "max": float(values[-1]), "mean": mean, "stddev": stddev, "rounds": len(values),
        "median": median, "iqr": iqr, "q1": q1, "q3": q3, "iqr_outliers": outside, "stddev_outliers": far,
        "outliers": f"{far};{outside}", "ld15iqr": float(within[0]), "hd15iqr": float(within[-1]),
        "ops": len(values) / total if total else 0.0, "total": total, "data": list(data), "iterations": 1,
    }  # fmt: skip


def _rounds(epochs: pd.DataFrame) -> dict[tuple[Any, ...], list[float]]:
    """Return the timed epochs of each trial, in their order."""
    steady: dict[tuple[Any, ...], list[float]] = {}
    warm: dict[tuple[Any, ...], list[float]] = {}
    columns = ["run_id", "trial_id", "arm", "epoch", "train_s", "warmup"]
    for row in records(epochs[columns].sort_values("epoch", kind="stable")):
        if row["train_s"] is not None and math.isfinite(row["train_s"]):
            (warm if row["warmup"] else steady).setdefault(_key(row), []).append(row["train_s"])
    return warm | steady


def _names(rows: Mapping[tuple[Any, ...], Mapping[str, Any]], naming: Mapping[str, str]) -> dict[tuple[Any, ...], str]:
    """Return a name for each benchmark, ``suite[batch_size=16]``, with as much behind it as tells it from others."""
    told: dict[tuple[Any, ...], str] = {}
    for suite in dict.fromkeys(key[0] for key in rows):
        keys = [key for key in rows if key[0] == suite]
        told |= dict(zip(keys, names([rows[key] for key in keys], naming), strict=True))
    return {key: f"{key[0]}[{told[key]}]" for key in rows}


def _extra(group: Sequence[Mapping[str, Any]], *, metric: str, target: str | None) -> dict[str, Any]:
    extra: dict[str, Any] = {
        "round": _ROUND,
        "setting_id": group[0]["setting_id"],
        "arm": group[0]["arm"],
        "hardware": group[0]["hardware"],
        "run_ids": sorted({row["run_id"] for row in group}),
        "trial_ids": [row["trial_id"] for row in group],
        "seeds": [row["seed"] for row in group],
        f"best_{metric}": [row["best"] for row in group],
        "warnings": sorted({name for row in group for name in row["warnings"] or ()}),
    }
    if target is not None:
        extra |= {
            "target": target,
            "reached": sum(bool(row["reached"]) for row in group),
            "time_to_target_s": [row["time_to_target_s"] for row in group],
        }
    return extra


def _machine(nodes: Sequence[Mapping[str, Any]], used: set[str]) -> dict[str, Any]:
    """Return the first node that ran a trial by pytest-benchmark's names, and which others there were."""
    there = [row for row in nodes if row["node"] in used] or [{}]
    first = there[0]
    return {
        "node": first.get("hostname"),
        "processor": first.get("cpu_model"),
        "machine": first.get("architecture"),
        "python_version": first.get("python"),
        "release": first.get("kernel"),
        "system": first.get("os"),
        "cpu": {
            "brand_raw": first.get("cpu_model"),
            "arch": first.get("architecture"),
            "count": first.get("cpu_count_logical"),
        },
        "memory_bytes": first.get("memory_bytes"),
        "gpus": first.get("gpu_names") or [],
        "nodes": sorted({str(row["hostname"]) for row in there if row}),
    }


def _commit(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the commit that the suites lay in when the runs began; several are joined."""
    states = [((run.get("attempts") or [{}])[0].get("suite_git") or {}) for run in runs]

    def joined(name: str, otherwise: str) -> str:
        return ", ".join(dict.fromkeys(str(state[name]) for state in states if state.get(name))) or otherwise

    return {
        "id": joined("commit", "unversioned"),
        "time": None,
        "author_time": None,
        "dirty": any(bool(state.get("dirty")) for state in states),
        "project": ", ".join(dict.fromkeys(str(run.get("suite")) for run in runs)),
        "branch": joined("branch", "(unknown)"),
    }


def _began(runs: Sequence[Mapping[str, Any]]) -> str:
    began = [str(run["started_at"]) for run in runs if run.get("started_at")]
    return min(began, default=datetime.now(UTC).isoformat())


def _finite(value: Any) -> Any:
    """Return a document with null for each number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["run_id"], row["trial_id"], row["arm"]
