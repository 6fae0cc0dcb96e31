"""Finished trials for tests: what a worker would have measured, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.domain.outcome import EpochRecord, Facts, Finished, Outcome, Placement, Status, Stopwatches
from harness.domain.setting import Setting
from harness.domain.trial import Trial

INFO: dict[str, Any] = {
    "suite_sha256": "a" * 64,
    "command": ["/usr/bin/harness", "run", "suites/odd name.py"],
    "trials": 3,
}


def epoch(number: int, *, loss: float | None = 0.5, val_accuracy: float | None = 0.9) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        train_s=0.125,
        eval_s=0.01,
        elapsed_train_s=0.125 * number,
        samples=4000,
        steps=125,
        chunks=1,
        loss=loss,
        accuracy=0.8,
        val_loss=loss,
        val_accuracy=val_accuracy,
        user_cpu_s=0.12,
        system_cpu_s=0.01,
        started_at=1_700_000_000.25 + number,
        ended_at=1_700_000_000.5 + number,
        warmup=number == 1,
    )


def key(seed: int) -> tuple[str, str]:
    """Return the key of ``finished(seed)``."""
    return finished(seed).trial.key


def finished(
    seed: int = 0,
    *,
    status: Status = "completed",
    epochs: Sequence[EpochRecord] | int = 2,
    axes: tuple[tuple[str, Any], ...] | None = None,
    batch_size: int = 32,
    error: str | None = None,
    attempt: int = 1,
) -> Finished:
    axes = (("batch_size", batch_size), ("optimizer.learning_rate", 0.1)) if axes is None else axes
    records = tuple(epoch(number + 1) for number in range(epochs)) if isinstance(epochs, int) else tuple(epochs)
    return Finished(
        trial=Trial(setting=Setting(batch_size=batch_size, epochs=5), seed=seed, repeat=seed, axes=axes),
        outcome=Outcome(
            status=status,
            epochs=records,
            error=error,
            watches=Stopwatches(build_s=0.25, train_s=0.5, wall_s=1.0),
            facts=Facts(engine="xla", cores=(0, 1), parameters=101_770, initial_val_accuracy=0.1),
            started_at=1_700_000_000.0,
            ended_at=1_700_000_001.5,
        ),
        placement=Placement(
            worker="0", node="here", position=seed, block=seed, attempt=attempt, neighbours=1, warmth="cold"
        ),
    )
