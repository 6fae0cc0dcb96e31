"""Recorded trials → the variants that are held against one another: settings, their arms, and what else there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analyse.compare import figures
from harness.analyse.conclude.words import short_names
from harness.analyse.groups import groups
from harness.domain.naming import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The figures of one setting, arm and whatever else tells variants apart."""

    name: str
    values: np.ndarray  # of the repeats that have the figure; infinite: a miss
    finite: np.ndarray  # those of them that did not miss
    median: float
    places: pd.DataFrame  # run_id and block of all trials
    rows: np.ndarray  # where in them those that did not miss stand

    @property
    def complete(self) -> bool:
        return len(self.finite) == len(self.values)

    @property
    def figures(self) -> pd.DataFrame:
        """The finite values as `compare` takes them."""
        return self.places.iloc[self.rows].assign(value=self.finite)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """The trials and the variants that they are of."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    names: list[str]
    of_trial: np.ndarray  # the variant of each trial
    called: str  # "settings", or "variants" where one setting has several

    @classmethod
    def of(cls, trials: pd.DataFrame, epochs: pd.DataFrame, naming: Mapping[str, str], by: Sequence[str]) -> Variants:
        """Return the trials by the columns `by`, named by the axes and as much more of `by` as that takes.

        Raises:
            ValueError: for an unknown column in `by`.
        """
        found = groups(trials, by)
        of_trial = np.asarray(found.of_trial)
        firsts = trials.iloc[np.unique(of_trial, return_index=True)[1]].to_dict("records")
        further = [column for column in by if column != "setting_id"]
        alone = "setting_id" in by and found.keys["setting_id"].is_unique
        return cls(
            trials=trials, epochs=epochs, names=short_names(names(firsts, naming, further)), of_trial=of_trial,
            called="settings" if alone else "variants",
        )  # fmt: skip

    def having(self, values: np.ndarray, *, by_seed: bool = False) -> list[Variant]:
        """Return the variants with a figure of each trial, but for the NaN ones and for what has none.

        A figure that the seed decides is to be taken `by_seed`: trials of several runs with the same seed, which are
        the same training again, count as one repeat, their median, so that a miss is infinite there too.
        """
        if by_seed:
            values = self._by_seed(values)
        places = self.trials.reindex(columns=["run_id", "block"])
        order = np.argsort(self.of_trial, kind="stable")
        ends = np.searchsorted(self.of_trial, np.arange(1, len(self.names)), sorter=order)
        found = []
        for name, members in zip(self.names, np.split(order, ends), strict=True):
            rows = members[~np.isnan(values[members])]
            if len(rows):
                had, finite = values[rows], rows[np.isfinite(values[rows])]
                median = float(np.median(had))
                found.append(
                    Variant(name=name, values=had, finite=values[finite], median=median, places=places, rows=finite)
                )
        return found

    def _by_seed(self, values: np.ndarray) -> np.ndarray:
        """Return the figures with that of a seed at the first of its trials that have one, and NaN at the others."""
        if "seed" not in self.trials.columns:
            return values
        rows = np.flatnonzero(~np.isnan(values))
        keys = [self.of_trial[rows], self.trials["seed"].to_numpy(dtype=object)[rows]]
        of_seed = pd.Series(values[rows]).groupby(keys, sort=False)
        first = rows[(of_seed.cumcount() == 0).to_numpy()]
        found = np.full(len(values), np.nan)
        found[first] = of_seed.transform("median").to_numpy()[np.isin(rows, first)]
        return found

    def measuring(self, figure: str, *, by_seed: bool = False) -> list[Variant]:
        """Return the variants with a figure of their completed trials, as `figures` has it; `by_seed`: see `having`."""
        found = figures(self.trials, self.epochs, figure=figure, epoch="best")
        key = ["run_id", "trial_id", "arm"]
        values = pd.Series(found["value"].to_numpy(dtype=float), index=pd.MultiIndex.from_frame(found[key].astype(str)))
        wanted = pd.MultiIndex.from_frame(self.trials[key].astype(str))
        return self.having(values.reindex(wanted).to_numpy(dtype=float), by_seed=by_seed)


def ranked(found: Sequence[Variant], *, lower: bool = True) -> list[Variant]:
    """Return the variants in order of their medians, the best first; then by the mean of what did not miss."""
    sign = 1 if lower else -1

    def rank(one: Variant) -> tuple[float, float]:
        return sign * one.median, sign * float(one.finite.mean()) if len(one.finite) else math.inf

    return sorted(found, key=rank)
