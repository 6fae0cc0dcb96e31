"""The energy counters of CPU packages, on folders that stand for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from telemetry.powercap import Powercap

from harness.telemetry.rapl import RaplProbe


def values(probe: RaplProbe, now: float) -> dict[str, float]:
    readings = list(probe.read(now))
    assert {metric for _, metric, _ in readings} <= {"energy_j"}
    return {device: value for device, _, value in readings}


def test_packages_and_their_parts_are_read_in_joules_from_the_first_reading_on(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 5_000_000)
    powercap.zone("intel-rapl:0:0", "core", 2_000_000)
    powercap.zone("intel-rapl:0:1", "dram", 1_000_000)
    powercap.zone("intel-rapl:1", "package-1", 7_000_000)
    powercap.zone("intel-rapl:2", "psys", 9_000_000)  # the whole platform, which is no package
    probe = RaplProbe(root=powercap.root)
    assert values(probe, 0.0) == {"package:0": 0.0, "package:0/core": 0.0, "package:0/dram": 0.0, "package:1": 0.0}
    powercap.set("intel-rapl:0", 6_500_000)
    powercap.set("intel-rapl:0:1", 1_250_000)
    assert values(probe, 0.2) == {"package:0": 1.5, "package:0/core": 0.0, "package:0/dram": 0.25, "package:1": 0.0}
    assert probe.absent == {}


def test_a_counter_goes_on_rising_where_it_wraps_around(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 90_000_000, range_uj=100_000_000)
    probe = RaplProbe(root=powercap.root)
    told = []
    for now, value in enumerate((90_000_000, 10_000_000, 95_000_000, 5_000_000)):
        powercap.set("intel-rapl:0", value)
        told.append(values(probe, now / 100)["package:0"])
    assert told == [0.0, 20.0, 105.0, 115.0]


def test_a_counter_out_of_sight_for_so_long_that_it_may_have_wrapped_twice_is_given_up_with_the_reason(
    powercap: Powercap,
) -> None:
    powercap.zone("intel-rapl:0", "package-0", 0, range_uj=100_000_000)  # 0.1 s at 1,000 W
    probe = RaplProbe(root=powercap.root)
    assert values(probe, 0.0) == {"package:0": 0.0}
    assert values(probe, 0.2) == {}
    assert "may have wrapped around more than once" in probe.absent["package:0/energy_j"]
    assert values(probe, 0.21) == {}


def test_a_counter_whose_range_is_not_told_is_given_up_when_it_falls(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 5_000_000, range_uj=None)
    probe = RaplProbe(root=powercap.root)
    assert values(probe, 0.0) == {"package:0": 0.0}
    powercap.set("intel-rapl:0", 6_000_000)
    assert values(probe, 1e6) == {"package:0": 1.0}
    powercap.set("intel-rapl:0", 1_000_000)
    assert values(probe, 1e6 + 1) == {}


def test_the_dies_of_one_package_are_told_apart(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0-die-0", 0)
    powercap.zone("intel-rapl:1", "package-0-die-1", 0)
    powercap.zone("intel-rapl:1:0", "dram", 0)
    assert set(values(RaplProbe(root=powercap.root), 0.0)) == {
        "package:0-die-0", "package:0-die-1", "package:0-die-1/dram",
    }  # fmt: skip


def test_a_counter_that_is_there_in_two_ways_is_read_once(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 0)
    powercap.zone("intel-rapl-mmio:0", "package-0", 0)
    probe = RaplProbe(root=powercap.root)
    list(probe.read(0.0))
    powercap.set("intel-rapl:0", 3_000_000)
    powercap.set("intel-rapl-mmio:0", 4_000_000)
    assert [tuple(reading) for reading in probe.read(0.1)] == [("package:0", "energy_j", 3.0)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_only_root_may_read_is_absent_with_the_way_out(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 0)
    powercap.forbid("intel-rapl:0")
    probe = RaplProbe(root=powercap.root)
    assert values(probe, 0.0) == {}
    assert "chmod o+r" in probe.absent["package:0/energy_j"]


def test_a_refusal_names_the_way_out(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the test above, for who is root: there the refusal is made by hand."""
    powercap.zone("intel-rapl:0", "package-0", 0)
    read = Path.read_text

    def refused(path: Path, *arguments: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refused)
    probe = RaplProbe(root=powercap.root)
    assert values(probe, 0.0) == {}
    assert "chmod o+r" in probe.absent["package:0/energy_j"]


def test_a_counter_that_vanishes_leaves_the_others_alone(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 0)
    powercap.zone("intel-rapl:1", "package-1", 0)
    probe = RaplProbe(root=powercap.root)
    list(probe.read(0.0))
    (powercap.folder / "intel-rapl:0/energy_uj").unlink()
    assert values(probe, 0.1) == {"package:1": 0.0}
    assert probe.absent["package:0/energy_j"].startswith("cannot be read: ")


def test_no_powercap_at_all_is_absent_with_a_reason(tmp_path: Path) -> None:
    probe = RaplProbe(root=tmp_path)
    assert values(probe, 0.0) == {}
    assert "modprobe intel_rapl_msr" in probe.absent["energy_j"]
    probe.close()


def test_counters_that_a_container_hides_are_absent_with_a_reason(powercap: Powercap) -> None:
    (powercap.folder / "intel-rapl:0").symlink_to(powercap.root / "nowhere")
    assert "hidden from this container" in RaplProbe(root=powercap.root).absent["energy_j"]


def test_on_this_very_machine_there_is_a_reading_or_a_reason() -> None:
    probe = RaplProbe()
    assert list(probe.read(0.0)) or probe.absent
