"""Durations as people write and read them."""

from __future__ import annotations

import math
import re
from typing import Any

from harness.domain.errors import SuiteError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_TEXT = re.compile(r"(?=.)(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def duration(value: Any) -> float:
    """Return the seconds that a number, or a text such as ``"90s"``, ``"10m"`` or ``"1h30m"``, stands for.

    Raises:
        SuiteError: for anything else, and for what is not above 0.
    """
    seconds: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _TEXT.fullmatch(value.strip().replace(" ", ""))):
        seconds = sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS.values(), strict=True) if part)
    if seconds is None or not 0 < seconds < math.inf:
        raise SuiteError(f"{value!r} is no duration; give seconds above 0, or a text such as '90s', '10m' or '1h30m'")
    return seconds


def seconds(value: float | None) -> str:
    """Return a measured duration for people: ``0.32 s``, ``12.1 s``, ``3 min 05 s``, ``2 h 14 min``."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if value < 100:
        return f"{significant(value)} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"


def significant(value: float) -> str:
    """Return a figure above 0 with three significant digits: ``0.0581``, ``1.50``, ``12.1``; 0 below a millionth."""
    if value < 1e-6:
        return "0"
    power = int(f"{value:.2e}".partition("e")[2])  # of the rounded figure: 9.999 is 10.0
    return f"{value:.{max(0, 2 - power)}f}"
