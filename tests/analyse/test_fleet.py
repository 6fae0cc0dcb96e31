"""Nodes against the median of all: made-up runs, some nodes of which are slow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analyse.fleet import Fleet, fleet

Wild = tuple[int, str, int]  # a setting, a node and a repeat


def run(
    nodes: int,
    *,
    slow: Mapping[str, float] | None = None,
    settings: int = 2,
    repeats: int = 3,
    noise: float = 0.02,
    seed: int = 0,
    wild: Wild | None = None,
    known: tuple[str, ...] = (),
) -> Fleet:
    """Compare nodes n0, n1, … that are by so much slow; one trial may have gone wrong, five times as slow."""
    draw = np.random.default_rng(seed)
    trials: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    for setting in range(settings):
        for number in range(nodes):
            node = f"n{number}"
            for repeat in range(repeats):
                train_s = (1 + setting) * (1 + (slow or {}).get(node, 0.0)) * np.exp(draw.normal(0, noise))
                train_s *= 5 if wild == (setting, node, repeat) else 1
                ids = {
                    "run_id": "r", "trial_id": f"{setting}-{repeat}", "setting_id": f"s{setting}",
                    "arm": f"exclusive=true,node={node}",
                }  # fmt: skip
                warnings = ["noisy"] if node == "n0" else []
                trials.append({**ids, "status": "completed", "block": repeat, "node": node, "warnings": warnings})
                epochs.append({**ids, "epoch": 1, "train_s": train_s, "warmup": False, "elapsed_train_s": train_s})
    return fleet(pd.DataFrame(trials), pd.DataFrame(epochs), known=known)


def verdicts(found: Fleet) -> dict[str, str]:
    return {one.node: one.verdict for one in found.nodes if one.verdict != "as the others"}


def test_slow_and_quick_nodes_are_named_with_an_interval() -> None:
    found = run(8, slow={"n3": 0.12, "n5": -0.2})
    assert verdicts(found) == {"n3": "slower", "n5": "quicker"}
    worst = found.nodes[0]
    assert (worst.low or 0) < 1.12 < (worst.high or 0)
    assert (worst.trials, worst.warned, found.settings) == (6, 0, 2)
    assert next(one.warned for one in found.nodes if one.node == "n0") == 6
    slower, quicker = found.sentences()
    assert re.match(r"n3 is \d+ % slower than the fleet's median \(98 % interval \d+ to \d+", slower)
    assert re.match(r"n5 is \d+ % quicker than the fleet's median", quicker)


def test_equal_nodes_are_seldom_named() -> None:
    named = sum(bool(verdicts(run(8, noise=0.03, seed=seed))) for seed in range(12))
    assert named <= 1  # 2 in 100, by design


def test_a_trial_that_went_wrong_neither_makes_a_slow_node_nor_hides_one() -> None:
    assert verdicts(run(8, slow={"n3": 0.12}, wild=(1, "n6", 0))) == {"n3": "slower"}


def test_a_difference_that_is_sure_but_slight_is_not_named() -> None:
    found = run(4, slow={"n1": 0.02}, noise=0.0001)
    assert verdicts(found) == {}
    assert found.sentences() == ["no node stands out; one that is 3 % slower would"]


def test_a_node_is_called_as_the_others_only_where_a_slow_one_would_have_been_found() -> None:
    found = run(8, noise=0.02)
    assert verdicts(found) == {}
    (told,) = found.sentences()
    assert re.fullmatch(r"no node stands out; one that is [4-9] % slower would", told)
    blind = run(8, noise=0.3)
    assert set(verdicts(blind).values()) == {"cannot tell"}
    assert re.fullmatch(r"no node stands out; one that is \d\d+ % slower would", *blind.sentences())


def test_what_is_said_to_stand_out_does() -> None:
    least = run(8, noise=0.03).found
    assert least is not None
    named = sum("n3" in verdicts(run(8, slow={"n3": least - 1}, noise=0.03, seed=seed)) for seed in range(60))
    assert named >= 45  # 81 to 95 of 100: the slow one moves the median too


def test_of_two_nodes_none_is_out_of_line() -> None:
    found = run(2, slow={"n1": 0.2}, noise=0.001)
    assert verdicts(found) == {"n0": "cannot tell", "n1": "cannot tell"}
    assert found.sentences() == [
        "n1 is 20 % slower than n0 (98 % interval 20 to 20); "
        "with two nodes there is no telling which of them is out of line: it takes 3"
    ]


def test_two_nodes_differ_only_where_their_repeats_say_so() -> None:
    assert re.fullmatch(
        r"n1 and n0 cannot be told apart: the one takes 1\.\d+ times as long \(98 % interval 0\.\d+ to 1\.\d+\)",
        *run(2, slow={"n1": 0.05}, noise=0.1, seed=1).sentences(),
    )
    told = "n1 is 19 % slower than n0, of one trial each in a setting; say repeats=3"
    assert run(2, slow={"n1": 0.2}, repeats=1).sentences() == [told]


def test_equal_nodes_of_two_are_seldom_told_apart() -> None:
    assert sum("slower" in run(2, noise=0.03, seed=seed).sentences()[0] for seed in range(100)) <= 5  # 2, by design


@pytest.mark.parametrize(("nodes", "named"), [(4, False), (20, True)])
def test_without_repeats_the_spread_of_many_nodes_stands_for_the_noise(nodes: int, named: bool) -> None:
    found = run(nodes, slow={"n1": 0.3}, settings=1, repeats=1)
    assert (found.nodes[0].node, found.nodes[0].verdict) == ("n1", "slower" if named else "cannot tell")
    assert named or "nothing was repeated; say repeats=3" in found.sentences()[-1]


def test_a_node_without_a_result_is_told_and_comes_last() -> None:
    found = run(3, known=("n1", "n9"))
    assert found.nodes[-1].node == "n9"
    assert (found.nodes[-1].ratio, found.nodes[-1].verdict) == (None, "no result")
    assert found.sentences()[-1] == "without a result: n9"


def test_settings_that_one_node_alone_has_say_nothing() -> None:
    found = run(1)
    assert (found.settings, found.spread, found.nodes[0].ratio) == (0, None, None)


def test_trials_without_an_epoch_have_no_figure_and_are_counted_all_the_same() -> None:
    trials = pd.DataFrame([{"node": node, "status": "failed", "setting_id": "s", "arm": "default"} for node in "ab"])
    found = fleet(trials, pd.DataFrame({"epoch": []}))
    assert [(one.node, one.trials, one.failed, one.verdict) for one in found.nodes] == [
        ("a", 0, 1, "no result"),
        ("b", 0, 1, "no result"),
    ]
