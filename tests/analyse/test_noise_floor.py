from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from harness.analyse.noise import NoiseFloor, floors, newest, same
from harness.domain.repeats import unlabelled

HERE = {"node": "here", "cpu_model": "a CPU", "cpu_count_logical": 4}
NODES = pd.DataFrame([HERE, {"node": "there", "cpu_model": None, "cpu_count_logical": None}])


def run(
    *, spread: float = 0.05, shared: float = 0.0, repeats: int = 200, node: str = "here", slow_b: float = 1.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two settings under two names; `shared` is what both of a block have in common."""
    rng = np.random.default_rng(2)
    trials, epochs = [], []
    for block in range(repeats):
        for setting in ("s", "t"):
            common = rng.normal(0, shared)
            for label in ("A", "B"):
                ids = {
                    "run_id": "r", "trial_id": f"{setting}{block}", "setting_id": setting, "arm": f"label={label}",
                }  # fmt: skip
                where = {"node": node, "worker": "0", "neighbours": 1, "cores": [0], "label": label}
                trials.append({**ids, "status": "completed", "block": block, "position": block, **where})
                value = math.exp(common + rng.normal(0, spread)) * (slow_b if label == "B" else 1)
                epochs.append({**ids, "epoch": 1, "train_s": value, "warmup": False})
    return pd.DataFrame(trials), pd.DataFrame(epochs)


def floor(**options: object) -> NoiseFloor:
    (found,) = floors(*run(**options), NODES, date="2026-01-02T03:04:05+00:00")  # type: ignore[arg-type]
    return found


def test_the_floor_is_the_spread_of_pairs_for_so_many_repeats() -> None:
    found = floor()
    assert found.spread.single == pytest.approx(0.05, rel=0.1)
    assert found.spread.paired == pytest.approx(0.05, rel=0.1)
    assert math.log(found.ratio) == pytest.approx(2.33 * 0.05 * math.sqrt(2 / 200), rel=0.15)


def test_what_a_block_shares_is_in_the_spread_of_a_trial_but_not_of_a_pair() -> None:
    found = floor(shared=0.2)
    assert found.spread.single > 0.15
    assert found.spread.paired == pytest.approx(0.05, rel=0.1)


def test_it_says_where_and_how_it_was_measured() -> None:
    found = floor(repeats=5)
    assert (found.node, found.cpu_model, found.cores, found.workers) == ("here", "a CPU", 1, 1)
    assert found.cpu_count == 4
    assert (found.neighbours, found.repeats, found.date) == (1, 5, "2026-01-02T03:04:05+00:00")
    assert set(found.settings) == {"s", "t"}
    assert found.of("s") == found.settings["s"]
    assert found.of("another") == found.spread


def test_each_node_has_a_floor_of_its_own() -> None:
    one, other = run(repeats=5), run(repeats=5, node="there")
    other[0]["run_id"] = other[1]["run_id"] = "q"
    found = floors(pd.concat([one[0], other[0]]), pd.concat([one[1], other[1]]), NODES, date="")
    assert [floor.node for floor in found] == ["here", "there"]
    assert (found[1].cpu_model, found[1].cpu_count) == (None, None)


def test_it_is_the_same_again_from_json() -> None:
    found = floor(repeats=5)
    assert NoiseFloor.from_plain(json.loads(json.dumps(found.plain()))) == found


def test_the_newest_floor_of_a_node_is_found_among_runs() -> None:
    older, newer = floor(repeats=5).plain(), floor(repeats=6).plain() | {"date": "2026-02-01T00:00:00+00:00"}
    runs = [{"noise_floor": {"here": newer}}, {"run_id": "without"}, {"noise_floor": {"here": older}}]
    found = newest(runs, HERE)
    assert found is not None
    assert found.repeats == 6
    assert newest(runs, HERE, figure="eval_s") is None
    assert newest(runs, HERE, neighbours=0) is None
    assert newest(runs, HERE, neighbours=1) == found


@pytest.mark.parametrize(
    ("node", "holds"),
    [
        ({}, True),
        ({"cpu_model": None}, True),
        ({"cpu_model": "another"}, False),
        ({"node": "renamed"}, True),
        ({"node": "renamed", "cpu_model": "another"}, False),
        ({"node": "renamed", "cpu_model": None}, False),
        ({"node": "renamed", "cpu_count_logical": 8}, False),
    ],
)
def test_a_floor_is_that_of_its_node_or_of_an_equal_machine_but_never_of_another_cpu(
    node: dict[str, object], holds: bool
) -> None:
    runs = [{"noise_floor": {"here": floor(repeats=5).plain()}}]
    assert (newest(runs, HERE | node) is not None) == holds


def test_a_floor_of_the_node_itself_counts_before_a_newer_one_of_an_equal_machine() -> None:
    own = floor(repeats=5).plain()
    equal = floor(repeats=6).plain() | {"node": "there", "date": "2027-01-01T00:00:00+00:00"}
    found = newest([{"noise_floor": {"here": own, "there": equal}}], HERE)
    assert found is not None
    assert found.node == "here"


def test_too_few_pairs_give_no_floor() -> None:
    assert floors(*run(repeats=1), NODES, date="") == []
    trials, epochs = run(repeats=5)
    trials.loc[trials["label"] == "B", "status"] = "failed"
    assert floors(trials, epochs, NODES, date="") == []
    assert [one.comparison.ratio for one in same(trials, epochs)] == [None, None]


def test_each_setting_is_compared_with_itself_pair_by_pair() -> None:
    found = same(*run(repeats=20))
    assert [one.setting_id for one in found] == ["s", "t"]
    assert all(one.comparison.paired and one.comparison.verdict == "no difference shown" for one in found)
    assert {one.comparison.verdict for one in same(*run(repeats=20, slow_b=1.3))} == {"different: slower"}


def test_the_same_setting_on_several_back_ends_is_compared_with_itself_on_each() -> None:
    here, elsewhere = run(spread=0.01, repeats=20), run(spread=0.01, repeats=20)
    for frame in elsewhere:  # three times as slow there, which is no noise
        frame["arm"] = "backend=jax," + frame["arm"]
    elsewhere[1]["train_s"] *= 3.0
    trials, epochs = (pd.concat(frames, ignore_index=True) for frames in zip(here, elsewhere, strict=True))
    (found,) = floors(trials, epochs, NODES, date="")
    assert found.repeats == 20
    assert found.spread.single == pytest.approx(0.01, rel=0.2)
    assert found.spread.paired == pytest.approx(0.01, rel=0.2)
    assert found.settings["s"].freedom == 2 * 19
    compared = same(trials, epochs)
    assert [(one.setting_id, one.arm) for one in compared] == [
        ("s", "default"), ("t", "default"), ("s", "backend=jax"), ("t", "backend=jax"),
    ]  # fmt: skip
    assert all(one.comparison.paired and one.comparison.repeats == (20, 20) for one in compared)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("label=A", "default"),
        ("backend=jax,label=A,precision=mixed_bfloat16", "backend=jax,precision=mixed_bfloat16"),
        ("default", "default"),
    ],
)
def test_an_arm_has_a_name_without_its_label(arm: str, says: str) -> None:
    assert unlabelled(arm) == says
