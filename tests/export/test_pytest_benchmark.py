from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.recorded import EXAMPLE, diverged, hostile, record
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark import cli
from pytest_benchmark.stats import Stats
from record.finished import epoch, finished

import harness
from harness.answer.export import export
from harness.domain.errors import ResultsError
from harness.export.pytest_benchmark import statistics


def exported(folder: Path, *runs: Path, **words: Any) -> dict[str, Any]:
    path = folder / f"{len(list(folder.glob('*.json')))}.json"
    export([str(run) for run in runs], to="pytest-benchmark", output=path, **words)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    document: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return document


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=40))
def test_the_statistics_are_those_of_pytest_benchmark(data: list[float]) -> None:
    theirs = Stats()
    theirs.data = list(data)
    found, expected = statistics(data), theirs.as_dict()
    counted = {"outliers", "iqr_outliers", "stddev_outliers", "ld15iqr", "hd15iqr"}  # a rounding moves a fence
    assert set(found) == set(expected) | {"data", "iterations"}
    for name in set(expected) - counted:
        assert found[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name
    assert found["outliers"] == f"{found['stddev_outliers']};{found['iqr_outliers']}"


@pytest.mark.parametrize("count", range(1, 14))
def test_outliers_are_counted_as_pytest_benchmark_counts_them(count: int) -> None:
    theirs = Stats()
    theirs.data = np.random.default_rng(count).lognormal(sigma=2, size=count).tolist()
    found, expected = statistics(theirs.data), theirs.as_dict()
    for name in ("outliers", "iqr_outliers", "stddev_outliers", "ld15iqr", "hd15iqr"):
        assert found[name] == expected[name], name


def test_a_benchmark_is_a_setting_and_a_round_an_epoch_that_is_no_warm_up(tmp_path: Path) -> None:
    document = exported(tmp_path, EXAMPLE)
    assert len(document["benchmarks"]) == 4
    results = harness.load(EXAMPLE)
    trials, epochs = results.trials, results.epochs
    found = next(one for one in document["benchmarks"] if one["params"] == {"batch_size": 32})
    ids = trials.loc[trials["batch_size"] == 32, "trial_id"]
    steady = epochs[epochs["trial_id"].isin(ids) & ~epochs["warmup"]]
    assert sorted(found["stats"]["data"]) == sorted(steady["train_s"])
    assert found["stats"]["median"] == pytest.approx(np.median(steady["train_s"].to_numpy(dtype=float)))
    assert (found["group"], found["param"]) == ("batch_size", "32")
    assert found["name"] == "batch_size[batch_size=32]"
    extra = found["extra_info"]
    assert set(extra["trial_ids"]) == set(ids)
    assert (extra["target"], extra["reached"]) == ("val_accuracy ≥ 0.9", 3)
    assert len(extra["time_to_target_s"]) == len(extra["best_val_accuracy"]) == 3
    assert document["machine_info"]["processor"] == results.nodes["cpu_model"].iloc[0]
    assert document["datetime"] == results.runs[0]["started_at"]


def test_a_miss_is_null_and_the_commit_is_that_of_the_run(tmp_path: Path) -> None:
    target = {"metric": "val_accuracy", "at_least": 0.95, "at_most": None}
    run = record(tmp_path, finished(0), suite="s", target=target, axes={"batch_size": [32]})
    content = json.loads((run / "run.json").read_text())
    content["attempts"][0]["suite_git"] = {"commit": "f" * 40, "branch": "main", "dirty": True}
    (run / "run.json").write_text(json.dumps(content))
    document = exported(tmp_path, run)
    (found,) = document["benchmarks"]
    assert (found["extra_info"]["reached"], found["extra_info"]["time_to_target_s"]) == (0, [None])
    assert document["commit_info"] == {
        "id": "f" * 40, "time": None, "author_time": None, "dirty": True, "project": "s", "branch": "main",
    }  # fmt: skip


def test_settings_and_arms_that_share_a_place_in_the_grid_have_names_of_their_own(tmp_path: Path) -> None:
    trials = [finished(0, batch_size=size, axes=()) for size in (16, 32)]
    document = exported(tmp_path, record(tmp_path, *trials, suite="s"))
    names = [one["name"] for one in document["benchmarks"]]
    assert len(set(names)) == 2
    assert all(one["extra_info"]["setting_id"] in one["name"] for one in document["benchmarks"])


def test_a_setting_that_only_warmed_up_is_told_by_its_warm_up(tmp_path: Path) -> None:
    run = record(tmp_path, finished(0, epochs=[epoch(1)]), axes={"batch_size": [32]})
    (found,) = exported(tmp_path, run)["benchmarks"]
    assert found["stats"]["data"] == [0.125]


def test_a_run_without_a_timed_epoch_is_refused(tmp_path: Path) -> None:
    run = hostile(tmp_path / "results")
    with pytest.raises(ResultsError, match="no completed trial has a timed epoch"):
        exported(tmp_path, run)
    assert not list(tmp_path.glob("*.json"))


def test_pytest_benchmark_compares_two_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(tmp_path, EXAMPLE)
    exported(tmp_path, EXAMPLE, where=["seed == 0"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "compare", "0.json", "1.json"])
    cli.main()
    told = capsys.readouterr()
    assert "Failed to load" not in told.err
    assert "benchmark 'batch_size': 8 tests" in told.out
    assert told.out.count("batch_size[batch_size=128]") == 2


def test_pytest_benchmark_sets_two_exports_side_by_side_and_groups_by_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(tmp_path, EXAMPLE)
    exported(tmp_path, EXAMPLE, where=["seed == 0"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "compare", "0.json", "1.json", "--between", "median"])
    cli.main()
    assert "ERROR" not in (told := capsys.readouterr().out)
    assert told.count("batch_size[batch_size=16]") == 1
    monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "compare", "0.json", "--group-by", "param:batch_size"])
    cli.main()
    assert "benchmark 'batch_size=64': 1 tests" in capsys.readouterr().out


def test_pytest_takes_an_export_to_compare_with(tmp_path: Path) -> None:
    exported(tmp_path, diverged(tmp_path / "results"))
    (tmp_path / "test_one.py").write_text("def test_one(benchmark):\n    benchmark(lambda: None)\n")
    words = ["-p", "no:cacheprovider", "--benchmark-max-time=0.01", "--benchmark-compare=0.json", "test_one.py"]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    assert said.returncode == 0, said.stdout
    assert "Comparing against benchmarks from: 0.json" in said.stdout + said.stderr
    assert "Failed to load" not in said.stdout + said.stderr
