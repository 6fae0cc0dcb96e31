"""A suite whose trials take a while and need neither data nor a back end."""

import time
from pathlib import Path

from harness import Setting, Suite, function


def work(trial, recorder, pause, gate=None):
    while gate is not None and trial.seed >= 12 and not Path(gate).exists():
        time.sleep(0.05)
    recorder.untrained(val_loss=2.3, val_accuracy=0.1)
    for epoch in recorder.epochs():
        with epoch.training():
            time.sleep(pause)
        epoch.report(samples=100, loss=1 / epoch.number, val_loss=1 / epoch.number, val_accuracy=0.3 * epoch.number)


suite = Suite(name="paced", base=Setting(workload=function(work, kind="workload", pause=0.3), epochs=3), repeats=12)
