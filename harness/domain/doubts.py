"""The doubts that travel with a measurement: each warning with its meaning and its threshold, in this one place.

`harness.domain.judge` gives them and `harness.record` puts their names on trials and epochs; nothing is ever dropped
because of them unless the user asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Below these a figure says nothing, and no warning is given.
CLOCKS_LEAST_S: Final = 0.01  # two clocks that differ by less may do so for how long it took to read both
CALIBRATION_FOREIGN_PERCENT: Final = 25.0  # load by others beside which a calibration is no measure of the device
EPOCHS_LEAST: Final = 5  # epochs that are no warm-up: of fewer, neither a spread nor a trend can be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One warning. It is given where the figure that it looks at exceeds `threshold`, in `unit`."""

    name: str
    meaning: str
    threshold: float
    unit: str
    figure: str  # what is compared with the threshold
    remedy: str


DOUBTS: Final[dict[str, Doubt]] = {
    doubt.name: doubt
    for doubt in (
        Doubt(
            name="throttled",
            meaning="a GPU ran slower than it can: heat, power or a hardware brake",
            threshold=5.0,
            unit="%",
            figure="throttled_percent: share of the time with such a reason, of the worst of the worker's GPUs",
            remedy="cool the machine, or raise the power limit (nvidia-smi -q -d PERFORMANCE says which it is)",
        ),
        Doubt(
            name="contended",
            meaning="something else computed on the worker's cores",
            threshold=10.0,
            unit="%",
            figure="foreign_percent: load of the worker's cores that is neither the worker nor the harness, at least",
            remedy="end what else runs, or ask the batch system for the node alone",
        ),
        Doubt(
            name="stolen",
            meaning="the hypervisor gave the worker's cores to another machine",
            threshold=5.0,
            unit="%",
            figure="steal_percent",
            remedy="use a machine with cores of its own, or repeat at a quieter time",
        ),
        Doubt(
            name="few_cores",
            meaning="the worker had fewer cores than the trial asked for",
            threshold=0.0,
            unit="cores",
            figure=(
                "cpus asked for, less the cores that the worker was pinned to, or less the node's CPU quota over the "
                "trials that ran at a time"
            ),
            remedy="start the harness with a wider affinity or quota, or lower `cpus`",
        ),
        Doubt(
            name="clock_drift",
            meaning="a clock was set or ran fast or slow meanwhile, so that times and joined readings may be off",
            threshold=0.1,
            unit="%",
            figure=(
                "the larger of clock_drift and of clock_step_s over wall_s, whichever way; what comes to less than "
                f"{CLOCKS_LEAST_S:g} s does not count"
            ),
            remedy="let the machine's clock settle (chronyc tracking, timedatectl timesync-status)",
        ),
        Doubt(
            name="warming_up",
            meaning=(
                "an epoch still slower than the trial's later ones, though not flagged `warmup`; a trial: at least "
                "half of its epochs are"
            ),
            threshold=10.0,
            unit="%",
            figure=(
                "train_s over the median of the trial's second half, less 1, from its first epoch on without a break, "
                f"where at least {EPOCHS_LEAST} epochs are no warm-up"
            ),
            remedy="train more epochs, or leave the first ones out",
        ),
        Doubt(
            name="recompiled",
            meaning="a program was compiled within the timed span",
            threshold=0.0,
            unit="programs",
            figure="compilations",
            remedy="give the model fixed shapes; please report it if the harness's own engine did it",
        ),
        Doubt(
            name="noisy",
            meaning="the trial's epochs differ much in time from one another",
            threshold=10.0,
            unit="%",
            figure=(
                f"interquartile range of train_s over its median, of at least {EPOCHS_LEAST} epochs that are no warm-up"
            ),
            remedy="repeat more often, or find what disturbs (harness doctor)",
        ),
        Doubt(
            name="swapped",
            meaning="the node swapped memory to and from disk",
            threshold=1.0,
            unit="MiB",
            figure="swapped_bytes",
            remedy="use smaller batches, fewer workers, or a node with more memory",
        ),
    )
}
