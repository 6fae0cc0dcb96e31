"""How a worker process is to be started, as values that travel: what is the same for it wherever it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Group:
    """A process's place among those that run one trial together."""

    rank: int  # from 0
    size: int
    coordinator: str  # where that of rank 0 listens for the others, IP:PORT
    ip: str  # its own

    def __str__(self) -> str:
        return f"{self.rank} {self.size} {self.coordinator} {self.ip}"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a worker process; the same on any node."""

    name: str
    body: str  # "module:attribute" that makes the Body
    backend: str
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    devices: int = 1  # that it splits a batch over: its GPUs, or as many that XLA makes of its cores
    group: Group | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that must be set before Python starts, since thread pools are sized at import."""
        threads = str(max(1, len(self.cores)))
        values = {"KERAS_BACKEND": self.backend} if self.backend != "none" else {}
        if self.devices > 1:
            values["HARNESS_DEVICES"] = str(self.devices)
        if self.devices > 1 and not self.gpus:
            count = f"--xla_force_host_platform_device_count={self.devices}"
            values["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
        return values | {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get(
                "TF_CPP_MIN_LOG_LEVEL", "0" if self.backend == "tensorflow" else "2"
            ),
            # A line for each compilation, which the worker counts (see harness/workloads/training/tensorflow_log.py).
            "TF_CPP_VMODULE": os.environ.get("TF_CPP_VMODULE", "device_compilation_profiler=1"),
            "CUDA_VISIBLE_DEVICES": ",".join(self.gpus),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "NPROC": threads,  # XLA's pool under JAX, where cores cannot be pinned
            "JAX_PLATFORMS": "" if self.gpus else "cpu",  # the former: whatever there is
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # Keras asks for a GPU when imported; the nursery has to fork after
            "PYTHONUNBUFFERED": "1",
        }

    def nursery_key(self) -> tuple[object, ...]:
        """Return what launches must have in common to be forked from one nursery."""
        return (self.body, self.backend, *sorted(self.environment().items()))


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a run was asked for: what its workers take over where they were started by another command before."""

    folder: str
    environment: Mapping[str, str | None]  # the variables that differ from that command's; None: not set
