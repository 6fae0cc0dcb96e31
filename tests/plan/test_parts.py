"""A part of a plan: the trials of one shard."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.errors import SuiteError
from harness.domain.grid import product
from harness.domain.handy import mlp, sgd
from harness.domain.setting import Setting
from harness.domain.suite import Suite
from harness.plan import plan, shard

BASE = Setting(dataset="mnist5k", model=mlp(8), optimizer=sgd(0.1))


def suite(**fields: Any) -> Suite:
    return Suite(**{"name": "s", "base": BASE, "grid": product(batch_size=[16, 32, 64]), "repeats": 3} | fields)


@given(st.integers(1, 9))
def test_the_shards_together_are_the_trials_each_once(of: int) -> None:
    made = plan(suite())
    parts = [shard(made, number, of) for number in range(of)]
    assert sorted(trial.key for part in parts for trial in part.trials) == sorted(trial.key for trial in made.trials)
    assert max(len(part.trials) for part in parts) - min(len(part.trials) for part in parts) <= 1
    assert parts[-1].trials == made.trials[of - 1 :: of]
    assert {(part.sha256, tuple(part.axes)) for part in parts} == {(made.sha256, tuple(made.axes))}


def test_a_shard_knows_how_many_settings_it_has() -> None:
    made = shard(plan(suite()), 1, 4)
    assert ([trial.repeat for trial in made.trials], made.settings, made.shard) == ([1, 2], 2, (1, 4))


@pytest.mark.parametrize(
    ("fields", "number", "of", "message"),
    [
        ({"repeats": "auto"}, 0, 2, r'repeats="auto" cannot be in shards; say how many with --set repeats=N'),
        ({"every_node": True}, 0, 2, "every_node: .* run it as one"),
        ({"base": BASE.model_copy(update={"nodes": 2, "backend": "jax"})}, 0, 2, "nodes=2: .*--where 'nodes == 1'"),
        ({}, 0, 10, "10 shards of 9 trials: each needs a trial; ask for at most 9"),
        ({}, 2, 2, "shard 2 of 2: there are 0 to 1"),
    ],
)
def test_what_cannot_be_in_shards_is_refused_with_the_way_out(
    fields: dict[str, Any], number: int, of: int, message: str
) -> None:
    with pytest.raises(SuiteError, match=message):
        shard(plan(suite(**fields)), number, of)
