"""A finished trial as rows: what the log holds of it, and which Arrow type each axis of the grid gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.domain.component import plain_value
from harness.domain.outcome import Energy, EpochRecord, Finished, Outcome
from harness.domain.trial import Trial
from harness.record.schema import AXIS_COLUMNS, ENERGY_COLUMNS, EPOCHS, JOINED, NODES, TRIALS

Row = dict[str, Any]

# Columns of `epochs` that are the same for all epochs of a trial, or follow from the others.
_EPOCH_GIVEN = ("run_id", "trial_id", "setting_id", "arm", "samples_per_s", *JOINED["epochs"])


def trial_record(finished: Finished, artifacts: Sequence[str] = ()) -> tuple[Row, Row]:
    """Return the head and the body of a finished trial's record; the body leaves out what is null.

    The body holds ``trial``, one row of `trials` without run and axes, and ``epochs``, the columns of its
    rows in `epochs` as lists. Instants are seconds since the Unix epoch.
    """
    trial, outcome = finished.trial, finished.outcome
    head = {
        "kind": "trial",
        "trial_id": trial.trial_id,
        "arm": trial.arm,
        "status": outcome.status,
        "axes": {path: plain_value(value, f"axis {path!r}") for path, value in trial.axes if path not in AXIS_COLUMNS},
    }
    row = _trial_row(trial, outcome) | _placement(finished) | {"artifacts": list(artifacts) or None}
    body = {
        "trial": {name: _TRIAL[name](value) for name, value in row.items() if value is not None},
        "epochs": _epoch_columns(outcome.epochs),
    }
    return head, body


def node_record(row: Mapping[str, Any]) -> tuple[Row, Row]:
    """Return the head and the body of a node's record.

    Raises:
        ValueError: for a key that is no column of `nodes`, or without ``node``.
    """
    unknown = set(row) - set(_NODE)
    if unknown or row.get("node") is None:
        raise ValueError(
            f"a node's row needs 'node' and may have {', '.join(_NODE)}; got {', '.join(sorted(map(str, row)))}"
        )
    body = {name: _NODE[name](value) for name, value in row.items() if value is not None}
    return {"kind": "node", "node": body["node"]}, body


def axis_type(value: Any) -> str:
    """Return the kind of column that can hold an axis's value: null, bool, int64, float64, string or json."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int64" if -(2**63) <= value < 2**63 else "json"
        case float():
            return "float64"
        case str():
            return "string"
    return "json"


def merge_types(types: Iterable[str]) -> str:
    """Return the kind of column that can hold values of all these kinds."""
    kinds = set(types) - {"null"}
    if not kinds:
        return "null"
    if kinds == {"int64", "float64"}:
        return "float64"
    return kinds.pop() if len(kinds) == 1 else "json"


def axis_cell(value: Any, kind: str) -> Any:
    """Return an axis's value as a column of that kind holds it; a missing one is None in every kind."""
    if value is None:
        return None
    if kind == "json":
        return _clean(json.dumps(value, sort_keys=True, ensure_ascii=False))
    if kind == "float64":
        return float(value)
    return _clean(value) if kind == "string" else value


def _trial_row(trial: Trial, outcome: Outcome) -> Row:
    setting, facts, watches = trial.setting, outcome.facts, outcome.watches
    row: Row = {
        "trial_id": trial.trial_id,
        "setting_id": trial.setting_id,
        "arm": trial.arm,
        "seed": trial.seed,
        "repeat": trial.repeat,
        "status": outcome.status,
        "error": outcome.error,
        "error_detail": outcome.error_detail,
        "step": outcome.step,
        "setting": setting.canonical(),
        "batch_size": setting.batch_size,
        "epochs": setting.epochs,
        "epochs_recorded": len(outcome.epochs),
        "shuffle": setting.shuffle,
        "backend": None if setting.needs == "none" else setting.backend,
        "precision": setting.precision,
        "engine_asked": setting.engine,
        "engine": facts.engine,
        "engine_reason": facts.engine_reason,
        "dispatch": setting.dispatch,
        "cpus": setting.cpus,
        "gpus": setting.gpus,
        "exclusive": setting.exclusive,
        "label": setting.label,
        "devices": setting.devices,
        "nodes": setting.nodes,
        "accelerator": setting.accelerator,
        "node_labels": json.dumps(setting.node_labels, sort_keys=True) if setting.node_labels else None,
        "node_asked": setting.node,
        "packed": setting.packed,
        "resumptions": facts.resumptions or 0,
        "resumed_after_epoch": facts.resumed_after_epoch,
        "timeout_s": trial.timeout_s,
        "program_reused": facts.program_reused,
        "compile_ahead_s": facts.compile_ahead_s,
        "parameters": facts.parameters,
        "train_samples": facts.train_samples,
        "val_samples": facts.val_samples,
        "classes": facts.classes,
        "train_class_counts": facts.train_class_counts,
        "val_class_counts": facts.val_class_counts,
        "stopped_early": facts.stopped_early,
        "best_epoch": facts.best_epoch,
        "initial_val_loss": facts.initial_val_loss,
        "initial_val_accuracy": facts.initial_val_accuracy,
        "threads": facts.threads,
        "cores": facts.cores,
        "gpu_uuids": facts.gpus,
        "pid": facts.pid,
        "worker_trials_before": facts.worker_trials_before,
        "peak_rss_bytes": facts.peak_rss_bytes,
        "rss_bytes": facts.rss_bytes,
        "user_cpu_s": facts.user_cpu_s,
        "system_cpu_s": facts.system_cpu_s,
        "versions": facts.versions,
        "step_flops": facts.step_flops,
        "flops_source": facts.flops_source,
        "clock_step_s": facts.clock_step_s,
        "clock_drift": facts.clock_drift,
        "major_faults": facts.major_faults,
        "involuntary_switches": facts.involuntary_switches,
        **{name: _energy(facts.energy, field) for name, field in ENERGY_COLUMNS.items()},
        "started_at": outcome.started_at or None,  # 0.0: never set
        "ended_at": outcome.ended_at or None,
    }
    if watches.wall_s:  # 0.0: the worker never reported its stopwatches
        row |= {
            "build_s": watches.build_s,
            "compile_s": watches.compile_s,
            "data_s": watches.data_s,
            "train_s": watches.train_s,
            "eval_s": watches.eval_s,
            "record_s": watches.record_s,
            "wall_s": watches.wall_s,
            "unattributed_s": watches.unattributed_s,
        }
    return row


def _placement(finished: Finished) -> Row:
    placement = finished.placement
    return {
        "worker": placement.worker,
        "node": placement.node,
        "other_nodes": placement.others or None,
        "position": placement.position,
        "block": placement.block,
        "attempt": placement.attempt,
        "neighbours": placement.neighbours,
        "warmth": placement.warmth,
    }


def _epoch_columns(epochs: tuple[EpochRecord, ...]) -> dict[str, list[Any]]:
    columns = {}
    for name, convert in _EPOCH.items():
        field = ENERGY_COLUMNS.get(name)
        values = [getattr(epoch, name) if field is None else _energy(epoch.energy, field) for epoch in epochs]
        if name in ("started_at", "ended_at", "extra"):
            values = [value or None for value in values]  # 0.0: never set; no further metrics
        columns[name] = [None if value is None else convert(value) for value in values]
    return columns


def _energy(energy: Energy | None, field: str) -> float | None:
    return None if energy is None else getattr(energy, field)


def _clean(value: Any) -> str:
    """Return text that UTF-8 can hold: half of a surrogate pair becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _json_or_text(value: Any) -> str:
    if not isinstance(value, str):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return _clean(value)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "string": _clean,
    "int64": int,
    "float64": float,
    "bool": bool,
    "timestamp[us, tz=UTC]": float,
    "list<int32>": lambda values: [int(value) for value in values],
    "list<int64>": lambda values: [int(value) for value in values],
    "list<string>": lambda values: [_clean(value) for value in values],
    "map<string, float64>": lambda values: {_clean(name): float(value) for name, value in values.items()},
}

_JSON = ("versions", "environment", "caches", "calibration")  # columns of `nodes`

# By column: what makes a JSON value of the column's type of what a worker sent (a NumPy scalar, say).
_TRIAL = {column.name: _CONVERT[column.type] for column in TRIALS.columns if column.name != "run_id"}
_EPOCH = {column.name: _CONVERT[column.type] for column in EPOCHS.columns if column.name not in _EPOCH_GIVEN}
_NODE = {
    column.name: _json_or_text if column.name in _JSON else _CONVERT[column.type]
    for column in NODES.columns
    if column.name != "run_id"
}
