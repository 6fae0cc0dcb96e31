from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from record.finished import INFO, finished

from harness.domain.errors import ResultsError
from harness.domain.outcome import Energy, EpochRecord, Finished
from harness.record import joining
from harness.record.compact import rebuild
from harness.record.reading import Results, load
from harness.record.recorder import Recorder
from harness.record.schema import JOINED

T0 = 1_700_000_000.0
TRIAL_S = 10.0
EPOCHS = 5
NODE = {
    "node": "here",
    "calibration": {"tensorflow/cpus=1/gpus=1": {"share_flops_per_s": 1e9, "gpu_flops_per_s": 4e9}},
}


def trial(number: int, **facts: Any) -> Finished:
    """Return a trial of 10 s on one core and one GPU, five epochs of 1.5 s, the `number`-th of its worker."""
    start_s = T0 + TRIAL_S * number
    epochs = tuple(
        EpochRecord(
            epoch=epoch + 1,
            train_s=1.5,
            eval_s=None,
            elapsed_train_s=1.5 * (epoch + 1),
            samples=4000,
            steps=125,
            chunks=1,
            loss=0.5,
            accuracy=None,
            val_loss=None,
            val_accuracy=None,
            user_cpu_s=0.7,
            system_cpu_s=0.05,
            started_at=start_s + 2 * epoch,
            ended_at=start_s + 2 * epoch + 1.5,
            compilations=0,
            energy=Energy(gpu_j=150.0, gpu_coverage=1.0, cpu_j=40.0, cpu_coverage=1.0),
        )
        for epoch in range(EPOCHS)
    )
    made = finished(number, epochs=epochs)
    outcome = made.outcome
    known = {
        "cores": (0,),
        "gpus": ("GPU-a",),
        "step_flops": 1e6,
        "clock_step_s": 0.0,
        "clock_drift": 1e-5,
        "energy": Energy(gpu_j=1000.0, gpu_coverage=1.0),
        **facts,
    }
    return replace(
        made,
        trial=replace(made.trial, setting=made.trial.setting.model_copy(update={"gpus": 1.0})),
        outcome=replace(
            outcome,
            facts=replace(outcome.facts, **known),
            watches=replace(outcome.watches, wall_s=TRIAL_S),
            started_at=start_s,
            ended_at=start_s + TRIAL_S,
        ),
    )


def readings(begin_s: float, end_s: float, *, skip: tuple[float, float] | None = None) -> Iterator[dict[str, Any]]:
    """Yield readings at 5 Hz, times from T0: the worker has half of its core, the second trial's other half is taken
    by something else, and the GPU is too hot in the third trial's first epoch."""
    for second in (np.arange(round(begin_s * 5), round(end_s * 5) + 1) / 5).tolist():
        if skip and skip[0] < second < skip[1]:
            continue
        now = {
            ("cpu0", "cpu_percent"): 100.0 if TRIAL_S < second <= 2 * TRIAL_S else 50.0,
            ("cpu0", "steal_percent"): 1.0,
            ("cpu1", "cpu_percent"): 100.0,
            ("worker:0", "user_cpu_s"): 3.0 + 0.5 * second,
            ("worker:0", "system_cpu_s"): 0.0,
            ("harness", "user_cpu_s"): 0.001 * second + 1,
            ("harness", "system_cpu_s"): 0.0,
            ("host", "swap_in_bytes"): 4096.0,
            ("host", "swap_out_bytes"): 0.0,
            ("gpu:GPU-a", "gpu_power_w"): 100.0,
            ("gpu:GPU-a", "gpu_utilisation_percent"): 80.0,
            ("gpu:GPU-a", "gpu_throttle_mask"): float(0x40 if 2 * TRIAL_S < second <= 2 * TRIAL_S + 1.4 else 0),
            ("gpu:GPU-b", "gpu_power_w"): 999.0,
        }
        for (device, metric), value in now.items():
            yield {"time": T0 + second, "device": device, "metric": metric, "value": value}


def create(results: Path, run_id: str = "run") -> Recorder:
    return Recorder.create(results, suite="suite", run_id=run_id, info=INFO)


def resume(folder: Path) -> Recorder:
    return Recorder.resume(folder, suite_sha256=INFO["suite_sha256"])


def ended(results: Path) -> Path:
    with create(results) as recorder:
        for number in range(3):
            recorder.write(trial(number))
        recorder.add_node(NODE)
        recorder.add_telemetry(readings(-1, 31), node="here")
        recorder.finish("completed")
    return recorder.folder


def killed(results: Path) -> Path:
    with create(results) as recorder:
        for number in range(3):
            recorder.write(trial(number))
        recorder.add_node(NODE)
        recorder.add_telemetry(readings(-1, 31), node="here")
    return recorder.folder


def rebuilt(results: Path) -> Path:
    folder = ended(results)
    for table in ("trials", "epochs", "nodes"):
        (folder / f"{table}.parquet").unlink()
    rebuild(folder)
    return folder


def resumed_after_an_end(results: Path) -> Path:
    with create(results) as recorder:
        recorder.add_node(NODE)
        recorder.write(trial(0))
        recorder.add_telemetry(readings(-1, 11), node="here")
        recorder.finish("interrupted")
    return go_on(recorder.folder)


def resumed_after_a_kill(results: Path) -> Path:
    with create(results) as recorder:
        recorder.add_node(NODE)
        recorder.write(trial(0))
        recorder.add_telemetry(readings(-1, 11), node="here")
    return go_on(recorder.folder)


def go_on(folder: Path) -> Path:
    with resume(folder) as recorder:
        recorder.write(trial(1))
        recorder.write(trial(2))
        recorder.add_node({"node": "here", "calibration": {}})
        recorder.add_telemetry(readings(11.2, 31), node="here")
        recorder.finish("completed")
    return folder


WAYS = [ended, killed, rebuilt, resumed_after_an_end, resumed_after_a_kill]


@pytest.mark.parametrize("way", WAYS)
def test_warnings_and_energy_are_in_the_tables_however_a_run_came_to_its_end(tmp_path: Path, way: Any) -> None:
    results = load(way(tmp_path))
    trials = results.arrow("trials").to_pandas().sort_values("seed")
    assert [list(names) for names in trials["warnings"]] == [[], ["contended"], ["throttled"]]
    assert [list(names) for names in trials["unjudged"]] == [[], [], []]
    assert trials["foreign_percent"].tolist() == pytest.approx([0.0, 49.9, 0.0], abs=0.01)
    assert trials["cpu_percent"].tolist() == pytest.approx([50.0, 100.0, 50.0])
    assert trials["steal_percent"].tolist() == pytest.approx([1.0] * 3)
    assert trials["gpu_utilisation_percent"].tolist() == pytest.approx([80.0] * 3)
    assert trials["gpu_power_j"].tolist() == pytest.approx([1000.0] * 3)
    assert trials["gpu_power_coverage"].tolist() == pytest.approx([1.0] * 3)
    assert trials["swapped_bytes"].tolist() == [0.0] * 3
    assert trials["throttled_percent"].tolist() == pytest.approx([0.0, 0.0, 14.0], abs=0.01)
    assert [list(names) for names in trials["throttle_reasons"]] == [[], [], ["hw_thermal_slowdown"]]
    for kind in ("gpu_power", "gpu_counter"):
        assert trials[f"{kind}_validity"].tolist() == ["valid"] * 3
    assert trials["cpu_counter_validity"].isna().all()
    assert trials["flops_per_s"].tolist() == pytest.approx([1e6 * 4000 / 32 / 1.5] * 3)
    assert trials["peak_percent"].tolist() == pytest.approx([100 * 1e6 * 4000 / 32 / 1.5 / 4e9] * 3)

    epochs = results.arrow("epochs").to_pandas().merge(trials[["trial_id", "seed"]], on="trial_id")
    epochs = epochs.sort_values(["seed", "epoch"])
    assert epochs["gpu_power_j"].tolist() == pytest.approx([150.0] * 15)
    assert epochs["gpu_power_validity"].tolist() == ["valid"] * 15
    assert epochs["cpu_counter_validity"].tolist() == ["shared"] * 15  # there was a neighbour
    expected = [[]] * 5 + [["contended"]] * 5 + [["throttled"]] + [[]] * 4
    assert [list(names) for names in epochs["warnings"]] == expected


def test_all_ways_lead_to_the_same_tables(tmp_path: Path) -> None:
    def tables(results: Results) -> list[pd.DataFrame]:
        trials, epochs = (
            results.arrow(name).select(["trial_id", *JOINED[name]]).to_pandas() for name in ("trials", "epochs")
        )
        return [trials, epochs]

    first = tables(load(ended(tmp_path / "0")))
    for number, way in enumerate(WAYS[1:], 1):
        for one, other in zip(first, tables(load(way(tmp_path / str(number)))), strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_small_batches_give_what_one_batch_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(ended(tmp_path / "whole")).arrow("trials")
    monkeypatch.setattr(joining, "BATCH_TRIALS", 1)
    monkeypatch.setattr(joining, "MARGIN_S", 1.0)
    parts = load(ended(tmp_path / "parts")).arrow("trials")
    for name in JOINED["trials"]:
        assert whole[name] == parts[name], name


def test_a_calibration_stays_known_when_a_node_is_described_again(tmp_path: Path) -> None:
    nodes = load(resumed_after_a_kill(tmp_path)).nodes
    assert list(json.loads(nodes["calibration"][0])) == ["tensorflow/cpus=1/gpus=1"]
    assert (nodes["share_flops_per_s"][0], nodes["gpu_flops_per_s"][0]) == (1e9, 4e9)


def test_a_column_of_a_node_is_of_the_first_share_that_has_it(tmp_path: Path) -> None:
    one, other = {"core_flops_per_s": 1.0, "share_flops_per_s": 1.0}, {"core_flops_per_s": 2.0, "dispatch_s": 3.0}
    with create(tmp_path) as recorder:
        recorder.add_node({"node": "here", "calibration": {"a": one, "b": other}})
        recorder.finish("completed")
    row = load(tmp_path).nodes.iloc[0]
    assert (row["core_flops_per_s"], row["share_flops_per_s"], row["dispatch_s"]) == (1.0, 1.0, 3.0)


def test_workers_that_are_one_process_have_the_same_readings_and_do_not_run_beside_one_another(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.write(trial(0))
        other = trial(1)
        recorder.write(replace(other, placement=replace(other.placement, worker="0@tensorflow.2")))
        recorder.add_telemetry(readings(-1, 31), node="here")
        recorder.finish("completed")
    trials = load(tmp_path).trials.sort_values("seed")
    assert trials["worker"].tolist() == ["0", "0@tensorflow.2"]
    assert trials["foreign_percent"].tolist() == pytest.approx([0.0, 49.9], abs=0.11)
    assert [list(warnings) for warnings in trials["warnings"]] == [[], ["contended"]]


def test_without_telemetry_what_was_not_read_is_null_and_unjudged(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.write(trial(0))
        recorder.write(trial(1, cores=None, gpus=None, clock_step_s=None, clock_drift=None))
        recorder.finish("completed")
    row, other = load(tmp_path).arrow("trials").to_pylist()
    assert row["warnings"] == []
    assert row["unjudged"] == ["throttled", "contended", "stolen", "swapped"]
    for name in ("gpu_power_j", "gpu_power_coverage", "gpu_power_validity", "cpu_percent", "throttle_reasons"):
        assert row[name] is None, name
    assert row["gpu_counter_validity"] == "valid"  # which the worker read itself
    assert row["peak_percent"] is None
    assert other["unjudged"] == ["throttled", "contended", "stolen", "few_cores", "clock_drift", "swapped"]


def test_parts_of_a_run_that_goes_on_hold_no_judgement_yet_and_load_does(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.write(trial(1))
        recorder.add_telemetry(readings(-1, 31), node="here")
        recorder.flush()
        recorder._parts.write_readings()
        recorder._parts.write_trials()
        part = pd.read_parquet(recorder.folder / "parts" / "trials")
        assert part["warnings"].isna().all()
        assert part["gpu_counter_j"].tolist() == [1000.0]
        assert load(tmp_path).arrow("trials")["warnings"].to_pylist() == [["contended"]]


def test_a_gap_in_the_readings_shows_in_the_coverage(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.write(trial(0))
        recorder.write(trial(1))
        recorder.add_telemetry(readings(-1, 31, skip=(4.0, 8.0)), node="here")
        gap = {"started_at": T0 + 14.0, "ended_at": T0 + 14.2, "reason": "the sampling process ended with status -9"}
        recorder.finish("completed", {"sampling": {"here": {"absent": {}, "gaps": [gap]}}})
    for results in (load(tmp_path), load(rebuild_of(recorder.folder))):
        trials = results.trials.sort_values("seed")
        assert trials["gpu_power_coverage"].tolist() == pytest.approx([0.6, 0.98])
        assert trials["gpu_power_j"].tolist() == pytest.approx([600.0, 980.0])
        assert trials["gpu_power_validity"].tolist() == ["gaps", "valid"]


def test_the_gaps_of_all_attempts_are_kept_in_run_json(tmp_path: Path) -> None:
    def notes(second: float, reason: str) -> dict[str, Any]:
        gap = {"started_at": T0 + second, "ended_at": T0 + second + 0.2, "reason": "it was killed"}
        return {"sampling": {"here": {"absent": {"energy_j": reason}, "gaps": [gap]}}}

    with create(tmp_path) as recorder:
        recorder.write(trial(0))
        recorder.add_telemetry(readings(-1, 11), node="here")
        recorder.finish("interrupted", notes(4.0, "one"))
    with resume(recorder.folder) as recorder:
        recorder.write(trial(1))
        recorder.add_telemetry(readings(11.2, 31), node="here")
        recorder.finish("completed", notes(14.0, "other"))
    told = json.loads((recorder.folder / "run.json").read_text())["sampling"]["here"]
    assert [gap["started_at"] - T0 for gap in told["gaps"]] == [4.0, 14.0]
    assert told["absent"] == {"energy_j": "other"}
    for results in (load(tmp_path), load(rebuild_of(recorder.folder))):
        assert results.trials.sort_values("seed")["gpu_power_coverage"].tolist() == pytest.approx([0.98, 0.98])


def rebuild_of(folder: Path) -> Path:
    rebuild(folder)
    return folder


def test_nodes_are_told_apart(tmp_path: Path) -> None:
    other = trial(1)
    other = replace(other, placement=replace(other.placement, node="there"))
    with create(tmp_path) as recorder:
        recorder.write(trial(0))
        recorder.write(other)
        recorder.add_telemetry(readings(-1, 31), node="here")
        recorder.finish("completed")
    trials = load(tmp_path).trials.set_index("node")
    assert trials["cpu_percent"]["here"] == pytest.approx(50.0)
    assert trials["cpu_percent"]["there"] is pd.NA


def test_a_quota_below_what_the_trials_asked_for_together_leaves_each_too_few_cores(tmp_path: Path) -> None:
    for limit, warned in ((2.0, False), (1.5, True)):
        with create(tmp_path, str(limit)) as recorder:
            recorder.add_node({"node": "here", "cpu_limit": limit})
            recorder.write(trial(0))  # which had one neighbour
            recorder.finish("completed")
        assert ("few_cores" in load(recorder.folder).arrow("trials")["warnings"].to_pylist()[0]) == warned


def test_readings_that_cannot_be_read_are_named_when_tables_are_rebuilt(tmp_path: Path) -> None:
    folder = ended(tmp_path)
    path = folder / "telemetry.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultsError, match=r"telemetry.parquet: is cut off or damaged .*remove it"):
        rebuild(folder)
    path.unlink()
    rebuild(folder)
    assert load(folder).arrow("trials")["warnings"].to_pylist() == [[], [], []]


def test_warnings_are_read_in_pandas_as_the_page_of_columns_shows(tmp_path: Path) -> None:
    folder = ended(tmp_path)
    for trials in (load(folder).trials, pd.read_parquet(folder / "trials.parquet")):
        contended = trials[["contended" in names for names in trials["warnings"]]]
        assert contended["seed"].tolist() == [1]
        assert trials.explode("warnings")["warnings"].value_counts().to_dict() == {"contended": 1, "throttled": 1}


def test_nothing_is_joined_to_what_was_measured_before_a_trial_went_on_from_a_state(tmp_path: Path) -> None:
    resumed = trial(0)
    outcome = resumed.outcome
    # It went on in the middle of its third epoch: the first two, and the beginning of that, were measured elsewhere.
    facts = replace(outcome.facts, resumptions=1, resumed_after_epoch=2)
    middle = outcome.epochs[2].started_at + 0.5
    resumed = replace(resumed, outcome=replace(outcome, facts=facts, started_at=middle))
    with Recorder.create(tmp_path, suite="suite", run_id="run", info=INFO) as recorder:
        recorder.add_node(NODE)
        times = np.arange(T0 - 1, T0 + 2 * TRIAL_S, 0.1)
        recorder.add_telemetry(
            [{"time": time, "device": "cpu0", "metric": "cpu_percent", "value": 50.0} for time in times], node="here"
        )
        recorder.write(replace(resumed, placement=replace(resumed.placement, node="here")))
        recorder.finish("completed")
    results = load(tmp_path)
    assert results.epochs["cpu_percent"].isna().tolist() == [True, True, True, False, False]
    assert results.trials["cpu_percent"].isna().all()
    assert results.epochs["gpu_counter_j"].notna().all()  # which each worker has counted itself
    assert results.trials["resumptions"].tolist() == [1]
