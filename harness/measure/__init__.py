"""One trial → its epochs and its outcome, in the process that runs it."""

from harness.measure.body import Body
from harness.measure.trial import run_trial
from harness.measure.worker import WorkerState

__all__ = ["Body", "WorkerState", "run_trial"]
