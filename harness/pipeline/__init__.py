"""The stages in order, and nothing else: suite → plan → trials on workers → records."""

from harness.pipeline.noise import against_itself
from harness.pipeline.planning import make_plan, published, run_info
from harness.pipeline.request import (
    EXIT_COMPLETED,
    EXIT_INTERRUPTED,
    EXIT_MISSED,
    EXIT_PREEMPTED,
    EXIT_SOME_FAILED,
    EXIT_WRONG,
    Display,
    Noise,
    Report,
    Request,
)
from harness.pipeline.stages import run

__all__ = [
    "EXIT_COMPLETED",
    "EXIT_INTERRUPTED",
    "EXIT_MISSED",
    "EXIT_PREEMPTED",
    "EXIT_SOME_FAILED",
    "EXIT_WRONG",
    "Display",
    "Noise",
    "Report",
    "Request",
    "against_itself",
    "make_plan",
    "published",
    "run",
    "run_info",
]
