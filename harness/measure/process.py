"""What is read of the process itself: at the beginning of a trial, and again at its end."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from resource import RUSAGE_SELF, getrusage

from harness.domain.outcome import Facts
from harness.measure.worker import WorkerState, own_cores, own_gpus
from harness.telemetry.energy import Counters
from harness.workloads.protocol import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What is read at the beginning of a trial and again at its end, off all stopwatches."""

    wall_s: float
    steady_s: float
    raw_s: float
    major_faults: int
    switches: int
    counters: Counters | None

    @classmethod
    def read(cls, worker: WorkerState) -> Edge:
        used = getrusage(RUSAGE_SELF)
        return cls(
            wall_s=time.time(),
            steady_s=time.perf_counter(),
            raw_s=_raw_clock_s(),
            major_faults=used.ru_majflt,
            switches=used.ru_nivcsw,
            counters=None if worker.meter is None else worker.meter.read(),
        )

    def told(self, facts: Facts, worker: WorkerState, *, others: bool) -> Facts:
        """Return the facts with what has changed since; `others`: the trial ran in processes below this one."""
        end = Edge.read(worker)
        steady_s, raw_s = end.steady_s - self.steady_s, end.raw_s - self.raw_s
        counters = self.counters
        return replace(
            facts,
            clock_step_s=(end.wall_s - self.wall_s) - steady_s,
            clock_drift=steady_s / raw_s - 1.0 if raw_s > 0 else None,
            major_faults=None if others else end.major_faults - self.major_faults,
            involuntary_switches=None if others else end.switches - self.switches,
            energy=(
                None
                if worker.meter is None or counters is None or end.counters is None
                else worker.meter.between(counters, end.counters)
            ),
        )


def _raw_clock_s() -> float:
    """Return the clock that no time service adjusts; the steady one where there is none."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW) if hasattr(time, "CLOCK_MONOTONIC_RAW") else time.perf_counter()


def with_process(facts: Facts, trials_before: int, used: Span, *, others: bool) -> Facts:
    """Return the facts with those of this process added; `others`: the trial ran in processes below this one."""
    return replace(
        facts,
        cores=own_cores(),
        gpus=own_gpus(),
        pid=os.getpid(),
        worker_trials_before=trials_before,
        peak_rss_bytes=facts.peak_rss_bytes if others else getrusage(RUSAGE_SELF).ru_maxrss * 1024,
        rss_bytes=_rss_bytes(),
        user_cpu_s=used.user_cpu_s,
        system_cpu_s=used.system_cpu_s,
    )


def _rss_bytes() -> int | None:
    """Return the resident memory of this process, where /proc tells it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
