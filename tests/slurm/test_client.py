"""Slurm's commands: how they are called, what their answers and their refusals become."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from slurm.daemons import Slurm
from slurm.fake import PENDING, RUNNING, FakeSlurm

from harness.domain.errors import SetupError
from harness.slurm import client
from harness.slurm.client import Job


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.sh"
    path.write_text('#!/bin/bash\n#SBATCH --job-name="a b"\n#SBATCH --partition="mian"\nsleep 100\n')
    return path


# Is there a Slurm? --------------------------------------------------------------------------------------------


def test_a_machine_without_slurm_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"there is no Slurm here: sbatch is not on the PATH.*`harness run`"):
        client.expect_slurm()
    with pytest.raises(SetupError, match="there is no Slurm here: squeue is not on the PATH"):
        client.jobs(["12"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "Slurmctld(primary) at c is DOWN\n***\n** RESTORE SLURMCTLD **\n***",
            r"does not answer \(Slurmctld.*DOWN; RES",
        ),
        ("scontrol: fatal: Unable to process configuration file", "no configuration .* SLURM_CONF"),
    ],
)
def test_a_slurm_that_is_down_or_not_set_up_is_refused_in_its_words(fake: FakeSlurm, words: str, told: str) -> None:
    client.expect_slurm()
    fake.says("scontrol", err=words, code=1)
    with pytest.raises(SetupError, match=told):
        client.expect_slurm()


def test_a_silent_controller_is_given_up_on(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.hangs("squeue")
    with pytest.raises(SetupError, match=r"does not answer \(squeue took longer than 0 s\)"):
        client.jobs(["12"], timeout_s=0.2)
    monkeypatch.setattr(client, "_ANSWER_S", 0.2)
    fake.hangs("scontrol")
    with pytest.raises(SetupError, match="scontrol took longer"):
        client.expect_slurm()


# Submitting. --------------------------------------------------------------------------------------------------


def test_sbatch_gives_the_jobs_number_without_the_clusters_name(
    fake: FakeSlurm, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.says("sbatch", "Welcome!\n--> 5 hours are left of 100\n12;big\n")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")  # which the job is to have as well
    assert client.sbatch(script, cwd=tmp_path, array="0-9%2") == "12"
    assert fake.calls("sbatch") == [f"--parsable --array=0-9%2 {script}"]
    seen = fake.environment("sbatch")
    assert (seen["PWD"], seen["SBATCH_ACCOUNT"], seen["LC_ALL"]) == (str(tmp_path), "mine", "C.UTF-8")
    assert not {"SBATCH_WAIT", "SBATCH_PARTITION"} & set(seen)  # the script names its partition


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "invalid partition specified: mian",
            r"invalid partition specified: mian; did you mean 'main'\? there are main, u",
        ),
        ("Invalid account or account/partition combination specified", "--account .*sacctmgr show associations"),
        ("Invalid qos specification", "--qos .*sacctmgr show qos"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "less with --time"),
        ("Job violates accounting/QOS policy (job submit limit, ...)", "fewer of your jobs"),
        ("Requested node configuration is not available", "no node has what is asked for: .*--gpus-per-node"),
        ("Node count specification invalid", "fewer with --nodes"),
        ("Invalid feature specification", "--constraint"),
        ("Requested reservation is invalid", "--reservation"),
        ("Invalid job array specification", "MaxArraySize"),
        ("User's group not permitted to use this partition", "the right to"),
        ("Required partition not available (inactive or drain)", "it is closed: wait"),
        ("Invalid license specification", "scontrol show licenses"),
        ("something new", "Slurm refuses the job: something new; change what"),
        ("Unable to contact slurm controller (connect failure)", "controller does not answer"),
        ("Socket timed out on send/recv operation", "may have been submitted all the same. `squeue --me --name='a b'`"),
    ],
)
def test_a_refusal_is_in_slurms_words_with_the_way_out(fake: FakeSlurm, script: Path, words: str, told: str) -> None:
    fake.says("sbatch", err=f"sbatch: error: {words}\n", code=1)
    with pytest.raises(SetupError, match=told) as refused:
        client.sbatch(script, cwd=script.parent)
    assert "sbatch: error" not in str(refused.value)


def test_an_sbatch_that_does_not_answer_may_have_submitted_the_job(
    fake: FakeSlurm, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_SUBMIT_S", 0.2)
    fake.hangs("sbatch")
    with pytest.raises(SetupError, match=r"may have been submitted all the same. `squeue --me --name='a b'` shows"):
        client.sbatch(script, cwd=script.parent)


PARTITIONS = """\
PartitionName=main Default=YES MaxNodes=UNLIMITED TotalNodes=4
PartitionName=big Default=NO MaxNodes=UNLIMITED TotalNodes=9
"""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("", "asks for 7 nodes, and partition main has 4 nodes: ask for fewer with --nodes"),
        ("#SBATCH --partition=main\n", "partition main has 4 nodes"),
        ("#SBATCH --partition=main,big\n", ""),
        ("#SBATCH --partition=main,hidden\n", ""),
    ],
)
def test_more_nodes_than_a_partition_has_are_refused_before_slurm_takes_the_job_for_ever(
    fake: FakeSlurm, script: Path, asked: str, told: str
) -> None:
    fake.says("scontrol", f"{PARTITIONS}JobSubmitPlugins        = (null)\n")
    script.write_text(f"#!/bin/bash\n{asked}#SBATCH --nodes=7\n")
    if not told:
        assert client.sbatch(script, cwd=script.parent) == "12"
        return
    with pytest.raises(SetupError, match=told):
        client.sbatch(script, cwd=script.parent)
    for config in ("MaxNodeCount            = 64", "JobSubmitPlugins        = lua"):  # nodes may join, or it is moved
        fake.says("scontrol", f"{PARTITIONS}{config}\n")
        assert client.sbatch(script, cwd=script.parent) == "12"


# Asking. ------------------------------------------------------------------------------------------------------


def test_one_question_tells_of_all_jobs_and_of_each_task(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    tasks = ["13|0|FAILED|768|0|0:01|1:00|NonZeroExitCode|n1", "13|1|FAILED|9|2|0:01|1:00|None|n2"]
    fake.knows(PENDING, *tasks, "a line | of | something")
    found = client.jobs(["12", "13"])
    assert found["12"] == Job(
        id="12", task=None, state="PENDING", reason="Resources", exit_code=0, signal=0, used="0:00", limit="2:00:00",
        restarts=0,
    )  # fmt: skip
    assert (found["13_0"].exit_code, found["13_0"].signal, found["13_0"].reason) == (3, 0, "NonZeroExitCode")
    assert (found["13_1"].exit_code, found["13_1"].signal, found["13_1"].restarts) == (0, 9, 2)
    assert len(fake.calls("squeue")) == 1
    assert "--jobs=12,13" in fake.calls("squeue")[0]
    assert fake.calls("sacct") == []
    assert "SQUEUE_STATES" not in fake.environment("squeue")
    assert client.jobs([]) == {}


def test_the_accounting_is_asked_for_what_squeue_has_forgotten(fake: FakeSlurm) -> None:
    fake.knows(RUNNING)
    assert set(client.jobs(["12", "11"])) == {"12"}  # there is none
    fake.says("sacct", "11|CANCELLED by 1000|0:15|0:10|1:00|n[1-2]\n9_3|OUT_OF_MEMORY|0:125|0:10|1:00|n1\n")
    found = client.jobs(["12", "11", "9"])
    assert set(found) == {"12", "11", "9_3"}
    assert (found["11"].state, found["11"].signal, found["11"].past, found["12"].past) == ("CANCELLED", 15, True, False)
    assert (found["9_3"].state, found["9_3"].task) == ("OUT_OF_MEMORY", 3)
    assert "--jobs=11,9" in fake.calls("sacct")[-1]


def test_a_task_that_the_controller_forgot_while_others_of_its_array_go_on_is_looked_up_once(fake: FakeSlurm) -> None:
    fake.knows("12|2|RUNNING|0|0|0:12|2:00:00|None|n1")
    ended = "12_0|OUT_OF_MEMORY|0:125|0:10|1:00|n1\n12_1|COMPLETED|0:0|0:10|1:00|n1\n"
    fake.says("sacct", ended + "12_2|RUNNING|0:0|0:10|1:00|n1\n12_[3-9%2]|PENDING|0:0|0:00|1:00|None assigned\n")
    found = client.jobs(["12_0", "12_1", "12_2"])
    assert {name: (job.state, job.past) for name, job in found.items()} == {
        "12_0": ("OUT_OF_MEMORY", True), "12_1": ("COMPLETED", True), "12_2": ("RUNNING", False)
    }  # fmt: skip
    assert "--jobs=12 " in fake.calls("squeue")[0]
    assert "--jobs=12 " in fake.calls("sacct")[0]
    again = client.jobs(["12_0", "12_1", "12_2"], ended={name: found[name] for name in ("12_0", "12_1")})
    assert again == found
    assert len(fake.calls("sacct")) == 1
    assert set(client.jobs(["12"])) == {"12_2"}  # any task is meant


def test_a_job_that_slurm_does_not_know_is_not_there_and_no_mistake(fake: FakeSlurm) -> None:
    assert client.jobs(["12"]) == {}
    fake.says("scancel", err="scancel: error: Kill job error on job id 12: Invalid job id specified\n", code=1)
    client.cancel(["12"])
    fake.says("squeue", err="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", code=1)
    with pytest.raises(SetupError, match="does not answer"):
        client.jobs(["12"])


def test_jobs_are_cancelled_by_number_and_where_asked_only_while_they_wait(fake: FakeSlurm) -> None:
    client.cancel(["12", "13_4"])
    client.cancel(["12"], pending=True)
    client.cancel([])
    assert fake.calls("scancel") == ["12 13_4", "--state=PENDING 12"]
    fake.says("scancel", err="scancel: error: Access/permission denied\n", code=1)
    with pytest.raises(SetupError, match="scancel 12: Access/permission denied"):
        client.cancel(["12"])


# A real one. --------------------------------------------------------------------------------------------------


def test_a_real_slurm_is_understood(slurm: Slurm, tmp_path: Path) -> None:
    client.expect_slurm()
    assert client.partitions() == ["main", "urgent"]
    script = tmp_path / "job.sh"
    script.write_text(
        '#!/bin/bash\n#SBATCH --job-name="a|b  c"\n#SBATCH --nodes=2\n#SBATCH --output=/dev/null\nsleep 60\n'
    )
    job, array = client.sbatch(script, cwd=tmp_path), client.sbatch(script, cwd=tmp_path, array="0-3%1")
    failing = tmp_path / "failing.sh"
    failing.write_text("#!/bin/bash\n#SBATCH --output=/dev/null\nexit 3\n")
    failed = client.sbatch(failing, cwd=tmp_path)
    end_s = time.monotonic() + 60
    while (found := client.jobs([job, array, failed, "999999"]))[failed].state != "FAILED":
        assert time.monotonic() < end_s
        time.sleep(0.2)
    assert set(found) == {job, failed, *(f"{array}_{number}" for number in range(4))}
    assert (found[job].state, found[job].limit, found[job].restarts) == ("RUNNING", "UNLIMITED", 0)
    assert found[job].nodes.startswith("n[")
    assert (found[failed].exit_code, found[failed].signal) == (3, 0)
    client.cancel([array], pending=True)
    client.cancel([job, array, failed, "999999"])
    assert client.jobs([job])[job].state in ("COMPLETING", "CANCELLED")
    assert client.jobs(["999999"]) == {}
    script.write_text("#!/bin/bash\n#SBATCH --partition=mian\n")
    with pytest.raises(SetupError, match=r"invalid partition.*there are main, urgent"):
        client.sbatch(script, cwd=tmp_path)
    script.write_text("#!/bin/bash\n#SBATCH --gres=gpu:9\n")
    with pytest.raises(SetupError, match="no node has what is asked for"):
        client.sbatch(script, cwd=tmp_path)
