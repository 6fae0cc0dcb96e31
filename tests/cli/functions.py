"""A suite whose trials take no time, or fail in a way of their own: it needs neither data nor a back end."""

import os
import sys
import time
from pathlib import Path

from harness import Setting, Suite, function, product

print("this suite's file prints something")


def work(trial, recorder, mode, pause):
    recorder.untrained(val_loss=2.3, val_accuracy=0.1)
    for epoch in recorder.epochs():
        with epoch.training():
            if epoch.number == 2:
                misbehave(mode, trial.seed)
            time.sleep(pause)
        loss = float("nan") if mode == "nan" and epoch.number == 2 else 1 / epoch.number
        epoch.report(samples=100, loss=loss, val_loss=loss, val_accuracy=0.3 * epoch.number)


def misbehave(mode, seed):
    what, _, argument = mode.partition(" ")
    if what == "raise":
        raise ValueError("the data went away")
    if what == "memory":
        raise MemoryError
    if what == "exit":
        sys.exit("this function has had enough")
    if what == "die":
        os._exit(9)
    if what == "once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), 9)
    while what == "gate" and seed >= 4 and not Path(argument).exists():
        time.sleep(0.02)
    if what == "hang":
        time.sleep(600)
    if what == "unless" and not Path(argument).exists():
        raise FileNotFoundError(f"{argument} is not there")


suite = Suite(
    name="functions",
    base=Setting(workload=function(work, kind="workload", mode="ok", pause=0.0), epochs=3),
    grid=product({"workload.mode": ["ok", "raise", "memory", "exit", "nan", "die", "hang"]}),
    target=0.5,
    timeout=2,
)
