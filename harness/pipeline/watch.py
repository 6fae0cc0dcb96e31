"""What hears the loop while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.domain.judge import share_key
from harness.domain.outcome import Finished
from harness.pipeline.request import Display
from harness.pipeline.standing import Standing
from harness.record.live import LiveFile
from harness.record.recorder import Recorder
from harness.schedule.notice import Notice
from harness.schedule.protocol import Executor

_TELEMETRY_EVERY_S: Final = 1.0
_TICK_EVERY_S: Final = 0.2


class Watch:
    """Hears what happens in the loop: keeps the timings, passes the readings on, and tells the display and others."""

    def __init__(
        self,
        executor: Executor,
        recorder: Recorder,
        display: Display,
        mark: Callable[[str], None],
        *,
        standing: Standing,
        live: LiveFile,
    ) -> None:
        self._executor = executor
        self._recorder = recorder
        self._display = display
        self._mark = mark
        self._standing = standing
        self._live = live
        self._starting: set[str] = set()
        self._described: set[str] = set()  # nodes
        self._calibrated: dict[str, dict[str, Mapping[str, Any]]] = {}  # by node and kind of share
        self._drained_s = self._ticked_s = time.monotonic()

    def notice(self, notice: Notice) -> None:
        if notice.what == "opened":
            self._starting.add(notice.worker)
        elif notice.what in ("ready", "gone"):
            self._starting.discard(notice.worker)
            if not self._starting:
                self._mark("workers_ready_s")
        elif notice.what == "calibrated" and notice.share is not None:
            demand = notice.share.demand
            kind = share_key(demand.backend, demand.cpus, demand.gpus)
            self._calibrated.setdefault(notice.share.node, {})[kind] = notice.values
            if notice.share.node in self._described:
                self._described.discard(notice.share.node)
                self._describe()
        elif notice.what == "started":
            self._mark("first_trial_s")
        self._standing.notice(notice, self._executor.progress() if notice.what == "started" else {})
        self._display.notice(notice)

    def finished(self, finished: Finished) -> None:
        self._standing.finished(finished)
        self._display.finished(finished)
        on = {finished.placement.node, *finished.placement.others}
        if not on <= self._described:
            self._describe()
            self._described |= on  # one that is lost by now is not described any more

    def _describe(self) -> None:
        """Record the nodes that were not yet, each with what was calibrated on it, by kind of share."""
        for row in self._executor.nodes():
            if row["node"] not in self._described:
                self._described.add(row["node"])
                self._recorder.add_node({**row, "calibration": self._calibrated.get(row["node"])})

    def tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._ticked_s >= _TICK_EVERY_S:
            self._ticked_s = now_s
            self._standing.tick(self._executor.progress())
            self._display.tick()
            self._live.write(self._standing.live)
        if now_s - self._drained_s >= _TELEMETRY_EVERY_S:
            self._drained_s = now_s
            self._recorder.add_telemetry(self._executor.telemetry())
