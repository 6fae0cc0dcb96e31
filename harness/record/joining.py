"""The records of a run, completed by what its telemetry says: loads, energy, and the warnings that follow.

The log holds what workers observed. What is made of that and of the readings (the columns in `JOINED`) is made here
alone, whenever tables are written at a run's end, rebuilt, or read of a run that has not ended.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.domain.errors import ResultsError
from harness.domain.judge import READ, Figures, flops_per_s, judge, peak_percent, share_key
from harness.record import journal
from harness.record.journal import Index
from harness.record.log import Entry
from harness.record.tables import Record
from harness.telemetry.join import METRICS, Gaps, Joined, Series, Spans, join, validity
from harness.telemetry.probe import process_name

Row = dict[str, Any]
Readings = dict[tuple[str, str], Series]

BATCH_TRIALS = 100  # that are joined at a time, in memory
BATCH_EPOCHS = 5000  # or so
BATCH_S = 3600.0  # and the time that they may span, as its readings are in memory too
MARGIN_S = 60.0  # readings are looked for so long before and after

# Columns of numbers that come from the readings as they are.
_READ_COLUMNS = tuple(name for name in Joined.__slots__ if name != "throttle_reasons")


def joined(index: Index, telemetry: Sequence[Path], gaps: Mapping[str, Gaps]) -> Iterator[Record]:
    """Yield the records of a log that count, nodes first, with the columns that are made of readings.

    `telemetry` are Parquet files of readings, `gaps` those that the samplers recorded, by node. The log is read twice
    and a batch of trials is in memory at a time.
    """
    known = _survey(index)
    for node, row in known.nodes.items():
        yield {"kind": "node", "node": node}, row
    store = _Store(telemetry)
    for batch in _batches(journal.records(index)):
        _complete([body for _, body in batch], store, known, gaps)
        yield from batch


def readings(folder: Path) -> list[Path]:
    """Return the files with the readings of a run: its parts while there are any, else its table."""
    parts, table = sorted((folder / "parts" / "telemetry").glob("*.parquet")), folder / "telemetry.parquet"
    return parts or ([table] if table.exists() else [])


def recorded_gaps(*contents: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return the samplers' gaps by node, as run.json has them under `sampling`; several are taken together."""
    gaps: dict[str, list[tuple[float, float]]] = {}
    for content in contents:
        for node, notes in (content.get("sampling") or {}).items():
            for gap in notes.get("gaps", ()):
                ended_at = gap["ended_at"]  # None: sampling never began again
                gaps.setdefault(node, []).append((gap["started_at"], np.inf if ended_at is None else ended_at))
    return gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the whole log says: the nodes, what was calibrated on each, and the cores of each node's workers."""

    nodes: dict[str, Row] = field(default_factory=dict)
    calibrations: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    workers: dict[str, dict[str, frozenset[int]]] = field(default_factory=dict)  # by node and name of their readings

    def beside(self, node: str, worker: str, cores: Collection[int]) -> tuple[str, ...]:
        """Return the other workers of the node that have some of these cores: they take turns."""
        others = self.workers[node].items()
        return tuple(other for other, theirs in others if other != worker and not theirs.isdisjoint(cores))


def _survey(index: Index) -> _Known:
    known = _Known()
    for entry in journal.records(index):
        if entry.head["kind"] == "node":
            node, row = entry.head["node"], entry.body()
            # A node is described again when more is known or the run is resumed: the last description holds, but what
            # was calibrated for earlier trials is not calibrated again.
            calibrations = known.calibrations.setdefault(node, {})
            calibrations |= json.loads(row.get("calibration") or "{}")
            columns: Row = {}
            for share in calibrations.values():
                columns = {**share, **columns}
            known.nodes[node] = columns | row | ({"calibration": json.dumps(calibrations)} if calibrations else {})
        elif entry.head["kind"] == "trial":
            trial = entry.body()["trial"]
            cores = known.workers.setdefault(trial["node"], {})
            worker = process_name(trial["worker"])
            cores[worker] = cores.get(worker, frozenset()) | frozenset(trial.get("cores") or ())
    return known


def _batches(entries: Iterable[Entry]) -> Iterator[list[Record]]:
    """Yield the trials in order, so many at a time that they and their readings fit into memory."""
    batch: list[Record] = []
    epochs, low, high = 0, np.inf, -np.inf
    for entry in entries:
        if entry.head["kind"] != "trial":
            continue
        body = entry.body()
        low = min(low, body["trial"].get("started_at", np.inf))
        high = max(high, body["trial"].get("ended_at", -np.inf))
        if batch and (len(batch) >= BATCH_TRIALS or epochs >= BATCH_EPOCHS or high - low > BATCH_S):
            yield batch
            batch, epochs = [], 0
            low, high = body["trial"].get("started_at", np.inf), body["trial"].get("ended_at", -np.inf)
        batch.append((entry.head, body))
        epochs += len(body["epochs"]["epoch"])
    if batch:
        yield batch


def _complete(bodies: Sequence[Row], store: _Store, known: _Known, gaps: Mapping[str, Gaps]) -> None:
    """Add the columns to trials and their epochs."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    devices = {"host", "harness"}
    for body in bodies:
        trial = body["trial"]
        cores, gpus = tuple(trial.get("cores") or ()), tuple(trial.get("gpu_uuids") or ())
        groups.setdefault((trial["node"], process_name(trial["worker"]), cores, gpus), []).append(body)
        devices.update(f"cpu{core}" for core in cores)
        devices.update(f"gpu:{uuid}" for uuid in gpus)
    beside = {key: known.beside(key[0], key[1], key[2]) for key in groups}
    devices.update(f"worker:{name}" for key, others in beside.items() for name in (key[1], *others))
    starts = [body["trial"]["started_at"] for body in bodies if "started_at" in body["trial"]]
    ends = [body["trial"]["ended_at"] for body in bodies if "ended_at" in body["trial"]]
    readings = store.between(min(starts), max(ends), devices) if starts and ends else {}
    for key, members in groups.items():
        node, worker, cores, gpus = key
        unknown = np.concatenate([_before_resuming(body) for body in members])
        start_s = _gathered(members, "started_at")
        spans = Spans(
            start_s=np.where(unknown, np.nan, start_s),
            end_s=_gathered(members, "ended_at"),
            cpu_s=_gathered(members, "user_cpu_s") + _gathered(members, "system_cpu_s"),
            worker=worker,
            cores=cores,
            gpus=gpus,
            beside=beside[key],
        )
        found = join(readings.get(node, {}), spans, gaps.get(node, ()))
        _put_readings(members, spans.end_s - start_s, found)
    for body in bodies:
        node = body["trial"]["node"]
        _put_judgement(body, known.nodes.get(node, {}), known.calibrations.get(node, {}))


def _gathered(bodies: Iterable[Row], name: str) -> NDArray[np.float64]:
    """Return a column of trials, each followed by its epochs, as numbers; NaN for null."""
    cells = (
        [body["trial"].get(name), *body["epochs"].get(name, [None] * len(body["epochs"]["epoch"]))] for body in bodies
    )
    return np.array(list(chain.from_iterable(cells)), dtype=np.float64)


def _before_resuming(body: Row) -> NDArray[np.bool_]:
    """Return for a trial and each of its epochs whether they began before it went on from a saved state, elsewhere
    perhaps: no readings are joined to them."""
    trial, epochs = body["trial"], body["epochs"]
    if not trial.get("resumptions"):
        return np.zeros(1 + len(epochs["epoch"]), dtype=np.bool_)
    last, began = trial.get("resumed_after_epoch", 0), trial.get("started_at", np.inf)
    starts = epochs.get("started_at", [None] * len(epochs["epoch"]))
    earlier = [
        epoch <= last or (start is not None and start <= began)
        for epoch, start in zip(epochs["epoch"], starts, strict=True)
    ]
    return np.array([True, *earlier])


def _put_readings(bodies: Sequence[Row], lengths_s: NDArray[np.float64], found: Joined) -> None:
    counts = [1 + len(body["epochs"]["epoch"]) for body in bodies]
    beside = np.repeat([body["trial"]["neighbours"] > 0 for body in bodies], counts)
    packed = np.repeat([body["trial"]["gpus"] < 1 for body in bodies], counts)
    columns: dict[str, list[Any]] = {name: _listed(getattr(found, name)) for name in _READ_COLUMNS}
    columns["throttle_reasons"] = found.throttle_reasons
    columns["gpu_power_validity"] = validity(found.gpu_power_j, found.gpu_power_coverage, lengths_s, beside & packed)
    for kind, shared in (("gpu", beside & packed), ("cpu", beside)):
        energy_j, coverage = (_gathered(bodies, f"{kind}_counter_{what}") for what in ("j", "coverage"))
        columns[f"{kind}_counter_validity"] = validity(energy_j, coverage, lengths_s, shared)
    at = 0
    for body, count in zip(bodies, counts, strict=True):
        for name, values in columns.items():
            body["trial"][name] = values[at]
            body["epochs"][name] = values[at + 1 : at + count]
        at += count


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    cells: list[Any] = values.tolist()
    return [None if value != value else value for value in cells]


def _put_judgement(body: Row, node: Row, calibration: Mapping[str, Mapping[str, Any]]) -> None:
    trial, epochs = body["trial"], body["epochs"]
    cores = trial.get("cores")
    judgement = judge(
        Figures(
            cpus=trial["cpus"],
            cores=None if cores is None else len(cores),
            quota=node.get("cpu_limit"),
            trials_at_a_time=1 + trial["neighbours"],
            has_gpu=bool(trial["gpus"] or trial.get("gpu_uuids")),
            compiles=trial.get("backend") is not None,
            wall_s=trial.get("wall_s"),
            clock_step_s=trial.get("clock_step_s"),
            clock_drift=trial.get("clock_drift"),
            read={name: trial[column] for name, column in READ.items()},
            train_s=epochs["train_s"],
            warmup=epochs["warmup"],
            compilations=epochs.get("compilations", [None] * len(epochs["epoch"])),
            epochs_read={name: epochs[column] for name, column in READ.items()},
        )
    )
    epochs["warnings"] = judgement.epochs
    trial["warnings"] = judgement.warnings
    trial["unjudged"] = judgement.unjudged
    trial["flops_per_s"] = flops_per_s(
        trial.get("step_flops"),
        trial["batch_size"],
        train_s=epochs["train_s"],
        samples=epochs["samples"],
        warmup=epochs["warmup"],
    )
    share = calibration.get(share_key(trial.get("backend"), trial["cpus"], trial["gpus"]), {})
    trial["peak_percent"] = peak_percent(trial["flops_per_s"], share, trial["gpus"])


class _Store:
    """Readings in Parquet files, found by the time that their row groups tell of."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._groups: list[tuple[Path, int, float, float]] = []
        for path in paths:
            with _naming(path):
                metadata = pq.read_metadata(path)
            column = metadata.schema.to_arrow_schema().names.index("time")
            for number in range(metadata.num_row_groups):
                told = metadata.row_group(number).column(column).statistics
                known = told is not None and told.has_min_max
                low, high = (told.min.timestamp(), told.max.timestamp()) if known else (-np.inf, np.inf)
                self._groups.append((path, number, low, high))

    def between(self, start_s: float, end_s: float, devices: Collection[str]) -> dict[str, Readings]:
        """Return by node what is joined of these devices' readings, from before the start to after the end."""
        files: dict[Path, list[int]] = {}
        for path, number, low, high in self._groups:
            if low <= end_s + MARGIN_S and high >= start_s - MARGIN_S:
                files.setdefault(path, []).append(number)
        found: list[pa.Table] = []
        wanted = {"device": pa.array(sorted(devices)), "metric": pa.array(sorted(METRICS))}
        for path, numbers in files.items():
            with _naming(path), pq.ParquetFile(path) as file:
                for number in numbers:  # one at a time: most rows are of no interest
                    rows = file.read_row_group(number, columns=["node", "time", "device", "metric", "value"])
                    for name, values in wanted.items():
                        rows = rows.filter(pc.is_in(rows[name], value_set=values))
                    found.append(rows.filter(pc.is_valid(rows["value"])))
        return _by_series(pa.concat_tables(found)) if found else {}


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise what goes wrong in reading a file as an error that names it; that it is gone is for others to judge."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(
            f"{path}: is cut off or damaged ({str(error).splitlines()[0]}); the log does not hold readings: restore it "
            "from a copy, or remove it, and what is made of the readings is null"
        ) from error


def _by_series(rows: pa.Table) -> dict[str, Readings]:
    """Return the readings of each node, each device and metric in order of time."""
    times = rows["time"].cast(pa.int64()).to_numpy() / 1e6
    values = rows["value"].to_numpy()
    keys = np.zeros(len(rows), dtype=np.int64)
    names: list[list[str]] = []
    for column in ("node", "device", "metric"):
        encoded = rows[column].combine_chunks().dictionary_encode()
        names.append(encoded.dictionary.to_pylist())
        keys = keys * len(names[-1]) + encoded.indices.to_numpy()
    order = np.lexsort((times, keys))
    found: dict[str, Readings] = {}
    edges = np.flatnonzero(np.diff(keys[order], prepend=-1, append=-1))
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        picked = order[begin:end]
        rest, metric = divmod(int(keys[picked[0]]), len(names[2]))
        node, device = divmod(rest, len(names[1]))
        series = (times[picked], values[picked])
        found.setdefault(names[0][node], {})[names[1][device], names[2][metric]] = series
    return found
