"""What Slurm has granted to a job on this node: processors and GPUs, and how this process keeps to them.

Where Slurm binds its jobs (task/affinity, control groups) nothing is left to do; where it does not, a job would
otherwise measure on what others were given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from harness.domain.errors import SetupError
from harness.telemetry.cgroup import ROOT, read_text
from harness.telemetry.cores import allowed_cpus, cpu_list, physical_cores
from harness.telemetry.relevant import GRANTED_GPUS

JOB: Final = "HARNESS_SLURM_JOB"  # what `scontrol show job -d -o` says of the job, where somebody has asked already

_GROUP: Final = re.compile(r"(?:^|\s)Nodes=(\S+)\s+CPU_IDs=([\d,-]+)")
_NAMES: Final = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")  # between the commas that are outside brackets
_NONE: Final = ("NoDevFiles", "-1", "void", "none")  # what stands for no GPU


def keep_to_granted(environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Have this process, and what it starts from now on, keep to what Slurm has granted; return what that changed."""
    if not _on_node(environ):
        return None
    gpus = granted_gpus(environ, node=_node_text(environ))
    if gpus is not None:
        environ[GRANTED_GPUS] = environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # which the numbers are in
    allowed = allowed_cpus()
    count = _count(environ)
    if count is None or count >= len(allowed):
        return None
    machine = physical_cores(cpus=_machine())
    numbers = cpu_ids(_job_text(environ), environ["SLURM_JOB_ID"], environ["SLURMD_NODENAME"])
    return _keep_to(granted_threads(count, numbers, machine=machine, allowed=physical_cores(cpus=allowed)))


def keep_to_first(count: int) -> str | None:
    """Have this process, and what it starts, keep to so many hardware threads; return what that changed."""
    allowed = physical_cores()
    return _keep_to(granted_threads(count, None, machine=allowed, allowed=allowed))


def _keep_to(threads: Collection[int]) -> str | None:
    before = len(allowed_cpus())
    if len(threads) >= before or not hasattr(os, "sched_setaffinity"):
        return None
    os.sched_setaffinity(0, threads)
    return f"kept to {len(threads)} of {before} hardware threads: {','.join(map(str, sorted(threads)))}"


def _on_node(environ: Mapping[str, str]) -> bool:
    """Whether Slurm has started this on a node: a shell of `salloc` may be elsewhere, and has no node's name."""
    return bool(environ.get("SLURM_JOB_ID") and environ.get("SLURMD_NODENAME"))


# Processors. ----------------------------------------------------------------------------------------------------------


def granted_threads(
    count: int, numbers: Collection[int] | None, *, machine: list[list[int]], allowed: list[list[int]]
) -> list[int]:
    """Return the hardware threads to keep to, by the kernel's numbers: `count` of those allowed, or all if fewer.

    `numbers` are Slurm's own, which counts socket by socket, core by core and thread by thread, as `machine` lists
    them. Where they are not known or are none of this machine, they are the first ones, whole cores as far as that
    goes.
    """
    first = [thread for core in allowed for thread in core]
    everywhere = [thread for core in machine for thread in core]
    if numbers is not None and len(numbers) >= count and all(number < len(everywhere) for number in numbers):
        meant = {everywhere[number] for number in sorted(numbers)[:count]}  # a step may have some of its job's alone
        if meant <= set(first):
            return sorted(meant)
    return sorted(first[:count])


def cpu_ids(told: str, job: str, node: str) -> list[int] | None:
    """Return Slurm's numbers of a job's processors on a node, from what `scontrol show job -d -o` says of it, or of
    all tasks of its array; None where it does not tell."""
    for line in told.splitlines():
        if re.match(rf"\s*JobId={re.escape(job)}\s", line):
            for nodes, numbers in _GROUP.findall(line):
                if node in node_names(nodes):
                    return cpu_list(numbers)
    return None


def node_names(expression: str) -> list[str]:
    """Return the names that a list of Slurm's stands for, such as "n[1-3,07],login"."""
    return [name for part in _NAMES.findall(expression) for name in _expanded(part)]


def _expanded(part: str) -> list[str]:
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, after = rest.partition("]")
    numbers: list[str] = []
    for span in inside.split(","):
        first, _, last = span.partition("-")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return [f"{before}{number}{end}" for number in numbers for end in _expanded(after)]


def _count(environ: Mapping[str, str]) -> int | None:
    told = environ.get("SLURM_CPUS_ON_NODE", "")
    return int(told) if told.isdigit() and int(told) else None


def _machine(root: Path = ROOT) -> list[int]:
    """Return all hardware threads of the machine, those that this process may not run on too."""
    return cpu_list(read_text(root / "sys/devices/system/cpu/online")) or allowed_cpus()


# GPUs. ----------------------------------------------------------------------------------------------------------------


def granted_gpus(environ: Mapping[str, str], *, node: str = "") -> tuple[str, ...] | None:
    """Return the GPUs that Slurm has granted, by number in the order of the bus or by UUID; None: it sets no limit.

    `node` is what `scontrol show node -o` says of this node. Slurm sets no variable for a job without GPUs, nor for
    any where it has not been told of GPUs; only the node tells one from the other.
    """
    if not environ.get("SLURM_JOB_ID"):
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return () if re.search(r"\sGres=\S*gpu", node) else None
    named = [name.strip() for name in visible.split(",")]
    return tuple(name for name in named if name and name not in _NONE)


def _node_text(environ: Mapping[str, str]) -> str:
    """Return what Slurm says of this node, if that matters."""
    if "CUDA_VISIBLE_DEVICES" in environ or not Path("/dev/nvidiactl").exists():
        return ""
    return _asked("node", "-o", environ["SLURMD_NODENAME"])


def _job_text(environ: Mapping[str, str]) -> str:
    return environ.get(JOB) or _asked("job", "-d", "-o", environ["SLURM_JOB_ID"])


def _asked(*words: str) -> str:
    """Return what `scontrol show` says; nothing where it is not there or does not answer."""
    from harness.slurm import client

    try:
        return client.shown(*words)
    except SetupError:
        return ""
