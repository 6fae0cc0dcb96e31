"""The engine against Keras's own loop, and against itself: chunked, reused, streamed, step by step."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from harness import datasets
from harness.domain import sources
from harness.domain.component import function
from harness.domain.handy import dataset, layer, learning_rate, loss, mlp, optimizer, sequential, sgd
from harness.domain.outcome import Outcome
from harness.domain.setting import Dataset, Setting
from harness.domain.trial import Trial
from harness.measure import WorkerState, run_trial
from harness.workloads.training import initial, network
from harness.workloads.training.tensorflow import BACKEND
from harness.workloads.training.workload import Training

FLAT = Dataset(name="synthetic", scale="unit", args={"shape": [12], "classes": 3, "samples": 64, "test_samples": 30})
IMAGES = Dataset(
    name="synthetic", scale="unit", args={"shape": [8, 8, 1], "classes": 3, "samples": 64, "test_samples": 30}
)
PAIRS = Dataset(name="synthetic", scale="unit", args={"shape": [12], "classes": 2, "samples": 64, "test_samples": 30})
MLP = mlp(8, activation="tanh")


UNEVEN = 24  # batches of 24, 24 and 16 samples


def a_setting(**changes: Any) -> Setting:
    """64 samples in four batches, three times."""
    return Setting(**({"dataset": FLAT, "model": MLP, "batch_size": 16, "epochs": 3, "shuffle": False} | changes))


def a_trial(seed: int = 0, **changes: Any) -> Trial:
    return Trial(setting=a_setting(**changes), seed=seed, repeat=0)


def run(trial: Trial, training: Training | None = None) -> tuple[Outcome, list[np.ndarray]]:
    """Return the outcome of a trial and the weights it ended with."""
    training = training or Training(datasets.load, BACKEND)
    worker = WorkerState(sources=sources.collected(), workloads={"tensorflow.training": training})
    outcome = run_trial(trial, worker, lambda epoch: None)
    networks = list(training._networks._values.values())
    return outcome, networks[-1].model.get_weights() if networks else []


def scores(outcome: Outcome) -> list[tuple[float | None, ...]]:
    return [(epoch.loss, epoch.accuracy, epoch.val_loss, epoch.val_accuracy) for epoch in outcome.epochs]


def fitted(trial: Trial, loss_name: Any, *, column: bool = False) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """Return the history and the weights of `model.fit` from the same start."""
    setting = trial.setting
    assert setting.dataset is not None
    assert setting.model is not None
    arrays = datasets.load(setting.dataset, {})
    with initial.captured() as recipes_of:
        model = network.build_model(
            setting.model, input_shape=arrays.x_train.shape[1:], outputs=arrays.classes or 1, sources={}
        )
    recipes_of(model).initialise(trial.seed)
    model.compile(
        optimizer=network.build_optimizer(setting.optimizer, {}),
        loss=loss_name,
        metrics=["accuracy"],
        jit_compile=False,
    )

    def wanted(y: np.ndarray) -> np.ndarray:
        if column:
            return y[:, None].astype(np.float32)
        return y if str(loss_name).startswith("sparse") else np.eye(arrays.classes, dtype=np.float32)[y]

    history = model.fit(
        arrays.x_train,
        wanted(arrays.y_train),
        validation_data=(arrays.x_val, wanted(arrays.y_val)),
        batch_size=setting.batch_size,
        epochs=setting.epochs,
        shuffle=False,
        verbose=0,
    ).history
    return history, model.get_weights()


def assert_same_training(trial: Trial, loss_name: Any = "categorical_crossentropy", **how: Any) -> Outcome:
    """Train with the engine and with `model.fit`, and compare every epoch's scores and the weights at the end."""
    outcome, weights = run(trial)
    assert outcome.status == "completed", outcome.error_detail
    history, expected = fitted(trial, loss_name, **how)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(
            [getattr(epoch, name) for epoch in outcome.epochs], history[name], rtol=2e-5, atol=2e-6, err_msg=name
        )
    if trial.setting.optimizer.args.get("use_ema"):
        return outcome  # fit puts the averaged weights in place once all epochs are over
    assert len(weights) == len(expected)
    for ours, keras_own in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-4, atol=2e-6)
    return outcome


ADAM = optimizer("adam", learning_rate=0.01)
OPTIMIZERS = {
    "nesterov": sgd(0.05, momentum=0.9, nesterov=True),
    "adamw": optimizer("adamw", learning_rate=0.01, weight_decay=0.05),
    "cosine": optimizer("adam", learning_rate=learning_rate("CosineDecay", initial_learning_rate=0.02, decay_steps=12)),
}
MORE_OPTIMIZERS = {  # the same program, but as a graph, which compiles faster
    "sgd": sgd(0.05),
    "momentum": sgd(0.05, momentum=0.9),
    "rmsprop": optimizer("rmsprop", learning_rate=0.01, momentum=0.5, centered=True),
    "decay": sgd(0.05, weight_decay=0.01, clipnorm=1.0),
    "adam": ADAM,
    "amsgrad": optimizer("adam", learning_rate=0.01, amsgrad=True),
    "adagrad": optimizer("adagrad", learning_rate=0.05),
    "nadam": optimizer("nadam", learning_rate=0.01),
    "average": sgd(0.05, use_ema=True, ema_momentum=0.9),
    "exponential": sgd(
        learning_rate("ExponentialDecay", initial_learning_rate=0.1, decay_steps=3, decay_rate=0.9), momentum=0.8
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_agrees_with_fit_for_each_optimizer(name: str) -> None:
    assert_same_training(a_trial(optimizer=OPTIMIZERS[name]))


@pytest.mark.parametrize("name", MORE_OPTIMIZERS)
def test_training_as_a_graph_agrees_with_fit_for_each_optimizer(name: str) -> None:
    assert_same_training(a_trial(optimizer=MORE_OPTIMIZERS[name], engine="graph"))


MODELS = {
    "batch normalisation": sequential(
        layer("Dense", units=6, use_bias=False), layer("BatchNormalization", momentum=0.8), layer("ReLU"),
        layer("Dense", units=3, activation="softmax"),
    ),
    "regularised": sequential(
        layer("Dense", units=6, activation="relu", kernel_regularizer="l2", bias_regularizer="l1"),
        layer("ActivityRegularization", l2=0.01),
        layer("Dense", units=3, activation="softmax", kernel_constraint="max_norm"),
    ),
    "layer normalisation": sequential(
        layer("Dense", units=6), layer("LayerNormalization"), layer("Activation", activation="gelu"),
        layer("Dense", units=3), layer("Softmax"),
    ),
    "a sigmoid before the softmax": sequential(layer("Dense", units=3, activation="sigmoid"), layer("Softmax")),
    "initialised": mlp([6, 5], activation="sigmoid", kernel_initializer="he_normal"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_training_agrees_with_fit_for_each_layer(name: str) -> None:
    trial = a_trial(model=MODELS[name], optimizer=sgd(0.02, momentum=0.9), batch_size=UNEVEN)
    assert assert_same_training(trial).facts.engine == "xla"


@pytest.mark.parametrize(("engine", "runs"), [("auto", "graph"), ("xla", "xla")])
def test_convolutions_agree_with_fit_and_run_as_a_graph_on_a_cpu(engine: str, runs: str) -> None:
    model = sequential(
        layer("Conv2D", filters=3, kernel_size=3, activation="relu", kernel_regularizer="l2"),
        layer("MaxPooling2D"), layer("BatchNormalization"), layer("Flatten"),
        layer("Dense", units=3, activation="softmax"),
    )  # fmt: skip
    outcome = assert_same_training(a_trial(dataset=IMAGES, model=model, optimizer=sgd(0.005), engine=engine))
    if not tf.config.list_logical_devices("GPU"):
        assert outcome.facts.engine == runs
        assert ("convolves" in str(outcome.facts.engine_reason)) == (engine == "auto")


def test_dropout_agrees_with_fit_and_runs_as_a_graph_on_a_cpu() -> None:
    outcome = assert_same_training(a_trial(model=mlp([8, 6], dropout=0.3), optimizer=sgd(0.02), batch_size=UNEVEN))
    if not tf.config.list_logical_devices("GPU"):
        assert outcome.facts.engine == "graph"
        assert "random" in str(outcome.facts.engine_reason)


LOSSES = {
    "categorical_crossentropy": loss("categorical_crossentropy"),
    "sparse_categorical_crossentropy": loss("sparse_categorical_crossentropy"),
    "mean_squared_error": loss("mean_squared_error"),
    "kl_divergence": loss("kl_divergence"),
    "categorical_hinge": loss("categorical_hinge"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_training_agrees_with_fit_for_each_loss(name: str) -> None:
    assert_same_training(a_trial(loss=LOSSES[name], optimizer=sgd(0.02), engine="graph"), name)


def test_a_loss_with_arguments_agrees_with_fit() -> None:
    smooth = keras.losses.CategoricalCrossentropy(label_smoothing=0.1, from_logits=True)
    model = mlp(8, output="linear")
    declared = loss("categorical_crossentropy", label_smoothing=0.1, from_logits=True)
    assert_same_training(a_trial(loss=declared, model=model, optimizer=sgd(0.02), engine="graph"), smooth)


def test_two_classes_and_one_output_agree_with_fit() -> None:
    model = sequential(layer("Dense", units=6, activation="tanh"), layer("Dense", units=1, activation="sigmoid"))
    trial = a_trial(dataset=PAIRS, model=model, loss=loss("binary_crossentropy"), optimizer=sgd(0.05))
    assert_same_training(trial, "binary_crossentropy", column=True)


@pytest.mark.parametrize("engine", ["graph", "fit"])
def test_every_engine_gives_the_results_of_the_first(engine: str) -> None:
    changes = {"model": MODELS["batch normalisation"], "optimizer": ADAM, "shuffle": True}
    first, weights = run(a_trial(**changes))
    other, others = run(a_trial(engine=engine, **changes))
    assert (first.facts.engine, other.facts.engine) == ("xla", engine)
    np.testing.assert_allclose(scores(other), scores(first), rtol=1e-4, atol=1e-5)
    for one, another in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-3, atol=1e-5)


def a_line(samples: int) -> dict[str, np.ndarray]:
    x = np.linspace(-1, 1, samples, dtype=np.float32)[:, None]
    return {"x_train": x, "y_train": 3 * x[:, 0] + 1, "x_test": x[:8], "y_test": 3 * x[:8, 0] + 1}


def squared(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true[:, None] - y_pred), axis=-1)


def descent(rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate)


def test_functions_of_ones_own_can_be_dataset_loss_and_optimizer_and_numbers_have_no_accuracy() -> None:
    trial = a_trial(
        dataset=dataset(a_line, scale="none", samples=32),
        model=sequential(layer("Dense", units=1)),
        loss=function(squared, kind="loss"),
        optimizer=function(descent, kind="optimizer", rate=0.3),
        epochs=30,
    )
    outcome, (slope, offset) = run(trial)
    assert outcome.status == "completed", outcome.error_detail
    assert outcome.epochs[-1].accuracy is None
    assert outcome.epochs[-1].val_accuracy is None
    assert outcome.epochs[-1].val_loss == pytest.approx(0, abs=1e-3)
    assert (float(slope[0, 0]), float(offset[0])) == pytest.approx((3, 1), abs=0.05)


def test_the_untrained_model_is_evaluated_off_the_clock() -> None:
    trial = a_trial(optimizer=sgd(0.0), epochs=1)
    outcome, _ = run(trial)
    assert outcome.facts.initial_val_loss == pytest.approx(outcome.epochs[0].val_loss)
    assert outcome.facts.initial_val_accuracy == outcome.epochs[0].val_accuracy
    assert outcome.watches.eval_s > (outcome.epochs[0].eval_s or 0)


def test_the_same_trial_twice_gives_the_same_bits() -> None:
    for model in (MLP, mlp(8, dropout=0.5)):
        (one, weights), (two, again) = run(a_trial(model=model, shuffle=True)), run(a_trial(model=model, shuffle=True))
        assert scores(one) == scores(two)
        assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_another_seed_starts_elsewhere_and_shuffles_otherwise() -> None:
    one, two = (run(a_trial(seed, optimizer=sgd(0.05), shuffle=True))[0] for seed in (0, 1))
    assert one.facts.initial_val_loss != two.facts.initial_val_loss
    assert not np.array_equal(initial.shuffled(0, 1, 64), initial.shuffled(1, 1, 64))
    assert not np.array_equal(initial.shuffled(0, 1, 64), initial.shuffled(0, 2, 64))


def test_an_epoch_in_chunks_has_the_bits_of_an_epoch_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model": MODELS["batch normalisation"], "batch_size": UNEVEN}
    trial = a_trial(optimizer=ADAM, shuffle=True, **changes)
    training = Training(datasets.load, BACKEND)
    found = []
    for chunk_s, chunks in ((1e-9, 3), (100.0, 2)):  # the short batch is a call of its own
        monkeypatch.setattr("harness.workloads.training.compiled.CHUNK_S", chunk_s)
        outcome, weights = run(trial, training)
        assert outcome.epochs[-1].chunks == chunks
        found.append((scores(outcome), weights))
    (cut, weights), (whole, others) = found
    assert cut == whole
    assert all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


def test_step_by_step_gives_the_results_of_whole_epochs() -> None:
    training = Training(datasets.load, BACKEND)
    whole, _ = run(a_trial(shuffle=True, optimizer=OPTIMIZERS["nesterov"]), training)
    stepped, _ = run(a_trial(shuffle=True, optimizer=OPTIMIZERS["nesterov"], dispatch="step"), training)
    assert [epoch.chunks for epoch in stepped.epochs] == [4, 4, 4]
    assert stepped.facts.program_reused
    assert scores(stepped) == scores(whole)


@pytest.mark.parametrize("model", [MODELS["batch normalisation"], mlp(8, dropout=0.5)], ids=["xla", "graph"])
def test_a_reused_program_gives_the_bits_of_a_fresh_one(model: Any) -> None:
    training = Training(datasets.load, BACKEND)
    changes = {"model": model, "optimizer": ADAM, "shuffle": True}
    first, _ = run(a_trial(1, **changes), training)
    run(a_trial(2, **changes | {"optimizer": optimizer("adam", learning_rate=0.5)}), training)
    reused, weights = run(a_trial(3, **changes), training)
    fresh, others = run(a_trial(3, **changes))
    assert (first.facts.program_reused, reused.facts.program_reused) == (False, True)
    assert scores(reused) == scores(fresh)
    assert all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


def test_a_second_batch_size_compiles_its_own_training_alone() -> None:
    training = Training(datasets.load, BACKEND)
    run(a_trial(batch_size=32), training)
    (made,) = training._networks._values.values()
    before = set(made.programs._values)
    run(a_trial(batch_size=8), training)
    assert [key[0] for key in made.programs._values if key not in before] == ["train"]


COUNTING = """
import os, sys
cache = sys.argv[1]
os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={cache}"  # XLA writes a file whenever it compiles
from harness import datasets
from harness.domain.handy import mlp, sgd
from harness.domain.setting import Dataset, Setting
from harness.domain.trial import Trial
from harness.workloads.protocol import Stopwatch
from harness.workloads.training import tensorflow
from harness.workloads.training.workload import Training
traced = []
program = tensorflow._Program
tensorflow._Program = lambda *args: traced.append(True) or program(*args)
data = Dataset(name="synthetic", args={"shape": [4], "classes": 3, "samples": 50, "test_samples": 30})
setting = Setting(dataset=data, model=mlp(4), optimizer=sgd(0.1), batch_size=20)
session = Training(datasets.load, tensorflow.BACKEND).open(Trial(setting=setting, seed=0, repeat=0), {}, Stopwatch())
print(len(traced), len(os.listdir(cache)))
for epoch in (1, 2, 3):
    session.before_epoch(epoch)
    session.train_epoch(epoch, lambda: None)
    session.evaluate()
print(len(traced), len(os.listdir(cache)))
"""


def test_epochs_neither_trace_nor_compile(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(tmp_path)], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    # Traced: batches of 20, the batch of 10, the evaluation; XLA compiles the first two.
    assert done.stdout.split() == ["3", "2", "3", "2"]


def test_data_too_large_for_the_device_are_streamed_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = a_trial(shuffle=True, optimizer=ADAM)
    resident, weights = run(trial)
    monkeypatch.setattr("harness.workloads.training.feed._BLOCK_BYTES", 32 * 52)  # two batches of 16 samples
    streamed, others = run(trial, Training(datasets.load, BACKEND, free_bytes=1000))
    assert streamed.status == "completed", streamed.error_detail
    assert (resident.epochs[-1].chunks, streamed.epochs[-1].chunks) == (1, 2)
    np.testing.assert_allclose(scores(streamed), scores(resident), rtol=1e-6)
    for one, another in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-7)


def test_a_training_that_diverges_ends_there_and_says_so() -> None:
    outcome, _ = run(a_trial(optimizer=sgd(1e20), loss=loss("mean_squared_error"), model=mlp(8, output="linear")))
    assert outcome.status == "failed"
    last = outcome.epochs[-1]
    assert last.loss is not None
    assert not math.isfinite(last.loss)
    assert f"at epoch {last.epoch}; lower the learning rate, now 1e+20" in str(outcome.error)


class Uncompilable(keras.layers.Layer):
    """Goes through Python in the middle of a step, which XLA cannot."""

    def call(self, x: Any) -> Any:
        result = tf.grad_pass_through(lambda v: tf.py_function(lambda w: w * 1.0, [v], tf.float32))(x)
        result.set_shape(x.shape)
        return result


def goes_through_python(input_shape: tuple[int, ...], outputs: int, units: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Dense(units, activation="tanh"),
            Uncompilable(),
            keras.layers.Dense(outputs, activation="softmax"),
        ]
    )


def test_what_xla_cannot_compile_falls_back_to_a_graph_and_says_why() -> None:
    outcome, _ = run(a_trial(model=function(goes_through_python, units=5)))
    assert outcome.status == "completed", outcome.error_detail
    assert outcome.facts.engine == "graph"
    assert "xla cannot compile it" in str(outcome.facts.engine_reason)


def test_a_batch_larger_than_the_data_is_a_failed_trial_that_says_so() -> None:
    outcome, _ = run(a_trial(batch_size=65))
    assert (outcome.status, outcome.step) == ("failed", "data")
    assert outcome.error == "batch_size is 65, more than the 64 training samples of 'synthetic'; lower batch_size"


def test_a_model_of_the_wrong_width_is_found_by_check() -> None:
    trial = a_trial(model=sequential(layer("Dense", units=4, activation="softmax")))
    with pytest.raises(Exception, match="ends in 4 outputs, but the dataset has 3 classes"):
        Training(datasets.load, BACKEND).check(trial, {})


def test_an_argument_that_keras_refuses_is_found_by_check() -> None:
    trial = a_trial(model=sequential(layer("Conv2D", filters=3, kernel_size=3), layer("Dense", units=3)))
    with pytest.raises(ValueError, match="ndim"):
        Training(datasets.load, BACKEND).check(trial, {})
