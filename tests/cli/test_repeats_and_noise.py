"""``repeats=auto`` and `harness aa` as a user starts them, on functions that take no time, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import harness as api
from harness.analyse.noise import newest

FUNCTIONS = Path(__file__).with_name("functions.py")
# Every trial of these has the same val_accuracy, so that the least number of repeats is always enough.
AUTO = ("--set", "repeats=auto(figure=val_accuracy,at_least=3,at_most=9)", "--inline", "--telemetry", "0")
WHERE = ("--where", "workload.mode in ['ok', 'raise']")


@pytest.fixture(scope="module")
def cut_short(harness: Any) -> dict[str, Any]:
    """A run with automatic repeats that a first failure ended, as it told."""
    said = harness("run", FUNCTIONS, *AUTO, *WHERE, "--max-fail", "1", "--json")
    assert said.returncode == 1, said.stderr
    document: dict[str, Any] = json.loads(said.stdout)
    return document


@pytest.fixture(scope="module")
def resumed(harness: Any, cut_short: dict[str, Any]) -> dict[str, Any]:
    said = harness("run", FUNCTIONS, *AUTO, *WHERE, "--resume", "--json")
    assert said.returncode == 1, said.stderr
    document: dict[str, Any] = json.loads(said.stdout)
    return document


def test_a_run_that_was_cut_short_counts_what_may_still_be_needed(cut_short: dict[str, Any]) -> None:
    assert cut_short["stopped"] == "max_fail"
    assert cut_short["pending"] == 18 - sum(cut_short["counts"].values())
    assert {row["ended"] for row in cut_short["repeats"]} == {"unfinished"}


def test_repeats_end_when_enough_is_known_and_what_always_fails_is_given_up(resumed: dict[str, Any]) -> None:
    assert resumed["counts"] == {"completed": 3, "failed": 3}
    assert (resumed["pending"], resumed["stopped"]) == (0, None)
    by_mode = {row["axes"]["workload.mode"]: row for row in resumed["repeats"]}
    assert (by_mode["ok"]["ended"], by_mode["ok"]["repeats"], by_mode["ok"]["half_width"]) == ("narrow", 3, 0.0)
    assert (by_mode["raise"]["ended"], by_mode["raise"]["repeats"], by_mode["raise"]["without"]) == ("failing", 0, 3)


def test_the_run_is_complete_without_the_repeats_that_were_not_needed(harness: Any, resumed: dict[str, Any]) -> None:
    run = harness.run_of("functions")
    assert (run.state, run.planned, run.counts) == ("completed", 6, {"completed": 3, "failed": 3})
    (content,) = api.load(run.folder).runs
    assert content["repeats"] == resumed["repeats"]
    shown = harness("show", run.folder)
    assert "left" not in shown.stdout
    again = harness("run", FUNCTIONS, *AUTO, *WHERE, "--resume")
    assert "6 recorded already" in again.stdout
    assert "known well enough" in again.stdout
    assert "given up" in again.stdout
    assert "without it" in again.stdout  # the trials that failed


def test_the_plan_says_from_how_many_to_how_many(harness: Any) -> None:
    said = harness("plan", FUNCTIONS, "--set", "repeats=auto")
    assert "up to 350 trials of 7 settings, 5 to 50 repeats each" in said.stdout


def test_aa_keeps_the_noise_floor_of_the_node_with_the_run(harness: Any) -> None:
    where = ("--where", "workload.mode == 'ok'", "--set", "workload.pause=0.002")
    said = harness("aa", FUNCTIONS, *where, "--repeats", "4", "--inline", "--telemetry", "0", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["counts"] == {"completed": 8}
    (row,) = document["noise"]["settings"]
    assert row["repeats"] == [4, 4]
    assert row["paired"]
    assert row["low"] < row["ratio"] < row["high"]
    results = api.load(harness.folder / document["folder"])
    (node,) = set(results.trials["node"])
    assert set(results.trials["label"]) == {"A", "B"}
    assert results.trials["setting_id"].nunique() == 1
    found = newest(results.runs, node)
    assert found is not None
    assert (found.repeats, found.workers, found.neighbours) == (4, 1, 0)
    assert found.ratio > 1


def test_aa_compares_each_way_of_running_a_setting_with_itself(harness: Any) -> None:
    ways = ("--where", "workload.mode == 'ok'", "--set", "precision=float32,mixed_bfloat16")
    said = harness("aa", FUNCTIONS, *ways, "--repeats", "3", "--inline", "--telemetry", "0", "--json")
    assert said.returncode == 0, said.stderr
    rows = json.loads(said.stdout)["noise"]["settings"]
    assert {row["axes"]["precision"]: row["arm"] for row in rows} == {
        "float32": "default", "mixed_bfloat16": "precision=mixed_bfloat16",
    }  # fmt: skip
    assert all(row["paired"] and row["repeats"] == [3, 3] for row in rows)


def test_aa_resumed_with_fewer_settings_tells_those_recorded_before_by_their_id(harness: Any) -> None:
    quick = ("--repeats", "3", "--inline", "--telemetry", "0", "--results", "fewer", "--json")
    said = harness("aa", FUNCTIONS, "--where", "workload.mode in ['ok', 'raise']", "--max-fail", "1", *quick)
    assert said.returncode == 1, said.stderr
    said = harness("aa", FUNCTIONS, "--where", "workload.mode == 'ok'", "--resume", "--force", *quick)
    assert said.returncode == 0, said.stderr
    rows = json.loads(said.stdout)["noise"]["settings"]
    repeats = {row["axes"].get("workload.mode"): row["repeats"] for row in rows}
    assert repeats == {None: [0, 0], "ok": [3, 3]}


def test_aa_says_what_its_noise_floor_means(harness: Any) -> None:
    where = ("--where", "workload.mode == 'ok'")
    said = harness("aa", FUNCTIONS, *where, "--repeats", "3", "--inline", "--telemetry", "0")
    assert said.returncode == 0, said.stderr
    assert "the same settings under two names" in said.stdout
    assert "Noise floor of " in said.stdout


def test_aa_of_what_always_fails_has_no_noise_floor_and_says_so(harness: Any) -> None:
    where = ("--where", "workload.mode == 'raise'")
    said = harness("aa", FUNCTIONS, *where, "--repeats", "3", "--inline", "--telemetry", "0")
    assert said.returncode == 1
    assert "No noise floor: too few trials completed." in said.stdout
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("option", ["label=x", "repeats=3", "seeds=1,2"])
def test_aa_names_its_arms_and_seeds_itself(say: Any, option: str) -> None:
    said = say("aa", FUNCTIONS, "--set", option)
    assert said.code == 2
    assert "aa chooses labels and seeds itself; say how many repeats with --repeats" in said.err
