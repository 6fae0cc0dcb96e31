from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from record.finished import INFO, epoch, finished

from harness.domain.errors import ResultsError
from harness.domain.outcome import Finished
from harness.record.compact import rebuild
from harness.record.reading import load
from harness.record.recorder import Recorder
from harness.record.runs import list_runs
from harness.record.schema import SCHEMA_VERSION

GOLDEN = Path(__file__).parents[1] / "golden"


def make(
    results: Path,
    suite: str = "suite",
    run_id: str = "run",
    state: str = "completed",
    *trials: Finished,
    **options: Any,
) -> Path:
    with Recorder.create(results, suite=suite, run_id=run_id, info=INFO) as recorder:
        recorder.add_node({"node": "here"})
        for trial in trials or (finished(0, **options), finished(1, **options, status="failed", error="no")):
            recorder.write(trial)
        recorder.add_telemetry([{"time": 1.0, "device": "cpu0", "metric": "load_percent", "value": 1.0}], node="here")
        if state:
            recorder.finish(state)
    return recorder.folder


def test_a_run_a_suite_and_a_results_folder_are_read_alike(tmp_path: Path) -> None:
    run = make(tmp_path, "one", "1")
    make(tmp_path, "one", "2")
    make(tmp_path, "two", "3")
    assert set(load(run).trials["run_id"]) == {"1"}
    assert set(load(tmp_path / "one").epochs["run_id"]) == {"1", "2"}
    results = load(str(tmp_path))
    assert set(results.telemetry["run_id"]) == set(results.nodes["run_id"]) == {"1", "2", "3"}
    assert [content["suite"] for content in results.runs] == ["one", "one", "two"]
    assert len(results.trials) == 6


def test_a_run_that_is_named_twice_counts_once_and_a_copy_of_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "one", "1")
    monkeypatch.chdir(tmp_path)
    assert len(load([run, "one/1", tmp_path]).trials) == 2
    shutil.copytree(run, tmp_path / "one" / "backup")
    with pytest.raises(ResultsError, match=r"one/backup: is the same run as .*one/1, and would count twice"):
        load(["one/1", tmp_path / "one" / "backup"])


def test_frames_have_fitting_types(tmp_path: Path) -> None:
    results = load(make(tmp_path))
    assert results.epochs["trial_id"].dtype == "category"
    assert results.epochs["epoch"].dtype == "int64[pyarrow]"
    assert results.epochs["val_loss"].dtype == "double[pyarrow]"
    assert str(results.epochs["started_at"].dtype) == "timestamp[us, tz=UTC][pyarrow]"
    assert results.trials["parameters"].tolist() == [101_770] * 2
    assert results.trials["parameters"].dtype == "int64[pyarrow]"
    assert results.trials["val_samples"].isna().all()
    assert results.trials["cores"].tolist() == [[0, 1]] * 2
    merged = results.epochs.merge(results.trials, on=["run_id", "trial_id", "arm"], suffixes=("", "_trial"))
    assert len(merged) == 4


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    results = load(make(tmp_path), columns={"epochs": ["trial_id", "val_accuracy"], "telemetry": ["value"]})
    assert list(results.epochs) == ["trial_id", "val_accuracy"]
    assert list(results.telemetry) == ["value"]
    live = load(make(tmp_path, run_id="live", state=""), columns={"epochs": ["loss"], "telemetry": ["time"]})
    assert list(live.epochs) == ["loss"]
    assert list(live.telemetry) == ["time"]
    with pytest.raises(ResultsError, match=r"run: epochs has no column 'val_acuracy'; it has run_id, "):
        _ = load(tmp_path / "suite" / "run", columns={"epochs": ["val_acuracy"]}).epochs
    with pytest.raises(ResultsError, match="no table 'epoch'; the tables are trials"):
        load(tmp_path, columns={"epoch": []})


def test_a_run_that_was_left_without_an_end_is_read_from_its_log(tmp_path: Path) -> None:
    ended, left = load(make(tmp_path, run_id="1")), load(make(tmp_path, run_id="2", state=""))
    for table in ("trials", "epochs", "nodes", "telemetry"):
        one, other = (getattr(results, table).drop(columns="run_id") for results in (ended, left))
        pd.testing.assert_frame_equal(one, other)
    both = load(tmp_path)
    assert both.epochs["run_id"].value_counts().to_dict() == {"1": 4, "2": 4}


def test_runs_with_different_axes_and_kinds_are_read_together(tmp_path: Path) -> None:
    make(tmp_path, "one", axes=(("model.x", 1), ("only", "here")))
    make(tmp_path, "two", axes=(("model.x", 0.5),))
    assert load(tmp_path).trials["model.x"].tolist() == [1.0, 1.0, 0.5, 0.5]
    assert load(tmp_path).trials["only"].isna().tolist() == [False, False, True, True]
    make(tmp_path, "three", axes=(("model.x", "relu"),))
    make(tmp_path, "zero", axes=(("model.x", [1]),))
    values = load(tmp_path).trials.set_index("seed")["model.x"]
    assert set(values) == {"1", "0.5", '"relu"', "[1]"}


def test_texts_are_written_alike_whether_or_not_their_own_run_had_other_values_beside_them(tmp_path: Path) -> None:
    mixed = (finished(seed, axes=(("model.x", value),)) for seed, value in enumerate(("größe", 3)))
    make(tmp_path, "one", "1", "completed", *mixed)
    make(tmp_path, "two", axes=(("model.x", "größe"),))
    assert load(tmp_path).trials["model.x"].tolist() == ['"größe"', "3", '"größe"', '"größe"']


@pytest.mark.parametrize("table", ["trials", "epochs", "nodes", "telemetry"])
@pytest.mark.parametrize("left", [0, 3, 500, -8])
def test_a_table_that_was_cut_off_is_named_with_the_way_out(tmp_path: Path, table: str, left: int) -> None:
    folder = make(tmp_path)
    path = folder / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ResultsError) as caught:
        getattr(load(folder), table)
    message = str(caught.value)
    assert message.startswith(f"{path}: is cut off or damaged (")
    if table == "telemetry":
        assert "remove it to read the other tables" in message
        path.unlink()
        assert load(folder).telemetry.empty
        return
    command = message.partition("the log can rebuild it: ")[2]
    assert command.startswith("python -c")
    exec(shlex.split(command)[2])
    assert len(getattr(load(folder), table)) > 0


def test_a_table_without_a_log_says_that_it_is_lost(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "trials.parquet").unlink()
    with pytest.raises(ResultsError, match=r"trials.parquet: is missing; the log can rebuild it"):
        _ = load(folder).trials
    for log in (folder / "log").iterdir():
        log.unlink()
    with pytest.raises(ResultsError, match="the run's log is gone too"):
        _ = load(folder).trials
    with pytest.raises(ResultsError, match="the log is gone"):
        rebuild(folder)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"schema_version": 5}))
    with pytest.raises(ResultsError, match=r"run.json: has schema version 5, and this harness reads versions up to 4"):
        load(folder)


def test_a_run_of_the_first_schema_is_read_with_the_columns_it_lacks_as_nulls() -> None:
    results = load(GOLDEN / "results_v1")
    assert len(results.trials) == 2
    assert len(results.epochs) == 6
    assert results.trials["classes"].isna().all()
    assert results.arrow("epochs")["extra"].null_count == 6
    assert results.epochs["val_accuracy"].between(0.1, 1).all()


def test_a_run_of_the_second_schema_is_read_with_its_readings_and_without_judgements() -> None:
    results = load(GOLDEN / "results_v2")
    assert len(results.trials) == 2
    assert len(results.epochs) == 6
    assert results.trials["val_class_counts"].tolist() == [[100] * 10] * 2
    assert "steal_percent" in set(results.telemetry["metric"])
    for name in ("warnings", "unjudged", "gpu_power_j", "flops_per_s"):
        assert results.trials[name].isna().all()
    assert results.arrow("epochs")["warnings"].null_count == 6


def test_a_run_of_the_second_schema_can_be_rebuilt_and_resumed_with_what_its_readings_say(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "results_v2", folder)
    rebuild(folder)
    results = load(folder)
    assert results.trials["unjudged"].map(lambda names: "clock_drift" in names).all()  # nobody looked at clocks then
    assert results.epochs["compilations"].isna().all()
    assert [list(names) for names in results.epochs["warnings"]] == [[]] * 6
    before = results.trials[["trial_id", "val_samples", "cpu_percent"]]
    with Recorder.resume(folder, suite_sha256=results.runs[0]["suite_sha256"]) as recorder:
        assert len(recorder.done) == 2
        recorder.finish("completed")
    again = load(folder)
    assert again.runs[0]["schema_version"] == SCHEMA_VERSION
    pd.testing.assert_frame_equal(again.trials[["trial_id", "val_samples", "cpu_percent"]], before)
    assert len(again.telemetry) == len(results.telemetry)


def test_a_run_of_the_third_schema_is_read_and_says_nothing_of_what_came_with_the_fourth() -> None:
    results = load(GOLDEN / "results_v3")
    assert results.trials["status"].tolist() == ["completed"] * 2
    assert results.trials["cpus"].tolist() == [1, 1]
    for name in ("devices", "nodes", "packed", "resumptions", "node_asked"):
        assert results.trials[name].isna().all()


def test_one_damaged_table_among_many_is_named_with_how_to_leave_its_run_out(tmp_path: Path) -> None:
    make(tmp_path, run_id="good")
    bad = make(tmp_path, run_id="bad") / "epochs.parquet"
    bad.write_bytes(bad.read_bytes()[:-100])
    with pytest.raises(ResultsError, match=r"bad/epochs.parquet: is cut off .*or leave the run out.*run_id != 'bad'"):
        _ = load(tmp_path).epochs
    assert len(load(tmp_path, runs="run_id != 'bad'").epochs) == 4


def test_only_the_runs_asked_for_are_read(tmp_path: Path) -> None:
    first, second = make(tmp_path, "one", "1"), make(tmp_path, "one", "2", state="interrupted")
    third = make(tmp_path, "two", "3", state="")
    content = json.loads((first / "run.json").read_text())
    (first / "run.json").write_text(json.dumps(content | {"attempts": [{"suite_git": {"commit": "abc1"}}]}))
    for runs, chosen in {
        "one": {first, second},
        "3": {third},
        "suite == 'one' and state == 'completed'": {first},
        "counts.failed > 0": {first, second},
        "commit == 'abc1'": {first},
        "started_at >= '2020' and suite in ['one', 'two']": {first, second, third},
    }.items():
        assert set(load(tmp_path, runs=runs).folders) == chosen
    chosen = load([tmp_path / "one", third], runs=["2", "state == 'dead'"])
    assert chosen.folders == (second, third)
    assert set(chosen.trials["run_id"]) == {"2", "3"}
    for runs, message in {
        "4": "no run's id or suite here, and no condition",
        "suite =": "no condition: expression 'suite ='",
        "stat == 'completed'": "unknown path 'stat'; did you mean 'state'",
        "trials > 1000": "chooses none of the 3 runs here",
        "suite > 3": "cannot compare",
    }.items():
        with pytest.raises(ResultsError, match=message):
            load(tmp_path, runs=runs)


def test_a_column_that_only_some_runs_have_is_null_in_the_others(tmp_path: Path) -> None:
    make(tmp_path, "one", axes=(("model.x", 1),))
    make(tmp_path, "two", axes=(("model.y", 2),), state="")
    trials = load(tmp_path, columns={"trials": ["model.x", "seed"]}).trials
    assert list(trials) == ["model.x", "seed"]
    assert trials["model.x"].isna().tolist() == [False, False, True, True]
    with pytest.raises(ResultsError, match=r"trials has no column 'model.z'; it has run_id, .*model.x, model.y"):
        _ = load(tmp_path, columns={"trials": ["model.z"]}).trials
    empty = load(tmp_path / "one", columns={"epochs": ["gpu_power_j", "gpu_power_validity"]}).epochs
    assert len(empty) == 4
    assert empty.isna().all(axis=None)


def test_runs_of_all_schemas_are_read_together(tmp_path: Path) -> None:
    make(tmp_path / "new")
    for old in ("results_v1", "results_v2", "results_v3"):
        shutil.copytree(GOLDEN / old, tmp_path / "new" / "old" / old)
    results = load(tmp_path / "new")
    assert len(results.trials) == 8
    assert len(results.epochs) == 22
    assert results.trials["warnings"].isna().sum() == 4


def test_further_metrics_become_columns(tmp_path: Path) -> None:
    with_more = replace(epoch(1), extra={"val_r2_score": 0.5, "f1": 0.25})
    folder = make(tmp_path, "suite", "run", "completed", finished(0, epochs=[with_more, epoch(2)]), finished(1))
    epochs = load(folder).epochs
    assert "extra" not in epochs
    assert epochs["val_r2_score"].tolist()[:1] == [0.5]
    assert epochs["val_r2_score"].isna().sum() == 3
    assert epochs["f1"].sum() == 0.25


def test_files_of_a_trial_are_kept_beside_its_records(tmp_path: Path) -> None:
    one = finished(0)
    one = replace(one, outcome=replace(one.outcome, files={"model.json": b"{}", "board/events": b"x"}))
    folder = make(tmp_path, "suite", "run", "completed", one, finished(1))
    trials = load(folder).trials.set_index("seed")
    kept = list(trials["artifacts"][0])
    assert kept == [f"artifacts/{one.trial.trial_id}/board/events", f"artifacts/{one.trial.trial_id}/model.json"]
    assert (folder / kept[1]).read_bytes() == b"{}"
    assert pd.isna(trials["artifacts"][1])


def test_arms_of_any_name_keep_their_files_apart(tmp_path: Path) -> None:
    arms = []
    for label in ("a b", "a_b", "好" * 90):
        one = finished(0)
        setting = one.trial.setting.model_copy(update={"label": label})
        arms.append(
            replace(one, trial=replace(one.trial, setting=setting), outcome=replace(one.outcome, files={"f": b""}))
        )
    trials = load(make(tmp_path, "suite", "run", "completed", *arms)).trials
    assert len({str(paths) for paths in trials["artifacts"]}) == 3


def test_a_parquet_file_of_another_program_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    pd.DataFrame({"a": [1]}).to_parquet(folder / "trials.parquet")
    with pytest.raises(ResultsError, match=r"trials.parquet: has schema version None"):
        _ = load(folder).trials


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no run is recorded here"):
        load(tmp_path)
    with pytest.raises(ResultsError, match="there is no such folder"):
        load(tmp_path / "none")


def test_a_damaged_run_file_is_named_and_does_not_hide_other_runs(tmp_path: Path) -> None:
    make(tmp_path, run_id="good")
    bad = make(tmp_path, run_id="bad") / "run.json"
    bad.write_text(bad.read_text()[:30])
    with pytest.raises(ResultsError, match=r"bad/run.json: is damaged .*restore it from a copy.*state != 'unreadable'"):
        load(tmp_path)
    assert load(tmp_path, runs="state != 'unreadable'").trials["run_id"].unique().tolist() == ["good"]
    assert load(tmp_path, runs="good").folders == (tmp_path / "suite" / "good",)
    with pytest.raises(ResultsError, match=r"bad/run.json: is damaged"):
        load(tmp_path, runs="run_id == 'bad'")
    assert {status.run_id: status.state for status in list_runs(tmp_path)} == {"good": "completed", "bad": "unreadable"}
    bad.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "suite": "suite"}))
    with pytest.raises(ResultsError, match=r"bad/run.json: is damaged \(it has no run_id\); restore it from a copy"):
        load(tmp_path)


def test_runs_are_listed_with_their_states_and_counts(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "none") == []
    make(tmp_path, "one", "1", state="interrupted")
    make(tmp_path, "one", "2", state="")
    make(tmp_path, "two", "0")
    with Recorder.create(tmp_path, suite="two", run_id="3", info=INFO) as recorder:
        recorder.write(finished(0))
        recorder.flush()
        listed = list_runs(tmp_path)
    assert [(one.run_id, one.state) for one in listed] == [
        ("1", "interrupted"),
        ("2", "dead"),
        ("0", "completed"),
        ("3", "running"),
    ]
    assert [one.counts for one in listed] == [{"completed": 1, "failed": 1}] * 3 + [{"completed": 1}]
    assert listed[2].hint is None
    assert listed[0].hint == "go on with: harness run 'suites/odd name.py' --run 1 --resume"
    assert listed[3].owner is not None
    assert f"process {os.getpid()}" in listed[3].owner
    assert listed[0].planned == 3
    assert listed[0].started_at is not None
    assert listed[0].ended_at is not None


def test_listing_runs_needs_neither_pyarrow_nor_pandas() -> None:
    code = "import sys, harness.record.runs; print({'pyarrow', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_recorder_starts_without_pyarrow() -> None:
    code = "import sys, harness.record.recorder; print({'pyarrow', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
