"""A trial on Keras's own `model.fit`: for what nothing else can compile, and to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from harness.domain.outcome import Scores
from harness.workloads.protocol import EpochResult, Kept, Tick
from harness.workloads.training.feed import Part
from harness.workloads.training.losses import Objective
from harness.workloads.training.session import EVAL_BATCH, Parts, TrainingSession


class FitSession(TrainingSession):
    """A trial on `model.fit`, an epoch a call."""

    def __init__(self, parts: Parts, engine: str, reason: str | None) -> None:
        super().__init__(parts, engine)
        self._model = self._made.model
        self._training = False
        self._x, self._y = self._host(self._data.train)
        self._val = self._host(self._data.held_out)
        # What none of the back end's engines compiles can only be run operation by operation.
        self._model.compile(
            optimizer=self._updater.optimizer,
            loss=_AsLoss(self._objective),
            metrics=[] if self._objective.form == "numbers" else [_as_accuracy(self._objective)],
            run_eagerly=(self._backend.engines[-2], self._objective.key, self._updater.key) in self._made.unfit,
        )
        size = self._trial.setting.batch_size
        some = size + len(self._x) % size  # a whole batch and the short one, whose shape is compiled too
        self._model.fit(self._x[:some], self._y[:some], batch_size=size, verbose=0)  # traces; undone by the reset
        self._model.evaluate(*self._val, batch_size=EVAL_BATCH, verbose=0)
        self.facts = self._facts(reason, reused=False)

    def _host(self, part: Part) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.array(ops.convert_to_numpy(part.x)), np.array(ops.convert_to_numpy(part.y))

    def keep(self) -> Kept | None:
        return None if self._training else super().keep()  # Keras's loop cannot be left in its middle

    def evaluate(self) -> Scores | None:
        x, y = self._val
        logs = self._model.evaluate(x, y, batch_size=EVAL_BATCH, verbose=0, return_dict=True)
        scores = self._scores(logs, extra=self._further_scores())
        self._seen = self._seen[0], scores
        return scores

    def before_epoch(self, epoch: int) -> None:
        super().before_epoch(epoch)
        self._shuffled = (self._x, self._y) if self._order is None else (self._x[self._order], self._y[self._order])

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        x, y = self._shuffled
        size = self._trial.setting.batch_size
        before = self._backend.compilations()
        between = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: tick())
        self._training = True
        history = self._model.fit(x, y, batch_size=size, shuffle=False, verbose=0, callbacks=[between]).history
        self._training = False
        scores = self._scores({name: values[-1] for name, values in history.items()})
        self._seen = scores, self._seen[1]
        steps = -(-len(x) // size)
        compilations = self._compilations_since(before)
        return EpochResult(samples=len(x), steps=steps, chunks=steps, train=scores, compilations=compilations)

    @staticmethod
    def _scores(logs: Mapping[str, float], extra: Mapping[str, float] | None = None) -> Scores:
        accuracy = logs.get("accuracy")
        return Scores(
            loss=float(logs["loss"]), accuracy=None if accuracy is None else float(accuracy), extra=extra or {}
        )


class _AsLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """An objective as a loss of Keras's, for targets as they are stored."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(name="objective", reduction=None)
        self._objective = objective

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self._objective.loss(_flat(self._objective, y_true), y_pred)


def _as_accuracy(objective: Objective) -> keras.metrics.Metric:
    def right(y_true: Any, y_pred: Any) -> Any:
        return objective.right(_flat(objective, y_true), y_pred)

    return keras.metrics.MeanMetricWrapper(right, name="accuracy")


def _flat(objective: Objective, y: Any) -> Any:
    """Return labels as they are stored: Keras's loop gives them a second axis, or another type."""
    return y if objective.form == "numbers" else ops.cast(ops.reshape(y, (-1,)), "int32")
