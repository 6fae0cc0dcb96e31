"""The node that trials run on, described: one row of the `nodes` table, within milliseconds."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.telemetry.cgroup import ROOT, cpu_quota, memory_limit_bytes, read_text
from harness.telemetry.cores import allowed_cpus, physical_cores, quota_note, shares
from harness.telemetry.host import memory_total_bytes, physical_core_count
from harness.telemetry.nvidia import describe_gpus

__all__ = ["container", "describe_node", "physical_cores", "quota_note", "shares", "virtualisation"]

# Installed distributions whose version can change speed or results; TensorFlow goes by several names.
_PACKAGES = (
    "harness", "tensorflow", "tensorflow-cpu", "tf-nightly", "keras", "jax", "jaxlib", "torch", "ray", "numpy", "scipy",
    "pandas", "pyarrow", "pydantic", "psutil", "nvidia-ml-py", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12",
    "nvidia-cublas-cu12", "nvidia-nccl-cu12",
)  # fmt: skip
_VARIABLES = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|TF|XLA|JAX|KERAS|CUDA|CUDNN|CUBLAS|NCCL|NVIDIA|MALLOC|RAY)_\w+|SLURM_CPU\w+"
    r"|LD_PRELOAD|PYTHONHASHSEED|PYTHONDONTWRITEBYTECODE|PYTHONOPTIMIZE"
)
# Results are published, so whatever might be a secret stays out; TF_VAR_ and TF_CLI_ belong to Terraform.
_SECRETS = re.compile(r"TF_VAR_|TF_CLI_|\w*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH)", re.IGNORECASE)


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
        "environment": _variables(os.environ),
    }


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
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that can change speed or results, without any that may hold a secret."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if _VARIABLES.fullmatch(name) and not _SECRETS.match(name)
    }
