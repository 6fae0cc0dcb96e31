"""Readings of the harness's own processes: of each worker, and of all the others together. From /proc alone."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from harness import processes
from harness.telemetry.probe import Reading

LOOK_INTERVAL_S = 0.95  # of looking for processes that have begun or ended, and of reading those that are no workers
_LOOK_SHARE = 100  # and one part in so many of the time at most, also where processes begin all the time

_Identity = tuple[int, int]  # process id, birth: no other process has had both


@dataclass(slots=True)
class _Worker:
    """A worker process, and the most it was seen to have used: what it started may end before it is added up there."""

    pid: int
    began: int
    user_cpu_s: float = 0.0
    system_cpu_s: float = 0.0


class ProcessProbe:
    """The worker processes, each by its name and with all that it has started, and the rest of the harness.

    "worker:<name>": `user_cpu_s`, `system_cpu_s` (since the worker began), `rss_bytes`, `threads`. "harness":
    `user_cpu_s`, `system_cpu_s` and `rss_bytes` of the processes `roots`, of all below them and of this one, but for
    the workers and what is below those. It is for telling our own load from foreign load, so it never steps back: a
    process that ends, or turns out to be a worker, leaves what it had used till then. What a process uses between the
    last look at it and its end is missed. Both counters begin anew with the process that reads.

    What a worker starts is looked for at once, lest it be taken for foreign load until the next look.
    """

    name = "processes"

    def __init__(self, workers: Mapping[str, int] | None = None, *, roots: Collection[int] = ()) -> None:
        self.absent: dict[str, str] = {}
        self._roots = tuple(roots)
        self._workers: dict[str, _Worker] = {}
        self._pids: dict[str, int] = {}
        self._table = processes.Table()
        self._below: dict[int, list[int]] = {}
        self._due_s = self._next_look_s = float("-inf")
        self._newest: bytes | None = None
        self._theirs: set[_Identity] = set()  # of workers that were ever watched, and of what they have started
        self._last: dict[_Identity, tuple[float, float]] = {}  # what each process of ours had used
        self._ended_user_s = self._ended_system_s = 0.0
        self.watch(workers or {})

    def watch(self, workers: Mapping[str, int]) -> None:
        """From now on, read exactly these workers, {name: process id}."""
        for name, pid in workers.items():
            if self._pids.get(name) == pid:
                continue
            self._workers.pop(name, None)
            self.absent.pop(f"worker:{name}", None)
            found = processes.stat(pid)
            if found is None:
                self._lose(name, pid)
            else:
                self._workers[name] = _Worker(pid, found.began)
                self._theirs.add((pid, found.began))
        for name in self._pids.keys() - workers.keys():
            self._workers.pop(name, None)
        self._pids = dict(workers)

    def read(self, now: float) -> Iterator[Reading]:
        newest = _newest_process()
        due = now >= self._due_s
        if due or (newest != self._newest and now >= self._next_look_s):
            began_s = time.thread_time()
            self._newest = newest
            yield from self._look(harness=due)
            self._next_look_s = now + _LOOK_SHARE * (time.thread_time() - began_s)
            if due:
                self._due_s = max(now + LOOK_INTERVAL_S, self._next_look_s)
        for name, worker in list(self._workers.items()):
            found = processes.stat(worker.pid)
            if found is None or found.began != worker.began or found.state in "ZX":
                self._lose(name, worker.pid)
                continue
            started = processes.usage(self._below.get(worker.pid, ()))
            worker.user_cpu_s = max(worker.user_cpu_s, found.usage.user_cpu_s + started.user_cpu_s)
            worker.system_cpu_s = max(worker.system_cpu_s, found.usage.system_cpu_s + started.system_cpu_s)
            yield Reading(f"worker:{name}", "user_cpu_s", worker.user_cpu_s)
            yield Reading(f"worker:{name}", "system_cpu_s", worker.system_cpu_s)
            yield Reading(f"worker:{name}", "rss_bytes", found.usage.rss_bytes + started.rss_bytes)
            yield Reading(f"worker:{name}", "threads", found.usage.threads + started.threads)

    def close(self) -> None:
        """Nothing is held open."""

    def _look(self, *, harness: bool) -> Iterator[Reading]:
        workers = {worker.pid for worker in self._workers.values()}
        below = self._table.look({*workers, *self._roots})
        own = os.getpid()  # below a worker where the driver trains itself, yet no part of a training
        self._below = {pid: [other for other in below.get(pid, ()) if other != own] for pid in workers}
        if self._roots and harness:
            yield from self._read_harness(below, workers, own)

    def _read_harness(
        self, below: Mapping[int, Collection[int]], workers: Collection[int], own: int
    ) -> Iterator[Reading]:
        missing = [root for root in self._roots if root not in below]
        if missing:
            self.absent["harness"] = f"process {missing[0]} and what is below it cannot be seen from here, or has ended"
            return
        self.absent.pop("harness", None)
        trees = [{root, *below[root]} for root in self._roots if root not in workers]
        started = {pid: processes.stat(pid) for group in self._below.values() for pid in group}
        self._theirs = {one for one in self._theirs if _still(one)}
        self._theirs |= {(pid, found.began) for pid, found in started.items() if found is not None}
        now: dict[_Identity, tuple[float, float]] = {}
        rss_bytes = 0
        for pid in {own}.union(*trees) - set(workers):
            found = processes.stat(pid)
            if found is None or (pid, found.began) in self._theirs:
                continue
            now[pid, found.began] = found.user_cpu_s, found.system_cpu_s
            rss_bytes += found.usage.rss_bytes
        for gone in self._last.keys() - now.keys():
            self._ended_user_s += self._last[gone][0]
            self._ended_system_s += self._last[gone][1]
        self._last = now
        yield Reading("harness", "user_cpu_s", self._ended_user_s + sum(user for user, _ in now.values()))
        yield Reading("harness", "system_cpu_s", self._ended_system_s + sum(system for _, system in now.values()))
        yield Reading("harness", "rss_bytes", rss_bytes)

    def _lose(self, name: str, pid: int) -> None:
        self._workers.pop(name, None)
        self.absent[f"worker:{name}"] = f"process {pid} has ended"


def _newest_process() -> bytes | None:
    """Return the number of the process or thread that began last here; None where the kernel does not tell."""
    try:
        descriptor = os.open("/proc/loadavg", os.O_RDONLY)
        try:
            return os.read(descriptor, 256).split()[-1]
        finally:
            os.close(descriptor)
    except (OSError, IndexError):
        return None


def _still(one: _Identity) -> bool:
    found = processes.stat(one[0])
    return found is not None and found.began == one[1]
