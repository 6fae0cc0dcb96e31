"""Findings on the clocks that times are taken by."""

from __future__ import annotations

from typing import Final

from harness.doctor.seen import Finding, Seen, State
from harness.domain.doubts import DOUBTS
from harness.telemetry.cgroup import read_text

_SLOW_CLOCKS: Final = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")


def rate(seen: Seen) -> Finding:
    doubt = DOUBTS["clock_drift"]
    why = "all times are taken by this clock, and NTP may let it run fast or slow"
    clocks = seen.clocks
    if not clocks.raw_s:
        return Finding(name="clock_rate", state="unknown", seen="the system has no unadjusted clock", why=why)
    percent = 100.0 * (clocks.steady_s / clocks.raw_s - 1.0)
    stepped_s = clocks.wall_s - clocks.steady_s
    told = f"{percent:+.4f} % against the unadjusted clock within {seen.span_s:.1f} s"
    off = abs(percent) > doubt.threshold
    if abs(stepped_s) > 0.01:
        told, off = f"{told}; the wall clock was set by {stepped_s:+.3f} s meanwhile", True
    state: State = "doubt" if off else "ok"
    return Finding(name="clock_rate", state=state, seen=told, why=why, mend=doubt.remedy if off else None)


def synchronised(seen: Seen) -> Finding:
    why = "no duration depends on it; instants of several machines can be compared only where their clocks agree"
    name = "clock_synchronised"
    if seen.clocks.synchronised is None:
        return Finding(name=name, state="unknown", seen="the kernel cannot be asked here", why=why)
    if seen.clocks.synchronised:
        return Finding(name=name, state="ok", seen="the kernel says that it is", why=why)
    mend = "sudo timedatectl set-ntp true, on the host where this is a container"
    return Finding(name=name, state="doubt", seen="the kernel says that it is not", why=why, mend=mend)


def source(seen: Seen) -> Finding:
    why = "reading a slow clock takes microseconds and goes through the kernel"
    source = read_text(seen.root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if not source:
        return Finding(name="clock_source", state="unknown", seen="the kernel does not say here", why=why)
    slow = source in _SLOW_CLOCKS
    mend = "see why the kernel gave up a better one: dmesg | grep -i clocksource"
    return Finding(
        name="clock_source", state="doubt" if slow else "ok", seen=source, why=why, mend=mend if slow else None
    )
