"""Several runs of the same settings: is one of them slower than the first as a whole?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from harness.analyse.described import described
from harness.analyse.match import match
from harness.analyse.matched import Match
from harness.analyse.pairing import MIXABLE
from harness.domain.errors import ResultsError

_COLUMNS: Final = (
    "run_id", "began", "commit", "hardware", "trials", "settings", "ratio", "low", "high", "p", "verdict",
)  # fmt: skip
_WORDS: Final = {"larger": "slower", "smaller": "faster"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The tables of one run."""

    trials: pd.DataFrame
    epochs: pd.DataFrame


def runs_apart(
    trials: pd.DataFrame, epochs: pd.DataFrame, runs: Iterable[Mapping[str, Any]], nodes: pd.DataFrame
) -> pd.DataFrame:
    """Return one row a run, the oldest first: how long its epochs take against those of the first run.

    `runs` are the run.json files and `nodes` the table of that name, as ``harness.load`` has both. Columns:

    - ``run_id``; ``began`` (ISO 8601, UTC) and ``commit``, as `described` has them; ``hardware``, of several the kinds
      joined by commas; ``trials`` of the run that are in `trials`;
    - ``settings`` that it has in common with the first run, and in which both have timed epochs;
    - ``ratio`` of the seconds an epoch to those of the first run: of one setting of the geometric means, of several
      their geometric mean, with ``low``, ``high`` (98 %) and ``p`` as `match` has them; null of the first run itself;
    - ``verdict``: "slower", "faster", "no difference shown" or "cannot tell: too few repeats", beyond the noise floors
      known to `runs`; "the first run" of that, and why there is none where the two cannot be compared.

    Runs may differ in back end, precision and whatever else `match` does not mix unless asked: what differs is for the
    reader to see in commit and hardware. Only arms that both have are put beside each other.
    """
    known = list(runs)
    trials = described(trials, known, nodes)
    order = trials.drop_duplicates("run_id").sort_values(["began", "run_id"], kind="stable")["run_id"].tolist()
    parts = {
        run_id: _Run(trials=trials[trials["run_id"] == run_id], epochs=epochs[epochs["run_id"] == run_id])
        for run_id in order
    }
    rows: list[dict[str, Any]] = []
    for run_id, part in parts.items():
        first = part.trials.iloc[0]
        row = {"run_id": run_id, "began": first["began"], "commit": first["commit"], "trials": len(part.trials)}
        row["hardware"] = ", ".join(dict.fromkeys(part.trials["hardware"]))
        rows.append(row | (_apart(parts[order[0]], part, known, nodes) if rows else {"verdict": "the first run"}))
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(
        {"settings": "Int64", **dict.fromkeys(("ratio", "low", "high", "p"), float)}
    )


def _apart(first: _Run, other: _Run, runs: list[Mapping[str, Any]], nodes: pd.DataFrame) -> dict[str, Any]:
    try:
        found = match(first, other, figure="train_s", mix=MIXABLE, runs=runs, nodes=nodes)
    except ResultsError as error:
        return {"settings": 0, "verdict": f"cannot be compared: {error}"}
    compared = [row for row in found.rows if row.comparison is not None]
    told: dict[str, Any] = {"settings": len(compared)}
    return told | (_together(found) if found.overall is not None else _alone(found))


def _together(found: Match) -> dict[str, Any]:
    every = found.overall
    assert every is not None  # as the caller has made sure
    verdict = _WORDS.get(every.verdict, every.verdict)
    return {"ratio": every.effect, "low": every.low, "high": every.high, "p": every.p, "verdict": verdict}


def _alone(found: Match) -> dict[str, Any]:
    row = next((row for row in found.rows if row.comparison is not None), found.rows[0])
    if row.comparison is None:
        return {"verdict": row.verdict}
    seen = row.comparison
    return {"ratio": seen.ratio, "low": seen.low, "high": seen.high, "p": seen.p, "verdict": row.verdict}
