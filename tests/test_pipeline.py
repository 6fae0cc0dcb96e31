"""What the pipeline makes of what it hears: calibrations become part of the nodes' rows."""

from __future__ import annotations

from typing import Any

from harness.pipeline import _Watch
from harness.schedule.loop import Notice
from harness.schedule.order import Demand
from harness.schedule.protocol import Worker


class Heard:
    """Stands for executor, recorder and display at once, and keeps the rows that are recorded."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [{"node": "here", "cpu_model": "a"}, {"node": "there", "cpu_model": "b"}]

    def add_node(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def notice(self, notice: Notice) -> None:
        pass

    def finished(self, finished: Any) -> None:
        pass


def calibrated(cpus: int, **values: float) -> Notice:
    share = Worker(name=f"c{cpus}", node="here", demand=Demand(backend="jax", cpus=cpus, gpus=0.5, exclusive=False))
    return Notice(what="calibrated", worker=share.name, values=values, share=share)


def test_a_node_is_recorded_with_all_that_was_calibrated_on_it_and_again_when_more_comes() -> None:
    heard = Heard()
    watch = _Watch(heard, heard, heard, lambda name: None)  # type: ignore[arg-type]
    watch.notice(calibrated(1, core_flops_per_s=1.0, share_flops_per_s=1.0))
    assert heard.rows == []
    watch.finished(None)  # type: ignore[arg-type]
    here, there = heard.rows
    assert there == {"node": "there", "cpu_model": "b", "calibration": None}
    assert here["calibration"] == {"jax/cpus=1/gpus=0.5": {"core_flops_per_s": 1.0, "share_flops_per_s": 1.0}}
    watch.notice(calibrated(2, core_flops_per_s=1.1, share_flops_per_s=2.0, dispatch_s=0.1))
    here = heard.rows[2]
    assert set(here["calibration"]) == {"jax/cpus=1/gpus=0.5", "jax/cpus=2/gpus=0.5"}
