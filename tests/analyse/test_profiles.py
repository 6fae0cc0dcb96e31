"""Performance profiles, checked against ratios that were worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyse.profiles import performance_profile, profile_scores, solver_costs
from harness.domain.errors import ResultsError, SuiteError

NAMES: dict[str, str] = {"problem": "problem", "solver": "solver", "cost": "cost_s"}


def table(**solvers: list[float]) -> pd.DataFrame:
    """The costs of each solver on the problems p0, p1, ..."""
    return pd.DataFrame(
        [
            {"problem": f"p{place}", "solver": solver, "cost_s": cost}
            for solver, values in solvers.items()
            for place, cost in enumerate(values)
        ]
    )


# Ratios of a: 1, 2, 1, missed; of b: 2, 1, 3, 1.
TEXTBOOK = table(a=[1.0, 4.0, 10.0, math.inf], b=[2.0, 2.0, 30.0, 7.0])


def test_the_profile_is_the_share_of_problems_within_a_factor_of_the_best() -> None:
    found = performance_profile(TEXTBOOK, **NAMES)
    steps = {name: list(zip(of["tau"], of["rho"], strict=True)) for name, of in found.groupby("solver", sort=False)}
    assert steps == {
        "b": [(1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0)],
        "a": [(1, 0.5), (2, 0.75), (4, 0.75)],
    }


def test_the_score_is_the_area_up_to_tau_max() -> None:
    found = profile_scores(TEXTBOOK, **NAMES).set_index("solver")
    # a: 0.5 from 1 to 2 and 0.75 from 2 to 4; b: 0.5, 0.75 and 1 for 1 each.
    assert found["score"].to_dict() == pytest.approx({"b": 2.25 / 3, "a": 2.0 / 3})
    assert found["best"].to_dict() == {"b": 2, "a": 2}
    assert found["solved"].to_dict() == {"b": 4, "a": 3}
    assert set(found["problems"]) == {4}
    assert profile_scores(TEXTBOOK, **NAMES, tau_max=2.0)["score"].tolist() == pytest.approx([0.5, 0.5])


def test_four_times_the_best_is_worth_as_little_as_a_miss() -> None:
    found = profile_scores(table(a=[1.0, 1.0], b=[4.0, math.inf]), **NAMES).set_index("solver")
    assert found["score"].to_dict() == {"a": 1.0, "b": 0.0}


def test_a_problem_that_nobody_solved_counts_for_all() -> None:
    scores = profile_scores(table(a=[1.0, math.inf], b=[2.0, math.inf]), **NAMES)
    assert scores["problems"].tolist() == [2, 2]
    assert scores["score"].tolist() == pytest.approx([0.5, 1 / 3])
    assert performance_profile(table(a=[1.0, math.inf], b=[2.0, math.inf]), **NAMES)["rho"].max() == 0.5


def test_what_was_not_tried_is_no_miss() -> None:
    found = table(a=[1.0, 1.0, 1.0], b=[2.0, math.nan])
    scores = profile_scores(found, **NAMES)
    assert scores["problems"].tolist() == [1, 1]
    assert scores["left_out"].tolist() == [2, 2]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=8), st.floats(1.5, 50))
def test_the_score_is_the_integral_of_the_profile(pairs: list[tuple[float, float]], tau_max: float) -> None:
    found = table(a=[one for one, _ in pairs], b=[other for _, other in pairs])
    scores = profile_scores(found, **NAMES, tau_max=tau_max).set_index("solver")["score"]
    for name, of in performance_profile(found, **NAMES, tau_max=tau_max).groupby("solver"):
        tau, rho = of["tau"].to_numpy(), of["rho"].to_numpy()
        assert (np.diff(tau) > 0).all()
        assert (np.diff(rho) >= 0).all()
        assert (rho[:-1] * np.diff(tau)).sum() / (tau_max - 1) == pytest.approx(scores[name])


def test_wrong_costs_are_told() -> None:
    with pytest.raises(SuiteError, match=r"unknown column 'cost' of the costs; did you mean 'cost_s'\?"):
        performance_profile(TEXTBOOK, problem="problem", solver="solver", cost="cost")
    with pytest.raises(SuiteError, match="a cost must be above 0, and 'p1' with 'a' has 0"):
        performance_profile(table(a=[1.0, 0.0]), **NAMES)
    with pytest.raises(SuiteError, match="'p0' has more than one cost with 'a'"):
        performance_profile(pd.concat([TEXTBOOK, TEXTBOOK]), **NAMES)
    with pytest.raises(SuiteError, match="tau_max must be a number above 1"):
        profile_scores(TEXTBOOK, **NAMES, tau_max=1.0)
    with pytest.raises(SuiteError, match=r"no problem was tried with every solver \(a, b\)"):
        profile_scores(table(a=[1.0, math.nan], b=[math.nan, 1.0]), **NAMES)
    with pytest.raises(SuiteError, match="there are no costs"):
        profile_scores(TEXTBOOK.iloc[:0], **NAMES)


def suites(*rows: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One trial a row: its ``run_id``, ``optimizer``, more columns, and ``at_s``, when it had 0.95 (None: never)."""
    plain = {"arm": "default", "status": "completed", "initial_val_accuracy": 0.95}
    ids = [{"trial_id": f"t{number}", "setting_id": row.get("optimizer")} for number, row in enumerate(rows)]
    trials = pd.DataFrame([plain | one | row for one, row in zip(ids, rows, strict=True)])
    reached = trials["at_s"].notna()
    epochs = trials[["run_id", "trial_id", "arm"]].assign(
        epoch=1, elapsed_train_s=trials["at_s"].fillna(1.0), val_accuracy=np.where(reached, 0.95, 0.1)
    )
    return trials.assign(initial_val_accuracy=math.nan).drop(columns="at_s"), epochs


def target(at_least: float | None) -> dict[str, Any] | None:
    return None if at_least is None else {"metric": "val_accuracy", "at_least": at_least, "at_most": None}


RUNS = [
    {"run_id": "m", "suite": "mnist", "target": target(0.9)},
    {"run_id": "c", "suite": "cifar", "target": target(0.05)},
    {"run_id": "x", "suite": "free", "target": target(None)},
]


def test_costs_are_median_times_to_each_suites_own_target() -> None:
    trials, epochs = suites(
        {"run_id": "m", "optimizer": "sgd", "at_s": 2.0},
        {"run_id": "m", "optimizer": "sgd", "at_s": 4.0},
        {"run_id": "m", "optimizer": "adam", "at_s": None},
        {"run_id": "c", "optimizer": "sgd", "at_s": None},  # 0.1 after 1 s, which is enough for 0.05
        {"run_id": "c", "optimizer": "adam", "at_s": 3.0},
        {"run_id": "x", "optimizer": "adam", "at_s": 3.0},
    )
    found = solver_costs(trials, epochs, RUNS, solver="optimizer")
    assert found.values.tolist() == [
        ["mnist", "sgd", 3.0, 2, 2, 1],
        ["mnist", "adam", math.inf, 1, 0, 1],
        ["cifar", "sgd", 1.0, 1, 1, 1],
        ["cifar", "adam", 3.0, 1, 1, 1],
    ]
    scores = profile_scores(found, **NAMES).set_index("solver")["score"]
    assert scores.to_dict() == pytest.approx({"sgd": 1.0, "adam": 1 / 6})


def test_a_problem_may_be_part_of_a_suite_and_a_solver_several_columns() -> None:
    trials, epochs = suites(
        {"run_id": "m", "optimizer": "sgd", "size": 16, "cpus": 1, "at_s": 2.0},
        {"run_id": "m", "optimizer": "sgd", "size": None, "cpus": 2, "at_s": 4.0},
        {"run_id": "m", "optimizer": None, "size": 16, "cpus": 1, "at_s": 4.0},
    )
    trials["size"] = trials["size"].astype("Int64")
    found = solver_costs(trials, epochs, RUNS, solver=["optimizer", "cpus"], problem=["size"])
    assert found[["problem", "solver"]].values.tolist() == [
        ["mnist size=16", "optimizer=sgd cpus=1"],
        ["mnist", "optimizer=sgd cpus=2"],
    ]


def test_a_tuned_solver_costs_what_its_best_setting_does() -> None:
    rows = [
        {"run_id": "m", "optimizer": "sgd", "setting_id": name, "at_s": at_s}
        for name, at_s in (("a", 2.0), ("a", 4.0), ("b", None), ("b", None))
    ]
    trials, epochs = suites(*rows)
    plain, tuned = (solver_costs(trials, epochs, RUNS, solver="optimizer", tuned=one) for one in (False, True))
    assert plain["cost_s"].tolist() == [math.inf]
    assert tuned["cost_s"].tolist() == [3.0]
    assert tuned["settings"].tolist() == [2]
    assert tuned["reached"].tolist() == [2]


def test_a_solver_of_which_all_is_lost_has_no_cost() -> None:
    trials, epochs = suites({"run_id": "m", "optimizer": "sgd", "at_s": None, "status": "lost"})
    found = solver_costs(trials, epochs.iloc[:0], RUNS, solver="optimizer")
    assert found["n"].tolist() == [0]
    assert math.isnan(found["cost_s"][0])


def test_suites_without_a_solver_give_no_costs() -> None:
    trials, epochs = suites({"run_id": "x", "optimizer": "sgd", "at_s": 1.0})
    assert solver_costs(trials, epochs, RUNS, solver="optimizer").empty


def test_wrong_requests_for_costs_are_told() -> None:
    trials, epochs = suites({"run_id": "m", "optimizer": "sgd", "at_s": 2.0})
    with pytest.raises(SuiteError, match=r"unknown solver 'optimiser'; did you mean 'optimizer'\?"):
        solver_costs(trials, epochs, RUNS, solver="optimiser")
    with pytest.raises(SuiteError, match="name at least one column"):
        solver_costs(trials, epochs, RUNS, solver=[])
    with pytest.raises(ResultsError, match="none of the runs has a target"):
        solver_costs(trials, epochs, RUNS[2:], solver="optimizer")
    again = {"run_id": "n", "suite": "mnist", "target": target(0.95)}
    with pytest.raises(ResultsError, match="suite 'mnist' have different targets"):
        solver_costs(trials, epochs, [*RUNS, again], solver="optimizer")
