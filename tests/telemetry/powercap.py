"""A folder tree that stands for /sys/class/powercap, and for the topology of the cores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Powercap:
    """The kernel's energy counters below `root`, which stands for the root of the file system."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "sys/class/powercap"

    def zone(self, folder: str, name: str, value_uj: int, *, range_uj: int | None = 262_143_328_850) -> None:
        """Make a counter, such as that of "package-0" in "intel-rapl:0"."""
        place = self.folder / folder
        place.mkdir()
        (place / "name").write_text(f"{name}\n")
        if range_uj is not None:
            (place / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(folder, value_uj)

    def set(self, folder: str, value_uj: int) -> None:
        """Let a counter stand at this value."""
        (self.folder / folder / "energy_uj").write_text(f"{value_uj}\n")

    def forbid(self, folder: str) -> None:
        """Let nobody but root read a counter."""
        (self.folder / folder / "energy_uj").chmod(0)

    def core(self, number: int, *, package: int) -> None:
        """Put a core on a package."""
        topology = self.root / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
