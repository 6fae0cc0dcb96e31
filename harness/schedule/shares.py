"""How a node is cut into the shares that its workers hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from harness.domain.errors import SetupError
from harness.schedule.demand import Demand
from harness.schedule.eligible import is_kind
from harness.schedule.launch import Launch
from harness.telemetry.cores import shares, shares_near, usable_cores
from harness.telemetry.nvidia import Gpu, describe_gpus, is_instance

_ROUNDING = 1e-9  # 1 / (1 / 49) is a little less than 49


def share_out(demand: Demand, *, body: str, most: int | None = None, prefix: str = "") -> list[Launch]:
    """Return the disjoint shares of this node that serve `demand`, at most `most` of them.

    Packed workers (`cpus` or `gpus` below 1) share a core or a GPU: so many as it is a fraction of, and those with a
    fraction of a core are pinned to none. A worker with GPUs has cores of their NUMA node, as long as there are some.

    Raises:
        SetupError: when the node cannot hold even one.
    """
    held = _with_gpus(demand) if demand.gpus else [(cores, ()) for cores in _cores(demand)]
    count = 1 if demand.exclusive else min(len(held), most or len(held))
    kind = _kind(demand)
    return [
        Launch(
            name=f"{prefix}{kind}{'.' if kind else ''}{number}",
            body=body, backend=demand.backend, cores=cores, gpus=gpus, devices=demand.devices,
        )
        for number, (cores, gpus) in enumerate(held[:count])
    ]  # fmt: skip


def packed(share: float) -> int:
    """Return how many workers with such a fraction of a core, or of a GPU, share one."""
    return int(1 / share + _ROUNDING)


def _cores(demand: Demand) -> list[tuple[int, ...]]:
    if demand.cpus < 1:
        return [()] * (packed(demand.cpus) * usable_cores())
    return shares(int(demand.cpus))


def _with_gpus(demand: Demand) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Return the shares with GPUs: the cores and the UUIDs of each."""
    groups = _gpus(demand)
    uuids = [tuple(gpu.uuid for gpu in group) for group in groups]
    if demand.cpus < 1:
        return list(zip(_cores(demand), uuids, strict=False))
    places = [sorted({thread for gpu in group for thread in gpu.near or ()}) for group in groups]
    turn = len(places) if demand.gpus >= 1 else len(set(uuids))  # packed: a worker on each GPU before the second on any
    return [(cores, uuids[number]) for number, cores in shares_near(int(demand.cpus), places, turn=turn).items()]


def _gpus(demand: Demand) -> list[Sequence[Gpu]]:
    """Return the GPUs, of the kind that is asked for, in the groups that workers hold."""
    found = describe_gpus()
    shown = [] if found is None else list(found.devices)
    of_kind = [gpu for gpu in shown if is_kind(demand.accelerator, gpu.name)]
    if demand.accelerator and of_kind:  # else the kind is what Ray was told, and NVML has another name for it
        shown = of_kind
    if demand.gpus < 1:
        groups: list[Sequence[Gpu]] = [[gpu] for _ in range(packed(demand.gpus)) for gpu in shown]
        usable = shown
    else:
        each = int(demand.gpus)
        usable = [gpu for gpu in shown if each == 1 or not is_instance(gpu.uuid)]
        groups = [usable[start : start + each] for start in range(0, len(usable) - each + 1, each)]
    if not groups:
        note = "" if usable == shown else ", MIG instances left aside, since CUDA lets a process use one"
        raise SetupError(f"gpus={demand.gpus:g} asks for more GPUs than this node shows ({len(usable)}{note})")
    return groups


def _kind(demand: Demand) -> str:
    """Return what tells the workers of one demand from those of another on the same node, in few letters."""
    kind = {"tensorflow": "", "none": "own"}.get(demand.backend, demand.backend)
    kind += "" if (demand.cpus, demand.gpus) == (1, 0) else f"c{demand.cpus:g}"
    kind += (f"g{demand.gpus:g}" if demand.gpus else "") + ("x" if demand.exclusive else "")
    kind += (f"d{demand.devices}" if demand.devices > 1 else "") + ("n" if demand.node else "")
    if demand.accelerator or demand.labels:
        kind += "-" + hashlib.sha256(json.dumps([demand.accelerator, demand.labels]).encode()).hexdigest()[:4]
    return kind
