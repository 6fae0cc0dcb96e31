"""A long trial whose run is killed, told to end, or finds its state damaged."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import harness as api

SUITE = """
from pathlib import Path
import time

from harness import Setting, Suite, function


def steps(trial, recorder, gate):
    count = recorder.saved["count"] if recorder.saved else 0
    for epoch in recorder.epochs():
        with epoch.training():
            count += 1
            time.sleep(0.01)
        while epoch.number == 3 and not Path(gate).exists():
            time.sleep(0.02)
        epoch.report(loss=1.0 / count)
        recorder.save(count=count)


suite = Suite(name="long", base=Setting(epochs=5, workload=function(steps, gate={gate!r})), checkpoint={checkpoint!r})
"""


def test_a_trial_goes_on_after_its_driver_was_killed_and_begins_anew_where_its_state_is_damaged(harness: Any) -> None:
    gate, suite, results = (harness.folder / name for name in ("gate", "long.py", "resumed"))
    suite.write_text(SUITE.format(gate=str(gate), checkpoint="0.001s"))
    words = ("run", suite, "--results", results, "--no-calibrate")

    def states() -> list[Path]:
        return list(results.glob("long/*/states/*.state"))

    def saved(epochs: int) -> bool:
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed, as it cannot be used
            return any(f'"epoch": {epochs}' in path.read_bytes().decode("latin-1") for path in states())
        return False

    driver = harness.start(*words)
    harness.wait(driver, lambda: saved(2))
    driver.kill()
    driver.communicate()
    (state,) = states()
    whole = state.read_bytes()
    state.write_bytes(whole[:100])
    driver = harness.start(*words, "--resume")
    harness.wait(driver, lambda: saved(2))  # anew; Ray has started, and took SIGTERM
    driver.send_signal(signal.SIGTERM)
    said, wrong = driver.communicate(timeout=120)
    assert driver.returncode == 75, said  # for a scheduler to start it again
    assert "Ended early: told to end." in said
    assert "Traceback" not in said + wrong
    assert harness.left() == []
    assert f"begun anew, as its saved state cannot be used: {state}: it is cut off or damaged (100 bytes)" in " ".join(
        said.split()
    ), said
    gate.touch()
    ended = harness.here(*words, "--resume", "--inline", "--telemetry", "0")  # what was saved needs no Ray
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "goes on after epoch 2" in ended.stdout
    recorded = api.load(results)
    assert recorded.trials["resumptions"].tolist() == [1]
    assert recorded.trials["resumed_after_epoch"].tolist() == [2]
    assert recorded.epochs["loss"].tolist() == [1 / count for count in range(1, 6)]
    assert not list(results.glob("long/*/states"))
