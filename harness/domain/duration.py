"""Durations as people write them."""

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
