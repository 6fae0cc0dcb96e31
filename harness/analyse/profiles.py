"""Which of several ways is best over many problems: performance profiles, and a score of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from harness.analyse.frames import floats, having
from harness.analyse.target import time_to_target
from harness.analyse.variance import check_columns
from harness.domain.component import did_you_mean
from harness.domain.errors import ResultsError, SuiteError
from harness.domain.naming import axis as told
from harness.domain.suite import Target

TAU_MAX: Final = 4.0  # as AlgoPerf has it: who takes four times as long as the quickest might as well have missed


def performance_profile(
    costs: pd.DataFrame, *, problem: str, solver: str, cost: str, tau_max: float = TAU_MAX
) -> pd.DataFrame:
    """Return on what share of the problems each solver is within a factor of the best one.

    `costs` has one row a problem and solver, with columns named by `problem`, `solver` and `cost`: any cost above 0 of
    which less is better; infinite where the solver missed. A solver's ratio on a problem is its cost over the least
    that any solver had there, infinite for a miss; rho(tau) is the share of all problems, those included that nobody
    solved, on which the ratio is at most tau (Dolan and Moré, Benchmarking optimization software with performance
    profiles, 2002). Problems that not every solver was tried on (no row, or a null cost) are left out, for all of them;
    `profile_scores` counts them.

    Columns, the solver with the best score first: ``solver``, ``tau``, ``rho``. rho is a step function: it has its
    value from its tau to the next one. Each solver has a row for tau = 1, for each of its ratios up to `tau_max`, and
    for `tau_max`.

    Raises:
        SuiteError: for a column that is not there, a cost that is not above 0, two rows for a problem and solver, a
            `tau_max` that is not above 1, and if no problem was tried by every solver.
    """
    ratios, _ = _ratios(costs, problem, solver, cost, tau_max)
    parts = []
    for name in _ranked(ratios, tau_max):
        its = ratios[name].to_numpy(dtype=float)
        taus = np.unique([1.0, *its[its <= tau_max], tau_max])
        rho = (its[:, None] <= taus).mean(axis=0)
        parts.append(pd.DataFrame({"solver": name, "tau": taus, "rho": rho}))
    return pd.concat(parts, ignore_index=True)


def profile_scores(
    costs: pd.DataFrame, *, problem: str, solver: str, cost: str, tau_max: float = TAU_MAX
) -> pd.DataFrame:
    """Return one row a solver, the best first: its score, and what it is made of.

    - ``solver``;
    - ``score``: the area under its performance profile, from 0 to 1: the integral of rho from 1 to `tau_max` over
      (tau_max - 1), as AlgoPerf ranks submissions (MLCommons, AlgoPerf: documentation, "Benchmark score using
      performance profiles"; Dahl et al., Benchmarking neural network training algorithms, 2023), with tau_max = 4. It
      is computed exactly, as the mean over the problems of max(0, tau_max - ratio) / (tau_max - 1). Like all that is
      relative to the best, it depends on who takes part;
    - ``best``: problems on which no other is better; ``solved``: problems with a finite cost; ``problems``: those that
      all solvers were tried on; ``left_out``: the other ones.

    Arguments and errors: as for `performance_profile`.
    """
    ratios, left_out = _ratios(costs, problem, solver, cost, tau_max)
    names = _ranked(ratios, tau_max)
    counts = {"best": ratios[names].eq(1.0).sum(), "solved": np.isfinite(ratios[names]).sum()}
    found = pd.DataFrame({"score": _scores(ratios, tau_max)[names], **counts}).rename_axis("solver").reset_index()
    return found.assign(problems=len(ratios), left_out=left_out)


def solver_costs(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    runs: Iterable[Mapping[str, Any]],
    *,
    solver: str | Sequence[str],
    problem: Sequence[str] = (),
    tuned: bool = False,
) -> pd.DataFrame:
    """Return the `costs` of `performance_profile` for the trials of many suites: the median time to the suite's target.

    A problem is a suite, parted by the values of the columns in `problem`, if any; a solver is the value of a column,
    as an axis, "arm" or "hardware" (see `described`), or the values of several. Trials without a value for any of the
    columns of `solver` are left out, as are suites without a target. `runs` is what the run.json files
    hold, which name the suite and the target of each run.

    One row a problem and solver, in order of appearance:

    - ``problem``, ``solver``: as text, "mnist batch_size=32" and "sgd" (several columns: "backend=jax cpus=2");
    - ``cost_s``: median over all its trials of the time to the target on the training clock, a miss counting as
      infinite; null if none says anything (all lost). With `tuned`, that of the setting and arm with the least median,
      which is the better the more settings a solver was given: compare ``settings``;
    - ``n`` trials that say something, ``reached`` of them the target; ``settings`` (with their arms) among them.

    Raises:
        SuiteError: for a column that is not there, and no `solver`.
        ResultsError: if no run has a target, or the runs of one suite have different ones.
    """
    solvers, parting = [solver] if isinstance(solver, str) else list(solver), list(problem)
    if not solvers:
        raise SuiteError("solver: name at least one column of the trials, as arm, hardware or an axis")
    check_columns(trials, solvers, what="solver")
    check_columns(trials, parting, what="problem")
    suites, targets = _targets(runs)
    of_trial = np.array([suites.get(str(run_id), "") for run_id in trials["run_id"]], dtype=object)
    named = trials[solvers].notna().all(axis=1).to_numpy(dtype=bool)
    parts = []
    for suite, target in targets.items():
        own = trials[(of_trial == suite) & named]
        if own.empty:
            continue
        known = having(epochs, target.metric)
        times = time_to_target(own, known, metric=target.metric, at_least=target.at_least, at_most=target.at_most)
        parts.append(pd.DataFrame({
            "problem": [" ".join([suite, *texts]) for texts in _texts(own, parting)],
            "solver": [" ".join(texts) for texts in _texts(own, solvers, bare=len(solvers) == 1)],
            "setting": own["setting_id"].astype(object) + " " + own["arm"].astype(object),
            "cost_s": floats(times, "time_to_target_s"),
        }))  # fmt: skip
    columns = ["problem", "solver", "cost_s", "n", "reached", "settings"]
    if not parts:
        return pd.DataFrame(columns=columns)
    measured = pd.concat(parts, ignore_index=True)
    rows = []
    for (name, its), group in measured.groupby(["problem", "solver"], sort=False):
        known = group[group["cost_s"].notna()]
        settings = known.groupby("setting")["cost_s"].median()
        median = settings.min() if tuned else known["cost_s"].median()
        rows.append((name, its, float(median), len(known), int(np.isfinite(known["cost_s"]).sum()), len(settings)))
    return pd.DataFrame(rows, columns=columns)


def _texts(trials: pd.DataFrame, columns: Sequence[str], *, bare: bool = False) -> list[list[str]]:
    """Return the values of the columns as texts, a list a trial; without those that are null."""
    values = [trials[name].astype(object).where(trials[name].notna(), None).tolist() for name in columns]
    rows = zip(*values, strict=True) if values else [()] * len(trials)
    return [
        [
            told(value) if bare else f"{name}={told(value)}"
            for name, value in zip(columns, row, strict=True)
            if value is not None
        ]
        for row in rows
    ]


def _targets(runs: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, Target]]:
    """Return the suite of each run that has a target, and the target of each such suite."""
    suites: dict[str, str] = {}
    targets: dict[str, Target] = {}
    for run in runs:
        if not run.get("target"):
            continue
        suite = suites[str(run["run_id"])] = str(run.get("suite"))
        target = Target(**{name: run["target"].get(name) for name in ("metric", "at_least", "at_most")})
        if targets.setdefault(suite, target) != target:
            raise ResultsError(
                f"the runs of suite {suite!r} have different targets ({targets[suite]}; {target}), which are different "
                "problems; leave out the runs with one of them"
            )
    if not targets:
        raise ResultsError("none of the runs has a target, so there is no time to it; say target=0.9 in the suites")
    return suites, targets


def _ratios(costs: pd.DataFrame, problem: str, solver: str, cost: str, tau_max: float) -> tuple[pd.DataFrame, int]:
    """Return the ratios to the best, a row a problem and a column a solver, and how many problems are left out."""
    if not tau_max > 1 or not np.isfinite(tau_max):
        raise SuiteError(f"tau_max must be a number above 1, got {tau_max!r}")
    for name in (problem, solver, cost):
        if name not in costs.columns:
            hint = did_you_mean(name, map(str, costs.columns))
            raise SuiteError(
                f"unknown column {name!r} of the costs;{hint} they have {', '.join(map(str, costs.columns))}"
            )
    names = {"problem": costs[problem].astype(object), "solver": costs[solver].astype(object)}
    table = pd.DataFrame({**names, "cost": floats(costs, cost)}).reset_index(drop=True)
    if table.empty:
        raise SuiteError("there are no costs: no trial of these runs has both a target and a solver")
    wrong = table[table["cost"] <= 0]
    if len(wrong):
        first = wrong.iloc[0]
        raise SuiteError(
            f"a cost must be above 0, and {first['problem']!r} with {first['solver']!r} has {first['cost']:g}; leave "
            "the problem out (a target that is met before training says nothing)"
        )
    double = table[table.duplicated(["problem", "solver"])]
    if len(double):
        first = double.iloc[0]
        raise SuiteError(
            f"{first['problem']!r} has more than one cost with {first['solver']!r}; give one, as the median of repeats"
        )
    wide = table.pivot(index="problem", columns="solver", values="cost")
    wide = wide.loc[table["problem"].unique(), table["solver"].unique()]
    shared = wide.dropna()
    if shared.empty:
        raise SuiteError(
            f"no problem was tried with every solver ({', '.join(map(str, wide.columns))}); name fewer solvers, or run "
            "what is missing"
        )
    least = shared.min(axis=1)
    ratios = shared.div(least, axis=0).where(np.isfinite(shared), np.inf)
    return ratios, len(wide) - len(shared)


def _scores(ratios: pd.DataFrame, tau_max: float) -> pd.Series:
    return ((tau_max - ratios).clip(lower=0) / (tau_max - 1)).mean()


def _ranked(ratios: pd.DataFrame, tau_max: float) -> list[Any]:
    return list(_scores(ratios, tau_max).sort_values(ascending=False, kind="stable").index)
