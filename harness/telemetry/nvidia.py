"""Readings and description of NVIDIA GPUs, through NVML; without a driver or a GPU all is absent, with its reason.

A GPU in MIG mode cannot be given to a worker, only its instances can, so these stand in its place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pynvml

from harness.telemetry.probe import Reading
from harness.telemetry.relevant import GRANTED_GPUS

COSTLY_INTERVAL_S = 0.95  # of the costly counters of one GPU
COSTLY_SHARE = 0.1  # of the time that they may take
_MOST_THREADS = 4096  # hardware threads of a machine, as far as NVML is asked


def _throttle_mask(device: Any) -> float:
    try:
        return float(pynvml.nvmlDeviceGetCurrentClocksEventReasons(device))
    except pynvml.NVMLError_FunctionNotFound:  # drivers before 535 know the older name
        return float(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))


def _traffic(device: Any, counter: int) -> float:
    return float(pynvml.nvmlDeviceGetPcieThroughput(device, counter) * 1e3)  # kB/s


def _ecc(device: Any, kind: int) -> float:
    return float(pynvml.nvmlDeviceGetTotalEccErrors(device, kind, pynvml.NVML_VOLATILE_ECC))


# What is read of each GPU. Utilisation: share of the driver's last sampling period (1 s to 1/6 s) in which a kernel
# ran. Memory: of all processes, with what the driver reserves. Power: on most newer GPUs a mean over the last second.
# Energy: since the driver was loaded; a step every 20 to 100 ms, by the model. The mask: see `throttling`.
_COUNTERS: dict[str, Callable[[Any], float]] = {
    "gpu_utilisation_percent": lambda device: pynvml.nvmlDeviceGetUtilizationRates(device).gpu,
    "gpu_memory_used_bytes": lambda device: pynvml.nvmlDeviceGetMemoryInfo(device).used,
    "gpu_power_w": lambda device: pynvml.nvmlDeviceGetPowerUsage(device) / 1e3,  # mW
    "gpu_energy_j": lambda device: pynvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3,  # mJ
    "gpu_temperature_c": lambda device: pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU),
    "gpu_sm_clock_hz": lambda device: pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM) * 1e6,  # MHz
    "gpu_memory_clock_hz": lambda device: pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_MEM) * 1e6,
    "gpu_throttle_mask": _throttle_mask,
}
# Traffic: NVML watches the bus for 20 ms at each call. Errors: of memory, since the driver was loaded.
_COSTLY: dict[str, Callable[[Any], float]] = {
    "gpu_pcie_received_bytes_per_s": lambda device: _traffic(device, pynvml.NVML_PCIE_UTIL_RX_BYTES),
    "gpu_pcie_sent_bytes_per_s": lambda device: _traffic(device, pynvml.NVML_PCIE_UTIL_TX_BYTES),
    "gpu_ecc_corrected": lambda device: _ecc(device, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    "gpu_ecc_uncorrected": lambda device: _ecc(device, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
}
_ALL = {**_COUNTERS, **_COSTLY}
_OF_AN_INSTANCE = ("gpu_memory_used_bytes",)
_ONLY_WHOLE = "a MIG instance has none of its own; NVML gives it for the whole GPU alone, others' work included"
_NEVER = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
_LOST = {
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one instance of a GPU in MIG mode, as NVML sees it; None for what it does not tell."""

    uuid: str  # "GPU-…" or "MIG-…", as CUDA_VISIBLE_DEVICES takes it
    name: str | None
    memory_bytes: int | None
    near: tuple[int, ...] | None = None  # the hardware threads of its NUMA node


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs of this machine, and the versions of their driver and of the newest CUDA that it serves ("12.4")."""

    devices: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None


def describe_gpus() -> Gpus | None:
    """Return what a worker can be given here; None where there is no NVML.

    That is all that NVML shows, whatever CUDA_VISIBLE_DEVICES says, unless HARNESS_GPUS keeps this node to some of it.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles, _ = _all()
        devices = tuple(
            Gpu(
                uuid=uuid,
                name=_told(pynvml.nvmlDeviceGetName, handle),
                memory_bytes=_told(lambda device: int(pynvml.nvmlDeviceGetMemoryInfo(device).total), handle),
                near=_told(_near, handle, is_instance(uuid)),
            )
            for uuid, handle in handles.items()
        )
        return Gpus(devices=devices, driver=_told(pynvml.nvmlSystemGetDriverVersion), cuda=_told(_cuda))
    finally:
        _told(pynvml.nvmlShutdown)


class NvidiaProbe:
    """The GPUs of this run, each by its UUID.

    A counter that a GPU does not have or that we may not read is left alone from then on, and so is a GPU that is lost;
    any other failure is noted and tried again at the next reading. Of a MIG instance only the memory is read.

    The costly counters are read of one GPU at a time, of each once a second at most, and take a tenth of the time at
    most; they come after the others, which they thus do not hold up.
    """

    name = "nvidia"

    def __init__(self, gpus: Collection[str] | None = None, *, metrics: Collection[str] = tuple(_ALL)) -> None:
        """Read these metrics of the GPUs with these UUIDs (MIG instances too), by default all that
        a worker can be given."""
        self.absent: dict[str, str] = {}
        self._devices: dict[str, Any] = {}
        self._metrics: dict[str, list[str]] = {}
        self._costly_due: dict[str, float] = {}  # when each GPU may be read again
        self._any_costly_due = float("-inf")
        self._open = False
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as problem:
            self.absent = dict.fromkeys(metrics, f"NVML cannot be used: {problem}")
            return
        self._open = True
        self._devices, self.absent = _all() if gpus is None else _named(gpus)
        if not self._devices and not self.absent:
            self.absent = dict.fromkeys(metrics, "NVML is here but shows no GPU")
        for uuid in self._devices:
            whole = not is_instance(uuid)
            self._metrics[uuid] = [metric for metric in metrics if whole or metric in _OF_AN_INSTANCE]
            lacking = () if whole else [metric for metric in metrics if metric not in _OF_AN_INSTANCE]
            self.absent |= {f"gpu:{uuid}/{metric}": _ONLY_WHOLE for metric in lacking}
            if not _COSTLY.keys().isdisjoint(self._metrics[uuid]):
                self._costly_due[uuid] = float("-inf")

    def read(self, now: float) -> Iterator[Reading]:
        for uuid in list(self._devices):
            yield from self._read(uuid, _COUNTERS)
        yield from self._read_costly(now)

    def close(self) -> None:
        if self._open:
            self._open = False
            _told(pynvml.nvmlShutdown)

    def _read_costly(self, now: float) -> Iterator[Reading]:
        """Read the costly counters of the GPU that has waited longest, if it is time."""
        uuid = min(self._costly_due, key=self._costly_due.__getitem__, default=None)
        if uuid is None or now < max(self._any_costly_due, self._costly_due[uuid]):
            return
        began, share_s = time.perf_counter(), COSTLY_INTERVAL_S / len(self._costly_due)
        self._costly_due[uuid] = now + COSTLY_INTERVAL_S
        yield from self._read(uuid, _COSTLY)
        self._any_costly_due = now + max(share_s, (time.perf_counter() - began) / COSTLY_SHARE)

    def _read(self, uuid: str, counters: dict[str, Callable[[Any], float]]) -> Iterator[Reading]:
        """Read those of the counters that are read of a GPU."""
        for metric in [metric for metric in self._metrics[uuid] if metric in counters]:
            place = f"gpu:{uuid}/{metric}"
            try:
                value = float(counters[metric](self._devices[uuid]))
            except pynvml.NVMLError as problem:
                if problem.value in _LOST:
                    del self._devices[uuid]
                    self._metrics[uuid] = []
                    self._costly_due.pop(uuid, None)
                    self.absent[f"gpu:{uuid}"] = f"lost while sampling: {problem}"
                    return
                if problem.value in _NEVER:
                    self._metrics[uuid].remove(metric)
                self.absent.setdefault(place, str(problem))
            else:
                self.absent.pop(place, None)
                yield Reading(f"gpu:{uuid}", metric, value)


def is_instance(uuid: str) -> bool:
    """Whether a UUID is that of a MIG instance: CUDA lets a process use one of them at most."""
    return uuid.startswith("MIG-")


def _named(gpus: Collection[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the handles of these GPUs by UUID, and why others cannot be read."""
    handles: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for uuid in gpus:
        try:
            handles[uuid] = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as problem:
            absent[f"gpu:{uuid}"] = f"NVML gives no access to it: {problem}"
    return handles, absent


def _all() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the handles of all that a worker can be given, by UUID, and why others cannot be read."""
    shown: list[tuple[str, dict[str, Any]]] = []  # each GPU, and what of it a worker can be given
    absent: dict[str, str] = {}
    try:
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as problem:
        return {}, dict.fromkeys(_ALL, f"NVML does not list its GPUs: {problem}")
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            instances = _instances(handle)
        except pynvml.NVMLError as problem:
            absent[f"gpu:{index}"] = f"NVML gives no access to it: {problem}"
            continue
        if instances == {}:
            absent[f"gpu:{uuid}"] = "in MIG mode without an instance; nvidia-smi mig -cgi PROFILE -C makes one"
        shown.append((uuid, {uuid: handle} if instances is None else instances))
    return _granted(shown, absent)


def _granted(shown: list[tuple[str, dict[str, Any]]], absent: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Keep to what this node was granted, in that order; a number counts the GPUs that can be seen."""
    told = os.environ.get(GRANTED_GPUS)
    if told is None:
        return {uuid: handle for _, held in shown for uuid, handle in held.items()}, absent
    handles: dict[str, Any] = {}
    for name in filter(None, told.split(",")):
        if name.isdigit():
            found = shown[int(name)][1] if int(name) < len(shown) else {}
        else:
            found = next((held for uuid, held in shown if uuid.startswith(name)), {})
            found = found or {uuid: one for _, held in shown for uuid, one in held.items() if uuid.startswith(name)}
        if not found:
            absent[f"gpu:{name}"] = "granted to this job, and NVML does not show it"
        handles |= found
    return handles, absent


def _instances(handle: Any) -> dict[str, Any] | None:
    """Return the handles of a GPU's MIG instances by UUID; None where it is not in MIG mode."""
    mode = _told(pynvml.nvmlDeviceGetMigMode, handle)  # none: a model or a driver without MIG
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found: dict[str, Any] = {}
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        instance = _told(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)  # none: the place is empty
        if instance is not None:
            found[pynvml.nvmlDeviceGetUUID(instance)] = instance
    return found


def _near(handle: Any, instance: bool) -> tuple[int, ...] | None:
    """Return the hardware threads near a GPU, or near the one that this is an instance of."""
    device = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if instance else handle
    words = pynvml.nvmlDeviceGetCpuAffinity(device, -(-_MOST_THREADS // 64))
    return tuple(64 * place + bit for place, word in enumerate(words) for bit in range(64) if word >> bit & 1) or None


def _cuda() -> str:
    version = pynvml.nvmlSystemGetCudaDriverVersion()  # 12040
    return f"{version // 1000}.{version % 1000 // 10}"


def _told(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return NVML's answer, or None where it gives none."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None
