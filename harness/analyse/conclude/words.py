"""Figures and names as they stand in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from harness.analyse.compare import Comparison
from harness.domain.duration import seconds

LONGEST: Final = 60  # letters of a label, or of a reason
_KEPT: Final = 12  # letters of what long labels have in common
_MINUTES: Final = 100  # seconds from which times are told in minutes
_NARROW: Final = 1.25  # ends of an interval, the one to the other, up to which it has a digit more


def ratio(value: float, digits: int = 2) -> str:
    """Return a ratio with two significant digits, near 1 with three: ``0.58``, ``1.06``, ``4.1``, ``120``."""
    if value >= 99.5:
        return f"{float(f'{value:.{digits}g}'):,.0f}"
    return f"{value:.{3 if 0.9 <= value < 2 else digits}g}"


def interval(low: float, high: float) -> str:
    """Return the interval of a ratio, with a digit more where it is narrow."""
    digits = _digits(low, high)
    return f"{ratio(low, digits)} to {ratio(high, digits)}"


def times_as_long(value: float, seen: Comparison | None) -> str:
    """Return how many times as long something takes, with the interval of the geometric means that was `seen`."""
    if seen is None or seen.low is None or seen.high is None or seen.ratio is None:
        return f"{ratio(value)} times as long"
    # Medians can lie apart by more, or by less, than the means that the interval is of.
    of = "" if seen.low <= value <= seen.high else "geometric means: "
    told = ratio(value, _digits(seen.low, seen.high))
    return f"{told} times as long ({of}{interval(seen.low, seen.high)} at 98 % confidence)"


def _digits(low: float, high: float) -> int:
    return 3 if high < _NARROW * low else 2


def span(low: float, high: float) -> str:
    """Return two times, of one unit where that can be: ``0.990 to 1.01 s``."""
    first, last = seconds(low), seconds(high)
    return f"{first.removesuffix(' s')} to {last}" if high < _MINUTES else f"{first} to {last}"


def capital(text: str) -> str:
    """Return the beginning of a sentence; a label stays as it is."""
    return f"T{text[1:]}" if text.startswith("the ") else text


def short_names(names: Sequence[str]) -> list[str]:
    """Return names for a sentence: one line each, the long ones shortened, and numbered where that makes them alike."""
    short = [name or "the setting" for name in _shortened(names)]
    again = Counter(short)
    return [f"{name} #{number}" if again[name] > 1 else name for number, name in enumerate(short, 1)]


def short(text: str, longest: int = LONGEST) -> str:
    """Return a text as one line, without its middle where it is long."""
    line, half = _line(text), longest // 2
    return line if len(line) <= longest else f"{line[:half]}…{line[1 - half :]}"


def _shortened(names: Sequence[str]) -> list[str]:
    """Return names of which long ones lack most of what all have in common at the beginning and at the end."""
    lines = [_line(name) for name in names]
    start = max(0, _in_common(lines) - _KEPT)
    end = max(0, _in_common([line[::-1] for line in lines]) - _KEPT)
    found = []
    for line in lines:
        if len(line) > LONGEST and start + end < len(line):
            line = ("…" if start else "") + line[start : len(line) - end] + ("…" if end else "")
        found.append(short(line))
    return found


def _in_common(lines: Sequence[str]) -> int:
    """Return how many letters from the first on are the same in all."""
    places = enumerate(zip(*lines, strict=False))
    return next((place for place, letters in places if len(set(letters)) > 1), min(map(len, lines)))


def _line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
