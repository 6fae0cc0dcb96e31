"""Columns as numbers, and which trial each epoch belongs to: what all tables are made with."""

from __future__ import annotations

import numpy as np
import pandas as pd

_KEY = ("run_id", "trial_id", "arm")


def floats(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as numbers, NaN where it is null; all NaN where there is no such column."""
    if column not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[column].to_numpy(dtype=np.float64, na_value=np.nan)


def owners(trials: pd.DataFrame, epochs: pd.DataFrame) -> np.ndarray:
    """Return for each epoch the row number of its trial, -1 where there is none."""
    places = np.zeros(len(trials), dtype=np.int64)
    codes = np.zeros(len(epochs), dtype=np.int64)
    size = 1
    for key in _KEY:
        if key not in trials.columns or key not in epochs.columns:
            continue
        names = pd.Index(trials[key].astype(object).unique())
        column = epochs[key].astype("category")
        translated = np.append(names.get_indexer(column.cat.categories.astype(object)), -1)
        if len(names) == 1 and (translated[:-1] == 0).all() and not column.hasnans:
            continue  # the same in all rows, as the run often is
        other = translated[column.cat.codes.to_numpy()]
        codes = np.where((codes < 0) | (other < 0), -1, codes * len(names) + other)
        places = places * len(names) + names.get_indexer(trials[key].astype(object))
        size *= len(names)
    if size > 16 * len(trials) + 1024:
        return pd.Index(places).get_indexer(pd.Index(codes))
    rows = np.full(size + 1, -1, dtype=np.int64)
    rows[places] = np.arange(len(trials))
    return rows[codes]
