"""A setting's components → Keras's objects: the model, the loss, the optimizer, the metrics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from harness.domain.catalogue import keras_name
from harness.domain.component import Component
from harness.domain.errors import SuiteError
from harness.domain.sources import Source, resolve

_HOMES: Final[dict[str, Any]] = {
    "activation": keras.activations,
    "application": keras.applications,
    "constraint": keras.constraints,
    "initializer": keras.initializers,
    "layer": keras.layers,
    "loss": keras.losses,
    "metric": keras.metrics,
    "optimizer": keras.optimizers,
    "regularizer": keras.regularizers,
    "schedule": keras.optimizers.schedules,
}


def build_model(
    component: Component, *, input_shape: tuple[int, ...], outputs: int, sources: Mapping[str, Source]
) -> keras.Model:
    """Return the model of a setting for samples of `input_shape`, `outputs` wide where it leaves that open.

    An own function is called with its own arguments, and with `input_shape` and `outputs` where it takes
    arguments of these names; it returns a `keras.Model`.
    """
    args = dict(component.args)
    if component.name == "function":
        function = resolve(args.pop("function"), args.pop("sha256"), dict(sources))
        offered = {"input_shape": input_shape, "outputs": outputs}
        takes = inspect.signature(function).parameters
        model = function(**{key: value for key, value in offered.items() if key in takes}, **build(args, sources))
        if not isinstance(model, keras.Model):
            raise SuiteError(f"the model function {component.args['function']} returned {model!r}, not a keras.Model")
        if not model.built:
            model.build((None, *input_shape))
        return model
    start = keras.Input(input_shape)
    if component.name == "mlp":
        return keras.Sequential([start, *_mlp(args, input_shape, outputs, sources)])
    if component.name == "sequential":
        return keras.Sequential([start, *build(args["layers"], sources)])
    return _application(component, input_shape, outputs, sources)


def build_loss(component: Component, sources: Mapping[str, Source]) -> keras.losses.Loss:
    """Return the loss of a setting; an own function takes (y_true, y_pred) and returns one loss a sample."""
    args = dict(component.args)
    if component.name == "function":
        function = resolve(args.pop("function"), args.pop("sha256"), dict(sources))
        return _OwnLoss(_bound(function, build(args, sources)))
    loss: keras.losses.Loss = build(component.plain(), sources)
    return loss


def build_optimizer(
    component: Component, sources: Mapping[str, Source], *, steps: int = 0
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a setting; an own function returns a `keras.optimizers.Optimizer`.

    A learning rate that is a function of the step is called for each of the `steps` that will be taken.
    """
    plain = component.plain()
    rate = plain.get("learning_rate")
    if component.name != "function" and isinstance(rate, Mapping) and rate.get("name") == "function":
        plain = {**plain, "learning_rate": Rates(_rates(build(rate, sources), rate["function"], steps))}
    optimizer = build(plain, sources)
    if component.name == "function":
        optimizer = optimizer()
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise SuiteError(f"the optimizer function returned {optimizer!r}, not a keras.optimizers.Optimizer")
    return optimizer


def build(value: Any, sources: Mapping[str, Source]) -> Any:
    """Return an argument with the components in it made into Keras's objects, depth first.

    An own function among them becomes the function itself, its own arguments bound.
    """
    if isinstance(value, list):
        return [build(item, sources) for item in value]
    if not isinstance(value, Mapping):
        return value
    if not isinstance(value.get("kind"), str) or not isinstance(value.get("name"), str):
        return {key: build(item, sources) for key, item in value.items()}
    args = {key: build(item, sources) for key, item in value.items() if key not in ("kind", "name")}
    kind, name = value["kind"], value["name"]
    if name == "function":
        function = resolve(args.pop("function"), args.pop("sha256"), dict(sources))
        return _bound(function, args)
    made = getattr(_HOMES[kind], keras_name(kind, name))
    return made if kind == "activation" else made(**args)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Let what is built meanwhile compute by Keras's dtype policy of this name."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Rates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no types
    """A learning rate for each step, by number; the last one stays for steps beyond."""

    def __init__(self, rates: NDArray[np.float32]) -> None:
        self._rates = rates

    def __call__(self, step: Any) -> Any:
        step = ops.minimum(ops.cast(step, "int32"), len(self._rates) - 1)
        return ops.take(ops.convert_to_tensor(self._rates), step)

    def get_config(self) -> dict[str, Any]:
        return {"rates": self._rates.tolist()}


def _rates(function: Callable[[int], Any], name: str, steps: int) -> NDArray[np.float32]:
    """Return what a function of the step, from 0, gives for each step.

    Raises:
        SuiteError: for what is no learning rate, naming the step.
    """
    rates = np.empty(max(1, steps), np.float32)
    for step in range(len(rates)):
        rate = function(step)
        if isinstance(rate, bool) or not hasattr(rate, "__float__") or not math.isfinite(rate) or rate < 0:
            raise SuiteError(
                f"optimizer.learning_rate: {name}({step}) returned {rate!r}; expected a finite number from 0"
            )
        rates[step] = rate
    return rates


class _OwnLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """A function's losses of the samples, averaged as Keras averages those of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(name="own")
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self._function(y_true, y_pred)


def _bound(function: Callable[..., Any], args: dict[str, Any]) -> Callable[..., Any]:
    if not args:
        return function

    def bound(*positional: Any, **named: Any) -> Any:
        return function(*positional, **args, **named)

    return bound


def _mlp(
    args: dict[str, Any], input_shape: tuple[int, ...], outputs: int, sources: Mapping[str, Source]
) -> list[keras.layers.Layer]:
    def dense(units: int, activation: Any) -> keras.layers.Layer:
        return keras.layers.Dense(
            units,
            activation=build(activation, sources),
            kernel_initializer=build(args["kernel_initializer"], sources),
            kernel_regularizer=build(args["kernel_regularizer"], sources),
        )

    layers: list[keras.layers.Layer] = [keras.layers.Flatten()] if len(input_shape) != 1 else []
    for units in args["hidden"]:
        layers.append(dense(units, args["activation"]))
        if args["dropout"]:
            layers.append(keras.layers.Dropout(args["dropout"]))
    return [*layers, dense(outputs, args["output"])]


def _application(
    component: Component, input_shape: tuple[int, ...], outputs: int, sources: Mapping[str, Source]
) -> keras.Model:
    """Return one of `keras.applications`, untrained; images without a channel axis are given one."""
    function = getattr(keras.applications, keras_name("application", component.name))
    shape = (*input_shape, 1) if len(input_shape) == 2 else input_shape
    model = function(weights=None, input_shape=shape, classes=outputs, **build(component.args, sources))
    if shape == input_shape:
        return model
    return keras.Sequential([keras.Input(input_shape), keras.layers.Reshape(shape), model])
