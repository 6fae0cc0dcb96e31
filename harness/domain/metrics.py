"""The quantities that are recorded every epoch, each declared once: unit and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One recorded quantity; `low` and `high` bound the values it can take (None: unbounded)."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    low: float | None = None
    high: float | None = None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="loss", unit="1", better="lower"),
        Metric(name="accuracy", unit="1", better="higher", low=0.0, high=1.0),
        Metric(name="val_loss", unit="1", better="lower"),
        Metric(name="val_accuracy", unit="1", better="higher", low=0.0, high=1.0),
    )
}


# What Keras's metrics and losses of which less is better are called; of all others more is better.
_LESS_IS_BETTER = (
    *("error", "loss", "crossentropy", "divergence", "hinge", "poisson", "log_cosh", "false_negatives"),
    *("false_positives", "mae", "mape", "mse", "msle", "rmse", "perplexity", "norm", "_s", "_bytes", "_j"),
)


def better(name: str) -> Literal["higher", "lower"]:
    """Return which way a quantity is better: as declared, or by its name for those that are not of `METRICS`."""
    if name in METRICS:
        return METRICS[name].better
    return "lower" if name.endswith(_LESS_IS_BETTER) and not name.endswith("_per_s") else "higher"


def goal_text(metric: str, at_least: float | None, at_most: float | None) -> str:
    """Return a target for people, its value as it was declared: "val_accuracy ≥ 0.9"."""
    return f"{metric} ≤ {at_most:.12g}" if at_least is None else f"{metric} ≥ {at_least:.12g}"
