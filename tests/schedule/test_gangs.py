"""Workers on several nodes as one: formed, asked, lost and formed anew. Agents and processes are real, nodes played."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_nodes import LocalNodes
from scripted import trial

from harness.domain.errors import SetupError
from harness.domain.handy import mlp
from harness.domain.outcome import Outcome
from harness.domain.setting import Dataset, Setting
from harness.domain.trial import Trial
from harness.processes import alive
from harness.schedule import gangs
from harness.schedule.demand import Demand
from harness.schedule.gangs import Gangs
from harness.schedule.launch import Launch
from harness.schedule.protocol import Checked, Done, Event, Gone, Ready


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_script() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[Gangs, LocalNodes]]]:
    made: list[LocalNodes] = []

    def make(*names: str, body: str = "scripted:ScriptedBody", **options: object) -> tuple[Gangs, LocalNodes]:
        nodes = LocalNodes(names, body=body, **options)  # type: ignore[arg-type]
        made.append(nodes)
        return Gangs(nodes), nodes

    yield make
    for nodes in made:
        nodes.stop()


def until(executor: Gangs, kind: type[Event], *, within_s: float = 60.0) -> list[Event]:
    """Return what happens up to and with the first event of a kind."""
    seen: list[Event] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for event in executor.wait(0.1):
            seen.append(event)
            if isinstance(event, kind):
                return seen
    raise AssertionError(f"no {kind.__name__} within {within_s} s; there were {seen}")


def a_trial(script: str = "ok", *, nodes: int = 2, batch_size: int = 6, **fields: Any) -> Trial:
    return trial(script, nodes=nodes, batch_size=batch_size, backend="jax", **fields)  # whose body needs no JAX


def ran(executor: Gangs, one: Trial, *, worker: str = "gang0") -> Done:
    executor.submit(worker, one)
    found = until(executor, Done)[-1]
    assert isinstance(found, Done)
    return found


def test_workers_on_two_nodes_are_one_worker_that_says_things_once(
    make: Callable[..., tuple[Gangs, LocalNodes]],
) -> None:
    executor, nodes = make("h1", "h2")
    (worker,) = executor.open(Demand.of(a_trial()))
    assert (worker.node, worker.others) == ("h1", ("h2",))
    assert [type(event) for event in until(executor, Ready)] == [Ready]
    executor.check(worker.name, a_trial("refuse"))
    assert until(executor, Checked) == [Checked(worker=worker.name, error="what was declared cannot be built")]
    done = ran(executor, a_trial())
    assert (done.worker, done.alive, done.outcome.status) == (worker.name, True, "completed")
    assert done.outcome.facts.pid == nodes.pids[next(iter(nodes.workers))]
    assert set(executor.progress()) == {worker.name}
    assert f"worker:{worker.name}" in {row["device"] for row in executor.telemetry()}
    assert executor.open(worker.demand) == [worker]
    ones = executor.open(Demand.of(a_trial(nodes=1)))  # on one node each, as if there were no gangs
    assert [one.node for one in ones] == ["h1", "h2"]


def test_a_member_that_is_killed_ends_all_and_the_gang_is_formed_anew(
    make: Callable[..., tuple[Gangs, LocalNodes]], tmp_path: Path
) -> None:
    executor, nodes = make("h1", "h2")
    executor.open(Demand.of(a_trial()))
    until(executor, Ready)
    executor.submit("gang0", a_trial(f"until {tmp_path / 'killed'}"))
    before = [nodes.pids[f"gang0.{rank}~1"] for rank in (0, 1)]
    while not any(one.epochs for name, one in nodes.progress().items() if name == "gang0.1~1"):
        executor.wait(0.05)
    os.kill(before[1], signal.SIGKILL)
    (tmp_path / "killed").touch()
    done = until(executor, Done)[-1]
    assert isinstance(done, Done)
    assert (done.outcome.status, done.alive) == ("lost", False)
    assert (done.outcome.error or "").startswith("process 1 of 2, on node h2: worker gang0.1~1 died: killed by SIGKILL")
    assert len(done.outcome.epochs) == 2  # what the leader had measured
    until(executor, Ready)
    assert not any(alive(pid) for pid in before)
    assert ran(executor, a_trial()).outcome.status == "completed"


def test_members_that_cannot_end_because_another_has_failed_are_ended(
    make: Callable[..., tuple[Gangs, LocalNodes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gangs, "_STRAGGLE_S", 0.3)
    executor, _ = make("h1", "h2", body="local_nodes:UnevenBody")
    executor.open(Demand.of(a_trial()))
    until(executor, Ready)
    done = ran(executor, a_trial("fail second"))  # the other one hangs
    assert (done.outcome.status, done.alive) == ("failed", False)
    assert "it was told to" in (done.outcome.error or "")
    until(executor, Ready)
    done = ran(executor, a_trial("fail"))  # both, and so they are still in step
    assert (done.outcome.status, done.alive) == ("failed", True)


def test_a_node_that_is_lost_takes_its_gang_along_and_others_form_another(
    make: Callable[..., tuple[Gangs, LocalNodes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gangs, "_BRIEF_S", 0.3)
    executor, nodes = make("h1", "h2", "h3")
    (first,) = executor.open(Demand.of(a_trial()))  # h3 is idle
    until(executor, Ready)
    executor.submit(first.name, a_trial("hang"))
    executor.wait(0.2)
    nodes.lose("h2")
    events = until(executor, Gone)
    assert [type(event) for event in events] == [Done, Gone]
    assert isinstance(events[0], Done)
    assert isinstance(events[1], Gone)
    assert events[0].outcome.error == "node h2 was lost"
    assert events[0].blamed == events[1].blamed == ("h2",)  # the other node has lost nothing of its own
    (second,) = executor.open(first.demand)
    assert second.nodes == ("h1", "h3")
    until(executor, Ready)
    nodes.lose("h1")
    until(executor, Gone)
    assert executor.open(first.demand) == []  # it may come back


def test_a_node_that_is_cut_off_while_a_gang_is_formed_anew_is_blamed_alone_and_another_takes_its_place(
    make: Callable[..., tuple[Gangs, LocalNodes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, nodes = make("h1", "h2", "h3")
    (first,) = executor.open(Demand.of(a_trial()))
    until(executor, Ready)
    address = nodes.free_address

    def silent(node: str) -> str:
        if node == "h2":
            raise SetupError("node h2: it does not answer")
        return address(node)

    monkeypatch.setattr(nodes, "free_address", silent)
    executor.replace(first.name)
    (gone,) = until(executor, Gone)
    assert gone == Gone(worker=first.name, reason="node h2: it does not answer", blamed=("h2",))
    monkeypatch.setattr(nodes, "hosts", lambda demand: ["h1", "h3"])
    (second,) = executor.open(first.demand)
    assert second.nodes == ("h1", "h3")


def test_a_node_that_did_not_answer_when_it_was_asked_is_asked_again_once_it_does(
    make: Callable[..., tuple[Gangs, LocalNodes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, nodes = make("h1", "h2")
    demand, ask = Demand.of(a_trial()), nodes.shares

    def silent(node: str, demand: Demand) -> list[Launch]:
        if node == "h1":
            return ask(node, demand)
        cut_off.setattr(nodes, "hosts", lambda demand: ["h1"])
        raise SetupError("node h2: it does not answer")

    with monkeypatch.context() as cut_off:
        cut_off.setattr(nodes, "shares", silent)
        with pytest.raises(SetupError, match=r"there are 1 \(h1\)\n  h2: node h2: it does not answer"):
            executor.open(demand)
    assert [worker.nodes for worker in executor.open(demand)] == [("h1", "h2")]


def test_nodes_with_two_shares_are_in_two_gangs(make: Callable[..., tuple[Gangs, LocalNodes]]) -> None:
    executor, _ = make("h1", "h2", "h3", cores=[(0,), (0,)])
    workers = executor.open(Demand.of(a_trial()))
    assert sorted(node for worker in workers for node in worker.nodes) == ["h1", "h1", "h2", "h2", "h3", "h3"]
    assert all(len(set(worker.nodes)) == 2 for worker in workers)


def test_more_nodes_than_there_are_is_refused_with_what_there_is(
    make: Callable[..., tuple[Gangs, LocalNodes]],
) -> None:
    executor, _ = make("h1", "h2")
    with pytest.raises(SetupError, match=r"nodes=3 asks for more nodes .* there are 2 \(h1, h2\)"):
        executor.open(Demand.of(a_trial(nodes=3)))
    with pytest.raises(SetupError, match=r"(?s)there are none\n  h1: cpus=2 asks for more cores than h1 has"):
        executor.open(Demand.of(a_trial(cpus=2)))


def test_members_that_cannot_start_are_not_started_for_ever(
    make: Callable[..., tuple[Gangs, LocalNodes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTED_DIES_AT_START", "1")
    executor, _ = make("h1", "h2")
    demand = Demand.of(a_trial())

    def open_again_and_again() -> None:
        for _ in range(4):
            executor.open(demand)
            until(executor, Gone)

    with pytest.raises(SetupError, match="this back end cannot be imported"):
        open_again_and_again()


def trained(**fields: object) -> Trial:
    data = Dataset(name="synthetic", args={"shape": [12], "classes": 3, "samples": 64, "test_samples": 30})
    common = {"dataset": data, "model": mlp(8), "backend": "jax", "batch_size": 32, "epochs": 2}
    return Trial(setting=Setting.model_validate({**common, **fields}), seed=0, repeat=0)


def losses(outcome: Outcome) -> list[float | None]:
    assert outcome.status == "completed", outcome.error
    return [value for epoch in outcome.epochs for value in (epoch.loss, epoch.val_loss, epoch.val_accuracy)]


def test_two_processes_train_as_one_and_end_when_one_of_them_does(
    make: Callable[..., tuple[Gangs, LocalNodes]], require: Callable[[object, str], None]
) -> None:
    require(importlib.util.find_spec("jax"), "the back end jax is not installed")
    executor, nodes = make("h1", "h2", body="harness.measure:Body")
    (worker,) = executor.open(Demand.of(trained(nodes=2)))
    until(executor, Ready, within_s=120)
    together = ran(executor, trained(nodes=2)).outcome
    (one, _) = executor.open(Demand.of(trained()))
    until(executor, Ready)
    alone = ran(executor, trained(), worker=one.name).outcome
    assert losses(together) == pytest.approx(losses(alone), abs=1e-6)
    assert together.facts.step_flops == pytest.approx(alone.facts.step_flops, rel=1e-2)

    executor.submit(worker.name, trained(nodes=2, epochs=100_000))
    members = [nodes.pids[f"{worker.name}.{rank}~1"] for rank in (0, 1)]
    while (now := executor.progress()[worker.name].epochs) <= len(together.epochs):
        executor.wait(0.05)
    os.kill(members[1], signal.SIGKILL)
    done = next(event for event in until(executor, Done) if isinstance(event, Done))
    assert done.outcome.status == "lost"
    assert "on node h2" in (done.outcome.error or "")
    assert len(done.outcome.epochs) >= now
    assert not any(alive(pid) for pid in members)
