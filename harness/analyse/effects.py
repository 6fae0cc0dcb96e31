"""Which axis of the grid matters: shares of a figure's variance, and what each level of an axis does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import special

from harness.analyse.compare import t_quantile
from harness.analyse.variance import Measured, Model, Term, check_confidence, measured, relative
from harness.domain.design import CONFIDENCE

NOISE: Final = "noise"
SHARED: Final = "not separable"

_DRAWS: Final = 2_000
_EXACT: Final = 1_000.0  # up to which SciPy inverts the noncentral chi-squared distribution quickly and accurately

_COLUMNS: Final[dict[str, Any]] = {
    "term": object, "kind": object, "share": float, "low": float, "high": float, "p": float, "f": float,
    "squares": float, "freedom": "int64", "levels": "Int64", "n": "int64", "left_out": "int64", "enough": bool,
    "note": object,
}  # fmt: skip


def effects(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    figure: str,
    axes: Sequence[str] | Mapping[str, str],
    target: Mapping[str, Any] | None = None,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return how much of the variance of a figure is due to each axis, to each pair of axes, and to neither.

    The figure is one value a trial, as `compare.figures` has it; times and rates (`variance.relative`) enter as logs,
    metrics as they are. `axes` is columns of `trials`, or names with the column of each. All values are levels, null
    and JSON text too; a numeric axis with more than `variance.MOST_LEVELS` of them is cut into `variance.CLASSES`
    classes of as many levels each. Axes that do not vary are left out; axes of which each tells the other, as zipped
    ones, are one term ``a & b``.

    One row a term, the largest share first, then what is left:

    - ``term``; ``kind``: "axis", "pair" (``a × b``: what the two do together beyond what each does alone) or "left":
      `SHARED`, where there is something that the trials do not let tell by terms, and `NOISE`, which is the repeats,
      and interactions of three or more axes where there are any;
    - ``share``: omega squared, (squares - freedom MSE) / (total + MSE) with MSE the mean square of the noise and total
      the squares about the grand mean (Hays, Statistics for psychologists, 1963), 0 where that is negative; of the
      noise n MSE / (total + MSE). Unlike R squared it does not grow with the number of levels. In a balanced grid the
      shares add up to 1, but for those set to 0; in others they do so only roughly;
    - ``low``, ``high``: interval of the share, of generalised pivotal quantities (Weerahandi, Generalized confidence
      intervals, 1993): the noise's variance is drawn as its squares over a chi-squared variable, each term's
      noncentrality by inverting the noncentral chi-squared distribution of its squares at a uniform one, 2,000 times
      from a fixed seed, and these are the quantiles of the shares of it all. It takes errors as normal and equally
      large everywhere. The low end is above 0 only where p is below (1 - `confidence`) / 2 or so;
    - ``f``, ``p``: F test of the term against the noise. Among many terms some p are small by chance;
    - ``squares``, ``freedom``: type II sum of squares, that is the difference of two nested least-squares models, and
      its degrees of freedom. An axis is added to all other axes, a pair to all axes and other pairs (Yates, The
      analysis of multiple classifications with unequal numbers, 1934; method 2 of Overall and Spiegel, 1969). An axis
      within another, such as a momentum that one optimizer alone has, is added to that one, and not the other way;
    - ``levels`` of the axis, or combinations that occur of the pair's; null for what is left;
    - ``n``: trials that have the figure; ``left_out``: those that do not, since they missed the target, failed or were
      lost. A level that misses often looks better than it is, because its misses are not in here: see `levels`;
    - ``enough``: whether at least 80 % of the trials (`variance.LEAST_MEASURED`) have the figure, and of each level of
      each axis some do. If not, what those have in common is that they have it: shares of their variance say nothing of
      all trials, and are null, with ``low``, ``high``, ``f`` and ``p``;
    - ``note``: why something is null, or what to keep in mind; else empty.

    Pairs are told where they leave at least a quarter as many degrees of freedom for noise as they take. With a single
    repeat, or in a random search, they may not: they are null then, and count as noise. Where even the axes alone leave
    none, all shares are null. Every trial counts as a repeat: of several runs with the same seeds give one, where the
    seed decides the figure.

    Raises:
        SuiteError: for an axis or figure that is none, for time_to_target without a `target`, and for a confidence that
            does not lie between 0 and 1.
    """
    check_confidence(confidence)
    data = measured(trials, epochs, figure=figure, axes=axes, target=target)
    count = len(data.values)
    if count == 0:
        return _table([], data)
    model = Model.of(data)
    terms = model.terms()
    total = float(((data.values - data.values.mean()) ** 2).sum())
    rounding = count * float(1e-12 * np.abs(data.values).max()) ** 2
    shared = model.rank - 1 - sum(term.freedom for term in terms)
    if shared > 0:
        squares = max(0.0, total - model.error - sum(term.squares for term in terms))
        note = "of several terms, which the trials do not tell apart"
        terms.append(Term(name=SHARED, kind="left", squares=squares, freedom=shared, levels=None, note=note))
    terms = [term if term.squares > rounding else replace(term, squares=0.0) for term in terms]
    error = model.error if model.error > rounding else 0.0
    rows = [_row(term) for term in terms]
    noise = {"term": NOISE, "kind": "left", "squares": error, "freedom": model.freedom, "note": _about_noise(model)}
    if model.freedom and total > rounding:
        mean_square = error / model.freedom
        draws = _shares(terms, model, total, error, count)
        for row, term, drawn in zip([*rows, noise], [*terms, None], draws, strict=True):
            if term is None:
                row["share"] = min(1.0, count * mean_square / (total + mean_square))
            elif term.freedom:
                row["share"] = max(0.0, (term.squares - term.freedom * mean_square) / (total + mean_square))
                row |= _tested(term, mean_square, model.freedom)
            else:
                continue
            row["low"], row["high"] = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    elif total <= rounding:
        rows, noise = ([row | {"note": "the figure does not vary"} for row in [*rows, noise]], {})
    if data.lacking:
        blank = dict.fromkeys(("share", "low", "high", "f", "p"), np.nan) | {"note": data.lacking}
        rows, noise = [row | blank for row in rows], noise and noise | blank
    order = sorted(rows, key=lambda row: (row["kind"] == "left", -np.nan_to_num(row.get("share", -1.0), nan=-1.0)))
    return _table([*order, noise] if noise else order, data)


def levels(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    figure: str,
    axes: Sequence[str] | Mapping[str, str],
    target: Mapping[str, Any] | None = None,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return what each level of each axis does to a figure, against the mean of all trials.

    What an axis, a level and a figure are, and which axes are left out: as for `effects`. One row a level, in order:

    - ``axis``, ``level``: as text;
    - ``ratio`` (of geometric means, for times and rates) or ``difference`` (for all other figures, in their unit): the
      level's marginal mean against the mean of all levels, each weighted by its trials. Where ``adjusted``, the other
      axes are held equal, by a least-squares model without interactions (Searle, Speed and Milliken, Population
      marginal means in the linear model, 1980), which in a balanced grid are the plain means. Axes within this one or
      around it are not held equal, and no axis is where the trials do not tell them apart: plain means;
    - ``low``, ``high``: its interval by Student's t, with the noise of `effects`; null where none is left;
    - ``n``: trials of the level that have the figure; ``left_out``: those that do not, since they missed the target,
      failed or were lost. Where all are left out, the figures are null.

    Raises:
        SuiteError: as for `effects`.
    """
    check_confidence(confidence)
    data = measured(trials, epochs, figure=figure, axes=axes, target=target)
    name = "ratio" if relative(figure) else "difference"
    columns = ["axis", "level", name, "low", "high", "adjusted", "n", "left_out"]
    if not len(data.values):
        return pd.DataFrame(columns=columns)
    model = Model.of(data)
    quantile = t_quantile((1 + confidence) / 2, model.freedom) if model.freedom else np.nan
    parts = []
    for axis in data.axes:
        counts = np.bincount(axis.codes[data.rows], minlength=len(axis.levels))
        mean, error, adjusted = model.marginal(axis.name)
        ends = np.full((3, len(axis.levels)), np.nan)
        ends[:, counts > 0] = [mean, mean - quantile * error, mean + quantile * error]
        middle, low, high = np.exp(ends) if relative(figure) else ends
        left_out = np.bincount(axis.codes, minlength=len(axis.levels)) - counts
        values = (axis.name, axis.levels, middle, low, high, adjusted, counts, left_out)
        parts.append(pd.DataFrame(dict(zip(columns, values, strict=True))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _row(term: Term) -> dict[str, Any]:
    squares = term.squares if term.freedom else np.nan
    return {"term": term.name, "kind": term.kind, "squares": squares, "freedom": term.freedom, "levels": term.levels,
            "note": term.note}  # fmt: skip


def _about_noise(model: Model) -> str:
    if model.freedom == 0:
        return "nothing is left to tell noise by: too few trials"
    if not model.fits_pairs:
        return "with all interactions: too few trials to tell them from it"
    return "with interactions of three or more axes" if model.pairs and model.rank < len(model.means) else ""


def _tested(term: Term, mean_square: float, freedom: int) -> dict[str, float]:
    if mean_square == 0:
        return {"f": np.inf, "p": 0.0} if term.squares else {}
    ratio = term.squares / term.freedom / mean_square
    return {"f": ratio, "p": float(special.fdtrc(term.freedom, freedom, ratio))}


def _shares(terms: Sequence[Term], model: Model, total: float, error: float, count: int) -> np.ndarray:
    """Return draws of the share of each term and, last, of the noise."""
    unexplained = total - error - sum(term.squares for term in terms)  # of terms that overlap, in unbalanced grids
    random = np.random.default_rng(0)
    noise = error / random.chisquare(model.freedom, _DRAWS)
    parts = [noise * _noncentrality(term.squares, term.freedom, noise, random) if error else
             np.full(_DRAWS, term.squares) for term in terms]  # fmt: skip
    found = np.array([*parts, count * noise])
    shares: np.ndarray = found / np.maximum(found.sum(axis=0) + unexplained, found.max(axis=0))
    return shares


def _noncentrality(squares: float, freedom: int, noise: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return draws of what a noncentral chi-squared variable's noncentrality may be, seen that it is squares / noise.

    Where values are large, the normal distribution of the same mean (freedom + l) and variance (2 freedom + 4 l) stands
    for it, solved for l.
    """
    level = random.random(len(noise))
    if freedom == 0:
        return np.zeros(len(noise))
    seen = squares / noise
    z = special.ndtri(level)
    root = np.sqrt(np.maximum(0.0, 4 * z**2 + 4 * seen - 2 * freedom)) - 2 * z
    found: np.ndarray = np.maximum(0.0, (root**2 - 2 * freedom) / 4)
    exact = seen < _EXACT
    found[exact] = special.chndtrinc(seen[exact], freedom, level[exact])
    found[exact & (level >= special.chdtr(freedom, seen))] = 0.0
    return found


def _table(rows: Sequence[Mapping[str, Any]], data: Measured) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=list(_COLUMNS))
    count = len(data.values)
    return table.assign(n=count, left_out=data.of - count, enough=not data.lacking).astype(_COLUMNS)
