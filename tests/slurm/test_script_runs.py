"""The script of a job, run: what it makes of SIGTERM, by whatever way and whenever it comes. No Slurm, and no Ray."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from slurm.fake import FakeSlurm

from harness.slurm.job import Job
from harness.slurm.profile import Profile

NODE = "NodeName=n1 Arch=x86_64 NodeAddr=127.0.0.1 Port=6818"
ALLOCATION = {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n1", "SLURMD_NODENAME": "n1", "SLURM_JOB_NUM_NODES": "1"}
LISTENS = "trap 'exit 75' TERM; while :; do /bin/sleep 0.05; done"
SILENT = "cat >/dev/null"  # a node that lives as long as its standard input
TOLD = f"echo 'node n1: Slurm tells it to end (SIGTERM)'; {SILENT}"


def run(place: Path, fake: FakeSlurm, driver: str, *, node: str = SILENT, setup: str = "") -> tuple[int, str]:
    """Run a job's script with this in the place of the run and of its node; return its exit code, and what it says."""
    fake.says("scontrol", NODE)
    for name, line in {"harness": driver, "srun": node, "sleep": "exec /bin/sleep 0.05"}.items():
        path = fake.folder / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)
    (place / "slurm").mkdir()
    (place / "slurm/job.json").touch()
    (place / "x.py").touch()
    job = Job(
        version="1", profile=Profile(setup=[setup] if setup else []), name="x", suite="x", suite_file="x.py",
        run_id="x", folder=place, cwd=place, command=["harness"], run_words=[],
    )  # fmt: skip
    environ = {**os.environ, **ALLOCATION}
    done = subprocess.run(
        ["bash", "-c", job.render()], cwd=place, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def requeued(fake: FakeSlurm) -> bool:
    return "requeue 12" in fake.calls("scontrol")


@pytest.mark.parametrize(
    ("driver", "node", "setup"),
    [
        ("exit 1", SILENT, "kill -TERM $$"),  # while the site's lines run: the run does not begin
        ("kill -TERM $PPID; exec /bin/sleep 60", SILENT, ""),  # before the run has a handler, so that it dies of it
        (f"kill -TERM $PPID; {LISTENS}", SILENT, ""),
        (LISTENS, TOLD, ""),  # a preemption, of which the nodes alone are told
    ],
)
def test_a_run_that_slurm_tells_to_end_has_something_left_and_is_requeued(
    driver: str, node: str, setup: str, tmp_path: Path, fake: FakeSlurm
) -> None:
    fake.says("squeue", "RUNNING\n")
    code, said = run(tmp_path, fake, driver, node=node, setup=setup)
    assert (code, said.count("told to end")) == (75, 1)
    assert requeued(fake)


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING"])
def test_what_slurm_has_requeued_or_cancelled_is_left_to_it(state: str, tmp_path: Path, fake: FakeSlurm) -> None:
    fake.says("squeue", f"{state}\n")
    code, said = run(tmp_path, fake, f"kill -TERM $PPID; {LISTENS}")
    assert code == 75
    assert f"Slurm has the job as {state}" in said
    assert not requeued(fake)


def test_a_controller_that_does_not_answer_is_asked_again(tmp_path: Path, fake: FakeSlurm) -> None:
    fake.says("squeue", err="slurm_load_jobs error: Unable to contact slurm controller\n", code=1)
    code, said = run(tmp_path, fake, f"kill -TERM $PPID; {LISTENS}")
    assert code == 75
    assert "Slurm has the job as unknown" in said
    assert len(fake.calls("squeue")) == 3


@pytest.mark.parametrize("code", [0, 1, 2, 75, 143])
def test_a_run_that_ends_by_itself_gives_its_exit_code_and_is_not_requeued(
    code: int, tmp_path: Path, fake: FakeSlurm
) -> None:
    fake.says("squeue", "RUNNING\n")
    found, said = run(tmp_path, fake, f"exit {code}")
    assert found == code
    assert "told to end" not in said
    assert not requeued(fake)


def test_a_run_whose_nodes_have_all_ended_is_ended_too(tmp_path: Path, fake: FakeSlurm) -> None:
    assert run(tmp_path, fake, LISTENS, node="exit 1")[0] == 75
    assert not requeued(fake)


def test_an_address_that_slurm_does_not_tell_is_said(tmp_path: Path, fake: FakeSlurm) -> None:
    code, said = run(tmp_path, fake, "exit 0", setup="scontrol() { return 1; }")
    assert code == 2
    assert "does not tell where n1 is" in said
