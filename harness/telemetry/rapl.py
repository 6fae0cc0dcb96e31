"""Energy counters of CPU packages: RAPL (Intel's, and AMD's under the same names), through the kernel's powercap.

The kernel gives each counter as it stands in a register of 32 bits, so it wraps around: after 262 kJ on most Intel
and 66 kJ on most AMD processors, some 20 and 5 minutes at 200 W. A counter steps every millisecond.
Source: "Power Capping Framework" of the kernel's documentation; Intel's Software Developer's Manual, volume 3, on RAPL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.telemetry.cgroup import ROOT, read_text
from harness.telemetry.probe import Reading

METRIC: Final = "energy_j"
_MOST_POWER_W: Final = 1000.0  # more than any package draws: until it has had time to wrap twice, one wrap is seen
_FOLDER: Final = Path("sys/class/powercap")
_COUNTER: Final = "energy_uj"
_ZONE: Final = re.compile(r"intel-rapl[a-z-]*:\d+(:\d+)?")  # AMD's, too
_PACKAGE: Final = re.compile(r"package-(\d+)(-die-\d+)?")
_NONE: Final = (
    "the kernel shows no energy counter of a CPU: virtual machines and containers hide them; else "
    "`modprobe intel_rapl_msr` as root may show them"
)
_HIDDEN: Final = "hidden from this container; start it so that it sees /sys/devices/virtual/powercap"
_FORBIDDEN: Final = (
    "only root may read it, since Linux 5.10; `chmod o+r /sys/class/powercap/*/energy_uj` as root lets all, until the "
    "machine is started again"
)


class Zone:
    """One counter: a whole package ("package:0", "package:0-die-1") or a part of it ("package:0/dram").

    Parts are within their package's figure, but for dram, which is beside it.
    """

    def __init__(self, device: str, *, package: int, folder: Path) -> None:
        self.device = device
        self.package = package  # as in the topology of its cores: physical_package_id
        self.breaks = 0  # how often the counter was out of sight for so long that it may have wrapped unseen
        self._file = folder / _COUNTER
        self._range_uj = int(read_text(folder / "max_energy_range_uj") or 0)  # 0: not known
        self._safe_s = self._range_uj / 1e6 / _MOST_POWER_W or float("inf")
        self._last_uj: int | None = None
        self._last_s = 0.0
        self._total_uj = 0

    def read(self, now: float) -> float:
        """Return the joules since the first reading, wrap-around made good; `now` in seconds of a steady clock.

        A counter left unread for longer than its range lasts at 1,000 W may have wrapped more than once, which
        cannot be seen: that counts in `breaks`, and the figure may lack whole ranges from then on.

        Raises:
            OSError, ValueError: when it cannot be read.
        """
        value_uj = int(self._file.read_text())
        if self._last_uj is not None:
            risen_uj = value_uj - self._last_uj
            if risen_uj < 0:
                risen_uj += self._range_uj
            if risen_uj < 0 or now - self._last_s > self._safe_s:
                self.breaks += 1
            self._total_uj += max(0, risen_uj)
        self._last_uj, self._last_s = value_uj, now
        return self._total_uj / 1e6


def zones(*, root: Path = ROOT) -> tuple[list[Zone], dict[str, str]]:
    """Return the counters that can be read, packages before their parts, and why others cannot, as in `Probe.absent`.

    Where a counter can be had in several ways (as register and as mapped memory), one stands for all.
    """
    try:
        names = [entry.name for entry in (root / _FOLDER).iterdir() if _ZONE.fullmatch(entry.name)]
    except OSError:
        names = []
    found: dict[str, Zone] = {}
    absent: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name.count(":"), "mmio" in name, name)):
        folder = root / _FOLDER / name
        top = read_text(root / _FOLDER / name.rpartition(":")[0] / "name") if name.count(":") == 2 else ""
        own = read_text(folder / "name")
        package = _PACKAGE.fullmatch(top or own)
        if package is None:  # of the whole platform ("psys"), or not to be seen at all
            if not own:
                absent[METRIC] = _HIDDEN
            continue
        device = f"package:{package[1]}{package[2] or ''}" + (f"/{own}" if top else "")
        place = f"{device}/{METRIC}"
        if device in found:
            continue
        try:
            int((folder / _COUNTER).read_text())
        except (OSError, ValueError) as problem:
            absent.setdefault(place, why(problem))
        else:
            absent.pop(place, None)
            found[device] = Zone(device, package=int(package[1]), folder=folder)
    if not found and not absent:
        absent[METRIC] = _NONE
    return list(found.values()), absent


def why(problem: Exception) -> str:
    """Return what to say of a counter that cannot be read."""
    return _FORBIDDEN if isinstance(problem, PermissionError) else f"cannot be read: {problem}"


class RaplProbe:
    """The CPU packages of this machine and their parts: `energy_j`, since the first reading.

    A counter that fails, or that was out of sight for too long (see `Zone.read`), is left alone from then on.
    """

    name = "rapl"

    def __init__(self, *, root: Path = ROOT) -> None:
        self._zones, self.absent = zones(root=root)

    def read(self, now: float) -> Iterator[Reading]:
        for zone in list(self._zones):
            try:
                value = zone.read(now)
                if zone.breaks:
                    raise ValueError("left unread for so long that it may have wrapped around more than once")
            except (OSError, ValueError) as problem:
                self._zones.remove(zone)
                self.absent[f"{zone.device}/{METRIC}"] = why(problem)
            else:
                yield Reading(zone.device, METRIC, value)

    def close(self) -> None:
        """Nothing is held open."""
