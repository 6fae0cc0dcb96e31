"""Published conclusions, directions and likenesses, that a run confirms or refutes: no surer than its repeats are."""

from __future__ import annotations

from typing import Literal

from harness.analyse.references import Judged
from harness.domain.reference import Alike, Direction

Standing = Literal["confirmed", "refuted", "undecided"]


def standing(judged: Judged) -> Standing | None:
    """Return what comes of a published conclusion; None for other references, and where its settings were not run.

    A likeness is confirmed where it is reproduced, and refuted where it is missed. A direction is judged by its medians
    and is confirmed, or refuted, only where its groups are called different too (see `compare`).
    """
    reference = judged.reference
    if not isinstance(reference, Direction | Alike) or judged.verdict == "none":
        return None
    if judged.verdict == "not measured":
        return "undecided"
    if isinstance(reference, Alike):
        return "confirmed" if judged.verdict == "reproduced" else "refuted"
    seen = judged.comparison()
    if seen is None or not seen.different:
        return "undecided"
    return "confirmed" if seen.verdict == "different: slower" else "refuted"  # the higher group is the larger one
