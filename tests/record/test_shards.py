from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from record.finished import INFO, finished

from harness.domain.errors import ResultsError
from harness.record import shards
from harness.record.compact import rebuild
from harness.record.reading import Results, load
from harness.record.recorder import Recorder
from harness.record.runs import find_run, find_runs, list_runs, read_run, read_run_file
from harness.record.schema import TABLES

SHA = INFO["suite_sha256"]
AGAIN = ["harness", "submit", "--again", "run"]


def submit(results: Path, count: int, *, trials: int | None = None) -> Path:
    info = INFO | {"trials": trials or count, "shards": count, "axes": {"batch_size": [32], "x": [1, 2.5]}}
    return Recorder.reserve(results, suite="suite", run_id="run", info=info, again=AGAIN)


def open_shard(top: Path, number: int, **options: Any) -> Recorder:
    """Begin a shard, or go on with it, as a driver does."""
    content = read_run_file(top)
    planned = len(range(number, content["trials"], content["shards"]))
    recorder = Recorder.resume(
        shards.reserve(top, number, trials=planned, settings=1), suite_sha256=SHA, attempt_info=options
    )
    shards.reopen(top)
    return recorder


def write(recorder: Recorder, seeds: Iterable[int], **options: Any) -> None:
    for seed in seeds:
        recorder.write(finished(seed, axes=(("batch_size", 32), ("x", 1 if seed % 2 else 2.5)), **options))
    recorder.add_node({"node": f"n{seed % 3}", "hostname": "here", "calibration": {f"cpu:{seed}": {"gflops": 1.0}}})
    recorder.add_telemetry(
        [{"time": 1.7e9 + seed, "device": "host", "metric": "power_w", "value": 1.0}], node=f"n{seed % 3}"
    )


def do(top: Path, number: int, *seeds: int, state: str = "completed", **options: Any) -> bool:
    """Do a shard in one go; tell whether it merged them all."""
    with open_shard(top, number) as recorder:
        write(recorder, seeds or [number], **options)
        recorder.finish(state)
    return shards.merge(top)


def rows(results: Results) -> dict[str, list[dict[str, Any]]]:
    return {table: results.arrow(table).to_pylist() for table in TABLES}


def test_a_hundred_shards_that_end_in_any_order_become_one_run(tmp_path: Path) -> None:
    top = submit(tmp_path, 100)
    order = list(range(100))
    random.Random(7).shuffle(order)
    merged = [do(top, number) for number in order[:99]]
    assert not any(merged)
    with open_shard(top, order[99]) as last:
        write(last, [order[99]])
        last.finish("completed")
    before = rows(load(top))
    assert not (top / "trials.parquet").exists()
    assert read_run(top)["state"] == "completed"  # as readers see it already
    assert shards.merge(top)
    assert not shards.merge(top)
    content = read_run_file(top)
    assert (content["state"], content["counts"], content["pending"]) == ("completed", {"completed": 100}, 0)
    assert [one["shard"] for one in content["attempts"]] == list(range(100))
    assert rows(load(top)) == before
    results = load(tmp_path)
    assert [one["run_id"] for one in results.runs] == ["run"]
    assert results.trials["seed"].tolist() == list(range(100))
    assert set(results.trials["run_id"]) == {"run"}
    assert len(results.epochs) == 200
    assert len(results.telemetry) == 100
    assert sorted(results.nodes["node"]) == ["n0", "n1", "n2"]
    assert not (top / "owner.json").exists()


def test_merged_tables_look_as_those_of_any_run(tmp_path: Path) -> None:
    top = submit(tmp_path, 2)
    assert not do(top, 0)
    assert do(top, 1)
    info = INFO | {"axes": {"batch_size": [32], "x": [1, 2.5]}}
    with Recorder.create(tmp_path, suite="suite", run_id="plain", info=info) as recorder:
        write(recorder, [0])
        write(recorder, [1])
        recorder.finish("completed")
    for table in TABLES:
        merged, plain = (pq.read_schema(folder / f"{table}.parquet") for folder in (top, recorder.folder))
        assert merged.equals(plain, check_metadata=True), table


def test_a_shard_is_a_run_folder_of_its_own_and_no_run_of_its_own(tmp_path: Path) -> None:
    top = submit(tmp_path, 2, trials=3)
    do(top, 0, 0, 2)
    folder = shards.shard_folder(top, 0)
    assert folder == top / "shards" / "0000"
    content = read_run(folder)
    assert (content["shard"], content["run_id"], content["trials"]) == ([0, 2], "run", 2)
    assert "shards" not in content
    assert load(folder).trials["seed"].tolist() == [0, 2]
    for place in (tmp_path, tmp_path / "suite", top):
        assert find_runs(place) == [top]
    assert find_runs(top / "shards") == []


def test_how_each_shard_stands_is_told_and_the_run_has_the_worst_state(tmp_path: Path) -> None:
    top = submit(tmp_path, 4, trials=8)
    assert read_run(top)["state"] == "submitted"
    assert {one.state for one in shards.standing(top)} == {"submitted"}
    do(top, 0, 0, 4)
    assert read_run(top)["state"] == "submitted"  # the others are still to begin
    with open_shard(top, 1) as running:
        write(running, [1])
        running.flush()
        (one,) = list_runs(top)
        assert (one.state, one.counts, one.planned) == ("running", {"completed": 3}, 8)
        told = [(each.number, each.state, each.counts, each.planned) for each in shards.standing(top)]
        assert told == [
            (0, "completed", {"completed": 2}, 2),
            (1, "running", {"completed": 1}, 2),
            (2, "submitted", {}, 2),
            (3, "submitted", {}, 2),
        ]
        running.finish("preempted")
    (one,) = list_runs(tmp_path)
    assert one.state == "preempted"
    assert one.hint == "go on with: harness submit --again run"
    open_shard(top, 2).close()
    assert read_run(top)["state"] == "dead"
    assert [each.whole for each in shards.standing(top)] == [True, False, False, False]


def test_what_is_read_in_the_middle_is_what_is_read_after(tmp_path: Path) -> None:
    top = submit(tmp_path, 3)
    do(top, 2, status="failed", error="no")
    do(top, 0)
    with open_shard(top, 1) as recorder:
        write(recorder, [1])
        recorder.flush()
        results = load(top, columns={"epochs": ["epoch", "val_accuracy"], "nodes": ["node"]})
        assert [len(results.trials), len(results.epochs), len(results.nodes)] == [3, 6, 3]
        assert results.runs[0]["state"] == "running"
        middle = load(top).trials[["seed", "status", "x"]].to_dict("list")
        recorder.finish("completed")
    assert shards.merge(top)
    assert load(top).trials[["seed", "status", "x"]].to_dict("list") == middle
    assert read_run(top)["state"] == "completed"  # trials that failed are results
    assert read_run(top)["counts"] == {"completed": 2, "failed": 1}


def test_a_node_of_several_shards_has_one_row_with_all_that_was_calibrated(tmp_path: Path) -> None:
    top = submit(tmp_path, 6)
    for number in range(5):
        do(top, number)
    meanwhile = load(top).nodes.set_index("node")["calibration"]
    assert '"cpu:0"' in meanwhile["n0"]
    assert '"cpu:3"' in meanwhile["n0"]
    do(top, 5)
    assert load(top).nodes.set_index("node")["calibration"]["n0"] == meanwhile["n0"]


_END = """
import sys
from pathlib import Path
from harness.record import shards
print('ready', flush=True)
sys.stdin.readline()
print(shards.merge(Path(sys.argv[1])))
"""


def test_of_two_that_end_at_once_exactly_one_merges(tmp_path: Path) -> None:
    top = submit(tmp_path, 20)
    for number in range(20):
        with open_shard(top, number) as recorder:
            write(recorder, [number])
            recorder.finish("completed")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _END, top], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("now\n")
        child.stdin.flush()
    said = sorted(child.communicate()[0].strip() for child in children)
    assert said == ["False", "True"]
    assert load(top).trials["seed"].tolist() == list(range(20))


def test_a_merge_that_was_killed_is_done_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = submit(tmp_path, 2)
    do(top, 0)
    with open_shard(top, 1) as recorder:
        write(recorder, [1])
        recorder.finish("completed")
    code = (
        "import os, sys; from pathlib import Path; from harness.record import shards, tables\n"
        "tables.write_rows = lambda *given: os._exit(9)\n"
        "shards.merge(Path(sys.argv[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, top], check=False).returncode == 9
    assert (top / "owner.json").exists()
    assert not (top / "trials.parquet").exists()
    assert len(load(top).trials) == 2
    assert shards.merge(top)
    assert {path.name for path in top.iterdir()} == {"run.json", "shards", *(f"{table}.parquet" for table in TABLES)}


def test_a_shard_that_was_killed_goes_on_and_merges_then(tmp_path: Path) -> None:
    top = submit(tmp_path, 2, trials=4)
    do(top, 0, 0, 2)
    with open_shard(top, 1) as recorder:
        write(recorder, [1])
    assert not shards.merge(top)
    assert read_run(top)["state"] == "dead"
    with open_shard(top, 1) as recorder:
        assert list(recorder.done.values()) == ["completed"]
        write(recorder, [3])
        recorder.finish("completed")
    assert shards.merge(top)
    assert load(top).trials["seed"].tolist() == [0, 2, 1, 3]
    assert [(one["shard"], one["attempt"]) for one in read_run(top)["attempts"]] == [(0, 1), (1, 1), (1, 2)]


def test_a_shard_that_is_tried_again_is_merged_anew(tmp_path: Path) -> None:
    top = submit(tmp_path, 2)
    do(top, 0)
    assert do(top, 1, status="failed", error="no")
    with open_shard(top, 1) as recorder:
        assert read_run(top)["state"] == "running"
        assert load(top).trials["status"].tolist() == ["completed", "failed"]
        recorder.retry(finished(1).trial.key)
        write(recorder, [1])
        recorder.finish("completed")
    assert shards.merge(top)
    assert load(top).trials["status"].tolist() == ["completed", "completed"]
    assert read_run(top)["counts"] == {"completed": 2}


def test_a_trial_that_is_in_two_shards_is_refused_with_both_their_names(tmp_path: Path) -> None:
    top = submit(tmp_path, 3)
    do(top, 0)
    do(top, 1)
    with pytest.raises(ResultsError, match=r"is recorded in shard 0001 and in shard 0002, and would count twice"):
        do(top, 2, 1)
    assert not (top / "trials.parquet").exists()
    assert not (top / "owner.json").exists()


def test_damaged_tables_of_shards_are_named_and_merged_ones_are_made_anew(tmp_path: Path) -> None:
    top = submit(tmp_path, 2)
    do(top, 0)
    with open_shard(top, 1) as recorder:
        write(recorder, [1])
        recorder.finish("completed")
    damaged = shards.shard_folder(top, 1) / "epochs.parquet"
    damaged.write_bytes(b"no")
    with pytest.raises(ResultsError, match=r"shards/0001/epochs.parquet: is cut off .*rebuild\(Path\('.*shards/0001'"):
        shards.merge(top)
    rebuild(damaged.parent)
    assert shards.merge(top)
    whole = rows(load(top))
    (top / "epochs.parquet").write_bytes(b"no")
    with pytest.raises(ResultsError, match="its shards can rebuild it"):
        load(top).arrow("epochs")
    rebuild(top)
    assert rows(load(top)) == whole


def test_a_run_in_shards_is_resumed_by_its_shards_alone(tmp_path: Path) -> None:
    top = submit(tmp_path, 2)
    with pytest.raises(ResultsError, match=r"is in 2 shards.*go on with it by `harness submit --again run`"):
        find_run(tmp_path, suite="suite", run="run")
    with pytest.raises(ResultsError, match=r"--shard 1/3: this run is in 2 shards; ask for --shard K/2"):
        find_run(tmp_path, suite="suite", run="run", shard=(1, 3))
    assert find_run(tmp_path, suite="suite", run="run", shard=(1, 2)) == top
    Recorder.reserve(tmp_path, suite="suite", run_id="other", info=INFO)
    with pytest.raises(ResultsError, match="is not in shards; leave --shard away"):
        find_run(tmp_path, suite="suite", run="other", shard=(1, 2))


def test_a_shard_whose_file_is_damaged_keeps_the_run_from_ending_and_is_named(tmp_path: Path) -> None:
    top = submit(tmp_path, 2)
    do(top, 0)
    do_not = shards.reserve(top, 1, trials=1, settings=1) / "run.json"
    do_not.write_text("{")
    assert [one.state for one in shards.standing(top)] == ["completed", "unreadable"]
    assert read_run(top)["state"] == "dead"
    assert not shards.merge(top)
    with pytest.raises(ResultsError, match=r"shards/0001/run.json: is damaged"):
        _ = load(top).trials
