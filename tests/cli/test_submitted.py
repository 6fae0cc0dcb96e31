"""Runs that were submitted, as `harness status` and `harness stop` tell of them beside what Slurm says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record.finished import INFO, finished
from slurm.fake import PENDING, PREEMPTED, REQUEUED, RUNNING, FakeSlurm

from harness.cli import stop as stopping
from harness.record import owner, shards, stop
from harness.record.recorder import Recorder
from harness.slurm import jobfile

Say = Callable[..., Any]
AGAIN = ["harness", "submit", "--again", "r"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm.on_path(tmp_path / "bin", monkeypatch)


def reserved(tmp_path: Path, *, run: str = "r", job: str = "12", array: str | None = None, **info: Any) -> Path:
    """Return the folder of a run that was submitted as job 12."""
    again = [*AGAIN[:-1], run]
    folder = Recorder.reserve(tmp_path / "results", suite="s", run_id=run, info=INFO | info, again=again)
    jobfile.add(folder, job_id=job, array=array)
    return folder


def begun(folder: Path, *, state: str | None = None, host: str | None = None) -> Recorder:
    """Have this process begin the run; it ends it with a `state`, or seems to be on another `host`, in job 12."""
    recorder = Recorder.resume(folder, suite_sha256=INFO["suite_sha256"])
    recorder.write(finished(0))
    recorder.flush()
    if state is not None:
        recorder.finish(state)
        recorder.__exit__(None, None, None)
    if host is not None:
        mine = json.loads((folder / owner.FILE).read_text())
        (folder / owner.FILE).write_text(json.dumps(mine | {"host": host, "slurm_job_id": "12"}))
    return recorder


# The list. ----------------------------------------------------------------------------------------------------


def test_a_list_with_submitted_runs_has_what_slurm_says_of_those_that_are_not_finished(
    tmp_path: Path, say: Say, fake: FakeSlurm
) -> None:
    reserved(tmp_path)
    begun(reserved(tmp_path, run="r2", job="13"))
    with Recorder.create(tmp_path / "results", suite="s", run_id="r3", info=INFO) as recorder:
        recorder.finish("completed")
    fake.knows(PENDING, RUNNING.replace("12|", "13|", 1))
    told = say("status", "--results", tmp_path / "results")
    assert (told.code, told.err) == (0, "")
    rows = [line.split()[:5] for line in told.out.splitlines()]
    assert ["suite", "run", "state", "slurm", "trials"] in rows
    assert ["s", "r", "submitted", "pending", "(Resources)"] in rows
    assert ["s", "r2", "running", "running", "1/3"] in rows
    assert len(fake.calls("squeue")) == 1
    document = {one["run"]: one for one in json.loads(say("status", "--results", tmp_path / "results", "--json").out)}
    assert document["r"]["slurm"]["jobs"][0]["reason"] == "Resources"
    assert document["r3"]["slurm"] is None


def test_a_list_without_submitted_runs_asks_nobody(tmp_path: Path, say: Say, fake: FakeSlurm) -> None:
    with Recorder.create(tmp_path / "results", suite="s", run_id="r3", info=INFO) as recorder:
        recorder.finish("completed")
    begun(reserved(tmp_path), state="completed")
    assert say("status", "--results", tmp_path / "results").code == 0
    assert fake.calls("squeue") == []


def test_a_slurm_that_is_gone_leaves_a_question_mark_and_the_reason(
    tmp_path: Path, say: Say, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(reserved(tmp_path), state="preempted")
    fake.says("squeue", err="squeue: error: Unable to contact slurm controller (connect failure)\n", code=1)
    told = say("status", "--results", tmp_path / "results")
    assert told.code == 0
    assert told.out.splitlines()[1].split()[:5] == ["s", "r", "preempted", "?", "1/3"]
    assert "slurm ?: Slurm's controller does not answer (Unable to contact" in told.out
    assert "go on with: harness submit --again r" in told.out
    monkeypatch.setenv("PATH", str(tmp_path))
    told = say("status", "r", "--results", tmp_path / "results")
    assert told.code == 0
    assert "Slurm:  ? (there is no Slurm here: squeue is not on the PATH" in told.out
    (tmp_path / "results/s/r/slurm/job.json").write_text("{")
    assert "is damaged" in say("status", "r", "--results", tmp_path / "results").out


# One run. -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slurm", "line"),
    [
        (PENDING, "Slurm:  job 12 PENDING (Resources)"),
        (REQUEUED, "Slurm:  job 12 PENDING (BeginTime)"),
        (PREEMPTED, "Slurm:  job 12 PREEMPTED: pending, Slurm starts it again"),
        (RUNNING, "Slurm:  job 12 RUNNING on n[1-3], 0:12 of 2:00:00"),
    ],
)
def test_a_run_that_slurm_starts_again_is_pending_and_nobody_is_to_go_on_with_it(
    tmp_path: Path, say: Say, fake: FakeSlurm, slurm: str, line: str
) -> None:
    folder = reserved(tmp_path)
    (folder / "slurm/job.log").touch()
    begun(folder, state="preempted")
    fake.knows(slurm)
    told = say("status", "r", "--results", tmp_path / "results").out
    coming = "Slurm has started it" if slurm == RUNNING else "Slurm starts it again"
    assert told.startswith(f"s  r: pending: {coming}\n")
    assert line in told.splitlines()
    assert f"Logs:   {folder}/slurm/job.log" in told.splitlines()
    assert "Go on" not in told
    assert "1 completed, 2 left" in told


def test_a_run_whose_driver_cannot_be_seen_from_here_is_what_slurm_says(
    tmp_path: Path, say: Say, fake: FakeSlurm
) -> None:
    begun(reserved(tmp_path), host="another")
    for slurm, state in (
        (RUNNING, "running"),
        (REQUEUED, "pending"),
        ("12|N/A|OUT_OF_MEMORY|9|0|0:12|2:00:00|OutOfMemory|n1", "dead"),
    ):
        fake.knows(slurm)
        told = say("status", "r", "--results", tmp_path / "results")
        assert told.out.startswith(f"s  r: {state}")
        assert ("Go on:  harness submit --again r" in told.out) is (state == "dead")
        document = json.loads(say("status", "r", "--results", tmp_path / "results", "--json").out)
        assert (document["state"], document["slurm"]["state"]) == ("running", state)
    assert "ask for more with --memory" in told.out


def test_a_job_that_was_taken_back_before_it_began_can_be_submitted_again(
    tmp_path: Path, say: Say, fake: FakeSlurm
) -> None:
    reserved(tmp_path)
    fake.knows("12|N/A|CANCELLED|0|0|0:00|2:00:00|None|")
    told = say("status", "r", "--results", tmp_path / "results").out
    assert "s  r: submitted\nSlurm:  job 12 CANCELLED: was cancelled" in told
    assert "Go on:  harness submit --again r" in told
    fake.knows()
    assert "job 12: not known to it any more" in say("status", "r", "--results", tmp_path / "results").out


def test_the_shards_of_an_array_that_have_something_left_are_listed(tmp_path: Path, say: Say, fake: FakeSlurm) -> None:
    folder = reserved(tmp_path, array="0-29", shards=30, trials=60)
    done = begun(shards.reserve(folder, 0, trials=2, settings=1))
    done.write(finished(30))
    done.finish("completed")
    done.__exit__(None, None, None)
    begun(shards.reserve(folder, 1, trials=2, settings=1))
    tasks = [f"12|{task}|PENDING|0|0|0:00|1:00|Priority|" for task in range(2, 30)]
    fake.knows("12|0|COMPLETED|0|0|0:01|1:00|None|n1", "12|1|RUNNING|0|0|0:01|1:00|None|n2", *tasks)
    told = say("status", "r", "--results", tmp_path / "results").out
    assert "Slurm:  array of 30 jobs: 28 pending (Priority), 1 completed, 1 running" in told.splitlines()
    rows = [line.split() for line in told.splitlines()]
    assert ["1", "running", "1/2", "running"] in rows
    assert ["2", "submitted", "0/2", "pending", "(Priority)"] in rows
    assert not any(row[:2] == ["0", "completed"] for row in rows)
    assert "… and 9 more shards that have not completed" in told


def test_tasks_that_were_cancelled_together_are_counted_each(tmp_path: Path, say: Say, fake: FakeSlurm) -> None:
    folder = reserved(tmp_path, array="0-3", shards=4, trials=4)
    jobfile.add(folder, job_id="13", array="2")
    fake.knows("12|0|FAILED|19200|0|0:01|1:00|NonZeroExitCode|n1", "12|N/A|CANCELLED|0|0|0:00|1:00|Resources|")
    told = say("status", "r", "--results", tmp_path / "results").out
    assert "Slurm:  array of 4 jobs: 2 cancelled, 1 failed, 1 not known any more" in told.splitlines()
    assert "Go on:  harness submit --again r" in told


# Stopping. ----------------------------------------------------------------------------------------------------


def test_a_job_that_waits_is_taken_back(tmp_path: Path, say: Say, fake: FakeSlurm) -> None:
    reserved(tmp_path)
    fake.knows(PENDING)
    told = say("stop", "r", "--results", tmp_path / "results")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(
        "r: cancelled job 12 (PENDING), which had not begun to run it; go on with: harness submit"
    )
    assert fake.calls("scancel") == ["12"]
    fake.knows()
    told = say("stop", "r", "--results", tmp_path / "results")
    assert told.code == 2
    assert "this run has not begun, and Slurm has no job of it: there is nothing to stop; go on with: " in told.err


def test_a_job_that_was_requeued_is_taken_back_although_its_driver_seems_to_live(
    tmp_path: Path, say: Say, fake: FakeSlurm
) -> None:
    folder = reserved(tmp_path)
    begun(folder, host="another")
    fake.knows(REQUEUED)
    assert "cancelled job 12" in say("stop", "r", "--results", tmp_path / "results").out
    assert fake.calls("scancel") == ["12"]
    assert not (folder / stop.FILE).exists()


def test_a_driver_that_runs_is_asked_and_its_job_left_to_end_by_itself(
    tmp_path: Path, say: Say, fake: FakeSlurm
) -> None:
    folder = reserved(tmp_path)
    begun(folder)
    fake.knows(RUNNING)
    told = say("stop", "r", "--results", tmp_path / "results", "--no-wait")
    assert told.code == 0
    assert f"asked process {os.getpid()} on" in told.out
    assert fake.calls("scancel") == []
    assert stop.asked(folder, attempt=1) is not None


def test_stopping_now_cancels_the_job_of_a_driver_that_does_not_end_in_time(
    tmp_path: Path, say: Say, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_UNTIL_CANCELLED_S", 0.3)
    folder = reserved(tmp_path)
    begun(folder)
    fake.knows(RUNNING)
    told = say("stop", "r", "--now", "--results", tmp_path / "results")
    assert told.code == 0
    request = stop.asked(folder, attempt=1)
    assert request is not None
    assert request.now
    assert fake.calls("scancel") == ["12"]
    assert "cancelled job 12, if it has not ended by itself" in told.out


def test_each_shard_that_runs_is_asked_and_what_waits_or_has_not_begun_is_cancelled(
    tmp_path: Path, say: Say, fake: FakeSlurm
) -> None:
    folder = reserved(tmp_path, array="0-4", shards=5, trials=5)
    for number in (0, 1):
        begun(shards.reserve(folder, number, trials=1, settings=1))
    running = [f"12|{task}|RUNNING|0|0|0:01|1:00|None|n1" for task in (0, 1, 4)]  # the last one's Ray still starts
    fake.knows(*running, "12|2|PENDING|0|0|0:00|1:00|Priority|", "12|3|PENDING|0|0|0:00|1:00|Priority|")
    told = say("stop", "r", "--results", tmp_path / "results", "--no-wait")
    assert (told.code, told.err) == (0, "")
    assert (
        "r: asked 2 shards to end: no further trial starts, those that run end first; cancelled what wait" in told.out
    )
    assert "cancelled job 12_4, which had not begun" in told.out
    assert fake.calls("scancel") == ["--state=PENDING 12", "12_4"]
    for number in (0, 1):
        assert stop.asked(shards.shard_folder(folder, number), attempt=1) is not None


def test_without_slurm_at_hand_the_driver_is_asked_all_the_same(
    tmp_path: Path, say: Say, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = reserved(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = say("stop", "r", "--results", tmp_path / "results")
    assert told.code == 2
    assert "this run has not begun; take its job back where Slurm is: scancel 12" in told.err
    begun(folder)
    told = say("stop", "r", "--results", tmp_path / "results", "--no-wait")
    assert told.code == 0
    assert "Slurm is not told: there is no Slurm here" in told.err
    assert stop.asked(folder, attempt=1) is not None
