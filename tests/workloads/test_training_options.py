"""What a training can be asked for besides: two meanings of cross-entropy, rates by the step, metrics, models kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from harness import apply, datasets
from harness.domain import sources
from harness.domain.component import function
from harness.domain.errors import ResultsError, SuiteError
from harness.domain.handy import dataset, early_stopping, layer, learning_rate, mlp, optimizer, sequential, sgd, tail
from harness.domain.outcome import Outcome
from harness.domain.setting import Dataset, Setting
from harness.domain.trial import Trial
from harness.measure import WorkerState, run_trial
from harness.workloads.training import reused
from harness.workloads.training.losses import Head, Objective
from harness.workloads.training.recent import Recent
from harness.workloads.training.tensorflow import BACKEND
from harness.workloads.training.workload import Training

FLAT = Dataset(name="synthetic", args={"shape": [12], "classes": 3, "samples": 64, "test_samples": 30})


def numbers() -> tuple[Any, Any]:
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    return x, 2 * x[:, 0]


NUMBERS = dataset(numbers, scale="none", held_out=tail(0.25))


def a_trial(seed: int = 0, **changes: Any) -> Trial:
    declared = {"dataset": FLAT, "model": mlp(8, activation="tanh"), "batch_size": 16, "epochs": 3, "engine": "graph"}
    return Trial(setting=Setting(**(declared | changes)), seed=seed, repeat=0)


def run(trial: Trial, training: Training | None = None) -> Outcome:
    training = training or Training(datasets.load, BACKEND)
    worker = WorkerState(sources=sources.collected(), workloads={"tensorflow.training": training})
    return run_trial(trial, worker, lambda epoch: None)


def completed(trial: Trial) -> Outcome:
    outcome = run(trial)
    assert outcome.status == "completed", outcome.error_detail
    return outcome


def the_objective(loss: str, activation: str, *, classes: int = 3) -> tuple[Objective, keras.Model]:
    outputs = 1 if activation == "sigmoid" else classes
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(outputs, activation=activation)])
    form = "column" if outputs == 1 else "labels" if loss.removeprefix("clipped_").startswith("sparse") else "one_hot"
    declared = Setting(loss=loss).loss
    return Objective.build("", declared, Head.take_off(model), form=form, classes=classes, sources={}), model


LOGITS = np.array([[100.0, 0.0, -5.0], [1.0, 2.0, 3.0]], np.float32)  # the first one saturates a softmax
LABELS = np.array([1, 2], np.int32)


@pytest.mark.parametrize("kind", ["", "sparse_"])
def test_cross_entropy_on_logits_does_not_saturate_and_on_clipped_probabilities_does(kind: str) -> None:
    on_logits, _ = the_objective(f"{kind}categorical_crossentropy", "softmax")
    clipped, _ = the_objective(f"clipped_{kind}categorical_crossentropy", "softmax")
    second = math.log(sum(math.exp(value) for value in (1, 2, 3))) - 3
    assert float(on_logits.loss(LABELS, LOGITS)) == pytest.approx((100 + second) / 2, rel=1e-5)
    assert float(clipped.loss(LABELS, LOGITS)) == pytest.approx((-math.log(1e-7) + second) / 2, rel=1e-3)


def test_binary_cross_entropy_has_both_meanings_too() -> None:
    y, z = np.array([0, 1], np.int32), np.array([[50.0], [0.0]], np.float32)
    on_logits, _ = the_objective("binary_crossentropy", "sigmoid", classes=2)
    clipped, _ = the_objective("clipped_binary_crossentropy", "sigmoid", classes=2)
    assert float(on_logits.loss(y, z)) == pytest.approx((50 + math.log(2)) / 2, rel=1e-5)
    # 1 - 1e-7 has no exact float32: the nearest is 1 - 1.19e-7.
    assert float(clipped.loss(y, z)) == pytest.approx((-math.log(1e-7) + math.log(2)) / 2, rel=2e-2)


def test_a_model_gets_its_softmax_back() -> None:
    objective, model = the_objective("categorical_crossentropy", "softmax")
    x = np.ones((1, 2), np.float32)
    bare = np.asarray(model(x))
    with objective.head.put_on():
        np.testing.assert_allclose(np.asarray(model(x)), np.asarray(keras.ops.softmax(bare)), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(model(x)), bare)


def test_a_softmax_that_is_a_layer_is_taken_off_as_well() -> None:
    named = completed(a_trial(model=mlp(8, activation="tanh")))
    own_layer = sequential(layer("Dense", units=8, activation="tanh"), layer("Dense", units=3), layer("Softmax"))
    assert [epoch.loss for epoch in completed(a_trial(model=own_layer)).epochs] == pytest.approx(
        [epoch.loss for epoch in named.epochs], rel=1e-6
    )


def halving(step: int, start: float = 0.1) -> float:
    return start * 0.5 ** (step // 4)


def test_a_function_of_the_step_sets_the_learning_rate() -> None:
    by_function = completed(a_trial(optimizer=sgd(function(halving, start=0.2))))
    by_name = learning_rate(
        "ExponentialDecay", initial_learning_rate=0.2, decay_steps=4, decay_rate=0.5, staircase=True
    )
    keras_own = completed(a_trial(optimizer=sgd(by_name)))
    assert [epoch.loss for epoch in by_function.epochs] == pytest.approx(
        [epoch.loss for epoch in keras_own.epochs], rel=1e-5
    )


def negative(step: int) -> float:
    return 0.1 - step


def test_a_learning_rate_that_is_none_names_the_step() -> None:
    outcome = run(a_trial(optimizer=sgd(negative)))
    assert outcome.status == "failed"
    assert outcome.error == "optimizer.learning_rate: negative(1) returned -0.9; expected a finite number from 0"


def test_further_metrics_are_measured_on_the_held_out_part() -> None:
    outcome = completed(a_trial(metrics=["r2_score", "categorical_crossentropy", "top_k_categorical_accuracy"]))
    for epoch in outcome.epochs:
        assert epoch.val_loss == pytest.approx(epoch.extra["val_categorical_crossentropy"], rel=1e-4)
        assert epoch.extra["val_top_k_categorical_accuracy"] == 1.0  # of three classes, the best five
        assert -1 < epoch.extra["val_r2_score"] < 1


def test_the_counts_of_samples_and_classes_are_recorded() -> None:
    facts = completed(a_trial(epochs=1)).facts
    assert (facts.classes, facts.train_samples, facts.val_samples) == (3, 64, 30)
    assert sum(facts.train_class_counts or ()) == 64
    assert sum(facts.val_class_counts or ()) == 30


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_nearly_as_well(precision: str) -> None:
    changes = {"optimizer": optimizer("adam", learning_rate=0.01), "epochs": 4}
    full, mixed = completed(a_trial(**changes)), completed(a_trial(precision=precision, **changes))
    assert mixed.epochs[-1].loss == pytest.approx(full.epochs[-1].loss, rel=0.1)
    assert mixed.epochs[-1].loss != full.epochs[-1].loss


def spoiling(step: int) -> float:
    return 0.1 if step < 12 else 5.0  # three epochs that learn, then none that does


def test_early_stopping_brings_back_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    stop = early_stopping("val_loss", patience=2, best_weights=True)
    trial = a_trial(optimizer=sgd(spoiling), epochs=40, early_stopping=stop, save_model=True, seed=1)
    outcome = completed(trial)
    best = min(outcome.epochs, key=lambda epoch: epoch.val_loss or 0)
    assert outcome.facts.stopped_early
    assert outcome.facts.best_epoch == best.epoch
    assert len(outcome.epochs) < 40
    scores, samples = apply.evaluate(kept(outcome, tmp_path))
    assert (scores.loss, samples) == (pytest.approx(best.val_loss, rel=1e-5), 30)


def kept(outcome: Outcome, folder: Path) -> Path:
    for path, content in outcome.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_a_saved_model_scores_as_it_did_in_its_trial(tmp_path: Path) -> None:
    outcome = completed(a_trial(save_model=True, metrics=["r2_score"], model=mlp([8, 6], dropout=0.2)))
    assert set(outcome.files) == {"model.json", "model.weights.h5", "trial.json"}
    scores, samples = apply.evaluate(kept(outcome, tmp_path))
    last = outcome.epochs[-1]
    assert samples == 30
    assert scores.loss == pytest.approx(last.val_loss, rel=1e-5)
    assert scores.accuracy == pytest.approx(last.val_accuracy)
    assert scores.extra["r2_score"] == pytest.approx(last.extra["val_r2_score"], rel=1e-4)
    assert (
        "softmax" in json.loads((tmp_path / "model.json").read_text())["config"]["layers"][-1]["config"]["activation"]
    )


def test_a_saved_model_predicts_rows_without_targets(tmp_path: Path) -> None:
    outcome = completed(a_trial(save_model=True, engine="fit"))  # which leaves its loss in the model
    folder = kept(outcome, tmp_path / "model")
    stored = datasets.load(FLAT, {})
    np.save(tmp_path / "rows.npy", stored.x_val * 127.0)  # "unit" divides what is stored by 127
    found = apply.predict(folder, tmp_path / "rows.npy")
    right = np.mean(np.array(found.columns["prediction"]).astype(int) == stored.y_val)
    assert right == pytest.approx(outcome.epochs[-1].val_accuracy)
    assert found.csv().splitlines()[0] == "prediction,p_0,p_1,p_2"


def test_a_folder_without_a_model_says_how_to_have_one(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no model is saved here; run the suite with save_model=True"):
        apply.find_model(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"there is no trial\.json"):
        apply.evaluate(tmp_path)


def test_weights_scores_and_graph_are_noted_for_tensorboard(tmp_path: Path, require: Any) -> None:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        require(None, "tensorboard is not installed")
    kept(completed(a_trial(tensorboard=True)), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["graph"]
    assert {"loss", "val_accuracy"} < set(tags["tensors"])
    assert sorted(tag for tag in tags["tensors"] if "kernel" in tag) == ["weights/01_kernel", "weights/03_kernel"]
    assert [event.step for event in events.Tensors("loss")] == [1, 2, 3]


def test_an_engine_that_the_back_end_lacks_is_refused() -> None:
    with pytest.raises(SuiteError, match="the back end 'tensorflow' has no engine 'eager'; it has: auto, xla, graph"):
        a_trial(engine="eager")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["f1_score"]}, "metrics: 'f1_score' gives 3 numbers, and one can be recorded"),
        ({"dataset": NUMBERS}, "targets are numbers, and categorical_crossentropy is for classes"),
        ({"dataset": NUMBERS, "loss": "mean_squared_error"}, "a softmax of one output, which is always 1"),
    ],
)
def test_what_does_not_fit_the_targets_is_found_by_check(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        Training(datasets.load, BACKEND).check(a_trial(**changes), sources.collected())


def test_an_optimizer_by_name_has_keras_own_rate_whatever_ran_before() -> None:
    training = Training(datasets.load, BACKEND)
    run(a_trial(optimizer=optimizer("adam", learning_rate=0.5)), training)
    after, alone = run(a_trial(optimizer="adam"), training), run(a_trial(optimizer="adam"))
    assert [epoch.loss for epoch in after.epochs] == [epoch.loss for epoch in alone.epochs]


def test_programs_of_many_optimizers_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reused, "Recent", lambda limit: Recent(min(limit, 3)))
    training = Training(datasets.load, BACKEND)
    momenta = [0.0, 0.2, 0.4, 0.6, 0.8]  # more than a network keeps optimizers
    first = [run(a_trial(optimizer=sgd(0.1, momentum=one), epochs=1), training).epochs[0].val_loss for one in momenta]
    again = [run(a_trial(optimizer=sgd(0.1, momentum=one), epochs=1), training).epochs[0].val_loss for one in momenta]
    assert first == again
    assert len(set(first)) == len(momenta)
