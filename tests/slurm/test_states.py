"""What Slurm's states mean for a run, and what records and Slurm together come to."""

from __future__ import annotations

from typing import Any

import pytest

from harness.slurm import states
from harness.slurm.client import Job

ALL = {"completed": 12}


def job(state: str = "COMPLETED", **told: Any) -> Job:
    return Job(**{"id": "12", "task": None, "state": state} | told)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "NEW_IN_SLURM_99"])
def test_a_job_that_waits_or_runs_goes_on(state: str) -> None:
    assert states.going_on(state)
    assert states.meaning(job(state)).kind == "going on"


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REQUEUED", "REQUEUE_HOLD"])
def test_what_slurm_starts_again_is_pending_and_not_failed(state: str) -> None:
    assert states.going_on(state)
    assert states.waiting(job(state))
    told = states.verdict("dead", counts={"completed": 3}, pending=9, jobs=[job(state)])
    assert told.exit_code == 75
    assert "pending, not failed" in told.words


def test_what_the_accounting_alone_knows_as_preempted_does_not_start_again() -> None:
    gone = job("PREEMPTED", past=True)
    assert not states.waiting(gone)
    told = states.verdict("preempted", counts={"completed": 3}, pending=9, jobs=[gone])
    assert told.exit_code == 75
    assert "9 trials left: job 12 was preempted and did not start again (`harness submit --again`" in told.words


def test_all_is_well_only_where_the_records_and_slurm_agree() -> None:
    assert states.verdict("completed", counts=ALL, pending=0, jobs=[job()]).exit_code == 0
    assert states.verdict("completed", counts=ALL, pending=0, jobs=[job(), job(id="13")]).exit_code == 0
    for state in ("OUT_OF_MEMORY", "FAILED", "CANCELLED", "TIMEOUT"):
        told = states.verdict("completed", counts=ALL, pending=0, jobs=[job(state)])
        assert told.exit_code == 1
        assert "all trials are recorded, but Slurm says otherwise: job 12" in told.words
    told = states.verdict("preempted", counts={"completed": 1}, pending=11, jobs=[job()])
    assert told.exit_code == 75
    assert states.verdict("dead", counts=ALL, pending=0, jobs=[job()]).exit_code == 75


def test_a_job_that_slurm_has_forgotten_leaves_it_to_the_records_which_is_said() -> None:
    told = states.verdict("completed", counts=ALL, pending=0, jobs=[])
    assert (told.exit_code, told.words) == (0, "completed by its records; Slurm does not know its job any more")
    assert states.verdict("dead", counts={}, pending=12, jobs=[]).exit_code == 75
    told = states.verdict("completed", counts=ALL, pending=0, jobs=[job("RUNNING")], silent=True)
    assert (told.exit_code, told.words) == (0, "completed by its records; Slurm does not answer")


def test_a_job_that_failed_because_trials_did_is_no_contradiction() -> None:
    counts = {"completed": 11, "failed": 1}
    told = states.verdict("completed", counts=counts, pending=0, jobs=[job("FAILED", exit_code=1, signal=0)])
    assert (told.exit_code, told.words) == (1, "1 trial did not complete")
    stopped = job("FAILED", exit_code=75, signal=0)
    told = states.verdict("preempted", counts={"completed": 11}, pending=1, jobs=[stopped])
    assert (told.exit_code, told.words) == (75, "1 trial left")
    told = states.verdict("failed", counts={"failed": 5}, pending=7, jobs=[job("FAILED", exit_code=1, signal=0)])
    assert told.exit_code == 1


def test_a_job_killed_for_memory_is_told_so_with_the_way_out() -> None:
    for killed in (job("OUT_OF_MEMORY"), job("FAILED", exit_code=0, signal=9)):
        told = states.verdict("dead", counts={"completed": 2}, pending=10, jobs=[killed])
        assert told.exit_code == 1
        assert "want of memory" in told.words
        assert "ask for more with --memory" in told.words
    assert "(signal 9), for want of memory as it seems" in told.words


def test_what_ended_with_something_left_can_go_on() -> None:
    for state in ("TIMEOUT", "CANCELLED", "DEADLINE"):
        told = states.verdict("dead", counts={"completed": 2}, pending=10, jobs=[job(state)])
        assert told.exit_code == 75
        assert "10 trials left: job 12 " in told.words
        assert "`harness submit --again` goes on" in told.words
    many = [job("TIMEOUT", id=f"12_{task}") for task in range(5)]
    told = states.verdict("dead", counts={}, pending=10, jobs=many)
    assert "jobs 12_0, 12_1, 12_2 and 2 more: each has used up its time" in told.words


def test_a_job_that_ended_before_its_run_began_is_a_wrong_request_unless_it_was_cancelled() -> None:
    told = states.verdict("submitted", counts={}, pending=12, jobs=[job("FAILED", exit_code=2, signal=0)])
    assert told.exit_code == 2
    assert "before the run began: job 12 has failed with exit code 2" in told.words
    assert states.verdict("submitted", counts={}, pending=12, jobs=[job()]).exit_code == 2
    assert states.verdict("submitted", counts={}, pending=12, jobs=[job("CANCELLED")]).exit_code == 75
    refused = [job("FAILED", exit_code=2, signal=0)]
    assert states.verdict("failed", counts={}, pending=12, jobs=refused).exit_code == 2


def test_a_job_is_told_in_a_line() -> None:
    running = job("RUNNING", nodes="n[1-3]", used="0:12", limit="2:00:00")
    assert states.told(running) == "job 12 RUNNING on n[1-3], 0:12 of 2:00:00"
    assert states.told(job("PENDING", reason="Resources", used="0:00")) == "job 12 PENDING (Resources)"
    assert states.told(job("PREEMPTED", nodes="n1")) == "job 12 PREEMPTED: pending, Slurm starts it again"
    assert states.told(job("REQUEUE_HOLD")) == "job 12 REQUEUE_HOLD: is held before it starts again"
    assert states.told(job()) == "job 12 COMPLETED"
    left = job("FAILED", exit_code=75, signal=0)
    assert states.told(left) == "job 12 FAILED: has ended with something left"
    assert states.told(job("FAILED", exit_code=3, signal=0)) == "job 12 FAILED: has failed with exit code 3"
