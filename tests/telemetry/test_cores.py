"""Cores and shares, on made-up /sys and /proc trees: sockets, SMT siblings, affinity and CPU quotas."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.errors import SetupError
from harness.telemetry.cgroup import cpu_quota, memory_limit_bytes
from harness.telemetry.cores import (
    allowed_cpus,
    cpu_list,
    physical_cores,
    quota_note,
    shares,
    shares_near,
    spare_cpus,
    usable_cores,
)


def machine(root: Path, *, sockets: list[list[list[int]]]) -> Path:
    """Write the topology of sockets, each a list of cores, each a list of hardware threads."""
    for socket, cores in enumerate(sockets):
        for threads in cores:
            for cpu in threads:
                write(root / f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", str(socket))
                siblings = ",".join(map(str, threads))
                write(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


SMT = [[[0, 4], [1, 5]], [[2, 6], [3, 7]]]  # two sockets of two cores of two threads


def test_without_smt_each_thread_is_a_core_and_a_share(tmp_path: Path) -> None:
    root = machine(tmp_path, sockets=[[[0], [1]]])
    assert physical_cores(cpus=[0, 1], root=root) == [[0], [1]]
    assert shares(1, affinity=[0, 1], root=root) == [(0,), (1,)]
    assert shares(2, affinity=[0, 1], root=root) == [(0, 1)]


def test_siblings_belong_to_one_core_and_a_share_names_the_first_of_them(tmp_path: Path) -> None:
    root = machine(tmp_path, sockets=SMT)
    assert physical_cores(cpus=range(8), root=root) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert shares(1, affinity=range(8), root=root) == [(0,), (1,), (2,), (3,)]


def test_a_core_of_which_only_the_second_thread_is_allowed_is_still_a_core(tmp_path: Path) -> None:
    root = machine(tmp_path, sockets=SMT)
    assert physical_cores(cpus=[0, 5, 7], root=root) == [[0], [5], [7]]
    assert shares(1, affinity=[0, 5, 7], root=root) == [(0,), (5,), (7,)]


def test_cores_left_over_stay_idle(tmp_path: Path) -> None:
    root = machine(tmp_path, sockets=[[[0], [1], [2], [3], [4]]])
    assert shares(2, affinity=range(5), root=root) == [(0, 1), (2, 3)]


def test_a_share_lies_within_a_socket_as_long_as_one_can_be_had(tmp_path: Path) -> None:
    alternating = [[[0], [2], [4]], [[1], [3], [5]]]
    root = machine(tmp_path, sockets=alternating)
    assert shares(2, affinity=range(6), root=root) == [(0, 2), (1, 3), (4, 5)]
    assert shares(3, affinity=range(6), root=root) == [(0, 2, 4), (1, 3, 5)]


def numa(root: Path, *nodes: str) -> Path:
    """Write which hardware threads each NUMA node has, in the kernel's notation."""
    for number, cpus in enumerate(nodes):
        write(root / f"sys/devices/system/node/node{number}/cpulist", cpus)
    return root


def test_a_share_lies_within_a_numa_node_then_within_a_socket(tmp_path: Path) -> None:
    root = numa(machine(tmp_path, sockets=[[[cpu] for cpu in range(6)], [[6], [7]]]), "0-2", "3-5", "6-7")
    assert shares(2, affinity=range(8), root=root) == [(0, 1), (3, 4), (6, 7), (2, 5)]
    assert shares(3, affinity=range(8), root=root) == [(0, 1, 2), (3, 4, 5)]
    assert shares(4, affinity=range(8), root=root) == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_shares_are_given_where_they_are_near_as_long_as_there_are_some(tmp_path: Path) -> None:
    root = numa(machine(tmp_path, sockets=[[[0], [1]], [[2], [3]]]), "0-1", "2-3")
    left, right = range(2), range(2, 4)

    def near(cpus: int, *places: range, turn: int = 9) -> dict[int, tuple[int, ...]]:
        return shares_near(cpus, places, turn=turn, affinity=range(4), root=root)

    assert near(1, right, left) == {0: (2,), 1: (0,)}
    assert near(2, right, right) == {0: (2, 3), 1: (0, 1)}
    assert near(1, left, left, left, range(0)) == {0: (0,), 1: (1,), 2: (3,), 3: (2,)}  # any will do for the last
    assert near(2, left, left, right) == {0: (0, 1), 2: (2, 3)}
    assert near(2, left, range(9, 10), left, turn=2) == {0: (0, 1), 1: (2, 3)}


def test_where_the_topology_cannot_be_read_each_thread_is_a_core(tmp_path: Path) -> None:
    assert shares(1, affinity=[2, 3], root=tmp_path) == [(2,), (3,)]


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(1, 12))
def test_shares_are_disjoint_full_and_as_many_as_fit(affinity: set[int], cpus: int) -> None:
    root = Path("/nowhere")  # no topology to read there: each thread is a core
    if cpus > len(affinity):
        with pytest.raises(SetupError):
            shares(cpus, affinity=affinity, root=root)
        return
    cut = shares(cpus, affinity=affinity, root=root)
    taken = [cpu for share in cut for cpu in share]
    assert len(taken) == len(set(taken))
    assert set(taken) <= affinity
    assert all(len(share) == cpus for share in cut)
    assert len(cut) == len(affinity) // cpus


def test_shares_of_this_machine_lie_within_its_affinity() -> None:
    assert {cpu for share in shares(1) for cpu in share} <= set(allowed_cpus())


def test_more_cores_than_there_are_is_an_error_that_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cpus=3 asks for more physical cores than the 2 .* set cpus to at most 2"):
        shares(3, affinity=[0, 1], root=machine(tmp_path, sockets=[[[0], [1]]]))
    with pytest.raises(SetupError, match="cpus=0"):
        shares(0, affinity=[0, 1], root=tmp_path)


@pytest.mark.parametrize(
    ("quota", "usable", "note"),
    [
        ("250000 100000", 2, "allows 2.5 CPUs' worth of time on 4 cores; workers use 2"),
        ("50000 100000", 1, "allows 0.5 CPUs' worth of time on 4 cores; workers use 1, and will be throttled"),
        ("400000 100000", 4, None),
        ("max 100000", 4, None),
    ],
)
def test_a_quota_below_the_affinity_lowers_the_cores_and_is_said(
    tmp_path: Path, quota: str, usable: int, note: str | None
) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/job")
    write(tmp_path / "sys/fs/cgroup/job/cpu.max", quota)
    assert usable_cores(cpus=range(4), root=tmp_path) == usable
    assert len(shares(1, affinity=range(4), root=tmp_path)) == usable
    said = quota_note(cpus=range(4), root=tmp_path)
    assert said is None if note is None else said is not None and said.endswith(note)


def test_the_error_for_too_many_cores_names_the_quota(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/")
    write(tmp_path / "sys/fs/cgroup/cpu.max", "100000 100000")
    with pytest.raises(SetupError, match=r"than the 1 .*the control group allows 1 CPUs' worth of time on 2 cores"):
        shares(2, affinity=[0, 1], root=tmp_path)


def test_the_tightest_quota_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/slice/job/step")
    write(tmp_path / "sys/fs/cgroup/slice/cpu.max", "150000 100000")
    write(tmp_path / "sys/fs/cgroup/slice/job/cpu.max", "max 100000")
    write(tmp_path / "sys/fs/cgroup/slice/job/step/cpu.max", "800000 100000")
    write(tmp_path / "sys/fs/cgroup/slice/job/memory.max", "2000000")
    assert cpu_quota(root=tmp_path) == 1.5
    assert memory_limit_bytes(root=tmp_path) == 2_000_000


def test_limits_of_version_1_are_read_also_where_the_path_is_the_hosts(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/")
    write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000")
    write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "4000000")
    assert cpu_quota(root=tmp_path) == 3.0
    assert memory_limit_bytes(root=tmp_path) == 4_000_000


def test_no_limit_is_none_and_so_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    assert cpu_quota(root=tmp_path) is None
    assert memory_limit_bytes(root=tmp_path) is None
    write(tmp_path / "proc/self/cgroup", "4:memory:/\n3:cpu:/")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    assert cpu_quota(root=tmp_path) is None
    assert memory_limit_bytes(root=tmp_path) is None


def test_spare_threads_are_those_of_cores_that_no_worker_is_on(tmp_path: Path) -> None:
    root = machine(tmp_path, sockets=SMT)
    assert spare_cpus([0, 1, 2], cpus=range(8), root=root) == [3, 7]
    assert spare_cpus([0, 1, 2, 3], cpus=range(8), root=root) == [4, 5, 6, 7]  # siblings, since no core is free
    assert spare_cpus(range(8), cpus=range(8), root=root) == []


def test_the_kernels_notation_of_cpu_sets_is_understood() -> None:
    assert cpu_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert cpu_list("\n") == []
