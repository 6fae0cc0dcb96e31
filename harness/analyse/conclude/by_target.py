"""Who reaches the target first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.analyse.compare import Spread
from harness.analyse.conclude.ahead import by_ratio, verdict
from harness.analyse.conclude.conclusion import Conclusion
from harness.analyse.conclude.first import MOST, distances, how_sure, spread
from harness.analyse.conclude.variants import Variant, Variants, ranked
from harness.analyse.conclude.words import capital
from harness.analyse.frames import floats, owners
from harness.analyse.target import time_to_target
from harness.domain.duration import seconds
from harness.domain.metrics import goal_text


def by_target(
    run: Variants, metric: str, at_least: float | None, at_most: float | None, noise: Spread | None
) -> Conclusion | None:
    """Return what is to be said of a target; None where no trial has the metric."""
    times = time_to_target(run.trials, run.epochs, metric=metric, at_least=at_least, at_most=at_most)
    order = ranked(run.having(times["time_to_target_s"].to_numpy(dtype=float), by_seed=True))
    if not order:
        return None
    bound = at_least if at_least is not None else at_most
    assert bound is not None  # one of the two
    goal = goal_text(metric, at_least, at_most)
    reaching = [one for one in order if math.isfinite(one.median)]
    if not reaching:
        return _not_reached(run, order, metric, bound, goal, higher=at_least is not None)
    first, *others = reaching
    took = f"after {seconds(first.median)} of training{spread(first)}"
    if not others:
        alone = len(order) == 1
        who = capital(first.name) if alone else f"Only {first.name} of {len(order)} {run.called}"
        told = f"{who} reaches {goal}{'' if alone else ','} {took}."
        return Conclusion(sentence=told, verdict="nothing to compare", details=_missed(order))
    behind = by_ratio(first, others, noise)
    found = verdict(behind)
    every = len(reaching) == len(order)
    some = f"{len(reaching)} of {len(order)} {run.called} reach {goal}"
    if found == "no difference shown":
        who = f"All {len(order)} {run.called} reach {goal}" if every else some
        told = (
            f"{who} in about the same time: {first.name} {took}, and the last, {others[-1].name}, after "
            f"{seconds(others[-1].median)}"
        )
    else:
        who = f"{capital(first.name)} reaches {goal} first" if every else f"{some}, {first.name} first"
        told = f"{who}, {took}{distances(behind)}"
    sure = how_sure(behind, run.called, len(reaching))
    return Conclusion(sentence=f"{told}.", verdict=found, details=(*_missed(order), *([sure] if sure else [])))


def _missed(order: Sequence[Variant]) -> tuple[str, ...]:
    """Return in how many of their repeats those reached the target that missed it in some: a sentence, if any did."""
    told = [f"{one.name} reached it in {len(one.finite)} of {len(one.values)}" for one in order if not one.complete]
    if not told or len(order) == 1:
        return ()
    return (f"{capital('; '.join(told[:MOST]))}{' …' if len(told) > MOST else ''} repeats.",)


def _not_reached(
    run: Variants, order: Sequence[Variant], metric: str, bound: float, goal: str, *, higher: bool
) -> Conclusion:
    alone = len(order) == 1
    subject = f"{capital(order[0].name)} does not reach" if alone else f"No setting of {len(order)} reaches"
    most = max(order, key=lambda one: len(one.finite) / len(one.values))
    if len(most.finite):
        had = "it does" if alone else f"{most.name} does"
        told = f"{subject} {goal} in more than half of its repeats: {had} in {len(most.finite)} of {len(most.values)}."
        return Conclusion(sentence=told, verdict="target not reached")
    own, values = owners(run.trials, run.epochs), floats(run.epochs, metric)
    values = np.where(own >= 0, values, np.nan)
    if np.isnan(values).all():
        return Conclusion(sentence=f"{subject} {goal}: no value of it is a number.", verdict="target not reached")
    row = int(np.nanargmax(values) if higher else np.nanargmin(values))
    whose = "" if alone else f" by {run.names[run.of_trial[own[row]]]}"
    epoch = int(run.epochs["epoch"].iloc[row])
    short = f"{abs(bound - values[row]):.2g} {'short of' if higher else 'above'} it"
    told = f"{subject} {goal}: the best value was {values[row]:.4g},{whose} in epoch {epoch}, {short}."
    return Conclusion(sentence=told, verdict="target not reached")
