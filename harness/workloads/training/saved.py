"""A trained model as files, and back: its structure as JSON, its weights as HDF5, and what its samples were."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from harness.domain.errors import ResultsError, SuiteError
from harness.domain.outcome import Scores
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.workloads.training import network
from harness.workloads.training.losses import Head, Objective, Tally, label_form

MODEL: Final = "model.json"
WEIGHTS: Final = "model.weights.h5"
TRIAL: Final = "trial.json"
_BATCH: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A model with the setting and the seed it was trained with; `preparation` is what its samples went through."""

    model: keras.Model
    setting: Setting
    seed: int
    preparation: Mapping[str, Any]


def structure(model: keras.Model) -> str:
    """Return a model's structure as JSON.

    Raises:
        SuiteError: for a model that Keras cannot describe.
    """
    try:
        with _without_tensorflow():
            return _as_built(model.to_json())
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SuiteError(
            f"save_model, tensorboard: Keras cannot describe this model as JSON ({reason}); leave both away, or build "
            "the model of Keras's own layers"
        ) from None


def _as_built(text: str) -> str:
    """Return a structure without the loss of the harness's own that the engine ``fit`` compiles a model with."""
    described = dict(json.loads(text))
    described.pop("compile_config", None)
    return json.dumps(described)


def files(model: keras.Model, trial: Trial, preparation: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a model, whole, that was trained in a trial."""
    about = {
        "setting": trial.setting.plain(),
        "seed": trial.seed,
        "trial_id": trial.trial_id,
        "arm": trial.arm,
        "preparation": dict(preparation),
        "keras": keras.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, WEIGHTS)
        model.save_weights(weights)
        content = weights.read_bytes()
    return {
        MODEL: structure(model).encode(),
        WEIGHTS: content,
        TRIAL: json.dumps(about, indent=1, ensure_ascii=False).encode(),
    }


def load(folder: Path) -> Saved:
    """Return the model that `files` were made of.

    Raises:
        ResultsError: when a file is missing, or is not what it should be.
    """
    try:
        about = json.loads((folder / TRIAL).read_text(encoding="utf-8"))
        model = keras.models.model_from_json(_as_built((folder / MODEL).read_text(encoding="utf-8")))
        model.load_weights(folder / WEIGHTS)
        return Saved(
            model=model, setting=Setting(**about["setting"]), seed=int(about["seed"]), preparation=about["preparation"]
        )
    except FileNotFoundError as error:
        raise ResultsError(
            f"{folder}: there is no {Path(str(error.filename)).name}; name the folder of a saved model, as in the "
            "column `artifacts` of trials (trials with save_model=True have one)"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ResultsError(f"{folder}: the model cannot be read ({reason}); restore it from a copy") from error


def scores(saved: Saved, x: NDArray[Any], y: NDArray[Any]) -> Scores:
    """Return loss, accuracy and further metrics of a model on scaled samples and their targets, as in training.

    Raises:
        SuiteError: for a loss that is a function of the suite's, whose text is not here.
    """
    setting, model = saved.setting, saved.model
    if setting.loss.name == "function":
        raise SuiteError("the loss is a function of the suite's, which is not kept with the model")
    classes = saved.preparation["classes"]
    head = Head.take_off(model)
    form = label_form(setting.loss.name, model.output_shape, classes)
    objective = Objective.build("", setting.loss, head, form=form, classes=classes, sources={})
    tally = Tally({one.name: network.build(one.plain(), {}) for one in setting.metrics}, objective)
    loss, hits = 0.0, 0.0
    for start in range(0, len(x), _BATCH):
        outputs = model(x[start : start + _BATCH], training=False)
        some = keras.ops.convert_to_tensor(y[start : start + _BATCH])
        loss += float(objective.total(some, outputs, model.losses)) * len(outputs)
        hits += float(objective.hits(some, outputs))
        tally.add(some, outputs)
    accuracy = None if form == "numbers" else hits / len(x)
    return Scores(loss=loss / len(x), accuracy=accuracy, extra=tally.results())


def predictions(saved: Saved, x: NDArray[Any]) -> NDArray[Any]:
    """Return a model's outputs for scaled samples: probabilities of the classes, or numbers."""

    def batch(start: int) -> NDArray[Any]:
        outputs = saved.model(x[start : start + _BATCH], training=False)
        return np.array(keras.ops.convert_to_numpy(outputs), dtype=np.float32)

    return np.concatenate([batch(start) for start in range(0, len(x), _BATCH)])


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Let Keras, which looks for TensorFlow when it describes a model, not import it beside another back end."""
    hide = keras.config.backend() != "tensorflow" and "tensorflow" not in sys.modules
    if hide:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules["tensorflow"]
