"""How a run ended: its exit code, its state, and what run.json holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.pipeline.request import EXIT_COMPLETED, EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_SOME_FAILED, Noise
from harness.pipeline.standing import Standing

if TYPE_CHECKING:
    from harness.analyse.repeats import Repeated

# "stop": by `harness stop`; "nodes": none is left that can run what is left; "cluster": it was lost as a whole.
_TO_RESUME: Final = ("SIGTERM", "SIGHUP", "budget", "stop", "nodes", "cluster")


def exit_code_of(counts: Mapping[str, int], left: int, stopped: str | None) -> int:
    if stopped == "SIGINT" and left:
        return EXIT_INTERRUPTED
    if stopped in _TO_RESUME and left:
        return EXIT_PREEMPTED
    if left or any(count for status, count in counts.items() if status != "completed"):
        return EXIT_SOME_FAILED
    return EXIT_COMPLETED


def stopped_by(caught: Sequence[str], stopped: str | None, *, unstarted: bool, absent: bool = False) -> str | None:
    """Return why a run ended early, by the signals that it `caught` and what its loop says; None: it did not.

    Without a signal it was `harness stop` that ended a loop at once, or one that was not even begun (`unstarted`).
    Trials whose node is `absent` were left although nothing ended it.
    """
    if caught:
        return caught[0]
    if stopped == "signal" or (unstarted and stopped is None):
        return "stop"
    return "nodes" if stopped is None and absent else stopped


def state_of(code: int, stopped: str | None, left: int) -> str:
    if code == EXIT_INTERRUPTED:
        return "interrupted"
    if code == EXIT_PREEMPTED:
        return "preempted"
    return "failed" if left or stopped == "max_fail" else "completed"


def troubled(info: Mapping[str, Any], standing: Standing) -> dict[str, list[Any]]:
    """Return what run.json holds of the nodes that were lost or set aside, in earlier attempts too."""
    return {name: [*(info.get(name) or ()), *found] for name, found in standing.troubles().items()}


def findings(repeated: Sequence[Repeated], noise: Noise | None, *, trials: int) -> dict[str, Any]:
    """Return what run.json holds of the repeats that were made, after which it has so many `trials`, and of noise."""
    found: dict[str, Any] = {}
    if repeated:
        found |= {"repeats": [one.plain() for one in repeated], "trials": trials}
    if noise is not None:
        found["noise_floor"] = {floor.node: floor.plain() for floor in noise.floors}
    return found
