"""Trials with what their runs and nodes say of them, which selections and comparisons of hardware go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from harness.analyse.references import plain_settings
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression, unknown_path
from harness.domain.paths import MISSING, leaves, read

DESCRIPTION: Final = ("suite", "commit", "dirty", "began", "hostname", "cpu_model", "gpu_model", "hardware")


def described(trials: pd.DataFrame, runs: Iterable[Mapping[str, Any]], nodes: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with the columns of `DESCRIPTION`, given their run.json files and the table `nodes`.

    ``suite``; ``commit`` of the repository that the suite lay in when the run began, whether that was ``dirty``, and
    when the run ``began`` (ISO 8601, UTC); ``hostname``, ``cpu_model`` and ``gpu_model`` of the node, null where not
    known; ``hardware``: what the trial had of it, as "AMD EPYC × 1 core" or "NVIDIA H100 × 2"; on several nodes, of
    which each gave as much, "NVIDIA H100 × 2 × 4 nodes".
    """
    of_run = {str(run.get("run_id")): _of_run(run) for run in runs}
    of_node = {(row["run_id"], row["node"]): _of_node(row) for row in nodes.to_dict("records")}
    found = []
    columns = [trials[name].tolist() for name in ("run_id", "node", "cpus", "gpus")]
    counts = trials["nodes"].tolist() if "nodes" in trials.columns else [1] * len(trials)
    for run_id, node, cpus, gpus, count in zip(*columns, counts, strict=True):
        machine = of_node.get((run_id, node), (None, None, None))
        found.append((*of_run.get(run_id, (None,) * 4), *machine, _hardware(machine, cpus, gpus, count)))
    facts = pd.DataFrame(found, columns=list(DESCRIPTION), index=trials.index, dtype=object)
    return pd.concat([trials.drop(columns=[name for name in DESCRIPTION if name in trials.columns]), facts], axis=1)


def _of_run(run: Mapping[str, Any]) -> tuple[Any, ...]:
    attempts = run.get("attempts") or [{}]
    git = attempts[0].get("suite_git") or {}
    return run.get("suite"), git.get("commit"), git.get("dirty"), run.get("started_at")


def _of_node(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    gpus = row["gpu_names"]
    gpu = gpus[0] if gpus is not None and not pd.api.types.is_scalar(gpus) and len(gpus) else None
    return tuple(value if isinstance(value, str) else None for value in (row["hostname"], row["cpu_model"], gpu))


def _hardware(machine: Sequence[str | None], cpus: Any, gpus: Any, nodes: Any) -> str:
    _, cpu_model, gpu_model = machine
    each = f" × {nodes:g} nodes" if not pd.isna(nodes) and nodes > 1 else ""
    if not pd.isna(gpus) and gpus > 0:
        return f"{gpu_model or 'unknown GPU'} × {gpus:g}{each}"
    return f"{cpu_model or 'unknown CPU'} × {cpus:g} core{'' if cpus == 1 else 's'}{each}"


def select(trials: pd.DataFrame, *expressions: str) -> pd.DataFrame:
    """Return the trials that all expressions hold for.

    A path is a column of `trials`, those of `described` included (``cpu_model``, ``commit`` …), or of the setting:
    ``"batch_size >= 32 and optimizer.name == 'sgd' and node == 'gpu07'"``. What a trial lacks is None.

    Raises:
        SuiteError: for an expression that is none, and for a path that no trial has.
    """
    if trials.empty:
        return trials
    conditions = [Expression(text) for text in expressions]
    settings = plain_settings(trials)
    paths = {path for condition in conditions for path in condition.names}
    values = {path: _values(path, trials, settings) for path in paths}

    def met(row: int) -> bool:
        return all(condition.holds(lambda path: values[path][row]) for condition in conditions)

    return trials[[met(row) for row in range(len(trials))]]


def _values(path: str, trials: pd.DataFrame, settings: Sequence[Mapping[str, Any]]) -> list[Any]:
    if path in trials.columns:
        return [None if pd.api.types.is_scalar(one) and pd.isna(one) else one for one in trials[path].tolist()]
    known: dict[int, Any] = {}  # equal settings are one object
    for one in settings:
        if id(one) not in known:
            known[id(one)] = read(one, path)
    if all(value is MISSING for value in known.values()):
        columns = [str(name) for name in trials.columns if name not in ("setting", "error_detail")]
        raise SuiteError(unknown_path(path, sorted({*columns, *leaves(settings[0])})))
    return [None if (value := known[id(one)]) is MISSING else value for one in settings]
