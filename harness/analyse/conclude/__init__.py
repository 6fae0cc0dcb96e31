"""What a run comes to: one sentence with numbers, and up to five more on how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from harness.analyse.compare import Spread
from harness.analyse.conclude import claims
from harness.analyse.conclude.against import against, not_completed
from harness.analyse.conclude.by_figure import by_metric, by_time
from harness.analyse.conclude.by_target import by_target
from harness.analyse.conclude.conclusion import Conclusion as Conclusion
from harness.analyse.conclude.conclusion import Verdict as Verdict
from harness.analyse.conclude.variants import Variants
from harness.analyse.groups import BY
from harness.analyse.references import Judged
from harness.analyse.standing import standing


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
    `references` are published conclusions: one about the time to this target is what the sentence is about, and who
    is first is then the first of the details, which say how the others stand. `noise` is the node's spread of times;
    `by` the columns that tell groups apart.

    A setting reaches the target if its median time is finite, a repeat that missed it counting as infinite. An interval
    is that of the ratio of geometric means: 98 %, Student's t of the logs. What has neither target nor metric is told
    by the time of an epoch, and without epochs by that of a trial. Metrics and times to the target of several runs'
    trials with one seed count as one repeat, their median; each time of an epoch counts.

    Raises:
        ValueError: when both `at_least` and `at_most` are given; for an unknown column in `by`, and for a metric that
            nothing was recorded of.
    """
    if trials.empty:
        return Conclusion(sentence="No trial is recorded.", verdict="nothing measured")
    if not (trials["status"] == "completed").any():
        return Conclusion(sentence=f"No trial completed: {not_completed(trials)}.", verdict="nothing measured")
    run = Variants.of(trials, epochs, naming or {}, by)
    said = lead = None
    if at_least is not None or at_most is not None:
        said = by_target(run, metric, at_least, at_most, noise)
        lead = claims.leading(references, {"metric": metric, "at_least": at_least, "at_most": at_most})
    if said is None:
        said = by_metric(run, metric) or by_time(run, noise)
    further = [one for one in (claims.counted(references, lead), against(trials)) if one]
    how = None if lead is None else standing(lead)
    if lead is None or how is None:
        return replace(said, details=(*said.details, *further))
    return Conclusion(
        sentence=claims.verdict_on(lead, how),
        verdict=said.verdict,
        details=(said.sentence, *said.details, *further),
        claim=how,
    )
