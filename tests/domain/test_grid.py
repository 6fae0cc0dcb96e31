from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.errors import SuiteError
from harness.domain.grid import Context, Grid, Points, cases, product, show, zipped
from harness.domain.handy import adam, layer, mlp, sequential, sgd, tail
from harness.domain.paths import Resolver
from harness.domain.setting import Setting

BASE = Setting(dataset="mnist5k", model=mlp(128), optimizer=sgd(0.1), epochs=20)


def points(grid: Grid, base: Setting = BASE, **fixed: Any) -> Points:
    return grid.points(Context(Resolver(base), fixed))


def settings(grid: Grid, base: Setting = BASE) -> list[Setting]:
    resolver = Resolver(base)
    return [resolver.setting(resolver.fields(point)) for point in grid.points(Context(resolver)).kept]


# What grids come to ------------------------------------------------------------------------------------------


def test_a_product_has_every_combination_the_last_axis_fastest() -> None:
    found = points(product({"optimizer.learning_rate": [0.1, 0.2]}, batch_size=[16, 32])).kept
    assert found == [
        {"optimizer.learning_rate": 0.1, "batch_size": 16},
        {"optimizer.learning_rate": 0.1, "batch_size": 32},
        {"optimizer.learning_rate": 0.2, "batch_size": 16},
        {"optimizer.learning_rate": 0.2, "batch_size": 32},
    ]


def test_zipped_axes_move_together_and_may_repeat_a_value() -> None:
    found = points(zipped(batch_size=[16, 32, 64], epochs=[5, 5, 10])).kept
    assert [tuple(point.values()) for point in found] == [(16, 5), (32, 5), (64, 10)]


def test_cases_leave_to_the_base_what_they_do_not_say() -> None:
    found = settings(cases({"batch_size": 16}, {"epochs": 3}))
    assert [(setting.batch_size, setting.epochs) for setting in found] == [(16, 20), (32, 3)]


def test_a_condition_sees_the_base_and_the_point() -> None:
    grid = product(batch_size=[16, 32, 64])
    assert len(points(grid.where("batch_size > 16 and epochs == 20 and optimizer == 'sgd'")).kept) == 2
    found = points(grid.exclude("batch_size > 16"))
    assert [point["batch_size"] for point in found.kept] == [16]
    assert [(item.point["batch_size"], item.reason) for item in found.excluded] == [
        (32, "exclude batch_size > 16"),
        (64, "exclude batch_size > 16"),
    ]


def test_a_condition_on_an_argument_that_only_some_optimizers_have_is_no_error() -> None:
    grid = product(optimizer=[sgd(0.1, momentum=0.9), adam(0.01)])
    assert [setting.optimizer.name for setting in settings(grid.where("optimizer.momentum > 0.5"))] == ["sgd"]
    assert [setting.optimizer.name for setting in settings(grid.exclude("optimizer.momentum > 0.5"))] == ["adam"]


def test_a_computed_axis_follows_from_the_others_and_a_whole_quotient_is_a_whole_number() -> None:
    grid = product(batch_size=[16, 32]).compute(
        {"optimizer.learning_rate": "batch_size / 320"}, epochs="640 / batch_size"
    )
    found = settings(grid)
    assert [(setting.epochs, setting.optimizer.args["learning_rate"]) for setting in found] == [(40, 0.05), (20, 0.1)]


def test_a_point_may_replace_an_optimizer_and_set_its_rate_in_any_order() -> None:
    rates, optimizers = product({"optimizer.learning_rate": [0.3]}), product(optimizer=["sgd", "adam"])
    for grid in (rates * optimizers, optimizers * rates):
        assert [(each.optimizer.name, each.optimizer.args) for each in settings(grid)] == [
            ("sgd", {"learning_rate": 0.3}),
            ("adam", {"learning_rate": 0.3}),
        ]


def test_a_name_assigned_to_the_dataset_keeps_its_options_and_a_dataset_replaces_them() -> None:
    base = Setting(dataset={"name": "mnist", "take": 100, "held_out": tail(0.2)}, model=mlp(8))
    named, whole = settings(product(dataset=["mnist5k", {"name": "mnist5k"}]), base)
    assert named.dataset is not None
    assert (named.dataset.take, named.dataset.held_out) == (100, tail(0.2))
    assert whole.dataset is not None
    assert whole.dataset.take is None


def test_a_path_leads_into_the_layers_of_a_model() -> None:
    base = Setting(dataset="mnist5k", model=sequential("Flatten", layer("Dense", units=10)))
    found = settings(product({"model.layers.1.units": [10, 20], "model.layers.1.activation": ["swish"]}), base)
    assert [setting.model.args["layers"][1]["units"] for setting in found if setting.model] == [10, 20]
    assert found[0].model
    assert found[0].model.args["layers"][1]["activation"] == "silu"


# What grids always keep to -----------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 512), min_size=1, max_size=4, unique=True)
conditions = st.sampled_from(
    ["batch_size > 64", "batch_size % 2 == 0", "epochs < 10 or batch_size == 7", "epochs == 20"]
)


@given(sizes, sizes, sizes)
def test_a_product_is_as_large_as_its_axes_multiplied(first: list[int], second: list[int], third: list[int]) -> None:
    one, two, three = product(batch_size=first), product(epochs=second), product({"dataset.take": third})
    whole = product({"batch_size": first, "epochs": second, "dataset.take": third})
    assert len(points(whole).kept) == len(first) * len(second) * len(third)
    assert points((one * two) * three) == points(one * (two * three)) == points(whole)


@given(sizes, sizes, sizes)
def test_a_sum_is_as_large_as_its_parts_added(first: list[int], second: list[int], third: list[int]) -> None:
    one, two, three = product(batch_size=first), product(epochs=second), product(cpus=third)
    assert len(points(one + two).kept) == len(first) + len(second)
    assert points((one + two) + three) == points(one + (two + three))
    left = points((one + two) * three).kept
    right = points(one * three + two * three).kept
    assert left == right


@given(sizes, sizes, conditions)
def test_where_and_exclude_share_out_a_grid(first: list[int], second: list[int], condition: str) -> None:
    grid = product(batch_size=first, epochs=second)
    kept, left = points(grid.where(condition)), points(grid.exclude(condition))
    assert [item.point for item in kept.excluded] == left.kept
    assert [item.point for item in left.excluded] == kept.kept
    assert sorted(map(show, [*kept.kept, *left.kept])) == sorted(map(show, points(grid).kept))


@given(sizes, sizes)
def test_a_fixed_path_is_gone_from_the_grid(first: list[int], second: list[int]) -> None:
    grid = product(batch_size=first, epochs=second).where("batch_size == 3")
    assert points(grid, batch_size=3).kept == [{"epochs": value} for value in second]
    assert points(grid, batch_size=4).kept == []


# What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: product(), "product() is empty; give at least one axis"),
        (lambda: cases(), "cases() is empty"),
        (lambda: product(batch_size=[]), "the axis 'batch_size' is empty"),
        (lambda: product(batch_size=32), "the axis 'batch_size' needs a list of values, got 32"),
        (lambda: product(optimizer="sgd"), "the axis 'optimizer' needs a list of values, got 'sgd'"),
        (lambda: product(optimizer=sgd(0.1)), "the axis 'optimizer' needs a list of values"),
        (lambda: product(batch_size={16, 32}), "the axis 'batch_size' needs a list of values"),
        (lambda: product(batch_size=[16, 16]), "the axis 'batch_size' has the value 16 twice"),
        (lambda: product({"batch_size": [1]}, batch_size=[2]), "the axis 'batch_size' is declared twice"),
        (lambda: product({3: [1]}), "3 is no path"),
        (lambda: product([1, 2]), "product(...) takes axes by keyword, or a mapping"),
        (lambda: product(epochs=[float("nan")]), "the axis 'epochs': nan is not a finite number"),
        (lambda: product(epochs=[object()]), "an object cannot be part of a setting"),
        (lambda: zipped(batch_size=[1, 2], epochs=[1]), "batch_size has 2, epochs has 1"),
        (lambda: cases(16), "cases(...) takes mappings such as {'batch_size': 32}, got 16"),
        (lambda: product(epochs=[1]) * 3, "joined by `*` to another grid alone, got 3"),
        (lambda: product(epochs=[1]).where("epochs >"), "expression 'epochs >', column"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused_when_it_is_declared(declare: Callable[[], Grid], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        declare()
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (product(epochs=[1]) * product(epochs=[2]), "the axis 'epochs' is declared twice, on both sides of `*`"),
        (product(epochs=[1]).compute(epochs="2"), "the axis 'epochs' is declared twice: by its values, and as '2'"),
        (
            product(epochs=[1]).compute(batch_size="optimizer.momentum"),
            "computed axis batch_size = optimizer.momentum has no",
        ),
        (product(batchsize=[1]), "unknown path 'batchsize'; did you mean 'batch_size'? the paths are: dataset.name"),
        (product(seed=[1]), "say repeats=N or seeds=[...]"),
        (product({"epochs.x": [1]}), "unknown path 'epochs.x'; 'epochs' has no parts"),
        (product(batch_size=[16, 0]), "batch_size = 0: batch_size must be at least 1, got 0"),
        (product(batch_size=[16.5]), "batch_size = 16.5: batch_size must be a whole number, got 16.5"),
        (product(batch_size=[True]), "batch_size = true: batch_size must be a whole number, got True"),
        (product(engine=["tpu"]), "engine must be 'auto', 'xla', 'graph', 'eager' or 'fit', got 'tpu'"),
        (product(loss=[None]), "loss = null: loss must be named"),
        (
            product({"optimizer.lr": [1]}),
            "optimizer.lr = 1: optimizer 'sgd' has no argument 'lr'; its arguments are: learning",
        ),
        (product({"optimizer.learning_rate": ["fast"]}), "argument 'learning_rate': expected a number, got 'fast'"),
        (
            product({"model.hidden": [0]}),
            "model.hidden = 0: model 'mlp', argument 'hidden': expected a whole number from 1",
        ),
        (product({"model.layers.0.units": [1]}), "unknown path 'model.layers.0.units'; model has: name, hidden"),
        (product({"model.kind": ["x"]}), "'model.kind' cannot be an axis"),
        (product({"optimizer.learning_rate.decay_steps": [1]}), "optimizer.learning_rate is 0.1, which has no parts"),
        (product(optimizer=["sgdd"]), "optimizer = sgdd: unknown optimizer 'sgdd'; did you mean 'sgd'?"),
        (product({"dataset.take": [0]}), "dataset.take = 0: Dataset: take must be at least 1, got 0"),
        (product({"dataset.held_out": [tail(0.5)]}) * product({"dataset.held_out.k": [1]}), "has no argument 'k'"),
        (product(epochs=[1]).where("batchsize > 1"), "unknown path 'batchsize'; did you mean 'batch_size'?"),
        (product(epochs=[1]).where("optimizer.momentumm > 1"), "did you mean 'optimizer.momentum'?"),
        (product(epochs=[1]).where("batch_size"), "'batch_size' is no condition"),
    ],
)
def test_a_grid_that_does_not_fit_the_base_is_refused_with_what_would_be_right(grid: Grid, says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        settings(grid)
    assert says in str(refused.value)


def test_an_axis_inside_a_model_that_the_base_does_not_have_is_refused() -> None:
    with pytest.raises(SuiteError, match="model is nothing, which has no parts"):
        settings(product({"model.hidden": [1]}), Setting(dataset="mnist5k"))
    base = Setting(model=sequential("Flatten"))
    with pytest.raises(SuiteError, match=r"model\.layers has the parts 0 to 0"):
        settings(product({"model.layers.1.units": [1]}), base)
