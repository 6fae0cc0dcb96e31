"""What a worker process keeps from trial to trial, and what it is given."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness import datasets
from harness.domain.errors import SetupError
from harness.domain.setting import Dataset, Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.telemetry.energy import EnergyMeter
from harness.workloads.protocol import Arrays, Workload

if TYPE_CHECKING:
    from harness.workloads.training.engine import Backend


@dataclass(kw_only=True)
class WorkerState:
    """What a worker process keeps from trial to trial."""

    sources: dict[str, Source] = field(default_factory=dict)
    trials_run: int = 0
    workloads: dict[str, Workload] = field(default_factory=dict)  # by back end and name; each keeps its own caches
    compiled_ahead_s: dict[str, float] = field(default_factory=dict)  # by program key; told to the trial that uses it
    missing: dict[str, str] = field(default_factory=dict)  # back ends that are not installed here, and what to say
    anchor_s: float = field(default_factory=lambda: time.time() - time.perf_counter())  # Unix time less steady clock
    meter: EnergyMeter | None = None
    save_asked: bool = False  # the trial that is running is to save its state as soon as it can

    def unix_s(self) -> float:
        """Return the Unix time by the node's steady clock: setting the wall clock does not bend it."""
        return self.anchor_s + time.perf_counter()

    def workload(self, trial: Trial) -> Workload:
        """Return the workload that a trial runs, importing it when it is first asked for.

        Raises:
            SetupError: when its back end is not installed on this node.
        """
        setting = trial.setting
        if setting.needs in self.missing:
            raise SetupError(self.missing[setting.needs])
        name = setting.workload.name
        key = name if name in ("function", "program") else f"{setting.backend}.{name}"
        if key not in self.workloads:
            self.workloads[key] = _load(setting)
        return self.workloads[key]


def own_cores() -> tuple[int, ...] | None:
    """Return the hardware threads that this process may run on, None where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def own_gpus() -> tuple[str, ...] | None:
    """Return the UUIDs of the GPUs, or of their MIG instances, that this process was given; None for none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return tuple(name for name in named if name.startswith(("GPU-", "MIG-"))) or None


def backend_of(name: str) -> Backend:
    backend: Backend = importlib.import_module(f"harness.workloads.training.{name}").BACKEND
    return backend


def _load(setting: Setting) -> Workload:
    """Return a new workload of the kind that a setting names."""
    match setting.workload.name:
        case "function":
            from harness.workloads.function import Function

            return Function(_data)
        case "program":
            from harness.workloads.program.workload import Program

            return Program()
        case "minimise":
            from harness.workloads.minimise import Minimise

            return Minimise()
        case _:
            from harness.workloads.training.workload import Training

            return Training(_data, backend_of(setting.backend))


def _data(dataset: Dataset, sources: Mapping[str, Source]) -> Arrays:
    """Load a dataset, and NumPy with the first."""
    return datasets.load(dataset, sources)
