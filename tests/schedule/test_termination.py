"""Workers and the SIGTERM that a batch system sends to all, below what blocks it (see harness/slurm/step.py)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import trial

from harness.schedule.demand import Demand
from harness.schedule.node import Node
from harness.schedule.protocol import Done
from harness.schedule.shares import share_out


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = Node(sources={}, telemetry_hz=0.0)
    yield made
    made.stop()


def run(node: Node, script: str, *, blocked: bool = True) -> Done:
    (launch, *_) = share_out(Demand.of(trial()), body="terminated:TerminatedBody", most=1)
    if blocked:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        node.launch([launch])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    node.ready(launch.name)
    return node.run(launch.name, trial(script))


def test_a_trial_outlives_the_signal(node: Node) -> None:
    done = run(node, "ok")
    assert (done.outcome.status, done.alive) == ("completed", True)


def test_a_trial_that_fails_after_it_is_lost_by_no_fault_of_its_own(node: Node) -> None:
    done = run(node, "fail")
    assert (done.outcome.status, done.alive, done.cause) == ("lost", False, "outside")
    assert "killed by SIGTERM" in str(done.outcome.error)


def test_a_trial_can_still_end_processes_of_its_own_by_it(node: Node) -> None:
    done = run(node, "ok own")
    assert done.outcome.status == "completed", done.outcome.error_detail


def test_elsewhere_the_signal_ends_a_worker_as_it_does_any_process(node: Node) -> None:
    assert run(node, "ok", blocked=False).outcome.status == "lost"
