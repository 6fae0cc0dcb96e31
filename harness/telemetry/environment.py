"""The node that trials run on, described: one row of the `nodes` table, within milliseconds."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.telemetry.cgroup import ROOT, cpu_quota, memory_limit_bytes, read_text
from harness.telemetry.cores import allowed_cpus, cpu_list, physical_cores, quota_note, shares
from harness.telemetry.host import memory_total_bytes, physical_core_count
from harness.telemetry.nvidia import describe_gpus
from harness.telemetry.relevant import PACKAGES, variables

__all__ = [
    "cache_bytes", "container", "describe_node", "frequency", "last_level_caches", "physical_cores", "quota_note",
    "shares", "topology", "virtualisation",
]  # fmt: skip


def describe_node(name: str | None = None) -> dict[str, Any]:
    """Return the row of the `nodes` table for this machine, as `name` (by default its host name); None: not known.

    Heavy packages are not imported for their versions. The GPUs are all that NVML shows here, whatever the run uses.
    """
    hostname = platform.node()
    gpus = describe_gpus()
    return {
        "node": name or hostname,
        "hostname": hostname,
        "os": _os_name(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "cpu_model": _cpu_model(),
        "cpu_count_logical": os.cpu_count(),
        "cpu_count_physical": physical_core_count(),
        "cpu_limit": _cpu_limit(),
        "memory_bytes": memory_total_bytes(),
        "memory_limit_bytes": memory_limit_bytes(),
        "gpu_names": [gpu.name for gpu in gpus.devices] if gpus else None,
        "gpu_uuids": [gpu.uuid for gpu in gpus.devices] if gpus else None,
        "gpu_memory_bytes": [gpu.memory_bytes for gpu in gpus.devices] if gpus else None,
        "gpu_driver": gpus.driver if gpus else None,
        "container": container(),
        "virtualisation": virtualisation(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "versions": _versions(),
        "environment": variables(os.environ),
        **topology(),
        "caches": cache_bytes() or None,
        **frequency(),
        "gpu_cuda": gpus.cuda if gpus else None,
    }


def topology(*, root: Path = ROOT) -> dict[str, int | None]:
    """Return `sockets`, `threads_per_core` and `numa_nodes` of the machine; None: not known."""
    folders = [folder / "topology" for folder in _cpus(root)]
    packages = {read_text(folder / "physical_package_id") for folder in folders} - {"", "-1"}
    siblings = {read_text(folder / "thread_siblings_list") for folder in folders} - {""}
    return {
        "sockets": len(packages) or None,
        "threads_per_core": max((len(cpu_list(text)) for text in siblings), default=None),
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
    }


def cache_bytes(*, root: Path = ROOT) -> dict[str, int]:
    """Return the bytes of each kind of cache that one core can use: ``L1d``, ``L2``, ``L3``; a shared one whole.

    Caches of instructions are left out. Empty where the kernel does not tell, as on some virtual machines.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    found: dict[str, int] = {}
    for folder in _cpus(root)[:1]:
        for index in sorted((folder / "cache").glob("index[0-9]*")):
            level, kind, size = (read_text(index / name) for name in ("level", "type", "size"))
            number, unit = (size[:-1], size[-1]) if size[-1:] in units else (size, "")
            if level.isdigit() and number.isdigit() and kind in ("Data", "Unified"):
                found[f"L{level}" + ("d" if kind == "Data" else "")] = int(number) * units.get(unit, 1)
    return found


def last_level_caches(cores: Collection[int], *, root: Path = ROOT) -> int:
    """Return how many caches of the last level these hardware threads have together; 1 where that is not known."""
    shared_by = set()
    for core in cores:
        levels = sorted((root / f"sys/devices/system/cpu/cpu{core}/cache").glob("index[0-9]*"))
        shared_by.add(read_text(levels[-1] / "shared_cpu_list") if levels else "")
    return max(1, len(shared_by - {""}))


def frequency(*, root: Path = ROOT) -> dict[str, Any]:
    """Return `cpu_max_hz`, `governor` and `turbo`; None where the kernel does not tell, as on virtual machines."""
    system = root / "sys/devices/system/cpu"
    policies = sorted((system / "cpufreq").glob("policy[0-9]*"))
    highest = [text for folder in policies if (text := read_text(folder / "cpuinfo_max_freq")).isdigit()]
    governors = {text for folder in policies if (text := read_text(folder / "scaling_governor"))}
    by_intel = {"0": True, "1": False}.get(read_text(system / "intel_pstate/no_turbo"))
    by_others = {"0": False, "1": True}.get(read_text(system / "cpufreq/boost"))
    return {
        "cpu_max_hz": max(map(int, highest)) * 1000.0 if highest else None,  # the kernel says kHz
        "governor": ",".join(sorted(governors)) or None,
        "turbo": by_others if by_intel is None else by_intel,
    }


def _cpus(root: Path) -> list[Path]:
    """Return the kernel's folders of the hardware threads, by number."""
    folders = (root / "sys/devices/system/cpu").glob("cpu[0-9]*")
    return sorted(folders, key=lambda folder: int(folder.name[3:]))


def container(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the kind of container this process runs in, such as "docker"; None where no sign of one is seen."""
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ:
        return "apptainer"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    for sign, kind in (("run/.containerenv", "podman"), (".dockerenv", "docker")):
        if (root / sign).exists():
            return kind
    return environ.get("container") or read_text(root / "run/systemd/container") or None


def virtualisation(*, root: Path = ROOT) -> str | None:
    """Return what runs this machine where it is virtual, such as "QEMU" or "xen"; None where no sign of it is seen."""
    kind = read_text(root / "sys/hypervisor/type")
    if kind:
        return kind
    if not re.search(r"^flags\s*:.*\bhypervisor\b", _first_cpu(root), re.MULTILINE):
        return None
    maker = [read_text(root / f"sys/class/dmi/id/{part}") for part in ("sys_vendor", "product_name")]
    return " ".join(maker).strip() or "a virtual machine"


def _cpu_limit() -> float | None:
    """Return the CPUs this process may use, by affinity and quota, or None where neither withholds any."""
    allowed = float(len(allowed_cpus()))
    limit = min(allowed, cpu_quota() or allowed)
    return limit if limit < (os.cpu_count() or 1) else None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.mac_ver()[0]}".strip()


def _cpu_model(root: Path = ROOT) -> str | None:
    """Return the CPU's model name; on Arm, where the kernel has none, the maker's and the core's numbers."""
    lines = (line.partition(":") for line in _first_cpu(root).splitlines())
    told = {key.strip(): value.strip() for key, _, value in lines}
    if "CPU part" in told:
        return f"implementer {told.get('CPU implementer')}, part {told['CPU part']}"
    return told.get("model name")


def _first_cpu(root: Path) -> str:
    """Return what the kernel tells of the first CPU; reading on, through all of them, can take long."""
    lines = []
    try:
        with (root / "proc/cpuinfo").open() as file:
            for line in file:
                if not line.strip():
                    break
                lines.append(line)
    except OSError:
        pass
    return "".join(lines)


def _versions() -> dict[str, str]:
    """Return the version of each package that is installed, by its distribution's name."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
