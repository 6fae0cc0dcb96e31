"""Real worker processes that are killed in the middle of a trial: it goes on from the state that they had saved."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.domain import sources
from harness.domain.component import function
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.node import Node
from harness.schedule.shares import share_out

EPOCHS = 4


def counts(trial: Any, recorder: Any, flag: str, dies: bool = False, waits: bool = False) -> None:
    """Die once in epoch 3, or wait in epoch 2 until there is a file `flag`."""
    count = recorder.saved["count"] if recorder.saved else 0
    for epoch in recorder.epochs():
        with epoch.training():
            count += epoch.number
        if dies and epoch.number == 3 and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), 9)
        while waits and epoch.number == 3 and not Path(flag).exists():
            time.sleep(0.01)
        epoch.report(loss=float(count))
        recorder.save(count=count)
        time.sleep(0.25 if waits else 0)


def a_trial(checkpoint_s: float, **args: Any) -> Trial:
    setting = Setting(epochs=EPOCHS, workload=function(counts, **args))
    return Trial(setting=setting, seed=0, repeat=0, checkpoint_s=checkpoint_s)


@pytest.fixture(scope="module")
def worker() -> Iterator[tuple[Node, str]]:
    a_trial(1.0, flag="")  # so that its source is known
    node = Node(sources=sources.collected(), telemetry_hz=0.0)
    (launch, *_) = share_out(Demand.of(a_trial(1.0, flag="")), body="harness.measure:Body")
    node.launch([launch])
    node.ready(launch.name)
    yield node, launch.name
    node.stop()


def test_a_killed_worker_s_trial_goes_on_from_its_state(worker: tuple[Node, str], tmp_path: Path) -> None:
    node, name = worker
    trial = a_trial(0.0, flag=str(tmp_path / "died"), dies=True)
    lost = node.run(name, trial).outcome
    assert lost.status == "lost"
    (saved,) = node.saved()
    assert (saved.key, saved.attempt) == (trial.key, 1)
    node.ready(name)
    resumed = node.run(name, trial, 2, saved.state).outcome
    assert resumed.status == "completed", resumed.error
    assert [epoch.loss for epoch in resumed.epochs] == [1, 3, 6, 10]
    assert resumed.epochs[:2] == lost.epochs[:2]
    assert (resumed.facts.resumptions, resumed.facts.resumed_after_epoch) == (1, 2)
    assert len(node._workers[name].epochs) == EPOCHS


def test_a_trial_that_was_resumed_and_lost_again_says_so(worker: tuple[Node, str], tmp_path: Path) -> None:
    node, name = worker
    trial = a_trial(0.0, flag=str(tmp_path / "died"), dies=True)
    node.run(name, trial)
    (saved,) = node.saved()
    node.ready(name)
    (tmp_path / "died").unlink()
    again = node.run(name, trial, 2, saved.state).outcome
    assert (again.status, again.facts.resumptions, again.facts.resumed_after_epoch) == ("lost", 1, 2)
    assert [epoch.epoch for epoch in again.epochs] == [1, 2]  # those of before are not lost with it
    node.ready(name)


def test_a_running_trial_saves_its_state_when_it_is_asked_to(worker: tuple[Node, str], tmp_path: Path) -> None:
    node, name = worker
    flag = tmp_path / "go on"
    trial = replace(a_trial(3600.0, flag=str(flag), waits=True), timeout_s=30.0)
    outcomes: list[Any] = []
    running = threading.Thread(target=lambda: outcomes.append(node.run(name, trial).outcome))
    running.start()
    while len(node._workers[name].epochs) != 2:
        time.sleep(0.01)
    assert node.saved() == []
    node.save_now()
    flag.touch()
    running.join()
    (saved,) = node.saved()
    assert saved.key == trial.key
    assert outcomes[0].status == "completed"
