"""Names for people in place of identities, as notebooks and figures want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.analyse.groups import groups
from harness.domain.naming import place

_WHERE = ("arm", "hardware")


def label(frame: pd.DataFrame, trials: pd.DataFrame, naming: Mapping[str, str] | Sequence[str]) -> pd.DataFrame:
    """Return `frame` with a first column ``label``: what each row's setting is called, as "batch_size=32".

    `frame` has ``setting_id``, as all tables by setting do. `naming` is the axes to name settings by: columns of
    `trials`, or names for them (``{"rate": "optimizer.learning_rate"}``). The arm and the hardware stand behind where
    `frame` has several of them. A setting that no axis tells apart is called by its identity.

    Raises:
        ValueError: when `frame` has no ``setting_id``, or `trials` lack a column.
    """
    if "setting_id" not in frame.columns:
        raise ValueError("label: the frame has no column 'setting_id', so its rows are of no setting")
    naming = dict(naming) if isinstance(naming, Mapping) else {name: name for name in naming}
    known = groups(trials, list(dict.fromkeys(["setting_id", *naming.values()]))).keys
    names = {row["setting_id"]: place(row, naming) or str(row["setting_id"]) for row in known.to_dict("records")}
    labels = frame["setting_id"].astype(object).map(names).fillna(frame["setting_id"].astype(object)).astype(str)
    for column in _WHERE:
        if column in frame.columns and frame[column].nunique() > 1:
            labels = labels + " " + frame[column].astype(object).fillna("–").astype(str)
    rest = frame.drop(columns="label", errors="ignore")
    rest.insert(0, "label", labels.to_numpy())
    return rest
