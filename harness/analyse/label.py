"""Names for people in place of identities, as notebooks and figures want them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analyse.groups import groups
from harness.domain.naming import FURTHER, axis, names


def label(frame: pd.DataFrame, trials: pd.DataFrame, naming: Mapping[str, str] | Sequence[str]) -> pd.DataFrame:
    """Return `frame` with a first column ``label``: what each row's setting is called, as "batch_size=32".

    `frame` has ``setting_id``, as all tables by setting do, and its rows are told apart by that, the arm and the
    hardware, as far as it has these. `naming` is the axes to name them by: columns of `trials`, or names for them
    (``{"rate": "optimizer.learning_rate"}``); an axis that has several values within a row's trials is left out. The
    arm and the hardware stand behind where the axes do not tell all apart, and after them the identity. The same
    trials give the same names in all tables.

    Raises:
        ValueError: when `frame` has no ``setting_id``, or `trials` lack a column.
    """
    if "setting_id" not in frame.columns:
        raise ValueError("label: the frame has no column 'setting_id', so its rows are of no setting")
    naming = dict(naming) if isinstance(naming, Mapping) else {name: name for name in naming}
    further = [name for name in FURTHER if name in frame.columns]
    # Arms of a frame's own, as those of `scaling` are without what is scaled, are no arms of trials.
    own = [name for name in further if name not in trials.columns or not set(frame[name]) <= set(trials[name])]
    by = ["setting_id", *(name for name in further if name not in own)]
    known = groups(trials, list(dict.fromkeys([*by, *naming.values()]))).keys
    of = groups(known, by)
    fixed = {path: column for path, column in naming.items() if len(groups(known, [*by, column])) == len(of)}
    firsts = known.iloc[pd.Series(of.of_trial).drop_duplicates().index].to_dict("records")
    called = {_key(row[name] for name in by): name for row, name in zip(firsts, names(firsts, fixed), strict=True)}
    keys = [_key(row) for row in zip(*(frame[name].tolist() for name in by), strict=True)]
    rest = frame.drop(columns="label", errors="ignore")
    labels = [called.get(key) or key[0] for key in keys]
    for name in own:
        if frame[name].nunique(dropna=False) > 1:
            labels = [f"{one} {axis(value)}" for one, value in zip(labels, frame[name].tolist(), strict=True)]
    rest.insert(0, "label", labels)
    return rest


def _key(values: Iterable[Any]) -> tuple[str, ...]:
    """Return an identity with which rows of two tables find each other, nulls included."""
    return tuple(map(str, values))
