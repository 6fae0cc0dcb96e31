"""``repeats=auto`` and `harness aa` as a user starts them, on functions that take no time, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import harness as api
from harness.analyse.noise import newest

FUNCTIONS = Path(__file__).with_name("functions.py")
# Every trial of these has the same val_accuracy, so that the least number of repeats is always enough.
QUICK = ("--inline", "--telemetry", "0", "--no-calibrate")
AUTO = ("--set", "repeats=auto(figure=val_accuracy,at_least=3,at_most=9)", *QUICK)
WHERE = ("--where", "workload.mode in ['ok', 'raise']")


@pytest.fixture(scope="module")
def cut_short(harness: Any) -> dict[str, Any]:
    """A run with automatic repeats that a first failure ended, as it told."""
    said = harness.here("run", FUNCTIONS, *AUTO, *WHERE, "--max-fail", "1", "--json")
    assert said.returncode == 1, said.stderr
    document: dict[str, Any] = json.loads(said.stdout)
    return document


@pytest.fixture(scope="module")
def resumed(harness: Any, cut_short: dict[str, Any]) -> dict[str, Any]:
    said = harness.here("run", FUNCTIONS, *AUTO, *WHERE, "--resume", "--json")
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
    shown = harness.here("show", run.folder)
    assert "left" not in shown.stdout
    assert "known well enough" in shown.stdout
    assert "known to" in shown.stdout
    told = json.loads(harness.here("show", run.folder, "--json").stdout)
    assert told["repeats"] == resumed["repeats"]
    assert "noise" not in told
    assert "drift" in told
    assert "drift" not in resumed
    again = harness.here("run", FUNCTIONS, *AUTO, *WHERE, "--resume")
    assert "6 recorded already" in again.stdout
    assert "known well enough" in again.stdout
    assert "given up" in again.stdout
    assert "without it" in again.stdout  # the trials that failed


def test_the_plan_says_from_how_many_to_how_many(harness: Any) -> None:
    said = harness.here("plan", FUNCTIONS, "--set", "repeats=auto")
    assert "up to 350 trials of 7 settings, 5 to 50 repeats each" in said.stdout


def test_a_plan_that_leaves_fewer_repeats_says_how_many(say: Any) -> None:
    auto = ("--set", "repeats=auto", "--where")
    assert "up to 49 trials of 7 settings, 5 to 7 repeats each" in say("plan", FUNCTIONS, *auto, "seed < 7").out
    said = say("plan", FUNCTIONS, *auto, "seed < 3")
    assert said.code == 2
    assert "auto makes at least 5 repeats, and --where leaves 3 of workload.mode=" in said.err


def test_repeats_cannot_be_null(say: Any) -> None:
    said = say("plan", FUNCTIONS, "--set", "repeats=null")
    assert said.code == 2
    assert 'repeats must be a whole number, "auto" or auto(...), got null' in said.err


def test_a_goal_out_of_reach_is_told_in_full_and_what_it_needs_as_more_than_a_million(harness: Any) -> None:
    auto = ("--set", "repeats=auto(within=0.000001,at_least=3,at_most=3)", "--set", "workload.pause=0.002")
    quick = ("--where", "workload.mode == 'ok'", *QUICK, "--results", "goal")
    said = harness.here("run", FUNCTIONS, *auto, *quick)
    assert "(mean train_s to within ±0.0001 %, 98 % confidence)" in said.stdout
    assert "more than 1,000,000" in said.stdout


def test_aa_does_not_resume_a_run_of_another_command(harness: Any) -> None:
    quick = ("--where", "workload.mode == 'raise'", *QUICK, "--results", "ordinary")
    assert harness.here("run", FUNCTIONS, *quick).returncode == 1
    said = harness.here("aa", FUNCTIONS, *quick, "--repeats", "2", "--resume")
    assert said.returncode == 2
    assert "there is no unfinished run of `harness aa` of functions in ordinary/; begin one" in said.stderr


def test_aa_keeps_the_noise_floor_of_the_node_with_the_run(harness: Any) -> None:
    where = ("--where", "workload.mode == 'ok'", "--set", "workload.pause=0.002")
    said = harness.here("aa", FUNCTIONS, *where, "--repeats", "4", *QUICK, "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["counts"] == {"completed": 8}
    (row,) = document["noise"]["settings"]
    assert row["repeats"] == [4, 4]
    assert row["paired"]
    assert row["low"] < row["ratio"] < row["high"]
    results = api.load(harness.folder / document["folder"])
    (node,) = results.nodes.to_dict("records")
    assert set(results.trials["label"]) == {"A", "B"}
    assert results.trials["setting_id"].nunique() == 1
    shown = harness.here("show", document["folder"], "--json")
    assert json.loads(shown.stdout)["noise"] == document["noise"]
    assert document["noise"]["trials"] == 8
    assert "Noise floor of " in harness.here("show", document["folder"]).stdout
    found = newest(results.runs, node)
    assert found is not None
    assert (found.repeats, found.workers, found.neighbours) == (4, 1, 0)
    assert (found.node, found.cpu_count) == (node["node"], node["cpu_count_logical"])
    assert found.ratio > 1


def test_aa_compares_each_way_of_running_a_setting_with_itself(harness: Any) -> None:
    ways = ("--where", "workload.mode == 'ok'", "--set", "precision=float32,mixed_bfloat16")
    said = harness.here("aa", FUNCTIONS, *ways, "--repeats", "3", *QUICK, "--json")
    assert said.returncode == 0, said.stderr
    rows = json.loads(said.stdout)["noise"]["settings"]
    assert {row["axes"]["precision"]: row["arm"] for row in rows} == {
        "float32": "default", "mixed_bfloat16": "precision=mixed_bfloat16",
    }  # fmt: skip
    assert all(row["paired"] and row["repeats"] == [3, 3] for row in rows)


def test_aa_resumed_with_fewer_settings_tells_those_recorded_before_by_their_id(harness: Any) -> None:
    quick = ("--repeats", "3", *QUICK, "--results", "fewer", "--json")
    said = harness.here("aa", FUNCTIONS, "--where", "workload.mode in ['ok', 'raise']", "--max-fail", "1", *quick)
    assert said.returncode == 1, said.stderr
    said = harness.here("aa", FUNCTIONS, "--where", "workload.mode == 'ok'", "--resume", "--force", *quick)
    assert said.returncode == 0, said.stderr
    rows = json.loads(said.stdout)["noise"]["settings"]
    repeats = {row["axes"].get("workload.mode"): row["repeats"] for row in rows}
    assert repeats == {None: [0, 0], "ok": [3, 3]}


def test_aa_says_what_its_noise_floor_means(harness: Any) -> None:
    where = ("--where", "workload.mode == 'ok'")
    said = harness.here("aa", FUNCTIONS, *where, "--repeats", "3", *QUICK)
    assert said.returncode == 0, said.stderr
    assert "the same settings under two names" in said.stdout
    assert "Noise floor of " in said.stdout


def test_aa_of_what_always_fails_has_no_noise_floor_and_says_so(harness: Any) -> None:
    where = ("--where", "workload.mode == 'raise'")
    said = harness.here("aa", FUNCTIONS, *where, "--repeats", "3", *QUICK)
    assert said.returncode == 1
    assert "No noise floor: too few trials completed; it takes 2 repeats of a setting under each" in said.stdout
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("option", ["label=x", "repeats=3", "seeds=1,2"])
def test_aa_names_its_arms_and_seeds_itself(say: Any, option: str) -> None:
    said = say("aa", FUNCTIONS, "--set", option)
    assert said.code == 2
    assert "aa chooses labels and seeds itself; say how many repeats with --repeats" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--where", "label == 'A'"], "leaves 0 of a setting under both: leave label and seed out of --where"),
        (["--where", "seed == 0"], "leaves 1 of a setting under both"),
        (["--repeats", "1"], "--repeats 1: aa needs at least 2 repeats of each name, A and B"),
    ],
)
def test_aa_that_could_not_compare_anything_ends_before_it_begins(say: Any, words: list[str], told: str) -> None:
    said = say("aa", FUNCTIONS, *words)
    assert said.code == 2
    assert told in said.err


def test_two_repeats_of_each_name_are_enough_for_a_noise_floor(harness: Any) -> None:
    quick = ("--repeats", "2", *QUICK, "--results", "two")
    said = harness.here("aa", FUNCTIONS, "--where", "workload.mode == 'ok'", *quick)
    assert said.returncode == 0, said.stderr
    assert "Noise floor of " in said.stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_none_of_whose_trials_has_the_figure_says_so_and_fails(harness: Any, as_json: bool) -> None:
    auto = ("--set", "repeats=auto(figure=nonsense,at_least=3,at_most=9)", "--where", "workload.mode == 'ok'")
    quick = (*QUICK, "--results", f"nonsense{as_json}", *(["--json"] if as_json else []))
    said = harness.here("run", FUNCTIONS, *auto, *quick)
    assert said.returncode == 1
    assert "No trial has the figure 'nonsense'" in (said.stderr if as_json else said.stdout)
    if as_json:
        document = json.loads(said.stdout)
        assert (document["exit_code"], document["counts"]) == (1, {"completed": 3})


@pytest.mark.parametrize("figure", ["user_cpu_s", "system_cpu_s"])
def test_repeats_do_not_go_by_cpu_time_which_may_be_0(say: Any, figure: str) -> None:
    said = say("plan", FUNCTIONS, "--set", f"repeats=auto(figure={figure})")
    assert said.code == 2
    assert f"auto cannot go by {figure}" in said.err
    assert "the figures are train_s, eval_s, samples_per_s, time_to_target, and the metrics" in said.err
