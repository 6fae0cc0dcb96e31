"""Two sets of trials → the settings that both have, each compared, and all of them together.

docs/decisions/comparison.md says which tests these are, and why.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Protocol

import numpy as np
import pandas as pd

from harness.analyse.compare import compare_values, figures, pairs_of
from harness.analyse.frames import floats, owners
from harness.analyse.matched import Match, Matched, Verdict
from harness.analyse.noise import NoiseFloor, newest
from harness.analyse.overall import Sample, overall
from harness.analyse.pairing import Pair, pair_up, refuse_mixing
from harness.analyse.ranks import fisher, holm, rank_test
from harness.analyse.target import time_to_target
from harness.domain.component import did_you_mean
from harness.domain.design import ALARMS
from harness.domain.errors import ResultsError
from harness.domain.metrics import METRICS, better
from harness.domain.repeats import TIMES, WITHIN_METRICS

_UNITS: Final = ("_s", "_j", "_bytes")  # of what has a true zero, so that a ratio says how much more it is


class Tables(Protocol):
    """What is compared: what ``harness.load`` returns, or anything else with these tables."""

    @property
    def trials(self) -> pd.DataFrame: ...

    @property
    def epochs(self) -> pd.DataFrame: ...


def match(
    first: Tables,
    second: Tables,
    *,
    figure: str = "train_s",
    target: Mapping[str, Any] | None = None,
    mix: Collection[str] = (),
    runs: Iterable[Mapping[str, Any]] = (),
    nodes: pd.DataFrame | None = None,
) -> Match:
    """Compare a figure in the settings that A (`first`) and B (`second`) both have.

    `figure` is a quantity of an epoch: where it has a unit, the median over a trial's epochs that are no warm-up, else
    (a metric, and ``elapsed_train_s``) that of the last epoch; or a number of a trial, as ``compile_s``; or
    "time_to_target", for which `target` is ``metric`` with ``at_least`` or ``at_most``. Times, rates, bytes and
    energies (where these are valid) are compared as ratios; the rest, and what is not above 0 everywhere, as
    differences. Noise floors are those that `runs` (run.json files) hold for the `nodes` (as ``load(...).nodes``).

    Repeats are pairs where both ran in the same blocks of one run; figures that the seed decides (metrics and the time
    to the target) also where both have the same seeds. Of these, trials of one setting and seed from several runs count
    as one repeat, their mean: they are the same training again. Of times and rates, where each side has several runs, a
    run counts as one repeat: its geometric mean. Of several settings one is called different if Holm's
    correction leaves it below 2 %, and a time or rate only where it exceeds the noise floor.

    Raises:
        ResultsError: as `pair_up` and `refuse_mixing`, and for a figure that no matched trial has.
        SuiteError: for a name in `mix` that is none.
    """
    sides = (first, second)
    pairs, only = pair_up(first.trials, second.trials)
    mixture = refuse_mixing(first.trials, second.trials, pairs, mix)
    values = [_values(side.trials, side.epochs, figure, target) for side in sides]
    here = [values[place][pair.rows[place]] for pair in pairs for place in (0, 1)]
    known = np.concatenate([one[np.isfinite(one)] for one in here])
    if not len(known) and figure != "time_to_target":
        raise ResultsError(f"no trial of the matched settings has the figure {figure!r}; choose another with --figure")
    rates = figure in TIMES or figure.endswith(_UNITS)
    figures_floor = "train_s" if figure == "samples_per_s" else figure  # one is the other's inverse but for a constant
    judge = _Judge(
        figure=figure, relative=rates and bool((known > 0).all()),
        lower=figure == "time_to_target" or better(figure) == "lower",
        within=WITHIN_METRICS if figure in METRICS or figure.startswith("val_") else None,
        floors=_Floors(list(runs), nodes, figures_floor),
    )  # fmt: skip
    parts = [_Part.of(side.trials, values[place]) for place, side in enumerate(sides)]
    found = [judge.row(pair, *(part.take(pair.rows[place]) for place, part in enumerate(parts))) for pair in pairs]
    every = [sample for _, sample in found if sample is not None]
    known_well = [sample for sample in every if sample.comparison.p is not None]
    samples = known_well if len(known_well) > 1 else every
    together = overall(samples, relative=judge.relative, within=judge.within) if len(samples) > 1 else None
    rows = judge.corrected([row for row, _ in found])
    return Match(
        figure=figure, relative=judge.relative, higher_is_better=not judge.lower, rows=tuple(rows),
        overall=together, only=only, mixture=mixture, without_floor=tuple(judge.floors.missing),
    )  # fmt: skip


def _values(trials: pd.DataFrame, epochs: pd.DataFrame, figure: str, target: Mapping[str, Any] | None) -> np.ndarray:
    """Return the figure of each trial, NaN where it has none; of time_to_target infinity for a miss."""
    if figure == "time_to_target":
        if target is None:
            raise ResultsError("time_to_target needs a target: say --target 0.9, or --target 'METRIC >= VALUE'")
        bounds = {name: target.get(name) for name in ("at_least", "at_most")}
        return time_to_target(trials, epochs, metric=str(target["metric"]), **bounds)["time_to_target_s"].to_numpy(
            float
        )
    found = np.full(len(trials), np.nan)
    if figure in epochs.columns and _numeric(epochs[figure]):
        if figure.endswith(_UNITS) and figure not in TIMES and figure != "elapsed_train_s":
            table = figures(trials, epochs.assign(train_s=_valid(epochs, figure)))  # the median, as of train_s
        else:
            table = figures(trials, epochs, figure=figure)
        found[owners(trials, table)] = table["value"]
    elif figure in trials.columns and _numeric(trials[figure]):
        found = np.where(trials["status"] == "completed", _valid(trials, figure), np.nan)
    else:
        right = ["time_to_target", *_numbers(epochs), *_numbers(trials)]
        raise ResultsError(
            f"--figure {figure!r}: no such quantity is recorded;{did_you_mean(figure, right)} "
            f"there are {', '.join(dict.fromkeys(right))}"
        )
    return np.where(np.isfinite(found), found, np.nan)


def _valid(frame: pd.DataFrame, figure: str) -> np.ndarray:
    """Return a column, NaN where the column beside it says that an energy is to be doubted."""
    beside = f"{figure.removesuffix('_j')}_validity"
    values = floats(frame, figure)
    return np.where(frame[beside].fillna("") == "valid", values, np.nan) if beside in frame.columns else values


def _numbers(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.columns if _numeric(frame[name]) and frame[name].notna().any()]


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The figures of some trials, with where and how these ran: arrays of one length."""

    values: np.ndarray
    runs: np.ndarray
    blocks: np.ndarray
    seeds: np.ndarray
    nodes: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def of(cls, trials: pd.DataFrame, values: np.ndarray) -> _Part:
        names = ("run_id", "block", "seed", "node", "neighbours")
        runs, blocks, seeds, nodes, neighbours = (trials[name].to_numpy(dtype=object) for name in names)
        return cls(values=values, runs=runs, blocks=blocks, seeds=seeds, nodes=nodes, neighbours=neighbours)

    def take(self, rows: np.ndarray) -> _Part:
        """Return the trials at these places, or for which a mask is true."""
        return _Part(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def by_seed(self, *, relative: bool) -> _Part:
        """Return the first trial of each seed, with the mean of the figures that trials of the seed have (geometric
        where ratios are compared)."""
        return self._each(self.seeds, relative=relative)

    def by_run(self) -> _Part:
        """Return the first trial of each run, with the geometric mean of the run's figures."""
        return self._each(self.runs, relative=True)

    def _each(self, names: np.ndarray, *, relative: bool) -> _Part:
        codes, found = pd.factorize(names, use_na_sentinel=False)
        if len(found) == len(codes):
            return self
        values = np.log(self.values) if relative else self.values
        means = np.bincount(codes, values) / np.bincount(codes)
        return replace(self.take(np.unique(codes, return_index=True)[1]), values=np.exp(means) if relative else means)

    def shares_by_seed(self) -> tuple[int, int]:
        """Return in how many seeds the target was reached, and of how many seeds that is known."""
        known = self.take(~np.isnan(self.values))
        shares = replace(known, values=np.isfinite(known.values).astype(float)).by_seed(relative=False).values
        return round(shares.sum()), len(shares)

    @property
    def keys(self) -> list[tuple[Any, Any]]:
        """The block of each trial, unique over runs."""
        return list(zip(self.runs.tolist(), self.blocks.tolist(), strict=True))


@dataclass(kw_only=True)
class _Judge:
    """What is the same for all settings of one figure."""

    figure: str
    relative: bool
    lower: bool  # is better
    within: float | None  # differences: how well each mean is to be known
    floors: _Floors

    def row(self, pair: Pair, first: _Part, second: _Part) -> tuple[Matched, Sample | None]:
        """Return one setting compared, and what of it was; None: nothing."""
        used = [one.take(np.isfinite(one.values)) for one in (first, second)]
        counted = [int((~np.isnan(one.values)).sum()) for one in (first, second)]
        matched = Matched(
            setting_id=pair.setting_id, arms=pair.arms, trials=(len(first.values), len(second.values)),
            measured=(len(used[0].values), len(used[1].values)), medians=(_median(first), _median(second)),
            verdict="the same trials" if pair.same else "cannot tell: too few repeats", worse=0, alone=False,
            comparison=None, pairs=None, p_holm=None, ranks=None, reached=None, reached_p=None, reached_p_holm=None,
            floor=None,
        )  # fmt: skip
        if self.figure == "time_to_target":
            shares = ((matched.measured[0], counted[0]), (matched.measured[1], counted[1]))
            told = not pair.same and min(counted) > 0 and sum(matched.measured) < sum(counted)
            seeds = (first.shares_by_seed(), second.shares_by_seed())
            matched = replace(matched, reached=shares, reached_p=fisher(*seeds) if told else None)
        if pair.same:
            return matched, None
        if min(counted) == 0:
            nowhere: Verdict = "no figure in either" if max(counted) == 0 else "no figure in A"
            return replace(matched, verdict="no figure in B" if counted[0] else nowhere), None
        if max(matched.measured) == 0:  # neither ever reached the target
            return replace(matched, verdict="reached by none"), None
        if min(matched.measured) == 0:
            return matched, None
        return self._compared(matched, used[0], used[1])

    def _compared(self, matched: Matched, first: _Part, second: _Part) -> tuple[Matched, Sample]:
        kind: Literal["block", "seed"] | None = "block"
        keys: tuple[Sequence[Hashable], Sequence[Hashable]] = (first.keys, second.keys)
        pairs = pairs_of(*keys)
        if pairs is None and (self.figure == "time_to_target" or not self.relative):
            # Of several runs with the same seeds: trials of one seed are no repeats of what the seed decides.
            first, second = (one.by_seed(relative=self.relative) for one in (first, second))
            keys = (first.keys, second.keys)
            seeds = (first.seeds.tolist(), second.seeds.tolist())
            kind, pairs = "seed", pairs_of(*seeds)
            keys = keys if pairs is None else seeds
        elif pairs is None and _of_several_runs(first, second):
            # What a run's trials share with one another, as the heat of the day, their number does not average out.
            first, second = first.by_run(), second.by_run()
            keys = (first.runs.tolist(), second.runs.tolist())
        floor = self.floors.of(first, second) if self.relative else None
        comparison = compare_values(
            first.values, second.values, pairs=pairs, noise=None if floor is None else floor.of(matched.setting_id),
            higher_is_slower=self.lower, relative=self.relative, within=self.within,
        )  # fmt: skip
        values = (first.values, second.values)
        ranked = values if pairs is None else (first.values[pairs[0]], second.values[pairs[1]])
        row = replace(
            matched, comparison=comparison, pairs=None if pairs is None else kind, floor=floor,
            ranks=rank_test(*ranked, paired=pairs is not None),
        )  # fmt: skip
        return row, Sample(comparison=comparison, values=values, keys=keys, pairs=pairs)

    def corrected(self, rows: Sequence[Matched]) -> list[Matched]:
        """Return the settings with verdicts, all tests that were made of them together at a level of 2 %."""
        times = [None if row.comparison is None else row.comparison.p for row in rows]
        both = holm([*times, *(row.reached_p for row in rows)])
        return [
            self._verdict(row, p_holm, reached_p_holm)
            for row, p_holm, reached_p_holm in zip(rows, both[: len(rows)], both[len(rows) :], strict=True)
        ]

    def _verdict(self, row: Matched, p_holm: float | None, reached_p_holm: float | None) -> Matched:
        row = replace(row, p_holm=p_holm, reached_p_holm=reached_p_holm)
        if row.reached is not None and reached_p_holm is not None and reached_p_holm < ALARMS:
            (hits, of), (other_hits, other_of) = row.reached
            less = other_hits * of < hits * other_of
            return replace(row, verdict="reached less often" if less else "reached more often", worse=1 if less else -1)
        alone = row.reached_p is not None and row.reached_p < ALARMS
        found = row.comparison
        if found is None:
            return replace(row, alone=alone)
        if found.different and p_holm is not None and p_holm < ALARMS:
            worse = found.verdict == "different: slower"
            times = self.figure in TIMES or self.figure.endswith("_s")
            word: Verdict = ("slower" if worse else "faster") if times else ("worse" if worse else "better")
            return replace(row, verdict=word, worse=1 if worse else -1)
        enough = found.needed is None or min(found.repeats) >= found.needed
        known = found.p is not None and enough
        verdict: Verdict = "no difference shown" if known else "cannot tell: too few repeats"
        return replace(row, verdict=verdict, alone=alone or found.different)


def _of_several_runs(first: _Part, second: _Part) -> bool:
    """Tell whether each side has several runs, none of them the other's too."""
    runs = [set(one.runs.tolist()) for one in (first, second)]
    return min(map(len, runs)) > 1 and not runs[0] & runs[1]


def _median(part: _Part) -> float | None:
    known = part.values[~np.isnan(part.values)]
    return float(np.median(known)) if len(known) else None


class _Floors:
    """The noise floors of the nodes that ran something, each looked for once."""

    def __init__(self, runs: Sequence[Mapping[str, Any]], nodes: pd.DataFrame | None, figure: str) -> None:
        self.missing: dict[str, None] = {}
        self._runs = runs
        self._figure = figure
        rows = [] if nodes is None else nodes.to_dict("records")
        self._nodes: dict[tuple[Any, Any], dict[str, Any]] = {
            (row["run_id"], row["node"]): {
                name: None if pd.api.types.is_scalar(row[name]) and pd.isna(row[name]) else row[name]
                for name in ("node", "cpu_model", "cpu_count_logical")
                if name in row
            }
            for row in rows
        }
        self._found: dict[tuple[Any, ...], NoiseFloor | None] = {}

    def of(self, *parts: _Part) -> NoiseFloor | None:
        """Return the highest of the floors of the nodes that ran these trials, with as many neighbours."""
        most: dict[tuple[str, str], int] = {}
        for part in parts:
            for key, count in zip(zip(part.runs, part.nodes, strict=True), part.neighbours, strict=True):
                most[key] = max(int(count), most.get(key, 0))
        found = [self._newest(run_id, node, count) for (run_id, node), count in most.items()]
        return max((one for one in found if one is not None), key=lambda one: one.spread.single, default=None)

    def _newest(self, run_id: str, node: str, neighbours: int) -> NoiseFloor | None:
        described: Mapping[str, Any] = self._nodes.get((run_id, node), {"node": node})
        key = (*described.values(), neighbours)
        if key not in self._found:
            self._found[key] = newest(self._runs, described, figure=self._figure, neighbours=neighbours)
            if self._found[key] is None:
                self.missing[node] = None
        return self._found[key]
