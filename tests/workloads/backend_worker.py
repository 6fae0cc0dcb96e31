"""What `test_backends.py` has each back end do, in a process of its own: a process has one back end of Keras's.

    KERAS_BACKEND=jax python backend_worker.py [CHECK ...]

prints one JSON object: what was measured, by the name of the check. Nothing is judged here.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from harness import datasets
from harness.domain.handy import (
    early_stopping,
    initializer,
    layer,
    learning_rate,
    loss,
    mlp,
    optimizer,
    sequential,
    sgd,
)
from harness.domain.outcome import Outcome
from harness.domain.setting import Dataset, Setting
from harness.domain.state import unpack
from harness.domain.trial import Trial
from harness.measure import WorkerState, run_trial
from harness.workloads.protocol import Stopwatch
from harness.workloads.training import compiled, feed, initial, network, workload

NAME = keras.backend.backend()
BACKEND = importlib.import_module(f"harness.workloads.training.{NAME}").BACKEND
UNEVEN = 24  # batches of 24, 24 and 16 of 64 samples


def points(samples: int = 64, classes: int = 3) -> Dataset:
    """Synthetic samples of 12 numbers each, 30 of them held out."""
    args = {"shape": [12], "classes": classes, "samples": samples, "test_samples": 30}
    return Dataset(name="synthetic", args=args)


def wide(*shape: int) -> Dataset:
    """128 synthetic samples of 10 classes."""
    args = {"shape": list(shape), "classes": 10, "samples": 128, "test_samples": 30}
    return Dataset(name="synthetic", args=args)


LOGITS = loss("categorical_crossentropy", from_logits=True)
NETWORKS = {
    "mlp": mlp(8, activation="tanh", output="linear"),
    "dropout": mlp(8, dropout=0.3, output="linear"),
    "regularised": sequential(
        layer("Dense", units=6, activation="relu", kernel_regularizer="l2", bias_regularizer="l1"),
        layer("ActivityRegularization", l2=0.01),
        layer("Dense", units=3, kernel_constraint="max_norm"),
    ),
    "batch normalisation": sequential(
        layer("Dense", units=6, use_bias=False), layer("BatchNormalization", momentum=0.8), layer("ReLU"),
        layer("Dense", units=3),
    ),
    "convolution": sequential(
        layer("Reshape", target_shape=[4, 3, 1]), layer("Conv2D", filters=3, kernel_size=2, activation="relu"),
        layer("MaxPooling2D", pool_size=2), layer("Flatten"), layer("Dense", units=3),
    ),
}  # fmt: skip
TELLING = ("dropout", "batch normalisation", "convolution")  # they keep more than weights, or run otherwise
DECAYING = learning_rate("CosineDecay", initial_learning_rate=0.02, decay_steps=12)
AS_FIT = {  # what must agree with Keras's own loop
    "batch normalisation": {
        "model": NETWORKS["batch normalisation"], "optimizer": sgd(0.05, momentum=0.9, nesterov=True),
        "batch_size": UNEVEN,
    },
    "regularised": {"model": NETWORKS["regularised"], "optimizer": optimizer("adam", learning_rate=DECAYING)},
    "convolution": {"model": NETWORKS["convolution"], "optimizer": sgd(0.05)},
}  # fmt: skip
FIRST_STEPS = {  # what must agree between back ends
    "logits": {},
    "clipped probabilities": {"loss": loss("clipped_categorical_crossentropy")},
    "sparse labels": {"loss": loss("sparse_categorical_crossentropy")},
    "one output": {
        "dataset": points(16, classes=2),
        "model": mlp(8, output="sigmoid"),
        "loss": loss("binary_crossentropy"),
    },
    "regularised": {"model": NETWORKS["regularised"], "loss": LOGITS},
    "batch normalisation": {"model": NETWORKS["batch normalisation"], "loss": LOGITS},
    "convolution": {"model": NETWORKS["convolution"], "loss": LOGITS},
}
ADAM = optimizer("adam", learning_rate=0.01)


def a_trial(seed: int = 0, **changes: Any) -> Trial:
    """64 samples in four batches, twice, in the order of the seed."""
    base = {"dataset": points(), "model": mlp(8, activation="tanh"), "batch_size": 16, "epochs": 2}
    return Trial(setting=Setting(**(base | {"backend": NAME} | changes)), seed=seed, repeat=0)


def a_workload(free_bytes: int | None = None) -> workload.Training:
    return workload.Training(datasets.load, BACKEND, free_bytes=free_bytes)


def run(trial: Trial, training: workload.Training | None = None, **states: Any) -> tuple[Outcome, list[Any]]:
    """Return the outcome of a trial and the weights it ended with; `states` as for `run_trial`."""
    training = training or a_workload()
    ended: list[Any] = []

    class Watched:
        def open(self, *arguments: Any) -> Any:
            session = training.open(*arguments)
            closing = session.close

            def close() -> None:
                ended.extend(session.snapshot())
                closing()

            session.close = close
            return session

    outcome = run_trial(trial, WorkerState(workloads={f"{NAME}.training": Watched()}), lambda epoch: None, **states)
    if outcome.status != "completed":
        raise RuntimeError(f"{outcome.error}\n{outcome.error_detail}")
    return outcome, ended


def scores(outcome: Outcome) -> list[list[float | None]]:
    return [[epoch.loss, epoch.accuracy, epoch.val_loss, epoch.val_accuracy] for epoch in outcome.epochs]


def same(one: tuple[Outcome, list[Any]], other: tuple[Outcome, list[Any]]) -> bool:
    """Whether two runs have the same scores and the same weights, to the bit."""
    (left, some), (right, others) = one, other
    equal = len(some) == len(others) > 0 and all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))
    return equal and scores(left) == scores(right)


def gap(some: list[Any], others: list[Any]) -> float:
    """Return by how much two lists of arrays differ at most, relative to values of 1 or more."""
    assert len(some) == len(others) > 0
    differences = [
        float(np.max(np.abs(a.astype(np.float64) - b) / np.maximum(1, np.abs(b)), initial=0))
        for a, b in zip(some, others, strict=True)
    ]
    return max(differences)


def fitted(trial: Trial) -> tuple[list[list[float | None]], list[Any]]:
    """Return the scores and the weights of `model.fit` from the same start, samples as they lie."""
    setting = trial.setting
    assert setting.dataset is not None
    assert setting.model is not None
    arrays = datasets.load(setting.dataset, {})
    with initial.captured() as recipes_of:
        model = network.build_model(setting.model, input_shape=arrays.x_train.shape[1:], outputs=3, sources={})
    recipes_of(model).initialise(trial.seed)
    model.compile(
        optimizer=network.build_optimizer(setting.optimizer, {}),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["categorical_accuracy"],
    )
    wanted, held_out = (np.eye(3, dtype=np.float32)[y] for y in (arrays.y_train, arrays.y_val))
    history = model.fit(
        arrays.x_train,
        wanted,
        validation_data=(arrays.x_val, held_out),
        batch_size=setting.batch_size,
        epochs=setting.epochs,
        shuffle=False,
        verbose=0,
    ).history
    names = ("loss", "categorical_accuracy", "val_loss", "val_categorical_accuracy")
    weights = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]
    return [[float(history[name][epoch]) for name in names] for epoch in range(setting.epochs)], weights


def against_fit() -> dict[str, Any]:
    found = {}
    for name, changes in AS_FIT.items():
        trial = a_trial(shuffle=False, loss=LOGITS, **changes)
        (outcome, weights), (expected, others) = run(trial), fitted(trial)
        assert outcome.facts is not None
        found[name] = {
            "engine": outcome.facts.engine,
            "scores": gap([np.array(scores(outcome))], [np.array(expected)]),
            "weights": gap(weights, others),
        }
    return found


def first_steps() -> dict[str, float | None]:
    """Return the losses of the first batch: epochs of one batch."""
    one_batch = {"dataset": points(16), "epochs": 1, "shuffle": True}
    return {name: run(a_trial(**(one_batch | changes)))[0].epochs[0].loss for name, changes in FIRST_STEPS.items()}


def chunks() -> dict[str, Any]:
    """Return how many calls an epoch took, cut up and whole, and whether they gave the same bits."""
    found = {}
    for name in TELLING:
        trial = a_trial(model=NETWORKS[name], loss=LOGITS, optimizer=ADAM, batch_size=UNEVEN)
        training, results = a_workload(), []
        for seconds in (1e-9, 100.0):
            compiled.CHUNK_S = seconds  # type: ignore[misc]
            results.append(run(trial, training))
        counted = [outcome.epochs[-1].chunks for outcome, _ in results]
        found[name] = {"chunks": counted, "same": same(*results)}
    return found


def steps() -> dict[str, Any]:
    training = a_workload()
    changes = {"optimizer": sgd(0.05, momentum=0.9, nesterov=True)}
    whole, stepped = run(a_trial(**changes), training), run(a_trial(dispatch="step", **changes), training)
    return {"chunks": [epoch.chunks for epoch in stepped[0].epochs], "same": same(whole, stepped)}


def reuse() -> dict[str, Any]:
    found = {}
    for name in TELLING:
        training, changes = a_workload(), {"model": NETWORKS[name], "loss": LOGITS, "optimizer": ADAM}
        run(a_trial(1, **changes), training)
        run(a_trial(2, **changes | {"optimizer": optimizer("adam", learning_rate=0.5)}), training)
        reused, fresh = run(a_trial(3, **changes), training), run(a_trial(3, **changes))
        assert reused[0].facts is not None
        found[name] = {"reused": reused[0].facts.program_reused, "same": same(reused, fresh)}
    return found


def seeds() -> list[float | None]:
    """Return what trials of two seeds score before they train."""
    return [outcome.facts.initial_val_loss for outcome, _ in (run(a_trial(seed)) for seed in (0, 1)) if outcome.facts]


def draws() -> list[float | None]:
    """Return the first losses with dropout for two seeds of the same weights, and one of them once more."""
    model = mlp(8, dropout=0.5, kernel_initializer=initializer("glorot_uniform", seed=5))
    training = a_workload()
    return [run(a_trial(seed, model=model, shuffle=False), training)[0].epochs[0].loss for seed in (0, 1, 0)]


def streamed() -> float:
    """Return by how much training on data that does not fit differs from training on data that does."""
    resident, through = run(a_trial(optimizer=ADAM)), run(a_trial(optimizer=ADAM), a_workload(free_bytes=1))
    return gap([np.array(scores(through[0]))], [np.array(scores(resident[0]))])


def engines() -> dict[str, Any]:
    """Return by how much each engine differs from the first."""
    changes = {"model": NETWORKS["batch normalisation"], "loss": LOGITS, "optimizer": ADAM}
    found, first = {}, None
    for engine in BACKEND.engines:
        outcome, weights = run(a_trial(engine=engine, **changes))
        first = first or (outcome, weights)
        assert outcome.facts is not None
        found[engine] = {
            "ran": outcome.facts.engine,
            "scores": gap([np.array(scores(outcome))], [np.array(scores(first[0]))]),
            "weights": gap(weights, first[1]),
        }
    return found


def precisions() -> dict[str, Any]:
    """Return the losses of every epoch by precision."""
    found = {}
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        outcome, _ = run(a_trial(precision=precision, optimizer=sgd(0.1, momentum=0.9), epochs=4))
        found[precision] = [epoch.loss for epoch in outcome.epochs]
    return found


def snapshots() -> list[float]:
    """Return what the network scores after one epoch, after another, and once the first one's weights are back."""
    session = a_workload().open(a_trial(), {}, Stopwatch())
    found = []
    for epoch in (1, 2):
        session.before_epoch(epoch)
        session.train_epoch(epoch, lambda: None)
        found.append(session.evaluate().loss)
        if epoch == 1:
            kept = session.snapshot()
    session.restore(kept)
    found.append(session.evaluate().loss)
    session.before_epoch(3)
    session.train_epoch(3, lambda: None)  # goes on from there
    found.append(session.evaluate().loss)
    return found


COUNTED = {  # what takes so many operations a batch that they can be counted by hand
    "mlp": {"dataset": wide(784), "model": mlp(32), "batch_size": 64},
    "convolution": {
        "dataset": wide(16, 16, 3),
        "model": sequential(
            layer("Conv2D", filters=8, kernel_size=3, activation="relu"),
            layer("Conv2D", filters=16, kernel_size=3, strides=2),
            layer("Flatten"),
            layer("Dense", units=10),
        ),
        "loss": LOGITS,
        "batch_size": 64,
    },
    "padded": {
        "dataset": wide(16, 16, 3),
        "model": sequential(
            layer("Conv2D", filters=8, kernel_size=3, padding="same"), layer("Flatten"), layer("Dense", units=10)
        ),
        "loss": LOGITS,
        "batch_size": 64,
    },
    "recurrent": {
        "dataset": wide(20, 5),
        "model": sequential(layer("LSTM", units=16), layer("Dense", units=10)),
        "loss": LOGITS,
        "batch_size": 64,
    },
}


DROPPING = sequential(
    layer("Dense", units=8, activation="relu"), layer("BatchNormalization"), layer("Dropout", rate=0.3),
    layer("Dense", units=3),
)  # fmt: skip
KEPT = early_stopping("val_loss", patience=9, best_weights=True)
RESUMED = {  # by what makes their states differ
    "adam": {"optimizer": optimizer("adam", learning_rate=DECAYING), "early_stopping": KEPT},
    "streamed": {"optimizer": sgd(0.1, momentum=0.9, nesterov=True), "precision": "mixed_float16"},
}


def resumed() -> dict[str, Any]:
    """Return for each engine and trial how many states there were, and which of them led elsewhere than the trial that
    ran through; each is taken up by a worker that was at something else."""
    compiled.CHUNK_S = 1e-9  # type: ignore[misc]  # each batch is a call
    feed._BLOCK_BYTES = 24 * 56  # type: ignore[misc]  # rows of 12 float32 and a label: blocks of 24, 24 and 16
    found: dict[str, Any] = {}
    for engine in BACKEND.engines:
        for name, changes in RESUMED.items():
            if engine != BACKEND.engines[0] and name != "adam":
                continue
            some: dict[str, Any] = {"model": DROPPING, "loss": LOGITS, "batch_size": UNEVEN, "epochs": 3}
            trial = replace(a_trial(3, engine=engine, **(some | changes)), checkpoint_s=0.0)
            training = a_workload(free_bytes=1 if name == "streamed" else None)
            states: list[bytes] = []
            whole = run(trial, training, on_state=states.append)
            if engine != "fit":  # which compiles each time
                run(replace(trial, seed=4), training)
            differing, resumptions = [], []
            for number in (1, 3, 6, 10) if len(states) == 11 else (0,):  # the fourth: between two epochs
                state = states[number]
                head = unpack(trial, state).head
                again = run(trial, training, state=state)
                facts, epoch = again[0].facts, head["epoch"]
                resumptions.append([facts.resumptions, facts.resumed_after_epoch == epoch])
                kept = again[0].epochs[:epoch] == whole[0].epochs[:epoch]
                if not (same(whole, again) and kept and counted(again) == counted(whole)):
                    differing.append([number, epoch, head["part"]])
            found[f"{engine}, {name}"] = {
                "states": len(states), "differing": differing,
                "told": all(one == [1, True] for one in resumptions),
            }  # fmt: skip
    return found


def counted(ran: tuple[Outcome, list[Any]]) -> list[Any]:
    facts = ran[0].facts
    return [
        *([epoch.samples, epoch.steps, epoch.chunks] for epoch in ran[0].epochs),
        *(facts.initial_val_loss, facts.best_epoch, facts.stopped_early),
    ]


def flops() -> dict[str, Any]:
    """Return the operations of a step as the back end counts them, by model."""
    found = {}
    for name, changes in COUNTED.items():
        facts = run(a_trial(epochs=1, **changes))[0].facts
        found[name] = [facts.step_flops, facts.flops_source]
    return found


def uncountable() -> list[Any]:
    """Return status, engine and operations of a trial whose operations cannot be counted."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise error("nobody knows this operation")

    backend = importlib.import_module(f"harness.workloads.training.{NAME}")
    error: Any = (*BACKEND.cannot_compile, ValueError)[0] if NAME == "jax" else ZeroDivisionError
    place, name = {
        "tensorflow": (importlib.import_module("harness.workloads.training.tensorflow_flops"), "_of_function"),
        "jax": (importlib.import_module("harness.workloads.training.jax_flops"), "_further_rounds"),
        "torch": (backend, "FlopCounterMode"),
    }[NAME]
    counts = getattr(place, name)
    setattr(place, name, fail)
    try:
        outcome = run(a_trial(epochs=1))[0]
    finally:
        setattr(place, name, counts)
    return [outcome.status, outcome.facts.engine == run(a_trial(epochs=1))[0].facts.engine, outcome.facts.step_flops]


def compilations() -> dict[str, Any]:
    """Return how many programs are compiled in each epoch: of two trials on one program by engine, with one planted."""
    found = {}
    for engine in BACKEND.engines:
        training = a_workload()
        outcomes = [run(a_trial(seed, engine=engine, batch_size=UNEVEN), training)[0] for seed in (0, 1)]
        found[engine] = [epoch.compilations for outcome in outcomes for epoch in outcome.epochs]
    return {"by engine": found, "planted": planted()}


def planted() -> list[int | None]:
    """Return how many programs are compiled in an epoch, and in one in which a function is compiled once more."""
    compiling = {"tensorflow": recompiling_tensorflow, "jax": recompiling_jax}.get(NAME)
    if compiling is None:
        return []
    session: Any = a_workload().open(a_trial(), {}, Stopwatch())
    call, program, found = compiling(), session._train_program, []
    for epoch, rows in ((1, 2), (2, 3)):

        def compiling_too(size: int, block: Any, rows: int = rows) -> Any:
            call(rows)
            return program(size, block)

        session._train_program = compiling_too
        session.before_epoch(epoch)
        found.append(session.train_epoch(epoch, lambda: None).compilations)
    return found


def recompiling_tensorflow() -> Callable[[int], Any]:
    """Return a function that was traced, and that XLA compiles anew for each number that it is given."""
    import tensorflow as tf

    function = tf.function(lambda x, rows: tf.reshape(x, tf.stack([rows, -1])), jit_compile=True, autograph=False)
    traced = function.get_concrete_function(tf.TensorSpec((12,)), tf.TensorSpec((), tf.int32))
    traced(tf.zeros(12), tf.constant(2))
    return lambda rows: traced(tf.zeros(12), tf.constant(rows))


def recompiling_jax() -> Callable[[int], Any]:
    import jax

    function, rows = jax.jit(lambda x: x + 1), {size: np.zeros(size, np.float32) for size in (2, 3)}
    function(rows[2])
    return lambda size: function(rows[size])


def calibrated() -> dict[str, Any]:
    return dict(BACKEND.calibrate())


def process() -> dict[str, Any]:
    return {"name": BACKEND.name, "threads": BACKEND.threads(), "versions": dict(BACKEND.versions())}


CHECKS: tuple[Callable[[], Any], ...] = (
    *(process, flops, compilations, against_fit, first_steps, chunks, steps, reuse),  # compilations: little was before
    *(seeds, draws, streamed, engines, precisions, snapshots, uncountable, calibrated),
    resumed,  # leaves calls and blocks of another size behind
)

if __name__ == "__main__":
    BACKEND.prepare_process()
    measured = {}
    for check in CHECKS:
        if len(sys.argv) == 1 or check.__name__ in sys.argv:
            try:
                measured[check.__name__] = check()
            except Exception:
                measured[check.__name__] = {"error": traceback.format_exc()}
    print(json.dumps(measured))
