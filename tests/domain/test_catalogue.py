from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.domain import catalogue, handy
from harness.domain.component import Component, make, text
from harness.domain.errors import SuiteError
from harness.domain.handy import (
    application,
    fold,
    initializer,
    layer,
    learning_rate,
    loss,
    mlp,
    optimizer,
    regularizer,
    sequential,
    sgd,
    tail,
)


@pytest.mark.parametrize(
    ("kind", "spelling", "canonical"),
    [
        ("optimizer", "AdamW", "adamw"),
        ("optimizer", "RMSprop", "rmsprop"),
        ("optimizer", "lamb", "lamb"),
        ("loss", "KLD", "kl_divergence"),
        ("loss", "kl_divergence", "kl_divergence"),
        ("loss", "SparseCategoricalCrossentropy", "sparse_categorical_crossentropy"),
        ("metric", "auc", "auc"),
        ("activation", "hard_swish", "hard_silu"),
        ("initializer", "HeNormal", "he_normal"),
        ("initializer", "normal", "random_normal"),
        ("regularizer", "l1_l2", "l1l2"),
        ("constraint", "NonNeg", "non_neg"),
        ("layer", "flatten", "Flatten"),
        ("layer", "MaxPool2D", "MaxPooling2D"),
        ("model", "mobilenetv2", "MobileNetV2"),
    ],
)
def test_every_spelling_that_keras_takes_has_one_canonical_name(kind: str, spelling: str, canonical: str) -> None:
    assert make(kind, spelling).name == canonical


def test_the_name_in_keras_is_known_for_every_canonical_name() -> None:
    assert catalogue.keras_name("optimizer", "adamw") == "AdamW"
    assert catalogue.keras_name("initializer", "he_normal") == "HeNormal"
    assert catalogue.keras_name("model", "ResNet50") == "ResNet50"


def test_an_mlp_states_all_its_arguments_and_others_only_what_was_given() -> None:
    assert mlp(128).plain() == {
        "kind": "model",
        "name": "mlp",
        "hidden": [128],
        "activation": "relu",
        "output": "softmax",
        "dropout": 0,
        "kernel_initializer": "glorot_uniform",
        "kernel_regularizer": None,
    }
    assert optimizer("sgd").plain() == {"kind": "optimizer", "name": "sgd"}
    assert mlp([]).args["hidden"] == []


def test_components_inside_arguments_are_checked_and_made_canonical() -> None:
    dense = layer(
        "dense",
        units=10,
        activation="Swish",
        kernel_initializer=initializer("VarianceScaling", scale=2.0),
        bias_initializer=initializer("zeros"),
        kernel_regularizer={"name": "L1L2", "l1": 0.1},
        kernel_constraint="MaxNorm",
    )
    assert dense.args == {
        "units": 10,
        "activation": "silu",
        "kernel_initializer": {"kind": "initializer", "name": "variance_scaling", "scale": 2.0},
        "bias_initializer": "zeros",
        "kernel_regularizer": {"kind": "regularizer", "name": "l1l2", "l1": 0.1},
        "kernel_constraint": "max_norm",
    }
    both = layer("Bidirectional", layer=layer("lstm", units=3, recurrent_activation="HardSigmoid"))
    assert both.args["layer"] == {"kind": "layer", "name": "LSTM", "units": 3, "recurrent_activation": "hard_sigmoid"}
    cells = layer("StackedRNNCells", cells=[layer("GRUCell", units=2), layer("gru_cell", units=3)])
    assert [cell["name"] for cell in cells.args["cells"]] == ["GRUCell", "GRUCell"]


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: layer("Dense"), "layer 'Dense' needs units"),
        (lambda: layer("Dence", units=3), "unknown layer 'Dence'; did you mean 'Dense'"),
        (lambda: layer("Dense", units=3, activtion="relu"), "has no argument 'activtion'; did you mean 'activation'?"),
        (
            lambda: layer("Dense", units=3, activation="rulu"),
            "argument 'activation': unknown activation 'rulu'; did you mean 'relu'",
        ),
        (lambda: layer("Dense", units=3, use_bias="yes"), "argument 'use_bias': expected true or false, got 'yes'"),
        (lambda: layer("Dense", units=2.5), "argument 'units': expected a whole number from 1, got 2.5"),
        (
            lambda: layer("Conv2D", filters=0, kernel_size=3),
            "argument 'filters': expected a whole number from 1, got 0",
        ),
        (lambda: layer("Conv2D", filters=1, kernel_size=3, padding=1), "argument 'padding': expected a text, got 1"),
        (
            lambda: layer("Dense", units=3, kernel_initializer=regularizer("l2")),
            "expected an initializer, got the regularizer 'l2'",
        ),
        (
            lambda: layer("Dense", units=3, kernel_initializer="he"),
            "unknown initializer 'he'; known initializer names: constant",
        ),
        (lambda: layer("Dense", units=3, name="x"), "'name' is set by the harness"),
        (lambda: sgd("fast"), "argument 'learning_rate': expected a number, got 'fast'"),
        (lambda: sgd(float("inf")), "inf is not a finite number"),
        (lambda: sgd(0.1, nesterov=1), "argument 'nesterov': expected true or false, got 1"),
        (lambda: sgd(learning_rate("CosineDecay", initial_learning_rate=1)), "needs decay_steps"),
        (lambda: sgd(initializer("zeros")), "expected a schedule, got the initializer 'zeros'"),
        (lambda: loss("mse", label_smoothing=0.1), "loss 'mean_squared_error' has no argument 'label_smoothing'"),
        (lambda: application("ResNet50", weights="imagenet"), "has no argument 'weights'"),
        (lambda: application("ResNet51"), "unknown model 'ResNet51'; did you mean"),
        (lambda: mlp(0), "model 'mlp', argument 'hidden': expected a whole number from 1, or a list of them, got [0]"),
        (lambda: mlp("big"), "got ['big']"),
        (lambda: mlp(8, activation=3), "argument 'activation': expected an activation by its name, got 3"),
        (lambda: mlp(8, dropout=1), "argument 'dropout': expected a number from 0 and below 1, got 1"),
        (lambda: sequential(), "argument 'layers': expected one or more layers"),
        (lambda: sequential(sgd(0.1)), "got the optimizer 'sgd'"),
        (lambda: tail(1.5), "argument 'fraction': expected a number above 0 and below 1, got 1.5"),
        (lambda: handy.test(0), "argument 'take': expected a whole number from 1, got 0"),
        (lambda: fold(5, of=5), "k counts from 0 to 4 when of=5, got 5"),
        (lambda: fold(0, of=5, how="odd"), "expected one of 'contiguous', 'shuffled', 'stratified', got 'odd'"),
        (lambda: make("planet", "earth"), "unknown kind of component 'planet'"),
        (lambda: make("model", "function"), "given as the function itself"),
    ],
)
def test_a_component_that_keras_would_refuse_is_refused_at_once(declare: Callable[[], Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        declare()
    assert says in str(refused.value)


def test_the_file_is_small_and_every_kind_is_in_it() -> None:
    assert catalogue.FILE.stat().st_size < 300_000
    for kind in (
        "activation",
        "constraint",
        "initializer",
        "layer",
        "loss",
        "metric",
        "optimizer",
        "regularizer",
        "schedule",
    ):
        assert catalogue.names(kind)
    assert {"mlp", "sequential", "ResNet50"} <= set(catalogue.names("model"))


def test_a_component_is_shown_as_one_would_write_it() -> None:
    assert str(sgd(0.1, nesterov=True)) == "sgd(learning_rate=0.1, nesterov=true)"
    assert str(sequential("Flatten", layer("Dense", units=10))) == "sequential(Flatten, Dense(units=10))"
    assert (
        str(Component(kind="model", name="function", args={"function": "f", "sha256": "00", "width": 3}))
        == "f(width=3)"
    )
    assert text({"a": [1.0, None]}) == "{a: [1, null]}"
