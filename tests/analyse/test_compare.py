from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analyse.compare import (
    SLOW_DOWN,
    Spread,
    compare,
    figures,
    half_width,
    repeats_for_comparison,
    repeats_for_width,
)
from harness.domain.repeats import MOST_NEEDED, WITHIN_TIMES


def arm(values: Any, run: str = "r", first_block: int = 0) -> pd.DataFrame:
    values = np.asarray(values, dtype=float)
    return pd.DataFrame({"run_id": run, "block": range(first_block, first_block + len(values)), "value": values})


def noise(count: int, spread: float, seed: int = 0) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, spread, count))


def measured(*rows: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One trial a row, with the `epochs` of it as train_s, warm-up flag and val_accuracy."""
    ids = {"run_id": "r", "setting_id": "s", "arm": "default"}
    trials = [
        {**ids, "trial_id": f"t{number}", "status": row.get("status", "completed"), "block": number}
        for number, row in enumerate(rows)
    ]
    epochs = [
        {
            **ids,
            "trial_id": f"t{number}",
            "epoch": place + 1,
            "train_s": train_s,
            "warmup": warmup,
            "elapsed_train_s": 1.0 * (place + 1),
            "val_accuracy": accuracy,
        }
        for number, row in enumerate(rows)
        for place, (train_s, warmup, accuracy) in enumerate(row["epochs"])
    ]
    return pd.DataFrame(trials), pd.DataFrame(epochs)


def test_a_trials_time_is_the_median_of_its_epochs_that_are_no_warm_up() -> None:
    table = figures(*measured({"epochs": [(9.0, True, 0.1), (1.0, False, 0.2), (3.0, False, 0.3)]}))
    assert table["value"].tolist() == [2.0]


def test_a_trial_of_warm_up_alone_keeps_it_and_a_failed_one_has_no_figure() -> None:
    rows = ({"epochs": [(9.0, True, 0.1)]}, {"epochs": [(1.0, False, 0.1)], "status": "failed"})
    assert figures(*measured(*rows))[["trial_id", "value"]].values.tolist() == [["t0", 9.0]]


def test_a_table_without_a_completed_trial_has_no_figures() -> None:
    rows = measured({"epochs": [(1.0, False, 0.1)], "status": "failed"})
    assert figures(*rows).empty
    assert figures(*rows, figure="val_accuracy").empty


def test_a_metric_is_that_of_the_last_epoch_or_of_the_best() -> None:
    rows = measured({"epochs": [(1.0, False, 0.9), (1.0, False, 0.8)]})
    assert figures(*rows, figure="val_accuracy")["value"].tolist() == [0.8]
    assert figures(*rows, figure="val_accuracy", epoch="best")["value"].tolist() == [0.9]


def test_the_time_to_a_target_is_had_by_the_trials_that_reached_it() -> None:
    rows = measured({"epochs": [(1.0, False, 0.9)]}, {"epochs": [(1.0, False, 0.5)]})
    target = {"metric": "val_accuracy", "at_least": 0.8, "at_most": None}
    assert figures(*rows, figure="time_to_target", target=target)["trial_id"].tolist() == ["t0"]


def test_the_ratio_is_that_of_the_geometric_means() -> None:
    found = compare(arm([1.0, 4.0]), arm([2.0, 8.0]))
    assert found.ratio == pytest.approx(2.0)


def test_pairs_take_out_what_the_machine_did_to_both() -> None:
    drift = np.linspace(1, 3, 8)
    own = noise(8, 0.01)
    paired = compare(arm(drift), arm(1.1 * drift * own))
    assert paired.paired
    assert paired.verdict == "different: slower"
    assert paired.different
    apart = compare(arm(drift), arm(1.1 * drift * own, run="another"))
    assert not apart.paired
    assert apart.verdict == "cannot tell: too few repeats"
    assert not apart.different


def test_paired_and_two_sample_agree_with_scipys_t_tests() -> None:
    one, other = noise(9, 0.05, 1), noise(9, 0.1, 2)
    paired = compare(arm(one), arm(other))
    assert paired.p == pytest.approx(stats.ttest_rel(np.log(other), np.log(one)).pvalue)
    apart = compare(arm(one), arm(other[:7], run="another"))
    expected = stats.ttest_ind(np.log(other[:7]), np.log(one), equal_var=False)
    interval = expected.confidence_interval(0.98)
    assert apart.p == pytest.approx(expected.pvalue)
    assert (apart.low, apart.high) == (pytest.approx(math.exp(interval.low)), pytest.approx(math.exp(interval.high)))


def test_a_difference_is_called_by_its_direction() -> None:
    one = noise(12, 0.02)
    assert compare(arm(one), arm(0.8 * noise(12, 0.02, 1))).verdict == "different: faster"
    rates = compare(arm(one), arm(0.8 * noise(12, 0.02, 1)), higher_is_slower=False)
    assert rates.verdict == "different: slower"


def test_a_difference_within_the_noise_floor_is_not_called_one() -> None:
    one, other = noise(12, 0.001), 1.02 * noise(12, 0.001, 1)
    assert compare(arm(one), arm(other)).verdict == "different: slower"
    found = compare(arm(one), arm(other), noise=Spread(single=0.05, paired=0.05, freedom=50))
    assert found.verdict == "no difference shown"
    assert found.floor is not None
    assert found.floor > 1.02


def test_within_a_noise_floor_that_hides_the_slow_down_one_cannot_tell() -> None:
    one, other = noise(12, 0.001), 1.3 * noise(12, 0.001, 1)
    known = Spread(single=0.5, paired=0.5, freedom=50)
    found = compare(arm(one), arm(other), noise=known)
    assert found.floor is not None
    assert found.floor > 1.3
    assert found.verdict == "cannot tell: too few repeats"
    assert found.needed is not None
    assert found.needed > 100


def test_too_few_repeats_for_the_power_cannot_tell() -> None:
    one, other = noise(5, 0.2), noise(5, 0.2, 1)
    found = compare(arm(one), arm(other))
    assert found.verdict == "cannot tell: too few repeats"
    assert found.needed is not None
    assert found.needed > 5


def test_one_repeat_gives_a_ratio_but_no_interval() -> None:
    found = compare(arm([1.0]), arm([2.0]))
    assert found.ratio == 2.0
    assert (found.low, found.p, found.needed, found.verdict) == (None, None, None, "cannot tell: too few repeats")


def test_an_arm_without_a_repeat_gives_nothing() -> None:
    found = compare(arm([1.0]), arm([]))
    assert (found.ratio, found.repeats) == (None, (1, 0))


def test_equal_values_without_any_spread_are_no_difference_and_others_are() -> None:
    assert compare(arm([2.0] * 4), arm([2.0] * 4)).verdict == "no difference shown"
    assert compare(arm([2.0] * 4), arm([3.0] * 4)).verdict == "different: slower"


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_what_is_not_above_0_cannot_be_compared(value: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        compare(arm([1.0, value]), arm([1.0, 1.0]))


def test_repeats_come_to_the_formula_for_many_and_to_more_for_few() -> None:
    normal = 2 * ((stats.norm.ppf(0.99) + stats.norm.ppf(0.95)) * 0.2 / math.log(SLOW_DOWN)) ** 2
    assert repeats_for_comparison(0.2, paired=False) == pytest.approx(normal, rel=0.03)
    assert repeats_for_comparison(0.001, paired=True) >= 2
    assert repeats_for_comparison(0.05, paired=True) > repeats_for_comparison(0.05, paired=False)


def test_the_needed_repeats_find_the_slow_down_as_designed() -> None:
    spread = 0.05
    count = repeats_for_comparison(spread, paired=False)
    rng = np.random.default_rng(3)
    draws = rng.normal(0, spread, (4000, 2, count))
    draws[:, 1] += math.log(SLOW_DOWN)
    p = stats.ttest_ind(draws[:, 0], draws[:, 1], axis=1, equal_var=False).pvalue
    assert (p < 0.02).mean() > 0.93


def test_the_default_width_is_the_one_that_the_design_comes_to() -> None:
    z99, z95 = stats.norm.ppf(0.99), stats.norm.ppf(0.95)
    derived = z99 * math.log(SLOW_DOWN) / ((z99 + z95) * math.sqrt(2))
    assert 0 <= derived - WITHIN_TIMES < 0.001


def test_half_widths_and_the_repeats_for_one_agree() -> None:
    values = np.log(noise(10, 0.05))
    assert half_width([1.0]) == math.inf
    count = repeats_for_width(0.05, 0.02)
    exact = stats.t.ppf(0.99, count - 1) * 0.05 / math.sqrt(count)
    assert exact <= 0.02 < stats.t.ppf(0.99, count - 2) * 0.05 / math.sqrt(count - 1)
    low, high = stats.t.interval(0.98, 9, values.mean(), stats.sem(values))
    assert half_width(list(values)) == pytest.approx((high - low) / 2)


def test_more_repeats_than_are_looked_for_are_one_number_above_them() -> None:
    assert repeats_for_width(0.5, 1e-6) == repeats_for_width(math.inf, 0.01) == MOST_NEEDED + 1
    assert repeats_for_comparison(1e6, paired=True) == MOST_NEEDED + 1
    assert repeats_for_width(0.0, 0.01) == 2


def test_a_noise_floor_is_exceeded_by_2_in_100_comparisons_of_equal_things() -> None:
    rng = np.random.default_rng(5)
    differences = rng.normal(0, 0.05, (20_000, 2, 8)).mean(axis=2)
    floor = Spread(single=0.05, paired=0.05, freedom=100_000).floor(8, 8, paired=False)
    share = (np.abs(differences[:, 0] - differences[:, 1]) > math.log(floor)).mean()
    assert share == pytest.approx(0.02, abs=0.004)
