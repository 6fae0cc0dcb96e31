"""What trials use again, one after another: a model, the programs compiled for it, the optimizers built for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from harness.workloads.training import initial
from harness.workloads.training.engine import Program
from harness.workloads.training.losses import Head, Objective
from harness.workloads.training.recent import Recent


@dataclass(kw_only=True, eq=False)
class Updater:
    """An optimizer built for a network, and what its variables hold before the first step.

    A program is known by the very updater it updates with, which so lives as long as the program does.
    """

    key: str  # what it was declared as, a plain learning rate left out
    optimizer: keras.optimizers.Optimizer
    fresh: list[tuple[Any, Any]] = field(default_factory=list)  # variable, value

    @classmethod
    def build(cls, key: str, optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Updater:
        optimizer.build(model.trainable_variables)
        rate = getattr(getattr(optimizer, "inner_optimizer", optimizer), "_learning_rate", None)
        held = [variable for variable in optimizer.variables if variable is not rate]
        return cls(key=key, optimizer=optimizer, fresh=[(variable, _compact(variable.value)) for variable in held])

    def reset(self, learning_rate: float | None) -> None:
        """Forget all steps taken, and set the learning rate unless a schedule sets it."""
        for variable, value in self.fresh:
            variable.assign(np.full(variable.shape, value, variable.dtype) if np.ndim(value) == 0 else value)
        if learning_rate is not None:
            self.optimizer.learning_rate = learning_rate


def _compact(value: Any) -> Any:
    """Return a variable's value, as one number where all its elements are equal."""
    array = np.array(ops.convert_to_numpy(value))
    return array.reshape(-1)[0] if array.size and (array == array.reshape(-1)[0]).all() else array


@dataclass(kw_only=True)
class Network:
    """A Keras model that many trials use in turn, its head taken off, with all that was compiled for it."""

    model: keras.Model
    head: Head
    recipes: initial.Recipes
    objectives: dict[str, Objective] = field(default_factory=dict)
    updaters: Recent[str, Updater] = field(default_factory=lambda: Recent(16))
    programs: Recent[tuple[Any, ...], Program] = field(default_factory=lambda: Recent(32))
    unfit: dict[tuple[str, str, str], str] = field(default_factory=dict)  # engine, objective, updater → why not

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)

    def outputs(self, x: Any, *, training: bool) -> Any:
        """Return what the model makes of a batch, told whether it is training if it wants to know."""
        return self.model(x, training=training) if self.model._call_has_training_arg else self.model(x)
