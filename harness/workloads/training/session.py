"""A trial in training: what all engines share of it, but for how an epoch is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from harness.domain.outcome import Facts, Scores
from harness.domain.state import StateError
from harness.domain.trial import Trial
from harness.workloads.protocol import Kept
from harness.workloads.states import cast
from harness.workloads.training import initial, saved
from harness.workloads.training.engine import Backend
from harness.workloads.training.feed import Data
from harness.workloads.training.losses import Objective, Tally
from harness.workloads.training.reused import Network, Updater

if TYPE_CHECKING:
    from harness.workloads.training.board import Board

EVAL_BATCH: Final = 1024  # samples evaluated at once, at most


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session is made of."""

    trial: Trial
    data: Data
    made: Network
    objective: Objective
    updater: Updater
    metrics: dict[str, keras.metrics.Metric]
    backend: Backend


class TrainingSession:
    """What all engines share: a trial's parts, its order of samples, what is looked at and kept besides."""

    facts: Facts

    def __init__(self, parts: Parts, engine: str) -> None:
        self._parts = parts
        self._trial, self._data, self._made = parts.trial, parts.data, parts.made
        self._objective, self._updater, self._backend = parts.objective, parts.updater, parts.backend
        self._engine = engine
        self._order: NDArray[np.int32] | None = None
        self._board = _board(parts)
        self._seen = Scores(), Scores()  # of the last epoch: as trained, held out

    def before_epoch(self, epoch: int) -> None:
        if self._trial.setting.shuffle:
            self._order = initial.shuffled(self._trial.seed, epoch, self._data.train.rows)

    def _further_scores(self) -> dict[str, float]:
        """Return the further metrics of the held-out part, by name."""
        if not self._parts.metrics:
            return {}
        self._backend.settle(self._made, self._updater)
        tally = Tally(self._parts.metrics, self._objective)
        for x, y in self._data.held_out.slices(EVAL_BATCH):
            tally.add(y, self._made.outputs(x, training=False))
        return tally.results()

    def observe(self, epoch: int) -> None:
        if self._board is None:
            return
        self._backend.settle(self._made, self._updater)
        # Numbered, since Keras's own names of layers depend on what the process has built before.
        variables = enumerate(self._made.model.trainable_variables, start=1)
        weights = {f"weights/{n:02d}_{one.name}": np.array(ops.convert_to_numpy(one.value)) for n, one in variables}
        trained, held_out = self._seen
        self._board.histograms(epoch, weights)
        self._board.scalars(epoch, {"loss": trained.loss, "accuracy": trained.accuracy})
        further = {f"val_{name}": value for name, value in held_out.extra.items()}
        self._board.scalars(epoch, {"val_loss": held_out.loss, "val_accuracy": held_out.accuracy, **further})

    def snapshot(self) -> list[NDArray[Any]]:
        self._backend.settle(self._made, self._updater)
        return [np.array(ops.convert_to_numpy(variable.value)) for variable in self._made.model.variables]

    def restore(self, snapshot: list[NDArray[Any]]) -> None:
        self._backend.settle(self._made, self._updater)
        for variable, value in zip(self._made.model.variables, snapshot, strict=True):
            variable.assign(value)
        self._backend.begin(self._made, self._updater)

    def keep(self) -> Kept | None:
        self._backend.settle(self._made, self._updater)
        values = [np.array(ops.convert_to_numpy(variable.value)) for variable in self._variables()]
        arrays = {f"variable/{number}": value for number, value in enumerate(values)}
        arrays |= {f"random/{name}": value for name, value in self._backend.random_state().items()}
        plain: dict[str, Any] = {"variables": self._shapes(), "place": self._place_in_epoch()}
        if self._board is not None:
            (plain["board"], events), *_ = self._board.files().items()
            arrays["board"] = np.frombuffer(events, np.uint8)
        return Kept(plain=plain, arrays=arrays)

    def resume(self, kept: Kept) -> None:
        if kept.plain["variables"] != self._shapes():
            raise StateError("model or optimizer have other variables than those that were saved")
        for number, variable in enumerate(self._variables()):
            variable.assign(cast(kept.arrays[f"variable/{number}"], variable.dtype))
        self._backend.begin(self._made, self._updater)
        states = {name: value for name, value in kept.arrays.items() if name.startswith("random/")}
        self._backend.set_random_state({name.removeprefix("random/"): value for name, value in states.items()})
        if self._board is not None:
            self._board.resume(kept.plain["board"], kept.arrays["board"].tobytes())

    def _variables(self) -> list[Any]:
        """Return all that training changes, the learning rate and the seeds of random numbers included."""
        return [*self._made.model.variables, *self._updater.optimizer.variables]

    def _shapes(self) -> list[list[Any]]:
        return [[list(variable.shape), str(variable.dtype)] for variable in self._variables()]

    def _place_in_epoch(self) -> Any:
        """Return how far the epoch in training has come, as JSON; None between two."""
        return None

    def files(self) -> dict[str, bytes]:
        kept = {} if self._board is None else self._board.files()
        if self._trial.setting.save_model:
            self._backend.settle(self._made, self._updater)
            with self._made.head.put_on():
                kept |= saved.files(self._made.model, self._trial, self._data.preparation)
        return kept

    def drain(self) -> None:
        self._backend.drain()

    def close(self) -> None:
        pass

    def _compilations_since(self, before: int | None) -> int | None:
        now = self._backend.compilations()
        return None if before is None or now is None else now - before

    def _facts(self, reason: str | None, *, reused: bool, step_flops: float | None = None) -> Facts:
        data, versions = self._data, self._backend.versions()
        return Facts(
            engine=self._engine,
            engine_reason=reason,
            program_reused=reused,
            parameters=self._made.parameters,
            train_samples=data.train.rows,
            val_samples=data.held_out.rows,
            classes=data.classes,
            train_class_counts=data.train_class_counts,
            val_class_counts=data.val_class_counts,
            threads=self._backend.threads(),
            step_flops=step_flops,
            flops_source=None if step_flops is None else self._backend.flops_source,
            versions=", ".join(
                f"{name} {version}"
                for name, version in {**versions, "keras": keras.__version__, "numpy": np.__version__}.items()
            ),
        )


def _board(parts: Parts) -> Board | None:
    """Return where a trial's weights and scores are noted for TensorBoard, if that was asked for."""
    if not parts.trial.setting.tensorboard:
        return None
    from harness.workloads.training.board import Board  # TensorBoard's package is for those who ask for it

    with parts.made.head.put_on():
        return Board(saved.structure(parts.made.model), parts.trial.trial_id)
