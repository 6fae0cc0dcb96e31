"""Which demands run where and when, on clusters of any shape whose time is not real."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import trial
from virtual import Span, VirtualCluster, run

from harness.domain.trial import Trial
from harness.schedule.demand import Demand

KINDS: tuple[dict[str, Any], ...] = (
    {"cpus": 1},
    {"cpus": 2},
    {"cpus": 1, "exclusive": True},
    {"cpus": 1, "node": "a"},
    {"cpus": 1, "node": "b"},
    {"cpus": 1, "nodes": 2, "backend": "jax"},
    {"cpus": 2, "nodes": 2, "exclusive": True, "backend": "jax"},
    {"cpus": 1, "nodes": 3, "backend": "jax"},
)


def grid(kinds: list[int], settings: int, repeats: int) -> list[Trial]:
    return [
        trial(seed=repeat, repeat=repeat, batch_size=6 * (number + 1), **KINDS[kind])
        for kind in kinds
        for number in range(settings)
        for repeat in range(repeats)
    ]


def overlapping(spans: list[Span]) -> list[tuple[Span, Span]]:
    """Return the pairs of trials that ran on a node at the same time."""
    by_node: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        for node in span.worker.nodes:
            by_node[node].append(span)
    return [
        (one, other)
        for there in by_node.values()
        for number, one in enumerate(there)
        for other in there[:number]
        if one.began_s < other.ended_s and other.began_s < one.ended_s
    ]


@settings(max_examples=40)
@given(
    cores=st.lists(st.integers(2, 4), min_size=3, max_size=5),
    kinds=st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=5, unique=True),
    count=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    seed=st.integers(0, 99),
    kills=st.integers(0, 4),
)
def test_every_trial_runs_and_no_two_demands_meet_on_a_node(
    cores: list[int], kinds: list[int], count: tuple[int, int], seed: int, kills: int
) -> None:
    rng = random.Random(seed)
    cluster = VirtualCluster(
        dict(zip("abcde", cores, strict=False)), seconds=lambda trial, worker: rng.choice((0.1, 1, 1, 7))
    )
    for _ in range(kills):
        cluster.at(rng.uniform(0, 20), lambda: cluster.kill(rng.choice(list(cluster.workers))))
    trials = grid(kinds, *count)
    waiting = Counter(Demand.of(one) for one in trials)
    several = any(demand.nodes > 1 for demand in waiting)

    def nobody_idles() -> None:
        """A node where nothing runs has nothing to do, unless it is kept free for a trial on several nodes."""
        done = Counter(Demand.of(span.trial) for span in cluster.spans)
        under_way = Counter(Demand.of(one.trial) for one in cluster.running.values())
        busy = {node for name in cluster.running for node in cluster.workers[name].nodes}
        for node in cluster.cores.keys() - busy:
            for worker in cluster.workers.values():
                if worker.nodes == (node,) and not several and not kills:
                    assert waiting[worker.demand] <= done[worker.demand] + under_way[worker.demand]

    began = False

    def when_waiting() -> None:
        nonlocal began
        began = began or bool(cluster.running)
        if began and not cluster.pending:
            nobody_idles()

    cluster.when_waiting = when_waiting
    finished, loop = run(trials, cluster)
    assert Counter(one.trial.key for one in finished) == Counter(one.key for one in trials)
    assert loop.stopped is None
    meeting = overlapping(cluster.spans)
    assert all(one.worker.demand == other.worker.demand for one, other in meeting)
    assert not any(one.worker.demand.exclusive for one, _ in meeting)


def test_demands_that_live_on_different_nodes_run_at_the_same_time() -> None:
    trials = [trial(seed=seed, repeat=seed, node=node) for node in "abc" for seed in range(10)]
    cluster = VirtualCluster(dict.fromkeys("abc", 1))
    finished, _ = run(trials, cluster)
    assert len(finished) == 30
    assert cluster.now_s < 11


def test_a_node_that_has_nothing_left_of_one_demand_goes_on_with_the_next_while_others_are_not_done() -> None:
    trials = [trial("long", seed=0, cpus=1), *(trial(seed=seed, cpus=2) for seed in range(5))]
    cluster = VirtualCluster(
        {"a": 2, "b": 2}, seconds=lambda trial, worker: 100 if trial.setting.label == "long" else 1
    )
    finished, _ = run(trials, cluster)
    assert len(finished) == 6
    assert cluster.now_s <= 102
    assert [one.trial.setting.cpus for one in finished][-1] == 1


def test_a_trial_on_several_nodes_holds_up_none_of_them_before_all_are_due() -> None:
    trials = [
        *(trial(seed=seed, node="a") for seed in range(20)),
        *(trial(seed=seed, nodes=2, backend="jax", batch_size=6) for seed in range(2)),
        *(trial(seed=seed, repeat=1) for seed in range(20)),
    ]
    cluster = VirtualCluster({"a": 1, "b": 1})
    finished, _ = run(trials, cluster)
    assert len(finished) == 42
    assert cluster.now_s <= 23
