"""Why no node can hold a trial, in words, on nodes that exist on paper only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from scripted import trial

from harness.schedule.demand import Demand


def cluster(count: int, *, lost: str = "", busy: tuple[str, ...] = ()) -> tuple[Any, Any, list[str]]:
    """Return nodes n0, n1, … of two cores each, the refusals of them, and the names of those asked, as they are."""
    from harness.schedule.ray_refusals import Refusals  # Ray takes a second to import

    asked: list[str] = []

    def node(name: str) -> SimpleNamespace:
        return SimpleNamespace(host=name, node_id=name, local=False, known=lambda: {"node": name, "cores": 2})

    def known(agent: Any) -> dict[str, Any] | None:
        asked.append(agent.host)
        if agent.host == lost:
            del nodes.agents[agent.node_id]
            return None
        about: dict[str, Any] = agent.known()
        return about

    nodes: Any = SimpleNamespace(agents={f"n{n}": node(f"n{n}") for n in range(count)}, held_by_others=list(busy))
    return nodes, Refusals(nodes, body="", known=known), asked


def test_a_few_nodes_are_named_with_what_they_lack_and_the_rest_counted() -> None:
    _, refusals, _ = cluster(8, busy=("n9",))
    told = refusals.told(Demand.of(trial(cpus=4)))
    assert "n0 has 2 cores, cpus=4 asked for; n1 has" in told
    assert "n5 has 2 cores, cpus=4 asked for; and 3 more\nthere is:\n  n0: 2 cores" in told


def test_a_node_is_asked_once_and_anew_when_it_is_back() -> None:
    nodes, refusals, asked = cluster(2)
    small, large = Demand.of(trial(cpus=2)), Demand.of(trial(cpus=4))
    first = nodes.agents["n0"]
    assert [refusals.of(first, demand) for demand in (small, small)] == [None, None]
    assert [refusals.of(first, demand) for demand in (large, large)] == ["n0 has 2 cores, cpus=4 asked for"] * 2
    assert asked == ["n0", "n0"]
    refusals.forget(first)
    refusals.of(first, small)
    assert asked == ["n0"] * 3


def test_a_node_that_is_lost_when_it_is_asked_is_not_among_what_there_is() -> None:
    _, refusals, _ = cluster(2, lost="n1")
    told = refusals.told(Demand.of(trial(cpus=4)))
    assert "n0 has 2 cores, cpus=4 asked for; n1 is lost\n" in told
    assert told.endswith("there is:\n  n0: 2 cores, no GPU")


def test_a_node_that_nobody_is_called_is_named_alone() -> None:
    _, refusals, _ = cluster(2)
    assert "no node is called n7\nthere is:" in refusals.told(Demand.of(trial(node="n7")))
