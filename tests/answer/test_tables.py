"""The frames of a report: which groups, what they are called, in which order."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from answer.recorded import record

from harness.answer.gather import gather
from harness.answer.tables import Tables, tables


def made(folder: Path, *, target: float | str | None = None, where: tuple[str, ...] = (), **options: Any) -> Tables:
    """Return the frames of a recorded run in which a batch of 16 is slower than one of 32."""
    record(folder, "r", **{"repeats": 3, "slower": {16: 3.0}, **options})
    return tables(gather([str(folder)], target=target, where=where))


def test_groups_have_names_keys_and_ranks_and_go_in_that_order_in_all_frames(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.settings["label"].tolist() == ["batch_size=32", "batch_size=16"]
    assert found.settings["rank"].tolist() == [1, 2]
    for name in ("curves", "reach", "accuracy", "hardware"):
        frame = getattr(found, name)
        assert frame["key"].drop_duplicates().tolist() == found.settings["key"].tolist(), name
        assert frame["label"].drop_duplicates().tolist() == found.settings["label"].tolist(), name
        assert frame["shade"].drop_duplicates().tolist() == [2, 1], name
    assert found.reach is not None
    assert sorted(found.reach["seed"].tolist()) == [0, 0, 1, 1, 2, 2]
    assert (found.metric, found.goal, found.gathered.higher_is_better, found.figure) == (
        "val_accuracy",
        0.8,
        True,
        "time_to_target",
    )
    assert found.varied == {"batch_size": "batch_size"}


def test_without_a_target_the_best_metric_is_first_and_frames_of_targets_are_none(tmp_path: Path) -> None:
    record(tmp_path, "r", target=None, repeats=2)
    bare = tables(gather([str(tmp_path)]))
    assert (bare.reach, bare.accuracy, bare.goal, bare.figure) == (None, None, None, "val_accuracy")
    assert bare.settings["median_best"].is_monotonic_decreasing


def test_a_setting_that_missed_the_target_comes_after_those_that_reached_it(tmp_path: Path) -> None:
    found = made(tmp_path, status={32: "failed"})
    assert found.settings["label"].tolist() == ["batch_size=16", "batch_size=32"]
    assert found.settings["front"].tolist() == [True, False]


def test_arms_and_hardware_are_groups_of_their_own_with_keys_that_stand_in_an_address(tmp_path: Path) -> None:
    arms = ({"label": "A"}, {"label": "B"})
    record(tmp_path, "1", repeats=2, arms=arms, cpu_model="first CPU")
    record(tmp_path, "2", repeats=2, arms=arms, cpu_model="second CPU", train_s=0.3)
    found = tables(gather([str(tmp_path)]))
    assert found.by == ("setting_id", "arm", "hardware")
    assert len(found.settings) == found.settings["key"].nunique() == found.settings["label"].nunique() == 8
    assert all(re.fullmatch(r"[0-9A-Za-z-]+", key) for key in found.settings["key"])
    assert any("second CPU" in label and "B" in label for label in found.settings["label"])
    assert list(found.profiles) == ["hardware, over the settings"]
    assert found.profiles["hardware, over the settings"]["solver"].tolist()[0].startswith("first CPU")


def test_a_single_setting_is_called_by_its_suite_and_has_no_effects(tmp_path: Path) -> None:
    found = made(tmp_path, where=("batch_size == 16",))
    assert (found.effects, found.levels, found.scaling, found.nodes) == (None,) * 4
    assert found.profiles == {}
    assert len(found.settings) == 1


def test_axes_are_compared_over_several_suites(tmp_path: Path) -> None:
    for suite, slower in (("one", {16: 3.0}), ("two", {16: 2.0})):
        record(tmp_path, suite, suite=suite, repeats=2, slower=slower)
    found = tables(gather([str(tmp_path)])).profiles
    assert list(found) == ["batch_size, over the suites"]
    assert found["batch_size, over the suites"]["solver"].tolist()[0] == "32"


def test_no_frame_is_left_out(tmp_path: Path) -> None:
    found = made(tmp_path)
    for field in fields(found):
        if field.name in ("scaling", "nodes"):
            assert getattr(found, field.name) is None, field.name
        elif field.name in ("curves", "front", "reach", "accuracy", "hardware", "effects", "levels", "marks"):
            assert len(getattr(found, field.name)), field.name
    assert found.front["time_s"].is_monotonic_increasing
    assert found.front["value"].is_monotonic_increasing


def test_the_epochs_of_one_trial_of_each_setting_are_marked(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.readings.empty
    assert {"key", "label", "trial", "metric", "time_s", "value"} <= set(found.readings.columns)
    assert found.marks["trial"].drop_duplicates().tolist() == ["batch_size=32 seed=0", "batch_size=16 seed=0"]
    assert found.marks["end_s"].notna().all()


@pytest.mark.parametrize("version", ["results_v1", "results_v2"])
def test_runs_of_older_versions_have_their_frames(version: str) -> None:
    found = tables(gather([str(Path(__file__).parents[1] / "golden" / version)]))
    assert isinstance(found.settings, pd.DataFrame)
    assert len(found.curves)


def test_effects_are_of_the_metric_where_many_trials_missed_the_target(tmp_path: Path) -> None:
    found = made(tmp_path, repeats=3, target=0.95)
    assert (found.figure, found.missed) == ("val_accuracy", "0 of 6 trials reached the target")
    found = made(tmp_path / "reached", repeats=3)
    assert (found.figure, found.missed) == ("time_to_target", "")
