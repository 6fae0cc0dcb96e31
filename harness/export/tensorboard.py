"""Trials as TensorBoard shows them: curves of every epoch, and a row a trial under HParams.

The events are made by TensorBoard's own package, which needs no TensorFlow for it. Each trial is one folder:

- ``train/`` and ``validation/``, with the tags ``epoch_loss``, ``epoch_accuracy`` …, as Keras's callback lays them
  out, so that both curves of a trial share one chart, and trainings of other programs too; the step is the epoch, from
  1, the untrained model's evaluation is step 0, and the wall time is when the epoch ended. ``train/`` also holds
  ``train_s`` and ``samples_per_s``;
- the folder itself: the values of the axes and the seed as hyperparameters; ``best_<metric>`` and, with a target,
  ``reached`` (0 or 1) and, of a trial that reached it, ``time_to_target_s``.

What was not measured has no point; NaN is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import Discrete, HParam, Metric, hparams_config_pb, hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from harness.domain.naming import place
from harness.export.rows import records

_FILE: Final = "events.out.tfevents.{second}.harness"
_SPEEDS: Final = ("train_s", "samples_per_s")


def write_tensorboard(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    folder: Path,
    *,
    metric: str,
    axes: Mapping[str, str],
    naming: Mapping[str, str],
    quantities: Sequence[str],
) -> int:
    """Write the events of all trials below `folder`, which is empty, and return how many trials that are.

    `trials` have ``best`` of the `metric` and, with a target, ``reached`` and ``time_to_target_s``; `quantities` are
    the columns of `epochs` that are losses and metrics. The folders are ``<suite>/<run>/<axes and seed>``, without the
    suite and the run where there is one run alone.
    """
    rows = records(trials)
    of_trial = {_key(row): row for row in rows}
    measured: dict[tuple[Any, ...], list[dict[str, Any]]] = {key: [] for key in of_trial}
    wanted = ["run_id", "trial_id", "arm", "epoch", "elapsed_train_s", "ended_at", *_SPEEDS, *quantities]
    for epoch in records(epochs[wanted].sort_values("epoch", kind="stable")):
        if _key(epoch) in measured:
            measured[_key(epoch)].append(epoch)
    names = _folders(rows, naming)
    tried = {path: column for path, column in axes.items() if any(row[column] is not None for row in rows)}
    first_s = min((row["started_at"].timestamp() for row in rows if row["started_at"] is not None), default=0.0)
    with _Events(folder, first_s) as events:
        events.write(first_s, _experiment(rows, tried, metric, first_s))
    for row, name in zip(rows, names, strict=True):
        began_s = _seconds(row["started_at"], first_s)
        _write_trial(
            row, measured[_key(row)], folder / name, began_s=began_s, metric=metric, axes=tried, quantities=quantities
        )
    return len(rows)


class _Events:
    """One file of events in a folder."""

    def __init__(self, folder: Path, began_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / _FILE.format(second=int(began_s))).open("wb")
        self._writer = RecordWriter(self._file)
        self._add(Event(wall_time=began_s, file_version="brain.Event:2"))

    def write(self, wall_s: float, summary: Summary, step: int = 0) -> None:
        self._add(Event(wall_time=wall_s, step=step, summary=summary))

    def scalar(self, name: str, value: float | None, wall_s: float, step: int) -> None:
        """Write a point, unless there is none."""
        if value is not None:
            self.write(wall_s, scalar_pb(name, value), step)

    def _add(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())

    def __enter__(self) -> _Events:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def _write_trial(
    row: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    began_s: float,
    metric: str,
    axes: Mapping[str, str],
    quantities: Sequence[str],
) -> None:
    ended_s = _seconds(row["ended_at"], began_s)
    given = {path: row[column] for path, column in axes.items() if row[column] is not None}
    with _Events(folder, began_s) as events:
        values = {path: _value(value) for path, value in given.items()} | {"seed": int(row["seed"])}
        events.write(began_s, hparams_pb(values, trial_id="/".join(map(str, _key(row))), start_time_secs=began_s))
        last = epochs[-1]["epoch"] if epochs else 0
        events.scalar(f"best_{metric}", row["best"], ended_s, last)
        if row.get("reached") is not None:
            events.scalar("reached", float(row["reached"]), ended_s, last)
            if row["reached"]:
                events.scalar("time_to_target_s", row["time_to_target_s"], ended_s, last)
        events.write(ended_s, _end(row["status"], ended_s))
    if epochs:
        _write_curves(row, epochs, folder, began_s=began_s, quantities=quantities)


def _write_curves(
    row: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    began_s: float,
    quantities: Sequence[str],
) -> None:
    trained = [name for name in quantities if not name.startswith("val_")]
    held_out = {f"epoch_{name.removeprefix('val_')}": name for name in quantities if name.startswith("val_")}
    with _Events(folder / "train", began_s) as events:
        for epoch in epochs:
            wall_s = _ended(epoch, began_s)
            for name in trained:
                events.scalar(f"epoch_{name}", epoch[name], wall_s, epoch["epoch"])
            for name in _SPEEDS:
                events.scalar(name, epoch[name], wall_s, epoch["epoch"])
    if any(epoch[name] is not None for epoch in epochs for name in held_out.values()):
        with _Events(folder / "validation", began_s) as events:
            for tag, name in held_out.items():
                events.scalar(tag, row.get(f"initial_{name}"), began_s, 0)
            for epoch in epochs:
                for tag, name in held_out.items():
                    events.scalar(tag, epoch[name], _ended(epoch, began_s), epoch["epoch"])


def _experiment(rows: Sequence[Mapping[str, Any]], axes: Mapping[str, str], metric: str, began_s: float) -> Summary:
    """Return what HParams lists: the axes with their values, the seed, and what the trials are judged by."""
    values = {path: {_value(row[column]) for row in rows if row[column] is not None} for path, column in axes.items()}
    values["seed"] = {int(row["seed"]) for row in rows}
    judged = [Metric(f"best_{metric}")]
    if any(row.get("reached") is not None for row in rows):
        judged += [Metric("time_to_target_s"), Metric("reached")]
    hparams = [HParam(path, Discrete(found)) for path, found in values.items()]
    return hparams_config_pb(hparams, judged, time_created_secs=began_s)


def _end(status: str, ended_s: float) -> Summary:
    how = api_pb2.STATUS_SUCCESS if status == "completed" else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=how, end_time_secs=ended_s)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    summary = Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    return summary


def _folders(rows: Sequence[Mapping[str, Any]], naming: Mapping[str, str]) -> list[str]:
    """Return a folder for each trial, as people read it; the arm and the id follow where that is not enough."""
    several = len({row["run_id"] for row in rows}) > 1
    names: list[str] = []
    for further in ((), ("arm",), ("arm", "trial_id")):
        names = []
        for row in rows:
            parts = [place(row, naming), f"seed={row['seed']}", *(str(row[name]) for name in further)]
            name = ",".join(_safe(part) for part in parts if part)
            names.append(f"{_safe(row['suite'])}/{_safe(row['run_id'])}/{name}" if several else name)
        if len({name.lower() for name in names}) == len(names):  # some systems do not tell a from A
            break
    return names


def _safe(text: str) -> str:
    """Return a text that every system takes as a part of a folder's name: spaces part the axes."""
    plain = re.sub(r"[^\w.=,+()-]+", "_", text.replace(", ", ",").replace(" ", ","))
    return plain.encode()[:100].decode(errors="ignore").strip(".") or "_"


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["run_id"], row["trial_id"], row["arm"]


def _value(value: Any) -> bool | int | float | str:
    """Return an axis's value as a hyperparameter, which can be text, a number or a boolean."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _seconds(instant: pd.Timestamp | None, otherwise: float) -> float:
    """Return an instant as seconds since 1970; of a worker that was lost it is not known."""
    return otherwise if instant is None else instant.timestamp()


def _ended(epoch: Mapping[str, Any], began_s: float) -> float:
    """Return when an epoch ended; where that was not recorded, as if nothing but training had taken time."""
    elapsed_s = epoch["elapsed_train_s"]
    known = elapsed_s is not None and math.isfinite(elapsed_s)
    return _seconds(epoch["ended_at"], began_s + (elapsed_s if known else 0.0))
