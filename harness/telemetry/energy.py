"""Energy counters of what a worker computes on, read by the worker itself at the edges of a span.

A GPU's counter (`nvmlDeviceGetTotalEnergyConsumption`) rises in steps, every 20 to 100 ms by the model, so a span's
figure is off by at most what the GPU uses in one step at each edge: spans should be long against that. A CPU package's
steps every millisecond. Both count the whole device, whoever uses it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.domain.outcome import Energy
from harness.telemetry.cgroup import ROOT, read_text
from harness.telemetry.rapl import METRIC, Zone, why, zones

if TYPE_CHECKING:
    from harness.telemetry.nvidia import NvidiaProbe

Counters = dict[str, float]  # device ("gpu:<UUID>", "package:0") -> joules so far, from an arbitrary start

_GPU_METRIC = "gpu_energy_j"
_KEEP_UP_S = 10.0


class EnergyMeter:
    """The energy counters of some GPUs (NVML) and of the CPU packages that some cores are on (RAPL).

    `absent` says why a device cannot be read, as in `Probe`. A read costs tens of microseconds a device, and nothing
    where there is none. It never raises: what fails is left out, with its reason.
    """

    def __init__(self, *, gpus: Sequence[str] = (), cores: Collection[int] = (), root: Path = ROOT) -> None:
        """Open the counters of the GPUs with these UUIDs and of the packages of these hardware threads."""
        self.absent: dict[str, str] = {}
        self._gpus = len(gpus)
        self._probe: NvidiaProbe | None = None
        self._zones: list[Zone] = []
        self._packages = 0  # counters that there should be
        self._read_at = float("-inf")
        try:
            self._open(gpus, cores, root)
        except Exception as problem:  # whatever a driver does
            self.absent["energy"] = f"cannot be opened: {problem!r}"
        counted = self.read()
        self._counts_gpus = any(device.startswith("gpu:") for device in counted)
        self._counts_packages = any(device.startswith("package:") for device in counted)

    def read(self) -> Counters:
        """Return what the counters say; a device that cannot be read is left out."""
        counters: Counters = {}
        try:
            if self._probe is not None:
                counters = {device: value for device, _, value in self._probe.read(0.0)}
                self.absent |= self._probe.absent
            self._read_zones(counters)
        except Exception as problem:
            self.absent["energy"] = f"reading failed: {problem!r}"
        return counters

    def keep_up(self) -> None:
        """Look at the packages' counters if that was long ago, lest they wrap around unseen; to be called often."""
        if self._zones and time.perf_counter() - self._read_at > _KEEP_UP_S:
            self._read_zones({})

    def between(self, before: Counters, after: Counters) -> Energy | None:
        """Return what the devices used between two reads; None where no counter can be read.

        A device that was lost meanwhile, or whose counter was set back, is left out of the sum and of the coverage;
        where all of a kind are, there is no figure, and a coverage of 0.
        """
        if not (self._counts_gpus or self._counts_packages):
            return None
        used = {device: after[device] - joules for device, joules in before.items() if device in after}
        gpus = [joules for device, joules in used.items() if device.startswith("gpu:") and joules >= 0.0]
        packages = [joules for device, joules in used.items() if device.startswith("package:")]
        return Energy(
            gpu_j=sum(gpus) if gpus else None,
            gpu_coverage=len(gpus) / self._gpus if self._counts_gpus else None,
            cpu_j=sum(packages) if packages else None,
            cpu_coverage=len(packages) / self._packages if self._counts_packages else None,
        )

    def close(self) -> None:
        """Let go of NVML."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _open(self, gpus: Sequence[str], cores: Collection[int], root: Path) -> None:
        found, self.absent = zones(root=root)
        whole = [zone for zone in found if "/" not in zone.device]
        if whole:
            packages = _packages(cores, root)
            self._zones = [zone for zone in whole if zone.package in packages]
            self._packages = len(packages - {zone.package for zone in self._zones}) + len(self._zones)
        if gpus:
            from harness.telemetry.nvidia import NvidiaProbe  # loads NVML, which other workers have no use for

            self._probe = NvidiaProbe(gpus, metrics=[_GPU_METRIC])

    def _read_zones(self, counters: Counters) -> None:
        """Add the packages' counters. One that was out of sight for too long goes on under another name, so that no
        difference is taken across the gap."""
        self._read_at = now = time.perf_counter()
        for zone in list(self._zones):
            try:
                joules = zone.read(now)
            except (OSError, ValueError) as problem:
                self._zones.remove(zone)
                self.absent[f"{zone.device}/{METRIC}"] = why(problem)
            else:
                counters[f"{zone.device}#{zone.breaks}" if zone.breaks else zone.device] = joules


def _packages(cores: Collection[int], root: Path) -> set[int]:
    """Return the packages that these hardware threads are on; where the kernel does not say, the first."""
    topology = root / "sys/devices/system/cpu"
    told = {read_text(topology / f"cpu{core}/topology/physical_package_id") for core in cores}
    return {int(package) if package.isdigit() else 0 for package in told}
