"""What a run comes to: one sentence with numbers, and up to four more on how far it can be trusted.

Everything is decided as in `compare`: ratios on logs, 98 % intervals, the node's noise floor. The setting that is held
against the others was picked because it came first, and one of several equal ones does so too: of k settings it
is called different from another only if that also holds after Holm's correction (A simple sequentially rejective
multiple test procedure, 1979) for all k (k - 1) / 2 pairs. Only the pairs with the first are computed and ranked, as if
all others had larger p values, which at most makes it stricter. Of very many only the nearest and the last are.

With fewer than 5 repeats two settings say little about their own spread: t of 3 pairs has 2 degrees of freedom. Then
the variance within all settings is taken in its place, with all their degrees of freedom, as in an analysis of
variance; unless the two have a larger one of their own, in which case theirs counts, as it does from 5 repeats on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import special

from harness.analyse.compare import ALARMS, Comparison, Spread, compare, compare_values, figures, half_width, t_quantile
from harness.analyse.discard import listed
from harness.analyse.frames import floats, owners
from harness.analyse.groups import BY, groups
from harness.analyse.references import Judged
from harness.analyse.standing import published
from harness.analyse.target import time_to_target
from harness.domain.duration import seconds
from harness.domain.metrics import better
from harness.domain.naming import axis, place
from harness.domain.repeats import WITHIN_METRICS

Verdict = Literal[
    "different",  # the first is shown to be ahead of the next
    "no difference shown",  # although there were repeats enough to find one, as `compare` counts
    "cannot tell: too few repeats",
    "nothing to compare",  # one setting, or one alone that reached the target
    "target not reached",
    "nothing measured",
]

_LONGEST: Final = 60  # letters of a label, or of a reason
_KEPT: Final = 12  # letters of what long labels have in common
_MOST: Final = 3  # things that are named one by one
_MINUTES: Final = 100  # seconds from which times are told in minutes
_FEW: Final = 5  # repeats from which two groups show their own spread well enough
_NEAREST: Final = 20  # settings next to the first that are compared with it, besides the last
_FEWEST: Final = 3  # repeats that have an interval worth saying
_STATUSES: Final = {"failed": "failed", "timeout": "timed out", "lost": "were lost"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The answer. Labels in it are shortened, and are plain text: a page has to escape them."""

    sentence: str
    verdict: Verdict
    details: tuple[str, ...] = ()  # sentences: the repeats, how sure, what was published, what speaks against it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The trials of one setting, arm and whatever else tells groups apart."""

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
class _Behind:
    """A group that is not the first, against the first."""

    group: _Group
    ratio: float | None  # of the medians; None: the first's is 0, or the figures are no times
    comparison: Comparison | None  # None: figures that cannot be compared
    different: bool  # it is shown to be behind, also after the correction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    """The trials and how they are grouped."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    names: list[str]  # of the groups
    of_trial: np.ndarray  # the group of each trial
    called: str  # what groups are: "settings", or "variants" where one setting has several

    def having(self, values: np.ndarray) -> list[_Group]:
        """Return the groups with a figure of each trial, the NaN ones left out, and those that have none."""
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
                    _Group(name=name, values=had, finite=values[finite], median=median, places=places, rows=finite)
                )
        return found

    def of(self, figure: str) -> list[_Group]:
        """Return the groups with a figure of their completed trials, as `figures` has it."""
        found = figures(self.trials, self.epochs, figure=figure, epoch="best")
        key = ["run_id", "trial_id", "arm"]
        values = pd.Series(found["value"].to_numpy(dtype=float), index=pd.MultiIndex.from_frame(found[key].astype(str)))
        wanted = pd.MultiIndex.from_frame(self.trials[key].astype(str))
        return self.having(values.reindex(wanted).to_numpy(dtype=float))


def conclude(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    metric: str,
    at_least: float | None = None,
    at_most: float | None = None,
    naming: Mapping[str, str] | None = None,
    references: Sequence[Judged] = (),
    noise: Spread | None = None,
    by: Sequence[str] = BY,
) -> Conclusion:
    """Return what the trials say about the target; without one, about the metric and the time of an epoch.

    `naming` is the axes that tell settings apart, each with its column of `trials`. The directions and likenesses among
    `references` are published conclusions, and the sentence says how they stand. `noise` is the node's spread of times;
    `by` the columns that tell groups apart.

    A setting reaches the target if its median time is finite, a repeat that missed it counting as infinite. The
    interval of a time is that of the geometric mean: 98 %, Student's t of the logs. What has neither target nor metric
    is told by the time of an epoch, and without epochs by that of a trial.

    Raises:
        ValueError: when both `at_least` and `at_most` are given; for an unknown column in `by`.
    """
    if trials.empty:
        return Conclusion(sentence="No trial is recorded.", verdict="nothing measured")
    if not (trials["status"] == "completed").any():
        return Conclusion(sentence=f"No trial completed: {_not_completed(trials)}.", verdict="nothing measured")
    found = groups(trials, by)
    of_trial = np.asarray(found.of_trial)
    run = _Trials(
        trials=trials,
        epochs=epochs,
        names=_names(trials.iloc[np.unique(of_trial, return_index=True)[1]], naming or {}, by),
        of_trial=of_trial,
        called="settings" if "setting_id" in by and found.keys["setting_id"].is_unique else "variants",
    )
    bound = at_least if at_least is not None else at_most
    said = None
    if bound is not None:
        said = _by_target(run, metric, at_least, at_most, noise)
    if said is None:
        said = _by_metric(run, metric) or _by_time(run, noise)
    told, further = published(references)
    details = [*said.details, further, _against(trials)]
    return Conclusion(
        sentence=f"{said.sentence}{told}.", verdict=said.verdict, details=tuple(one for one in details if one)
    )


# By the target ------------------------------------------------------------------------------------------------------


def _by_target(
    run: _Trials, metric: str, at_least: float | None, at_most: float | None, noise: Spread | None
) -> Conclusion | None:
    """Return what is to be said of a target; None where no trial has the metric."""
    times = time_to_target(run.trials, run.epochs, metric=metric, at_least=at_least, at_most=at_most)
    ranked = _ranked(run.having(times["time_to_target_s"].to_numpy(dtype=float)))
    if not ranked:
        return None
    bound = at_least if at_least is not None else at_most
    assert bound is not None  # one of the two
    goal = f"{metric} {'≥' if at_least is not None else '≤'} {bound:g}"
    reaching = [one for one in ranked if math.isfinite(one.median)]
    shares = [f"{one.name} reached it in {len(one.finite)} of {len(one.values)}" for one in ranked if not one.complete]
    shared = f"{'; '.join(shares[:_MOST])}{' …' if len(shares) > _MOST else ''}" if len(ranked) > 1 else ""
    if not reaching:
        return _not_reached(run, ranked, metric, bound, goal, higher=at_least is not None)
    first, *others = reaching
    took = f"after {seconds(first.median)} of training{_behind_it(first)}"
    if not others:
        if len(ranked) == 1:
            told = f"{_capital(first.name)} reaches {goal} {took}"
        else:
            told = f"Only {first.name} of {len(ranked)} {run.called} reaches {goal}, {took}"
        return Conclusion(sentence=told, verdict="nothing to compare", details=_told(_repeats(first, shared)))
    behind = _compared(first, others, noise)
    verdict = _verdict(behind)
    all_of_them = len(reaching) == len(ranked)
    if verdict == "no difference shown":
        who = f"All {len(ranked)}" if all_of_them else f"{len(reaching)} of {len(ranked)}"
        last = others[-1]
        told = (
            f"{who} {run.called} reach {goal} in about the same time, {first.name} {took}, "
            f"and {last.name}, the last, after {seconds(last.median)}"
        )
    else:
        who = first.name if all_of_them else f"{len(reaching)} of {len(ranked)} {run.called} reach {goal}, {first.name}"
        told = f"{_capital(who)} reaches {goal} first, {took}" if all_of_them else f"{who} first, {took}"
        told += _distances(behind)
    return Conclusion(
        sentence=told,
        verdict=verdict,
        details=_told(_repeats(first, shared), _how_sure(behind, run.called, len(reaching))),
    )


def _not_reached(
    run: _Trials, ranked: Sequence[_Group], metric: str, bound: float, goal: str, *, higher: bool
) -> Conclusion:
    subject = (
        f"No setting of {len(ranked)} reaches" if len(ranked) > 1 else f"{_capital(ranked[0].name)} does not reach"
    )
    most = max(ranked, key=lambda one: len(one.finite) / len(one.values))
    if len(most.finite):
        had = f"{most.name} does" if len(ranked) > 1 else "it does"
        told = f"{subject} {goal} in more than half of its repeats: {had} in {len(most.finite)} of {len(most.values)}"
        return Conclusion(sentence=told, verdict="target not reached")
    own, values = owners(run.trials, run.epochs), floats(run.epochs, metric)
    values = np.where(own >= 0, values, np.nan)
    if np.isnan(values).all():
        return Conclusion(sentence=f"{subject} {goal}: no value of it is a number", verdict="target not reached")
    row = int(np.nanargmax(values) if higher else np.nanargmin(values))
    whose = f" by {run.names[run.of_trial[own[row]]]}" if len(ranked) > 1 else ""
    epoch = int(run.epochs["epoch"].iloc[row])
    short = f"{abs(bound - values[row]):.2g} {'short of' if higher else 'above'} it"
    told = f"{subject} {goal}: the best value was {values[row]:.4g},{whose} in epoch {epoch}, {short}"
    return Conclusion(sentence=told, verdict="target not reached")


# Without a target ---------------------------------------------------------------------------------------------------


def _by_metric(run: _Trials, metric: str) -> Conclusion | None:
    """Return who has the best value of the metric, and who the quickest epochs; None where it was not measured."""
    lower = better(metric) == "lower"
    ranked = _ranked(run.of(metric), lower=lower)
    if not ranked:
        return None
    first, *others = ranked
    held, common = _held(others), _common(ranked, relative=False)
    sign = 1 if lower else -1
    seen = [_steadied(first, one, _difference(first, one, lower=lower), common, sign=sign) for one in held]
    behind = _corrected(held, [None] * len(held), seen, of=len(ranked))
    best = f"{first.median:.4g}{_of_repeats(first)}"
    if not behind:
        told = f"{_capital(first.name)} comes to a {metric} of {best}"
    else:
        next_one, last = behind[0], behind[-1]
        told = f"{_capital(first.name)} has the best {metric}, {best}"
        if next_one.different:
            told += f", shown to be ahead of the next, {next_one.group.name} ({next_one.group.median:.4g})"
        elif len(first.values) == 1:
            told += f", in one repeat; the next is {next_one.group.name} ({next_one.group.median:.4g})"
        else:
            told += f", which cannot be told from that of {next_one.group.name} ({next_one.group.median:.4g})"
        if len(behind) > 1:
            surely = f", shown to be {'higher' if lower else 'lower'}" if last.different else ""
            told += f"; the last is {last.group.name} ({last.group.median:.4g}{surely})"
    epochs = _ranked(run.of("train_s"))
    if epochs and len(ranked) == 1:
        told += f", with epochs of {seconds(epochs[0].median)}"
    elif epochs:
        own = next((one for one in epochs if one.name == first.name), None)
        theirs = f", those of {first.name} take {seconds(own.median)}" if own not in (None, epochs[0]) else ""
        told += f"; {epochs[0].name} has the quickest epochs, {seconds(epochs[0].median)}{theirs}"
    verdict: Verdict = _verdict(behind) if behind else "nothing to compare"
    spread = ""
    if len(first.values) > 1:
        spread = f"Its {len(first.values)} repeats came to {first.values.min():.4g} to {first.values.max():.4g}."
    return Conclusion(sentence=told, verdict=verdict, details=_told(spread, _how_sure(behind, run.called, len(ranked))))


def _by_time(run: _Trials, noise: Spread | None) -> Conclusion:
    """Return who is quickest: an epoch, or where there are none, a whole trial."""
    ranked, what = _ranked(run.of("train_s")), "epochs"
    if not ranked:
        done = (run.trials["status"] == "completed").to_numpy(dtype=bool)
        ranked, what = _ranked(run.having(np.where(done, floats(run.trials, "wall_s"), np.nan))), "trials"
    if not ranked:
        done_count = int((run.trials["status"] == "completed").sum())
        told = f"{done_count} of {len(run.trials)} trials completed, and nothing of them was measured"
        return Conclusion(sentence=told, verdict="nothing measured")
    first, *others = ranked
    took = f"{seconds(first.median)}{_behind_it(first)}"
    if not others:
        told = f"{_capital(first.name)} has {what} of {took}"
        return Conclusion(sentence=told, verdict="nothing to compare", details=_told(_repeats(first, "")))
    behind = _compared(first, others, noise)
    verdict = _verdict(behind)
    if verdict == "no difference shown":
        told = (
            f"All {len(ranked)} {run.called} have about equally quick {what}: from {took} with {first.name} "
            f"to {seconds(others[-1].median)} with {others[-1].name}"
        )
    else:
        told = f"{_capital(first.name)} has the quickest {what}, {took}{_distances(behind)}"
    return Conclusion(
        sentence=told, verdict=verdict, details=_told(_repeats(first, ""), _how_sure(behind, run.called, len(ranked)))
    )


# Ranks and differences ----------------------------------------------------------------------------------------------


def _ranked(found: Sequence[_Group], *, lower: bool = True) -> list[_Group]:
    """Return the groups in order of their medians, the best first; then by the mean of what did not miss."""
    sign = 1 if lower else -1

    def rank(one: _Group) -> tuple[float, float]:
        return sign * one.median, sign * float(one.finite.mean()) if len(one.finite) else math.inf

    return sorted(found, key=rank)


def _compared(first: _Group, others: Sequence[_Group], noise: Spread | None) -> list[_Behind]:
    """Compare times with the first. Repeats of the others that missed are left out, which can only hide a difference;
    where some of the first did, or a time is 0, nothing is called different."""

    def seen(one: _Group) -> Comparison | None:
        positive = all((side.finite > 0).all() for side in (first, one))
        return compare(first.figures, one.figures, noise=noise) if positive and first.complete else None

    held, common = _held(others), _common([first, *others], relative=True)
    ratios = [one.median / first.median if first.median > 0 else None for one in held]
    found = [_steadied(first, one, seen(one), common, sign=1) for one in held]
    return _corrected(held, ratios, found, of=len(others) + 1)


def _held(others: Sequence[_Group]) -> list[_Group]:
    """Return those of the others, in order, that are compared with the first."""
    return [*others[:_NEAREST], *others[_NEAREST:][-1:]]


def _difference(first: _Group, other: _Group, *, lower: bool) -> Comparison:
    """Compare values of a metric with the first.

    Shares of a few samples take few values, so that the differences of pairs can happen to be equal although the values
    vary. As if without any spread they would pass for sure, so that they are then compared as two samples.
    """
    how: dict[str, Any] = {"higher_is_slower": lower, "relative": False, "within": WITHIN_METRICS}
    seen = compare(first.figures, other.figures, **how)
    finest = 1e-9 * float(np.abs(first.values).max())
    if seen.spread is None or not seen.spread <= finest < float(np.ptp(first.values)):
        return seen
    return compare_values(first.finite, other.finite, pairs=None, **how)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """The variance within groups, of logs or of the values, that all groups together show."""

    variance: float
    freedom: int
    relative: bool

    def scale(self, values: np.ndarray) -> np.ndarray:
        return np.log(values) if self.relative else values


def _common(found: Sequence[_Group], *, relative: bool) -> _Common | None:
    """Return the variance that the groups share; None where there is none, or one of them has no logs."""
    if relative and any((one.finite <= 0).any() for one in found):
        return None
    none = _Common(variance=0.0, freedom=0, relative=relative)
    values = [none.scale(one.finite) for one in found if len(one.finite) > 1]
    freedom = sum(len(one) - 1 for one in values)
    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in values)
    return _Common(variance=squares / freedom, freedom=freedom, relative=relative) if squares > 0 else None


def _steadied(
    first: _Group, other: _Group, seen: Comparison | None, common: _Common | None, *, sign: int
) -> Comparison | None:
    """Return a comparison of few repeats by the spread that all groups have in common, where the two do not show a
    larger one: their own few repeats say too little about it. `sign` says which way is behind: 1, what is larger."""
    if seen is None or seen.p is None or common is None or min(seen.repeats) >= _FEW:
        return seen
    values = [common.scale(one.finite) for one in (first, other)]
    counts = [len(one) for one in values]
    own = sum(float(((one - one.mean()) ** 2).sum()) for one in values) / (sum(counts) - 2)
    if own > common.variance:
        return seen
    effect = float(values[1].mean() - values[0].mean())
    error = math.sqrt(common.variance * sum(1 / count for count in counts))
    reach = t_quantile(1 - ALARMS / 2, common.freedom) * error
    p = 2 * float(special.stdtr(common.freedom, -abs(effect) / error))
    verdict = seen.verdict
    if p < ALARMS and abs(effect) > math.log(seen.floor or 1):
        verdict = "different: slower" if effect * sign > 0 else "different: faster"
    elif seen.different:
        verdict = "cannot tell: too few repeats"
    low, high = effect - reach, effect + reach
    if not common.relative:
        return replace(seen, difference=effect, low=low, high=high, p=p, verdict=verdict)
    return replace(seen, ratio=math.exp(effect), low=math.exp(low), high=math.exp(high), p=p, verdict=verdict)


def _corrected(
    others: Sequence[_Group], ratios: Sequence[float | None], seen: Sequence[Comparison | None], *, of: int
) -> list[_Behind]:
    """Return the others with whether they are shown to be behind, after Holm's correction for all pairs of `of`."""
    pairs = of * (of - 1) // 2
    shown = set()
    ranked = sorted((one.p, number) for number, one in enumerate(seen) if one is not None and one.p is not None)
    for rank, (p, number) in enumerate(ranked):
        if p * (pairs - rank) >= ALARMS:
            break
        one = seen[number]
        if one is not None and one.verdict == "different: slower":
            shown.add(number)
    return [
        _Behind(group=group, ratio=ratio, comparison=one, different=number in shown)
        for number, (group, ratio, one) in enumerate(zip(others, ratios, seen, strict=True))
    ]


def _verdict(behind: Sequence[_Behind]) -> Verdict:
    if behind[0].different:
        return "different"
    if all(one.comparison is not None and one.comparison.verdict == "no difference shown" for one in behind):
        return "no difference shown"
    return "cannot tell: too few repeats"


def _distances(behind: Sequence[_Behind]) -> str:
    """Return how much longer the next and the last take than the first, and whether that is real: the rest of a
    sentence."""
    following, last = behind[0], behind[-1]
    repeats = _fewest(behind)
    if repeats == 1:
        if len(behind) == 1:
            return f"; {last.group.name} takes {_longer(last)}, in one repeat, so chance is not ruled out"
        return (
            f"; the next, {following.group.name}, takes {_longer(following)}, and the last, {last.group.name}, "
            f"{_longer(last)}, in one repeat, so chance is not ruled out"
        )
    with_repeats = f"with {repeats} repeats"
    if len(behind) == 1:
        if last.different:
            return f"; {last.group.name} takes {_longer(last)}, which is a real difference"
        return f"; {last.group.name}, at {seconds(last.group.median)}, cannot be told from it {with_repeats}"
    if following.different and last.different:
        return (
            f"; the next, {following.group.name}, takes {_longer(following)}, and the last, {last.group.name}, "
            f"{_longer(last)}, which are real differences"
        )
    if following.different:
        real = f"; the next, {following.group.name}, takes {_longer(following)}, which is a real difference"
        return f"{real}, and the last, {last.group.name}, {_longer(last)}, which {with_repeats} is not shown"
    told = f"; {following.group.name}, at {seconds(following.group.median)}, cannot be told from it {with_repeats}"
    if last.different:
        return f"{told}, while the last, {last.group.name}, takes {_longer(last)}, which is a real difference"
    some = [one for one in behind if one.different]
    if some:
        return f"{told}, while {some[-1].group.name} takes {_longer(some[-1])}, which is a real difference"
    others = "the last," if len(behind) == 2 else "any other, up to"
    return f"{told}, nor can {others} {last.group.name} at {seconds(last.group.median)}"


def _longer(one: _Behind) -> str:
    return seconds(one.group.median) if one.ratio is None else f"{one.ratio:.3g} times as long"


def _how_sure(behind: Sequence[_Behind], called: str, count: int) -> str:
    """Return the intervals against the first of `count` groups, and what else decided."""
    told = []
    for one in behind:
        seen = one.comparison
        if seen is not None and seen.low is not None and seen.high is not None:
            interval = f"{seen.low:.3g} to {seen.high:.3g}"
            how = f"takes {interval} times as long" if seen.ratio is not None else f"differs by {interval}"
            told.append(f"{one.group.name} {how}")
    if not told:
        return ""
    rest = " …" if len(told) > _MOST else ""
    floors = [one.comparison.floor for one in behind if one.comparison is not None and one.comparison.floor]
    floor = f"; the node's noise alone comes to {max(floors):.3g} times" if floors else ""
    picked = f"; one of {count} {called} was picked, so Holm's correction for all pairs decides" if count > 2 else ""
    return f"With 98 % confidence, against the first: {', '.join(told[:_MOST])}{rest}{floor}{picked}."


# Words --------------------------------------------------------------------------------------------------------------


def _behind_it(one: _Group) -> str:
    """Return how many repeats a median is of, and its interval, in brackets; nothing for one repeat. Of two, Student's
    t has one degree of freedom, and an interval that says nothing."""
    if len(one.values) < _FEWEST or not one.complete or one.median <= 0:
        return _of_repeats(one)
    logs = np.log(one.values)
    low, high = (math.exp(logs.mean() + sign * half_width(logs)) for sign in (-1, 1))
    return f" (median of {len(one.values)} repeats, 98 % interval {_range(low, high)})"


def _of_repeats(one: _Group) -> str:
    return f" (median of {len(one.values)} repeats)" if len(one.values) > 1 else ""


def _repeats(first: _Group, shared: str) -> str:
    """Return how far the repeats of the first lie apart, and which others missed."""
    told = []
    if len(first.values) > 1 and len(first.finite):
        values = first.finite
        but = "" if first.complete else f", and {len(first.values) - len(values)} missed"
        took = _range(float(values.min()), float(values.max()))
        told.append(f"the {len(first.values)} repeats of {first.name} took {took}{but}")
    told += [shared] if shared else []
    return f"{_capital('; '.join(told))}." if told else ""


def _range(low: float, high: float) -> str:
    first, last = seconds(low), seconds(high)
    return f"{first.removesuffix(' s')} to {last}" if high < _MINUTES else f"{first} to {last}"


def _fewest(behind: Sequence[_Behind]) -> int:
    """Return the repeats of the smallest group that was compared."""
    return min(min(one.comparison.repeats) if one.comparison is not None else len(one.group.values) for one in behind)


def _told(*sentences: str) -> tuple[str, ...]:
    return tuple(one for one in sentences if one)


def _against(trials: pd.DataFrame) -> str:
    """Return what speaks against the figures: trials that did not complete, warnings, neighbours."""
    told = []
    if (trials["status"] != "completed").any():
        told.append(_not_completed(trials))
    warned = [found for found in listed(trials, "warnings") if found]
    if warned:
        counts = Counter(name for found in warned for name in set(found)).most_common()
        which = ", ".join(f"{name} {count}" for name, count in counts[:_MOST]) + (" …" if len(counts) > _MOST else "")
        told.append(f"{len(warned)} of {len(trials)} trials carry warnings ({which})")
    neighbours = floats(trials, "neighbours")
    neighbours = neighbours[~np.isnan(neighbours)]
    if len(neighbours) and neighbours.min() != neighbours.max():
        told.append(f"trials ran beside {neighbours.min():.0f} to {neighbours.max():.0f} others on their node")
    return f"What speaks against it: {'; '.join(told)}." if told else ""


def _not_completed(trials: pd.DataFrame) -> str:
    """Return how many trials did not complete, and the commonest reason, as "3 of 4 failed (out of memory)"."""
    bad = trials[trials["status"] != "completed"]
    counts = Counter(bad["status"].tolist())
    told = ", ".join(f"{count} {_STATUSES.get(str(status), str(status))}" for status, count in counts.most_common())
    reasons = Counter(str(one) for one in bad["error"].dropna().tolist()) if "error" in bad.columns else Counter()
    reason = f" ({_short(reasons.most_common(1)[0][0])})" if reasons else ""
    return f"of {len(trials)} trials {told}{reason}"


def _names(firsts: pd.DataFrame, naming: Mapping[str, str], by: Sequence[str]) -> list[str]:
    """Return what each group is called, given a trial of each: its place in the grid, and as much more of `by` as tells
    it from the others; shortened."""
    rows = firsts.to_dict("records")
    names = [place(row, naming) for row in rows]
    for column in sorted(by, key=lambda name: name == "setting_id"):  # an identity says least, so it comes last
        if len(set(names)) < len(names) and firsts[column].nunique(dropna=False) > 1:
            names = [f"{name} {axis(row[column])}".strip() for name, row in zip(names, rows, strict=True)]
    short = [name or "the setting" for name in _shortened(names)]
    again = Counter(short)
    return [f"{name} #{number}" if again[name] > 1 else name for number, name in enumerate(short, 1)]


def _shortened(names: Sequence[str]) -> list[str]:
    """Return names of which long ones lack most of what all have in common at the beginning and at the end."""
    lines = [_line(name) for name in names]
    start = max(0, _in_common(lines) - _KEPT)
    end = max(0, _in_common([line[::-1] for line in lines]) - _KEPT)
    found = []
    for line in lines:
        if len(line) > _LONGEST and start + end < len(line):
            line = ("…" if start else "") + line[start : len(line) - end] + ("…" if end else "")
        found.append(_short(line))
    return found


def _in_common(lines: Sequence[str]) -> int:
    """Return how many letters from the first on are the same in all."""
    places = enumerate(zip(*lines, strict=False))
    return next((place for place, letters in places if len(set(letters)) > 1), min(map(len, lines)))


def _short(text: str) -> str:
    """Return a text as one line, without its middle where it is long."""
    line, half = _line(text), _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]}…{line[1 - half :]}"


def _line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _capital(text: str) -> str:
    """Return the beginning of a sentence; a label stays as it is."""
    return f"T{text[1:]}" if text.startswith("the ") else text
