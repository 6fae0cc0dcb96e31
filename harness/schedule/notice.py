"""What the loop says while it runs, for displays and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.domain.trial import Trial
from harness.schedule.protocol import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to show: a worker became ready, a trial began, is tried again, or a worker was replaced.

    "gone": the `nodes` of `values` are lost with the worker, unless others serve there. "waiting": for nodes to return.
    "settled": so many trials of a setting are not needed any more, `fewer` of `values`, or are so after all where that
    is below 0. "set aside": the `node` of `values` is used no more, for the reason in `text`. "state":
    a trial goes on from one, or cannot. "retried": the `status` of `values` is how it ended.
    """

    what: Literal[
        "opened",
        "ready",
        "calibrated",
        "started",
        "retried",
        "replaced",
        "gone",
        "settled",
        "set aside",
        "absent",
        "waiting",
        "cluster",
        "state",
    ]
    worker: str
    trial: Trial | None = None
    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # what was calibrated, or how many trials are settled
    share: Worker | None = None  # of a worker that was opened or calibrated
