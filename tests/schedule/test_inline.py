"""Trials in the calling process: what each kind of share is called, and what is read of the process."""

from __future__ import annotations

from typing import cast

import pytest
from scripted import ScriptedBody, trial

from harness.schedule.demand import Demand
from harness.schedule.inline import InlineExecutor
from harness.schedule.protocol import Body
from harness.telemetry.probe import process_name


@pytest.fixture
def executor() -> InlineExecutor:
    return InlineExecutor(cast(Body, ScriptedBody()), telemetry_hz=0.0)


def test_workers_of_all_demands_are_read_under_the_name_of_the_one_process(executor: InlineExecutor) -> None:
    executor.start({})
    demands = [Demand.of(trial()), Demand.of(trial(cpus=2))]
    names = [worker.name for demand in demands for worker in executor.open(demand)]
    assert len(set(names)) == 2  # the loop tells them apart
    assert {process_name(name) for name in names} == {"inline"}
    assert executor._sampler is not None
    assert list(executor._sampler._watched) == ["inline"]
    executor.stop()
    (notes,) = executor.sampling().values()
    assert notes["absent"].keys() > {"sampler"}  # and why no energy is counted
