from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from record.finished import INFO, finished

from harness.answer.gather import find_run as latest
from harness.domain.errors import ResultsError
from harness.record.owner import FILE, Owner, acquire
from harness.record.reading import load
from harness.record.recorder import Recorder
from harness.record.runs import find_run, list_runs, read_run, read_run_file

SHA = INFO["suite_sha256"]
AGAIN = ["harness", "submit", "--again", "run", "--results", "the results"]


def reserve(results: Path, **info: Any) -> Path:
    return Recorder.reserve(results, suite="suite", run_id="run", info=INFO | info, again=AGAIN)


def begin(folder: Path, **options: Any) -> Recorder:
    return Recorder.resume(folder, suite_sha256=options.pop("suite_sha256", SHA), **options)


def test_a_run_that_was_submitted_has_no_start_no_owner_and_no_trials(tmp_path: Path) -> None:
    folder = reserve(tmp_path)
    assert {path.name for path in folder.iterdir()} == {"run.json"}
    (one,) = list_runs(tmp_path)
    assert (one.state, one.counts, one.planned, one.started_at, one.owner) == ("submitted", {}, 3, None, None)
    assert one.submitted_at is not None
    assert one.hint is None
    results = load(tmp_path)
    assert results.runs[0]["state"] == "submitted"
    assert [len(frame) for frame in (results.trials, results.epochs, results.telemetry, results.nodes)] == [0, 0, 0, 0]


def test_a_run_that_was_submitted_does_not_hide_those_that_have_begun(tmp_path: Path) -> None:
    with Recorder.create(tmp_path, suite="suite", run_id="other", info=INFO) as recorder:
        recorder.write(finished(0))
        recorder.finish("preempted")
    reserve(tmp_path)
    assert load(tmp_path).trials["run_id"].tolist() == ["other"]
    assert [one.run_id for one in list_runs(tmp_path)] == ["other", "run"]
    assert latest(None, tmp_path).name == "other"
    assert latest("suite", tmp_path).name == "run"
    assert find_run(tmp_path, suite="suite").name == "other"  # what waits in a queue is begun by its name alone
    assert find_run(tmp_path, suite="suite", run="run").name == "run"


def test_resuming_a_submitted_run_begins_it(tmp_path: Path) -> None:
    with begin(reserve(tmp_path)) as recorder:
        assert read_run(recorder.folder)["state"] == "running"
        recorder.write(finished(0))
        recorder.finish("preempted")
    content = read_run_file(recorder.folder)
    assert [one["attempt"] for one in content["attempts"]] == [1]
    assert content["started_at"] >= content["submitted_at"]
    (one,) = list_runs(tmp_path)
    assert one.hint == "go on with: harness submit --again run --results 'the results'"


def test_a_name_that_is_taken_is_refused_with_the_way_out(tmp_path: Path) -> None:
    reserve(tmp_path)
    with pytest.raises(ResultsError, match="exists already; go on with it by --resume --run run, or give the new one"):
        reserve(tmp_path)
    with pytest.raises(ResultsError, match="exists already"):
        Recorder.create(tmp_path, suite="suite", run_id="run", info=INFO)


def test_a_suite_that_was_edited_since_it_was_submitted_is_refused(tmp_path: Path) -> None:
    folder = reserve(tmp_path)
    with pytest.raises(ResultsError, match=r"has changed since this run was submitted .*; or submit it anew"):
        begin(folder, suite_sha256="b" * 64)
    begin(folder, suite_sha256="b" * 64, force=True).close()


def test_a_submitted_run_that_cannot_begin_keeps_its_folder_and_says_why(tmp_path: Path) -> None:
    folder = reserve(tmp_path)
    (folder / "slurm").mkdir()
    with begin(folder) as recorder:
        recorder.discard_if_empty("the dataset is not there")
    content = read_run(folder)
    assert (content["state"], content["wrong"], content["pending"]) == ("failed", "the dataset is not there", 3)
    assert (folder / "slurm").is_dir()
    assert len(load(folder).trials) == 0
    (one,) = list_runs(tmp_path)
    assert one.hint == "go on with: harness submit --again run --results 'the results'"
    with begin(folder) as recorder:
        recorder.write(finished(0))
        recorder.finish("completed")
    assert "wrong" not in read_run(folder)


# Starts of one Slurm job. ---------------------------------------------------------------------------------------


_HOLD = (
    "import sys; from pathlib import Path; from harness.record.owner import acquire\n"
    "held = acquire(Path(sys.argv[1]), attempt=1); print('held', flush=True); sys.stdin.readline()\n"
    "try: held.check(); print('still its owner')\n"
    "except Exception as error: print(error)"
)


def test_a_later_start_of_the_same_slurm_job_fences_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = os.environ | {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=job
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        for restart in ("", "0", "1"):
            monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
            with pytest.raises(ResultsError, match=r"Slurm job 17.*still running"):
                acquire(tmp_path, attempt=2)
        monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
        second = acquire(tmp_path, attempt=2)
        said, _ = first.communicate("go on\n")
        assert "this run now belongs to process" in said
    second.check()
    second.release()


def test_a_start_on_a_host_that_cannot_be_asked_is_fenced_and_that_of_another_job_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    left = replace(Owner.here(attempt=1), host="node9", slurm_restart=2)
    (tmp_path / FILE).write_text(json.dumps(asdict(left)))
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    with pytest.raises(ResultsError, match="node9"):
        acquire(tmp_path, attempt=2)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    acquire(tmp_path, attempt=2).release()


def test_an_owner_file_of_an_earlier_harness_is_read(tmp_path: Path) -> None:
    plain = asdict(Owner.here(attempt=1))
    del plain["slurm_restart"]
    (tmp_path / FILE).write_text(json.dumps(plain | {"host": "node9"}))
    with pytest.raises(ResultsError, match="node9"):
        acquire(tmp_path, attempt=2)


def test_an_attempt_says_which_start_of_its_job_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with begin(reserve(tmp_path)) as recorder:
        (attempt,) = recorder.info["attempts"]
    assert (attempt["slurm_job_id"], attempt["slurm_restart"]) == ("17", 2)
