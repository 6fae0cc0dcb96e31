"""Several runs on one page: what each is, and whether they are alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from harness.answer.contents.origin import instant
from harness.answer.tables import Tables
from harness.domain.duration import significant
from harness.domain.naming import axis

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.content import Figure

_RUNS: Final = 100


def runs_apart(tables: Tables) -> pd.DataFrame | None:
    """Return how the seconds an epoch of each run lie to those of the first; None of a single run."""
    from harness import analyse

    gathered = tables.gathered
    if len(gathered.runs) < 2:
        return None
    found: pd.DataFrame = analyse.runs_apart(gathered.trials, gathered.epochs, gathered.runs, gathered.results.nodes)
    states = {run.get("run_id"): str(run.get("state")) for run in gathered.runs}
    return found.assign(state=[states.get(run_id, "–") for run_id in found["run_id"].tolist()])


def listed_runs(apart: pd.DataFrame | None) -> Iterator[Figure]:
    from harness.report.content import Figure, Grid

    if apart is None:
        return
    rows = [
        (
            str(row["run_id"]), instant(axis(row["began"])), axis(row["commit"])[:10], axis(row["hardware"]),
            f"{row['trials']:,}", row["state"],
            "–" if math.isnan(row["ratio"]) else f"{significant(row['ratio'])}{_from_to(row['low'], row['high'])}",
            str(row["verdict"]),
        )
        for row in apart.head(_RUNS).to_dict("records")
    ]  # fmt: skip
    left = len(apart) - len(rows)
    yield Figure(
        id="runs",
        title="Runs",
        text=(
            "All figures are of the trials of all these runs together. The seconds an epoch are against those of the "
            "first run, in the settings that both have, with their 98 % interval."
        ),
        grid=Grid(
            headings=("run", "began", "commit", "hardware", "trials", "state", "s/epoch, ratio", "against the first"),
            rows=tuple(rows),
            numeric=frozenset({"trials", "s/epoch, ratio"}),
        ),
        notes=(f"{left:,} more runs are not listed here.",) if left else (),
    )


def _from_to(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f" ({significant(low)} to {significant(high)})"


def not_alike(apart: pd.DataFrame | None) -> Iterator[str]:
    """Yield a sentence where runs that are put together are not alike."""
    if apart is None:
        return
    found = apart[apart["verdict"].isin(["slower", "faster"])].to_dict("records")
    if found:
        told = [
            f"{row['run_id']} takes {significant(row['ratio'])} times as long an epoch"
            f"{_from_to(row['low'], row['high'])}"
            for row in found[:3]
        ]
        more = f"; {len(found) - 3:,} more runs differ too" if len(found) > 3 else ""
        yield (
            f"These runs are not alike: against {apart['run_id'].iloc[0]}, {'; '.join(told)}{more}. Medians and "
            "intervals of times are of a mixture of them; a report on each run alone, or harness compare, keeps them "
            "apart."
        )
