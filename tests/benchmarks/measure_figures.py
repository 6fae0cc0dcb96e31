"""The further figures: how long the command line takes to answer, and what a trial that does nothing costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from measure_commands import BESIDE, Timed, environment, harness_command, run_folder, timed, timings

NOTHINGS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure in seconds, against its target; `seconds` is None where the command failed."""

    what: str
    seconds: float | None
    target_s: float
    note: str = ""


def measure(work: Path, *, say: Callable[[str], None]) -> list[Figure]:
    """Return the figures, each from cold commands run here and now."""
    say("figures: harness --help")
    helped = _median(5, harness_command("--help"), say)
    say("figures: harness plan of 10,000 trials")
    planned = _median(3, harness_command("plan", str(BESIDE / "ten_thousand.py")), say)
    say(f"figures: {NOTHINGS:,} trials that do nothing")
    return [
        Figure(what="harness --help", seconds=helped[0], target_s=0.3, note=helped[1]),
        Figure(what="harness plan of 10,000 trials", seconds=planned[0], target_s=1.5, note=planned[1]),
        _nothings(work, say),
    ]


def _median(times: int, argv: list[str], say: Callable[[str], None]) -> tuple[float | None, str]:
    """Return the median wall time of a command run `times` times, and how it was taken or why there is none."""
    runs: list[Timed] = []
    for _ in range(times):
        runs.append(timed(argv, env=environment()))
        if not runs[-1].ok:
            say(runs[-1].tail)
            return None, f"exit code {runs[-1].returncode}"
    return statistics.median(run.wall_s for run in runs), f"median of {times} cold commands"


def _nothings(work: Path, say: Callable[[str], None]) -> Figure:
    what = f"{NOTHINGS:,} trials that do nothing, workers ready to last record"
    ran = timed(harness_command("run", str(BESIDE / "nothing.py"), "--results", str(work)), env=environment())
    if not ran.ok:
        say(ran.tail)
        return Figure(what=what, seconds=None, target_s=7.0, note=f"exit code {ran.returncode}")
    folder = run_folder(work)
    status = pd.read_parquet(folder / "trials.parquet", columns=["status"])["status"]
    at = timings(folder)
    return Figure(
        what=what,
        seconds=at["last_record_s"] - at["workers_ready_s"],
        target_s=7.0,
        note=f"{(status == 'completed').sum():,} completed; whole command {ran.wall_s:.1f} s",
    )
