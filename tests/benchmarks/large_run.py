"""Large runs, written in a moment: the recorder's schemas and row groups, and figures such as trainings give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.record import schema, tables

SUITE = "large"
TARGET = {"metric": "val_accuracy", "at_least": 0.9, "at_most": None}
REPEATS = 4

_BATCH_SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)
_BEGAN_US = 1_790_000_000_000_000  # since the Unix epoch


def write_run(results: Path, *, trials: int, epochs: int, run_id: str = "20261121-211530-7f3a") -> Path:
    """Write a run that has ended, on a machine without GPUs: `trials` of `epochs` each, `REPEATS` of a setting."""
    folder = results / SUITE / run_id
    folder.mkdir(parents=True)
    settings = [_setting(number) for number in range(-(-trials // REPEATS))]
    rates = sorted({one["optimizer.learning_rate"] for one in settings})
    rng = np.random.default_rng(1)
    paces = np.array([0.02 + 2 / one["batch_size"] for one in settings]).repeat(REPEATS)[:trials]
    paces = paces * np.exp(rng.normal(0, 0.03, trials))
    ids = _ids(trials, run_id)
    _write_epochs(folder, ids, paces, epochs, rng)
    _write_trials(folder, ids, settings, paces, epochs, rng)
    for table in ("nodes", "telemetry"):
        rows = {"run_id": [run_id], "node": ["here"], "hostname": ["here"], "cpu_model": ["A CPU"]}
        _write(folder, table, [(rows, 1)] if table == "nodes" else [])
    content = run_file(run_id, trials=trials)
    content["axes"] = {"batch_size": list(_BATCH_SIZES), "optimizer.learning_rate": rates}
    (folder / "run.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def run_file(run_id: str, *, trials: int, state: str = "completed") -> dict[str, Any]:
    """Return what run.json holds, some 10 kB of it: packages, settings of the axes, readings that could not be had."""
    absent = {f"gpu_{name}": "no NVIDIA driver: libnvidia-ml.so.1 was not found on this node" for name in range(20)}
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "harness_version": "0.1.0",
        "suite": SUITE,
        "run_id": run_id,
        "state": state,
        "started_at": "2026-11-21T21:15:30.000000+00:00",
        "ended_at": None if state == "running" else "2026-11-21T23:15:30.000000+00:00",
        "trials": trials,
        "counts": {"completed": trials},
        "suite_sha256": "a" * 64,
        "suite_text": "# a line of the suite's file, as long as such lines are\n" * 60,
        "command": ["/usr/bin/harness", "run", "suites/large.py"],
        "axes": {"batch_size": list(_BATCH_SIZES), "optimizer.learning_rate": [0.1]},
        "target": TARGET,
        "references": [],
        "sampling": {"here": {"hz": 5.0, "absent": absent, "gaps": []}},
        "attempts": [{"started_at": "2026-11-21T21:15:30+00:00", "packages": {f"p{n}": "1.2.3" for n in range(100)}}],
    }


def _setting(number: int) -> dict[str, Any]:
    rate = round(0.001 * (1 + number // len(_BATCH_SIZES)), 6)
    return {"batch_size": _BATCH_SIZES[number % len(_BATCH_SIZES)], "optimizer.learning_rate": rate}


def _ids(trials: int, run_id: str) -> dict[str, pa.DictionaryArray]:
    """Return the identities of the trials, one row each."""
    names = {
        "run_id": ([run_id], np.zeros(trials)),
        "trial_id": ([f"{number * 2654435761 % 2**48:012x}" for number in range(trials)], np.arange(trials)),
        "setting_id": ([f"{number * 40503 + 7:012x}" for number in range(-(-trials // REPEATS))], _setting_of(trials)),
        "arm": (["default"], np.zeros(trials)),
    }
    return {
        name: pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(texts))
        for name, (texts, codes) in names.items()
    }


def _setting_of(trials: int) -> np.ndarray:
    return np.arange(trials) // REPEATS


def _write_epochs(
    folder: Path, ids: dict[str, pa.DictionaryArray], paces: np.ndarray, epochs: int, rng: np.random.Generator
) -> None:
    number = np.arange(1, epochs + 1)

    def batches() -> Any:
        for start in range(0, len(paces), 1000):
            of = np.arange(start, min(start + 1000, len(paces)))
            owner, epoch = of.repeat(epochs), np.tile(number, len(of))
            train_s = paces[owner] * np.exp(rng.normal(0, 0.01, len(owner)))
            ended_us = _BEGAN_US + (paces[owner] * epoch * 1.1e6).astype(np.int64)
            value = 1 - 0.9 * np.exp(-epoch * (0.02 + 0.1 * paces[owner])) + rng.normal(0, 0.002, len(owner))
            yield (
                {
                    **{name: column.take(pa.array(owner)) for name, column in ids.items()},
                    "epoch": epoch,
                    "train_s": train_s,
                    "eval_s": train_s / 10,
                    "elapsed_train_s": train_s.reshape(-1, epochs).cumsum(axis=1).ravel(),
                    "samples": np.full(len(owner), 16_000),
                    "samples_per_s": 16_000 / train_s,
                    "steps": np.full(len(owner), 125),
                    "chunks": np.ones(len(owner), dtype=np.int64),
                    "loss": 1.1 - value,
                    "accuracy": np.minimum(1.0, value + 0.01),
                    "val_loss": 1.2 - value,
                    "val_accuracy": np.minimum(1.0, value),
                    "user_cpu_s": train_s,
                    "system_cpu_s": train_s / 50,
                    "warmup": epoch == 1,
                    "started_at": ended_us - (train_s * 1e6).astype(np.int64),
                    "ended_at": ended_us,
                    "compilations": np.zeros(len(owner), dtype=np.int64),
                    "cpu_percent": np.full(len(owner), 99.0),
                    "foreign_percent": np.zeros(len(owner)),
                    "steal_percent": np.zeros(len(owner)),
                    "swapped_bytes": np.zeros(len(owner)),
                    "warnings": pa.ListArray.from_arrays(np.zeros(len(owner) + 1, np.int32), pa.array([], pa.string())),
                },
                len(owner),
            )

    _write(folder, "epochs", batches())


def _write_trials(
    folder: Path,
    ids: dict[str, pa.DictionaryArray],
    settings: list[dict[str, Any]],
    paces: np.ndarray,
    epochs: int,
    rng: np.random.Generator,
) -> None:
    count = len(paces)
    of = _setting_of(count)
    texts = pa.array(
        [
            json.dumps({"batch_size": one["batch_size"], "epochs": epochs, "optimizer": list(one.items())})
            for one in settings
        ]
    )
    position = rng.permutation(count)
    none = pa.ListArray.from_arrays(np.zeros(count + 1, np.int32), pa.array([], pa.string()))
    rows = {
        **ids,
        "seed": np.arange(count) % REPEATS,
        "repeat": np.arange(count) % REPEATS,
        "status": pa.array(["completed"] * count),
        "setting": texts.take(pa.array(of)),
        "batch_size": np.array([one["batch_size"] for one in settings])[of],
        "epochs": np.full(count, epochs),
        "epochs_recorded": np.full(count, epochs),
        "backend": pa.array(["tensorflow"] * count),
        "engine": pa.array(["xla"] * count),
        "cpus": np.ones(count, dtype=np.int64),
        "gpus": np.zeros(count),
        "label": pa.array([""] * count),
        "node": pa.array(["here"] * count),
        "worker": pa.array([str(number) for number in position % 2]),
        "position": position,
        "block": np.arange(count) % REPEATS,
        "neighbours": np.ones(count, dtype=np.int64),
        "initial_val_accuracy": np.full(count, 0.1),
        "compile_s": np.full(count, 0.5),
        "train_s": paces * epochs,
        "wall_s": paces * epochs * 1.1,
        "started_at": np.full(count, _BEGAN_US),
        "ended_at": _BEGAN_US + (paces * epochs * 1.1e6).astype(np.int64),
        "warnings": none,
        "unjudged": none,
        "optimizer.learning_rate": np.array([one["optimizer.learning_rate"] for one in settings])[of],
    }
    _write(folder, "trials", [(rows, count)], axes={"optimizer.learning_rate": "float64"})


def _write(folder: Path, table: str, batches: Any, axes: dict[str, str] | None = None) -> None:
    """Write columns, and nulls for those that are not given, as the recorder does: so many cells a row group."""
    columns = tables.arrow_schema(table, axes)
    text = [field.name for field in columns if pa.types.is_string(field.type)]
    path = folder / f"{table}.parquet"
    with pq.ParquetWriter(path, columns, compression="zstd", use_dictionary=text, write_statistics=True) as writer:
        for rows, count in batches:
            arrays = [
                pa.nulls(count, field.type) if field.name not in rows else _array(rows[field.name], field.type)
                for field in columns
            ]
            writer.write_table(
                pa.Table.from_arrays(arrays, schema=columns), row_group_size=tables.GROUP_CELLS // len(columns)
            )


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array.cast(kind)
