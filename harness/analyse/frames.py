"""Columns as numbers, and which trial each epoch belongs to: what all tables are made with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.domain.component import did_you_mean

_KEY = ("run_id", "trial_id", "arm")


def floats(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as numbers, NaN where it is null; all NaN where there is no such column."""
    if column not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[column].to_numpy(dtype=np.float64, na_value=np.nan)


def expect_recorded(trials: pd.DataFrame, epochs: pd.DataFrame, name: str, *, what: str = "metric") -> None:
    """Raise for a name that nothing was recorded under, which would otherwise look like a metric that is never there.

    Raises:
        ValueError: where there are epochs, and neither they nor ``initial_<name>`` of the trials have such a column.
    """
    if len(epochs) and name not in epochs.columns and f"initial_{name}" not in trials.columns:
        numbers = [str(column) for column, kind in epochs.dtypes.items() if pd.api.types.is_numeric_dtype(kind)]
        hint = did_you_mean(name, numbers) or f" there are {', '.join(numbers)}"
        raise ValueError(f"no {what} {name!r} is recorded;{hint}")


def having(epochs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the epochs with a column of that name: where none recorded such a metric, all null."""
    return epochs if name in epochs.columns else epochs.assign(**{name: np.nan})


def owners(trials: pd.DataFrame, epochs: pd.DataFrame) -> np.ndarray:
    """Return for each epoch the row number of its trial, -1 where there is none."""
    places: np.ndarray | None = None  # a number for each trial, made of its keys
    codes: np.ndarray | None = None  # the same of each epoch, -1 where a key is no trial's
    size = 1
    for key in _KEY:
        if key not in trials.columns or key not in epochs.columns:
            continue
        values = trials[key].astype(object)
        names = pd.Index(values.unique())
        column = epochs[key].astype("category")
        translated = np.append(names.get_indexer(column.cat.categories.astype(object)), -1)
        if len(names) == 1 and (translated[:-1] == 0).all() and not column.hasnans:
            continue  # the same in all rows, as the run often is
        place, code = names.get_indexer(values), translated[column.cat.codes.to_numpy()]
        if places is not None and codes is not None:
            place += places * len(names)
            unknown = (codes < 0) | (code < 0)
            code += codes * len(names)
            code[unknown] = -1
        places, codes = place, code
        size *= len(names)
    if places is None or codes is None:
        return np.full(len(epochs), len(trials) - 1, dtype=np.int64)  # there is one trial at most
    if size > 16 * len(trials) + 1024:
        found: np.ndarray = pd.Index(places).get_indexer(pd.Index(codes))
        return found
    rows = np.full(size + 1, -1, dtype=np.int64)
    rows[places] = np.arange(len(trials))
    of_epoch: np.ndarray = rows[codes]
    return of_epoch
