"""Which of the noise floors that runs have measured holds for a node: their run.json files → one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def newest_floor(
    runs: Iterable[Mapping[str, Any]],
    node: Mapping[str, Any],
    *,
    figure: str = "train_s",
    neighbours: int | None = None,
) -> Mapping[str, Any] | None:
    """Return the newest noise floor of a node, as run.json holds it; None where there is none.

    `node` is a row of `nodes`: ``node``, ``cpu_model``, ``cpu_count_logical``. A floor of the same name counts before
    those of other names, whose machines have the same CPU model and as many hardware threads: a container gets a new
    name each time. Its own ``node`` then says where it was measured. One of another CPU model never counts. With
    `neighbours` only one that was measured with so many trials beside each other.
    """
    measured = [floor for run in runs for floor in (run.get("noise_floor") or {}).values()]
    fitting = [
        floor
        for floor in measured
        if floor["figure"] == figure and neighbours in (None, floor.get("neighbours")) and _may_be_of(floor, node)
    ]
    return max(fitting, key=lambda floor: (floor["node"] == node["node"], floor["date"]), default=None)


def _may_be_of(floor: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    machines = [
        (floor.get("cpu_model"), floor.get("cpu_count")),
        (node.get("cpu_model"), node.get("cpu_count_logical")),
    ]
    models = [model for model, _ in machines]
    if floor["node"] == node["node"]:
        return None in models or models[0] == models[1]
    return machines[0] == machines[1] and None not in machines[0]
