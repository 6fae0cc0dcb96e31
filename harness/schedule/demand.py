"""What a trial needs of the nodes that run it: the trials that need the same are served by the same workers."""

from __future__ import annotations

from dataclasses import dataclass

from harness.domain.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Demand:
    """What a trial needs of a node: a share of so many physical cores and GPUs, alone or beside others."""

    backend: str  # what its process has imported; "none" for a workload that brings its own
    cpus: float  # physical cores of each node; below 1: so much of an unpinned, packed one
    gpus: float  # of each node; below 1: so much of a packed one
    exclusive: bool
    devices: int = 1  # of each node that a batch is split over
    nodes: int = 1  # that the trial spans
    accelerator: str = ""  # the kind of GPU; "": any, or none
    labels: tuple[tuple[str, str], ...] = ()  # that the node must have
    node: str = ""  # its name; "": any

    @classmethod
    def of(cls, trial: Trial) -> Demand:
        setting = trial.setting
        return cls(
            backend=setting.needs,
            cpus=setting.cpus,
            gpus=float(setting.gpus),
            exclusive=setting.exclusive,
            devices=setting.devices,
            nodes=setting.nodes,
            accelerator=setting.accelerator or "",
            labels=tuple(sorted(setting.node_labels.items())),
            node=setting.node or "",
        )

    def __str__(self) -> str:
        told = [f"cpus={self.cpus:g}", *([f"gpus={self.gpus:g}"] if self.gpus else [])]
        told += ["exclusive"] if self.exclusive else []
        told += [f"devices={self.devices}"] if self.devices > 1 else []
        told += [f"nodes={self.nodes}"] if self.nodes > 1 else []
        told += [f"accelerator={self.accelerator}"] if self.accelerator else []
        told += [f"node_labels.{name}={value}" for name, value in self.labels]
        return ", ".join(told + ([f"node={self.node}"] if self.node else []))
