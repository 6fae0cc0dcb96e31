"""The sampling process: reads all probes at a steady rate and writes what they give to its standard output.

It talks with its parent (`harness.telemetry.sampler`) in lines of JSON. In comes a `Request` at the start and again
whenever the processes to watch change; the end of the input is the sign to take a last sample and leave. Out go
{"time": s, "rows": [[device, metric, value], ...]} for each sample and {"absent": {...}} when that has changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from harness.telemetry.cores import allowed_cpus
from harness.telemetry.probe import Probe

if TYPE_CHECKING:
    from harness.telemetry.workers import ProcessProbe

_P = TypeVar("_P", bound=Probe)

# Where the system permits it; and `Sampler` gives the process a session of its own, which Linux schedules as a group.
# What counts is to be let in at once, since a sample takes a fraction of a millisecond. Beside two pinned processes of
# three busy threads each, on both cores of a machine, samples were late by this much (median, nine of ten within):
# in their session 8.0 and 26 ms (niceness +5), 4.8 and 16 ms (0), 0.17 and 6.8 ms (-10); in a session of its own
# 0.13 and 3.8 ms (0), 0.13 and 3.9 ms (-10). Where sessions are no groups, the niceness alone does it.
NICENESS = -10
_WAIT_S = 3600.0  # at a time: the kernel takes no time-out of centuries, as the lowest rates would give
_SELDOM_S = 2.0  # beyond the interval of what is read most seldom
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the parent asks of the sampling process. Only `cpus`, `gpus` and `watch` may change later."""

    rate_hz: float
    anchor_s: float  # Unix time less `perf_counter`, which is the same clock in all processes of a machine
    parent: int  # leave if this is not the parent's process id any more
    cpus: tuple[int, ...] = ()  # hardware threads to stay on; none: anywhere
    gpus: tuple[str, ...] | None = None  # UUIDs; None: all
    roots: tuple[int, ...] = ()  # processes of the harness, which with what is below them are read as one
    watch: dict[str, int] = field(default_factory=dict)  # {worker: process id}


class _Inbox:
    """The lines on standard input, which can be awaited for a while."""

    def __init__(self) -> None:
        self._rest = b""

    def wait(self, seconds: float | None) -> str | None:
        """Return the last whole line that came, "" if none did in time; None once there will be no more."""
        if not select.select([0], [], [], seconds)[0]:
            return ""
        came = os.read(0, 2**16)
        if not came:
            return None
        *lines, self._rest = (self._rest + came).split(b"\n")
        return lines[-1].decode() if lines else ""


def main() -> None:
    """Sample until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and a batch system's warning reach the whole group; the
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # parent decides when sampling ends, and with it this process
    inbox = _Inbox()
    line: str | None = ""
    while line == "":
        line = inbox.wait(None)
    if line is None:
        return
    request = Request(**json.loads(line))
    cpus = allowed_cpus()  # before this process is confined to some of them
    if _settle(request):
        with contextlib.suppress(BrokenPipeError):  # the parent is gone
            _sample(request, inbox, cpus)


def _settle(request: Request) -> bool:
    """Tie this process to its parent and get it out of the workers' way; False if the parent is gone already."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != request.parent:
        return False
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    if request.cpus:
        _stay_on(request.cpus)
    return True


def _stay_on(cpus: Collection[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)


def _sample(request: Request, inbox: _Inbox, cpus: Collection[int]) -> None:
    """Read the probes at start + beat / rate, whatever a reading takes; beats that have passed by then are left out."""
    workers = _made("processes", lambda: _process_probe(request))
    fixed = [_made("host", lambda: _host_probe(cpus)), workers, _made("packages", _package_probe)]
    gpus = _gpu_probes(request)
    start_s = time.perf_counter()
    beat = 0
    told: dict[str, str] | None = None
    while True:
        told = _take(fixed, gpus, request.anchor_s, told)
        beat = max(beat, math.floor((time.perf_counter() - start_s) * request.rate_hz)) + 1
        due_s = start_s + beat / request.rate_hz
        while (left_s := due_s - time.perf_counter()) > 0.0:
            line = inbox.wait(min(left_s, _WAIT_S))
            if line is None:
                _take(fixed, gpus, request.anchor_s, told, ahead_s=_SELDOM_S)  # a trial may have just ended
                for probe in (*fixed, *gpus):
                    probe.close()
                return
            if line:
                before, request = request, Request(**json.loads(line))
                if not isinstance(workers, _Unmade):
                    workers.watch(request.watch)
                if request.cpus != before.cpus:
                    _stay_on(request.cpus or cpus)
                if request.gpus != before.gpus:
                    replaced, gpus = gpus, _gpu_probes(request)
                    for probe in replaced:
                        probe.close()


class _Unmade:
    """Stands for a probe that was not made: it costs its own readings, which have a reason, and no others."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.absent = {name: reason}

    def read(self, now: float) -> tuple[()]:
        return ()

    def close(self) -> None:
        """Nothing is held open."""


def _made(name: str, make: Callable[[], _P]) -> _P | _Unmade:
    try:
        return make()
    except Exception as problem:  # whatever a module or a kernel does
        return _Unmade(name, f"cannot be read: {problem!r}")


# The probes' modules are imported here, since they load psutil and NVML, which the parent has no use for.


def _host_probe(cpus: Collection[int]) -> Probe:
    from harness.telemetry.host import HostProbe

    return HostProbe(cpus=cpus)


def _process_probe(request: Request) -> ProcessProbe:
    from harness.telemetry.workers import ProcessProbe

    return ProcessProbe(request.watch, roots=request.roots)


def _package_probe() -> Probe:
    from harness.telemetry.rapl import RaplProbe

    return RaplProbe()


def _nvidia_probe(request: Request) -> Probe:
    from harness.telemetry.nvidia import NvidiaProbe

    return NvidiaProbe(request.gpus)


def _gpu_probes(request: Request) -> list[Probe]:
    """Return what reads the GPUs that are asked for; NVML is loaded for the first of them."""
    if request.gpus is not None and not request.gpus:
        return [_Unmade("gpu", "no trial of this run was given a GPU")]
    return [_made("nvidia", lambda: _nvidia_probe(request))]


def _take(
    fixed: Sequence[Probe], gpus: Sequence[Probe], anchor_s: float, told: dict[str, str] | None, *, ahead_s: float = 0.0
) -> dict[str, str]:
    """Read all probes once and send what they gave; return what the parent then knows to be absent.

    The probes pace themselves as if it were `ahead_s` later, but for those of GPUs: NVML's costly counters can wait.
    """
    now = time.perf_counter()
    rows: list[tuple[str, str, float]] = []
    absent: dict[str, str] = {}
    for probe, at_s in [*((probe, now + ahead_s) for probe in fixed), *((probe, now) for probe in gpus)]:
        try:
            rows.extend(probe.read(at_s))
        except Exception as problem:  # a probe that fails must not cost the readings of the others
            absent[probe.name] = f"reading failed: {problem!r}"
        absent.update(probe.absent)
    _send({"time": anchor_s + now, "rows": rows})
    if absent != told:
        _send({"absent": absent})
    return absent


def _send(message: dict[str, Any]) -> None:
    rest = memoryview(json.dumps(message).encode() + b"\n")
    while rest:
        rest = rest[os.write(1, rest) :]
