"""This node's cores, and how they are cut into shares for workers (standard library only: it is needed early)."""

from __future__ import annotations

import os
from collections.abc import Collection
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
    itself, and as many compute threads as cores. A share lies within one package (socket) as long as one can be had.
    A CPU quota below the affinity lowers the number of cores (see `quota_note`), not below one.

    Raises SetupError where not a single share of that size can be had.
    """
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
    whole: list[tuple[int, ...]] = []
    rest: list[int] = []
    for package in _packages(cpus=affinity, root=root):
        firsts = [group[0] for group in package]
        cut = len(firsts) - len(firsts) % cpus
        whole += [tuple(firsts[start : start + cpus]) for start in range(0, cut, cpus)]
        rest += firsts[cut:]
    whole += [tuple(rest[start : start + cpus]) for start in range(0, len(rest) - len(rest) % cpus, cpus)]
    return whole[: usable // cpus]


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
