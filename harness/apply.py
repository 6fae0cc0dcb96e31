"""A saved model → its scores on data, or what it makes of unlabelled rows."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness import datasets
from harness.domain.errors import DataError, ResultsError, SuiteError
from harness.domain.outcome import Scores

if TYPE_CHECKING:
    from harness.workloads.training.saved import Saved

_MODEL: Final = "model.json"
_SHOWN: Final = 20  # models that are listed where one has to be chosen


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One row a row of the data: its id, where it has one, the class or the number, and what the model puts out for
    each class: a probability, where it ends in a softmax."""

    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def csv(self) -> str:
        """Return the rows as CSV, with a header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*self.columns.values(), strict=True))
        return text.getvalue()


def find_model(place: Path) -> Path:
    """Return the folder of the one saved model at `place`: the folder itself, or a run's with one model in it.

    Raises:
        ResultsError: when there is none, or more than one.
    """
    if (place / _MODEL).is_file():
        return place
    found = sorted(path.parent for path in place.glob(f"**/artifacts/*/{_MODEL}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ResultsError(
            f"{place}: no model is saved here; run the suite with save_model=True in its base (or --set "
            "save_model=true), and name a run's folder or a model's"
        )
    more = f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    listed = "".join(f"\n  {folder}" for folder in found[:_SHOWN])
    raise ResultsError(f"{place}: {len(found)} models are saved here; name one of them:{listed}{more}")


def evaluate(folder: Path, data: Path | None = None) -> tuple[Scores, int]:
    """Return the scores of a saved model and how many samples they are of: the held-out part it was validated on, or
    the labelled rows of a file.

    Raises:
        HarnessError: when the model or the data cannot be had, or do not fit each other.
    """
    saved = _load(folder)
    if data is None:
        if saved.setting.dataset is None or saved.setting.dataset.name == "function":
            raise SuiteError(
                f"{folder}: its dataset is a function of the suite's; name a file of labelled rows: --data"
            )
        arrays = datasets.load(saved.setting.dataset, {})
        x, y = arrays.x_val, arrays.y_val
    else:
        rows = _rows(data, saved)
        if rows.y is None:
            raise SuiteError(f"{data}: has no targets to evaluate with; `harness predict` takes rows without them")
        x, y = rows.x, rows.y
    from harness.workloads.training.saved import scores

    return scores(saved, x, y), len(x)


def predict(folder: Path, data: Path) -> Predictions:
    """Return what a saved model makes of the rows of a file, which may lack targets.

    Raises:
        HarnessError: when the model or the data cannot be had, or do not fit each other.
    """
    saved = _load(folder)
    rows = _rows(data, saved)
    from harness.workloads.training.saved import predictions

    values = predictions(saved, rows.x)
    columns: dict[str, list[Any]] = {} if rows.ids is None else {rows.id_name or "id": list(rows.ids)}
    preparation = datasets.Preparation.of(saved.preparation)
    if preparation.classes is None:
        outputs = values.reshape(len(values), -1)
        names = ["prediction"] if outputs.shape[1] == 1 else [f"prediction_{n}" for n in range(outputs.shape[1])]
        columns |= {name: outputs[:, n].tolist() for n, name in enumerate(names)}
        return Predictions(columns=columns)
    if values.shape[1] == 1:  # two classes, one output
        values = _both(values)
    columns["prediction"] = [preparation.name_of(int(label)) for label in values.argmax(axis=1)]
    for label in range(values.shape[1]):
        columns[f"p_{preparation.name_of(label)}"] = [round(float(value), 6) for value in values[:, label]]
    return Predictions(columns=columns)


def _both(second: Any) -> Any:
    import numpy as np

    return np.concatenate([1 - second, second], axis=1)


def _rows(data: Path, saved: Saved) -> datasets.Rows:
    assert saved.setting.dataset is not None
    if data.is_dir():
        raise DataError(f"{data}: is a folder; name a file of rows")
    return datasets.rows(data, saved.setting.dataset, datasets.Preparation.of(saved.preparation))


def _load(folder: Path) -> Saved:
    """Return the model, read by the back end that trained it where that is here."""
    try:
        backend = json.loads((folder / "trial.json").read_text(encoding="utf-8"))["setting"]["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        backend = None  # what is wrong is said when the model is read
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    here = isinstance(backend, str) and find_spec(backend) is not None
    os.environ.setdefault("KERAS_BACKEND", str(backend) if here else "tensorflow")
    with _without_chatter():
        saved: Saved = importlib.import_module("harness.workloads.training.saved").load(folder)
    return saved


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what TensorFlow's own code writes to standard error as it starts from being shown."""
    sys.stderr.flush()
    shown = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
