from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.domain.applied import applied, joined, plain_setting, resolve
from harness.domain.errors import SuiteError
from harness.domain.grid import product
from harness.domain.handy import alike, dataset, direction, fold, metric, mlp, reference, sgd
from harness.domain.reference import (
    ARM_COLUMNS,
    EPOCH_QUANTITIES,
    TRIAL_QUANTITIES,
    Alike,
    Direction,
    Reference,
    load_references,
)
from harness.domain.setting import EXECUTION, Setting
from harness.domain.suite import Suite
from harness.domain.trial import Trial
from harness.plan import in_full, plan
from harness.record.schema import EPOCHS, TRIALS

BASE = Setting(dataset="mnist5k", model=mlp(8), epochs=10)
SUITE = Suite(name="s", base=BASE, grid=product(batch_size=[16, 32, 64]), repeats=2)


def published(name: str = "A2", **fields: Any) -> Reference:
    return reference(name, **({"metric": "val_accuracy", "epoch": 10, "value": 0.9} | fields))


def groups(suite: Suite = SUITE, **fields: Any) -> list[int]:
    """How many settings each group has that a reference with these fields holds for."""
    (found,) = resolve([published(**fields)], in_full(suite))
    return [len(group) for group in found.groups]


# What a reference may say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tolerance": "x"}, "reference 'A2': tolerance must be a number, got 'x'"),
        ({"tolerance": -0.01}, "tolerance must be at least 0"),
        ({"value": float("nan")}, "value must be a finite number"),
        ({"value": True}, "value must be a number, got True"),
        ({"value": None}, "give what is expected: either a value, or at_least or at_most"),
        ({"at_most": 1.0}, "give what is expected: either a value, or at_least or at_most"),
        ({"value": None, "at_most": 1.0, "tolerance": 0.1}, "a tolerance goes with a value"),
        ({"value": None, "at_most": 1.0, "at_least": 2.0}, "at_least is 2, more than at_most, 1"),
        ({"epoch": 0}, "epoch: expected a whole number from 1,"),
        ({"epoch": True}, "epoch: expected a whole number from 1,"),
        ({"epoch": "first"}, "got 'first'"),
        ({"epoch": None}, "without an epoch 'val_accuracy' is no quantity of a trial; say epoch=10"),
        ({"epoch": None, "metric": "wal_s"}, "did you mean 'wall_s'?"),
        ({"epoch": None, "metric": "time_to_tarjet"}, "did you mean 'time_to_target'?"),
        ({"metric": "time_to_target"}, "'time_to_target' is of the whole trial; leave epoch=10 away"),
        ({"metric": "wall_s"}, "'wall_s' is of the whole trial; leave epoch=10 away"),
        ({"metric": "1 + 1"}, "metric: '1 + 1' is no recorded quantity"),
        ({"metric": "val_accuracy -"}, "metric: expression 'val_accuracy -', column"),
        ({"metric": "accuracy - val_accuracy", "epoch": "best"}, '"best" takes a single quantity'),
        ({"where": "batch_size = 3"}, "where: expression"),
        ({"where": "save_model"}, "where: save_model changes nothing of a training"),
        ({"over": "seed"}, "over: the mean is taken within one seed and arm, so 'seed' cannot be among its axes"),
        ({"over": ["backend"]}, "so 'backend' cannot be among its axes"),
        ({"hardware": 3}, "hardware must be a text, got 3"),
    ],
)
def test_a_reference_that_says_nothing_sensible_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        published(**fields)
    assert says in str(refused.value)
    assert str(refused.value).startswith("reference 'A2': ")


def test_a_direction_needs_two_groups() -> None:
    with pytest.raises(SuiteError, match="direction 'A4': higher and lower are the same condition"):
        direction("A4", metric="loss", epoch=1, higher="epochs == 1", lower="epochs==1")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"within": 0}, "alike 'A2': within must be above 0"),
        ({"within": "a quarter"}, "within must be a number, got 'a quarter'"),
        ({"within": float("inf")}, "within must be a finite number"),
        ({"where": "batch_size = 3"}, "alike 'A2': where: expression"),
        ({"metric": "val_accuracy"}, "without an epoch 'val_accuracy' is no quantity of a trial; say epoch=10"),
    ],
)
def test_a_likeness_that_says_nothing_sensible_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        alike("A2", **({"metric": "time_to_target", "within": 0.25} | fields))
    assert says in str(refused.value)


def test_a_likeness_needs_two_settings_or_arms() -> None:
    one = alike("A2", metric="train_s", where="batch_size == 16", within=0.25)
    with pytest.raises(SuiteError, match=r"alike 'A2': one setting alone meets 'batch_size == 16'; .* at least two"):
        resolve([one], in_full(SUITE))
    arms = Suite(name="s", base=BASE, grid=product(batch_size=[16, 32], dispatch=["epoch", "step"]))
    (found,) = resolve([one], in_full(arms))
    assert [len(group) for group in found.groups] == [1]
    (found,) = resolve([alike("A2", metric="train_s", within=0.25)], in_full(SUITE))
    assert [len(group) for group in found.groups] == [1, 1, 1]


@pytest.mark.parametrize(
    "one",
    [
        alike("A2", metric="time_to_target", within=0.25),
        reference("A2", metric="time_to_target / train_s", at_most=0.5),
        direction("A2", metric="time_to_target", higher="batch_size == 16", lower="batch_size == 32"),
    ],
)
def test_a_time_to_the_target_needs_a_target(one: Any) -> None:
    kind = type(one).__name__.lower()
    with pytest.raises(
        SuiteError, match=f"{kind} 'A2': metric: .* is the time to the suite's target, and there is none"
    ):
        Suite(name="s", base=BASE, references=[one])
    assert Suite(name="s", base=BASE, references=[one], target=0.9).references == (one,)


def test_a_suite_takes_references_alone() -> None:
    with pytest.raises(SuiteError, match=r"expected reference\(...\), direction\(...\) or alike\(...\), got \{"):
        Suite(name="s", base=BASE, references=[{"name": "A2"}])
    with pytest.raises(SuiteError, match="references: expected a list"):
        Suite(name="s", base=BASE, references=published())


def test_what_is_published_does_not_change_what_is_asked() -> None:
    assert Suite(name="s", base=BASE, references=[published()]).sha256() == Suite(name="s", base=BASE).sha256()


def test_the_quantities_are_columns_of_the_tables() -> None:
    assert set(EPOCH_QUANTITIES) <= set(EPOCHS.names())
    assert set(TRIAL_QUANTITIES) <= set(TRIALS.names())
    assert set(ARM_COLUMNS) == set(EXECUTION)
    assert set(ARM_COLUMNS.values()) <= set(TRIALS.names())


# Which settings it holds for ------------------------------------------------------------------------------------


def test_each_setting_that_meets_the_condition_is_a_group_of_its_own() -> None:
    assert groups() == [1, 1, 1]
    assert groups(where="batch_size >= 32") == [1, 1]
    assert groups(where="batch_size >= 32 and seed == 1") == [1, 1]
    assert groups(where="optimizer.momentum == 0.9 or batch_size == 16") == [1]


def test_a_setting_in_several_arms_is_one() -> None:
    assert groups(Suite(name="s", base=BASE, grid=product(dispatch=["epoch", "step"]))) == [1]


def test_settings_that_differ_by_the_axes_of_the_mean_are_one_group() -> None:
    base = Setting(dataset=dataset("mnist5k", held_out=fold(0, of=3)), model=mlp(8), epochs=10)
    grid = product({"dataset.held_out.k": [0, 1, 2], "optimizer.learning_rate": [0.01, 0.1]})
    assert groups(Suite(name="s", base=base, grid=grid), over="dataset.held_out.k") == [3, 3]
    assert groups(Suite(name="s", base=base, grid=grid), over=["dataset.held_out.k", "optimizer.learning_rate"]) == [6]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"where": "batch_size == 128"}, "reference 'A2': no setting of the suite meets 'batch_size == 128'"),
        ({"where": "batch_sise == 16"}, "unknown path 'batch_sise'; did you mean 'batch_size'?"),
        ({"over": "dataset.held_out.k"}, "over: unknown path 'dataset.held_out.k'"),
        ({"epoch": 11}, "epoch is 11, but a training that it selects has only 10"),
        ({"metric": "val_acuracy"}, "'val_acuracy' is not recorded; did you mean 'val_accuracy'?"),
        ({"metric": "val_r2_score"}, "others of Keras's are added by metrics=[...]"),
    ],
)
def test_a_reference_that_no_setting_can_meet_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        groups(**fields)
    assert says in str(refused.value)


def test_a_metric_that_was_asked_for_can_be_published() -> None:
    base = BASE.model_copy(update={"metrics": (metric("R2Score"),)})
    assert groups(Suite(name="s", base=base), metric="val_r2_score") == [1]


def test_a_suite_in_full_is_what_a_plan_without_changes_has() -> None:
    suite = Suite(name="s", base=BASE, grid=product(batch_size=[16, 32]).exclude("batch_size == 32"), seeds=[3, 5])
    assert [trial.key for trial in in_full(suite)] == [trial.key for trial in plan(suite).trials]


def test_a_reference_survives_the_way_through_json() -> None:
    found = resolve(
        [
            published(over="batch_size"),
            direction("A4", metric="loss", epoch=1, higher="seed == 0", lower="seed == 1"),
            alike("A2", metric="time_to_target", within=0.25),
        ],
        in_full(SUITE),
    )
    again = [applied(json.loads(json.dumps(one.plain()))) for one in found]
    assert tuple(again) == found
    assert isinstance(again[1].reference, Direction)
    assert isinstance(again[2].reference, Alike)
    with pytest.raises(SuiteError, match="expected a reference with its kind and settings"):
        applied({"kind": "bound"})


def test_a_setting_is_read_again_from_its_canonical_text() -> None:
    setting = Setting(dataset=dataset("mnist5k", take=100), optimizer=sgd(0.5), cpus=2)
    arm = {name: getattr(setting, name) for name in ARM_COLUMNS}
    assert plain_setting(setting.canonical(), arm) == setting.plain()
    assert plain_setting(Setting().canonical(), {}) == Setting().plain()


def test_groups_do_not_depend_on_what_is_left_out_at_its_default() -> None:
    settings = [Setting(optimizer=sgd(rate)) for rate in (0.01, 0.1)]  # the first is the default
    trials = [Trial(setting=one, seed=0, repeat=0) for one in settings]
    plain = [(plain_setting(one.setting.canonical(), {}), one.setting_id) for one in trials]
    assert [len(group) for group in joined(["optimizer.learning_rate"], plain)] == [2]


# A file of the user's own ---------------------------------------------------------------------------------------


def test_a_file_of_ones_own_has_the_same_fields(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        '[[reference]]\nname = "fast"\nmetric = "train_s"\nepoch = "all"\nat_most = 0.2\nhardware = "EPYC"\n'
        '[[direction]]\nname = "A3"\nmetric = "val_accuracy"\nepoch = 10\n'
        'higher = "batch_size == 16"\nlower = "batch_size == 64"\n'
        '[[alike]]\nname = "A2"\nmetric = "time_to_target"\nwithin = 0.25\n'
    )
    first, second, third = load_references(file)
    assert first == reference("fast", metric="train_s", epoch="all", at_most=0.2, hardware="EPYC")
    assert isinstance(second, Direction)
    assert third == alike("A2", metric="time_to_target", within=0.25)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[reference]]\nname = ", "is no TOML (Invalid value"),
        ("\xff", "is no TOML ("),
        ("", "holds no reference; write tables [[reference]]"),
        ("[[refrence]]\n", "unknown table 'refrence'; did you mean 'reference'?"),
        ("[reference]\nname = 'x'\n", "reference is not a list of tables; write [[reference]], in double brackets"),
        ("[[reference]]\nname = 'x'\n", "[[reference]] number 1: reference 'x': metric is missing"),
        (
            "[[reference]]\nname = 'x'\nmetric = 'loss'\nepoch = 1\nvalue = 1\n"
            "[[reference]]\nname = 'y'\nmetric = 'loss'\nepoch = 1\nvalue = 'much'\n",
            "[[reference]] number 2: reference 'y': value must be a number, got 'much'",
        ),
        (
            "[[reference]]\nname = 'x'\nmetric = 'loss'\nepoch = 1\nvalue = 1\ntolerence = 1\n",
            "unknown field 'tolerence'; did you mean 'tolerance'?",
        ),
    ],
)
def test_a_file_of_ones_own_that_is_wrong_is_named_with_the_place(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(SuiteError) as refused:
        load_references(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert says in str(refused.value)


def test_a_file_of_ones_own_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"own\.toml: cannot be read \(No such file or directory\)"):
        load_references(tmp_path / "own.toml")
