"""A long trial on full MNIST, killed twice and resumed, beside the same trial that runs through.

    HARNESS_DATA_DIR=... python tests/benchmarks/resumed_trial.py [--backend tensorflow] [--epochs 12]

Each process is a real worker; the first two are ended by SIGKILL in the middle of an epoch, and what they had saved
last is handed to the next. Prints both curves side by side, and whether the weights are the same to the last bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from dataclasses import replace
from io import BytesIO

import h5py
import numpy as np

from harness.domain.handy import dataset, early_stopping, learning_rate, mlp, optimizer
from harness.domain.outcome import Outcome
from harness.domain.setting import Setting
from harness.domain.state import glance
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.node import Node
from harness.schedule.shares import share_out


def a_trial(backend: str, epochs: int) -> Trial:
    """Dropout, Adam with a schedule, and early stopping that brings back the best weights: all that has a memory."""
    rate = learning_rate("CosineDecay", initial_learning_rate=0.002, decay_steps=469 * epochs)
    setting = Setting(
        dataset=dataset("mnist"),
        model=mlp([256, 128], dropout=0.3),
        optimizer=optimizer("adam", learning_rate=rate),
        batch_size=128,
        epochs=epochs,
        early_stopping=early_stopping("val_loss", patience=epochs, best_weights=True),
        save_model=True,
        backend=backend,
    )
    return Trial(setting=setting, seed=0, repeat=0, checkpoint_s=0.5)


def run(trial: Trial, kills: int) -> tuple[Outcome, list[str]]:
    """Run a trial to its end, its worker killed so often; return its outcome and what happened."""
    node = Node(sources={}, telemetry_hz=0.0)
    (launch, *_) = share_out(Demand.of(trial), body="harness.measure:Body")
    node.launch([launch])
    state: bytes | None = None
    told: list[str] = []
    try:
        for attempt in range(1, kills + 2):
            pid = node.ready(launch.name).pid
            done = threading.Event()
            if attempt <= kills:
                wanted = trial.setting.epochs * attempt // (kills + 1)

                def kill(pid: int = pid, wanted: int = wanted, done: threading.Event = done) -> None:
                    while not done.wait(0.003):
                        if len(node._workers[launch.name].epochs) >= wanted:
                            time.sleep(0.15)  # into the next epoch
                            os.kill(pid, signal.SIGKILL)
                            return

                threading.Thread(target=kill, daemon=True).start()
            outcome = node.run(launch.name, trial, attempt, state).outcome
            done.set()
            if outcome.status != "lost":
                return outcome, told
            states = node.saved()
            state = states[-1].state if states else state
            assert state is not None, "it was killed before it had saved anything"
            kept = glance(state)
            within = "in the middle of an epoch" if kept.head["part"] is not None else "between two epochs"
            told.append(
                f"killed in epoch {len(outcome.epochs) + 1}; goes on from a state saved {within}, after epoch "
                f"{kept.epoch} at {kept.head['spans']['train'][0]:.3f} s of training ({len(state):,} bytes)"
            )
        raise AssertionError("not reached")
    finally:
        node.stop()


def weights(outcome: Outcome) -> list[tuple[tuple[int, ...], bytes]]:
    """Return shape and bytes of each array in the saved model's file of weights."""
    (content,) = [content for path, content in outcome.files.items() if path.endswith(".weights.h5")]
    found: list[tuple[tuple[int, ...], bytes]] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((item.shape, np.asarray(item).tobytes()))

    with h5py.File(BytesIO(content), "r") as file:
        file.visititems(visit)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    trial = a_trial(arguments.backend, arguments.epochs)
    whole, _ = run(replace(trial, checkpoint_s=None), 0)
    resumed, told = run(trial, 2)
    for outcome in (whole, resumed):
        assert outcome.status == "completed", outcome.error
    print("\n".join(told))
    print(f"\n{'':5} {'ran through':^38}   {'killed twice':^38}")
    print(f"{'epoch':>5}" + 2 * f" {'loss':>10} {'val_loss':>10} {'accuracy':>8} {'clock_s':>8}  ")
    for one, other in zip(whole.epochs, resumed.epochs, strict=True):
        cells = [
            f" {epoch.loss:10.7f} {epoch.val_loss:10.7f} {epoch.val_accuracy:8.4f} {epoch.elapsed_train_s:8.3f}  "
            for epoch in (one, other)
        ]
        print(f"{one.epoch:5}" + "".join(cells))
    curves = [
        [(e.loss, e.accuracy, e.val_loss, e.val_accuracy) for e in outcome.epochs] for outcome in (whole, resumed)
    ]
    print(f"\nresumptions: {resumed.facts.resumptions}, the last after epoch {resumed.facts.resumed_after_epoch}")
    print(f"best epoch: {whole.facts.best_epoch} and {resumed.facts.best_epoch}")
    print(f"curves equal to the last bit: {curves[0] == curves[1]}")
    arrays = weights(whole)
    print(f"weights equal to the last bit: {arrays == weights(resumed)} ({len(arrays)} arrays)")


if __name__ == "__main__":
    main()
