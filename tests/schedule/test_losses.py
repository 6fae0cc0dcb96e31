"""What the loop does when workers and nodes are lost, on a cluster whose time is not real."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from scripted import trial
from virtual import VirtualCluster, run

from harness.domain.outcome import Finished, Outcome
from harness.domain.trial import Trial
from harness.schedule.notice import Notice
from harness.schedule.protocol import Done, Worker


def many(count: int, label: str = "ok", **fields: Any) -> list[Trial]:
    return [trial(label, seed=seed, repeat=seed % 3, batch_size=1 + seed // 3, **fields) for seed in range(count)]


def statuses(finished: list[Finished]) -> Counter[str]:
    assert len({one.trial.key for one in finished}) == len(finished)
    return Counter(one.outcome.status for one in finished)


def kill_at_random(cluster: VirtualCluster, *, every_s: float, seed: int) -> None:
    rng = random.Random(seed)

    def kill() -> None:
        cluster.kill(rng.choice(list(cluster.workers)))
        cluster.at(cluster.now_s + every_s, kill)

    cluster.at(every_s, kill)


def test_trials_whose_workers_are_killed_at_random_are_all_completed() -> None:
    for seed in range(5):
        cluster = VirtualCluster({"here": 2}, seconds=lambda trial, worker: 0.2)
        kill_at_random(cluster, every_s=2, seed=seed)
        finished, loop = run(many(200), cluster)
        assert statuses(finished) == {"completed": 200}
        assert loop.set_aside == {}


def test_long_trials_whose_workers_are_killed_at_random_are_all_completed() -> None:
    again = 0
    for seed in range(20):
        lengths = random.Random(seed)
        cluster = VirtualCluster({"here": 2}, seconds=lambda trial, worker, rng=lengths: rng.uniform(10, 30))  # type: ignore[misc]
        kill_at_random(cluster, every_s=20, seed=seed)
        finished, _ = run(many(12), cluster)
        assert statuses(finished) == {"completed": 12}
        again += max(one.placement.attempt for one in finished) > 3
    assert again  # three attempts would not have been enough


def test_a_trial_that_ends_its_worker_itself_is_lost_after_three_attempts_with_all_reasons() -> None:
    cluster = VirtualCluster({"here": 2}, how=lambda trial, worker: "trial" if trial.setting.label == "die" else None)
    finished, _ = run([*many(6), trial("die", seed=99)], cluster)
    assert statuses(finished) == {"completed": 6, "lost": 1}
    (lost,) = [one for one in finished if one.outcome.status == "lost"]
    assert lost.placement.attempt == 3
    assert lost.outcome.error == "on here: it died (3 times)"


def test_a_trial_that_ended_workers_on_two_nodes_does_not_get_a_third() -> None:
    cluster = VirtualCluster(
        dict.fromkeys("abc", 1), how=lambda trial, worker: "trial" if trial.setting.label == "die" else None
    )
    finished, _ = run([*many(9), trial("die", seed=99)], cluster)
    (lost,) = [one for one in finished if one.outcome.status == "lost"]
    assert lost.placement.attempt == 2
    assert len({span.worker.node for span in cluster.spans if span.trial.setting.label == "die"}) == 2
    assert (lost.outcome.error or "").count("it died") == 2


def test_a_trial_that_is_always_killed_from_outside_ends_too() -> None:
    cluster = VirtualCluster({"here": 2}, how=lambda trial, worker: "outside")
    (lost,), _ = run([trial("die")], cluster)
    assert lost.outcome.status == "lost"
    assert 3 < lost.placement.attempt < 10


def test_an_attempt_that_saved_a_further_state_does_not_count() -> None:
    states = [None, *(str(number).encode() for number in range(50))]
    attempts = iter([*["outside"] * 20, None])
    cluster = VirtualCluster({"here": 1}, how=lambda trial, worker: next(attempts))  # type: ignore[arg-type]
    (finished,), _ = run([trial("long")], cluster, saved=lambda trial: states.pop(0) if len(states) > 1 else states[0])
    assert finished.outcome.status == "completed"
    assert finished.placement.attempt == 21


def test_a_trial_runs_again_on_another_node_or_else_on_another_worker() -> None:
    for nodes in ({"a": 1, "b": 1}, {"a": 2}):
        cluster = VirtualCluster(nodes)
        killed: list[str] = []

        def kill(cluster: VirtualCluster = cluster, killed: list[str] = killed) -> None:
            killed.extend(cluster.running)
            cluster.kill(killed[0])

        cluster.at(0.5, kill)
        finished, _ = run([trial()], cluster)
        assert statuses(finished) == {"completed": 1}
        first, second = [span.worker for span in cluster.spans]
        assert first.name == killed[0] != second.name
        assert (first.node != second.node) == (len(nodes) == 2)


def test_the_trials_of_a_node_that_is_lost_run_elsewhere_and_each_is_recorded_once() -> None:
    cluster = VirtualCluster({"a": 2, "b": 2, "c": 2})
    cluster.at(2.5, lambda: cluster.lose("b"))
    finished, loop = run(many(30), cluster)
    assert statuses(finished) == {"completed": 30}
    assert Counter(one.placement.attempt for one in finished) == {1: 28, 2: 2}
    assert loop.stopped is None


def test_a_node_that_loses_trial_after_trial_is_set_aside_and_named() -> None:
    seen: list[Notice] = []
    cluster = VirtualCluster({"a": 1, "b": 1}, how=lambda trial, worker: "outside" if worker.node == "b" else None)
    finished, loop = run(many(30), cluster, notify=seen.append)
    assert statuses(finished) == {"completed": 30}
    assert list(loop.set_aside) == cluster.aside == ["b"]
    assert [notice.values["node"] for notice in seen if notice.what == "set aside"] == ["b"]
    assert "3 different trials" in loop.set_aside["b"]


def test_the_last_node_is_never_set_aside_nor_one_of_several_that_all_fail() -> None:
    for nodes in ({"a": 1}, {"a": 1, "b": 1}):
        cluster = VirtualCluster(nodes, how=lambda trial, worker: "outside")
        finished, loop = run(many(6), cluster)
        assert statuses(finished) == {"lost": 6}
        assert loop.set_aside == {}


def test_a_node_is_not_to_blame_for_one_trial_that_ends_everything_it_runs_on() -> None:
    def how(trial: Trial, worker: Worker) -> str | None:
        return "outside" if trial.setting.label == "die" else None

    cluster = VirtualCluster({"a": 1, "b": 1}, how=how)  # type: ignore[arg-type]
    finished, loop = run([*many(4), trial("die", seed=99)], cluster)
    assert statuses(finished) == {"completed": 4, "lost": 1}
    assert loop.set_aside == {}


def test_trials_of_a_node_that_was_set_aside_wait_and_the_run_says_for_what() -> None:
    cluster = VirtualCluster({"a": 1, "b": 1}, how=lambda trial, worker: "outside" if worker.node == "b" else None)
    trials = [trial(seed=seed, node=node) for node in ("a", "b") for seed in range(6)]
    finished, loop = run(trials, cluster)
    assert {one.trial.setting.node for one in finished} == {"a"}
    assert (loop.stopped, [demand.node for demand in loop.unserved]) == ("nodes", ["b"])


def test_a_run_waits_for_nodes_that_are_gone_and_goes_on_when_one_comes() -> None:
    seen: list[Notice] = []
    cluster = VirtualCluster({"a": 1})
    cluster.at(2.5, lambda: cluster.lose("a"))
    cluster.at(200, lambda: cluster.cores.update({"new": 1}))
    finished, loop = run(many(6), cluster, notify=seen.append)
    assert statuses(finished) == {"completed": 6}
    told = [notice.text for notice in seen if notice.what == "waiting"]
    assert told == ["4 trials for a node that can hold them (cpus=1), for up to 300 s"]
    assert loop.stopped is None


def test_a_run_ends_when_no_node_has_come_for_long_enough_once_the_others_have_done_what_they_can() -> None:
    cluster = VirtualCluster({"a": 4, "b": 1})
    cluster.at(2.5, lambda: cluster.lose("a"))
    finished, loop = run([*many(8, cpus=4), *many(40)], cluster, patience_s=20)
    assert Counter(one.trial.setting.cpus for one in finished)[1] == 40
    assert (loop.stopped, [demand.cpus for demand in loop.unserved]) == ("nodes", [4])
    assert 20 < cluster.now_s < 60


def test_a_node_that_joins_late_is_used_after_it_was_calibrated() -> None:
    seen: list[Notice] = []
    cluster = VirtualCluster({"a": 1})
    cluster.at(3.5, lambda: cluster.cores.update({"late": 1}))
    finished, _ = run(many(20), cluster, notify=seen.append, calibrate=True)
    assert {one.placement.node for one in finished} == {"a", "late"}
    workers = {name: worker.node for name, worker in cluster.workers.items()}
    told = [notice.what for notice in seen if workers.get(notice.worker) == "late"]
    assert told[:4] == ["opened", "ready", "calibrated", "started"]


def test_what_was_lost_while_a_run_ends_is_left_for_whoever_resumes_it() -> None:
    cluster = VirtualCluster({"here": 1})
    cluster.at(1.5, lambda: cluster.kill(next(iter(cluster.workers))))
    finished, loop = run(many(6), cluster, should_finish=lambda: cluster.now_s >= 1)
    assert statuses(finished) == {"completed": 1}
    assert loop.stopped == "stop"


def test_what_an_attempt_says_that_was_given_up_is_not_recorded() -> None:
    cluster = VirtualCluster({"here": 1})

    def say() -> None:
        ((worker, attempt),) = cluster.running.items()
        for key, number in ((attempt.trial.key, attempt.attempt - 1), (("another", ""), attempt.attempt)):
            cluster.tell(Done(worker=worker, key=key, attempt=number, outcome=Outcome(status="failed"), alive=True))

    cluster.at(0.5, say)
    finished, _ = run([trial()], cluster)
    assert statuses(finished) == {"completed": 1}
    assert cluster.now_s == 1.0
