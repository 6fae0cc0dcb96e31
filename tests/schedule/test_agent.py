"""What an agent does with what it is asked, on worker processes that follow a script; no Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripted import trial

from harness.schedule.agent import AgentNode, Request
from harness.schedule.demand import Demand
from harness.schedule.protocol import Done, Event, Ready

BODY = "scripted:ScriptedBody"


class Driver:
    """Asks an agent and keeps what it tells."""

    def __init__(self) -> None:
        self.agent = AgentNode(sources={}, telemetry_hz=0, folder=None, driver=None)
        self.events: list[Event] = []
        self.progress: list[dict[str, int]] = []
        self._number = 0

    def ask(self, *requests: Request) -> None:
        self.agent.ask(self._number, requests)
        self._number += 1

    def until(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not enough():
            assert time.monotonic() < deadline
            news = self.agent.listen(0.05)
            self.events += news.events
            self.progress.append({name: one.epochs for name, one in news.progress.items()})

    def done(self) -> list[Done]:
        return [event for event in self.events if isinstance(event, Done)]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    made = Driver()
    made.agent.open(Demand.of(trial()), BODY, 1, "")
    made.until(lambda: any(isinstance(event, Ready) for event in made.events))
    yield made
    made.agent.stop()
    del os.environ["PYTHONPATH"]


@pytest.fixture(autouse=True)
def _forget(driver: Driver) -> None:
    driver.events, driver.progress = [], []


def test_requests_are_done_in_the_order_of_their_numbers(driver: Driver) -> None:
    late = Request(what="run", worker="0", arguments=(trial(seed=2), 1, None))
    driver.agent.ask(driver._number + 1, [late])
    driver.ask(Request(what="run", worker="0", arguments=(trial(seed=1), 1, None)))
    driver._number += 1
    driver.until(lambda: len(driver.done()) == 2)
    assert [event.key for event in driver.done()] == [trial(seed=seed).key for seed in (1, 2)]


def test_what_ended_a_trial_carries_its_key_and_its_attempt(driver: Driver) -> None:
    driver.ask(Request(what="run", worker="0", arguments=(trial(), 4, None)))
    driver.until(lambda: bool(driver.done()))
    (done,) = driver.done()
    assert (done.key, done.attempt, done.outcome.status) == (trial().key, 4, "completed")


def test_a_request_that_comes_with_listening_is_done_too(driver: Driver) -> None:
    asked = Request(what="run", worker="0", arguments=(trial(), 1, None))
    news = driver.agent.listen(60.0, driver._number, [asked])
    driver._number += 1
    assert [event.key for event in news.events if isinstance(event, Done)] == [trial().key]


def test_progress_is_told_once(driver: Driver) -> None:
    driver.ask(Request(what="run", worker="0", arguments=(trial("sleep 0.3"), 1, None)))
    driver.until(lambda: bool(driver.done()))
    told = [one["0"] for one in driver.progress if "0" in one]
    assert told == sorted(set(told))
    assert driver.agent.listen(0).progress == {}


def test_who_ended_a_worker_is_told_with_what_was_lost(driver: Driver, tmp_path: Path) -> None:
    driver.ask(Request(what="run", worker="0", arguments=(trial(f"die once {tmp_path / 'died'}"), 1, None)))
    driver.until(lambda: bool(driver.done()) and any(isinstance(event, Ready) for event in driver.events))
    driver.ask(Request(what="run", worker="0", arguments=(trial("die"), 1, None)))
    driver.until(lambda: len(driver.done()) == 2)
    own, killed = driver.done()
    assert (own.outcome.status, own.alive, own.cause) == ("lost", False, "trial")
    assert (killed.outcome.status, killed.alive, killed.cause) == ("lost", False, "outside")
    driver.until(lambda: sum(isinstance(event, Ready) for event in driver.events) == 2)


def test_a_worker_that_was_killed_while_it_had_nothing_to_do_costs_no_trial_anything(driver: Driver) -> None:
    process = driver.agent._workers["0"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait_gone()
    driver.ask(Request(what="run", worker="0", arguments=(trial(), 1, None)))
    driver.until(lambda: bool(driver.done()))
    assert [event.outcome.status for event in driver.done()] == ["completed"]


def test_a_trial_that_cannot_be_sent_is_lost_and_its_worker_is_not(driver: Driver) -> None:
    unsendable = trial(seed=7)
    object.__setattr__(unsendable, "axes", (lambda: None,))
    driver.ask(Request(what="run", worker="0", arguments=(unsendable, 1, None)))
    driver.ask(Request(what="run", worker="0", arguments=(trial(), 1, None)))
    driver.until(lambda: len(driver.done()) == 2)
    lost, well = driver.done()
    assert (lost.outcome.status, lost.cause, well.outcome.status) == ("lost", "trial", "completed")
