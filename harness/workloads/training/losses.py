"""Losses with one meaning on every back end, and where a model's outputs become probabilities.

Keras's cross-entropies mean two things: on TensorFlow the logits behind a final softmax or sigmoid are taken, elsewhere
the probabilities are clipped to 1e-7 from 0 and 1 first; a network that saturates then learns differently. Here the
final softmax or sigmoid (the *head*) is taken off the model. Keras's names stand for the loss on logits, and
``clipped_...`` for the loss on clipped probabilities. Where a model ends in neither, its outputs are taken for
probabilities, and clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import keras
from keras import ops

from harness.domain.component import Component
from harness.domain.errors import SuiteError
from harness.domain.sources import Source
from harness.workloads.training import network

Tensor = Any

_CLIPPED: Final = "clipped_"
# The head whose logits a cross-entropy takes; its own argument `from_logits` says that there is no head.
_HEAD_OF: Final = {
    "binary_crossentropy": "sigmoid",
    "categorical_crossentropy": "softmax",
    "sparse_categorical_crossentropy": "softmax",
}
_ACTIVATIONS: Final = {"softmax": keras.activations.softmax, "sigmoid": keras.activations.sigmoid}


@dataclass(kw_only=True)
class Head:
    """The softmax or sigmoid that ended a model and is computed with the loss instead; `name` is None for neither."""

    name: str | None = None
    _layer: Any = None
    _attribute: str = ""
    _original: Any = None

    @classmethod
    def take_off(cls, model: keras.Model) -> Head:
        """Make a model end in logits, where its last layer is one that can."""
        layer = _last_layer(model)
        if isinstance(layer, keras.layers.Softmax) and layer.axis == -1:
            head = cls(name="softmax", _layer=layer, _attribute="call", _original=layer.call)
            layer.call = _as_it_is
            return head
        activation = getattr(layer, "activation", None)
        name = next((name for name, function in _ACTIVATIONS.items() if activation is function), None)
        if name is None:
            return cls()
        layer.activation = keras.activations.linear
        return cls(name=name, _layer=layer, _attribute="activation", _original=activation)

    def apply(self, outputs: Tensor) -> Tensor:
        """Return what the model would have put out with its head on, as float32."""
        outputs = ops.cast(outputs, "float32")
        return outputs if self.name is None else _ACTIVATIONS[self.name](outputs)

    @contextmanager
    def put_on(self) -> Iterator[None]:
        """Let the model be whole meanwhile, as for saving it."""
        if self.name is None:
            yield
            return
        without = getattr(self._layer, self._attribute)
        setattr(self._layer, self._attribute, self._original)
        try:
            yield
        finally:
            setattr(self._layer, self._attribute, without)


def _as_it_is(inputs: Tensor, mask: Any = None) -> Tensor:
    return inputs


def _last_layer(model: Any) -> Any:
    """Return the layer that computes a model's one output, None where that cannot be told."""
    while isinstance(model, keras.Model):
        if isinstance(model, keras.Sequential):
            model = model.layers[-1] if model.layers else None
        elif getattr(model, "_functional", None) is not None or hasattr(model, "_operations"):
            outputs = model.outputs
            if len(outputs) != 1:
                return None
            model = outputs[0]._keras_history.operation
        else:
            return None
    return model


@dataclass(kw_only=True)
class Objective:
    """What a network's output is compared with: a loss and Keras's "accuracy", for integer labels or numbers.

    `form` is how the labels meet the output: "labels" as they are, "one_hot", "column" (two classes, one output)
    or "numbers" (no classes, no accuracy).
    """

    key: str  # what it was declared as
    head: Head
    form: str
    classes: int | None
    on_logits: bool
    function: keras.losses.Loss = field(repr=False)

    @classmethod
    def build(
        cls,
        key: str,
        component: Component,
        head: Head,
        *,
        form: str,
        classes: int | None,
        sources: Mapping[str, Source],
    ) -> Objective:
        name, args = component.name, dict(component.args)
        on_logits = False
        if name.startswith(_CLIPPED):
            made: keras.losses.Loss = _Clipped(name.removeprefix(_CLIPPED), **args)
        elif name in _HEAD_OF and not args.get("from_logits"):
            on_logits = head.name == _HEAD_OF[name]
            if on_logits:
                made = network.build({**component.plain(), "from_logits": True}, sources)
            else:
                made = _Clipped(name, **args)
        else:
            made = network.build_loss(component, sources)
        return cls(key=key, head=head, form=form, classes=classes, on_logits=on_logits, function=made)

    def targets(self, y: Tensor) -> Tensor:
        """Return the stored targets as the loss compares them with the outputs."""
        if self.form == "one_hot":
            return ops.one_hot(y, self.classes, dtype="float32")
        if self.form == "column":
            return ops.cast(y[:, None], "float32")
        return y

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return a model's outputs with its head on: probabilities, or whatever it puts out."""
        return self.head.apply(outputs)

    def loss(self, y: Tensor, outputs: Tensor) -> Tensor:
        """Return the mean loss of a batch: `y` as stored, `outputs` as the model without its head gives them."""
        if self.on_logits:  # as a copy: on TensorFlow Keras would go back behind a sigmoid that made them
            outputs = ops.copy(ops.cast(outputs, "float32"))
        else:
            outputs = self.predictions(outputs)
        return self.function(self.targets(y), outputs)

    def total(self, y: Tensor, outputs: Tensor, penalties: Iterable[Tensor]) -> Tensor:
        """Return the loss that Keras trains and reports: that of the outputs, and what layers and weights add to it."""
        loss = self.loss(y, outputs)
        for penalty in penalties:
            loss += ops.sum(penalty)
        return loss

    def right(self, y: Tensor, outputs: Tensor) -> Tensor:
        """Return 1.0 for each output that is right, as Keras's "accuracy" counts them for this form, 0.0 for others."""
        if self.form == "numbers":
            return ops.zeros((), dtype="float32")
        if self.form == "column":
            equal = ops.equal(self.predictions(outputs)[:, 0] > 0.5, y > 0)
        else:
            equal = ops.equal(ops.cast(ops.argmax(outputs, axis=-1), "int32"), ops.cast(y, "int32"))
        return ops.cast(equal, "float32")

    def hits(self, y: Tensor, outputs: Tensor) -> Tensor:
        """Return how many of the outputs are right."""
        return ops.sum(self.right(y, outputs))


def label_form(loss: str, output_shape: Any, classes: int | None) -> str:
    """Return how labels meet the outputs of a model, see `Objective`, for a loss of this name.

    Raises:
        SuiteError: where the outputs do not fit the dataset's classes.
    """
    if classes is None:
        if loss.removeprefix(_CLIPPED) in _HEAD_OF:
            raise SuiteError(
                f"the dataset's targets are numbers, and {loss} is for classes; say loss='mean_squared_error'"
            )
        return "numbers"
    if not isinstance(output_shape, tuple) or len(output_shape) != 2:
        raise SuiteError(f"the model's output has the shape {output_shape}; a classifier's is (None, {classes})")
    sparse = loss.removeprefix(_CLIPPED).startswith("sparse_")
    if output_shape[1] == 1 and classes == 2 and not sparse:
        return "column"
    if output_shape[1] != classes:
        raise SuiteError(
            f"the model ends in {output_shape[1]} outputs, but the dataset has {classes} classes; "
            f"make its last layer {classes} wide"
        )
    return "labels" if sparse else "one_hot"


class Tally:
    """Further metrics of Keras's, added up over batches; they see probabilities, and labels as one-hot vectors."""

    def __init__(self, metrics: Mapping[str, keras.metrics.Metric], objective: Objective) -> None:
        self._metrics = metrics
        self._objective = objective
        for metric in metrics.values():
            metric.reset_state()

    def add(self, y: Tensor, outputs: Tensor) -> None:
        """Add a batch: targets as stored, outputs as the model without its head gives them."""
        if not self._metrics:
            return
        predictions = self._objective.predictions(outputs)
        labels = self._objective.classes is not None and predictions.shape[-1] > 1
        targets = ops.one_hot(y, predictions.shape[-1]) if labels else y
        for name, metric in self._metrics.items():
            metric.update_state(y if name.startswith("sparse_") else targets, predictions)

    def results(self) -> dict[str, float]:
        """Return each metric by its name."""
        return {name: float(ops.convert_to_numpy(metric.result())) for name, metric in self._metrics.items()}

    def check(self, outputs: int) -> None:
        """Try each metric on made-up outputs of this width.

        Raises:
            SuiteError: for one that does not take them, or gives more than one number.
        """
        labels = ops.zeros((2,), dtype="float32" if self._objective.classes is None else "int32")
        for name, metric in self._metrics.items():
            alone = Tally({name: metric}, self._objective)
            try:
                alone.add(labels, ops.ones((2, outputs), dtype="float32"))
                shape = tuple(metric.result().shape)
            except Exception as error:
                raise SuiteError(f"metrics: {name!r} cannot be computed here: {error}") from error
            if shape:
                raise SuiteError(
                    f"metrics: {name!r} gives {shape[0]} numbers, and one can be recorded; "
                    f"say e.g. metric({name!r}, average='macro')"
                )


class _Clipped(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """A cross-entropy on probabilities, clipped to Keras's epsilon (1e-7) from 0 and 1."""

    def __init__(self, name: str, **args: Any) -> None:
        args.pop("from_logits", None)
        self._smoothing = args.pop("label_smoothing", 0.0)
        self._kind = name
        super().__init__(name=_CLIPPED + name, **args)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        epsilon = keras.config.epsilon()
        if self._kind == "binary_crossentropy":
            y_true = y_true * (1.0 - self._smoothing) + 0.5 * self._smoothing
            p = ops.clip(y_pred, epsilon, 1.0 - epsilon)
            return -ops.mean(y_true * ops.log(p) + (1.0 - y_true) * ops.log(1.0 - p), axis=-1)
        if self._kind == "sparse_categorical_crossentropy":
            y_true = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype="float32")
        classes = y_pred.shape[-1]
        y_true = y_true * (1.0 - self._smoothing) + self._smoothing / classes
        p = ops.clip(y_pred / ops.sum(y_pred, axis=-1, keepdims=True), epsilon, 1.0 - epsilon)
        return -ops.sum(y_true * ops.log(p), axis=-1)
