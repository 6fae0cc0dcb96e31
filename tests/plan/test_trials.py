"""What trials a request for a suite comes to, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.domain.errors import HarnessError, SuiteError
from harness.domain.grid import cases, product, zipped
from harness.domain.handy import adam, dataset, mlp, program, sgd, tail
from harness.domain.setting import Setting
from harness.domain.suite import Suite, load_suite, reach
from harness.plan import Plan, parse_override, plan

REPOSITORY = Path(__file__).parents[2]
BASE = Setting(dataset="mnist5k", model=mlp(128), optimizer=sgd(0.1), epochs=20)


def nothing(seconds: float = 0) -> None: ...


def suite(**fields: Any) -> Suite:
    return Suite(**{"name": "s", "base": BASE, "grid": product(batch_size=[16, 32, 64, 128])} | fields)


def change(suite: Suite, *overrides: str, **options: Any) -> Plan:
    return plan(suite, overrides=[parse_override(text) for text in overrides], **options)


def axis(made: Plan, path: str) -> list[Any]:
    return [dict(trial.axes)[path] for trial in made.trials]


# Trials ------------------------------------------------------------------------------------------------------


def test_a_plan_has_each_setting_with_each_seed() -> None:
    made = plan(suite(seeds=[5, 7], timeout="2m"))
    assert [(trial.setting.batch_size, trial.seed, trial.repeat) for trial in made.trials[:3]] == [
        (16, 5, 0),
        (16, 7, 1),
        (32, 5, 0),
    ]
    assert (made.settings, len(made.trials)) == (4, 8)
    assert made.axes == {"batch_size": (16, 32, 64, 128)}
    assert {trial.timeout_s for trial in made.trials} == {120}
    assert len({trial.key for trial in made.trials}) == 8


def test_a_suite_without_a_grid_is_its_base() -> None:
    made = plan(suite(grid=None, repeats=2))
    assert [(trial.setting, trial.seed, trial.axes) for trial in made.trials] == [(BASE, 0, ()), (BASE, 1, ())]


def test_axes_stand_in_tables_as_numbers_and_short_texts() -> None:
    grid = product({"model.hidden": [64, [128, 64]], "optimizer": ["SGD", adam(0.01)], "dataset": ["mnist5k"]})
    made = plan(suite(grid=grid))
    assert made.axes == {
        "model.hidden": (64, "[128, 64]"),
        "optimizer": ("sgd", "adam(learning_rate=0.01)"),
        "dataset": ("mnist5k",),
    }


def test_the_trial_of_a_setting_is_the_same_however_it_is_reached() -> None:
    reached = [
        plan(suite(grid=cases({"batch_size": 64, "optimizer.learning_rate": 0.3}))),
        plan(suite(grid=product(optimizer=[sgd(0.3)], batch_size=[64]))),
        change(suite(), "batch_size=64", "optimizer.learning_rate=0.3"),
        plan(suite(grid=None, base=Setting(**BASE.plain() | {"batch_size": 64, "optimizer": sgd(0.3)}))),
    ]
    assert len({made.trials[0].trial_id for made in reached}) == 1


def test_points_that_a_condition_leaves_out_are_in_the_plan_with_the_reason() -> None:
    made = plan(suite(grid=product(batch_size=[16, 32]).where("batch_size > 16")))
    assert [(dict(item.point), item.reason) for item in made.excluded] == [
        ({"batch_size": 16}, "where batch_size > 16")
    ]


# --set -------------------------------------------------------------------------------------------------------


def test_an_override_replaces_an_axis_and_merges_what_is_then_the_same() -> None:
    made = change(suite(), "batch_size=8")
    assert axis(made, "batch_size") == [8]
    made = change(suite(), "batch_size=8,9")
    assert axis(made, "batch_size") == [8, 9]
    grid = zipped(batch_size=[16, 32], epochs=[5, 5]) + cases({"epochs": 10})
    made = change(suite(grid=grid), "batch_size=8,9")
    assert [(trial.setting.batch_size, trial.setting.epochs) for trial in made.trials] == [
        (8, 5),
        (8, 10),
        (9, 5),
        (9, 10),
    ]


def test_an_override_of_another_path_multiplies_the_grid_or_just_sets() -> None:
    made = change(suite(), "optimizer.learning_rate=0.1,0.3")
    assert (made.settings, set(made.axes)) == (8, {"batch_size", "optimizer.learning_rate"})
    made = change(suite(), "optimizer.learning_rate=0.3")
    assert (made.settings, set(made.axes)) == (4, {"batch_size"})
    assert {trial.setting.optimizer.args["learning_rate"] for trial in made.trials} == {0.3}


def test_an_override_of_a_part_holds_for_every_component_of_the_grid() -> None:
    made = change(suite(grid=product(optimizer=[sgd(0.1), adam(0.01)])), "optimizer.learning_rate=0.5")
    assert [str(trial.setting.optimizer) for trial in made.trials] == [
        "sgd(learning_rate=0.5)",
        "adam(learning_rate=0.5)",
    ]


def test_conditions_and_computed_axes_see_the_override() -> None:
    grid = product(batch_size=[16, 32]).where("batch_size > 16").compute(epochs="640 // batch_size")
    made = change(suite(grid=grid), "batch_size=8,64,128")
    assert [(trial.setting.batch_size, trial.setting.epochs) for trial in made.trials] == [(64, 10), (128, 5)]
    assert [item.point["batch_size"] for item in made.excluded] == [8]
    assert axis(change(suite(grid=grid), "epochs=3"), "epochs") == [3]


def test_the_name_of_the_dataset_can_be_set_alone() -> None:
    base = Setting(**BASE.plain() | {"dataset": dataset("mnist5k", take=100, held_out=tail(0.2))})
    changed = change(suite(base=base, grid=None), "dataset=synthetic").trials[0].setting.dataset
    assert changed == dataset("synthetic", take=100, held_out=tail(0.2))


def test_repeats_seeds_target_and_timeout_can_be_set() -> None:
    made = change(suite(repeats=3, target=0.9, timeout=5), "repeats=2", "target=val_loss <= 0.4", "timeout=1m")
    assert len(made.trials) == 8
    assert made.target == reach("val_loss", at_most=0.4)
    assert made.trials[0].timeout_s == 60
    assert [trial.seed for trial in change(suite(grid=None), "seeds=3,5").trials] == [3, 5]
    assert [trial.seed for trial in change(suite(grid=None, seeds=[3, 5, 7]), "repeats=2").trials] == [3, 5]
    assert [trial.seed for trial in change(suite(grid=None, repeats=5), "seeds=[3]").trials] == [3]
    assert change(suite(target=0.9), "target=null").target is None


def test_small_changes_what_it_says_and_set_has_the_last_word() -> None:
    small = {"grid": product(batch_size=[8, 9]), "epochs": 2, "repeats": 1, "optimizer": adam(0.01)}
    made = plan(suite(repeats=3, small=small), small=True)
    assert [(trial.setting.batch_size, trial.setting.epochs) for trial in made.trials] == [(8, 2), (9, 2)]
    assert made.trials[0].setting.optimizer == adam(0.01)
    made = change(suite(repeats=3, small=small), "epochs=4", "repeats=2", "batch_size=7", small=True)
    assert [(trial.setting.batch_size, trial.setting.epochs) for trial in made.trials] == [(7, 4), (7, 4)]
    with pytest.raises(SuiteError, match="the suite 's' has no small variant"):
        plan(suite(), small=True)


# --where -----------------------------------------------------------------------------------------------------


def test_where_sees_the_setting_and_the_seed() -> None:
    made = plan(suite(repeats=3), where=["batch_size <= 32", "seed != 1 or batch_size == 16"])
    assert [(trial.setting.batch_size, trial.seed, trial.repeat) for trial in made.trials] == [
        (16, 0, 0),
        (16, 1, 1),
        (16, 2, 2),
        (32, 0, 0),
        (32, 2, 2),
    ]
    assert made.settings == 2
    assert {item.reason for item in made.excluded} == {
        "--where batch_size <= 32",
        "--where seed != 1 or batch_size == 16",
    }


# What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "options", "says"),
    [
        ({"grid": product(batch_size=[8192])}, {}, "batch_size is 8192, but the dataset 'mnist5k' gives 4000 samples"),
        ({"base": Setting(model=mlp(8))}, {}, "a training needs a dataset, and batch_size=16 has none; say data"),
        ({"base": Setting(dataset="mnist5k")}, {}, "a training needs a model"),
        ({"grid": product(dataset=["mnist6k"])}, {}, "unknown dataset 'mnist6k'"),
        ({"grid": product({"dataset.take": [5000]})}, {}, "dataset.take is 5000, but the dataset 'mnist5k' holds 4000"),
        ({"grid": product({"dataset.tak": [5]})}, {}, "dataset.tak"),
        ({"grid": product(optimizer=["sgd", "SGD"])}, {}, "number 1 (optimizer=sgd) and number 2 (optimizer=SGD)"),
        ({"grid": cases({}, {"epochs": 20})}, {}, "number 1 (the base itself) and number 2 (epochs=20)"),
        ({"grid": product(epochs=[1]) + product(epochs=[1])}, {}, "two points of the grid are the same setting"),
        ({"grid": product(epochs=[1]).where("epochs > 1")}, {}, "all 1 of its points are left out by where epochs > 1"),
        ({}, {"where": ["batch_size > 999"]}, "no trial is left: all 4 were left out by --where batch_size > 999"),
        ({}, {"where": ["batchsize > 1"]}, "unknown path 'batchsize'; did you mean 'batch_size'? the paths are: seed"),
        ({}, {"where": ["batch_size >"]}, "expression 'batch_size >', column"),
        ({}, {"overrides": [("batchsize", (1,))]}, "unknown path 'batchsize'; did you mean 'batch_size'?"),
        ({}, {"overrides": [("batch_size", (0,))]}, "batch_size = 0: batch_size must be at least 1"),
        ({}, {"overrides": [("repeats", (0,))]}, "repeats must be at least 1, got 0"),
        ({}, {"overrides": [("repeats", (1, 2))]}, "repeats takes one value, got 1, 2"),
        ({"seeds": [1, 2]}, {"overrides": [("repeats", (3,))]}, "repeats is 3, but only 2 seeds are given"),
        ({}, {"overrides": [("target", (2,))]}, "no training can reach val_accuracy 2"),
        ({}, {"overrides": [("timeout", ("soon",))]}, "'soon' is no duration"),
        ({"small": {"epoch": 3}}, {"small": True}, "unknown path 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_a_request_that_cannot_be_right_is_one_clear_error(
    fields: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(HarnessError) as refused:
        plan(suite(**fields), **options)
    assert says in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_workload_of_ones_own_needs_neither_model_nor_dataset() -> None:
    made = plan(Suite(name="s", base=Setting(workload=nothing), grid=product({"workload.seconds": [1, 2]})))
    assert [trial.setting.workload.args["seconds"] for trial in made.trials] == [1, 2]


def test_an_error_names_the_suite_file(tmp_path: Path) -> None:
    file = tmp_path / "question.py"
    head = "from harness import *\nbase = Setting(dataset='mnist5k', model=mlp(8))\n"
    file.write_text(head + "suite = Suite(name='s', base=base, grid=product(batch_size=[16, 0]))\n")
    with pytest.raises(SuiteError) as refused:
        plan(load_suite(file))
    assert str(refused.value) == f"{file}: batch_size = 0: batch_size must be at least 1, got 0"


def test_a_word_of_a_program_that_no_setting_has_is_found_by_the_plan() -> None:
    base = Setting(workload=program("train --rate {optimizer.learning_rat}"))
    with pytest.raises(SuiteError, match=r"optimizer\.learning_rat"):
        plan(Suite(name="s", base=base))


def test_settings_that_differ_only_in_what_is_kept_of_them_are_refused() -> None:
    grid = product(save_model=[False, True])
    with pytest.raises(SuiteError, match="save_model: two settings that differ in nothing else are one in the records"):
        plan(suite(grid=grid))
    assert plan(suite(grid=grid * product(batch_size=[16]), base=BASE), overrides=[parse_override("save_model=true")])


# The whole ---------------------------------------------------------------------------------------------------


def test_ten_thousand_settings_have_ten_thousand_keys() -> None:
    grid = product(batch_size=range(1, 11), epochs=range(1, 11)) * product(
        {"optimizer.learning_rate": [number / 10 for number in range(1, 11)], "model.hidden": range(1, 11)}
    )
    made = plan(suite(grid=grid.where("batch_size > 0")))
    assert len({trial.key for trial in made.trials}) == made.settings == 10_000


def test_loading_and_planning_import_nothing_heavy() -> None:
    code = f"""
import sys
from harness.domain.suite import load_suite
from harness.plan import plan
plan(load_suite({str(REPOSITORY / "suites" / "batch_size.py")!r}))
heavy = {{"tensorflow", "keras", "ray", "numpy", "pandas", "pyarrow", "jax", "torch"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "[]\n"


def test_importing_the_package_loads_nothing_until_it_is_asked_for() -> None:
    code = """
import sys, harness
print([name for name in sys.modules if name.startswith(("harness.", "pydantic"))])
from harness import *
assert callable(sgd) and harness.__version__
print("pyarrow" in sys.modules, all(hasattr(harness, name) for name in harness.__all__))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "[]\nFalse True\n"


def test_more_trials_than_anyone_can_run_are_refused_at_once() -> None:
    with pytest.raises(SuiteError, match="more than 1,000,000"):
        plan(suite(grid=product({"optimizer.learning_rate": range(1, 3001)}, batch_size=range(1, 3001))))
    with pytest.raises(SuiteError, match="more than 1,000,000 trials"):
        plan(suite(grid=product(batch_size=range(1, 101)), repeats=100_000))
