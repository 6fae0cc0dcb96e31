"""The suites that come with the harness: each loads and plans, in full and small, without anything being trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.domain.applied import resolve
from harness.domain.sources import collected
from harness.domain.sources import resolve as resolve_source
from harness.domain.suite import load_suite
from harness.plan import parse_override, plan

FOLDER = Path(__file__).parents[1] / "suites"
SUITES = sorted(path for path in FOLDER.glob("[!_]*.py"))  # what begins with an underscore is shared by suites
PUBLISHED = {
    "A1": "loss", "A2": "batch_time", "A3": "activation", "A4": "depth",
    "B1": "architectures", "B2": "architectures", "B3": "architectures", "B4": "architectures", "B5": "architectures",
    "C": "hardware", "D2": "tabular", "D3": "tabular", "D4": "early_stopping", "D5": "tabular",
    "E1": "test_functions", "E2": "momentum", "E3": "rmsprop", "E4": "initializers",
}  # fmt: skip


@pytest.mark.parametrize("small", [False, True], ids=["full", "small"])
@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_plans_in_full_and_small(path: Path, small: bool) -> None:
    made = plan(load_suite(path), small=small)
    assert made.suite.name == path.stem
    assert made.trials


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_the_small_variant_of_a_suite_needs_no_data_from_elsewhere(path: Path) -> None:
    for trial in plan(load_suite(path), small=True).trials:
        dataset = trial.setting.dataset
        assert dataset is None or dataset.name in ("mnist5k", "products_like", "function")
        assert trial.setting.workload.name == "minimise" or trial.setting.epochs <= 20


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_begins_with_its_question(path: Path) -> None:
    assert "?" in load_suite(path).suite.description.splitlines()[0]


@pytest.mark.parametrize(("experiment", "name"), PUBLISHED.items())
def test_every_published_experiment_has_a_suite_that_holds_its_values(experiment: str, name: str) -> None:
    suite = load_suite(FOLDER / f"{name}.py").suite
    held = [one for one in suite.references if one.name == experiment]
    assert held
    assert all(applied.groups for applied in resolve(held, plan(suite).trials))


def test_a_value_that_is_judged_is_the_median_of_three_repeats_or_cannot_vary() -> None:
    by_chance = {"initializers": "24 trainings, as published", "test_functions": "nothing is drawn"}
    for path in SUITES:
        suite = load_suite(path).suite
        judged = any(getattr(one, "tolerance", None) for one in suite.references)
        assert not judged or len(suite.all_seeds) >= 3 or suite.name in by_chance


def test_products_can_be_the_competitions_own() -> None:
    for name in ("tabular", "early_stopping"):
        made = plan(load_suite(FOLDER / f"{name}.py"), overrides=[parse_override("dataset.name=products")])
        assert {trial.setting.dataset.name for trial in made.trials if trial.setting.dataset} == {"products"}


def test_a_rate_with_restarts_falls_between_them_and_each_seed_has_its_own() -> None:
    rates = plan(load_suite(FOLDER / "learning_rate.py")).trials
    found = {
        rate["function"]: resolve_source(rate["function"], rate["sha256"], collected())
        for trial in rates
        if (rate := trial.setting.optimizer.args["learning_rate"]) and isinstance(rate, dict) and "function" in rate
    }
    exponential, restarting = found["exponential"], found["restarting"]
    falling = [exponential(step) for step in range(100)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 0.1
    steps = range(5000)
    rate = [restarting(step) for step in steps]
    begun = [step for step in steps[1:] if rate[step] > rate[step - 1]]
    assert 2 <= len(begun) <= 12
    assert all(rate[step] == 0.1 for step in begun)
    assert rate != [restarting(step, seed=1) for step in steps]
