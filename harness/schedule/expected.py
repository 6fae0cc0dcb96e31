"""How many nodes a cluster is to have before a run begins on it, and what is said where they do not come.

Knows nothing of Ray.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.domain.errors import SetupError

_LOOK_EVERY_S: Final = 0.5
_FAILURE: Final = re.compile(r"\s*(\d+): harness: (.*)")  # as `srun --label` writes what a node says that fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """So many nodes with CPUs, within so long; `log` is what they say, each line with its node's number before it."""

    nodes: int
    within_s: float
    log: Path | None = None

    def failures(self) -> dict[int, str]:
        """Return why nodes have failed, by their numbers, as far as the log tells."""
        found: dict[int, list[str]] = {}
        for line in self._lines():
            if match := _FAILURE.fullmatch(line):
                found.setdefault(int(match[1]), []).append(match[2])
        return {number: "; ".join(told) for number, told in sorted(found.items())}

    def _lines(self) -> list[str]:
        try:
            return [] if self.log is None else self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # nothing has been said yet
            return []


def wait_for(
    expected: Expected,
    look: Callable[[], Sequence[str] | None],
    *,
    address: str,
    skip_bad: bool,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Return once all nodes are there, or as many as ever will be where `skip_bad` does with those.

    `look` returns the names of the nodes that are there, or None while the first one does not answer.

    Raises:
        SetupError: naming those that are there, and saying why others are not, as soon as that is known.
    """
    end_s = now() + expected.within_s
    while True:
        there, failures = look(), expected.failures()
        if there is not None and len(there) >= expected.nodes:
            return
        late = now() >= end_s
        if late or len(there or ()) + len(failures) >= expected.nodes:
            break
        sleep(_LOOK_EVERY_S)
    lacking = _lacking(expected, there, failures, address=address, late=late)
    if not there or not skip_bad:
        way_out = "; --skip-bad-nodes goes on without the others" if there else ""
        raise SetupError(lacking + way_out)
    say(f"{lacking}; going on without the others")


def _lacking(
    expected: Expected, there: Sequence[str] | None, failures: dict[int, str], *, address: str, late: bool
) -> str:
    """Return how many nodes are there, and why the others are not."""
    names = f" ({', '.join(sorted(there))})" if there else ""
    told = f"{len(there or ())} of {expected.nodes} nodes have joined the cluster at {address}{names}"
    told += f" within {expected.within_s:g} s" if late else ""
    told += "; no Ray answers there" if there is None else ""
    told += "".join(f"; {why}" for why in failures.values())
    silent = expected.nodes - len(there or ()) - len(failures)
    if silent > 0:
        told += f"; {silent} {'has' if silent == 1 else 'have'} said nothing of why: --expect-within waits longer"
    return told + (f"; {expected.log} has all that the nodes said" if expected.log is not None else "")
