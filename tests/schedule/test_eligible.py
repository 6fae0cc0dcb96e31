"""Which nodes can hold a trial, and the words for why not the others."""

from __future__ import annotations

from typing import Any

import pytest

from harness.schedule.demand import Demand
from harness.schedule.eligible import is_kind, refusal, what_there_is

NODE: dict[str, Any] = {
    "node": "n1",
    "labels": {"rack": "a"},
    "accelerators": ["A100"],
    "gpu_names": ["NVIDIA A100-SXM4-40GB"] * 2,
    "cores": 8,
}


def demand(**asked: Any) -> Demand:
    return Demand(**{"backend": "none", "cpus": 1, "gpus": 0.0, "exclusive": False, **asked})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, None),
        ({"cpus": 8, "gpus": 2.0, "node": "n1", "labels": (("rack", "a"),), "accelerator": "a100"}, None),
        ({"cpus": 0.125, "gpus": 0.5}, None),
        ({"cpus": 9}, "has 8 cores, cpus=9 asked for"),
        ({"gpus": 3.0}, "has 2 GPUs (NVIDIA A100-SXM4-40GB), gpus=3 asked for"),
        ({"node": "n2"}, "is not n2, node=n2 asked for"),
        ({"labels": (("rack", "b"),)}, "has rack=a, node_labels.rack=b asked for"),
        ({"labels": (("zone", "b"),)}, "has no label zone, node_labels.zone=b asked for"),
        ({"accelerator": "H100"}, "has 2 GPUs (NVIDIA A100-SXM4-40GB, A100), accelerator=H100 asked for"),
    ],
)
def test_a_refusal_says_what_the_node_has_and_what_was_asked_for(asked: dict[str, Any], why: str | None) -> None:
    assert refusal(NODE, demand(**asked)) == why


def test_what_is_not_known_of_a_node_does_not_refuse_it() -> None:
    everything = demand(cpus=99, gpus=9.0, node="n1", labels=(("rack", "a"),), accelerator="H100")
    assert refusal({}, everything) is None
    assert refusal({"gpu_names": [], "accelerators": []}, demand(gpus=1.0)) == "has no GPU, gpus=1 asked for"
    assert refusal({"gpu_names": [], "accelerators": ["H100"]}, demand(accelerator="H100")) is None


@pytest.mark.parametrize(
    ("accelerator", "name", "matches"),
    [
        ("A100", "NVIDIA A100-SXM4-40GB", True),
        ("a100-sxm4", "NVIDIA A100-SXM4-40GB", True),
        ("A10", "NVIDIA A100-SXM4-40GB", False),
        ("RTX 3090", "NVIDIA GeForce RTX 3090", True),
        ("3090 RTX", "NVIDIA GeForce RTX 3090", False),
        ("1g.5gb", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", True),
        ("H100", None, False),
        ("", "anything", True),
    ],
)
def test_a_kind_is_whole_words_of_a_gpus_name_whatever_their_case(
    accelerator: str, name: str | None, matches: bool
) -> None:
    assert is_kind(accelerator, name) is matches


def test_what_there_is_has_a_line_for_each_node() -> None:
    bare = {"node": "n2", "labels": {}, "accelerators": [], "gpu_names": [], "cores": 1}
    assert what_there_is([NODE, bare]) == (
        "  n1: 8 cores, 2 GPUs (NVIDIA A100-SXM4-40GB, A100), rack=a\n  n2: 1 core, no GPU"
    )
