from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from record.finished import INFO, epoch, finished, key

from harness.domain.errors import ResultsError
from harness.domain.outcome import Facts, Outcome, Stopwatches
from harness.record import parts as parts_module
from harness.record.compact import rebuild
from harness.record.owner import FILE, Owner
from harness.record.reading import load
from harness.record.recorder import Recorder
from harness.record.rows import axis_type, merge_types
from harness.record.runs import find_run, list_runs, new_run_id

SHA = INFO["suite_sha256"]
NODE = {"node": "here", "hostname": "here", "versions": {"numpy": "2.0"}, "gpu_names": [], "memory_bytes": 10}


def reading(second: float, value: float | None = 1.0) -> dict[str, Any]:
    return {"time": second, "device": "host", "metric": "power_w", "value": value}


def create(results: Path, **info: Any) -> Recorder:
    return Recorder.create(results, suite="suite", run_id="run", info={**INFO, **info})


def resume(results: Path, **options: Any) -> Recorder:
    return Recorder.resume(results / "suite" / "run", suite_sha256=options.pop("suite_sha256", SHA), **options)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_leaves_four_tables_its_file_and_its_log(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.add_node(NODE)
        for seed in range(3):
            recorder.write(finished(seed, epochs=4))
        recorder.add_telemetry([reading(1.7e9), reading(1.7e9 + 0.2, None)], node="here")
        recorder.finish("completed", {"timings": {"total_s": 1.5}})
    folder = tmp_path / "suite" / "run"
    tables = {f"{name}.parquet" for name in ("trials", "epochs", "telemetry", "nodes")}
    assert files(folder) == tables | {"run.json", "log"}
    content = json.loads((folder / "run.json").read_text())
    assert (content["state"], content["counts"]) == ("completed", {"completed": 3})
    assert content["timings"] == {"total_s": 1.5}
    epochs = pd.read_parquet(folder / "epochs.parquet")
    assert len(epochs) == 12
    assert epochs["samples_per_s"].tolist() == [32000.0] * 12
    assert epochs["started_at"].iloc[0] == pd.Timestamp(1_700_000_001.25, unit="s", tz="UTC")
    trials = pd.read_parquet(folder / "trials.parquet")
    assert trials["optimizer.learning_rate"].tolist() == [0.1] * 3
    assert trials["batch_size"].tolist() == [32] * 3
    assert trials["unattributed_s"].tolist() == [0.25] * 3
    assert trials["cores"].tolist()[0].tolist() == [0, 1]
    assert set(trials["run_id"]) == {"run"}
    telemetry = pd.read_parquet(folder / "telemetry.parquet")
    assert telemetry["node"].tolist() == ["here", "here"]
    assert telemetry["value"].isna().tolist() == [False, True]
    nodes = pd.read_parquet(folder / "nodes.parquet")
    assert nodes["versions"].tolist() == ['{"numpy": "2.0"}']


def test_a_run_without_trials_still_has_all_its_tables(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.finish("failed")
    results = load(tmp_path)
    assert [len(table) for table in (results.trials, results.epochs, results.telemetry, results.nodes)] == [0] * 4


def test_what_was_not_measured_is_null_and_a_loss_that_is_no_number_is_nan(tmp_path: Path) -> None:
    lost = replace(
        finished(1, status="lost", error="worker killed"),
        outcome=Outcome(status="lost", error="worker killed", watches=Stopwatches(), facts=Facts()),
    )
    with create(tmp_path) as recorder:
        recorder.write(finished(0, epochs=[epoch(1, loss=math.nan, val_accuracy=None), epoch(2, loss=-math.inf)]))
        recorder.write(lost)
        recorder.finish("completed")
    results = load(tmp_path)
    epochs = results.arrow("epochs")
    loss = epochs["loss"].to_pylist()
    assert math.isnan(loss[0])
    assert loss[1] == -math.inf
    assert epochs["val_accuracy"].to_pylist() == [None, 0.9]
    assert epochs["warmup"].to_pylist() == [True, False]
    row = results.arrow("trials").to_pylist()[1]
    for name in ("train_s", "wall_s", "unattributed_s", "engine", "cores", "started_at", "initial_val_loss"):
        assert row[name] is None, name
    assert row["error"] == "worker killed"


def test_a_worker_s_numpy_scalars_are_recorded_as_plain_numbers(tmp_path: Path) -> None:
    import numpy as np

    odd = epoch(1, loss=np.float32(0.5), val_accuracy=np.float64(0.25))  # type: ignore[arg-type]
    with create(tmp_path) as recorder:
        recorder.write(finished(0, epochs=[odd]))
        recorder.finish("completed")
    assert load(tmp_path).epochs["loss"].tolist() == [0.5]


NAMES = ['with "quotes"', "line\nfeed", "<b>&amp;</b>", "ünïcødé 測試 😀", "comma, tab\t", "half a pair \ud83d", ""]


def test_any_text_survives_as_an_axis_value_and_an_error(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        for seed, name in enumerate(NAMES):
            recorder.write(finished(seed, axes=(("model.activation", name),), status="failed", error=name))
        recorder.finish("failed")
    trials = load(tmp_path).trials.sort_values("seed")
    expected = [name.replace("\ud83d", "?") for name in NAMES]
    assert trials["model.activation"].tolist() == expected
    assert trials["error"].tolist() == expected


def test_the_columns_of_axes_follow_their_values(tmp_path: Path) -> None:
    with create(tmp_path, axes={"model.hidden": [64, [64, 32]], "dataset.take": [100]}) as recorder:
        recorder.write(finished(0, axes=(("optimizer.rate", 1), ("model.hidden", 64), ("a", True), ("b", None))))
        recorder.write(finished(1, axes=(("optimizer.rate", 0.5), ("model.hidden", [64, 32]), ("b", {"x": 1}))))
        recorder.write(finished(2, axes=(("engine", "graph"), ("epochs", 5))))
        recorder.finish("completed")
    trials = load(tmp_path).arrow("trials")
    assert trials["optimizer.rate"].to_pylist() == [1.0, 0.5, None]
    assert trials["model.hidden"].to_pylist() == ["64", "[64, 32]", None]
    assert trials["a"].to_pylist() == [True, None, None]
    assert trials["b"].to_pylist() == [None, '{"x": 1}', None]
    assert trials["dataset.take"].to_pylist() == [None] * 3
    assert str(trials.schema.field("dataset.take").type) == "int64"
    assert trials.column_names.count("epochs") == 1
    assert trials["engine"].to_pylist() == ["xla"] * 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int64"),
        ([1, 0.5], "float64"),
        ([1, True], "json"),
        (["a", None], "string"),
        ([None], "null"),
        (["a", 1], "json"),
        ([2**63], "json"),
        ([[1]], "json"),
        ([], "null"),
    ],
)
def test_kinds_of_axis_columns(values: list[Any], kind: str) -> None:
    assert merge_types(axis_type(value) for value in values) == kind


def test_a_trial_is_recorded_once_unless_it_is_retried(tmp_path: Path) -> None:
    failed = finished(0, status="failed", error="no", epochs=1)
    with create(tmp_path) as recorder:
        recorder.write(failed)
        assert recorder.has(key(0))
        with pytest.raises(ResultsError, match="already recorded"):
            recorder.write(failed)
        recorder.retry(key(0))
        assert not recorder.has(key(0))
        recorder.write(finished(0, epochs=3, attempt=2))
        assert recorder.has(key(0))
        with pytest.raises(ResultsError, match="already recorded"):
            recorder.write(failed)
        recorder.finish("completed")
    results = load(tmp_path)
    assert results.trials["status"].tolist() == ["completed"]
    assert results.trials["attempt"].tolist() == [2]
    assert len(results.epochs) == 3
    assert results.runs[0]["counts"] == {"completed": 1}


def test_an_interrupted_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.add_node(NODE)
        recorder.write(finished(0))
        recorder.write(finished(1, status="failed", error="no"))
        recorder.add_telemetry([reading(1.0)])
        recorder.finish("interrupted")
    with resume(tmp_path) as recorder:
        assert recorder.attempt == 2
        assert sorted(recorder.done.values()) == ["completed", "failed"]
        recorder.retry(key(1))
        recorder.add_node(NODE)
        recorder.write(finished(1))
        recorder.write(finished(2))
        recorder.add_telemetry([reading(2.0)])
        assert recorder.committed <= 4
        recorder.finish("completed")
    results = load(tmp_path)
    assert sorted(results.trials["seed"]) == [0, 1, 2]
    assert len(results.epochs) == 6
    assert len(results.nodes) == 1
    assert results.telemetry["time"].tolist() == [pd.Timestamp(second, unit="s", tz="UTC") for second in (1, 2)]
    assert [attempt["attempt"] for attempt in results.runs[0]["attempts"]] == [1, 2]


def test_each_attempt_keeps_what_is_said_of_it(tmp_path: Path) -> None:
    first, second = {"suite_git": {"commit": "a"}}, {"suite_git": {"commit": "b"}}
    with Recorder.create(tmp_path, suite="suite", info=INFO, attempt_info=first) as recorder:
        recorder.finish("interrupted")
    sha256 = INFO["suite_sha256"]
    with Recorder.resume(recorder.folder, suite_sha256=sha256, attempt_info=second) as recorder:
        recorder.finish("completed")
    (run,) = load(tmp_path).runs
    assert [attempt["suite_git"]["commit"] for attempt in run["attempts"]] == ["a", "b"]
    assert "suite_git" not in run


@pytest.mark.parametrize("state", ["interrupted", "preempted"])
def test_a_run_left_twice_keeps_every_reading_once(tmp_path: Path, state: str) -> None:
    with create(tmp_path) as recorder:
        recorder.add_telemetry([reading(0.0)])
        recorder.finish(state)
    for second in (1.0, 2.0):
        with resume(tmp_path) as recorder:
            recorder.add_telemetry([reading(second)])
            if second == 2.0:
                recorder.finish("completed")  # the run before this one was left without an end
    assert len(load(tmp_path).telemetry) == 3


def test_a_changed_suite_is_not_resumed_unless_forced(tmp_path: Path) -> None:
    create(tmp_path).close()
    with pytest.raises(ResultsError, match=r"the suite has changed .*--force"):
        resume(tmp_path, suite_sha256="b" * 64)
    with resume(tmp_path, suite_sha256="b" * 64, force=True) as recorder:
        assert recorder.info["suite_sha256"] == "b" * 64
    resume(tmp_path, suite_sha256="b" * 64).close()


def test_two_recorders_do_not_share_a_run(tmp_path: Path) -> None:
    with create(tmp_path):
        with pytest.raises(ResultsError, match="belongs to process"):
            resume(tmp_path)
        with pytest.raises(ResultsError, match="exists already"):
            create(tmp_path)


def test_a_run_taken_over_is_written_by_the_new_owner_alone(tmp_path: Path) -> None:
    with create(tmp_path) as former:
        former.write(finished(0))
        former.flush()
        with resume(tmp_path, take_over=True) as recorder:
            former.write(finished(1))
            with pytest.raises(ResultsError, match="now belongs to process"):
                former.flush()
            with pytest.raises(ResultsError, match="now belongs to process"):
                former.finish("completed")
            former.close()
            recorder.write(finished(2))
            recorder.finish("completed")
    assert load(tmp_path).trials["seed"].tolist() == [0, 2]


def test_the_owner_on_another_host_is_named(tmp_path: Path) -> None:
    create(tmp_path).close()
    folder = tmp_path / "suite" / "run"
    other = replace(Owner.here(attempt=1), host="node17")
    (folder / FILE).write_text(json.dumps({name: getattr(other, name) for name in other.__slots__}))
    with pytest.raises(ResultsError, match="node17"):
        resume(tmp_path)
    with resume(tmp_path, take_over=True) as recorder:
        recorder.finish("completed")
    assert files(folder).isdisjoint({"owner.json", "parts"})


_KILLED = """
import os, sys, time
from pathlib import Path
from harness.record import parts
from harness.record.recorder import Recorder
from record.finished import INFO, finished

parts.PREPARE_AFTER_S = parts.PART_INTERVAL_S = 0.05
recorder = Recorder.create(Path(sys.argv[1]), suite="suite", run_id="run", info=INFO)
for seed in range(10**9):
    recorder.write(finished(seed, epochs=20))
    if seed % 10 == 0:
        recorder.add_telemetry([{"time": float(seed), "device": "host", "metric": "power_w", "value": 1.0}])
        recorder.flush()
        print(recorder.committed, flush=True)
"""


def test_a_driver_killed_in_mid_write_loses_nothing_that_counted(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, tmp_path], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        counted = 0
        while counted < 150 or not list(tmp_path.rglob("telemetry/*.parquet")):
            counted = int(child.stdout.readline())
        meanwhile = load(tmp_path)  # readable while it goes on, and by other programs
        assert len(meanwhile.trials) >= counted
        assert len(meanwhile.epochs) >= 20 * counted
        assert list_runs(tmp_path)[0].state == "running"
        child.send_signal(signal.SIGKILL)
        counted = max([counted, *(int(line) for line in child.stdout.read().splitlines())])
        child.wait()

    folder = tmp_path / "suite" / "run"
    status = list_runs(tmp_path)[0]
    assert status.state == "dead"
    assert status.hint == "go on with: harness run 'suites/odd name.py' --run run --resume"
    assert len(load(folder).trials) >= counted
    assert len(load(folder).telemetry) > 0
    with resume(tmp_path) as recorder:
        recorded = len(recorder.done)
        assert recorded >= counted
        assert recorder.damages == ()
        for seed in range(recorded + 10):
            if not recorder.has(key(seed)):
                recorder.write(finished(seed, epochs=20))
        recorder.finish("completed")
    results = load(tmp_path)
    assert sorted(results.trials["seed"]) == list(range(recorded + 10))
    assert len(results.epochs) == 20 * (recorded + 10)
    assert not results.epochs.duplicated(["trial_id", "arm", "epoch"]).any()
    assert results.telemetry["time"].is_unique


def test_a_log_cut_off_anywhere_resumes_with_what_is_whole(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        for seed in range(3):
            recorder.write(finished(seed))
    log = tmp_path / "suite" / "run" / "log" / "attempt-0001.log"
    log.write_bytes(log.read_bytes()[:-100])
    with resume(tmp_path) as recorder:
        assert len(recorder.done) == 2
        assert recorder.damages == ()
        recorder.write(finished(2))
        recorder.finish("completed")
    assert load(tmp_path).trials["seed"].tolist() == [0, 1, 2]


def test_a_record_damaged_in_the_middle_is_reported_and_run_again(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        for seed in range(3):
            recorder.write(finished(seed))
    log = tmp_path / "suite" / "run" / "log" / "attempt-0001.log"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with resume(tmp_path) as recorder:
        assert [damage.path for damage in recorder.damages] == [log]
        assert "at byte" in str(recorder.damages[0])
        assert not recorder.has(key(1))
        recorder.write(finished(1))
        recorder.finish("completed")
    assert sorted(load(tmp_path).trials["seed"]) == [0, 1, 2]


def test_parts_can_be_read_by_another_program_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "PREPARE_AFTER_S", 0.01)
    monkeypatch.setattr(parts_module, "PART_INTERVAL_S", 0.02)
    parts = tmp_path / "suite" / "run" / "parts"
    with create(tmp_path) as recorder:
        for seed in range(4):
            recorder.write(finished(seed, epochs=3))
            recorder.add_telemetry([reading(float(seed))])
            time.sleep(0.03)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if len(list(parts.rglob("epochs/*.parquet"))) and len(pd.read_parquet(parts / "trials")) == 4:
                break
            time.sleep(0.02)
        code = "import sys, pandas as pd; print(*(len(pd.read_parquet(path)) for path in sys.argv[1:]))"
        command = [sys.executable, "-c", code, parts / "trials", parts / "epochs"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "4 12\n"
        recorder.finish("completed")
    assert not parts.exists()
    assert len(load(tmp_path).telemetry) == 4


_FULL = """
import resource, sys
from pathlib import Path
from harness.domain.errors import ResultsError
from harness.record.recorder import Recorder
from record.finished import INFO, finished

resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    with Recorder.create(Path(sys.argv[1]), suite="suite", run_id="run", info=INFO) as recorder:
        for seed in range(1000):
            recorder.write(finished(seed))
            if seed == 3:
                recorder.flush()  # else the first group may be the one that does not fit
        recorder.flush()
except ResultsError as error:
    print(error)
"""


def test_a_full_disk_keeps_what_was_committed_and_the_run_can_go_on(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _FULL, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "cannot be written (File too large)" in done.stdout
    assert "then go on with: harness run 'suites/odd name.py' --run run --resume" in done.stdout
    safe = len(load(tmp_path).trials)
    assert f" {safe} finished trials are safe" in done.stdout
    assert safe > 0
    with resume(tmp_path) as recorder:
        assert len(recorder.done) == safe
        recorder.finish("completed")
    assert len(load(tmp_path).trials) == safe


def test_tables_that_do_not_fit_leave_the_log_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    with create(tmp_path) as recorder:
        for seed in range(20):
            recorder.write(finished(seed))
        recorder.flush()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(ResultsError, match=r"tables cannot be written .*all 20 finished trials are safe"):
                recorder.finish("completed")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob(".*.tmp"))
    assert len(load(tmp_path).trials) == 20
    with resume(tmp_path) as recorder:
        recorder.finish("completed")
    assert len(load(tmp_path).trials) == 20


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/etc", "nul\0", "a\nb", ".hidden", "x" * 101, "end."])
def test_a_name_that_is_no_safe_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResultsError, match="cannot be a folder's name"):
        Recorder.create(tmp_path / "results", suite=name, info=INFO)
    assert not (tmp_path / "results").exists()


def test_results_that_cannot_be_written_name_the_folder_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"file/suite/run: the results cannot be written there.*--results DIR"):
        create(tmp_path / "file")
    for place in ("/proc/results", "/sys/results"):  # where not even root may write
        with pytest.raises(ResultsError, match="cannot be written there"):
            create(Path(place))


def test_a_node_s_row_has_only_known_columns(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        with pytest.raises(ValueError, match="colour"):
            recorder.add_node({"node": "here", "colour": "red"})
        with pytest.raises(ValueError, match="needs 'node'"):
            recorder.add_node({"hostname": "here"})


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = {new_run_id() for _ in range(50)}
    assert len(ids) > 40
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 11, 21, 21, 15, 30, tzinfo=UTC)
    assert new_run_id(now).startswith("20261121-211530-")
    assert new_run_id(now) < new_run_id(now + timedelta(seconds=1))


def test_the_run_to_resume_is_the_latest_with_something_left(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no run of suite 'suite' to resume; it has no runs"):
        find_run(tmp_path, suite="suite")
    for run_id, state in (("1", "completed"), ("2", "interrupted"), ("3", "completed")):
        with Recorder.create(tmp_path, suite="suite", run_id=run_id, info=INFO) as recorder:
            recorder.write(finished(0))
            recorder.finish(state)
    assert find_run(tmp_path, suite="suite").name == "2"
    assert find_run(tmp_path, suite="suite", run="3").name == "3"
    with pytest.raises(ResultsError, match=r"no run '4' .*its runs are 1, 2, 3"):
        find_run(tmp_path, suite="suite", run="4")


def test_runs_of_aa_and_others_are_resumed_each_by_its_own_command(tmp_path: Path) -> None:
    for run_id, state, noise in (("1", "interrupted", True), ("2", "completed", False)):
        with Recorder.create(tmp_path, suite="suite", run_id=run_id, info={**INFO, "noise": noise}) as recorder:
            recorder.write(finished(0))
            recorder.finish(state)
    assert find_run(tmp_path, suite="suite", noise=True, asked="another").name == "1"
    assert find_run(tmp_path, suite="suite", asked=INFO["suite_sha256"]).name == "2"  # to say that all is recorded
    with pytest.raises(ResultsError, match=r"there is no unfinished run of suite in .*; begin one without --resume"):
        find_run(tmp_path, suite="suite", asked="another")
    with Recorder.resume(tmp_path / "suite" / "1", suite_sha256=INFO["suite_sha256"]) as recorder:
        recorder.finish("completed")
    with pytest.raises(ResultsError, match="there is no unfinished run of `harness aa` of suite in"):
        find_run(tmp_path, suite="suite", noise=True, asked="another")


def test_broken_tables_are_rebuilt_from_the_log(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.write(finished(0))
        with pytest.raises(ResultsError, match="can be rebuilt when it has ended"):
            rebuild(recorder.folder)
        recorder.finish("completed")
    path = recorder.folder / "epochs.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    rebuild(recorder.folder)
    assert pq.read_table(path).num_rows == 2
    for log in (recorder.folder / "log").iterdir():
        log.unlink()
    with pytest.raises(ResultsError, match="the log is gone"):
        rebuild(recorder.folder)


_MANY = """
import sys
from pathlib import Path
from record.finished import INFO, finished
from harness.record import joining
from harness.record.recorder import Recorder
import pandas

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

with Recorder.create(Path(sys.argv[1]), suite="suite", run_id="run", info=INFO) as recorder:
    for seed in range(4_000):
        recorder.write(finished(seed, epochs=5))
        if seed == 100:
            before = resident_mb()
    recorder.flush()
    recorder.finish("completed")
    print(resident_mb() - before)
"""


def test_thousands_of_trials_do_not_fill_the_driver_s_memory(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _MANY, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 80
    assert pq.read_metadata(tmp_path / "suite" / "run" / "epochs.parquet").num_rows == 20_000
