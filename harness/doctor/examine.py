"""What hardware is visible here, what can be read of it, and what would make numbers noisy: about 1.5 s in all."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from harness import processes
from harness.doctor.findings import findings
from harness.doctor.seen import Busy, ByteCode, Clocks, Finding, Seen
from harness.domain.noise_floor import newest_floor
from harness.telemetry.cgroup import ROOT, read_text
from harness.telemetry.cores import allowed_cpus, quota_note, shares
from harness.telemetry.energy import EnergyMeter
from harness.telemetry.environment import describe_node
from harness.telemetry.host import HostProbe
from harness.telemetry.nvidia import Gpu, NvidiaProbe, describe_gpus
from harness.telemetry.probe import Probe, Reading
from harness.telemetry.rapl import RaplProbe
from harness.telemetry.workers import ProcessProbe

_WATCHED_S: Final = 1.0  # CPU time is counted in ticks of 10 ms as a rule: a load is then known to 1 %
_BUSY_PERCENT: Final = 5.0  # of a core: processes below are not named
_NAMED: Final = 3  # processes at most
_SHOWN: Final = 60  # characters of a command line
_PARTS: Final = frozenset({"harness.schedule.child", "harness.telemetry.sampler"})  # modules that a run starts
_TIME_ERROR: Final = 5  # linux/timex.h: what adjtimex returns while the clock is not synchronised
_BACKENDS: Final = {"tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly"), "jax": ("jax",), "torch": ("torch",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Counters that cannot be read, for one and the same reason."""

    reason: str
    what: tuple[str, ...]  # as in `Probe.absent`


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """What the clocks say at one moment, in seconds."""

    steady_s: float
    raw_s: float | None
    wall_s: float

    @classmethod
    def now(cls) -> Instant:
        raw = getattr(time, "CLOCK_MONOTONIC_RAW", None)
        raw_s = None if raw is None else time.clock_gettime(raw)
        return cls(steady_s=time.monotonic(), raw_s=raw_s, wall_s=time.time())

    def until(self, end: Instant) -> Clocks:
        """Return how far the clocks have gone since."""
        return Clocks(
            steady_s=end.steady_s - self.steady_s,
            raw_s=None if self.raw_s is None or end.raw_s is None else end.raw_s - self.raw_s,
            wall_s=end.wall_s - self.wall_s,
            synchronised=_synchronised(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found out about this machine."""

    node: Mapping[str, Any]  # the row of `nodes`; None: not known
    gpus: tuple[Gpu, ...]
    workers: tuple[tuple[int, ...], ...]  # the hardware threads of each worker that asks for one core
    workers_note: str | None  # why they are fewer than the cores
    backends: Mapping[str, str | None]  # the version of each back end; None: not installed
    readings: tuple[Reading, ...]
    absent: tuple[Absent, ...]
    meter: tuple[str, ...]  # devices whose energy counters a worker reads itself, at the edges of each epoch
    noise_floor: Mapping[str, Any] | None  # as run.json holds it; None: not measured
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, Any]:
        """Return all of it as plain JSON."""
        return {
            "node": dict(self.node),
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "workers": {"cores": [list(cores) for cores in self.workers], "note": self.workers_note},
            "backends": dict(self.backends),
            "counters": [reading._asdict() for reading in self.readings],
            "energy_counters": list(self.meter),
            "absent": [{"reason": one.reason, "what": list(one.what)} for one in self.absent],
            "noise_floor": None if self.noise_floor is None else dict(self.noise_floor),
            "findings": [asdict(one) for one in self.findings],
        }


def examine(runs: Sequence[Mapping[str, Any]] = (), *, root: Path = ROOT, watched_s: float = _WATCHED_S) -> Examination:
    """Watch this machine for a moment. Nothing here needs a privilege, and what cannot be read raises nothing.

    `runs` are the run.json of runs that may have measured a noise floor; `root` is the file system's.
    """
    cpus = tuple(allowed_cpus())
    node = describe_node()
    described = describe_gpus()
    gpus = () if described is None else described.devices
    uuids = [gpu.uuid for gpu in gpus]
    meter = EnergyMeter(gpus=uuids, cores=cpus, root=root)
    absent: dict[str, str] = {}
    after: dict[tuple[str, str], float] = {}
    nvidia = NvidiaProbe()
    for turn in range(max(1, len(gpus))):  # its costly counters are read of one GPU at a time
        after |= _read([nvidia], 10.0 * turn, absent)
    # From here to the second reading of the host this process sleeps, so that what it does is no load.
    looked_s, used = time.monotonic(), _cpu_times()
    worker = ProcessProbe({"doctor": os.getpid()})  # as good as any: it is read as a worker is
    probes: list[Probe] = [HostProbe(root=root), worker, RaplProbe(root=root)]
    before = _read(probes, time.perf_counter(), {})
    clocks = Instant.now()
    began_s = time.perf_counter()
    time.sleep(watched_s)
    span_s = time.perf_counter() - began_s
    after = _read(probes, time.perf_counter(), absent) | after
    spent = _spent(used, _cpu_times(), time.monotonic() - looked_s)
    seen = Seen(
        root=root,
        node=node,
        cpus=cpus,
        pinning=can_pin(cpus),
        span_s=span_s,
        before=before,
        after=after,
        absent=absent,
        clocks=clocks.until(Instant.now()),
        busy=_busy(spent),
        others_percent=sum(spent.values()) if spent else None,
        gpu_memory_bytes={gpu.uuid: gpu.memory_bytes for gpu in gpus if gpu.memory_bytes},
        byte_code=_byte_code(),
        noise_floor=newest_floor(runs, node),
    )
    counted = tuple(meter.read())
    absent |= {key: reason for key, reason in meter.absent.items() if key not in absent}
    for probe in (*probes, nvidia):
        probe.close()
    meter.close()
    versions = node.get("versions") or {}
    return Examination(
        node=node,
        gpus=gpus,
        workers=tuple(shares(1, root=root)),
        workers_note=quota_note(root=root),
        backends={
            name: next((versions[package] for package in packages if package in versions), None)
            for name, packages in _BACKENDS.items()
        },
        readings=tuple(Reading(device, metric, value) for (device, metric), value in after.items()),
        absent=_grouped(absent),
        meter=counted,
        noise_floor=seen.noise_floor,
        findings=findings(seen),
    )


def _read(probes: Sequence[Probe], now: float, absent: dict[str, str]) -> dict[tuple[str, str], float]:
    """Return what the probes read, by device and metric; what they cannot goes to `absent`."""
    found: dict[tuple[str, str], float] = {}
    for probe in probes:
        try:
            found |= {(device, metric): value for device, metric, value in probe.read(now)}
        except Exception as problem:  # whatever a driver does: the others are read all the same
            absent[probe.name] = f"reading failed: {problem!r}"
        absent |= probe.absent
    return found


def _grouped(absent: Mapping[str, str]) -> tuple[Absent, ...]:
    """Return what is absent, by the reason."""
    reasons: dict[str, list[str]] = {}
    for what, reason in absent.items():
        reasons.setdefault(reason, []).append(what)
    return tuple(Absent(reason=reason, what=tuple(what)) for reason, what in reasons.items())


def _synchronised() -> bool | None:
    """Return whether the kernel holds the clock for synchronised; None where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return None
    nothing_to_set = ctypes.create_string_buffer(512)  # a `struct timex` is smaller, and its first field names changes
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(nothing_to_set)
    except AttributeError:
        return None
    return None if state < 0 else state != _TIME_ERROR


_Process = tuple[int, int]  # its id, and when it began


def _cpu_times() -> dict[_Process, float]:
    """Return the CPU seconds of every process in sight but this one."""
    times: dict[_Process, float] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 (many times faster)
    except OSError:
        return times
    for pid in (int(name) for name in names if name.isdigit()):
        stat = processes.stat(pid)
        if stat is not None and pid != os.getpid():
            times[pid, stat.began] = stat.user_cpu_s + stat.system_cpu_s
    return times


def _spent(before: Mapping[_Process, float], after: Mapping[_Process, float], span_s: float) -> dict[int, float]:
    """Return what each process used between two looks, in percent of a core, by its id."""
    return {one[0]: 100.0 * (used - before.get(one, 0.0)) / span_s for one, used in after.items()}


def _busy(spent: Mapping[int, float]) -> tuple[Busy, ...]:
    """Return the processes that were busy, the busiest first; those of a run of the harness all, of others a few."""
    most = sorted(((percent, pid) for pid, percent in spent.items() if percent > _BUSY_PERCENT), reverse=True)
    if not most:
        return ()
    words = {pid: _words(pid) for pid in spent}
    every = [Busy(pid=pid, name=_named(pid, words[pid]), percent=part, run=run_of(pid, words)) for part, pid in most]
    named = [one for one in every if one.run is None][:_NAMED]
    return tuple(one for one in every if one.run is not None or one in named)


def run_of(pid: int, words: Mapping[int, Sequence[str]]) -> int | None:
    """Return the process of the run of the harness that a process belongs to; None where it belongs to none.

    `words` are the command lines of all processes. It is the `harness run` above it, or failing that any in sight, as
    Ray's processes may have left it; where none is in sight, as on a node that joined a cluster, its worker or sampler.
    """
    drivers = [one for one, line in words.items() if _is_driver(line)]
    parts = {one for one, line in words.items() if not _PARTS.isdisjoint(line)}
    if drivers or parts:  # Ray may be at work for others
        parts |= {one for one, line in words.items() if line and line[0].startswith("ray::")}
    found, at, seen = None, pid, {0, 1}
    while at not in seen:
        if at in drivers:
            return at
        seen.add(at)
        found = at if at in parts else found
        stat = processes.stat(at)
        at = 0 if stat is None else stat.parent
    return drivers[0] if found is not None and drivers else found


def _is_driver(line: Sequence[str]) -> bool:
    """Tell whether a command line is that of `harness run` or `harness aa`."""
    commands = (place for place, word in enumerate(line[:-1]) if Path(word).name == "harness")
    return any(line[place + 1] in ("run", "aa") for place in commands)


def _words(pid: int) -> tuple[str, ...]:
    return tuple(word for word in read_text(Path(f"/proc/{pid}/cmdline")).split("\0") if word)


def _named(pid: int, words: Sequence[str]) -> str:
    """Return the beginning of a command line; the kernel's own threads have a name alone."""
    line = " ".join(words) or read_text(Path(f"/proc/{pid}/comm")) or "a process"
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _byte_code() -> tuple[ByteCode, ...]:
    """Return where Keras and TensorFlow are, none of them imported; packages that are not installed are left out."""
    found = []
    for package in ("tensorflow", "keras"):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.origin:
            continue
        cached = Path(importlib.util.cache_from_source(spec.origin))
        place = next(folder for folder in cached.parents if folder.exists())
        writable = os.access(place, os.W_OK) and not sys.dont_write_bytecode
        found.append(
            ByteCode(package=package, folder=Path(spec.origin).parent, compiled=cached.is_file(), writable=writable)
        )
    return tuple(found)


def can_pin(cpus: tuple[int, ...]) -> str | None:
    """Return why this process cannot be pinned to each of its hardware threads; None: it can. Leaves it as it was."""
    if not hasattr(os, "sched_setaffinity"):
        return "this system cannot"
    try:
        for cpu in cpus:
            os.sched_setaffinity(0, {cpu})
    except OSError as problem:
        return str(problem)
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)
    return None
