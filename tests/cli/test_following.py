"""A job followed to its end by `harness submit --wait`: what is said meanwhile, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from record.finished import INFO, finished

from harness.record.recorder import Recorder
from harness.slurm import jobfile
from harness.slurm.client import Job
from harness.terminal import jobs
from harness.terminal.jobs import Queued
from harness.terminal.slurm import Seen, follow

PENDING = Job(id="12", task=None, state="PENDING", reason="Resources")
AGAIN = Job(id="12", task=None, state="PENDING", reason="BeginTime", restarts=1)
RUNNING = Job(id="12", task=None, state="RUNNING", nodes="n[1-3]", used="0:12", limit="2:00:00")
PREEMPTED = Job(id="12", task=None, state="PREEMPTED")
COMPLETED = Job(id="12", task=None, state="COMPLETED", exit_code=0, signal=0)
FAILED = Job(id="12", task=None, state="FAILED", exit_code=2, signal=0)
SILENT = "Slurm's controller does not answer (DOWN)"


def submitted(tmp_path: Path, *, trials: int = 1, state: str | None = None) -> Path:
    """Return the folder of a run that was submitted as job 12; ended with a `state`, it has a trial."""
    again = ["harness", "submit", "--again", "r"]
    folder = Recorder.reserve(tmp_path, suite="s", run_id="r", info=INFO | {"trials": trials}, again=again)
    jobfile.add(folder, job_id="12")
    if state is not None:
        with Recorder.resume(folder, suite_sha256=INFO["suite_sha256"]) as recorder:
            recorder.write(finished(0))
            recorder.finish(state)
    return folder


class Slurm:
    """Says of job 12 one thing after another, and the last one for ever."""

    def __init__(self, *said: Job | str | None) -> None:
        self._said = list(said)

    def __call__(self, folder: Path) -> Queued:
        now = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        file = jobfile.read(folder)
        assert file is not None
        if isinstance(now, str):
            return Queued(file=file, known={}, why=now)
        return Queued(file=file, known={} if now is None else {now.id: now})


def files(*seen: Seen) -> Iterator[Seen]:
    yield from seen
    while True:
        yield seen[-1]


def at(state: str, done: int, *, of: int = 1) -> Seen:
    return Seen(state=state, counts={"completed": done} if done else {}, total=of)


def ends_with(folder: Path, slurm: Slurm, seen: Iterable[Seen], *, as_json: bool = False) -> tuple[int, int]:
    """Return the exit code and how often it was waited."""
    pauses: list[float] = []
    one = iter(seen)
    code = follow(folder, as_json=as_json, ask=slurm, look=lambda _: next(one), pause=pauses.append)
    return code, len(pauses)


def test_a_job_that_waits_starts_is_requeued_and_ends_well_is_told_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path, state="completed")
    waits: Sequence[Seen] = [at("submitted", 0)] * 11
    runs: Sequence[Seen] = [at("running", 0, of=1)] * 5
    slurm = Slurm(PENDING, PENDING, RUNNING, PREEMPTED, AGAIN, RUNNING, COMPLETED)
    code, _ = ends_with(folder, slurm, files(*waits, *runs, at("completed", 1)))
    told = capsys.readouterr().out
    assert code == 0
    lines = told.splitlines()
    assert lines[:7] == [
        "pending  job 12 PENDING (Resources)",
        "started  job 12 RUNNING on n[1-3]",
        "0/1 trials",
        "again    job 12 PREEMPTED: pending, Slurm starts it again",
        "again    job 12 PENDING (BeginTime) (it was started before, and goes on where it ended)",
        "started  job 12 RUNNING on n[1-3]",
        "ended    job 12 COMPLETED",
    ]
    assert "best val_accuracy" in told  # the summary's table
    assert "Trials: 1 completed\nr: completed\n" in told


def test_records_that_are_whole_do_not_hide_that_slurm_killed_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path, state="completed")
    killed = Job(id="12", task=None, state="OUT_OF_MEMORY", exit_code=0, signal=9)
    code, _ = ends_with(folder, Slurm(killed), files(at("completed", 1)))
    assert code == 1
    assert "all trials are recorded, but Slurm says otherwise: job 12 was killed for want" in capsys.readouterr().out


def test_a_run_that_has_something_left_ends_with_75_and_says_how_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path, trials=3, state="preempted")
    cancelled = Job(id="12", task=None, state="CANCELLED")
    code, _ = ends_with(folder, Slurm(RUNNING, cancelled), files(at("preempted", 1, of=3)))
    told = capsys.readouterr().out
    assert code == 75
    assert "2 trials left: job 12 was cancelled" in told
    assert told.rstrip().endswith("Go on:  harness submit --again r")


def test_a_job_that_slurm_leaves_preempted_is_given_up_after_a_while(tmp_path: Path) -> None:
    folder = submitted(tmp_path, trials=3, state="preempted")
    code, pauses = ends_with(folder, Slurm(RUNNING, PREEMPTED), files(at("preempted", 1, of=3)))
    assert code == 75
    assert 60 <= pauses <= 70


def test_a_job_that_ended_before_its_run_began_shows_the_end_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path)
    log = folder / "slurm/job.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)) + "module load failed on n1\x1b[2J\n")
    code, _ = ends_with(folder, Slurm(PENDING, FAILED), files(at("submitted", 0)))
    told = capsys.readouterr().err
    assert code == 2
    assert "the job ended before the run began: job 12 has failed with exit code 2" in told
    assert f"{log} ends with:\n    line 11\n" in told
    assert "    module load failed on n1?[2J\n" in told


def test_a_job_that_wrote_nothing_has_probably_not_seen_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path)
    assert ends_with(folder, Slurm(FAILED), files(at("submitted", 0)))[0] == 2
    assert "probably the nodes do not see this folder; put the results where all of them do" in capsys.readouterr().err


def test_a_slurm_that_falls_silent_is_said_once_and_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path, state="completed")
    code, _ = ends_with(
        folder, Slurm(SILENT, RUNNING, SILENT, SILENT, COMPLETED), files(*[at("running", 0)] * 20, at("completed", 1))
    )
    told = capsys.readouterr().out
    assert code == 0
    assert told.count("Slurm is silent") == 2
    assert "r: completed\n" in told


def test_where_slurm_stays_silent_the_records_decide_which_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path, state="completed")
    code, _ = ends_with(folder, Slurm(RUNNING, SILENT), files(*[at("running", 0)] * 50, at("completed", 1)))
    assert code == 0
    assert "completed by its records; Slurm does not answer" in capsys.readouterr().out


def test_files_that_lag_behind_slurm_are_waited_for(tmp_path: Path) -> None:
    folder = submitted(tmp_path, state="completed")
    assert ends_with(folder, Slurm(COMPLETED), files(*[at("running", 0)] * 10, at("completed", 1)))[0] == 0


def test_json_has_the_verdict_and_the_summary_and_lines_go_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submitted(tmp_path, state="completed")
    assert ends_with(folder, Slurm(RUNNING, COMPLETED), files(at("completed", 1)), as_json=True)[0] == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert (document["exit_code"], document["verdict"], document["counts"]) == (0, "completed", {"completed": 1})
    assert document["slurm"]["jobs"][0]["state"] == "COMPLETED"
    assert len(document["settings"]) == 1
    assert "started  job 12 RUNNING on n[1-3]" in told.err


def test_who_leaves_is_told_that_the_job_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = submitted(tmp_path)

    def leave(_: float) -> None:
        raise KeyboardInterrupt

    assert follow(folder, as_json=False, ask=Slurm(PENDING), pause=leave) == 130
    assert f"the job goes on: `harness status {folder}` says how far it is" in capsys.readouterr().err


def test_an_array_is_told_by_the_counts_of_its_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = submitted(tmp_path, state="completed")
    jobfile.write(folder, jobfile.JobFile())
    jobfile.add(folder, job_id="12", array="0-2")
    states = iter([("RUNNING", "PENDING", "PENDING"), ("COMPLETED", "COMPLETED", "COMPLETED")])

    def known(_: Iterable[str]) -> dict[str, Job]:
        return {f"12_{task}": Job(id=f"12_{task}", task=task, state=state) for task, state in enumerate(next(states))}

    code = follow(
        folder, as_json=False, ask=lambda run: jobs.ask([run], by=known)[run], look=lambda _: at("completed", 1),
        pause=lambda _: None,
    )  # fmt: skip
    assert code == 0
    told = capsys.readouterr().out
    assert told.splitlines()[:2] == ["jobs     2 pending, 1 running", "jobs     3 completed"]
