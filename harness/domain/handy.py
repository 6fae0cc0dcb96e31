"""Short ways to say what a setting is made of. Each returns plain declared values; nothing of Keras is re-wrapped.

What has no function here is reached by name: ``optimizer("AdamW", weight_decay=0.01)``,
``layer("Conv2D", filters=8, kernel_size=3)``. Names and arguments are checked at once, see `harness.domain.catalogue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.domain.component import Component, function, make
from harness.domain.setting import Dataset

__all__ = [
    "adam",
    "application",
    "dataset",
    "fold",
    "function",
    "initializer",
    "layer",
    "learning_rate",
    "loss",
    "mlp",
    "optimizer",
    "regularizer",
    "rmsprop",
    "sequential",
    "sgd",
    "tail",
    "test",
]


def mlp(
    hidden: int | Sequence[int],
    *,
    activation: str = "relu",
    output: str = "softmax",
    dropout: float = 0,
    kernel_initializer: str | Component = "glorot_uniform",
    kernel_regularizer: str | Component | None = None,
) -> Component:
    """Return a flattening, one dense layer for each width in `hidden`, and a dense output as wide as there are classes.

    `dropout` follows each hidden layer where it is above 0; the initialiser and the regulariser are for all
    kernels, the output's among them.
    """
    args = {
        "hidden": hidden,
        "activation": activation,
        "output": output,
        "dropout": dropout,
        "kernel_initializer": kernel_initializer,
        "kernel_regularizer": kernel_regularizer,
    }
    return make("model", "mlp", args)


def sequential(*layers: Component | str) -> Component:
    """Return exactly these layers, one after another; the input's shape is the dataset's."""
    return make("model", "sequential", {"layers": list(layers)})


def application(name: str, /, **args: Any) -> Component:
    """Return a model of keras.applications with fresh weights, its input shape and classes those of the dataset."""
    return make("model", name, args)


def layer(name: str, /, **args: Any) -> Component:
    """Return a Keras layer by name."""
    return make("layer", name, args)


def optimizer(name: str, /, **args: Any) -> Component:
    """Return a Keras optimizer by name."""
    return make("optimizer", name, args)


def sgd(learning_rate: float | Component = 0.01, **args: Any) -> Component:
    """Return stochastic gradient descent, with `momentum`, `nesterov` and the rest of Keras's arguments."""
    return make("optimizer", "sgd", {"learning_rate": learning_rate, **args})


def adam(learning_rate: float | Component = 0.001, **args: Any) -> Component:
    """Return Adam, with Keras's arguments."""
    return make("optimizer", "adam", {"learning_rate": learning_rate, **args})


def rmsprop(learning_rate: float | Component = 0.001, **args: Any) -> Component:
    """Return RMSprop, with Keras's arguments."""
    return make("optimizer", "rmsprop", {"learning_rate": learning_rate, **args})


def loss(name: str, /, **args: Any) -> Component:
    """Return a Keras loss by name."""
    return make("loss", name, args)


def learning_rate(name: str, /, **args: Any) -> Component:
    """Return a Keras learning-rate schedule by name, to stand for an optimizer's number."""
    return make("schedule", name, args)


def initializer(name: str, /, **args: Any) -> Component:
    """Return a Keras initialiser by name."""
    return make("initializer", name, args)


def regularizer(name: str, /, **args: Any) -> Component:
    """Return a Keras regulariser by name."""
    return make("regularizer", name, args)


def dataset(
    name: Any, /, *, take: int | None = None, scale: str = "unit", held_out: Component | str = "test", **args: Any
) -> Dataset:
    """Return a dataset by name, or one's own function, with the options that all have (see `Dataset`) and its own."""
    if callable(name):
        own = Dataset.of(function(name, kind="dataset", **args))
        return Dataset(name=own.name, take=take, scale=scale, held_out=held_out, args=own.args)
    return Dataset.of({**args, "name": name, "take": take, "scale": scale, "held_out": held_out})


def tail(fraction: float) -> Component:
    """Return the held-out part that is the last `fraction` of the training samples."""
    return make("held_out", "tail", {"fraction": fraction})


def test(take: int | None = None) -> Component:  # noqa: PT028
    """Return the held-out part that is the dataset's own test part, or the first `take` samples of it."""
    return make("held_out", "test", {"take": take})


def fold(k: int, *, of: int, how: str = "contiguous", seed: int | None = None) -> Component:
    """Return the held-out part that is fold `k`, from 0, of `of` folds of the training samples.

    `how` is "contiguous", "shuffled" or "stratified"; `seed` is of the shuffle that the latter two make.
    """
    return make("held_out", "fold", {"k": k, "of": of, "how": how, "seed": seed})
