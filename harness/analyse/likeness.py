"""Are several groups of repeats about the same? What the repeats show of it, at the level that `compare` has."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from harness.analyse.among import common, steadied
from harness.analyse.compare import Comparison, compare, t_quantile
from harness.domain.design import ALARMS, POWER
from harness.domain.repeats import MOST_NEEDED


class Likeness:
    """Groups of trials in the order of their medians, each with ``run_id``, ``block`` and ``value``, all above 0."""

    def __init__(self, sides: Sequence[pd.DataFrame]) -> None:
        self._sides = sides
        self._values = [side["value"].to_numpy(dtype=float) for side in sides]
        self._shared = common(self._values, relative=True)
        self._pairs = len(sides) * (len(sides) - 1) // 2

    def compared(self, first: int, last: int, times: float = 1.0) -> Comparison:
        """Return a group compared with so many `times` another; of few repeats by the spread of all (see `among`)."""
        side = self._sides[first]
        seen = compare(side.assign(value=side["value"] * times), self._sides[last])
        return steadied(self._values[first] * times, self._values[last], seen, self._shared)

    def shown(self, most: float) -> Literal["within", "beyond", "open"]:
        """Return whether the largest is at most `most` times the smallest, as far as the repeats show it.

        It is within where the 98 % intervals of the ratios of all groups to the one with the smallest median, and of
        the one with the largest to all, end at or below `most`. It is beyond where the largest is more than `most`
        times the smallest at 2 % divided by the number of pairs of groups, since these two were picked for being
        furthest apart (Bonferroni). One repeat shows neither.
        """
        last = len(self._sides) - 1
        furthest = self.compared(0, last, most)
        if furthest.p is None:
            return "open"
        if furthest.verdict == "different: slower" and furthest.p * self._pairs < ALARMS:
            return "beyond"
        pairs = [(0, one) for one in range(last, 0, -1)] + [(one, last) for one in range(1, last)]
        highs = (self.compared(*pair).high for pair in pairs)
        return "within" if all(high is not None and high <= most for high in highs) else "open"

    def needed(self, most: float) -> int | None:
        """Return with about how many repeats each it would be shown on which side of `most` they lie, if they lie as
        far apart, and vary as much, as they do here; None where no spread is known, `MOST_NEEDED` + 1 for more.

        As for a comparison, the least n with (t.. + t.95) spread sqrt(2 / n) <= the distance to `most`, of logs, with
        2 n - 2 degrees of freedom.
        """
        if self._shared is None:
            return None
        first, last = (float(np.log(one).mean()) for one in (self._values[0], self._values[-1]))
        distance = last - first - math.log(most)
        share = 1 - ALARMS / 2 / (self._pairs if distance > 0 else 1)
        spread = math.sqrt(self._shared.variance)

        def enough(count: int) -> bool:
            quantiles = t_quantile(share, 2 * count - 2) + t_quantile(POWER, 2 * count - 2)
            return quantiles * spread * math.sqrt(2 / count) <= abs(distance)

        return 2 + bisect_left(range(2, MOST_NEEDED + 1), True, key=enough)
