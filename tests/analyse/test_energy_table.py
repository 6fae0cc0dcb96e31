"""Energy as tables: joules a trial, a sample, and to reach the target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analyse.energy import energy
from harness.analyse.summarise import summarise
from harness.analyse.target import time_to_target

NAN = math.nan
TARGET: dict[str, Any] = {"metric": "val_accuracy", "at_least": 0.9}


def trials(*rows: dict[str, Any]) -> pd.DataFrame:
    """One row a trial; "a", "b", ... are their identities."""
    plain = {"run_id": "r", "arm": "default", "setting_id": "s", "status": "completed", "compile_s": 0.0}
    more = {"initial_val_accuracy": 0.1}
    return pd.DataFrame([plain | more | {"trial_id": "abcdefgh"[number]} | row for number, row in enumerate(rows)])


def epochs(trial: str = "a", accuracies: list[float] | None = None, **columns: Any) -> pd.DataFrame:
    """Epochs of 100 samples and 2 s each, of one trial; a column is one value for all epochs or one for each."""
    values = accuracies or [0.5, 0.8, 1.0]
    count = len(values)
    frame = pd.DataFrame(
        {
            "run_id": "r",
            "trial_id": trial,
            "arm": "default",
            "setting_id": "s",
            "epoch": range(1, count + 1),
            "train_s": 2.0,
            "elapsed_train_s": [2.0 * number for number in range(1, count + 1)],
            "samples": 100,
            "samples_per_s": 50.0,
            "warmup": False,
            "val_accuracy": values,
        }
    )
    return frame.assign(**columns)


def counted(joules: Any, validity: Any = "valid", source: str = "gpu_counter") -> dict[str, Any]:
    return {f"{source}_j": joules, f"{source}_validity": validity}


def row(rows: pd.DataFrame, measured: pd.DataFrame, **target: Any) -> pd.Series:
    times = time_to_target(rows, measured, **(TARGET | target))
    return energy(rows, measured, times).iloc[0]


def test_a_sample_costs_what_its_epochs_used_over_their_samples() -> None:
    found = row(trials(counted(5000.0)), epochs(**counted([100.0, 200.0, 300.0])))
    assert found["gpu_j"] == 5000.0
    assert found["gpu_j_per_sample"] == pytest.approx(2.0)
    assert (found["gpu_source"], found["gpu_source_per_sample"]) == ("counter", "counter")


def test_warm_up_epochs_count_only_where_there_are_no_others() -> None:
    measured = epochs(warmup=[True, False, False], **counted([900.0, 200.0, 300.0]))
    assert row(trials({}), measured)["gpu_j_per_sample"] == pytest.approx(2.5)
    assert row(trials({}), measured.assign(warmup=True))["gpu_j_per_sample"] == pytest.approx(1400 / 300)


def test_the_epoch_of_the_crossing_counts_with_its_share_before_the_target() -> None:
    measured = epochs(accuracies=[0.5, 0.8, 1.0], **counted([100.0, 200.0, 300.0]))  # reached after 2.5 epochs
    assert row(trials({}), measured)["gpu_j_to_target"] == pytest.approx(100 + 200 + 150)


def test_epochs_without_an_evaluation_count_as_the_clock_does() -> None:
    measured = epochs(accuracies=[0.5, NAN, 0.9 + 0.4 / 3], **counted([100.0, 200.0, 300.0]))
    times = time_to_target(trials({}), measured, **TARGET)
    assert times["time_to_target_s"].tolist() == [pytest.approx(5.0)]
    assert row(trials({}), measured)["gpu_j_to_target"] == pytest.approx(100 + 200 + 150)


def test_a_miss_is_infinite_and_a_model_that_was_there_already_costs_nothing() -> None:
    measured = epochs(**counted([100.0, 200.0, 300.0]))
    assert row(trials({}), measured, at_least=2.0)["gpu_j_to_target"] == math.inf
    assert row(trials({}), measured, at_least=0.05)["gpu_j_to_target"] == 0.0
    assert math.isnan(row(trials({"status": "lost"}), measured, at_least=2.0)["gpu_j_to_target"])


def test_what_was_not_measured_is_null_and_not_infinite_nor_nothing() -> None:
    never = time_to_target(trials({}, {}), epochs(), metric="val_accuracy", at_least=2.0)
    found = energy(trials({}, {}), epochs(), never)
    assert found.filter(like="_j").isna().all(axis=None)
    assert found.filter(like="_source").isna().all(axis=None)
    missed = row(trials({}), epochs(), at_least=2.0)
    assert math.isnan(missed["gpu_j_to_target"])


def test_an_epoch_without_a_figure_before_the_target_leaves_none() -> None:
    measured = epochs(**counted([100.0, NAN, 300.0], ["valid", None, "valid"]))
    found = row(trials({}), measured)
    assert math.isnan(found["gpu_j_to_target"])
    assert found["gpu_j_per_sample"] == pytest.approx(2.0)
    late = epochs(accuracies=[1.0, 1.0, 1.0], **counted([100.0, NAN, 300.0], ["valid", None, "valid"]))
    assert row(trials({}), late)["gpu_j_to_target"] == pytest.approx(100 * 0.8 / 0.9)


def test_a_target_met_at_the_very_end_of_an_epoch_costs_nothing_of_the_next() -> None:
    # 0.1 + 0.1 + 0.5 less 0.5 is below 0.1 + 0.1 by rounding, as if the third epoch had begun before the second ended.
    steps = [0.1, 0.1, 0.5]
    for last in (NAN, 300.0):
        figures = counted([100.0, 200.0, last], ["valid", "valid", "short"])
        measured = epochs("a", [0.5, 0.9, 1.0], train_s=steps, elapsed_train_s=np.cumsum(steps), **figures)
        found = row(trials({}), measured)
        assert found["gpu_j_to_target"] == pytest.approx(300.0)
        assert found["gpu_counter_validity_to_target"] == "valid"


def test_a_miss_is_as_doubtful_as_its_epochs_so_that_it_does_not_outweigh_those_that_reached_the_target() -> None:
    missed = row(trials({}), epochs(**counted(100.0, ["valid", "short", "valid"])), at_least=2.0)
    assert missed["gpu_counter_j_to_target"] == math.inf
    assert missed["gpu_counter_validity_to_target"] == "short"
    assert math.isnan(missed["gpu_j_to_target"])


def test_the_counter_is_preferred_then_the_power_then_nothing() -> None:
    both = counted(400.0) | counted(380.0, source="gpu_power")
    assert row(trials(both), epochs())[["gpu_j", "gpu_source"]].tolist() == [400.0, "counter"]
    doubtful = counted(400.0, "shared") | counted(380.0, source="gpu_power")
    found = row(trials(doubtful), epochs())
    assert found[["gpu_j", "gpu_source"]].tolist() == [380.0, "power"]
    assert found[["gpu_counter_j", "gpu_counter_validity"]].tolist() == [400.0, "shared"]
    neither = counted(400.0, "shared") | counted(380.0, "gaps", source="gpu_power")
    found = row(trials(neither), epochs())
    assert math.isnan(found["gpu_j"])
    assert found["gpu_source"] is None
    assert found["gpu_power_j"] == 380.0


def test_the_reasons_of_the_epochs_in_use_are_joined() -> None:
    validity = ["short", "short, gaps", "shared"]
    found = row(trials({}), epochs(accuracies=[0.5, 1.0, 1.0], **counted([1.0, 2.0, 3.0], validity)))
    assert found["gpu_counter_validity_per_sample"] == "short, gaps, shared"
    assert found["gpu_counter_validity_to_target"] == "short, gaps"
    assert math.isnan(found["gpu_j_per_sample"])


def test_cpu_and_gpu_stand_beside_each_other_and_trials_keep_their_order() -> None:
    measured = pd.concat([
        epochs("b", **counted(100.0, source="cpu_counter")),
        epochs("a", **counted(200.0, source="cpu_counter")),
    ])  # fmt: skip
    found = energy(trials({}, {}), measured)
    assert found["trial_id"].tolist() == ["a", "b"]
    assert found["cpu_j_per_sample"].tolist() == [2.0, 1.0]
    assert found["gpu_j_per_sample"].isna().all()


def test_the_summary_has_medians_over_the_trials_that_are_valid() -> None:
    rows = trials({}, {}, {})
    measured = pd.concat([
        epochs("a", **counted(100.0)), epochs("b", **counted(300.0)), epochs("c", **counted(900.0, "short")),
    ])  # fmt: skip
    (found,) = summarise(rows, measured, **TARGET).to_dict("records")
    assert found["median_gpu_j_per_sample"] == pytest.approx(2.0)
    assert found["median_gpu_j_to_target"] == pytest.approx((250 + 750) / 2)
    assert math.isnan(found["median_cpu_j_per_sample"])


def test_a_miss_counts_as_infinite_in_the_median() -> None:
    measured = pd.concat([
        epochs("a", **counted(100.0)), epochs("b", [0.2], **counted(1.0)), epochs("c", [0.3], **counted(1.0)),
    ])  # fmt: skip
    (found,) = summarise(trials({}, {}, {}), measured, **TARGET).to_dict("records")
    assert found["median_gpu_j_to_target"] == math.inf


def test_without_a_target_there_is_no_energy_to_it() -> None:
    (found,) = summarise(trials({}), epochs(**counted(100.0))).to_dict("records")
    assert math.isnan(found["median_gpu_j_to_target"])
    assert found["median_gpu_j_per_sample"] == 1.0


def test_energy_of_many_epochs_is_added_up_without_a_loop_over_trials() -> None:
    count, each = 2000, 50
    rows = trials(*[{}] * 1).loc[[0] * count].reset_index(drop=True).assign(trial_id=[str(i) for i in range(count)])
    measured = pd.DataFrame({
        "run_id": "r", "arm": "default", "setting_id": "s", "trial_id": np.repeat(rows["trial_id"].to_numpy(), each),
        "epoch": np.tile(np.arange(1, each + 1), count), "train_s": 1.0,
        "elapsed_train_s": np.tile(np.arange(1.0, each + 1), count), "samples": 10, "warmup": False,
        "val_accuracy": np.tile(np.linspace(0.0, 1.0, each), count),
        **counted(np.tile(np.arange(1.0, each + 1), count)),
    })  # fmt: skip
    found = energy(rows, measured, time_to_target(rows, measured, **TARGET))
    assert found["gpu_j_per_sample"].tolist() == [pytest.approx(each * (each + 1) / 2 / each / 10)] * count
