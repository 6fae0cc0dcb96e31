from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyse.summarise import summarise, time_to_target

NAN = math.nan


def trials(*rows: dict[str, Any]) -> pd.DataFrame:
    """One row a trial; `a`, `b`, ... are their identities."""
    plain = {"arm": "default", "setting_id": "s", "status": "completed", "compile_s": 0.0}
    initial = {"initial_val_accuracy": 0.1, "initial_val_loss": 2.3}
    return pd.DataFrame(
        [{"run_id": "r", "trial_id": "abcdefgh"[number], **plain, **initial, **row} for number, row in enumerate(rows)]
    )


def epochs(metric: str = "val_accuracy", train_s: float = 1.0, **values: list[float]) -> pd.DataFrame:
    """The metric of each trial, epoch by epoch, each of which took `train_s`."""
    return pd.DataFrame(
        [
            {
                "run_id": "r",
                "trial_id": trial,
                "arm": "default",
                "setting_id": "s",
                "epoch": number + 1,
                "train_s": train_s,
                "elapsed_train_s": train_s * (number + 1),
                "samples_per_s": 100 / train_s,
                "warmup": False,
                metric: value,
            }
            for trial, of_trial in values.items()
            for number, value in enumerate(of_trial)
        ]
    )


def times(rows: pd.DataFrame, measured: pd.DataFrame, **target: Any) -> list[float]:
    target = {"metric": "val_accuracy", "at_least": 0.9} | target
    return time_to_target(rows, measured, **target)["time_to_target_s"].tolist()


def test_the_crossing_is_interpolated_inside_its_epoch() -> None:
    table = time_to_target(trials({}), epochs(a=[0.5, 0.8, 1.0, 0.7]), metric="val_accuracy", at_least=0.9)
    row = table.iloc[0]
    assert row["time_to_target_s"] == pytest.approx(2.5)
    assert (row["lower_s"], row["lower_value"], row["upper_s"], row["upper_value"]) == (2.0, 0.8, 3.0, 1.0)
    assert row["target_epoch"] == 3
    assert row["reached"]


def test_the_untrained_model_is_the_lower_end_of_the_first_epoch() -> None:
    assert times(trials({}), epochs(a=[0.9])) == [pytest.approx(1.0)]
    assert times(trials({}), epochs(a=[1.0], train_s=9.0)) == [pytest.approx(8.0)]
    assert times(trials({"initial_val_accuracy": NAN}), epochs(a=[1.0])) == [1.0]


def test_a_target_that_the_untrained_model_meets_takes_no_time() -> None:
    table = time_to_target(trials({}), epochs(a=[0.95]), metric="val_accuracy", at_least=0.1)
    assert table["time_to_target_s"].tolist() == [0.0]
    assert table["target_epoch"].tolist() == [0.0]
    assert table["reached"].tolist() == [True]


def test_a_lower_target_counts_downwards() -> None:
    measured = epochs("val_loss", a=[1.3, 0.5, 0.3])
    assert times(trials({}), measured, metric="val_loss", at_least=None, at_most=0.4) == [pytest.approx(2.5)]


def test_a_trial_that_misses_is_infinite() -> None:
    assert times(trials({}, {}), epochs(a=[0.5, 0.6], b=[0.95])) == [math.inf, pytest.approx(0.8 / 0.85)]


def test_a_trial_that_diverged_missed() -> None:
    assert times(trials({}), epochs("val_loss", a=[NAN, NAN]), metric="val_loss", at_least=None, at_most=0.4) == [
        math.inf
    ]
    measured = epochs("loss", a=[NAN]).assign(accuracy=0.1)
    assert times(trials({}), measured, metric="loss", at_least=None, at_most=0.4) == [math.inf]


def test_a_task_without_the_metric_has_no_time() -> None:
    assert np.isnan(times(trials({"initial_val_accuracy": NAN}), epochs(a=[NAN, NAN]))).all()
    assert np.isnan(times(trials({"initial_val_accuracy": NAN}), epochs("val_loss", a=[1.0]))).all()


def test_a_failed_trial_missed_and_a_lost_one_says_nothing() -> None:
    rows = trials({"status": "failed"}, {"status": "timeout"}, {"status": "lost"}, {"status": "lost"})
    found = times(rows, epochs(b=[0.5], c=[0.5], d=[1.0]))
    assert found[:2] == [math.inf, math.inf]
    assert math.isnan(found[2])
    assert found[3] == pytest.approx(0.8 / 0.9)


def test_an_epoch_that_was_not_evaluated_widens_the_bracket() -> None:
    table = time_to_target(trials({}), epochs(a=[0.8, NAN, 1.0]), metric="val_accuracy", at_least=0.9)
    assert table[["lower_s", "upper_s", "time_to_target_s"]].to_numpy().tolist() == [[1.0, 3.0, pytest.approx(2.0)]]


def test_the_order_of_rows_and_the_types_of_columns_do_not_matter() -> None:
    rows, measured = trials({}, {}), epochs(a=[0.5, 0.95], b=[0.2, 0.3, 0.99])
    expected = times(rows, measured)
    shuffled = measured.sample(frac=1, random_state=1)
    assert times(rows, shuffled) == expected
    categories = shuffled.astype({"trial_id": "category", "arm": "category", "run_id": "category"})
    assert times(rows, categories) == expected
    assert times(rows.drop(columns="run_id"), measured.drop(columns="run_id")) == expected


def test_trials_of_the_same_name_in_two_runs_are_two() -> None:
    rows = pd.concat([trials({}), trials({}).assign(run_id="other")])
    measured = pd.concat([epochs(a=[1.0]), epochs(a=[0.1, 1.0]).assign(run_id="other")])
    assert times(rows, measured) == [pytest.approx(0.8 / 0.9), pytest.approx(1 + 0.8 / 0.9)]


def test_nothing_gives_nothing() -> None:
    rows, measured = trials({}), epochs(a=[1.0])
    assert times(rows.iloc[:0], measured.iloc[:0]) == []
    assert times(rows, measured.iloc[:0]) == [math.inf]
    assert times(rows.iloc[:0], measured) == []
    assert summarise(rows.iloc[:0], measured.iloc[:0], at_least=0.9).empty


def test_a_target_has_one_direction() -> None:
    with pytest.raises(ValueError, match="either at_least or at_most"):
        time_to_target(trials({}), epochs(a=[1.0]), metric="val_accuracy")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=6), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0.05, 1),
)
def test_times_agree_with_a_plain_loop(values: list[list[float]], initial: float, target: float) -> None:
    names = "abcdefgh"[: len(values)]
    rows = trials(*({"initial_val_accuracy": initial} for _ in values))
    measured = epochs(**dict(zip(names, values, strict=True)))
    if measured.empty:
        measured = epochs(a=[1.0]).iloc[:0]
    for of_trial, found in zip(values, times(rows, measured, at_least=target), strict=True):
        assert found == pytest.approx(_plainly(of_trial, initial, target))


def _plainly(values: list[float], initial: float, target: float) -> float:
    before, before_s = initial, 0.0
    if initial >= target:
        return 0.0
    for number, value in enumerate(values):
        if math.isnan(value):
            continue
        if value >= target:
            return before_s + (target - before) / (value - before) * (number + 1 - before_s)
        before, before_s = value, number + 1.0
    return math.inf


def test_a_summary_has_one_row_a_setting_with_a_miss_counted_as_infinite() -> None:
    rows = trials(
        {"batch_size": 64, "setting_id": "s64", "compile_s": 1.5},
        {"batch_size": 64, "setting_id": "s64"},
        {"batch_size": 64, "setting_id": "s64", "status": "failed"},
        {"batch_size": 32, "setting_id": "s32"},
        {"batch_size": 32, "setting_id": "s32"},
        {"batch_size": 32, "setting_id": "s32"},
    )
    measured = epochs(a=[0.5, 0.9], b=[0.9], c=[0.4], d=[0.9], e=[0.5, 0.7, 0.8], f=[0.6])
    measured["setting_id"] = np.where(measured["trial_id"].isin(list("abc")), "s64", "s32")
    measured.loc[measured["trial_id"] == "a", "samples_per_s"] = [1.0, 2.0]
    table = summarise(rows, measured, at_least=0.9, axes=["batch_size"])
    assert table["batch_size"].tolist() == [32, 64]
    assert table["trials"].tolist() == [3, 3]
    assert table["completed"].tolist() == [3, 2]
    assert table["failed"].tolist() == [0, 1]
    assert table["reached_share"].tolist() == ["1/3", "2/3"]
    assert table["median_time_to_target_s"].tolist() == [math.inf, pytest.approx(2.0)]
    assert table["best"].tolist() == [0.9, 0.9]
    assert table["median_samples_per_s"].tolist() == [100.0, 51.0]
    assert table["compile_s"].tolist() == [0.0, 1.5]


def test_a_summary_without_a_target_leaves_the_time_out() -> None:
    table = summarise(trials({}), epochs("val_loss", a=[0.9, 0.4, 0.6]), metric="val_loss")
    assert table["median_time_to_target_s"].isna().all()
    assert table["reached_share"].isna().all()
    assert table["best"].tolist() == [0.4]


def test_warm_up_epochs_do_not_count_in_medians_unless_there_are_no_others() -> None:
    measured = epochs(a=[0.5, 0.6, 0.7], b=[0.5])
    measured["setting_id"] = measured["trial_id"]
    measured["train_s"] = [9.0, 1.0, 2.0, 5.0]
    measured["warmup"] = [True, False, False, True]
    table = summarise(trials({"setting_id": "a"}, {"setting_id": "b"}), measured)
    assert table["median_train_s"].tolist() == [1.5, 5.0]


def test_a_million_epochs_are_summarised_quickly() -> None:
    count, each = 10_000, 100
    names = np.array([f"{number:012x}" for number in range(count)])
    settings_of = np.array([f"{number // 10:012x}" for number in range(count)])
    number = np.tile(np.arange(1, each + 1), count)
    measured = pd.DataFrame(
        {
            "run_id": "r",
            "trial_id": pd.Categorical(np.repeat(names, each)),
            "setting_id": pd.Categorical(np.repeat(settings_of, each)),
            "arm": "default",
            "epoch": number,
            "train_s": 0.1,
            "elapsed_train_s": number * 0.1,
            "samples_per_s": 1000.0,
            "warmup": number == 1,
            "val_accuracy": 1 - 1 / (number + 1),
        }
    )
    rows = pd.DataFrame(
        {
            "run_id": "r",
            "trial_id": names,
            "setting_id": settings_of,
            "arm": "default",
            "status": "completed",
            "compile_s": 0.0,
            "initial_val_accuracy": 0.1,
        }
    )
    begin_s = time.perf_counter()
    table = summarise(rows, measured, at_least=0.9)
    assert time.perf_counter() - begin_s < 5  # 0.5 s on two idle cores
    assert len(table) == 1000
    assert table["median_time_to_target_s"].tolist() == pytest.approx([0.9] * 1000)
