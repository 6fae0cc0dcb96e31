"""Time limits in Slurm's forms."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

from harness.domain.errors import SuiteError

FORMS: Final = (
    'minutes ("90"), MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS, a text such as "90m", "2h" or "1h30m", or "unlimited"'
)

_UNLIMITED = "UNLIMITED"  # Slurm's word, and "infinite" beside it
_PLAIN = re.compile(r"(\d+)(?::(\d{1,2}))?(?::(\d{1,2}))?", re.ASCII)
_DAYS = re.compile(r"(\d+)-(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?", re.ASCII)
_NUMBER = r"(\d+(?:\.\d+)?)"
_UNITS = re.compile(rf"(?=.)(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.ASCII)
_MOST_S = 2**31 - 60  # Slurm counts in 32 bits, and turns what is longer into another time


def time_limit(text: str) -> int | None:
    """Return the seconds that Slurm grants for this limit, whole minutes; None for no limit.

    A bare number is minutes, two are minutes and seconds, as sbatch reads them.

    Raises:
        SuiteError: for anything else, 0 (which Slurm takes for no limit) and what is longer than 68 years.
    """
    asked = text.strip()
    if asked.upper() in (_UNLIMITED, "INFINITE"):
        return None
    seconds = _seconds(asked)
    if seconds is None or not 0 < seconds <= _MOST_S:
        raise SuiteError(f"{text!r} is no time limit; give {FORMS}")
    return _whole_minutes(seconds)


def slurm_form(seconds: int | None) -> str:
    """Return a limit as ``D-HH:MM:SS``, rounded up to whole minutes as Slurm counts; None is no limit."""
    if seconds is None:
        return _UNLIMITED
    days, rest = divmod(_whole_minutes(Fraction(seconds)), 86400)
    return f"{days}-{rest // 3600:02d}:{rest % 3600 // 60:02d}:00"


def _whole_minutes(seconds: Fraction) -> int:
    return math.ceil(seconds / 60) * 60


def _seconds(text: str) -> Fraction | None:
    """Return what a text in one of the forms stands for; None where it is in none of them."""
    if match := _PLAIN.fullmatch(text):
        first, *after = (int(part) for part in match.groups() if part is not None)
        units = (3600, 60, 1) if len(after) == 2 else (60, 1)
        if all(part < 60 for part in after):
            return Fraction(sum(part * unit for part, unit in zip((first, *after), units, strict=False)))
    elif match := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        if hours < 24 and minutes < 60 and seconds < 60:
            return Fraction(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    elif match := _UNITS.fullmatch(text.lower().replace(" ", "")):
        # Fractions, because 1.1 hours are 66 minutes and not a whole one more.
        parts = zip(match.groups(), (86400, 3600, 60, 1), strict=True)
        return sum((Fraction(part) * unit for part, unit in parts if part), Fraction(0))
    return None
