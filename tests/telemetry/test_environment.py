"""The description of a node: its columns, its speed, and what it must not tell."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.record.schema import NODES
from harness.telemetry.environment import container, describe_node, virtualisation


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_a_description_has_exactly_the_columns_of_the_nodes_table() -> None:
    assert ["run_id", *describe_node()] == list(NODES.names())


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


def test_describing_takes_less_than_a_tenth_of_a_second() -> None:
    describe_node()
    took_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        describe_node()
        took_s.append(time.perf_counter() - start_s)
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
