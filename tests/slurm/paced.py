"""A suite whose trials take a while, need neither data nor a back end, and can be saved and resumed.

They wait for one another in the folder `meet` until three have begun, and take no time once there is a file `hurry`.
"""

import time
from pathlib import Path

from harness import Setting, Suite, function


def work(trial, recorder, pause, meet="", hurry=""):
    begun = (recorder.saved or {}).get("told", 0)
    if meet:
        Path(meet, str(trial.seed)).touch()
    while meet and len(list(Path(meet).iterdir())) < 3:
        time.sleep(0.05)
    recorder.untrained(val_loss=2.3, val_accuracy=0.1)
    for epoch in recorder.epochs():
        assert epoch.number > begun
        with epoch.training():
            time.sleep(0 if hurry and Path(hurry).exists() else pause)
        epoch.report(samples=100, loss=1 / epoch.number, val_loss=1 / epoch.number, val_accuracy=0.01 * epoch.number)
        recorder.save(told=epoch.number)


suite = Suite(
    name="paced",
    base=Setting(workload=function(work, kind="workload", pause=0.1), epochs=3),
    repeats=12,
    checkpoint="1s",
)
