"""Without a target: who has the best value of the metric, or where there is none, who is quickest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analyse.compare import Spread
from harness.analyse.conclude.ahead import Behind, by_difference, by_ratio, verdict
from harness.analyse.conclude.conclusion import Conclusion
from harness.analyse.conclude.first import distances, how_sure, spread
from harness.analyse.conclude.variants import Variant, Variants, ranked
from harness.analyse.conclude.words import capital
from harness.analyse.frames import floats
from harness.domain.duration import seconds
from harness.domain.metrics import better
from harness.domain.naming import plural


def by_metric(run: Variants, metric: str) -> Conclusion | None:
    """Return who has the best value of the metric, and who the quickest epochs; None where it was not measured."""
    lower = better(metric) == "lower"
    order = ranked(run.measuring(metric, by_seed=True), lower=lower)
    if not order:
        return None
    first, *others = order
    best = f"{first.median:.4g}"
    if len(first.values) > 1:
        best += f" ({len(first.values)} repeats: {first.values.min():.4g} to {first.values.max():.4g})"
    quickest = _quickest_epochs(run, first)
    if not others:
        told = f"{capital(first.name)} comes to a {metric} of {best}."
        return Conclusion(sentence=told, verdict="nothing to compare", details=quickest)
    behind = by_difference(first, others, lower=lower)
    told = f"{capital(first.name)} has the best {metric}, {best}{_others(behind, lower=lower)}."
    sure = how_sure(behind, run.called, len(order))
    return Conclusion(sentence=told, verdict=verdict(behind), details=(*quickest, *([sure] if sure else [])))


def by_time(run: Variants, noise: Spread | None) -> Conclusion:
    """Return who is quickest: an epoch, or where there are none, a whole trial."""
    order, what = ranked(run.measuring("train_s")), "epochs"
    if not order:
        done = (run.trials["status"] == "completed").to_numpy(dtype=bool)
        order, what = ranked(run.having(np.where(done, floats(run.trials, "wall_s"), np.nan))), "trials"
    if not order:
        done_count = int((run.trials["status"] == "completed").sum())
        told = f"{done_count} of {plural(len(run.trials), 'trial')} completed, and nothing of them was measured."
        return Conclusion(sentence=told, verdict="nothing measured")
    first, *others = order
    took = f"{seconds(first.median)}{spread(first)}"
    if not others:
        return Conclusion(sentence=f"{capital(first.name)} has {what} of {took}.", verdict="nothing to compare")
    behind = by_ratio(first, others, noise)
    found = verdict(behind)
    if found == "no difference shown":
        told = (
            f"All {len(order)} {run.called} have about equally quick {what}: from {took} with {first.name} "
            f"to {seconds(others[-1].median)} with {others[-1].name}."
        )
    else:
        told = f"{capital(first.name)} has the quickest {what}, {took}{distances(behind)}."
    sure = how_sure(behind, run.called, len(order))
    return Conclusion(sentence=told, verdict=found, details=(sure,) if sure else ())


def _others(behind: Sequence[Behind], *, lower: bool) -> str:
    """Return how the next and the last do: the rest of a sentence."""
    following, last = behind[0], behind[-1]
    next_one = f"{following.variant.name} ({following.variant.median:.4g})"
    if following.different:
        told = f", shown to be ahead of the next, {next_one}"
    elif len(following.variant.values) == 1:
        told = f", in one repeat; the next is {next_one}"
    else:
        told = f"; {next_one} cannot be told from it"
    if len(behind) > 1:
        surely = f", shown to be {'higher' if lower else 'lower'}" if last.different else ""
        told += f"; the last is {last.variant.name} ({last.variant.median:.4g}{surely})"
    return told


def _quickest_epochs(run: Variants, first: Variant) -> tuple[str, ...]:
    """Return who has the quickest epochs, beside those of the first: a sentence, if they were timed."""
    order = ranked(run.measuring("train_s"))
    if not order:
        return ()
    quickest = order[0]
    own = next((one for one in order if one.name == first.name and one is not quickest), None)
    theirs = f"; those of {own.name} take {seconds(own.median)}" if own is not None else ""
    superlative = "epochs of" if len(order) == 1 else "the quickest epochs,"
    return (f"{capital(quickest.name)} has {superlative} {seconds(quickest.median)}{theirs}.",)
