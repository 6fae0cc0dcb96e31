"""The same settings under two names → how much this node makes equal things differ: its noise floor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from harness.analyse.compare import Comparison, Spread, compare, figures
from harness.analyse.frames import having
from harness.domain.noise_floor import newest_floor
from harness.domain.repeats import LABELS, unlabelled

_FEWEST: Final = 2  # pairs of a setting that say anything about its spread


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """How much one node makes equal things differ, and how that was measured. `settings` are the spreads by setting."""

    node: str
    cpu_model: str | None
    cores: int | None  # of each worker
    workers: int
    neighbours: int  # most other trials that ran beside one
    date: str  # when it was measured: ISO 8601, UTC
    figure: str
    repeats: int  # pairs of each setting and arm, on average
    ratio: float  # which comparisons of equal things with so many repeats exceed in 2 of 100
    spread: Spread
    settings: Mapping[str, Spread]
    cpu_count: int | None = None  # hardware threads of the node; None: not known

    def of(self, setting_id: str) -> Spread:
        """Return the spread of a setting that was measured itself, else that of all."""
        return self.settings.get(setting_id, self.spread)

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON, as run.json holds it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> NoiseFloor:
        """Return what `plain` gave."""
        settings = {setting: Spread(**one) for setting, one in values["settings"].items()}
        return cls(**{**values, "spread": Spread(**values["spread"]), "settings": settings})


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """One setting, executed in one way, compared with itself."""

    setting_id: str
    arm: str  # without the label
    comparison: Comparison


def floors(
    trials: pd.DataFrame, epochs: pd.DataFrame, nodes: pd.DataFrame, *, date: str, figure: str = "train_s"
) -> list[NoiseFloor]:
    """Return the noise floor of each node of a run that ran every setting under the `LABELS`.

    The spread of a single trial is the standard deviation of its log about the mean of its setting, arm and name; that
    of a pair is of the differences within blocks; both are pooled over arms and settings. Nodes with too few pairs are
    left out.
    """
    table = _labelled(trials, epochs, figure)
    described = nodes.set_index("node") if len(nodes) else pd.DataFrame()
    found = []
    for node, here in table.groupby("node", sort=False, observed=True):
        spreads: dict[str, list[Spread]] = {}
        for (setting, _), of_arm in here.groupby(["setting_id", "arm"], sort=False, observed=True):
            of_one = _spread(of_arm)
            if of_one is not None:
                spreads.setdefault(str(setting), []).append(of_one)
        if not spreads:
            continue
        every = [one for of_setting in spreads.values() for one in of_setting]
        spread = _pooled(every)
        repeats = 1 + round(spread.freedom / len(every))  # each has one degree of freedom less than pairs
        machine: Mapping[Any, Any] = described.loc[node].to_dict() if node in described.index else {}
        model, threads = machine.get("cpu_model"), machine.get("cpu_count_logical")
        cores = [len(one) for one in here["cores"] if isinstance(one, Sequence | np.ndarray)]
        found.append(
            NoiseFloor(
                node=str(node),
                cpu_model=model if isinstance(model, str) else None,
                cores=max(cores, default=None),
                workers=int(here["worker"].nunique()),
                neighbours=int(here["neighbours"].max()),
                date=date,
                figure=figure,
                repeats=repeats,
                ratio=spread.floor(repeats, repeats, paired=True),
                spread=spread,
                settings={setting: _pooled(of_setting) for setting, of_setting in spreads.items()},
                cpu_count=None if pd.isna(threads) else int(threads),
            )
        )
    return found


def _labelled(trials: pd.DataFrame, epochs: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Return the figures of the trials under the `LABELS`, by arms without them: back ends are no repeats."""
    table = figures(trials, having(epochs, figure), figure=figure)
    table = table[table["label"].isin(LABELS) & (table["value"] > 0)]
    return table.assign(arm=[unlabelled(arm) for arm in table["arm"]])


def _spread(trials: pd.DataFrame) -> Spread | None:
    """Return the spread of one arm of a setting on one node; None where it has too few pairs."""
    logs = trials.assign(log=np.log(trials["value"].to_numpy(dtype=float)))
    wide = logs.pivot_table(index=["run_id", "block"], columns="label", values="log", observed=True)
    if set(LABELS) - set(wide.columns):
        return None
    differences = (wide[LABELS[1]] - wide[LABELS[0]]).dropna().to_numpy()
    if len(differences) < _FEWEST:
        return None
    about = logs["log"] - logs.groupby("label", observed=True)["log"].transform("mean")
    single = math.sqrt(float((about**2).sum()) / (len(logs) - len(LABELS)))
    paired = float(differences.std(ddof=1)) / math.sqrt(2)
    return Spread(single=single, paired=paired, freedom=len(differences) - 1)


def _pooled(spreads: Sequence[Spread]) -> Spread:
    freedom = sum(one.freedom for one in spreads)

    def mean(name: str) -> float:
        return math.sqrt(sum(getattr(one, name) ** 2 * one.freedom for one in spreads) / freedom)

    return Spread(single=mean("single"), paired=mean("paired"), freedom=freedom)


def same(trials: pd.DataFrame, epochs: pd.DataFrame, *, figure: str = "train_s") -> list[Same]:
    """Return each setting and arm compared with itself under the other name; none should be called different."""
    table = _labelled(trials, epochs, figure)
    found = []
    for setting, arm in dict.fromkeys(zip(trials["setting_id"], map(unlabelled, trials["arm"]), strict=True)):
        here = table[(table["setting_id"] == setting) & (table["arm"] == arm)]
        first, second = (here[here["label"] == label] for label in LABELS)
        found.append(Same(setting_id=str(setting), arm=arm, comparison=compare(first, second)))
    return found


def newest(
    runs: Iterable[Mapping[str, Any]],
    node: Mapping[str, Any],
    *,
    figure: str = "train_s",
    neighbours: int | None = None,
) -> NoiseFloor | None:
    """Return the newest noise floor that holds for a node, as `newest_floor` finds it.

    `runs` is what ``load(...).runs`` gives, `node` a row of ``load(...).nodes``.
    """
    found = newest_floor(runs, node, figure=figure, neighbours=neighbours)
    return None if found is None else NoiseFloor.from_plain(found)
