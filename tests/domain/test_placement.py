"""Where and on how much a setting is to run: checked at birth, and for each point of a grid."""

from __future__ import annotations

from typing import Any

import pytest

from harness.domain.errors import SuiteError
from harness.domain.grid import cases, product, zipped
from harness.domain.handy import function, mlp
from harness.domain.setting import Setting
from harness.domain.suite import Suite
from harness.plan import parse_override, plan
from harness.schedule.demand import Demand


def own(width: int = 1) -> None: ...


def base(**fields: Any) -> Setting:
    return Setting(**{"dataset": "mnist5k", "model": mlp(8), "backend": "jax", **fields})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"cpus": 1.5}, "cpus must be a whole number or a fraction of one, such as 0.5, got 1.5"),
        ({"cpus": 0.001}, "cpus must be at least 0.015625, of which 64 workers share one, got 0.001"),
        ({"gpus": 2.5}, "gpus must be a whole number"),
        ({"exclusive": True, "cpus": 0.5}, r"have the node for itself and share it \(cpus=0.5\)"),
        ({"exclusive": True, "gpus": 0.5}, r"share it \(gpus=0.5\)"),
        ({"devices": 2, "backend": "tensorflow"}, "devices=2: the back end 'tensorflow' cannot split .* backend='jax'"),
        ({"devices": 2, "workload": function(own)}, "only a training can be split, and the workload is 'function'"),
        ({"devices": 4, "batch_size": 30}, "batch_size=30 .* over 4 devices .* nearest that can is 32"),
        ({"devices": 2, "nodes": 2, "batch_size": 1}, r"devices=2, nodes=2\); the nearest that can is 4"),
        ({"devices": 2, "gpus": 1}, "devices=2: gpus=1, but a node has 2 of the devices; say gpus=2"),
        ({"nodes": 2, "gpus": 2}, "nodes=2: gpus=2, but a node has 1 of the devices"),
        ({"devices": 2, "cpus": 0.5}, "need whole shares: cpus=0.5 is none"),
        ({"nodes": 2, "gpus": 0.5}, "need whole shares: gpus=0.5 is none"),
        ({"nodes": 2, "node": "n1"}, "nodes=2: a trial on several nodes cannot be on node='n1' alone"),
        ({"node": "a,b"}, "node"),
        (
            {"node_labels": {"rack": "a=b"}},
            "node_labels must be of letters, digits and _ . / - alone, and 'a=b' is not",
        ),
    ],
)
def test_a_placement_that_cannot_be_is_refused_with_the_value_and_the_way_out(
    fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(SuiteError, match=told):
        base(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"cpus": 0.3},
        {"cpus": 0.125, "gpus": 0.5},
        {"gpus": 1, "exclusive": True, "backend": "torch"},
        {"devices": 2, "gpus": 2},
        {"devices": 4, "nodes": 2, "cpus": 2},
        {"nodes": 2, "gpus": 1, "accelerator": "A100"},
        {"node_labels": {"rack": "a"}, "node": "n-1.example"},
    ],
)
def test_a_placement_that_can_be_is_taken(fields: dict[str, Any]) -> None:
    assert base(**fields).plain().items() >= fields.items()


def test_the_points_of_a_grid_fit_together_although_their_axes_alone_would_not_fit_the_base() -> None:
    grid = zipped(backend=["tensorflow", "jax", "jax"], devices=[1, 2, 4], gpus=[0.5, 2, 4])
    arms = [trial.arm for trial in plan(Suite(name="s", base=base(backend="tensorflow"), grid=grid)).trials]
    assert arms == ["gpus=0.5", "backend=jax,devices=2,gpus=2", "backend=jax,devices=4,gpus=4"]
    with pytest.raises(SuiteError, match="batch_size=33 cannot be split evenly"):
        plan(Suite(name="s", base=base(), grid=product(devices=[1, 2], batch_size=[32, 33])))
    with pytest.raises(SuiteError, match=r"share it \(cpus=0.5\)"):
        plan(Suite(name="s", base=base(), grid=product(cpus=[1, 0.5])), overrides=[parse_override("exclusive=true")])


def test_labels_are_an_axis_each() -> None:
    suite = Suite(name="s", base=base(), grid=cases({"node_labels.rack": "a"}, {"accelerator": "A100", "gpus": 1}))
    first, second = plan(suite, overrides=[parse_override("node_labels.zone=7")]).trials
    assert first.arm == "backend=jax,node_labels.rack=a,node_labels.zone=7"
    assert Demand.of(first).labels == (("rack", "a"), ("zone", "7"))
    assert second.arm == "accelerator=A100,backend=jax,gpus=1,node_labels.zone=7"
    two = plan(Suite(name="s", base=base()), overrides=[parse_override("node_labels.kind=a,b")])  # whatever the name
    assert [one.axes for one in two.trials] == [(("node_labels.kind", "a"),), (("node_labels.kind", "b"),)]


def test_the_parts_of_a_placement_are_no_part_of_what_is_trained() -> None:
    assert len({base(**fields).setting_id for fields in ({}, {"devices": 2}, {"nodes": 4}, {"node": "a"})}) == 1


@pytest.mark.parametrize(
    ("given", "seconds"), [("10m", 600.0), (45, 45.0), ("never", None), (None, None), (0, None), ("90s", 90.0)]
)
def test_how_often_states_are_saved_travels_with_the_trials_and_is_no_part_of_what_is_asked(
    given: Any, seconds: float | None
) -> None:
    plain = Suite(name="s", base=base())
    suite = Suite(name="s", base=base(), checkpoint=given)
    made = plan(suite)
    assert [trial.checkpoint_s for trial in made.trials] == [seconds]
    asked = plan(plain, overrides=[parse_override(f"checkpoint={'null' if given is None else given}")])
    assert asked.trials[0].checkpoint_s == seconds
    assert plan(plain).trials[0].checkpoint_s == 300.0
    assert plan(plain).sha256 == made.sha256 == asked.sha256


def test_a_checkpoint_that_is_no_time_is_refused() -> None:
    with pytest.raises(SuiteError, match=r"checkpoint: 'often' is no duration; .* or 'never'"):
        Suite(name="s", base=base(), checkpoint="often")
