"""What a function or a program of the user's reports of an epoch: checked, and sorted into the records' columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from harness.domain.errors import HarnessError, known
from harness.domain.metrics import METRICS
from harness.domain.outcome import EpochRecord, Scores
from harness.workloads.protocol import EpochResult

_COUNTS = ("samples", "steps")
_IDENTITY = {"run_id", "trial_id", "setting_id", "arm", "samples_per_s"}  # columns that others fill in, as the clock
_TAKEN = {one.name for one in fields(EpochRecord)} - {*METRICS, *_COUNTS} | _IDENTITY


class ReportError(HarnessError):
    """What was reported is no measurement, or not what was asked for."""


def checked(values: Any, where: str) -> dict[str, float]:
    """Return the numbers that were reported, by name; those that are None are left out.

    A loss may be anything that a float can be: one that is no number has diverged, which is a finding.

    Raises:
        ReportError: for anything but a mapping of names to numbers.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ReportError(f"{where} reported {values!r:.100}; expected metrics by name, such as loss=0.3")
    return {name: number for name, value in values.items() if (number := _number(name, value, where)) is not None}


def _number(name: Any, value: Any, where: str) -> float | None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ReportError(f"{where} reported {name!r:.100}; a metric's name is letters, digits and underscores")
    if name in _TAKEN:
        raise ReportError(f"{where} reported {name!r}, which the harness fills in; call it something else")
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: PyTorch's, for more than one number
        raise ReportError(f"{where} reported {name}={value!r:.100}; expected a number") from None
    if name in _COUNTS and not (number >= 0 and number == int(number)):
        raise ReportError(f"{where} reported {name}={value!r:.100}; expected a whole number from 0")
    if not math.isfinite(number) and name not in ("loss", "val_loss"):
        raise ReportError(f"{where} reported {name}={value!r:.100}; expected a finite number")
    return number


def untrained(values: Any, where: str) -> Scores:
    """Return what was reported of the state before training: val_loss, val_accuracy, or neither.

    Raises:
        ReportError: for anything else.
    """
    measured = checked(values, where)
    if not measured.keys() <= {"val_loss", "val_accuracy"}:
        raise ReportError(f"{where} reported {known(measured)}; before training there are val_loss and val_accuracy")
    return Scores(loss=measured.get("val_loss"), accuracy=measured.get("val_accuracy"))


def result(measured: Mapping[str, float]) -> EpochResult:
    """Return an epoch with these numbers: those that begin with ``val_`` are of the held-out part."""
    train = {name: value for name, value in measured.items() if name not in _COUNTS and not name.startswith("val_")}
    held_out = {name[4:]: value for name, value in measured.items() if name.startswith("val_")}
    samples, steps = (None if (count := measured.get(name)) is None else int(count) for name in _COUNTS)
    return EpochResult(samples=samples, steps=steps, train=_scores(train), held_out=_scores(held_out))


def _scores(values: dict[str, float]) -> Scores:
    return Scores(loss=values.pop("loss", None), accuracy=values.pop("accuracy", None), extra=values)
