"""What speaks against the figures: trials that did not complete, warnings, neighbours."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import pandas as pd

from harness.analyse.conclude.first import MOST
from harness.analyse.conclude.words import short
from harness.analyse.discard import listed
from harness.analyse.frames import floats
from harness.domain.naming import commonest, plural

_STATUSES: Final = {"failed": "failed", "timeout": "timed out", "lost": "were lost"}


def against(trials: pd.DataFrame) -> str:
    """Return what speaks against the figures, as a sentence; nothing where nothing does."""
    told = []
    if (trials["status"] != "completed").any():
        told.append(not_completed(trials))
    warned = [found for found in listed(trials, "warnings") if found]
    if warned:
        counts = commonest(Counter(name for found in warned for name in set(found)))
        which = ", ".join(f"{name} {count}" for name, count in counts[:MOST]) + (" …" if len(counts) > MOST else "")
        told.append(f"{len(warned)} of {plural(len(trials), 'trial')} carry warnings ({which})")
    neighbours = floats(trials, "neighbours")
    neighbours = neighbours[~np.isnan(neighbours)]
    if len(neighbours) and neighbours.min() != neighbours.max():
        told.append(f"trials ran beside {neighbours.min():.0f} to {neighbours.max():.0f} others on their node")
    packed = int((floats(trials, "packed") > 0).sum())
    if packed:
        told.append(f"{packed} of {plural(len(trials), 'trial')} were packed: they shared a core or a GPU")
    return f"What speaks against it: {'; '.join(told)}." if told else ""


def not_completed(trials: pd.DataFrame) -> str:
    """Return how many trials did not complete, and the commonest reason, as "of 4 trials 3 failed (out of memory)"."""
    bad = trials[trials["status"] != "completed"]
    counts = Counter(map(str, bad["status"].tolist()))
    told = ", ".join(f"{count} {_STATUSES.get(status, status)}" for status, count in commonest(counts))
    reasons = Counter(str(one) for one in bad["error"].dropna().tolist()) if "error" in bad.columns else Counter()
    reason = f" ({short(commonest(reasons)[0][0])})" if reasons else ""
    return f"of {plural(len(trials), 'trial')} {told}{reason}"
