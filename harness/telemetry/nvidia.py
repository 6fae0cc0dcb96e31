"""Readings and description of NVIDIA GPUs, through NVML; without a driver or a GPU all is absent, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pynvml

from harness.telemetry.probe import Reading

# What is read of each GPU. Utilisation: share of the driver's last sampling period (1 s to 1/6 s) in which a kernel
# ran. Memory: of all processes, with what the driver reserves. Power: on most newer GPUs a mean over the last second.
_COUNTERS: dict[str, Callable[[Any], float]] = {
    "gpu_utilisation_percent": lambda device: pynvml.nvmlDeviceGetUtilizationRates(device).gpu,
    "gpu_memory_used_bytes": lambda device: pynvml.nvmlDeviceGetMemoryInfo(device).used,
    "gpu_power_w": lambda device: pynvml.nvmlDeviceGetPowerUsage(device) / 1e3,  # mW
    "gpu_temperature_c": lambda device: pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU),
    "gpu_sm_clock_hz": lambda device: pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM) * 1e6,  # MHz
}
_NEVER = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
_LOST = {
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as NVML sees it; None for what it does not tell."""

    uuid: str
    name: str | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs of this machine, and the version of their driver."""

    devices: tuple[Gpu, ...]
    driver: str | None


def describe_gpus() -> Gpus | None:
    """Return the GPUs that NVML shows here, whatever CUDA_VISIBLE_DEVICES says; None where there is no NVML."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles, _ = _find(None)
        devices = tuple(
            Gpu(
                uuid=uuid,
                name=_told(pynvml.nvmlDeviceGetName, handle),
                memory_bytes=_told(lambda device: int(pynvml.nvmlDeviceGetMemoryInfo(device).total), handle),
            )
            for uuid, handle in handles.items()
        )
        return Gpus(devices=devices, driver=_told(pynvml.nvmlSystemGetDriverVersion))
    finally:
        _told(pynvml.nvmlShutdown)


class NvidiaProbe:
    """The GPUs of this run, each by its UUID: utilisation, memory in use, power, temperature and SM clock.

    A counter that a GPU does not have or that we may not read is left alone from then on, and so is a GPU that is lost;
    any other failure is noted and tried again at the next reading.
    """

    name = "nvidia"

    def __init__(self, gpus: Collection[str] | None = None) -> None:
        """Read the GPUs with these UUIDs (MIG instances too), by default all that NVML shows."""
        self.absent: dict[str, str] = {}
        self._devices: dict[str, Any] = {}
        self._counters: dict[str, list[str]] = {}
        self._open = False
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as problem:
            self.absent = dict.fromkeys(_COUNTERS, f"NVML cannot be used: {problem}")
            return
        self._open = True
        self._devices, self.absent = _find(gpus)
        self._counters = {uuid: list(_COUNTERS) for uuid in self._devices}

    def read(self, now: float) -> Iterator[Reading]:
        for uuid, device in list(self._devices.items()):
            for metric in list(self._counters[uuid]):
                place = f"gpu:{uuid}/{metric}"
                try:
                    value = float(_COUNTERS[metric](device))
                except pynvml.NVMLError as problem:
                    if problem.value in _LOST:
                        del self._devices[uuid]
                        self.absent[f"gpu:{uuid}"] = f"lost while sampling: {problem}"
                        break
                    if problem.value in _NEVER:
                        self._counters[uuid].remove(metric)
                    self.absent.setdefault(place, str(problem))
                else:
                    self.absent.pop(place, None)
                    yield Reading(f"gpu:{uuid}", metric, value)

    def close(self) -> None:
        if self._open:
            self._open = False
            _told(pynvml.nvmlShutdown)


def _find(gpus: Collection[str] | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the handles of the GPUs asked for (None: all) by UUID, and why others cannot be read."""
    handles: dict[str, Any] = {}
    absent: dict[str, str] = {}
    if gpus is not None:
        for uuid in gpus:
            try:
                handles[uuid] = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            except pynvml.NVMLError as problem:
                absent[f"gpu:{uuid}"] = f"NVML gives no access to it: {problem}"
        return handles, absent
    try:
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as problem:
        return {}, dict.fromkeys(_COUNTERS, f"NVML does not list its GPUs: {problem}")
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            handles[pynvml.nvmlDeviceGetUUID(handle)] = handle
        except pynvml.NVMLError as problem:
            absent[f"gpu:{index}"] = f"NVML gives no access to it: {problem}"
    if not count:
        absent = dict.fromkeys(_COUNTERS, "NVML is here but shows no GPU")
    return handles, absent


def _told(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return NVML's answer, or None where it gives none."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None
