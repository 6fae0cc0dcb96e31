"""1,000 trials that do nothing: what scheduling and recording cost by themselves."""

from harness import Setting, Suite, function, product


def nothing(trial: object) -> None:
    """Return at once; the argument `index` of the declaration only tells the trials apart."""


suite = Suite(
    name="nothing",
    base=Setting(workload=function(nothing, kind="workload", index=0)),
    grid=product({"workload.index": list(range(1_000))}),
)
