"""Trials with warnings that a person does not want in the figures → tables without them, and what was left out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analyse.frames import owners
from harness.domain.doubts import DOUBTS
from harness.domain.errors import ResultsError, SuiteError, known


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """What was left out of all figures because of its warnings."""

    names: tuple[str, ...]  # the warnings that were asked for
    trials: pd.DataFrame  # those that carry one of them
    of: int  # how many trials there were
    unjudged: int  # trials kept although one of the warnings could not be judged on them


def discard(
    trials: pd.DataFrame, epochs: pd.DataFrame, names: Collection[str]
) -> tuple[pd.DataFrame, pd.DataFrame, Discarded]:
    """Return the trials that carry none of these warnings, with their epochs, and what was left out.

    Raises:
        SuiteError: for a warning that there is not.
        ResultsError: when no trial is left.
    """
    for name in names:
        if name not in DOUBTS:
            raise SuiteError(f"there is no warning {name!r}; the warnings are {known(DOUBTS)}")
    asked = tuple(dict.fromkeys(names))
    carry = np.array([bool(set(asked) & set(found)) for found in listed(trials, "warnings")], dtype=bool)
    unjudged = np.array([bool(set(asked) & set(found)) for found in listed(trials, "unjudged")], dtype=bool)
    unjudged |= ~judged(trials)
    if len(carry) and carry.all():
        of = "the only trial carries" if len(trials) == 1 else f"all {len(trials)} trials carry"
        raise ResultsError(
            f"{of} a warning that is to be discarded ({', '.join(asked)}), so none is left: "
            "name fewer warnings, or run again once `harness doctor` finds the machine quiet"
        )
    kept = trials[~carry]
    of_kept = owners(kept, epochs) >= 0
    unjudged &= ~carry
    what = Discarded(names=asked, trials=trials[carry], of=len(trials), unjudged=int(unjudged.sum()))
    return kept, epochs[of_kept], what


def judged(trials: pd.DataFrame) -> np.ndarray:
    """Tell of each trial whether it was looked at for warnings; those of older versions were not."""
    if "warnings" not in trials.columns:
        return np.zeros(len(trials), dtype=bool)
    return trials["warnings"].notna().to_numpy(dtype=bool)


def listed(frame: pd.DataFrame, column: str) -> list[list[str]]:
    """Return a column of lists of texts, empty where it is null or there is no such column."""
    if column not in frame.columns:
        return [[] for _ in range(len(frame))]
    return [list(found) if isinstance(found, list | tuple | np.ndarray) else [] for found in frame[column]]
