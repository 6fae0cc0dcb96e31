"""How comparisons are designed: how often they may be wrong, and what they are to find."""

from __future__ import annotations

from typing import Final

ALARMS: Final = 0.02  # false alarms: the two-sided level of every test
CONFIDENCE: Final = 1 - ALARMS  # of every interval, unless said otherwise
SLOW_DOWN: Final = 1.10  # the ratio that is to be found,
POWER: Final = 0.95  # so often
