"""A suite of which one trial takes more memory than its job was given, once the other has ended."""

import time
from pathlib import Path

from harness import Setting, Suite, function, product


def work(trial, recorder, takes_mb, beside):
    recorder.untrained(val_loss=2.3, val_accuracy=0.1)
    for epoch in recorder.epochs():
        while takes_mb and not Path(beside, "modest").exists():
            time.sleep(0.1)
        with epoch.training():
            time.sleep(1 if takes_mb else 0)
            held = b"x" * takes_mb * 1_000_000
            time.sleep(30 if takes_mb else 0)
        epoch.report(samples=len(held) or 1, loss=1.0, val_loss=1.0, val_accuracy=0.5)
    Path(beside, "modest").touch()


suite = Suite(
    name="hungry",
    base=Setting(workload=function(work, kind="workload", takes_mb=0, beside="."), epochs=1),
    grid=product({"workload.takes_mb": [0, 1500]}),
)
