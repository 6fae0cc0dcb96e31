"""How near to the quickest each of several solvers is, over settings or over suites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.answer.gather import Gathered

if TYPE_CHECKING:
    import pandas as pd


def over_settings(settings: pd.DataFrame, cost: str) -> dict[str, pd.DataFrame]:
    """Return on what share of the settings each kind of hardware, or each arm, is how near to the quickest."""
    from harness import analyse
    from harness.domain.errors import HarnessError

    solver = "hardware" if "hardware" in settings.columns else "arm"
    problem = [name for name in ("setting_id", "arm") if name != solver]
    column = f"median_{cost}"
    costs = settings[settings[column].notna() & (settings[column] != 0)]
    costs = costs.assign(problem=costs[problem].astype(str).agg(" ".join, axis=1))
    if costs[solver].nunique() < 2 or costs["problem"].nunique() < 2:
        return {}
    try:
        found = analyse.performance_profile(costs, problem="problem", solver=solver, cost=column)
    except HarnessError:  # no setting ran on all kinds
        return {}
    return {f"{solver}, over the settings": found}


def over_suites(gathered: Gathered, varied: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Return on what share of the suites each value of an axis, each arm or each kind of hardware is how near to the
    quickest to the suite's target; nothing unless several suites have several of them."""
    from harness import analyse
    from harness.domain.errors import HarnessError

    found: dict[str, pd.DataFrame] = {}
    if gathered.trials["suite"].nunique() < 2:
        return found
    for name, column in {**varied, "hardware": "hardware", "arm": "arm"}.items():
        if gathered.trials[column].nunique() < 2:
            continue
        try:
            costs = analyse.solver_costs(gathered.trials, gathered.epochs, gathered.runs, solver=column)
            if costs["solver"].nunique() > 1 and costs["problem"].nunique() > 1:
                found[f"{name}, over the suites"] = analyse.performance_profile(
                    costs, problem="problem", solver="solver", cost="cost_s"
                )
        except HarnessError:  # no targets, or no suite has all values
            continue
    return found
