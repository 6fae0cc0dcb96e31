"""Recorded runs for the tests of exports: the committed example, and runs with whatever text one wants in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from record.finished import INFO, epoch, finished

from harness.domain.outcome import Finished
from harness.record.recorder import Recorder

EXAMPLE = Path(__file__).parents[2] / "results" / "example"

# What breaks a reader or a page that takes text for something else.
HOSTILE = (
    'a "quoted", comma; and\ttab',
    "two\nlines",
    "carriage\r\nreturn",
    '=HYPERLINK("http://example.org","x")',
    "+1",
    "@SUM(A1)",
    "-5",
    "<script>alert(1)</script>",
    "a|b `c` *d* [e](f) \\|",
    "nan",
    "",
    " ",
    "×😀",
)


def record(
    folder: Path, *trials: Finished, suite: str = "suite", run_id: str = "20261101-120000-abcd", **info: Any
) -> Path:
    """Write a run that has ended."""
    with Recorder.create(folder, suite=suite, run_id=run_id, info=INFO | info) as recorder:
        recorder.add_node({"node": "here", "hostname": "node7", "cpu_model": "a CPU"})
        for trial in trials:
            recorder.write(trial)
        recorder.add_telemetry([{"time": 1.0, "device": "cpu0", "metric": "load_percent", "value": 1.0}], node="here")
        recorder.finish("completed")
    return recorder.folder


def hostile(folder: Path) -> Path:
    """Write a run whose trials failed with the `HOSTILE` texts, which are values of an axis too."""
    trials = [
        finished(seed, axes=(("note", text),), error=text, status="failed", epochs=1 + seed % 2)
        for seed, text in enumerate(HOSTILE)
    ]
    return record(folder, *trials, axes={"note": list(HOSTILE)})


def diverged(folder: Path) -> Path:
    """Write a run with a loss that is not a number, one that is missing, a metric of its own and a lost trial."""
    first = replace(epoch(1, loss=float("nan")), extra={"f1": 0.5, "val_f1": 0.25})
    second = replace(epoch(2, loss=None), extra={"f1": float("inf")})
    lost = finished(1, status="lost", epochs=0, error="gone")
    lost = replace(lost, outcome=replace(lost.outcome, started_at=None, ended_at=None))
    target = {"metric": "val_accuracy", "at_least": 0.95, "at_most": None}
    return record(folder, finished(0, epochs=[first, second]), lost, target=target, axes={"batch_size": [32]})
