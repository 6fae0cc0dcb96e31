"""Readings of the machine and of the worker processes on it, through psutil and the kernel's own files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from harness import processes
from harness.telemetry.cgroup import ROOT
from harness.telemetry.cores import allowed_cpus, cpu_list
from harness.telemetry.probe import Reading

CPU_INTERVAL_S = 0.09  # kernels count CPU time in ticks of 10 ms as a rule: a shorter span gives noise, not a share
TREE_INTERVAL_S = 0.95  # of looking for the processes that workers have started
FREQUENCY_INTERVAL_S = 0.95  # costly on machines of many cores, so once a second at most


def memory_total_bytes() -> int:
    """Return the machine's memory in bytes, whatever a container may allow of it."""
    return int(psutil.virtual_memory().total)


def physical_core_count() -> int | None:
    """Return how many physical cores the machine has; None where the kernel does not say."""
    count: int | None = psutil.cpu_count(logical=False)
    return count


class HostProbe:
    """The whole machine and the hardware threads this process may use.

    `cpu_percent`: share of the time since the last such reading spent neither idle nor waiting for I/O nor stolen, of
    one thread (cpu0 ...) or of all threads of the machine (host). `steal_percent`: share in which the hypervisor ran
    something else. `load1`: runnable and waiting tasks, one-minute mean. `memory_used_bytes`: total less what could be
    had without swapping. `swap_used_bytes`. `cpu_frequency_hz`: as the kernel reports it. What fails is left alone
    from then on.
    """

    name = "host"

    def __init__(self, *, cpus: Collection[int] | None = None, root: Path = ROOT) -> None:
        """Watch the given hardware threads, by default those this process may run on; `root` is the file system's."""
        self.absent: dict[str, str] = {}
        self._cpus = frozenset(allowed_cpus() if cpus is None else cpus)
        self._root = root
        self._sources: dict[str, Callable[[float], Iterator[Reading]]] = {
            "cpu_percent": self._read_cpu,
            "load1": self._read_load,
            "memory_used_bytes": self._read_memory,
            "swap_used_bytes": self._read_swap,
            "cpu_frequency_hz": self._read_frequency,
        }
        self._times: list[dict[str, float]] = []
        self._times_at = float("-inf")
        self._numbers: list[int] = []
        self._frequency_at = float("-inf")

    def read(self, now: float) -> Iterator[Reading]:
        for metric, source in list(self._sources.items()):
            try:
                yield from source(now)
            except (OSError, ValueError, RuntimeError, psutil.Error) as problem:
                self.absent[metric] = str(problem)
                del self._sources[metric]

    def close(self) -> None:
        """Nothing is held open."""

    def _read_cpu(self, now: float) -> Iterator[Reading]:
        if now - self._times_at < CPU_INTERVAL_S:
            return
        before, self._times, self._times_at = self._times, _cpu_times(), now
        if len(before) != len(self._times):  # the first reading, or a CPU was switched on or off: a span begins
            self._numbers = self._number_cpus()
            return
        spent = [_difference(old, new) for old, new in zip(before, self._times, strict=True)]
        yield from _cpu_readings("host", {kind: sum(core[kind] for core in spent) for kind in spent[0]})
        for number, core in zip(self._numbers, spent, strict=False):
            if number in self._cpus:
                yield from _cpu_readings(f"cpu{number}", core)

    def _read_load(self, now: float) -> Iterator[Reading]:
        yield Reading("host", "load1", os.getloadavg()[0])

    def _read_memory(self, now: float) -> Iterator[Reading]:
        memory = psutil.virtual_memory()
        yield Reading("host", "memory_used_bytes", memory.total - memory.available)

    def _read_swap(self, now: float) -> Iterator[Reading]:
        swap = psutil.swap_memory()
        if swap.total == 0:
            raise RuntimeError("no swap space is configured on this machine")
        yield Reading("host", "swap_used_bytes", swap.used)

    def _read_frequency(self, now: float) -> Iterator[Reading]:
        if now - self._frequency_at < FREQUENCY_INTERVAL_S:
            return
        self._frequency_at = now
        found = False
        for cpu in sorted(self._cpus):
            path = self._root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"
            if path.exists():
                found = True
                yield Reading(f"cpu{cpu}", "cpu_frequency_hz", float(path.read_text()) * 1000.0)  # the file says kHz
        if not found:
            raise RuntimeError("the kernel reports no current frequency here, as in most virtual machines")

    def _number_cpus(self) -> list[int]:
        """Return the kernel's number of each entry of the CPU times, which skip CPUs that are switched off."""
        count = len(self._times)
        if not sys.platform.startswith("linux"):
            return list(range(count))
        try:
            online = cpu_list((self._root / "sys/devices/system/cpu/online").read_text())
            problem = f"the kernel lists {len(online)} cores but CPU times of {count}: a container hides some"
        except (OSError, ValueError) as error:
            online = []
            problem = f"which core is which cannot be read: {error}"
        if len(online) == count:
            return online
        for cpu in self._cpus:
            self.absent.setdefault(f"cpu{cpu}/cpu_percent", problem)
        return []


class WorkerProbe:
    """The worker processes, each by its name and with all that it has started: `user_cpu_s`, `system_cpu_s` (since it
    began), `rss_bytes`, `threads`.

    What a worker has started is looked for once a second at most, and takes 1 % of the time at most.
    """

    name = "workers"

    def __init__(self, pids: Mapping[str, int] | None = None) -> None:
        self.absent: dict[str, str] = {}
        self._pids: dict[str, int] = {}
        self._processes: dict[str, psutil.Process] = {}
        self._below: dict[int, list[int]] = {}
        self._below_due = float("-inf")
        self.watch(pids or {})

    def watch(self, pids: Mapping[str, int]) -> None:
        """From now on, read exactly these processes, {name: process id}."""
        for name, pid in pids.items():
            if self._pids.get(name) != pid:
                self._processes.pop(name, None)
                self.absent.pop(f"worker:{name}", None)
                try:
                    self._processes[name] = psutil.Process(pid)
                except psutil.Error as problem:
                    self._lose(name, pid, problem)
        for name in self._pids.keys() - pids.keys():
            self._processes.pop(name, None)
        self._pids = dict(pids)

    def read(self, now: float) -> Iterator[Reading]:
        if now >= self._below_due:
            began = time.perf_counter()
            self._below = processes.all_below([process.pid for process in self._processes.values()])
            self._below_due = now + max(TREE_INTERVAL_S, 100 * (time.perf_counter() - began))
        for name, process in list(self._processes.items()):
            try:
                with process.oneshot():
                    if process.status() == psutil.STATUS_ZOMBIE:
                        raise psutil.NoSuchProcess(process.pid)
                    times, memory, threads = process.cpu_times(), process.memory_info(), process.num_threads()
            except psutil.Error as problem:
                self._lose(name, process.pid, problem)
                continue
            started = processes.usage(self._below.get(process.pid, ()))
            user = times.user + times.children_user + started.user_cpu_s
            system = times.system + times.children_system + started.system_cpu_s
            yield Reading(f"worker:{name}", "user_cpu_s", user)
            yield Reading(f"worker:{name}", "system_cpu_s", system)
            yield Reading(f"worker:{name}", "rss_bytes", memory.rss + started.rss_bytes)
            yield Reading(f"worker:{name}", "threads", threads + started.threads)

    def close(self) -> None:
        """Nothing is held open."""

    def _lose(self, name: str, pid: int, problem: psutil.Error) -> None:
        self._processes.pop(name, None)
        ended = isinstance(problem, psutil.NoSuchProcess)
        self.absent[f"worker:{name}"] = f"process {pid} " + ("has ended" if ended else f"cannot be read: {problem}")


def _cpu_times() -> list[dict[str, float]]:
    """Return, for each hardware thread, the seconds spent since boot by kind; time run as a guest is within user's."""
    return [_without_guests(times._asdict()) for times in psutil.cpu_times(percpu=True)]


def _without_guests(times: dict[str, Any]) -> dict[str, float]:
    return {kind: spent for kind, spent in times.items() if not kind.startswith("guest")}


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the seconds between two readings; kernels let single counters step back a little, which counts as none."""
    return {kind: max(0.0, after[kind] - before[kind]) for kind in after}


def _cpu_readings(device: str, spent: dict[str, float]) -> Iterator[Reading]:
    total = sum(spent.values())
    if total == 0.0:
        return
    not_run = spent["idle"] + spent.get("iowait", 0.0) + spent.get("steal", 0.0)
    yield Reading(device, "cpu_percent", 100.0 * (total - not_run) / total)
    if "steal" in spent:
        yield Reading(device, "steal_percent", 100.0 * spent["steal"] / total)
