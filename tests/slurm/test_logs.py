"""What Slurm writes into the nodes' logs, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.slurm import logs, states
from harness.slurm.client import Job

LINES = {
    "0: slurmstepd-n1: error: StepId=1.0 exceeded memory limit (1446810624 > 1258291200), being killed": (
        "exceeded memory limit (1446810624 > 1258291200), being killed"
    ),
    "slurmstepd: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed.": (
        "Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed."
    ),
    "slurmstepd: error: Detected 2 oom-kill event(s) in StepId=12.0.": "Detected 2 oom-kill event(s) in StepId=12.0.",
    "0: harness: node n1: its Ray ended with exit code 1": "",
}


@pytest.mark.parametrize(("line", "told"), LINES.items())
@pytest.mark.parametrize("name", ["nodes.log", "nodes-3.log"])
def test_a_job_that_took_too_much_memory_is_known_by_what_slurm_wrote(
    tmp_path: Path, name: str, line: str, told: str
) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / name).write_text(f"0: Ray runtime started.\n{line}\nsrun: error: n1: task 0: Killed\n")
    assert logs.out_of_memory(tmp_path) == told


def test_what_was_written_of_the_start_before_does_not_count(tmp_path: Path) -> None:
    assert logs.out_of_memory(tmp_path) == ""
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/nodes.log.before").write_text(next(iter(LINES)))
    assert logs.out_of_memory(tmp_path) == ""


def test_only_of_a_job_that_ended_badly_and_whose_state_does_not_tell_is_it_said() -> None:
    failed, killed = (Job(id="12", task=None, state=state, exit_code=1) for state in ("FAILED", "OUT_OF_MEMORY"))
    assert "killed for want of memory (Slurm: x); ask for more" in states.for_want_of_memory([failed], "x")
    for job, said in ((failed, ""), (killed, "x"), (Job(id="12", task=None, state="COMPLETED"), "x")):
        assert states.for_want_of_memory([job], said) == ""


@pytest.mark.parametrize(
    ("reason", "way_out"),
    [
        ("PartitionNodeLimit", "--nodes"),
        ("QOSMaxNodePerJobLimit", "--nodes"),
        ("PartitionTimeLimit", "--time"),
        ("AssocMaxWallDurationPerJobLimit", "--time"),
        ("PartitionConfig", "for another"),
        ("InvalidAccount", "--account"),
        ("PartitionDown", "--partition"),
        ("JobHeldUser", "scontrol release"),
        ("launch_failed_requeued_held", "scontrol release"),
        ("QOSMaxCpuPerJobLimit", "ask for less"),
        ("QOSMinNode", "ask for more"),
        ("AssocGrpCPUMinutesLimit", "--account"),
        ("DependencyNeverSatisfied", "Dependency="),
        ("ReqNodeNotAvail, UnavailableNodes:n4", "sinfo --list-reasons"),
    ],
)
def test_a_job_that_waits_for_what_does_not_come_is_said_to_with_the_way_out(reason: str, way_out: str) -> None:
    told = states.stuck(Job(id="12", task=None, state="PENDING", reason=reason))
    assert told.startswith("it does not start as things are: ")
    assert way_out in told


@pytest.mark.parametrize(
    "reason",
    ["", "Resources", "Priority", "BeginTime", "QOSMaxNodePerUserLimit", "AssocGrpCPURunMinutesLimit", "Dependency"],
)
def test_a_job_that_has_only_to_wait_is_left_in_peace(reason: str) -> None:
    assert states.meaning(Job(id="12", task=None, state="PENDING", reason=reason)).way_out == ""
    assert states.stuck(Job(id="12", task=None, state="RUNNING", reason="PartitionNodeLimit")) == ""


def test_a_job_whose_log_could_not_be_opened_points_to_the_results_folder() -> None:
    told = states.told(Job(id="12", task=None, state="FAILED", exit_code=0, signal=53))
    assert told == "job 12 FAILED: could not open its log on the node"
    assert "--results" in states.meaning(Job(id="12", task=None, state="FAILED", exit_code=0, signal=53)).way_out
