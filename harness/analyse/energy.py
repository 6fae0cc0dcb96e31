"""Energy: joules a trial, a sample, and to reach the target."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from harness.analyse.frames import floats, owners

KINDS: Final = ("gpu", "cpu")
VALID: Final = "valid"
QUANTITIES: Final = ("", "_per_sample", "_to_target")  # what ends the names of the columns

# What energy is known from, the better one first: counters add up every watt between two instants, while power
# readings are few, and on newer GPUs means over the last second.
SOURCES: Final = {"gpu": ("counter", "power"), "cpu": ("counter",)}

_LEAST_SHARE: Final = 1e-9  # of an epoch: less is what rounding leaves where the one before ended at the target


def energy(trials: pd.DataFrame, epochs: pd.DataFrame, times: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row a trial, in the order of `trials`; `times` is what `time_to_target` gives for them.

    For each source (``gpu_counter``, ``gpu_power``, ``cpu_counter``) in joules, NaN where not measured:

    - ``<source>_j``: over the whole trial, as recorded;
    - ``<source>_j_per_sample``: of training alone, over the epochs that have it and are no warm-up (but for a trial
      that has no others);
    - ``<source>_j_to_target``: of training alone until the training clock stood at ``time_to_target_s``; of the epoch
      in which that was, the share of its time before. Infinite for a trial that missed the target, 0 where the
      untrained model met it; NaN if an epoch before the target has no figure, and without `times`.

    Each has its ``<source>_validity…``: "valid", or why not, the reasons of its epochs joined; None beside NaN. For
    each kind, ``gpu_j…`` and ``cpu_j…`` are the figure to use, and ``gpu_source…`` and ``cpu_source…`` say where it is
    from: the counter where it is valid, else the power where that is, else NaN and None.
    """
    names = [f"{kind}_{source}" for kind in KINDS for source in SOURCES[kind]]
    if all(np.isnan(floats(table, f"{name}_j")).all() for name in names for table in (trials, epochs)):
        epochs = epochs[:0]  # spares looking for the trials of millions of epochs
    own = owners(trials, epochs)
    epochs, own = epochs[own >= 0], own[own >= 0]
    columns: dict[str, Any] = {}
    for kind in KINDS:
        found = {source: _Source(f"{kind}_{source}", trials, epochs, own).figures(times) for source in SOURCES[kind]}
        for quantity in QUANTITIES:
            best = np.full(len(trials), np.nan)
            origin = np.full(len(trials), None, dtype=object)
            for source, figures in found.items():
                values, validity = figures[quantity]
                columns[f"{kind}_{source}_j{quantity}"] = values
                columns[f"{kind}_{source}_validity{quantity}"] = validity
                better = (origin == None) & (validity == VALID)  # noqa: E711 (element by element)
                best[better], origin[better] = values[better], source
            columns[f"{kind}_j{quantity}"], columns[f"{kind}_source{quantity}"] = best, origin
    identity = [name for name in ("run_id", "trial_id", "setting_id", "arm") if name in trials.columns]
    return trials[identity].assign(**columns)


_Figures = tuple[np.ndarray, np.ndarray]  # joules, and the validity of each


class _Source:
    """One source of energy: what it says of the trials and of their epochs."""

    def __init__(self, name: str, trials: pd.DataFrame, epochs: pd.DataFrame, own: np.ndarray) -> None:
        self._name = name
        self._trials, self._epochs, self._own = trials, epochs, own
        self._of_trial = floats(trials, f"{name}_j")
        self._of_epoch = floats(epochs, f"{name}_j")

    def figures(self, times: pd.DataFrame | None) -> dict[str, _Figures]:
        """Return the figures by quantity."""
        count = len(self._trials)
        nothing = np.full(count, np.nan), np.full(count, None, dtype=object)
        figures = dict.fromkeys(QUANTITIES, nothing)
        measured = ~np.isnan(self._of_trial)
        measured[self._own[~np.isnan(self._of_epoch)]] = True
        if not measured.any():
            return figures
        figures[""] = self._of_trial, _beside(self._of_trial, _texts(self._trials, f"{self._name}_validity"))
        figures["_per_sample"] = self._per_sample()
        if times is not None:
            figures["_to_target"] = self._to_target(times["time_to_target_s"].to_numpy(dtype=np.float64), measured)
        return figures

    def _per_sample(self) -> _Figures:
        count, own = len(self._trials), self._own
        warm = self._epochs["warmup"].to_numpy(dtype=bool, na_value=False)
        steady = np.bincount(own[~warm], minlength=count) > 0
        samples = floats(self._epochs, "samples")
        used = ~np.isnan(self._of_epoch) & (samples > 0) & ~(warm & steady[own])
        joules = np.bincount(own[used], self._of_epoch[used], count)
        with np.errstate(invalid="ignore"):
            figure = joules / np.bincount(own[used], samples[used], count)
        return figure, _beside(figure, self._validity(used))

    def _to_target(self, reached_s: np.ndarray, measured: np.ndarray) -> _Figures:
        count, own = len(self._trials), self._own
        train_s, end_s = floats(self._epochs, "train_s"), floats(self._epochs, "elapsed_train_s")
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.clip((reached_s[own] - (end_s - train_s)) / train_s, 0.0, 1.0)
        share = np.where(np.isnan(share), (end_s <= reached_s[own]).astype(float), share)  # an epoch that took no time
        used = share > _LEAST_SHARE  # all epochs of a trial that missed: it is as valid as they are
        figure = np.bincount(own[used], (share * self._of_epoch)[used], count).astype(float)  # NaN where an epoch's is
        figure[np.isnan(reached_s) | ~measured] = np.nan
        figure[np.isinf(reached_s) & measured] = np.inf
        return figure, _beside(figure, self._validity(used))

    def _validity(self, used: np.ndarray) -> np.ndarray:
        """Return for each trial "valid" or the reasons why not, as its epochs in use have them."""
        validity = np.full(len(self._trials), VALID, dtype=object)
        said = _texts(self._epochs[used], f"{self._name}_validity")
        doubtful = said != VALID
        reasons = pd.Series(said[doubtful]).fillna("not judged").groupby(self._own[used][doubtful])
        joined = reasons.agg(lambda texts: ", ".join(dict.fromkeys(", ".join(texts).split(", "))))
        validity[joined.index.to_numpy(dtype=np.int64)] = joined.to_numpy(dtype=object)
        return validity


def _texts(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column of texts, None where it is null or there is no such column."""
    if column not in frame.columns:
        return np.full(len(frame), None, dtype=object)
    texts = frame[column].astype(object)
    return texts.where(texts.notna(), None).to_numpy()


def _beside(values: np.ndarray, validity: np.ndarray) -> np.ndarray:
    """Return the validity of figures; one that is not there has none."""
    validity = validity.copy()
    validity[np.isnan(values)] = None
    return validity
