"""What the three peer scripts share: their arguments, the data, and one training with Keras's `model.fit`.

The training is the one of `tests/benchmarks/a2.py`: first 20,000 training images of MNIST as raw pixels, the
last fifth held out, MLP 784-128-10 (sigmoid, softmax), SGD 0.01, categorical cross-entropy, validated each
epoch. Keras is imported where a training starts, so that a driver that only hands out trials does not pay for it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.modules["sklearn"] = None  # type: ignore[assignment]  # where it is installed Keras imports it, 3 s for nothing

IMAGES = 20_000
HELD_OUT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a peer script is asked to train, and the file its results go to."""

    batch_sizes: list[int]
    seeds: list[int]
    epochs: int
    out: Path


def request(description: str | None) -> Request:
    """Return what the command line asks for; by default the 12 trials of 5 epochs each."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 64, 32, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON file: one object a trial")
    given = parser.parse_args()
    return Request(batch_sizes=given.batch_sizes, seeds=given.seeds, epochs=given.epochs, out=given.out)


def load() -> dict[str, np.ndarray]:
    """Return `x_train`, `x_val` (float32, 784 raw pixels a row) and `y_train`, `y_val` (float32, one-hot)."""
    with np.load(Path(os.environ["HARNESS_DATA_DIR"]) / "mnist.npz") as stored:
        x = stored["x_train"][:IMAGES].reshape(IMAGES, 784).astype("float32")
        y = np.eye(10, dtype="float32")[stored["y_train"][:IMAGES]]
    cut = round(IMAGES * (1 - HELD_OUT))
    return {"x_train": x[:cut], "y_train": y[:cut], "x_val": x[cut:], "y_val": y[cut:]}


def compiled_model(seed: int) -> Any:
    """Return the freshly initialised network, compiled as Keras does by default."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(128, activation="sigmoid"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def train(
    data: dict[str, np.ndarray],
    batch_size: int,
    seed: int,
    epochs: int,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train once and return the trial's batch size, seed, `val_accuracy` and `val_loss` at the end, and seconds.

    `on_epoch` is called at the end of each epoch with its four metrics.
    """
    start_s = time.perf_counter()
    import keras

    callbacks = []
    if on_epoch is not None:
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda _epoch, logs: on_epoch(dict(logs))))
    history = compiled_model(seed).fit(
        data["x_train"],
        data["y_train"],
        batch_size=batch_size,
        epochs=epochs,
        validation_data=(data["x_val"], data["y_val"]),
        callbacks=callbacks,
        verbose=0,
    )
    return {
        "batch_size": batch_size,
        "seed": seed,
        "val_accuracy": history.history["val_accuracy"][-1],
        "val_loss": history.history["val_loss"][-1],
        "seconds": time.perf_counter() - start_s,
    }


def write(results: list[dict[str, Any]], out: Path) -> None:
    """Write one object a trial to the JSON file `out`."""
    out.write_text(json.dumps(results, indent=1), encoding="utf-8")
