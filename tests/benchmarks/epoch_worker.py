"""One pinned process that times epochs on request, so that contenders can take turns second by second.

    python epoch_worker.py {harness,fit,floor} CORE

pins itself to CORE, then answers each line ``{"batch_size": 32, "seed": 0, "epochs": 5}`` on its input with
one line ``{"epoch_s": [seconds an epoch], "val_accuracy": at the end or null}``. Anything that libraries print
goes to standard error. While it waits it takes no CPU time, so one process after another has the core alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Contender = Callable[[int, int, int], dict[str, Any]]  # batch size, seed, epochs -> the answer

BESIDE = Path(__file__).resolve().parent


def harness_epochs() -> Contender:
    """Run the trials of `a2.py` as a worker of the harness does; `epoch_s` is `train_s` of its epochs."""
    from harness.domain.outcome import EpochRecord
    from harness.domain.trial import Trial
    from harness.measure import Body

    sys.path.insert(0, str(BESIDE))
    from a2 import suite

    body = Body()
    body.prepare("tensorflow")

    def nothing(epoch: EpochRecord) -> None:
        """The records come with the outcome."""

    def run(batch_size: int, seed: int, epochs: int) -> dict[str, Any]:
        setting = suite.base.model_copy(update={"batch_size": batch_size, "epochs": epochs})
        outcome = body.run(Trial(setting=setting, seed=seed, repeat=0), nothing)
        if outcome.status != "completed":
            raise RuntimeError(outcome.error_detail or outcome.error)
        return {
            "epoch_s": [epoch.train_s for epoch in outcome.epochs],
            "val_accuracy": outcome.epochs[-1].val_accuracy,
        }

    return run


def fit_epochs() -> Contender:
    """Train with Keras's `model.fit` on one thread; `epoch_s` leaves out validation, which comes once, at the end."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    sys.path.insert(0, str(BESIDE / "peers"))
    from mnist_mlp import compiled_model, load

    data = load()

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        """Collect the seconds from the beginning of each epoch to its end."""

        def __init__(self) -> None:
            super().__init__()
            self.epoch_s: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.started_s = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            self.epoch_s.append(time.perf_counter() - self.started_s)

    def run(batch_size: int, seed: int, epochs: int) -> dict[str, Any]:
        model = compiled_model(seed)
        clock = Clock()
        model.fit(data["x_train"], data["y_train"], batch_size=batch_size, epochs=epochs, callbacks=[clock], verbose=0)
        _, accuracy = model.evaluate(data["x_val"], data["y_val"], batch_size=1000, verbose=0)
        return {"epoch_s": clock.epoch_s, "val_accuracy": float(accuracy)}

    return run


def floor_epochs() -> Contender:
    """Do an epoch's matrix products and nothing else: float32, NumPy's BLAS on one thread, outputs in place.

    A step of batch B has five: X·W1 (B×784·784×128), H·W2 (B×128·128×10), Hᵀ·dZ2, dZ2·W2ᵀ and Xᵀ·dZ1; there is
    none for the gradient with respect to the images.
    """
    import numpy as np

    sys.path.insert(0, str(BESIDE / "peers"))
    from mnist_mlp import load

    x = load()["x_train"]
    values = np.random.default_rng(0)

    def run(batch_size: int, seed: int, epochs: int) -> dict[str, Any]:
        w1 = values.standard_normal((784, 128), dtype=np.float32)
        w2 = values.standard_normal((128, 10), dtype=np.float32)
        dz1 = values.standard_normal((batch_size, 128), dtype=np.float32)
        dz2 = values.standard_normal((batch_size, 10), dtype=np.float32)
        h, dh = np.empty_like(dz1), np.empty_like(dz1)
        z2 = np.empty_like(dz2)
        dw1, dw2 = np.empty_like(w1), np.empty_like(w2)
        epoch_s = []
        for _ in range(epochs):
            started_s = time.perf_counter()
            for start in range(0, len(x), batch_size):
                batch = x[start : start + batch_size]
                np.dot(batch, w1, out=h)
                np.dot(h, w2, out=z2)
                np.dot(h.T, dz2, out=dw2)
                np.dot(dz2, w2.T, out=dh)
                np.dot(batch.T, dz1, out=dw1)
            epoch_s.append(time.perf_counter() - started_s)
        return {"epoch_s": epoch_s, "val_accuracy": None}

    return run


CONTENDERS: dict[str, Callable[[], Contender]] = {"harness": harness_epochs, "fit": fit_epochs, "floor": floor_epochs}


def main() -> None:
    name, core = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, {core})
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    run = CONTENDERS[name]()
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked["batch_size"], asked["seed"], asked["epochs"])), file=answers)


if __name__ == "__main__":
    main()
