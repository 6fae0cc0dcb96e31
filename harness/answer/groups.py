"""The groups of a report: what they are called, and their order in all frames."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.answer.gather import Gathered

if TYPE_CHECKING:
    import pandas as pd

_LONG: Final = 60  # characters of an axis's value; the middle of a longer one is left out of labels


class Places:
    """The groups' keys and labels, for other frames, and their shades, if they have any."""

    def __init__(self, settings: pd.DataFrame, by: Sequence[str]) -> None:
        self._by = list(by)
        identities = settings[self._by].astype(object).itertuples(index=False, name=None)
        self._number = {identity: number for number, identity in enumerate(identities)}
        self._names = {
            name: settings[name].to_numpy() for name in ("key", "label", "shade") if name in settings.columns
        }

    def give(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with these first, its groups in order of rank and as they are in each."""
        import numpy as np

        identities = frame[self._by].astype(object).itertuples(index=False, name=None)
        number = np.fromiter((self._number[identity] for identity in identities), dtype=np.int64, count=len(frame))
        order = np.argsort(number, kind="stable")
        found = frame.iloc[order].reset_index(drop=True).drop(columns=list(self._names), errors="ignore")
        for column, (name, values) in enumerate(self._names.items()):
            found.insert(column, name, values[number[order]])
        return found


def named(settings: pd.DataFrame, gathered: Gathered, by: Sequence[str]) -> pd.DataFrame:
    """Return the settings with key and label; a single one without axes is called by its suite."""
    from harness import analyse

    found: pd.DataFrame = analyse.label(settings, gathered.trials, gathered.naming)
    suites = {str(run.get("suite")) for run in gathered.runs}
    if not gathered.naming and len(found) == len(suites) == 1:
        found["label"] = list(suites)
    others = [name for name in by if name != "setting_id"]
    plain = not found["setting_id"].duplicated().any()
    keys = [
        str(row["setting_id"]) if plain else f"{row['setting_id']}-{_short([row[name] for name in others])}"
        for row in found[list(by)].to_dict("records")
    ]
    found.insert(0, "key", [re.sub(r"[^A-Za-z0-9-]", "-", key) for key in keys])
    return found


def _short(values: Sequence[Any]) -> str:
    """Return letters for values that do not stand in an address."""
    return hashlib.sha256("\0".join(map(str, values)).encode()).hexdigest()[:6]


def named_alone(frame: pd.DataFrame, gathered: Gathered) -> pd.DataFrame:
    """Return a frame whose groups are others than those of the settings with key and label of its own."""
    from harness import analyse

    found: pd.DataFrame = analyse.label(frame, gathered.trials, gathered.naming)
    models = [name for name in ("cpu_model", "gpu_model") if name in frame.columns and frame[name].nunique() > 1]
    for name in models:
        found["label"] += " " + found[name].astype(str)
    identity = [name for name in ("arm", *models) if name in found.columns]
    ends = [_short(row) for row in found[identity].astype(str).itertuples(index=False, name=None)]
    found.insert(0, "key", found["setting_id"].astype(str) + "-" + ends)
    return found


def with_shade(settings: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the settings with ``shade``: the place of their value on the only axis, if that is one of numbers."""
    import pandas as pd

    numbers = settings[column]
    if not pd.api.types.is_numeric_dtype(numbers) or pd.api.types.is_bool_dtype(numbers) or numbers.isna().any():
        return settings
    return settings.assign(shade=numbers.rank(method="dense").astype("int64"))


def brief(trials: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return the trials with texts of axes that stand in a line of a chart: those of a column stay different ones."""
    changed = {}
    for column in columns:
        texts = [one for one in trials[column].drop_duplicates().tolist() if isinstance(one, str)]
        short = {one: _line(one) for one in texts}
        taken = {one for one in texts if short[one] == one}
        for one in texts:
            told, number = short[one], 1
            while told != one and told in taken:
                number += 1
                told = f"{short[one]} ({number})"
            taken.add(told)
            short[one] = told
        if any(told != one for one, told in short.items()):
            changed[column] = [short.get(one, one) if isinstance(one, str) else one for one in trials[column].tolist()]
    return trials.assign(**changed)


def _line(text: str) -> str:
    told = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return told if len(told) <= _LONG else f"{told[: _LONG * 2 // 3]}…{told[-_LONG // 3 :]}"
