"""The description of a node: its columns, its speed, and what it must not tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.record.schema import NODES
from harness.telemetry.environment import (
    cache_bytes,
    container,
    describe_node,
    frequency,
    last_level_caches,
    topology,
    virtualisation,
)
from harness.telemetry.repository import git_state


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_a_description_has_exactly_the_columns_of_the_nodes_table_but_for_what_is_calibrated() -> None:
    names = list(NODES.names())
    assert ["run_id", *describe_node()] == names[: names.index("core_flops_per_s")]


def test_a_node_goes_by_its_host_name_unless_it_is_given_another() -> None:
    node = describe_node()
    assert node["node"] == node["hostname"]
    assert describe_node("here")["node"] == "here"


def test_this_machine_is_described() -> None:
    node = describe_node()
    assert node["python"] == ".".join(map(str, sys.version_info[:3]))
    assert node["cpu_count_logical"] >= (node["cpu_count_physical"] or 1) >= 1
    assert node["memory_bytes"] > 2**28
    assert node["versions"]["psutil"]
    assert node["versions"]["keras"]


def test_describing_takes_less_than_a_tenth_of_a_second_of_a_core() -> None:
    describe_node()
    took_s = []
    for _ in range(3):
        start_s = time.thread_time()  # not the time that others take on a busy machine
        describe_node()
        took_s.append(time.thread_time() - start_s)
    assert min(took_s) < 0.1


def test_describing_imports_none_of_the_packages_whose_versions_it_tells() -> None:
    script = (
        "import sys; from harness.telemetry.environment import describe_node; versions = describe_node()['versions'];"
        "print(*{'tensorflow', 'keras', 'ray', 'numpy', 'pandas', 'pyarrow', 'pydantic'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == ""


def test_variables_that_change_results_are_told_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OMP_NUM_THREADS",
        "TF_ENABLE_ONEDNN_OPTS",
        "XLA_FLAGS",
        "CUDA_VISIBLE_DEVICES",
        "SLURM_CPUS_PER_TASK",
    ):
        monkeypatch.setenv(name, "told")
    for name in ("RAY_AUTH_TOKEN", "NVIDIA_API_KEY", "TF_VAR_database", "TF_TOKEN_app", "MY_OWN", "RAY_redis_password"):
        monkeypatch.setenv(name, "secret")
    told = describe_node()["environment"]
    assert {name for name, value in told.items() if value == "told"} == {
        "OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "SLURM_CPUS_PER_TASK",
    }  # fmt: skip
    assert "secret" not in told.values()


@pytest.mark.parametrize(
    ("file", "variable", "kind"),
    [
        (None, None, None),
        (".dockerenv", None, "docker"),
        ("run/.containerenv", None, "podman"),
        (".dockerenv", "KUBERNETES_SERVICE_HOST", "kubernetes"),
        (None, "APPTAINER_CONTAINER", "apptainer"),
    ],
)
def test_containers_are_known_by_their_signs(
    tmp_path: Path, file: str | None, variable: str | None, kind: str | None
) -> None:
    if file:
        write(tmp_path / file, "")
    assert container(root=tmp_path, environ={variable: "x"} if variable else {}) == kind


def test_a_virtual_machine_is_known_by_its_cpu_flag_and_named_by_its_maker(tmp_path: Path) -> None:
    assert virtualisation(root=tmp_path) is None
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme\n\nprocessor\t: 1\nflags\t: hypervisor")
    assert virtualisation(root=tmp_path) is None
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\n")
    assert virtualisation(root=tmp_path) == "a virtual machine"
    write(tmp_path / "sys/class/dmi/id/sys_vendor", "QEMU")
    assert virtualisation(root=tmp_path) == "QEMU"


def test_sockets_threads_and_memory_nodes_are_counted(tmp_path: Path) -> None:
    assert topology(root=tmp_path) == {"sockets": None, "threads_per_core": None, "numa_nodes": None}
    for cpu, (package, siblings) in enumerate([("0", "0,2"), ("1", "1,3"), ("0", "0,2"), ("1", "1,3")]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(folder / "physical_package_id", package)
        write(folder / "thread_siblings_list", siblings)
    for node in ("node0", "node1"):
        write(tmp_path / f"sys/devices/system/node/{node}/cpulist", "0")
    assert topology(root=tmp_path) == {"sockets": 2, "threads_per_core": 2, "numa_nodes": 2}


def test_caches_of_data_are_told_in_bytes(tmp_path: Path) -> None:
    assert cache_bytes(root=tmp_path) == {}
    caches = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "105M")]
    for index, parts in enumerate(caches):
        for name, text in zip(("level", "type", "size"), parts, strict=True):
            write(tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}/{name}", text)
    assert cache_bytes(root=tmp_path) == {"L1d": 48 << 10, "L2": 2 << 20, "L3": 105 << 20}


def test_caches_of_the_last_level_are_counted_once_however_many_cores_share_them(tmp_path: Path) -> None:
    assert last_level_caches([0, 1], root=tmp_path) == 1
    for cpu, sharing in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache"
        write(folder / "index2/shared_cpu_list", str(cpu))
        write(folder / "index3/shared_cpu_list", sharing)
    assert [last_level_caches(cores, root=tmp_path) for cores in ([0], [0, 1], [1, 2], range(4))] == [1, 1, 2, 2]


def test_the_frequency_and_who_governs_it_are_told(tmp_path: Path) -> None:
    unknown = {"cpu_max_hz": None, "governor": None, "turbo": None}
    assert frequency(root=tmp_path) == unknown
    system = tmp_path / "sys/devices/system/cpu"
    for policy, (most, governor) in enumerate([("3800000", "powersave"), ("4100000", "performance")]):
        write(system / f"cpufreq/policy{policy}/cpuinfo_max_freq", most)
        write(system / f"cpufreq/policy{policy}/scaling_governor", governor)
    write(system / "cpufreq/boost", "0")
    assert frequency(root=tmp_path) == {"cpu_max_hz": 4.1e9, "governor": "performance,powersave", "turbo": False}
    write(system / "intel_pstate/no_turbo", "0")
    assert frequency(root=tmp_path)["turbo"] is True


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for Git however busy the machine is."""
    monkeypatch.setattr("harness.telemetry.repository._LIMIT_S", 120.0)


@pytest.fixture
def repository(tmp_path: Path, require: Callable[[object, str], None]) -> Path:
    """A Git repository with one file committed, `suite.py`."""
    require(shutil.which("git"), "git is not installed")
    write(tmp_path / "suite.py", "suite = 1")
    git(tmp_path, "init", "--initial-branch=trunk")
    git(tmp_path, "add", "suite.py")
    git(tmp_path, "commit", "--message=one")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.check_output(["git", *who, *arguments], cwd=folder, text=True, stderr=subprocess.STDOUT).strip()


def test_a_suite_is_traced_to_its_commit_and_branch(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert git_state(repository / "suite.py") == {"commit": commit, "branch": "trunk", "dirty": False}
    git(repository, "checkout", "--detach")
    assert git_state(repository / "suite.py") == {"commit": commit, "branch": None, "dirty": False}


def test_a_repository_is_dirty_when_the_suite_or_a_tracked_file_differs(repository: Path) -> None:
    def dirty(name: str) -> bool:
        state = git_state(repository / name)
        assert state is not None
        return bool(state["dirty"])

    write(repository / "notes.txt", "not tracked")
    assert not dirty("suite.py")
    assert dirty("notes.txt")
    write(repository / "suite.py", "suite = 2")
    assert dirty("suite.py")


def test_before_its_first_commit_a_repository_has_none(tmp_path: Path, require: Callable[[object, str], None]) -> None:
    require(shutil.which("git"), "git is not installed")
    git(tmp_path, "init", "--initial-branch=trunk")
    assert git_state(tmp_path / "suite.py") == {"commit": None, "branch": "trunk", "dirty": True}


def test_where_there_is_no_repository_or_no_git_there_is_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path / "suite.py") is None
    assert git_state(tmp_path / "absent" / "suite.py") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path(__file__)) is None


def test_a_git_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "git", "#!/bin/sh\nexec sleep 60")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("harness.telemetry.repository._LIMIT_S", 0.1)
    assert git_state(Path(__file__)) is None
