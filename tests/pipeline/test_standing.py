"""How a run stands, by what it was told: the time that is left, its nodes, and what other processes read of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from record.finished import epoch, finished

from harness.domain.outcome import Finished, Placement, Stopwatches
from harness.pipeline.standing import Standing, natural, why_lost
from harness.record.live import MOST_NODES, MOST_TRIALS
from harness.schedule.demand import Demand
from harness.schedule.notice import Notice
from harness.schedule.protocol import Progress, Worker

DEMAND = Demand(backend="none", cpus=1, gpus=0, exclusive=False)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def opened(standing: Standing, name: str, node: str, *, others: tuple[str, ...] = (), cpus: float = 1) -> None:
    demand = replace(DEMAND, cpus=cpus)
    tell(standing, "opened", name, share=Worker(name=name, node=node, demand=demand, others=others))
    tell(standing, "ready", name, text="1.0 s")


def tell(standing: Standing, what: Any, worker: str, **told: Any) -> None:
    standing.notice(Notice(what=what, worker=worker, **told), {})


def ended(seed: int, *, worker: str = "0", node: str = "here", wall_s: float = 2.0, **how: Any) -> Finished:
    one = finished(seed, **how)
    placement = Placement(worker=worker, node=node, position=0, block=0, attempt=1, neighbours=0)
    return replace(one, outcome=replace(one.outcome, watches=Stopwatches(wall_s=wall_s)), placement=placement)


def test_the_time_left_goes_by_setting_and_by_what_is_still_to_run() -> None:
    trials = [finished(seed, batch_size=size).trial for size in (16, 32) for seed in range(2)]
    standing = Standing(trials[1:], counts={"completed": 1})  # one of four was recorded by an earlier attempt
    for worker in ("0", "1"):
        opened(standing, worker, "here")
    tell(standing, "started", "0", trial=trials[1])
    assert standing.left_s() is None
    standing.finished(ended(1, batch_size=16, wall_s=4.0))
    assert standing.left_s() == 4.0  # two of the other setting, taken to be alike
    standing.finished(ended(0, batch_size=32, wall_s=10.0))
    assert standing.left_s() == 5.0
    assert (standing.done, standing.total) == (3, 4)
    opened(standing, "half", "here", cpus=0.5)  # of another share: it does not help with these
    assert standing.left_s() == 5.0


def test_a_node_that_lost_its_last_worker_is_lost_and_one_that_comes_back_is_not() -> None:
    standing = Standing([finished(0).trial])
    opened(standing, "a.0", "a")
    opened(standing, "b.0", "b")
    opened(standing, "ab", "a", others=("b",))
    tell(standing, "gone", "b.0", text="it cannot start")
    assert [node.state for node in standing.nodes()] == ["ok", "ok"]
    tell(standing, "gone", "ab", text="cut off")
    (b, a) = standing.nodes()
    assert (b.node, b.state, b.why, a.state) == ("b", "lost", "cut off", "ok")
    opened(standing, "b.1", "b")
    assert [node.state for node in standing.nodes()] == ["ok", "ok"]
    assert [(one["node"], one["why"]) for one in standing.troubles()["lost_nodes"]] == [("b", "cut off")]


def test_the_speed_of_a_node_is_that_of_its_last_trials_without_their_first_epochs() -> None:
    clock = Clock()
    standing = Standing([], clock=clock)
    opened(standing, "a.0", "a")
    for number in range(3):
        clock.now_s += 2.0
        epochs = [replace(epoch(1), train_s=60.0), replace(epoch(2), train_s=0.5 + number)]
        standing.finished(ended(number, worker="a.0", node="a", epochs=epochs))
    (node,) = standing.nodes()
    assert (node.done, node.epoch_s, node.trials_per_min) == (3, 1.5, 30.0)


def test_what_others_read_is_bounded_however_many_nodes_and_trials_there_are() -> None:
    trial = finished(0, axes=(("label", "x" * 5000),)).trial
    standing = Standing([trial] * 500)
    for number in range(500):
        opened(standing, str(number), f"n{number}")
        tell(standing, "started", str(number), trial=trial)
    standing.tick({"3": Progress(epochs=2, last=epoch(2))})
    seen = standing.live()
    assert (len(seen.nodes), seen.nodes_more) == (MOST_NODES, 500 - MOST_NODES)
    assert (len(seen.running), seen.running_more) == (MOST_TRIALS, 500 - MOST_TRIALS)
    assert seen.running[3].epochs == 2
    assert max(len(one.label) for one in seen.running) <= 200
    assert (seen.doing, seen.busy, seen.workers) == ("running", 500, 500)


def test_why_a_node_is_lost_is_told_without_the_nodes_name() -> None:
    assert why_lost("n1", "node n1 was lost: cut off; node n10 was lost: switched off") == "cut off"
    assert why_lost("n10", "node n1 was lost: cut off; node n10: it does not answer") == "it does not answer"
    assert why_lost("n1", "process 0 of 2, on node n1: killed") == "process 0 of 2, on node n1: killed"


def test_names_are_in_the_order_in_which_people_count() -> None:
    assert sorted(["n10", "n9", "n1", "b2.10", "b2.9", "²"], key=natural) == ["b2.9", "b2.10", "n1", "n9", "n10", "²"]


def test_a_trial_that_tells_nothing_for_far_longer_than_any_took_is_silent_until_it_tells_something() -> None:
    clock = Clock()
    trials = [finished(seed).trial for seed in range(3)]
    standing = Standing(trials, clock=clock)
    for number in ("0", "1"):
        opened(standing, number, "here")
        tell(standing, "started", number, trial=trials[int(number)])
    worker = standing.workers["0"]
    clock.now_s = 1000.0
    assert standing.silent_s(worker) is None  # there is none to hold it against
    standing.finished(ended(1, worker="1", wall_s=100.0))
    assert standing.silent_s(worker) == 1000.0
    (running,) = standing.live().running
    assert running.silent_since == running.since
    standing.tick({"0": Progress(epochs=1, last=epoch(1))})
    assert standing.silent_s(worker) is None
    clock.now_s = 1299.0
    assert standing.silent_s(worker) is None
    clock.now_s = 1301.0
    assert standing.silent_s(worker) == 301.0
    tell(standing, "started", "0", trial=replace(trials[2], timeout_s=5000.0))  # which ends it
    clock.now_s = 5000.0
    assert standing.silent_s(worker) is None
