"""What the pipeline makes of what it hears: calibrations become part of the nodes' rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from record.finished import finished

from harness.domain.outcome import Finished, Placement
from harness.pipeline.standing import Standing
from harness.pipeline.watch import Watch
from harness.record.live import LiveFile
from harness.schedule.demand import Demand
from harness.schedule.notice import Notice
from harness.schedule.protocol import Worker


class Heard:
    """Stands for executor, recorder and display at once, and keeps the rows that are recorded."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.there: list[dict[str, Any]] = [{"node": "here", "cpu_model": "a"}, {"node": "there", "cpu_model": "b"}]

    def nodes(self) -> list[dict[str, Any]]:
        return self.there

    def add_node(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def notice(self, notice: Notice) -> None:
        pass

    def finished(self, finished: Any) -> None:
        pass

    def progress(self) -> dict[str, Any]:
        return {}


def on(node: str) -> Finished:
    placement = Placement(worker="0", node=node, position=0, block=0, attempt=1, neighbours=0)
    return replace(finished(0), placement=placement)


def calibrated(cpus: int, **values: float) -> Notice:
    share = Worker(name=f"c{cpus}", node="here", demand=Demand(backend="jax", cpus=cpus, gpus=0.5, exclusive=False))
    return Notice(what="calibrated", worker=share.name, values=values, share=share)


def test_a_node_is_recorded_with_all_that_was_calibrated_on_it_and_again_when_more_comes(tmp_path: Path) -> None:
    heard = Heard()
    standing, live = Standing(()), LiveFile(tmp_path, attempt=1)
    watch = Watch(heard, heard, heard, lambda name: None, standing=standing, live=live)  # type: ignore[arg-type]
    watch.notice(calibrated(1, core_flops_per_s=1.0, share_flops_per_s=1.0))
    assert heard.rows == []
    watch.finished(on("here"))
    here, there = heard.rows
    assert there == {"node": "there", "cpu_model": "b", "calibration": None}
    assert here["calibration"] == {"jax/cpus=1/gpus=0.5": {"core_flops_per_s": 1.0, "share_flops_per_s": 1.0}}
    watch.notice(calibrated(2, core_flops_per_s=1.1, share_flops_per_s=2.0, dispatch_s=0.1))
    (here,) = heard.rows[2:]
    assert set(here["calibration"]) == {"jax/cpus=1/gpus=0.5", "jax/cpus=2/gpus=0.5"}


def test_a_node_that_joins_late_is_recorded_too_and_the_others_not_again(tmp_path: Path) -> None:
    heard = Heard()
    standing, live = Standing(()), LiveFile(tmp_path, attempt=1)
    watch = Watch(heard, heard, heard, lambda name: None, standing=standing, live=live)  # type: ignore[arg-type]
    watch.finished(on("here"))
    heard.there.append({"node": "late", "cpu_model": "c"})
    for node in ("there", "late", "late", "lost by now", "lost by now"):
        watch.finished(on(node))
    assert [row["node"] for row in heard.rows] == ["here", "there", "late"]
