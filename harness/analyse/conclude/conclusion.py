"""What a run comes to, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.analyse.standing import Standing

Verdict = Literal[
    "different",  # the first is shown to be ahead of the next
    "no difference shown",  # although there were repeats enough to find one, as `compare` counts
    "cannot tell: too few repeats",
    "nothing to compare",  # one setting, or one alone that reached the target
    "target not reached",
    "nothing measured",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The answer. Labels in it are shortened, and are plain text: a page has to escape them."""

    sentence: str
    verdict: Verdict  # on who is first
    details: tuple[str, ...] = ()  # sentences: who is first, how sure, what was published, what speaks against it
    claim: Standing | None = None  # of the published conclusion that the sentence is about; None: it is about the first
