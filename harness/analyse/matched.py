"""What comes of comparing two sets of trials: each setting that both have, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from harness.analyse.compare import Comparison
from harness.analyse.noise import NoiseFloor
from harness.analyse.overall import Overall
from harness.analyse.pairing import Groups, Mixture
from harness.analyse.ranks import Ranks

Verdict = Literal[
    "slower", "faster", "worse", "better", "reached less often", "reached more often", "no difference shown",
    "cannot tell: too few repeats", "the same trials", "no figure in A", "no figure in B", "no figure in either",
    "reached by none",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """One setting, or one arm of it, in both sides; two values in brackets are A's and B's."""

    setting_id: str
    arms: tuple[str, str]
    trials: tuple[int, int]  # all that there are
    measured: tuple[int, int]  # those that have the figure
    medians: tuple[float | None, float | None]  # of the figure; in time_to_target a miss counts as infinite
    verdict: Verdict
    worse: int  # 1: B is called different, and worse; -1: different, and better; 0: neither
    alone: bool  # it would be called different, were it the only setting
    comparison: Comparison | None  # None: the same trials, or a side without the figure
    pairs: Literal["block", "seed"] | None  # what makes a pair; None: two samples
    p_holm: float | None  # `comparison.p`, corrected for the number of settings
    ranks: Ranks | None
    reached: tuple[tuple[int, int], tuple[int, int]] | None  # time_to_target: how many trials did, of how many
    reached_p: float | None  # Fisher's exact test of these shares, each seed counted once; None where all did
    reached_p_holm: float | None
    floor: NoiseFloor | None  # the one that was applied

    @property
    def effect(self) -> float | None:
        """The ratio, or the difference where that was compared."""
        found = self.comparison
        return None if found is None else found.difference if found.ratio is None else found.ratio


@dataclass(frozen=True, kw_only=True)
class Match:
    """One figure of two sets of trials, compared."""

    figure: str
    relative: bool  # ratios were compared, else differences
    higher_is_better: bool
    rows: tuple[Matched, ...]
    overall: Overall | None  # of the rows with an interval, or of all where less than two have one; None of one row
    only: tuple[Groups, Groups]  # settings, with their arms, that one side alone has
    mixture: Mixture
    without_floor: tuple[str, ...]  # nodes that ran the trials and of which no noise floor of this figure is known

    @property
    def floors(self) -> list[NoiseFloor]:
        """The noise floors that were applied, each once."""
        return list({(row.floor.node, row.floor.date): row.floor for row in self.rows if row.floor}.values())

    @property
    def same(self) -> bool:
        """Whether both sides are the same trials."""
        return all(row.verdict == "the same trials" for row in self.rows)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a matched setting.

        ``setting_id``, ``arm_a``, ``arm_b``, ``n_a``, ``n_b``, ``median_a``, ``median_b``, ``ratio`` or ``difference``
        with ``low`` and ``high`` (98 %), ``p`` and ``p_holm`` (Student's t, as it is and corrected for the number of
        settings), ``p_ranks``, ``superiority``, ``cliffs_delta``, ``floor`` (a ratio), ``needed`` (repeats of each
        side), ``verdict``.
        """
        return pd.DataFrame([_record(row, "ratio" if self.relative else "difference") for row in self.rows])


def _record(row: Matched, effect: str) -> dict[str, Any]:
    found, ranks = row.comparison, row.ranks

    def of(name: str) -> Any:
        return None if found is None else getattr(found, name)

    return {
        "setting_id": row.setting_id, "arm_a": row.arms[0], "arm_b": row.arms[1],
        "n_a": row.measured[0], "n_b": row.measured[1], "median_a": row.medians[0], "median_b": row.medians[1],
        effect: row.effect, "low": of("low"), "high": of("high"), "p": of("p"), "p_holm": row.p_holm,
        "p_ranks": None if ranks is None else ranks.p,
        "superiority": None if ranks is None else ranks.superiority,
        "cliffs_delta": None if ranks is None else ranks.cliffs_delta,
        "floor": of("floor"), "needed": of("needed"), "verdict": row.verdict,
    }  # fmt: skip
