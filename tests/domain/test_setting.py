from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import handy
from harness.domain.errors import SuiteError
from harness.domain.handy import (
    adam,
    application,
    dataset,
    early_stopping,
    fold,
    function,
    initializer,
    layer,
    learning_rate,
    loss,
    minimise,
    mlp,
    optimizer,
    regularizer,
    rmsprop,
    sequential,
    sgd,
    tail,
)
from harness.domain.setting import EXECUTION, Setting, canonical_numbers
from harness.domain.trial import Trial


def own_model(input_shape: tuple[int, ...], outputs: int, width: int = 8) -> Any: ...


def base(**fields: Any) -> Setting:
    return Setting(**{"dataset": "mnist5k", "model": mlp(128), "optimizer": sgd(0.1), "epochs": 20} | fields)


GOLDEN = {
    "c69b0ac2e22c": base(),
    "3f6d8ed84404": base(batch_size=64),
    "ab1150273386": base(optimizer=adam(learning_rate("CosineDecay", initial_learning_rate=0.01, decay_steps=100))),
    "dfe297608eda": base(
        model=sequential("Flatten", layer("Dense", units=10, activation="softmax", kernel_regularizer="l2")),
        dataset=dataset("mnist", take=20000, scale="none", held_out=tail(0.2)),
    ),
    "7dc8fa4ae320": base(model=application("ResNet50"), loss=loss("categorical_crossentropy", label_smoothing=0.1)),
}


@pytest.mark.parametrize("setting_id", GOLDEN)
def test_the_ids_of_today_stay_the_ids_of_tomorrow(setting_id: str) -> None:
    assert GOLDEN[setting_id].setting_id == setting_id


def test_a_trial_id_adds_the_seed() -> None:
    first, second = (Trial(setting=base(), seed=seed, repeat=seed) for seed in (0, 1))
    assert first.trial_id == "e9702bed2e48"
    assert first.trial_id != second.trial_id
    assert first.setting_id == second.setting_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (base(optimizer=optimizer("SGD", learning_rate=0.1)), base(optimizer=sgd(0.1))),
        (base(optimizer={"name": "sgd", "learning_rate": 0.1}), base(optimizer=sgd(0.1))),
        (base(optimizer=sgd(1)), base(optimizer=sgd(1.0))),
        (
            base(optimizer=rmsprop(0.1, momentum=0.5, rho=0.8)),
            base(optimizer=optimizer("RMSprop", rho=0.8, momentum=0.5, learning_rate=0.1)),
        ),
        (base(loss="CategoricalCrossentropy"), base()),
        (base(loss="MSE"), base(loss=loss("mean_squared_error"))),
        (base(model=mlp(128, activation="swish")), base(model=mlp([128], activation="silu"))),
        (
            base(model=mlp(8, kernel_initializer=initializer("HeNormal"))),
            base(model=mlp(8, kernel_initializer="he_normal")),
        ),
        (base(model=mlp(8, kernel_regularizer=regularizer("L2"))), base(model=mlp(8, kernel_regularizer="l2"))),
        (
            base(model=sequential(layer("Convolution2D", filters=1, kernel_size=(3, 3)))),
            base(model=sequential(layer("Conv2D", kernel_size=[3, 3], filters=1))),
        ),
        (base(dataset=dataset("mnist5k")), base(dataset="mnist5k")),
        (base(dataset=dataset("mnist5k", held_out=handy.test())), base()),
        (
            base(dataset=dataset("mnist5k", held_out=fold(0, of=5, how="contiguous"))),
            base(dataset=dataset("mnist5k", held_out=fold(0, of=5))),
        ),
        (base(model=own_model), base(model=function(own_model))),
        (base(workload="training"), base()),
    ],
)
def test_spelling_does_not_change_a_setting(one: Setting, other: Setting) -> None:
    assert one == other
    assert one.setting_id == other.setting_id


def test_every_field_of_the_mathematics_changes_the_id() -> None:
    others = [
        base(dataset="mnist"),
        base(dataset=dataset("mnist5k", take=100)),
        base(dataset=dataset("mnist5k", scale="none")),
        base(dataset=dataset("mnist5k", held_out=tail(0.2))),
        base(model=mlp(64)),
        base(model=function(own_model)),
        base(model=function(own_model, width=9)),
        base(optimizer=sgd(0.2)),
        base(loss="mse"),
        base(batch_size=31),
        base(epochs=21),
        base(shuffle=False),
        base(workload=function(own_model)),
    ]
    assert len({setting.setting_id for setting in [base(), *others]}) == len(others) + 1


EXECUTED = {"engine": "graph", "dispatch": "step", "cpus": 2, "gpus": 1, "exclusive": True, "label": "again"}


@given(st.sets(st.sampled_from(sorted(EXECUTED))))
def test_how_a_setting_is_executed_names_the_arm_and_leaves_its_id_alone(names: set[str]) -> None:
    setting = base(**{name: EXECUTED[name] for name in names})
    assert setting.setting_id == base().setting_id
    assert (setting.arm == "default") is (not names)
    assert [part.partition("=")[0] for part in setting.arm.split(",")] == (sorted(names) or ["default"])
    assert set(EXECUTED) <= set(EXECUTION)


@pytest.mark.parametrize("setting", GOLDEN.values())
def test_a_setting_comes_back_from_its_plain_form(setting: Setting) -> None:
    assert Setting(**setting.plain()) == setting


def test_an_own_function_comes_back_from_its_plain_form() -> None:
    setting = base(model=function(own_model, width=3), dataset=own_model, workload=function(own_model))
    assert Setting(**setting.plain()) == setting
    assert setting.model is not None
    assert setting.model.args["function"] == "own_model"
    assert setting.model.args["width"] == 3
    assert setting.dataset is not None
    assert setting.dataset.name == "function"


def test_options_go_with_an_own_dataset() -> None:
    own = dataset(own_model, take=5, held_out=tail(0.5), width=3)
    assert (own.name, own.take, own.held_out, own.args["width"]) == ("function", 5, tail(0.5), 3)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"batch_size": 0}, "Setting: batch_size must be at least 1, got 0"),
        ({"epochs": "3"}, "Setting: epochs must be a whole number, got '3'"),
        ({"gpus": 1.5}, "gpus must be a whole number or a fraction of one"),
        ({"batchsize": 3}, "unknown field 'batchsize'; did you mean 'batch_size'? the fields are: dataset, model"),
        ({"optimizer": 3}, "expected an optimizer"),
        ({"optimizer": mlp(3)}, "expected an optimizer, got the model 'mlp'"),
        ({"optimizer": "sgdd"}, "unknown optimizer 'sgdd'; did you mean 'sgd'?"),
        ({"optimizer": "gradient"}, "unknown optimizer 'gradient'; known optimizer names: adadelta"),
        ({"loss": "crossentropie"}, "unknown loss 'crossentropie'; did you mean"),
        ({"model": "resnet5"}, "unknown model 'resnet5'; did you mean 'ResNet50'"),
        ({"model": lambda: 3}, "cannot be sent to a worker"),
        ({"model": print}, "has no Python source file"),
        ({"workload": "trainig"}, "unknown workload 'trainig'; did you mean 'training'?"),
        ({"dataset": 3}, "expected a dataset"),
        ({"dataset": {"name": "mnist", "scale": "log"}}, "scale must be 'none', 'unit', 'standard' or 'columns'"),
        ({"dataset": {"name": "mnist", "take": 1.5}}, "take must be a whole number, got 1.5"),
        ({"dataset": {"take": 5}}, "name is missing"),
        ({"optimizer": {"learning_rate": 5}}, "an optimizer needs a name"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_one_clear_error(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        base(**fields)
    assert says in str(refused.value)


def test_early_stopping_is_on_what_is_measured() -> None:
    stop = early_stopping("val_r2_score", patience=2)
    with pytest.raises(SuiteError, match="unknown metric 'val_r2_score'; the metrics are: loss"):
        Setting(early_stopping=stop)
    assert Setting(early_stopping=stop, metrics=["r2_score"]).metrics[0].name == "r2_score"
    with pytest.raises(SuiteError, match="the workload 'minimise' has no weights to keep"):
        Setting(early_stopping=early_stopping(best_weights=True), workload=minimise("beale", start=[1, 1]))


def test_what_is_looked_at_besides_changes_neither_id_nor_arm() -> None:
    plain, more = Setting(), Setting(metrics=["r2_score"], save_model=True, tensorboard=True)
    assert (plain.setting_id, plain.arm) == (more.setting_id, more.arm)
    with pytest.raises(SuiteError, match="'r2_score' is there twice"):
        Setting(metrics=["r2_score", "r2_score"])


def test_the_metric_that_early_stopping_watches_is_part_of_the_id() -> None:
    stop = early_stopping("val_f1_score")
    ids = {
        Setting(early_stopping=stop, metrics=[handy.metric("f1_score", average=how)]).setting_id
        for how in ("macro", "micro")
    }
    assert len(ids) == 2
    assert Setting(metrics=["f1_score"]).setting_id == Setting().setting_id


@pytest.mark.parametrize("metric", ["accuracy", handy.function(canonical_numbers)])
def test_a_metric_that_is_recorded_anyway_or_a_function_is_refused(metric: object) -> None:
    with pytest.raises(SuiteError, match="name those of Keras's that are wanted besides"):
        Setting(metrics=[metric])


def test_a_function_with_an_argument_called_optimizer_needs_no_back_end() -> None:
    assert Setting(workload=handy.function(canonical_numbers, optimizer="adam")).needs == "none"
    assert Setting(workload=minimise("beale", start=[1, 1], optimizer="adam")).needs == "tensorflow"
