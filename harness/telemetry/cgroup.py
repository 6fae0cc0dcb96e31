"""The limits that control groups (Linux, versions 1 and 2) put on this process: CPU time and memory; what they cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cpu_quota(*, root: Path = ROOT) -> float | None:
    """Return how many CPUs' worth of time this process may use, such as 1.5; None where no quota is set or known.

    The smallest quota on the way from this process's group up to the root counts. `root` is the file system's.
    """
    quotas = []
    for folder in _groups("", root):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        quotas.append((quota, period))
    for folder in _groups("cpu", root):
        quotas.append((read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")))
    shares = (int(quota) / int(period) for quota, period in quotas if quota.isdigit() and period.isdigit())
    return min(shares, default=None)


def memory_limit_bytes(*, root: Path = ROOT) -> int | None:
    """Return the memory this process's control groups allow, in bytes; None where no limit is set or known."""
    limits = [read_text(folder / "memory.max") for folder in _groups("", root)]
    limits += [read_text(folder / "memory.limit_in_bytes") for folder in _groups("memory", root)]
    # Version 1 writes "no limit" as the largest multiple of a page, about 2**63.
    return min((int(limit) for limit in limits if limit.isdigit() and int(limit) < 2**60), default=None)


def memory_left_bytes(*, root: Path = ROOT) -> int | None:
    """Return the memory this process's control groups still allow, in bytes; None where no limit is set or known.

    Pages of files that were read long ago count as free, since the kernel gives them up first.
    """
    left = []
    for controller, limit, usage, idle in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for folder in _groups(controller, root):
            allowed, used = read_text(folder / limit), read_text(folder / usage)
            if allowed.isdigit() and int(allowed) < 2**60 and used.isdigit():
                told = dict(line.split() for line in read_text(folder / "memory.stat").splitlines())
                left.append(int(allowed) - int(used) + int(told.get(idle, 0)))
    return min(left, default=None)


def throttling_files(*, root: Path = ROOT) -> list[Path]:
    """Return the files in which the groups from this process's up to the root say how long they were held back."""
    candidates = [folder / "cpu.stat" for controller in ("", "cpu") for folder in _groups(controller, root)]
    return [path for path in dict.fromkeys(candidates) if "throttled_" in read_text(path)]


def throttled_s(text: bytes) -> float:
    """Return the seconds for which a group was held back, given what its `cpu.stat` says; ValueError if nothing."""
    found = re.search(rb"^throttled_(usec|time) (\d+)", text, re.MULTILINE)
    if found is None:
        raise ValueError("the control group does not say how long it was held back")
    return int(found[2]) / (1e6 if found[1] == b"usec" else 1e9)  # versions 2 and 1


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of its parents; "" is the one hierarchy of version 2."""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller not in controllers.split(","):
            continue
        # A container may name a path that only the host can see; its parents, the mount's root last, then still hold.
        group = Path(path.lstrip("/"))
        for mount in {controllers, controller}:
            base = root / "sys/fs/cgroup" / mount
            yield from (base / part for part in (group, *group.parents))


def read_text(path: Path) -> str:
    """Return what a file of the kernel's says, without the line's end; "" where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
