"""Trials that take no work, as many as `SCALE_TRIALS` says: what dispatching, listening and recording cost."""

import os
import time
from typing import Any

from harness import Setting, Suite, function, product


def nothing(trial: object, index: int = 0) -> None:
    """Return at once; `index` only tells the trials apart."""


def sleeping(trial: object, recorder: Any, seconds: float, index: int = 0) -> None:
    """Sleep so long in each epoch; `index` only tells the trials apart."""
    for epoch in recorder.epochs():
        with epoch.training():
            time.sleep(seconds)


EPOCH_S = float(os.environ.get("SCALE_EPOCH_S", "0"))
workload = (
    function(sleeping, kind="workload", index=0, seconds=EPOCH_S)
    if EPOCH_S
    else function(nothing, kind="workload", index=0)
)
suite = Suite(
    name="scale",
    base=Setting(
        workload=workload,
        epochs=int(os.environ.get("SCALE_EPOCHS", "1")),
        cpus=float(os.environ.get("SCALE_CPUS", "1")),
    ),
    grid=product({"workload.index": list(range(int(os.environ.get("SCALE_TRIALS", "1000"))))}),
)
