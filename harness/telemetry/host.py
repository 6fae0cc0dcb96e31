"""Readings of the machine, from the files of Linux; through psutil what is found in a different place on each machine.

The sampling process reads these many times a second beside the trainings that it watches. psutil's functions for the
same numbers open and parse a file at each call, some a file for every disk, and take several times the CPU time.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from harness.telemetry.cgroup import ROOT, read_text, throttled_s, throttling_files
from harness.telemetry.cores import allowed_cpus, cpu_list
from harness.telemetry.probe import Reading

TICKS_S = 0.09  # kernels count CPU time in ticks of 10 ms as a rule: over a shorter span it is noise, not a share
SECOND_S = 0.95
SHARE = 50  # no kind of reading takes more than one part in so many of a CPU's time, however large the machine
WAIT_SHARE = 10  # and what asks devices, as sensors on slow buses are, no more of the time, which all others wait

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SECTOR_BYTES: Final = 512  # in /proc/diskstats, whatever the disk's own sector is
_IDLE, _IOWAIT, _STEAL = 3, 4, 7  # places in a line of /proc/stat
_STAT_FIELDS: Final = 8  # of such a line; those after them, time run as a guest, are within the first
_PAGING: Final = {  # the kernel's names in /proc/vmstat, and bytes or one for each count
    "swap_in_bytes": (b"pswpin", _PAGE_BYTES),
    "swap_out_bytes": (b"pswpout", _PAGE_BYTES),
    "page_faults": (b"pgfault", 1),
    "major_page_faults": (b"pgmajfault", 1),
}


def memory_total_bytes() -> int | None:
    """Return the machine's memory in bytes, whatever a container may allow of it; None where the kernel hides it."""
    try:
        return int(psutil.virtual_memory().total)
    except (OSError, LookupError, ValueError):
        return None


def physical_core_count() -> int | None:
    """Return how many physical cores the machine has; None where the kernel does not say."""
    count: int | None = psutil.cpu_count(logical=False)
    return count


@dataclass(slots=True)
class _Source:
    """Some metrics that are read together, no more often than `every_s`."""

    metrics: tuple[str, ...]
    read: Callable[[], Iterator[Reading]]
    every_s: float
    due_s: float = float("-inf")


class HostProbe:
    """The whole machine ("host"), the hardware threads this process may use ("cpuN") and the temperature sensors.

    What each metric means, and its unit: `harness.telemetry.probe.READINGS`. Memory and the counters of time and
    events are read ten times a second at most; load, clock frequencies, temperatures, disks and the network once a
    second at most. What fails is left alone from then on, with its reason.
    """

    name = "host"

    def __init__(self, *, cpus: Collection[int] | None = None, root: Path = ROOT) -> None:
        """Watch the given hardware threads, by default those this process may run on; `root` is the file system's."""
        self.absent: dict[str, str] = {}
        self._cpus = frozenset(allowed_cpus() if cpus is None else cpus)
        self._root = root
        self._files: dict[str, int] = {}
        self._times: dict[bytes, list[int]] = {}  # ticks by kind, by the line's name
        self._hidden = False
        self._throttling = [str(path.relative_to(root)) for path in throttling_files(root=root)]
        self._hardware: dict[str, bool] = {}
        pressures = [
            _Source((f"{kind}_pressure_s",), lambda kind=kind: self._read_pressure(kind), TICKS_S)  # type: ignore[misc]
            for kind in ("cpu", "memory", "io")
        ]
        self._sources = [
            _Source(("memory_used_bytes",), self._read_memory, TICKS_S),
            _Source(("cpu_percent", "steal_percent", "context_switches"), self._read_stat, TICKS_S),
            _Source(tuple(_PAGING), self._read_paging, TICKS_S),
            _Source(("swap_used_bytes",), self._read_swap, TICKS_S),
            *pressures,
            _Source(("cgroup_throttled_s",), self._read_throttling, TICKS_S),
            _Source(("load1",), self._read_load, SECOND_S),
            _Source(("cpu_frequency_hz",), self._read_frequency, SECOND_S),
            _Source(("temperature_c",), self._read_temperatures, SECOND_S),
            _Source(("disk_read_bytes", "disk_write_bytes"), self._read_disks, SECOND_S),
            _Source(("network_received_bytes", "network_sent_bytes"), self._read_network, SECOND_S),
        ]

    def read(self, now: float) -> Iterator[Reading]:
        for source in list(self._sources):
            if now < source.due_s:
                continue
            began_s, asked_s = time.thread_time(), time.monotonic()
            try:
                readings = list(source.read())
            except (OSError, ValueError, LookupError, RuntimeError, psutil.Error) as problem:
                self.absent.update(dict.fromkeys(source.metrics, str(problem)))
                self._sources.remove(source)
                continue
            took_s = SHARE * (time.thread_time() - began_s)
            if source.every_s >= SECOND_S:  # not of the kernel's own counters: there it would be waiting for a CPU
                took_s = max(took_s, WAIT_SHARE * (time.monotonic() - asked_s))
            source.due_s = now + max(source.every_s, took_s)
            yield from readings

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _text(self, path: str) -> bytes:
        """Return what a file says now, `path` being below the root. It is kept open: to open it costs the most."""
        descriptor = self._files.get(path)
        if descriptor is None:
            descriptor = self._files[path] = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC)
        parts = []
        at = 0
        while part := os.pread(descriptor, 2**16, at):  # the kernel gives long lists in pieces of a few KiB
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def _read_memory(self) -> Iterator[Reading]:
        text = self._text("proc/meminfo")
        yield Reading("host", "memory_used_bytes", 1024 * (_count(text, b"MemTotal:") - _count(text, b"MemAvailable:")))

    def _read_swap(self) -> Iterator[Reading]:
        text = self._text("proc/meminfo")
        total = _count(text, b"SwapTotal:")
        if total == 0:
            raise RuntimeError("no swap space is configured on this machine")
        yield Reading("host", "swap_used_bytes", 1024 * (total - _count(text, b"SwapFree:")))

    def _read_stat(self) -> Iterator[Reading]:
        text = self._text("proc/stat")
        yield Reading("host", "context_switches", _count(text, b"ctxt"))
        before, self._times = self._times, {}
        for line in text[: text.index(b"\nintr")].splitlines():
            name, *fields = line.split()
            if name == b"cpu" or int(name[3:]) in self._cpus:
                self._times[name] = list(map(int, fields[:_STAT_FIELDS]))
        if before.keys() != self._times.keys():  # the first reading, or a CPU was switched on or off
            self._hidden = self._hides_cores(text)
        for name, ticks in self._times.items():
            if name in before and (name == b"cpu" or not self._hidden):
                yield from _cpu_readings("host" if name == b"cpu" else name.decode(), before[name], ticks)

    def _hides_cores(self, text: bytes) -> bool:
        """Whether the CPUs of /proc/stat are not the machine's: a container may show its own, numbered from 0."""
        shown = {int(number) for number in re.findall(rb"^cpu(\d+)", text, re.MULTILINE)}
        listed = read_text(self._root / "sys/devices/system/cpu/online")
        hidden = bool(listed) and shown != set(cpu_list(listed))
        if hidden:
            reason = f"the machine has the cores {listed} but times are shown of {len(shown)}: a container hides some"
        else:
            reason = "the kernel shows no times of this core"
        for cpu in self._cpus if hidden else self._cpus - shown:
            for metric in ("cpu_percent", "steal_percent"):
                self.absent.setdefault(f"cpu{cpu}/{metric}", reason)
        return hidden

    def _read_paging(self) -> Iterator[Reading]:
        text = self._text("proc/vmstat")
        for metric, (name, each) in _PAGING.items():
            if metric not in self.absent:
                try:
                    yield Reading("host", metric, each * _count(text, name))
                except LookupError as problem:
                    self.absent[metric] = str(problem)

    def _read_pressure(self, kind: str) -> Iterator[Reading]:
        try:
            text = self._text(f"proc/pressure/{kind}")
        except OSError as problem:
            raise RuntimeError(f"the kernel keeps no account of pressure (PSI): {problem.strerror}") from problem
        found = re.match(rb"some .*total=(\d+)", text)
        if found is None:
            raise ValueError(f"/proc/pressure/{kind} is not understood: {text[:60]!r}")
        yield Reading("host", f"{kind}_pressure_s", int(found[1]) / 1e6)

    def _read_throttling(self) -> Iterator[Reading]:
        if not self._throttling:
            raise RuntimeError("no control group of this process keeps account of CPU quotas")
        held_back_s = sum(throttled_s(self._text(path)) for path in self._throttling)
        yield Reading("host", "cgroup_throttled_s", held_back_s)

    def _read_load(self) -> Iterator[Reading]:
        yield Reading("host", "load1", float(self._text("proc/loadavg").split()[0]))

    def _read_frequency(self) -> Iterator[Reading]:
        found = False
        for cpu in sorted(self._cpus):
            path = self._root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"
            if path.exists():
                found = True
                yield Reading(f"cpu{cpu}", "cpu_frequency_hz", float(path.read_text()) * 1000.0)  # the file says kHz
        if not found:
            raise RuntimeError("the kernel reports no current frequency here, as in most virtual machines")

    def _read_temperatures(self) -> Iterator[Reading]:
        sensors = psutil.sensors_temperatures()
        if not sensors:
            raise RuntimeError("the kernel shows no temperature sensors here, as in most virtual machines")
        for chip, temperatures in sensors.items():
            seen: dict[str, int] = {}
            for temperature in temperatures:
                label = temperature.label or "temperature"
                seen[label] = seen.get(label, 0) + 1
                place = f"{chip}/{label}" + (f" {seen[label]}" if seen[label] > 1 else "")  # two chips of one kind
                yield Reading(f"sensor:{place}", "temperature_c", temperature.current)

    def _read_disks(self) -> Iterator[Reading]:
        lines = [line.split() for line in self._text("proc/diskstats").decode().splitlines()]
        disks = [fields for fields in lines if self._is_hardware(f"sys/block/{fields[2]}")]
        if not disks:
            raise RuntimeError("no disk is seen in /sys/block")
        yield Reading("host", "disk_read_bytes", _SECTOR_BYTES * sum(int(fields[5]) for fields in disks))
        yield Reading("host", "disk_write_bytes", _SECTOR_BYTES * sum(int(fields[9]) for fields in disks))

    def _read_network(self) -> Iterator[Reading]:
        lines = [line.partition(":") for line in self._text("proc/net/dev").decode().splitlines()[2:]]
        counts = {name.strip(): rest.split() for name, _, rest in lines if name.strip() != "lo"}
        if not counts:
            raise RuntimeError("this network namespace has no interface but the loopback")
        # What passes a bond, a bridge or a container's end of one passes a hardware interface too.
        chosen = [name for name in counts if self._is_hardware(f"sys/class/net/{name}")] or list(counts)
        yield Reading("host", "network_received_bytes", sum(int(counts[name][0]) for name in chosen))
        yield Reading("host", "network_sent_bytes", sum(int(counts[name][8]) for name in chosen))

    def _is_hardware(self, path: str) -> bool:
        """Whether a block device or a network interface is a device of its own, and not made of others."""
        if path not in self._hardware:
            self._hardware[path] = (self._root / path / "device").exists()
        return self._hardware[path]


def _count(text: bytes, name: bytes) -> int:
    """Return the number after a name that begins a line; LookupError if there is no such line."""
    at = 0 if text.startswith(name + b" ") else text.find(b"\n" + name + b" ") + 1
    if at == 0 and not text.startswith(name + b" "):
        raise LookupError(f"the kernel does not count {name.decode().rstrip(':')}")
    at += len(name)
    end = text.find(b"\n", at)
    return int(text[at : end if end >= 0 else None].split()[0])


def _cpu_readings(device: str, before: list[int], after: list[int]) -> Iterator[Reading]:
    """Give the shares of a span, of which these are the ends; kernels let single counters step back a little."""
    spent = [max(0, new - old) for old, new in zip(before, after, strict=True)]
    total = sum(spent)
    if total == 0:
        return
    busy = total - spent[_IDLE] - spent[_IOWAIT] - spent[_STEAL]
    yield Reading(device, "cpu_percent", 100.0 * busy / total)
    yield Reading(device, "steal_percent", 100.0 * spent[_STEAL] / total)
