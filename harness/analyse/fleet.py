"""The nodes of a run, each against the median of all: which ones are slow, or quick, by more than noise."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from harness.analyse.compare import figures, t_quantile
from harness.analyse.discard import listed
from harness.domain.design import ALARMS, POWER, SLOW_DOWN
from harness.domain.naming import plural

LEAST: Final = 0.03  # nodes that differ by less from the median are not named, however sure it is
FEWEST: Final = 3  # nodes, for there to be a median that one of them can differ from
FEWEST_ALONE: Final = 5  # nodes, for their own spread to stand for the noise where nothing was repeated
_TO_SIGMA: Final = 1.4826  # a median absolute deviation's share of a normal distribution's standard deviation

_WILD: Final = 5.0
_MEDIANS: Final = math.pi / 2  # the variance of a median over that of a mean

Verdict = Literal["slower", "quicker", "as the others", "cannot tell", "no result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfNode:
    """One node against the fleet: `ratio` is its epoch time over the median of the nodes, 1.12 for 12 % slower.

    `low` to `high` holds the true ratio, of all nodes together, with 98 % confidence; None: no noise is known.
    """

    node: str
    trials: int  # that completed and have the figure
    failed: int  # that did not complete
    warned: int  # that carry a warning
    ratio: float | None
    low: float | None
    high: float | None
    least: float | None  # of its settings, the one in which it is quickest against the others, and slowest
    most: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Two nodes: `ratio` is the epoch time of the slower over that of the quicker.

    `low` to `high` holds the true ratio with 98 % confidence; None: no noise is known.
    """

    ratio: float
    low: float | None
    high: float | None

    def sentence(self, slow: str, quick: str) -> str:
        """Return whether they differ, and by how much."""
        if self.low is None or self.high is None:
            return (
                f"{slow} is {_percent(self.ratio)} slower than {quick}, of one trial each in a setting; say repeats=3"
            )
        if self.low <= 1:
            ends = f"98 % interval {self.low:.3g} to {self.high:.3g}"
            return f"{slow} and {quick} cannot be told apart: the one takes {self.ratio:.3g} times as long ({ends})"
        ends = f"98 % interval {100 * (self.low - 1):.0f} to {100 * (self.high - 1):.0f}"
        return (
            f"{slow} is {_percent(self.ratio)} slower than {quick} ({ends}); "
            f"with two nodes there is no telling which of them is out of line: it takes {FEWEST}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The nodes, the slowest first and those without a figure last.

    A node that is slower by `found` would be named (in 81 to 95 of 100 simulated runs); None: no noise is known.
    """

    nodes: Sequence[OfNode]
    settings: int  # settings and arms that at least two nodes have
    found: float | None  # a ratio, as 1.06 for 6 % slower
    spread: float | None  # of the nodes' logs, as a standard deviation, robustly; None of a single node
    apart: Apart | None  # of two nodes

    def records(self) -> list[dict[str, Any]]:
        """Return the nodes as plain JSON."""
        return [{name: getattr(node, name) for name in OfNode.__slots__} for node in self.nodes]

    def sentences(self) -> list[str]:
        """Return what stands out, a sentence each."""
        told = [
            f"{one.node} is {_percent(one.ratio)} {one.verdict} than the fleet's median ({_interval(one)})"
            for one in self.nodes
            if one.ratio is not None and one.verdict in ("slower", "quicker")
        ]
        measured = [one for one in self.nodes if one.ratio is not None]
        if len(measured) == 2 and self.apart is not None:
            slow, quick = measured
            told.append(self.apart.sentence(slow.node, quick.node))
        elif len(measured) >= FEWEST and not told:
            told.append(
                "whether a node is out of line cannot be told: nothing was repeated; say repeats=3"
                if self.found is None
                else f"no node stands out; one that is {_percent(self.found)} slower would"
            )
        without = [one.node for one in self.nodes if one.verdict == "no result"]
        if without:
            told.append(f"without a result: {', '.join(without)}")
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRun:
    """The nodes of a run that had several, and which of them were set aside or lost in its course, each with why."""

    fleet: Fleet
    aside: Mapping[str, str]
    lost: Mapping[str, str]

    def sentences(self) -> list[str]:
        """Return what stands out, a sentence each."""
        return [*self.fleet.sentences(), *(f"{node} was set aside: {why}" for node, why in self.aside.items())]


def of_run(run: Mapping[str, Any], trials: pd.DataFrame, epochs: pd.DataFrame) -> OfRun | None:
    """Return how the nodes of a run compare; None where it had one alone, or no trial that ran on one. `run` is its
    run.json."""
    aside, lost = (
        {str(one["node"]): str(one.get("why") or "") for one in run.get(name) or ()}
        for name in ("set_aside", "lost_nodes")
    )
    meant = (str(name) for names in (run.get("every_node") or {}).values() for name in names)
    known = list(dict.fromkeys([*meant, *aside, *sorted(lost)]))
    alone = _alone(trials)["node"].dropna().map(str)
    if alone.empty or len({*known, *alone}) < 2:
        return None
    return OfRun(fleet=fleet(trials, epochs, known=known), aside=aside, lost=lost)


def _alone(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that ran on one node each."""
    return trials[trials["other_nodes"].isna()] if "other_nodes" in trials.columns else trials


def fleet(trials: pd.DataFrame, epochs: pd.DataFrame, *, known: Collection[str] = ()) -> Fleet:
    """Return how the nodes of a run compare; `known` are those that ought to have a result.

    The figure is a trial's epoch time, as `compare` has it. In each setting and arm (but for the node) that at least
    two nodes have, the median log of a node's repeats is held against the median of the nodes', and the mean of that
    over the settings is the node's ratio.

    The noise is the spread of repeats of one setting on one node, those that went wrong left out, so that a single one
    neither makes a slow node nor hides one; without repeats it is that of the nodes' ratios themselves, by their median
    absolute deviation, where there are `FEWEST_ALONE`. The interval is Student's, widened for the number of nodes
    (Bonferroni); a median's error is sqrt(pi / 2) times that of a mean. A node is slower, or quicker, where its
    interval leaves 1 out and it differs by `LEAST`. It is as the others only where one that is slower by `SLOW_DOWN`
    would be named with `POWER`, as far as it leaves the median where it is: where repeats differ too much for that, or
    are too few, nothing can be told.
    """
    own = _alone(trials)
    names = list(dict.fromkeys([*own["node"].dropna().map(str), *known]))
    values = _values(own, epochs)
    cells = values.groupby(["group", "node"], sort=False)["log"].agg(["median", "size"]).reset_index()
    cells = cells[cells.groupby("group")["node"].transform("size") >= 2]
    off = cells["median"] - cells.groupby("group")["median"].transform("median")
    cells = cells.assign(off=off)
    effects = cells.groupby("node")["off"].mean()
    squares, freedom = _squares(values, cells, effects)
    errors = _errors(squares)
    sure = t_quantile(1 - ALARMS / 2 / len(effects), freedom) if squares else 0.0
    power = t_quantile(POWER, freedom) if squares else 0.0
    extremes = cells.groupby("node")["off"].agg(["min", "max"])
    found = []
    for name in names:
        here = own[own["node"] == name]
        effect = float(effects[name]) if name in effects.index else None
        error = errors.get(name)
        wide = None if error is None else sure * error
        found.append(
            OfNode(
                node=name,
                trials=int((values["node"] == name).sum()),
                failed=int((here["status"] != "completed").sum()),
                warned=sum(bool(one) for one in listed(here, "warnings")) if "warnings" in here.columns else 0,
                ratio=None if effect is None else math.exp(effect),
                low=None if effect is None or wide is None else math.exp(effect - wide),
                high=None if effect is None or wide is None else math.exp(effect + wide),
                least=None if effect is None else math.exp(extremes.loc[name, "min"]),
                most=None if effect is None else math.exp(extremes.loc[name, "max"]),
                verdict=_verdict(
                    effect,
                    error,
                    sure=sure,
                    power=power,
                    nodes=len(effects),
                    any_figure=bool((values["node"] == name).any()),
                ),
            )
        )
    found.sort(key=lambda one: (one.ratio is None, -(one.ratio or 0.0), one.node))
    return Fleet(
        nodes=found,
        settings=int(cells["group"].nunique()),
        found=max(1 + LEAST, math.exp((sure + power) * max(errors.values()))) if errors else None,
        spread=_sigma(effects.to_numpy() - effects.median()) if len(effects) > 1 else None,
        apart=_apart(effects, squares, freedom) if len(effects) == 2 else None,
    )


def _values(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return ``node``, ``group`` (a setting in an arm, whatever the node) and ``log`` of each trial with the figure."""
    if "train_s" not in epochs.columns or not epochs["train_s"].notna().any():
        return pd.DataFrame({"node": [], "group": [], "log": np.array([], dtype=float)})
    table = figures(trials, epochs)
    table = table[table["value"] > 0]
    groups = [f"{one} {_without_node(arm)}" for one, arm in zip(table["setting_id"], table["arm"], strict=True)]
    logs = np.log(table["value"].to_numpy(dtype=float))
    return pd.DataFrame({"node": table["node"].map(str).to_numpy(), "group": groups, "log": logs})


def _without_node(arm: str) -> str:
    return ",".join(part for part in str(arm).split(",") if not part.startswith("node=")) or "default"


def _squares(values: pd.DataFrame, cells: pd.DataFrame, effects: pd.Series[float]) -> tuple[dict[str, float], int]:
    """Return the squared standard error of each node's effect, in logs, and the degrees of freedom; nothing where no
    noise is known."""
    variance, freedom = _noise(values)
    if freedom > 0:
        errors = variance / cells["size"] * np.where(cells["size"] > 2, _MEDIANS, 1.0)
        squares = errors.groupby(cells["node"]).sum() / cells.groupby("node").size() ** 2
        return {str(node): float(square) for node, square in squares.items()}, freedom
    if len(effects) >= FEWEST_ALONE:
        square = _sigma(effects.to_numpy() - effects.median()) ** 2
        return dict.fromkeys(map(str, effects.index), square), len(effects) - 1
    return {}, 0


def _errors(squares: Mapping[str, float]) -> dict[str, float]:
    """Return the standard error of each node's effect against the median of all, in logs."""
    centre = _MEDIANS * sum(squares.values()) / max(1, len(squares)) ** 2
    return {node: math.sqrt(square + centre) for node, square in squares.items()}


def _apart(effects: pd.Series[float], squares: Mapping[str, float], freedom: int) -> Apart:
    effect = float(effects.max() - effects.min())
    wide = t_quantile(1 - ALARMS / 2, freedom) * math.sqrt(sum(squares.values())) if squares else None
    return Apart(
        ratio=math.exp(effect),
        low=None if wide is None else math.exp(effect - wide),
        high=None if wide is None else math.exp(effect + wide),
    )


def _noise(values: pd.DataFrame) -> tuple[float, int]:
    """Return the variance of repeats of one setting on one node, pooled, and its degrees of freedom.

    Trials further than `_WILD` standard deviations from the median of their like are left out, where that deviation is
    the median difference of two repeats over what it is for a normal distribution.
    """
    cells = [cell.to_numpy() for _, cell in values.groupby(["group", "node"])["log"] if len(cell) > 1]
    if not cells:
        return 0.0, 0
    differences = np.concatenate([np.abs(cell[:, None] - cell)[np.triu_indices(len(cell), 1)] for cell in cells])
    wild = _WILD * _TO_SIGMA * float(np.median(differences)) / math.sqrt(2)
    kept = [cell[np.abs(cell - np.median(cell)) <= wild] for cell in cells]
    kept = [cell for cell in kept if len(cell)]
    freedom = sum(len(cell) - 1 for cell in kept)
    return sum(float(((cell - cell.mean()) ** 2).sum()) for cell in kept) / max(1, freedom), freedom


def _sigma(residuals: np.ndarray) -> float:
    return _TO_SIGMA * float(np.median(np.abs(residuals)))


def _verdict(
    effect: float | None, error: float | None, *, sure: float, power: float, nodes: int, any_figure: bool
) -> Verdict:
    """Return what is told of a node: `sure` errors are half its interval, and one `power` errors more off is named."""
    if effect is None:
        return "cannot tell" if any_figure else "no result"
    if error is None or nodes < FEWEST:
        return "cannot tell"
    if abs(effect) > sure * error and abs(effect) >= math.log(1 + LEAST):
        return "slower" if effect > 0 else "quicker"
    return "as the others" if (sure + power) * error <= math.log(SLOW_DOWN) else "cannot tell"


def _percent(ratio: float | None) -> str:
    return f"{100 * abs((ratio or 1.0) - 1):.0f} %"


def _interval(one: OfNode) -> str:
    if one.low is None or one.high is None or one.least is None or one.most is None:
        return plural(one.trials, "trial")
    ends = sorted(abs(100 * (end - 1)) for end in (one.low, one.high))
    told = f"98 % interval {ends[0]:.0f} to {ends[1]:.0f}"
    by_setting = sorted(100 * (end - 1) * (1 if one.verdict == "slower" else -1) for end in (one.least, one.most))
    if by_setting[1] - by_setting[0] > 100 * LEAST:
        told += f"; by setting {by_setting[0]:.0f} to {by_setting[1]:.0f}"
    return told
