"""This node's cores, and how they are cut into shares for workers (standard library only: it is needed early)."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from harness.domain.errors import SetupError
from harness.telemetry.cgroup import ROOT, cpu_quota


def allowed_cpus() -> list[int]:
    """Return the hardware threads this process may run on, by the kernel's numbers."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores(*, cpus: Collection[int] | None = None, root: Path = ROOT) -> list[list[int]]:
    """Return the physical cores as groups of sibling hardware threads, within this process's affinity (or `cpus`).

    The threads of a group ascend; groups are ordered by package (socket), then by their first thread. Where the
    topology cannot be read, each hardware thread stands for a core of its own. `root` is the file system's.
    """
    return [group for package in _packages(cpus=cpus, root=root) for group in package]


def usable_cores(*, cpus: Collection[int] | None = None, root: Path = ROOT) -> int:
    """Return how many physical cores workers may fill: those of the affinity, or the CPU quota's whole part if less."""
    cores = len(physical_cores(cpus=cpus, root=root))
    quota = cpu_quota(root=root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def quota_note(*, cpus: Collection[int] | None = None, root: Path = ROOT) -> str | None:
    """Return a sentence for the user where a control group's CPU quota lies below the affinity; None otherwise."""
    cores = len(physical_cores(cpus=cpus, root=root))
    quota = cpu_quota(root=root)
    if quota is None or quota >= cores:
        return None
    usable = usable_cores(cpus=cpus, root=root)
    throttled = ", and will be throttled" if quota < usable else ""
    return f"the control group allows {quota:g} CPUs' worth of time on {cores} cores; workers use {usable}{throttled}"


def shares(cpus: int, *, affinity: Collection[int] | None = None, root: Path = ROOT) -> list[tuple[int, ...]]:
    """Return the usable physical cores cut into disjoint shares of `cpus` cores each; cores left over stay idle.

    A share names the first hardware thread of each of its cores and no sibling: a worker pinned to it has its cores to
    itself, and as many compute threads as cores. A share lies within one NUMA node, else within one package (socket),
    as long as one can be had. A CPU quota below the affinity lowers the number of cores (see `quota_note`), not below
    one.

    Raises SetupError where not a single share of that size can be had.
    """
    most = _most_shares(cpus, affinity=affinity, root=root)
    return _cut(cpus, affinity=affinity, root=root)[:most]


def shares_near(
    cpus: int,
    places: Sequence[Collection[int]],
    *,
    turn: int,
    affinity: Collection[int] | None = None,
    root: Path = ROOT,
) -> dict[int, tuple[int, ...]]:
    """Return shares as `shares` does, by the number of the place that each is for.

    A place is the hardware threads that its share is to lie among; empty: any will do. Of each `turn` places those
    with such a share are served first, then the others with what is left, then the next turn; the last may get none.

    Raises SetupError where not a single share of that size can be had.
    """
    most = _most_shares(cpus, affinity=affinity, root=root)
    left = _cut(cpus, affinity=affinity, root=root)
    given: dict[int, tuple[int, ...]] = {}
    for start in range(0, len(places), turn):
        for anywhere in (False, True):
            for number, near in enumerate(places[start : start + turn], start):
                if number not in given and len(given) < most:
                    found = next((share for share in left if anywhere or not near or set(share) <= set(near)), None)
                    if found is not None:
                        left.remove(found)
                        given[number] = found
    return dict(sorted(given.items()))


def _most_shares(cpus: int, *, affinity: Collection[int] | None, root: Path) -> int:
    if cpus < 1:
        raise SetupError(f"a worker needs at least 1 core, got cpus={cpus}")
    usable = usable_cores(cpus=affinity, root=root)
    if cpus > usable:
        note = quota_note(cpus=affinity, root=root)
        raise SetupError(
            f"cpus={cpus} asks for more physical cores than the {usable} that this process may use on this machine"
            + (f" ({note})" if note else "")
            + f"; set cpus to at most {usable}, or start the harness with a wider affinity"
        )
    return usable // cpus


def _cut(cpus: int, *, affinity: Collection[int] | None, root: Path) -> list[tuple[int, ...]]:
    """Return as many shares of `cpus` cores as there are: first those within a NUMA node, then what is left of each
    within a package, then the rest."""
    whole: list[tuple[int, ...]] = []

    def cut(firsts: Sequence[int]) -> Sequence[int]:
        end = len(firsts) - len(firsts) % cpus
        whole.extend(tuple(firsts[start : start + cpus]) for start in range(0, end, cpus))
        return firsts[end:]

    numa, rest = _numa_nodes(root), []
    for package in _packages(cpus=affinity, root=root):
        nodes: dict[int, list[int]] = {}
        for group in package:
            nodes.setdefault(numa.get(group[0], 0), []).append(group[0])
        rest.append([first for _, firsts in sorted(nodes.items()) for first in cut(firsts)])
    cut([first for package in [cut(firsts) for firsts in rest] for first in package])
    return whole


def _numa_nodes(root: Path) -> dict[int, int]:
    """Return the NUMA node of each hardware thread; empty where the kernel does not tell."""
    found: dict[int, int] = {}
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        try:
            found |= dict.fromkeys(cpu_list((folder / "cpulist").read_text()), int(folder.name[4:]))
        except (OSError, ValueError):
            continue
    return found


def spare_cpus(avoid: Collection[int], *, cpus: Collection[int] | None = None, root: Path = ROOT) -> list[int]:
    """Return the hardware threads outside `avoid`: those of cores that are wholly free, else siblings, else none."""
    groups = physical_cores(cpus=cpus, root=root)
    free = [cpu for group in groups if not set(group) & set(avoid) for cpu in group]
    return free or [cpu for group in groups for cpu in group if cpu not in avoid]


def cpu_list(text: str) -> list[int]:
    """Return the numbers in the kernel's notation for a set of CPUs, such as "0-3,8"."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _packages(*, cpus: Collection[int] | None, root: Path) -> list[list[list[int]]]:
    """Return the groups of sibling threads, package by package."""
    left = sorted(allowed_cpus() if cpus is None else cpus)
    packages: dict[int, list[list[int]]] = {}
    while left:
        topology = root / f"sys/devices/system/cpu/cpu{left[0]}/topology"
        try:
            package = int((topology / "physical_package_id").read_text())
            siblings = cpu_list((topology / "thread_siblings_list").read_text())
        except (OSError, ValueError):
            package, siblings = 0, []
        group = [cpu for cpu in left if cpu == left[0] or cpu in siblings]
        packages.setdefault(package, []).append(group)
        left = [cpu for cpu in left if cpu not in group]
    return [packages[package] for package in sorted(packages)]
