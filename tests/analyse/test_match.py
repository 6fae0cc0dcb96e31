from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analyse.compare import compare_values
from harness.analyse.match import match
from harness.analyse.matched import Match
from harness.analyse.overall import Sample, overall
from harness.domain.errors import ResultsError, SuiteError

TARGET = {"metric": "val_accuracy", "at_least": 0.8, "at_most": None}


@dataclass
class Side:
    trials: pd.DataFrame
    epochs: pd.DataFrame


def side(
    run: str = "r",
    *,
    settings: Any = ("s",),
    arms: Any = ("default",),
    slower: Any = 1.0,
    repeats: int = 10,
    spread: float = 0.01,
    shared: float = 0.0,
    accuracy: Any = 0.9,
    seed: int = 0,
    **columns: Any,
) -> Side:
    """Trials of one epoch of about 1 s; `slower` and `accuracy` by setting; `shared` is what a block has in common."""
    rng = np.random.default_rng(seed)
    trials, epochs = [], []
    for block in range(repeats):
        common = rng.normal(0, shared)
        for setting in settings:
            for arm in arms:
                ids = {"run_id": run, "trial_id": f"{setting}{block}", "setting_id": setting, "arm": arm}
                how = {"precision": "float32", "backend": "tensorflow", "engine": "xla", "dispatch": "epoch"}
                where = {"status": "completed", "seed": block, "block": block, "node": "here", "neighbours": 1}
                where["packed"] = False
                trials.append({**ids, **how, **where, "initial_val_accuracy": 0.1, "compile_s": 0.5, **columns})
                factor = slower.get(setting, 1.0) if isinstance(slower, dict) else slower
                reached = accuracy[block] if isinstance(accuracy, list) else accuracy
                value = factor * math.exp(common + rng.normal(0, spread))
                measured = {"train_s": value, "elapsed_train_s": value, "val_accuracy": reached}
                epochs.append({**ids, "epoch": 1, "warmup": False, **measured})
    return Side(pd.DataFrame(trials), pd.DataFrame(epochs))


def verdicts(found: Match) -> list[str]:
    return [row.verdict for row in found.rows]


def test_settings_are_matched_by_their_id_and_those_of_one_side_are_listed() -> None:
    found = match(side(settings="stu"), side("q", settings="stv", arms=("cpus=2",), slower=1.2, seed=1))
    assert [(row.setting_id, row.arms) for row in found.rows] == [
        ("s", ("default", "cpus=2")),
        ("t", ("default", "cpus=2")),
    ]
    assert found.only == ((("u", "default"),), (("v", "cpus=2"),))
    assert verdicts(found) == ["slower", "slower"]
    assert [row.worse for row in found.rows] == [1, 1]
    assert found.table["ratio"].tolist() == pytest.approx([1.2, 1.2], rel=0.02)


def test_several_arms_on_both_sides_are_matched_by_arm() -> None:
    found = match(side(arms=("a", "b")), side("q", arms=("b", "c"), seed=1))
    assert [row.arms for row in found.rows] == [("b", "b")]
    assert found.only == ((("s", "a"),), (("s", "c"),))


def test_arms_that_leave_open_what_belongs_together_are_named() -> None:
    with pytest.raises(
        ResultsError, match=r"A has the arms 'a', 'b' and B has the arm 'c'; choose an arm, as with --where"
    ):
        match(side(arms=("a", "b")), side("q", arms=("c",)))


def test_nothing_in_common_says_what_each_has() -> None:
    with pytest.raises(
        ResultsError, match=r"no setting in common.*A has 1 setting of 'one' \(s\); B has 2 settings of"
    ):
        match(side(suite="one"), side("q", settings="tu", suite="two"))
    with pytest.raises(ResultsError, match=r"A has 1 setting \(s\); B has no settings$"):
        match(side(), Side(side().trials[:0], side().epochs[:0]))


def test_equal_trials_are_told_and_not_tested_and_some_in_common_are_refused() -> None:
    one = side()
    found = match(one, one)
    assert found.same
    assert (found.rows[0].comparison, found.rows[0].ranks, found.overall) == (None, None, None)
    part = Side(one.trials.iloc[:4], one.epochs.iloc[:4])
    with pytest.raises(ResultsError, match="A has 10 and B 4 trials of the setting s, and 4 of them are the same"):
        match(one, part)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("precision", "mixed_bfloat16", "precision: float32 in A, mixed_bfloat16 in B"),
        ("engine", "graph", "engine: xla in A, graph in B"),
        ("backend", "jax", "backend: tensorflow in A, jax in B"),
        ("dispatch", "step", "dispatch: epoch in A, step in B"),
        ("neighbours", 0, "neighbours: beside others in A, alone in B"),
        ("packed", True, "packed: whole shares in A, packed in B"),
    ],
)
def test_what_ran_differently_is_compared_only_where_that_is_allowed(name: str, value: Any, told: str) -> None:
    other = side("q", seed=1, **{name: value})
    with pytest.raises(ResultsError) as refused:
        match(side(), other)
    assert told in str(refused.value)
    assert f"--mix {name}" in str(refused.value)
    assert match(side(), other, mix=[name]).mixture.allowed == {name: told.partition(": ")[2]}


def test_a_side_that_is_itself_a_mixture_is_refused() -> None:
    one, other = side(), side("q", seed=1)
    other.trials["engine"] = ["xla", "graph"] * 5
    with pytest.raises(ResultsError, match="engine: xla in A, graph, xla in B; choose like with like"):
        match(one, other)


def test_few_trials_that_ran_alone_are_strays_and_many_are_a_mixture() -> None:
    other = side("q", seed=1)
    other.trials["neighbours"] = [0] * 3 + [1] * 7
    assert match(side(), other).mixture.strays == (0, 3)
    other.trials["neighbours"] = [0] * 4 + [1] * 6
    with pytest.raises(ResultsError, match="neighbours: beside others in A, alone, beside others in B"):
        match(side(), other)


def test_what_cannot_be_mixed_is_named() -> None:
    with pytest.raises(SuiteError, match=r"--mix 'precison': .* did you mean 'precision'"):
        match(side(), side("q"), mix=["precison"])


def test_repeats_of_one_run_are_pairs_and_those_of_two_are_samples() -> None:
    one = side(arms=("a",), shared=0.3)
    same_run = side(arms=("b",), shared=0.3, slower=1.1)
    (row,) = match(one, same_run).rows
    assert (row.pairs, row.verdict) == ("block", "slower")
    assert row.ranks is not None
    assert row.ranks.test == "Wilcoxon signed-rank"
    (row,) = match(one, side("q", arms=("b",), shared=0.3, slower=1.1, seed=0)).rows
    assert (row.pairs, row.verdict) == (None, "cannot tell: too few repeats")
    assert row.ranks is not None
    assert row.ranks.test == "Mann-Whitney U"


def test_metrics_are_compared_as_differences_of_the_same_seeds() -> None:
    seeds = [0.8 + 0.01 * n for n in range(10)]
    found = match(
        side(accuracy=seeds),
        side("q", accuracy=[one - 0.02 - 1e-4 * (n % 3) for n, one in enumerate(seeds)]),
        figure="val_accuracy",
    )
    (row,) = found.rows
    assert (found.relative, found.higher_is_better) == (False, True)
    assert (row.pairs, row.verdict, row.worse) == ("seed", "worse", 1)
    assert row.effect == pytest.approx(-0.0201, abs=1e-4)
    assert row.comparison is not None
    assert row.comparison.ratio is None
    assert row.comparison.low is not None
    assert row.comparison.low < row.effect < (row.comparison.high or 0)


def runs_of(name: str, accuracies: list[float], *, seed: int) -> Side:
    """Three runs of the same seeds, the first of which is `seed`: each gives what the others do."""
    parts = [side(f"{name}{run}", repeats=len(accuracies), accuracy=accuracies, seed=run) for run in range(3)]
    trials = pd.concat([part.trials for part in parts], ignore_index=True)
    return Side(trials.assign(seed=trials["seed"] + seed), pd.concat([part.epochs for part in parts]))


def test_the_same_seeds_in_several_runs_of_a_side_are_no_further_repeats() -> None:
    first, second = [0.90, 0.91, 0.92, 0.93, 0.94], [0.91, 0.92, 0.93, 0.94, 0.95]
    (row,) = match(runs_of("a", first, seed=0), runs_of("b", second, seed=10), figure="val_accuracy").rows
    assert row.comparison is not None
    assert (row.measured, row.comparison.repeats, row.pairs) == ((15, 15), (5, 5), None)
    assert row.comparison.p == pytest.approx(stats.ttest_ind(second, first, equal_var=False).pvalue)
    (row,) = match(runs_of("a", first, seed=0), runs_of("b", second, seed=0), figure="val_accuracy").rows
    assert row.pairs == "seed"
    (row,) = match(runs_of("a", first, seed=0), runs_of("b", second, seed=10)).rows
    assert row.comparison is not None
    assert row.comparison.repeats == (3, 3)  # of a time a run is a repeat


def test_shares_of_the_same_seeds_in_several_runs_are_of_the_seeds() -> None:
    few, many = [0.9, 0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9, 0.1]
    (row,) = match(runs_of("a", few, seed=0), runs_of("b", many, seed=10), figure="time_to_target", target=TARGET).rows
    assert row.reached == ((3, 15), (12, 15))
    assert row.reached_p == pytest.approx(stats.fisher_exact([[1, 4], [4, 1]]).pvalue)


def test_differences_agree_with_scipys_t_test() -> None:
    one, other = (
        side(accuracy=[0.8 + 0.01 * n for n in range(10)]),
        side("q", accuracy=[0.7 + 0.02 * n for n in range(10)]),
    )
    other.trials["seed"] += 100
    (row,) = match(one, other, figure="val_accuracy").rows
    expected = stats.ttest_ind(other.epochs["val_accuracy"], one.epochs["val_accuracy"], equal_var=False)
    interval = expected.confidence_interval(0.98)
    assert row.comparison is not None
    assert row.comparison.p == pytest.approx(expected.pvalue)
    assert (row.comparison.low, row.comparison.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_equal_accuracies_are_no_difference_shown() -> None:
    found = match(side(settings="st"), side("q", settings="st"), figure="val_accuracy")
    assert verdicts(found) == ["no difference shown"] * 2
    assert found.overall is not None
    assert (found.overall.effect, found.overall.verdict) == (0.0, "no difference shown")


def test_a_time_that_is_not_above_zero_makes_differences_of_all() -> None:
    found = match(side(compile_s=0.0), side("q", compile_s=0.5), figure="compile_s")
    assert (found.relative, found.rows[0].effect) == (False, 0.5)
    assert verdicts(found) == ["slower"]


def test_energies_that_are_to_be_doubted_are_no_figures() -> None:
    one, other = (side(run, cpu_counter_j=2.0 + n, cpu_counter_validity="valid") for n, run in enumerate("rq"))
    other.trials.loc[:3, "cpu_counter_validity"] = "wrapped"
    (row,) = match(one, other, figure="cpu_counter_j").rows
    assert (row.measured, row.effect, row.verdict) == ((10, 6), pytest.approx(1.5), "worse")


def test_misses_of_a_target_are_infinite_in_the_median_and_their_share_is_compared() -> None:
    missed = side("q", accuracy=[0.9, 0.9] + [0.5] * 8, seed=1)
    found = match(side(), missed, figure="time_to_target", target=TARGET)
    (row,) = found.rows
    assert row.reached == ((10, 10), (2, 10))
    assert row.medians[1] == math.inf
    assert row.measured == (10, 2)
    assert (row.verdict, row.worse) == ("reached less often", 1)
    assert match(missed, side(), figure="time_to_target", target=TARGET).rows[0].verdict == "reached more often"


def test_a_side_that_never_reaches_the_target_has_no_ratio() -> None:
    found = match(side(repeats=3), side("q", repeats=3, accuracy=0.5), figure="time_to_target", target=TARGET)
    (row,) = found.rows
    assert (row.effect, row.verdict) == (None, "cannot tell: too few repeats")
    assert row.reached_p == pytest.approx(0.1)


def test_a_target_that_neither_side_reaches_is_no_matter_of_too_few_repeats() -> None:
    found = match(side(accuracy=0.5), side("q", accuracy=0.5), figure="time_to_target", target=TARGET)
    (row,) = found.rows
    assert (row.reached, row.verdict) == (((0, 10), (0, 10)), "reached by none")


def test_without_a_target_there_is_no_time_to_it() -> None:
    with pytest.raises(ResultsError, match="time_to_target needs a target: say --target"):
        match(side(), side("q"), figure="time_to_target")


def test_an_unknown_figure_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ResultsError, match="'train_ss': no such quantity is recorded; did you mean 'train_s'"):
        match(side(), side("q"), figure="train_ss")


def test_a_setting_without_the_figure_says_where() -> None:
    failed = side("q", settings="st", seed=1)
    failed.trials.loc[failed.trials["setting_id"] == "t", "status"] = "failed"
    found = match(side(settings="st"), failed)
    assert verdicts(found) == ["no difference shown", "no figure in B"]
    assert found.rows[1].measured == (10, 0)


def test_of_many_settings_a_difference_must_hold_for_all_tests_together() -> None:
    names = [f"s{n}" for n in range(40)]
    sides = (side(run, settings=names, spread=0.02, repeats=6, seed=n) for n, run in enumerate("rq"))
    rows = match(*sides).rows
    assert sum(row.comparison.different for row in rows if row.comparison) > 0  # some by chance
    assert [row.alone for row in rows] == [row.comparison.different for row in rows if row.comparison]
    assert not any(row.worse for row in rows)
    assert all(row.p_holm >= row.comparison.p for row in rows if row.comparison and row.p_holm and row.comparison.p)


def test_all_settings_together_are_the_geometric_mean_of_their_ratios() -> None:
    found = match(side(settings="st"), side("q", settings="st", slower={"s": 1.2, "t": 1.1}, seed=1))
    assert found.overall is not None
    assert found.overall.effect == pytest.approx(math.sqrt(math.prod(row.effect or 0 for row in found.rows)))
    assert found.overall.verdict == "larger"


def test_with_complete_blocks_the_overall_interval_is_that_of_the_blocks_means() -> None:
    one, other = side(settings="stu", shared=0.05), side("q", settings="stu", shared=0.05, seed=1)
    found = match(one, other).overall
    means = [np.log(of.epochs["train_s"].to_numpy()).reshape(10, 3).mean(axis=1) for of in (one, other)]
    expected = stats.ttest_ind(means[1], means[0], equal_var=False)
    interval = expected.confidence_interval(0.98)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(math.exp(interval.low)), pytest.approx(math.exp(interval.high)))


def test_with_pairs_the_overall_interval_is_that_of_the_blocks_mean_differences() -> None:
    one, other = side(settings="stu", arms=("a",), shared=0.3), side(settings="stu", arms=("b",), shared=0.3, seed=1)
    found = match(one, other).overall
    means = [np.log(of.epochs["train_s"].to_numpy()).reshape(10, 3).mean(axis=1) for of in (one, other)]
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(means[1], means[0]).pvalue)


def test_equal_runs_are_rarely_called_different_although_blocks_are_disturbed() -> None:
    rng = np.random.default_rng(5)
    called = 0
    for _ in range(200):
        blocks = rng.normal(0, 0.05, (2, 1, 6))  # what a block of a run has in common
        values = np.exp(blocks + rng.normal(0, 0.01, (2, 8, 6)))
        keys = ([("r", n) for n in range(6)], [("q", n) for n in range(6)])
        samples = [
            Sample(comparison=compare_values(a, b, pairs=None), values=(a, b), keys=keys, pairs=None)
            for a, b in zip(*values, strict=True)
        ]
        called += overall(samples, relative=True).verdict in ("larger", "smaller")
    assert called <= 11  # 4 are expected; taken as independent, the settings would give some 80


def test_a_noise_floor_of_the_node_is_applied_and_a_missing_one_is_told() -> None:
    nodes = pd.DataFrame([{"run_id": "r", "node": "here", "cpu_model": "a CPU", "cpu_count_logical": 4}])
    nodes = pd.concat([nodes, nodes.assign(run_id="q")])
    spread = {"single": 0.1, "paired": 0.1, "freedom": 50}
    floor = {
        "node": "here", "cpu_model": "a CPU", "cores": 1, "workers": 2, "neighbours": 1, "date": "2026-01-02",
        "figure": "train_s", "repeats": 10, "ratio": 1.1, "spread": spread, "settings": {}, "cpu_count": 4,
    }  # fmt: skip
    sides = side(), side("q", slower=1.03, seed=1)
    assert verdicts(match(*sides)) == ["slower"]
    assert match(*sides, nodes=nodes).without_floor == ("here",)
    found = match(*sides, nodes=nodes, runs=[{"noise_floor": {"here": floor}}])
    assert verdicts(found) != ["slower"]
    assert [one.date for one in found.floors] == ["2026-01-02"]
    elsewhere = match(*sides, nodes=nodes, runs=[{"noise_floor": {"here": floor | {"neighbours": 3}}}])
    assert elsewhere.without_floor == ("here",)


def test_single_repeats_have_a_mean_ratio_but_no_interval() -> None:
    found = match(side(settings="st", repeats=1), side("q", settings="st", repeats=1, slower=1.2, spread=0.0)).overall
    assert found is not None
    assert found.effect == pytest.approx(1.2, rel=0.05)
    assert (found.low, found.p, found.verdict) == (None, None, "cannot tell: too few repeats")


def runs_at(name: str, levels: list[float]) -> Side:
    """Several runs of one setting; `levels` is what each run's times are multiplied by."""
    sides = [side(f"{name}{number}", slower=level, seed=number) for number, level in enumerate(levels)]
    return Side(pd.concat([one.trials for one in sides]), pd.concat([one.epochs for one in sides]))


def test_of_several_runs_a_side_each_run_is_one_repeat_of_a_time() -> None:
    found = match(runs_at("a", [1.0, 1.06, 0.97]), runs_at("b", [1.05, 1.0, 1.1]))
    (row,) = found.rows
    assert row.comparison is not None
    assert row.comparison.repeats == (3, 3)  # not 30, which would have told these runs apart
    assert row.verdict == "cannot tell: too few repeats"
    assert row.measured == (30, 30)
    (row,) = match(runs_at("a", [1.0, 1.01, 0.99]), runs_at("b", [1.2, 1.21, 1.19])).rows
    assert row.verdict == "slower"
