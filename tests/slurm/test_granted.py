"""Which processors and GPUs of a node are a job's, by Slurm's word and on made-up machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.slurm.granted import cpu_ids, granted_gpus, granted_threads, node_names

SMT = [[0, 4], [1, 5], [2, 6], [3, 7]]  # four cores of two threads
JOB = (
    "JobId=12 JobName=run NodeList=n[1-3] NumNodes=3 JOB_GRES=(null)   Nodes=n1 CPU_IDs=0-1,6 Mem=1000 GRES= "
    "Nodes=n[2-3] CPU_IDs=4-7 Mem=0 GRES=gpu:1(IDX:0) MinCPUsNode=2 ReqNodeList=(null)"
)
IN_A_JOB = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n2"}


def threads(count: int, numbers: list[int] | None, allowed: list[list[int]] = SMT) -> list[int]:
    return granted_threads(count, numbers, machine=SMT, allowed=allowed)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,15],login", ["n08", "n09", "n10", "n15", "login"]),
        ("r[1-2]n[1,3]-ib", ["r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"]),
    ],
)
def test_a_list_of_nodes_stands_for_their_names(expression: str, names: list[str]) -> None:
    assert node_names(expression) == names


def test_the_processors_of_a_node_are_found_among_those_of_its_job() -> None:
    assert cpu_ids(JOB, "12", "n1") == [0, 1, 6]
    assert cpu_ids(JOB, "12", "n3") == [4, 5, 6, 7]
    assert cpu_ids(JOB, "12", "n4") is None
    assert cpu_ids("", "12", "n1") is None


def test_of_an_arrays_tasks_that_of_this_job_counts() -> None:
    other = "JobId=13 ArrayJobId=12 ArrayTaskId=0 JobName=run Nodes=n1 CPU_IDs=2-3 Mem=0 GRES="
    assert cpu_ids(f"{other}\n{JOB}", "12", "n1") == [0, 1, 6]
    assert cpu_ids(f"{other}\n{JOB}", "13", "n1") == [2, 3]
    assert cpu_ids(f"{other}\n{JOB}", "1", "n1") is None


def test_slurms_numbers_count_core_by_core_and_the_kernels_may_not() -> None:
    assert threads(4, [0, 1, 6, 7]) == [0, 3, 4, 7]


def test_numbers_that_are_none_of_this_machine_leave_the_first_threads_whole_cores_first() -> None:
    assert threads(3, [8, 9, 10]) == [0, 1, 4]
    assert threads(4, None) == [0, 1, 4, 5]
    assert threads(2, [0]) == [0, 4]  # fewer than are granted


def test_a_step_with_some_of_its_jobs_processors_keeps_to_the_first_of_them() -> None:
    assert threads(2, [2, 3, 6, 7]) == [1, 5]


def test_what_the_kernel_has_narrowed_otherwise_is_kept_to() -> None:
    assert threads(2, [0, 1], allowed=[[2, 6], [3, 7]]) == [2, 6]
    assert threads(8, None, allowed=[[2], [3]]) == [2, 3]


def test_gpus_are_limited_in_a_job_alone_and_by_what_slurm_says() -> None:
    assert granted_gpus({"CUDA_VISIBLE_DEVICES": "0"}) is None
    assert granted_gpus(IN_A_JOB | {"CUDA_VISIBLE_DEVICES": "1,3"}) == ("1", "3")
    assert granted_gpus(IN_A_JOB | {"CUDA_VISIBLE_DEVICES": "MIG-a1, GPU-b2"}) == ("MIG-a1", "GPU-b2")
    assert granted_gpus(IN_A_JOB | {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}) == ()
    assert granted_gpus(IN_A_JOB | {"CUDA_VISIBLE_DEVICES": ""}) == ()


def test_without_a_variable_gpus_are_granted_only_where_slurm_does_not_know_of_them() -> None:
    assert granted_gpus(IN_A_JOB, node="NodeName=n2 Arch=x86_64 Gres=gpu:a100:4(S:0-1) NodeAddr=n2") == ()
    assert granted_gpus(IN_A_JOB, node="NodeName=n2 Arch=x86_64 Gres=(null) NodeAddr=n2") is None
    assert granted_gpus(IN_A_JOB) is None


ACT = """
import json, os
from harness.slurm.granted import keep_to_granted
from harness.telemetry.cores import usable_cores
told = keep_to_granted()
names = ("HARNESS_GPUS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
print(json.dumps([told, sorted(os.sched_getaffinity(0)), usable_cores(), [os.environ.get(name) for name in names]]))
"""


def act(tmp_path: Path, **slurm: str) -> list[object]:
    """Keep a new process to what is granted, with a `scontrol` at hand that counts how often it is asked."""
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho asked >> {tmp_path}/asked\necho "JobId=12 Nodes=n2 CPU_IDs=1 Mem=0"\n')
    fake.chmod(0o755)
    hidden = ("HARNESS_GPUS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
    ours = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = ours | {"PATH": f"{fake.parent}:{os.environ['PATH']}"} | slurm
    told = subprocess.run([sys.executable, "-c", ACT], env=environment, capture_output=True, text=True, check=True)
    answer: list[object] = json.loads(told.stdout)
    return answer


needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one hardware thread to keep to")


@needs_two
def test_outside_a_job_nothing_is_changed_and_nobody_asked(tmp_path: Path) -> None:
    told, kept, _, gpus = act(tmp_path, SLURM_CPUS_ON_NODE="1")
    assert (told, kept, gpus) == (None, sorted(os.sched_getaffinity(0)), [None, None, None])
    assert not (tmp_path / "asked").exists()


@needs_two
def test_a_process_of_a_job_keeps_to_its_processors_and_says_so(tmp_path: Path) -> None:
    told, kept, cores, gpus = act(tmp_path, **IN_A_JOB, SLURM_CPUS_ON_NODE="1", CUDA_VISIBLE_DEVICES="1")
    assert "kept to 1 of" in str(told)
    assert isinstance(kept, list)
    assert len(kept) == cores == 1
    assert gpus == ["1", "1", "PCI_BUS_ID"]
    assert (tmp_path / "asked").read_text() == "asked\n"


@needs_two
def test_slurm_is_not_asked_for_what_the_script_has_handed_down(tmp_path: Path) -> None:
    act(tmp_path, **IN_A_JOB, SLURM_CPUS_ON_NODE="1", HARNESS_SLURM_JOB="JobId=12 Nodes=n2 CPU_IDs=0 Mem=0")
    assert not (tmp_path / "asked").exists()


def test_a_job_with_all_processors_is_left_alone(tmp_path: Path) -> None:
    told, kept, _, _ = act(tmp_path, **IN_A_JOB, SLURM_CPUS_ON_NODE="4096")
    assert (told, kept) == (None, sorted(os.sched_getaffinity(0)))
    assert not (tmp_path / "asked").exists()
