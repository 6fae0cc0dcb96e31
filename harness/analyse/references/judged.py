"""What a published value comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from harness.domain.reference import Alike, AnyReference

if TYPE_CHECKING:
    from harness.analyse.compare import Comparison

Verdict = Literal["reproduced", "missed", "not measured", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one reference comes to for one setting and arm; for settings that its `over` joins, or for two groups.

    Of a direction the two groups are its `higher` and `lower`; of a likeness, in one arm, the settings with the largest
    and the smallest median.
    """

    reference: AnyReference
    setting_ids: tuple[str, ...] = ()
    arm: str | None = None
    point: Mapping[str, Any] = field(default_factory=dict)  # the axes' values, by path
    measured: float | None = None  # the median over the repeats; of two groups, that of the higher
    lower: float | None = None  # of two groups, the median of the lower
    std: float | None = None  # of the repeats; None: there is only one
    repeats: int = 0  # how many were judged; of several groups, those of the smallest
    verdict: Verdict = "none"  # none: it is not to be judged, or was not run
    by: float | None = None  # of a miss: how far it lies outside; positive: too high; of a likeness, in ratios
    reason: str = ""  # why it has no verdict, or was not measured; of a likeness that was missed, why there is no `by`
    target: Mapping[str, Any] | None = None  # of a time to the target: what was to be reached
    # Of two groups, the trials of the lower and of the higher; of a likeness, of all settings in the order of their
    # medians: run_id, block, value.
    sides: tuple[pd.DataFrame, ...] = field(default=(), compare=False, repr=False)
    ends: tuple[str, str] | None = None  # of a likeness: what has the smallest and what the largest median, for people

    @property
    def ratio(self) -> float | None:
        """Of two groups: how many times the lower median the higher is; None where they are not both above 0."""
        return (
            self.measured / self.lower if self.measured and self.lower and min(self.measured, self.lower) > 0 else None
        )

    def comparison(self) -> Comparison | None:
        """Of two groups: the higher compared with the lower, by their ratio, or by their difference where not all are
        above 0; "different: slower" means that the higher one is the larger. Of a likeness, the largest with the
        smallest, of few repeats by the spread of all (see `among`)."""
        if not self.sides:
            return None
        if isinstance(self.reference, Alike):
            from harness.analyse.likeness import Likeness

            return Likeness(self.sides).compared(0, len(self.sides) - 1)
        from harness.analyse.compare import compare

        lower, higher = self.sides
        return compare(lower, higher, relative=all((side["value"] > 0).all() for side in (lower, higher)))
