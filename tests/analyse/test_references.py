from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analyse.references import Judged, find, judge
from harness.domain.applied import Applied
from harness.domain.errors import SuiteError
from harness.domain.handy import alike, dataset, direction, fold, reference
from harness.domain.reference import ARM_COLUMNS, AnyReference
from harness.domain.setting import Setting

NAN = float("nan")
NODES = pd.DataFrame(
    [
        {"node": "here", "cpu_model": "Intel Celeron N2840", "hostname": "laptop", "gpu_names": None},
        {"node": "there", "cpu_model": None, "hostname": "node17", "gpu_names": ["NVIDIA H100 80GB HBM3"]},
    ]
)

Tables = tuple[pd.DataFrame, pd.DataFrame]


def tables(*trials: dict[str, Any]) -> Tables:
    """One row a trial: its `setting`, `seed`, and what each epoch has of a quantity, as lists."""
    rows, epochs = [], []
    for number, given in enumerate(trials):
        trial = {"setting": Setting(), "seed": number, "status": "completed", "node": "here", **given}
        setting: Setting = trial.pop("setting")
        ids = {"run_id": "r", "trial_id": f"t{number}", "setting_id": setting.setting_id, "arm": setting.arm}
        measured = {name: trial.pop(name) for name in list(trial) if isinstance(trial[name], list)}
        arm = {column: getattr(setting, name) for name, column in ARM_COLUMNS.items()}
        arm["node_labels"] = json.dumps(setting.node_labels) if setting.node_labels else None
        rows.append({**ids, **arm, "setting": setting.canonical(), "batch_size": setting.batch_size, **trial})
        for place in range(max(map(len, measured.values()), default=0)):
            values = {name: value[place] for name, value in measured.items()}
            epochs.append({**ids, "epoch": place + 1, "warmup": place == 0, **values})
    columns = ["run_id", "trial_id", "setting_id", "arm", "epoch", "warmup"]
    return pd.DataFrame(rows), pd.DataFrame(epochs, columns=None if epochs else columns)


def verdicts(measured: Tables, published: AnyReference, **options: Any) -> list[Judged]:
    rows, epochs = measured
    return judge(find([published], rows), rows, epochs, NODES, **options)


def verdict(measured: Tables, published: AnyReference, **options: Any) -> Judged:
    (only,) = verdicts(measured, published, **options)
    return only


def accuracy(value: float = 0.9, **fields: Any) -> AnyReference:
    return reference("A2", **({"metric": "val_accuracy", "epoch": "last", "value": value, "tolerance": 0.01} | fields))


def repeats(*values: float, **fields: Any) -> Tables:
    return tables(*({"val_accuracy": [0.1, value], **fields} for value in values))


# Values and tolerances ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "by"),
    [(0.9, None), (0.89, None), (0.91, None), (0.8878, pytest.approx(-0.0022)), (0.923, pytest.approx(0.013))],
)
def test_one_repeat_is_held_against_the_tolerance_alone(measured: float, by: Any) -> None:
    found = verdict(repeats(measured), accuracy())
    assert (found.verdict, found.by) == ("reproduced" if by is None else "missed", by)
    assert (found.measured, found.std, found.repeats) == (measured, None, 1)


def test_of_several_repeats_the_median_counts_within_three_standard_deviations() -> None:
    assert verdict(repeats(0.87, 0.88, 0.89), accuracy()).verdict == "reproduced"  # 0.01 and 3 x 0.01
    found = verdict(repeats(0.879, 0.88, 0.881), accuracy())
    assert found.verdict == "missed"
    assert found.by == pytest.approx(-0.01)
    assert (found.measured, found.std, found.repeats) == (pytest.approx(0.88), pytest.approx(0.001), 3)


def test_a_share_that_is_known_exactly_must_agree_to_its_last_digits() -> None:
    exact = accuracy(0.11236667, tolerance=1e-6)
    assert verdict(repeats(0.1123666666), exact).verdict == "reproduced"
    assert verdict(repeats(0.1123716666), exact).verdict == "missed"


def test_a_value_without_a_tolerance_is_shown_and_not_judged() -> None:
    found = verdict(repeats(0.5), accuracy(tolerance=None))
    assert (found.verdict, found.measured, found.reason) == ("none", 0.5, "for comparison")


@pytest.mark.parametrize(
    ("bounds", "expected", "by"),
    [
        ({"at_most": 0.2}, "reproduced", None),
        ({"at_most": 0.12}, "missed", pytest.approx(0.03)),
        ({"at_least": 0.15}, "reproduced", None),
        ({"at_least": 0.16, "at_most": 1.0}, "missed", pytest.approx(-0.01)),
    ],
)
def test_a_bound_is_held_against_the_median_alone(bounds: dict[str, float], expected: str, by: Any) -> None:
    measured = tables(*({"train_s": [9.0, time_s]} for time_s in (0.1, 0.15, 0.3)))
    found = verdict(measured, accuracy(metric="train_s", value=None, tolerance=None, **bounds))
    assert (found.verdict, found.by) == (expected, by)


# Quantities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "measured"),
    [
        ({"epoch": 1}, 0.5),
        ({"epoch": 3}, 0.7),
        ({"epoch": "last"}, 0.6),
        ({"epoch": "best"}, 0.7),
        ({"epoch": "best", "metric": "val_loss"}, 0.9),
        ({"epoch": "all", "metric": "train_s"}, 2.0),  # without the warm-up's
        ({"epoch": 2, "metric": "accuracy - val_accuracy"}, 0.3),
        ({"epoch": "last", "metric": "val_r2_score"}, -1.5),
        ({"epoch": None, "metric": "wall_s"}, 12.0),
        ({"epoch": None, "metric": "user_cpu_s / wall_s"}, 0.75),
        ({"epoch": None, "metric": "parameters"}, 101_770.0),
    ],
)
def test_any_quantity_of_an_epoch_or_of_the_trial_can_be_published(fields: dict[str, Any], measured: float) -> None:
    run = tables(
        {
            "val_accuracy": [0.5, 0.6, 0.7, 0.6],
            "accuracy": [0.8, 0.9, 1.0, 1.0],
            "val_loss": [1.0, 0.9, NAN, 1.1],
            "val_r2_score": [0.0, 0.0, 0.0, -1.5],
            "train_s": [9.0, 1.0, 2.0, 3.0],
            "wall_s": 12.0,
            "user_cpu_s": 9.0,
            "parameters": 101_770,
        }
    )
    assert verdict(run, accuracy(**fields)).measured == pytest.approx(measured)


def test_a_training_of_one_epoch_has_its_warm_up_alone() -> None:
    assert verdict(tables({"train_s": [0.5]}), accuracy(metric="train_s", epoch="all")).measured == 0.5


def test_the_order_of_rows_and_the_types_of_columns_do_not_matter() -> None:
    rows, epochs = tables({"val_accuracy": [0.1, 0.9, 0.8]}, {"val_accuracy": [0.2, 0.7, 0.6]})
    epochs = epochs.sample(frac=1, random_state=1)
    for name in ("trial_id", "setting_id", "arm", "run_id"):
        epochs[name] = epochs[name].astype("category")
    rows["seed"] = rows["seed"].astype("int64[pyarrow]")
    assert verdict((rows, epochs), accuracy()).measured == pytest.approx(0.7)
    assert verdict((rows, epochs), accuracy(where="seed == 1")).measured == 0.6


# Settings, arms, folds ------------------------------------------------------------------------------------------


def test_each_setting_and_arm_is_judged_by_itself() -> None:
    settings = [Setting(batch_size=16), Setting(batch_size=32), Setting(batch_size=32, dispatch="step")]
    run = tables(*({"setting": one, "seed": seed, "val_accuracy": [0.9]} for one in settings for seed in range(2)))
    found = verdicts(run, accuracy(), axes={"batch_size": "batch_size"})
    assert [(one.point, one.arm, one.repeats) for one in found] == [
        ({"batch_size": 16}, "default", 2),
        ({"batch_size": 32}, "default", 2),
        ({"batch_size": 32}, "dispatch=step", 2),
    ]
    assert [one.arm for one in verdicts(run, accuracy(where="dispatch == 'step'"))] == ["dispatch=step"]


def folds(*values: float, seeds: int = 2, of: int = 3) -> Tables:
    return tables(
        *(
            {
                "setting": Setting(dataset=dataset("mnist5k", held_out=fold(k, of=of))),
                "seed": seed,
                "k": k,
                "val_accuracy": [value + 0.01 * seed],
            }
            for seed in range(seeds)
            for k, value in enumerate(values)
        )
    )


def test_the_mean_over_folds_is_taken_within_each_seed() -> None:
    found = verdict(folds(0.7, 0.9, 1.1), accuracy(over="dataset.held_out.k"), axes={"dataset.held_out.k": "k"})
    assert (found.measured, found.repeats, found.point) == (pytest.approx(0.905), 2, {})
    assert found.std == pytest.approx(0.01 / 2**0.5)
    assert len(found.setting_ids) == 3


def test_a_mean_over_some_of_the_folds_is_no_mean_over_the_folds() -> None:
    rows, epochs = folds(0.7, 0.9, 1.1)
    (whole,) = find([accuracy(over="dataset.held_out.k")], rows)
    one_missing = judge([whole], rows[rows["trial_id"] != "t5"], epochs, NODES)[0]
    assert (one_missing.repeats, one_missing.measured) == (1, pytest.approx(0.9))
    one_fold = judge([whole], rows[rows["k"] == 0], epochs, NODES)[0]
    assert (one_fold.verdict, one_fold.measured) == ("none", None)
    assert one_fold.reason == "not run: 2 of the 3 that the mean is over"


def test_what_was_published_for_other_settings_is_not_held_against_these() -> None:
    rows, epochs = repeats(0.5)
    known = Applied(reference=accuracy(), groups=(("elsewhere",),))
    (found,) = judge([known], rows, epochs, NODES)
    assert (found.verdict, found.reason) == ("none", "not run (other settings)")
    (found,) = judge([known], rows, epochs, NODES, unfinished=True)
    assert found.reason == "not run yet, or other settings"
    both = Applied(reference=accuracy(), groups=(("elsewhere",), (rows["setting_id"][0],)))
    assert [one.reason for one in judge([both], rows, epochs, NODES)] == ["", "not run: 1 of 2 settings"]
    assert verdict((rows, epochs), accuracy(where="batch_size == 7")).reason == "no trial of this run meets it"


# What was not measured ------------------------------------------------------------------------------------------


def test_a_trial_that_failed_leaves_its_reference_unmeasured() -> None:
    run = tables({"val_accuracy": [0.9]}, {"status": "failed"}, {"status": "failed"})
    found = verdict(run, accuracy())
    assert (found.verdict, found.measured, found.reason) == ("not measured", None, "2 of 3 failed")
    assert verdict(run, accuracy(tolerance=None)).verdict == "none"
    run = tables({"val_accuracy": [0.9]}, {"status": "timeout"}, {"status": "lost"})
    assert verdict(run, accuracy()).reason == "2 of 3 did not complete"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"epoch": 3}, "no epoch 3 in 1 of 1"),
        ({"metric": "val_loss"}, "no number in 1 of 1"),
        ({"metric": "1 / (val_accuracy - val_accuracy)"}, "no number in 1 of 1"),
        ({"metric": "val_acuracy"}, "'val_acuracy' is not recorded; did you mean 'val_accuracy'?"),
        ({"metric": "arm"}, "'arm' is not recorded"),
    ],
)
def test_what_was_not_recorded_is_no_number(fields: dict[str, Any], reason: str) -> None:
    run = tables({"val_accuracy": [0.8, 0.9], "val_loss": [NAN, NAN]})
    found = verdict(run, accuracy(**fields))
    assert (found.verdict, found.measured) == ("not measured", None)
    assert found.reason.startswith(reason)


# Hardware -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hardware", "judged"), [("celeron", True), ("LAPTOP", True), ("H100", False), ("node17", False), ("K520", False)]
)
def test_a_reference_of_other_hardware_is_shown_and_not_judged(hardware: str, judged: bool) -> None:
    found = verdict(repeats(0.9), accuracy(hardware=hardware))
    assert found.measured == 0.9
    assert (found.verdict, found.reason) == (
        ("reproduced", "") if judged else ("none", f"published on {hardware}")
    )  # fmt: skip


def test_of_several_nodes_those_with_the_hardware_are_judged() -> None:
    run = tables({"val_accuracy": [0.5]}, {"val_accuracy": [0.9], "node": "there"})
    found = verdict(run, accuracy(hardware="h100"))
    assert (found.verdict, found.measured, found.repeats) == ("reproduced", 0.9, 1)


# Directions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected", "by"),
    [((0.9, 0.5), "reproduced", None), ((0.5, 0.5), "missed", 0.0), ((0.5, 0.9), "missed", pytest.approx(-0.4))],
)
def test_a_direction_compares_the_medians_of_two_groups(values: tuple[float, float], expected: str, by: Any) -> None:
    run = tables(
        *(
            {"setting": Setting(batch_size=batch_size), "seed": seed, "val_accuracy": [value + 0.01 * (seed - 1)]}
            for batch_size, value in zip((16, 32), values, strict=True)
            for seed in range(3)
        )
    )
    published = direction("A3", metric="val_accuracy", epoch=1, higher="batch_size == 16", lower="batch_size == 32")
    found = verdict(run, published)
    assert (found.verdict, found.by) == (expected, by)
    assert (found.measured, found.lower, found.repeats) == (*values, 3)
    missing = direction("A3", metric="val_accuracy", epoch=1, higher="batch_size == 16", lower="batch_size == 64")
    assert verdict(run, missing).reason == "no trial of this run meets it"
    wrong = direction("A3", metric="val_los", epoch=1, higher="batch_size == 16", lower="batch_size == 32")
    assert verdict(run, wrong).verdict == "not measured"


def test_a_direction_can_compare_arms() -> None:
    run = tables(
        {"setting": Setting(dispatch="step"), "train_s": [2.0]},
        {"setting": Setting(dispatch="epoch"), "train_s": [1.0]},
    )
    found = direction("x", metric="train_s", epoch=1, higher="dispatch == 'step'", lower="dispatch == 'epoch'")
    assert verdict(run, found).verdict == "reproduced"


# Likenesses -----------------------------------------------------------------------------------------------------


def by_size(settings: dict[int, list[float]], quantity: str = "wall_s", **fields: Any) -> Tables:
    """A trial for each value of a quantity, by batch size; the repeats of one block belong together."""
    return tables(
        *(
            {"setting": Setting(batch_size=size, **fields), "seed": seed, "block": seed, quantity: value}
            for size, values in settings.items()
            for seed, value in enumerate(values)
        )
    )


@pytest.mark.parametrize(
    ("settings", "expected", "by"),
    [
        ({16: [1.0, 1.01, 1.02], 32: [1.2, 1.21, 1.22]}, "reproduced", None),
        ({16: [1.0, 1.1, 0.9], 32: [1.2, 1.08, 1.32]}, "not measured", None),  # the medians alone are within
        ({16: [1.0, 1.01, 1.02], 32: [1.5, 1.51, 1.52]}, "missed", pytest.approx(1.51 / 1.01 - 1.25)),
        ({16: [1.0, 1.4, 1.7], 32: [2.5, 1.8, 1.6]}, "not measured", None),
        ({16: [1.0], 32: [2.0]}, "not measured", None),  # one repeat shows nothing
        ({16: [1.0], 32: [1.0]}, "not measured", None),
    ],
)
def test_a_likeness_is_reproduced_or_missed_only_where_the_repeats_show_it(
    settings: dict[int, list[float]], expected: str, by: Any
) -> None:
    found = verdict(by_size(settings), alike("A2", metric="wall_s", within=0.25))
    assert (found.verdict, found.by) == (expected, by)
    assert (found.measured, found.lower) == (np.median(settings[32]), np.median(settings[16]))
    assert found.ratio == pytest.approx(np.median(settings[32]) / np.median(settings[16]))
    assert found.reason == ("too few repeats to tell" if expected == "not measured" else "")


def test_the_settings_of_a_likeness_that_lie_furthest_apart_were_picked_among_all() -> None:
    """What is shown of two settings alone need not be so of the outermost two of five."""
    ends = {16: [1.0, 1.0, 1.0], 32: [1.461, 1.5, 1.54]}
    likeness = alike("A2", metric="wall_s", within=0.25)
    assert verdict(by_size(ends), likeness).verdict == "missed"
    between = {size: [1.2, 1.21, 1.19] for size in (64, 128, 256)}
    assert verdict(by_size(ends | between), likeness).verdict == "not measured"


def test_each_arm_is_held_against_itself_and_the_arms_of_one_setting_against_each_other() -> None:
    first, epochs = by_size({16: [1.0, 1.01], 32: [1.1, 1.11]})
    second, _ = by_size({16: [5.0, 5.05], 32: [5.5, 5.55]}, dispatch="step")
    run = (pd.concat([first, second], ignore_index=True), epochs)
    found = verdicts(run, alike("A2", metric="wall_s", within=0.25))
    assert [(one.arm, one.verdict, one.measured) for one in found] == [
        ("default", "reproduced", pytest.approx(1.105)),
        ("dispatch=step", "reproduced", pytest.approx(5.525)),
    ]
    arms = verdict(run, alike("A2", metric="wall_s", within=0.25, where="batch_size == 16"))
    assert (arms.arm, arms.verdict, arms.ratio) == (None, "missed", pytest.approx(5.0))
    assert arms.ends == ("default", "dispatch=step")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({16: [0.0], 32: [1.0]}, "a median is not above 0: there is no ratio"),
        ({16: [NAN], 32: [1.0]}, "no number in 1 of 2"),
        ({16: [1.0], 32: [float("inf")]}, "no number in 1 of 2"),
    ],
)
def test_a_likeness_of_what_has_no_ratio_is_not_measured(settings: dict[int, list[float]], reason: str) -> None:
    found = verdict(by_size(settings), alike("A2", metric="wall_s", within=0.25))
    assert (found.verdict, found.measured, found.reason) == ("not measured", None, reason)


def test_a_likeness_of_settings_that_were_not_all_run_has_no_verdict() -> None:
    rows, epochs = by_size({16: [1.0], 32: [1.1]})
    likeness = alike("A2", metric="wall_s", within=0.25)
    (known,) = find([likeness], rows)
    (some,) = judge([known], rows[:1], epochs, NODES)
    assert (some.verdict, some.reason) == ("none", "not run: 1 of 2 settings")
    (none,) = judge([Applied(reference=likeness, groups=(("x",), ("y",)))], rows, epochs, NODES)
    assert (none.verdict, none.reason) == ("none", "not run (other settings)")
    assert verdict((rows[:1], epochs), likeness).reason == "one setting alone, and nothing to hold it against"
    failed = rows.assign(status=["completed", "failed"])
    assert verdict((failed, epochs), likeness).reason == "1 of 2 failed"


def reaching(settings: dict[int, list[float]]) -> Tables:
    """Trials that come to these val_accuracies in their second epoch, each epoch of a second; 0.1 before and in one."""
    return tables(
        *(
            {"setting": Setting(batch_size=size), "seed": seed, "block": seed, "initial_val_accuracy": 0.1,
             "val_accuracy": [0.1, value], "elapsed_train_s": [1.0, 2.0]}
            for size, values in settings.items()
            for seed, value in enumerate(values)
        )
    )  # fmt: skip


TARGET = {"metric": "val_accuracy", "at_least": 0.5, "at_most": None}


def test_a_time_to_the_target_is_of_the_runs_own_target() -> None:
    run = reaching({16: [0.9] * 2, 32: [0.5] * 2})
    found = verdict(run, alike("A2", metric="time_to_target", within=0.25), target=TARGET)
    assert (found.lower, found.measured, found.target) == (pytest.approx(1.5), pytest.approx(2.0), TARGET)
    assert found.verdict == "missed"
    assert verdict(run, alike("A2", metric="time_to_target", within=0.25)).reason == "the run has no target"
    later = direction("A2", metric="time_to_target", higher="batch_size == 32", lower="batch_size == 16")
    assert verdict(run, later, target=TARGET).verdict == "reproduced"
    bound = reference("A2", metric="time_to_target", where="batch_size == 16", at_most=1.6)
    assert verdict(run, bound, target=TARGET).verdict == "reproduced"


def test_a_repeat_that_missed_the_target_counts_as_infinite_in_a_likeness() -> None:
    likeness = alike("A2", metric="time_to_target", within=0.25)
    some = verdict(reaching({16: [0.9, 0.9, 0.2], 32: [0.9] * 3}), likeness, target=TARGET)
    assert (some.verdict, some.reason) == ("not measured", "1 of 6 did not reach the target")
    every = verdict(reaching({16: [0.2, 0.2, 0.2], 32: [0.9] * 3}), likeness, target=TARGET)
    assert (every.verdict, every.measured, every.by) == ("missed", None, None)
    assert every.reason == "1 of 2 never reached the target"
    single = verdict(reaching({16: [0.2], 32: [0.9]}), likeness, target=TARGET)
    assert single.verdict == "not measured"
    none = verdict(reaching({16: [0.2] * 3, 32: [0.2] * 3}), likeness, target=TARGET)
    assert (none.verdict, none.reason) == ("not measured", "no setting reached the target")
    value = reference("A2", metric="time_to_target", where="batch_size == 16", value=1.5, tolerance=1.0)
    told = verdict(reaching({16: [0.9, 0.2, 0.2]}), value, target=TARGET)
    assert (told.verdict, told.reason) == ("not measured", "2 of 3 did not reach the target")


# A file of the user's own ---------------------------------------------------------------------------------------


def test_the_settings_of_a_run_are_found_by_any_of_their_paths() -> None:
    settings = [Setting(dataset=dataset("mnist5k", take=take), cpus=2) for take in (100, 200)]
    rows, _ = tables(*({"setting": one} for one in settings))

    def found(where: str) -> list[str]:
        (one,) = find([accuracy(where=where)], rows)
        return [identity for group in one.groups for identity in group]

    assert found("dataset.take == 100") == [settings[0].setting_id]
    assert found("optimizer.learning_rate == 0.01 and cpus == 2") == [one.setting_id for one in settings]
    assert found("seed == 1 and dataset == 'mnist5k'") == [settings[1].setting_id]
    assert found("optimizer.momentum == 0.9") == []
    with pytest.raises(
        SuiteError, match=r"reference 'A2': .*unknown path 'dataset.takes'; did you mean 'dataset.take'"
    ):
        found("dataset.takes == 100")


# Size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", [accuracy, lambda: accuracy(metric="train_s", epoch="all")])
def test_many_trials_are_judged_quickly(published: Callable[[], AnyReference]) -> None:
    rows, epochs = tables({"val_accuracy": [0.5] * 20, "train_s": [0.1] * 20})
    count = 5000
    many = pd.concat([rows] * count, ignore_index=True).assign(
        seed=range(count), trial_id=[f"t{i}" for i in range(count)]
    )
    all_epochs = pd.concat([epochs] * count, ignore_index=True)
    all_epochs["trial_id"] = [f"t{i}" for i in range(count) for _ in range(20)]
    began = time.thread_time()
    assert verdict((many, all_epochs), published()).repeats == count
    assert time.thread_time() - began < 5
