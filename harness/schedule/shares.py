"""How a node is cut into the shares that its workers hold."""

from __future__ import annotations

from harness.domain.errors import SetupError
from harness.schedule.order import Demand
from harness.schedule.process import Launch
from harness.telemetry.cores import shares, usable_cores
from harness.telemetry.nvidia import describe_gpus, is_instance


def share_out(demand: Demand, *, body: str, most: int | None = None, prefix: str = "") -> list[Launch]:
    """Return the disjoint shares of this node that serve `demand`, at most `most` of them.

    Raises:
        SetupError: when the node cannot hold even one.
    """
    if demand.cpus < 1:
        cores: list[tuple[int, ...]] = [()] * (int(1 / demand.cpus) * usable_cores())
    else:
        cores = shares(int(demand.cpus))
    gpus: list[tuple[str, ...]] = [()] * len(cores)
    if demand.gpus:
        shown = _gpu_uuids()
        present = [uuid for uuid in shown if demand.gpus <= 1 or not is_instance(uuid)]  # CUDA uses one of these
        if 0 < demand.gpus < 1:
            packed = int(1 / demand.gpus)
            gpus = [(uuid,) for _ in range(packed) for uuid in present]
        else:
            each = int(demand.gpus)
            gpus = [tuple(present[i : i + each]) for i in range(0, len(present) - each + 1, each)]
        if not gpus:
            note = "" if present == shown else ", MIG instances left aside, since CUDA lets a process use one"
            raise SetupError(f"gpus={demand.gpus:g} asks for more GPUs than this node shows ({len(present)}{note})")
    count = 1 if demand.exclusive else min(len(cores), len(gpus), most or len(cores))
    kind = {"tensorflow": "", "none": "own"}.get(demand.backend, demand.backend)  # a share's workers, told apart
    kind += "" if (demand.cpus, demand.gpus) == (1, 0) else f"c{demand.cpus:g}"
    kind += (f"g{demand.gpus:g}" if demand.gpus else "") + ("x" if demand.exclusive else "")
    return [
        Launch(
            name=f"{prefix}{kind}{'.' if kind else ''}{number}",
            body=body, backend=demand.backend, cores=cores[number], gpus=gpus[number],
        )
        for number in range(count)
    ]  # fmt: skip


def _gpu_uuids() -> list[str]:
    found = describe_gpus()
    return [] if found is None else [gpu.uuid for gpu in found.devices]
