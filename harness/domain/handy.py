"""Short ways to say what a setting is made of. Each returns plain declared values; nothing of Keras is re-wrapped.

What has no function here is reached by name: ``optimizer("AdamW", weight_decay=0.01)``,
``layer("Conv2D", filters=8, kernel_size=3)``. Names and arguments are checked at once, see `harness.domain.catalogue`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from harness.domain.beside import named_files
from harness.domain.component import Component, function, make
from harness.domain.errors import SuiteError
from harness.domain.reference import Alike, Direction, Reference
from harness.domain.repeats import Auto
from harness.domain.setting import Dataset
from harness.domain.sources import Source

__all__ = [
    "adam",
    "alike",
    "application",
    "auto",
    "data_file",
    "dataset",
    "direction",
    "early_stopping",
    "fold",
    "function",
    "initializer",
    "layer",
    "learning_rate",
    "loss",
    "metric",
    "minimise",
    "mlp",
    "optimizer",
    "program",
    "reference",
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


def metric(name: str, /, **args: Any) -> Component:
    """Return a Keras metric by name; it is recorded as ``val_<name>``, of the held-out part."""
    return make("metric", name, args)


def learning_rate(name: str, /, **args: Any) -> Component:
    """Return a Keras learning-rate schedule by name, to stand for an optimizer's number.

    Instead of one, any Python function of the step (from 0) can stand there: ``sgd(learning_rate=my_rate)``, or
    ``function(my_rate, decay=0.1)`` where its arguments are to be axes.
    """
    return make("schedule", name, args)


def early_stopping(
    metric: str = "val_loss", *, patience: int = 0, min_delta: float = 0, best_weights: bool = False
) -> Component:
    """Return the rule that ends a training once `metric` has not improved by more than `min_delta` for `patience`
    epochs in a row (0 counts as 1, as in Keras); `best_weights` brings back the weights of the best epoch.

    It is any metric of the records: loss, accuracy, val_loss, val_accuracy, or one asked for by ``metrics=[...]``.
    """
    args = {"metric": metric, "patience": patience, "min_delta": min_delta, "best_weights": best_weights}
    return make("early_stopping", "early_stopping", args)


def program(*command: str) -> Component:
    """Return the workload that is any program, as its words; ``{batch_size}`` and the like, and ``{seed}``, stand for
    the trial's values by their dotted paths, ``{python}`` for the interpreter that runs the harness, and ``{{`` and
    ``}}`` for braces. A single text is split into words as a shell would; no shell runs it.

    ``{suite_dir}/train.py`` is a file beside the one that calls this: it goes to the nodes, with what it imports from
    there, and is part of what the workload is.

    Raises:
        SuiteError: for such a file that is not there, or is no text.
    """
    made = make("workload", "program", {"command": list(command)})
    named = named_files(made.args["command"])
    if not named:
        return made
    caller = sys._getframe(1).f_globals.get("__file__")
    source = Source.of_files(Path(caller).parent if caller else Path.cwd(), named)
    return make("workload", "program", {"command": list(command), "sha256": source.sha256})


def minimise(
    problem: str,
    *,
    start: Sequence[float],
    method: str | None = None,
    optimizer: Component | str | None = None,
    bounds: Sequence[Sequence[float]] | None = None,
) -> Component:
    """Return the workload that minimises a test function from `start`: "beale", "rosenbrock", "himmelblau" or
    "rastrigin", by one of SciPy's methods or by one of Keras's optimizers. An epoch is an iteration."""
    args = {"problem": problem, "method": method, "optimizer": optimizer, "start": list(start), "bounds": bounds}
    return make("workload", "minimise", {key: value for key, value in args.items() if value is not None})


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


def data_file(
    path: str | Path,
    *,
    target: str | Path | None = None,
    test: str | Path | None = None,
    drop: str | Sequence[str] = (),
    targets: Literal["classes", "numbers"] | None = None,
    take: int | None = None,
    scale: str = "unit",
    held_out: Component | str = "test",
) -> Dataset:
    """Return a dataset in a file of one's own; a relative path is taken from the folder of the file that calls this.

    CSV and Parquet: `target` names the target's column, all others but those in `drop` are features. npz: the arrays x
    and y, or x_train, y_train, x_test and y_test. npy: the target is the last column, or `target` is another npy file.
    `test` is a file of the same kind with the test part. Texts and whole numbers are classes, other numbers are
    predicted as such, unless `targets` says otherwise. What the dataset is depends on what is in the files alone.

    Raises:
        SuiteError: for a file that is not there.
    """
    caller = sys._getframe(1).f_globals.get("__file__")
    folder = Path(caller).parent if caller else Path.cwd()
    args: dict[str, Any] = _located("", path, folder)
    if test is not None:
        args |= _located("test_", test, folder)
    if target is not None and Path(path).suffix.lower() == ".npy":
        args |= _located("target_", target, folder)
    elif target is not None:
        args["target"] = str(target)
    if drop:
        args["drop"] = [drop] if isinstance(drop, str) else list(drop)
    if targets is not None:
        args["targets"] = targets
    return Dataset.of({**args, "name": "file", "take": take, "scale": scale, "held_out": held_out})


def _located(part: str, path: str | Path, folder: Path) -> dict[str, str]:
    """Return where a file is, and the checksum of what it holds now."""
    file = Path(folder, Path(path).expanduser()).absolute()
    try:
        with file.open("rb") as content:
            return {f"{part}path": str(file), f"{part}sha256": hashlib.file_digest(content, "sha256").hexdigest()}
    except OSError as error:
        raise SuiteError(
            f"data_file: {file} cannot be read ({error.strerror}); a relative path is taken from {folder}"
        ) from None


def auto(
    figure: str = "train_s",
    within: float | None = None,
    at_least: int = 5,
    at_most: int = 50,
    *,
    epoch: Literal["last", "best"] = "last",
) -> Auto:
    """Return how many repeats a suite makes: as many as it takes to know `figure` to ± `within`.

    `figure` is a time of an epoch ("train_s", "samples_per_s" …), a metric ("val_accuracy", of the last or the best
    epoch), or "time_to_target". `within` is relative for times and absolute for metrics; left out it is 0.039, with
    which a slow-down of 10 % is found in 95 of 100 comparisons, or 0.01.
    """
    return Auto(figure=figure, within=within, at_least=at_least, at_most=at_most, epoch=epoch)


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


def reference(
    name: str,
    /,
    *,
    metric: str,
    where: str = "true",
    epoch: int | str | None = None,
    value: float | None = None,
    tolerance: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    over: str | Sequence[str] = (),
    hardware: str | None = None,
    source: str = "",
    note: str = "",
) -> Reference:
    """Return a published value of the settings that meet `where`, or a bound for them, as `harness show` compares it.

    `metric` is read at `epoch` (a number from 1, "last", "best", or "all" for the median), or without one from the
    whole trial. The median over the repeats is to be within `tolerance` of `value`, or `at_least` or `at_most` a bound.
    `over` names axes over which the mean is taken first, such as the folds; `hardware` the only nodes it is judged on.
    """
    given = {"where": where, "metric": metric, "epoch": epoch, "value": value, "tolerance": tolerance}
    bounds = {"at_least": at_least, "at_most": at_most, "over": over, "hardware": hardware}
    return Reference(name=name, **given, **bounds, source=source, note=note)


def direction(
    name: str,
    /,
    *,
    metric: str,
    higher: str,
    lower: str,
    epoch: int | str | None = None,
    source: str = "",
    note: str = "",
) -> Direction:
    """Return a published order: the settings that meet `higher` have more of `metric` than those that meet `lower`."""
    return Direction(name=name, metric=metric, epoch=epoch, higher=higher, lower=lower, source=source, note=note)


def alike(
    name: str,
    /,
    *,
    metric: str,
    within: float,
    where: str = "true",
    epoch: int | str | None = None,
    source: str = "",
    note: str = "",
) -> Alike:
    """Return a published likeness: `metric` is about the same for all settings that meet `where`, the largest of their
    medians at most ``1 + within`` times the smallest; ``metric="time_to_target"`` is the time to the suite's target."""
    return Alike(name=name, metric=metric, epoch=epoch, where=where, within=within, source=source, note=note)
