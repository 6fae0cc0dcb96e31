"""What would make numbers noisy on this machine, each as a finding: pure functions of what was seen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from harness.domain.doubts import DOUBTS
from harness.domain.noise_floor import SLOW_DOWN
from harness.telemetry.cgroup import cpu_quota, memory_left_bytes, read_text
from harness.telemetry.cores import cpu_list, quota_note
from harness.telemetry.environment import frequency
from harness.telemetry.throttling import throttle_reasons

State = Literal["ok", "doubt", "unknown"]

_MEMORY_FREE_PERCENT: Final = 10.0  # less than this is nearly full
_SWAP_USED_PERCENT: Final = 1.0  # of the memory
_GPU_BUSY_PERCENT: Final = 5.0  # of its time, or of its memory, before a run has begun
_SLOW_CLOCKS: Final = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")
_CPU: Final = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that can make numbers noisy. It says what was seen and no more; "unknown" says why nothing was."""

    name: str
    state: State
    seen: str
    why: str  # it matters
    mend: str | None = None  # a command, or what else to do; None where nothing is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """How far the clocks went while the machine was watched, in seconds."""

    steady_s: float  # what epochs are timed by, as NTP adjusts it
    raw_s: float | None  # the same without any adjustment; None where the system has no such clock
    wall_s: float
    synchronised: bool | None  # as the kernel says; None: it cannot be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """A process that is not ours and used the CPU while the machine was watched."""

    pid: int
    name: str  # the beginning of its command line
    percent: float  # of one core
    run: int | None = None  # the process of the harness's run that it belongs to; None: to no such run


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteCode:
    """Where a package is, and whether its compiled byte code is there."""

    package: str
    folder: Path
    compiled: bool
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that findings are made of."""

    root: Path  # of the file system
    node: Mapping[str, Any]  # the row of `nodes`
    cpus: tuple[int, ...]  # hardware threads this process may run on
    pinning: str | None  # why a worker cannot be pinned to its cores; None: it can
    span_s: float  # for how long the machine was watched
    before: Mapping[tuple[str, str], float]  # readings by device and metric
    after: Mapping[tuple[str, str], float]
    absent: Mapping[str, str]  # what could not be read, and why
    clocks: Clocks
    busy: tuple[Busy, ...] = ()  # the busiest first
    others_percent: float | None = None  # of one core: what all processes in sight used together; None: not known
    gpu_memory_bytes: Mapping[str, int] = field(default_factory=dict)  # of each GPU, by UUID
    byte_code: tuple[ByteCode, ...] = ()
    noise_floor: Mapping[str, Any] | None = None  # of this node, as run.json holds it

    def now(self, metric: str, devices: Callable[[str], bool] = lambda device: True) -> dict[str, float]:
        """Return a metric's readings at the end, by device."""
        return {device: value for (device, of), value in self.after.items() if of == metric and devices(device)}

    def grown(self, metric: str) -> float | None:
        """Return by how much a counter of the host grew meanwhile; None where it was not read twice."""
        key = ("host", metric)
        return self.after[key] - self.before[key] if key in self.before and key in self.after else None

    def lacking(self, metric: str) -> str:
        """Return why a metric was not read."""
        reasons = [reason for key, reason in self.absent.items() if key.rpartition("/")[2] == metric]
        return reasons[0] if reasons else "it was not read"


def findings(seen: Seen) -> tuple[Finding, ...]:
    """Return all findings in a fixed order, but for those without an object here, such as GPUs where there are none."""
    made = (
        _load, _steal, _quota, _affinity, _pinning, _governor, _turbo, _smt, _memory, _swap, _huge_pages,
        _clock_rate, _clock_set, _clock_source, _gpu_load, _gpu_throttling, _byte_code,
        _noise_floor,
    )  # fmt: skip
    return tuple(finding for make in made if (finding := make(seen)) is not None)


def _load(seen: Seen) -> Finding:
    doubt = DOUBTS["contended"]
    why = "what else runs on a worker's core takes time from its epochs"
    name = "foreign_load"
    loads = seen.now("cpu_percent", lambda device: device != "host")
    if not loads:
        return Finding(name=name, state="unknown", seen=seen.lacking("cpu_percent"), why=why)
    high = {cpu: load for cpu, load in loads.items() if load > doubt.threshold}
    if not high:
        told = f"at most {max(loads.values()):.0f} % on any of {len(loads)} hardware threads within {seen.span_s:.1f} s"
        return Finding(name=name, state="ok", seen=told, why=why)
    busiest = sorted(high.items(), key=lambda one: -one[1])[:4]
    told = ", ".join(f"{load:.0f} % on {cpu}" for cpu, load in busiest)
    told += f" and more than {doubt.threshold:.0f} % on {len(high) - 4} more" if len(high) > 4 else ""
    told += f" within {seen.span_s:.1f} s"
    runs = dict.fromkeys(one.run for one in seen.busy if one.run is not None)
    others = [one for one in seen.busy if one.run is None]
    by_runs = {run: sum(one.percent for one in seen.busy if one.run == run) for run in runs}
    whom = [f"`{one.name}` (process {one.pid}, {one.percent:.0f} %)" for one in others]
    hidden = sum(loads.values()) - (seen.others_percent or 0.0)
    if not seen.busy:
        whom = ["processes that each use little, have ended or cannot be seen from here"]
    elif seen.others_percent is not None and hidden > doubt.threshold:
        whom.append(f"processes that have ended or cannot be seen from here ({hidden:.0f} %)")
    told += f", by {', '.join(whom)}" if whom else ""
    told += "".join(f"; a harness run is going on here (process {run}, {part:.0f} %)" for run, part in by_runs.items())
    mends = [f"wait for the harness run to end (process {run})" for run in runs]
    alone = [one for one in others if one.percent > sum(high.values()) / 2]  # it alone explains most of the load
    if alone:
        mends.append(f"kill {alone[0].pid}, if it may end")
    elif not runs or max(by_runs.values()) <= sum(high.values()) / 2:
        mends.append("no single process explains it: see what else runs (top), or ask for the node alone")
    mend = "; ".join(mends)
    return Finding(name=name, state="doubt", seen=told, why=why, mend=f"{mend}; trials beside it carry `contended`")


def _steal(seen: Seen) -> Finding:
    doubt = DOUBTS["stolen"]
    why = "while the hypervisor runs another machine on the core, the epoch's clock goes on"
    steals = seen.now("steal_percent", lambda device: device != "host")
    if not steals:
        return Finding(name="steal", state="unknown", seen=seen.lacking("steal_percent"), why=why)
    cpu, most = max(steals.items(), key=lambda one: one[1])
    state: State = "doubt" if most > doubt.threshold else "ok"
    told = f"{most:.1f} % on {cpu}, the most of any, within {seen.span_s:.1f} s"
    return Finding(name="steal", state=state, seen=told, why=why, mend=doubt.remedy if state == "doubt" else None)


def _quota(seen: Seen) -> Finding:
    why = "once a quota is used up, the kernel stops the worker for the rest of each period of 0.1 s"
    name = "cpu_quota"
    groups = seen.root / "sys/fs/cgroup"
    if not read_text(seen.root / "proc/self/cgroup") or not _holds_something(groups):
        return Finding(name=name, state="unknown", seen="the control groups cannot be seen from here", why=why)
    quota = cpu_quota(root=seen.root)
    if quota is None:
        return Finding(name=name, state="ok", seen="no control group in sight sets one", why=why)
    note = quota_note(cpus=seen.cpus, root=seen.root)
    told = note or f"{quota:g} CPUs' worth of time, no less than the cores in reach"
    throttled_s = seen.grown("cgroup_throttled_s")
    if throttled_s is not None:
        total_s = seen.after["host", "cgroup_throttled_s"]
        told += f"; throttled for {throttled_s:.2f} s of the last {seen.span_s:.1f} s, {total_s:.1f} s so far in all"
    state: State = "doubt" if note or throttled_s else "ok"
    mend = "raise it (docker run --cpus=N; resources.limits.cpu in Kubernetes; systemctl set-property UNIT CPUQuota=)"
    return Finding(name=name, state=state, seen=told, why=why, mend=mend if state == "doubt" else None)


def _affinity(seen: Seen) -> Finding:
    why = "others may compute on the rest of the machine, and share its caches and its memory"
    name = "affinity"
    try:
        online = cpu_list(read_text(seen.root / _CPU / "online"))
    except ValueError:
        online = []
    if not online:
        told = "the kernel does not list the machine's hardware threads here"
        return Finding(name=name, state="unknown", seen=told, why=why)
    told = f"{len(seen.cpus)} of {len(online)} hardware threads may be used"
    if set(online) <= set(seen.cpus):
        return Finding(name=name, state="ok", seen=told, why=why)
    mend = f"taskset -cp {_ranges(online)} $$, or ask the batch system for the whole node (sbatch --exclusive)"
    return Finding(name=name, state="doubt", seen=told, why=why, mend=mend)


def _pinning(seen: Seen) -> Finding:
    why = "a worker that is not pinned moves between cores, and finds their caches cold"
    if seen.pinning is None:
        told = "a process can be pinned to each of the cores"
        return Finding(name="pinning", state="ok", seen=told, why=why)
    mend = "let the container or the sandbox call sched_setaffinity"
    return Finding(name="pinning", state="doubt", seen=f"not possible: {seen.pinning}", why=why, mend=mend)


def _governor(seen: Seen) -> Finding:
    why = "other governors than `performance` change the clock with the load, within an epoch too"
    told = frequency(root=seen.root)["governor"]
    if told is None:
        told = "the kernel shows no frequency governor here, as in most virtual machines"
        return Finding(name="governor", state="unknown", seen=told, why=why)
    if told == "performance":
        return Finding(name="governor", state="ok", seen=told, why=why)
    mend = "sudo cpupower frequency-set -g performance"
    return Finding(name="governor", state="doubt", seen=told, why=why, mend=mend)


def _turbo(seen: Seen) -> Finding:
    why = "how far cores exceed their nominal clock depends on heat and on how many others are busy"
    turbo = frequency(root=seen.root)["turbo"]
    if turbo is None:
        told = "the kernel does not say here, as in most virtual machines"
        return Finding(name="turbo", state="unknown", seen=told, why=why)
    if not turbo:
        return Finding(name="turbo", state="ok", seen="off", why=why)
    intel = f"{_CPU}/intel_pstate/no_turbo"
    off = f"echo 1 | sudo tee /{intel}" if (seen.root / intel).exists() else f"echo 0 | sudo tee /{_CPU}/cpufreq/boost"
    mend = f"{off}, for runs that are to agree more than to be fast"
    return Finding(name="turbo", state="doubt", seen="on", why=why, mend=mend)


def _smt(seen: Seen) -> Finding:
    why = "two hardware threads of a core slow each other: workers get one a core, but others may use its sibling"
    active = read_text(seen.root / _CPU / "smt/active")
    machine = seen.node.get("virtualisation")
    if active == "1":
        mend = "echo off | sudo tee /sys/devices/system/cpu/smt/control, or keep other programs off the machine"
        return Finding(name="smt", state="doubt", seen="on", why=why, mend=mend)
    if active == "0" and machine is None:
        return Finding(name="smt", state="ok", seen="off", why=why)
    told = "the kernel does not say here"
    if active == "0":
        told = "the virtual machine shows none; whether its cores are threads of shared ones cannot be seen from within"
    return Finding(name="smt", state="unknown", seen=told, why=why)


def _memory(seen: Seen) -> Finding:
    why = "a trial that does not fit swaps, or is killed"
    total, used = seen.node.get("memory_bytes"), seen.after.get(("host", "memory_used_bytes"))
    if not total or used is None:
        return Finding(name="memory", state="unknown", seen=seen.lacking("memory_used_bytes"), why=why)
    free = total - used
    told = f"{size(free)} of {size(total)} can be had"
    limit = seen.node.get("memory_limit_bytes")
    if limit is not None and limit < total:
        left = memory_left_bytes(root=seen.root)
        if left is None:
            told += f"; of the {size(limit)} that control groups allow, what is left cannot be read"
            return Finding(name="memory", state="unknown", seen=told, why=why)
        told += f"; control groups allow {size(limit)}, of which {size(left)} are left"
        free, total = min(free, left), limit
    if 100.0 * free / total > _MEMORY_FREE_PERCENT:
        return Finding(name="memory", state="ok", seen=told, why=why)
    mend = "end what holds it (ps -eo rss,pid,comm --sort=-rss | head), or run fewer workers (--workers)"
    return Finding(name="memory", state="doubt", seen=told, why=why, mend=mend)


def _swap(seen: Seen) -> Finding:
    why = "memory that comes back from disk costs an epoch milliseconds a page"
    used = seen.after.get(("host", "swap_used_bytes"))
    if used is None:
        reason = seen.lacking("swap_used_bytes")
        state: State = "ok" if "no swap space" in reason else "unknown"
        return Finding(name="swap", state=state, seen=reason, why=why)
    moved = (seen.grown("swap_in_bytes") or 0.0) + (seen.grown("swap_out_bytes") or 0.0)
    told = f"{size(used)} in use, {size(moved)} moved within {seen.span_s:.1f} s"
    total = seen.node.get("memory_bytes")
    over = moved > DOUBTS["swapped"].threshold * 2**20 or (total and 100.0 * used / total > _SWAP_USED_PERCENT)
    mend = "sudo swapoff -a && sudo swapon -a brings it back, where memory is free; else run fewer workers"
    return Finding(name="swap", state="doubt" if over else "ok", seen=told, why=why, mend=mend if over else None)


def _huge_pages(seen: Seen) -> Finding:
    why = "they change how fast memory is: compare machines that have the same setting"
    told = read_text(seen.root / "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = told[told.find("[") + 1 : told.find("]")] if "[" in told else told
    if not chosen:
        return Finding(name="huge_pages", state="unknown", seen="the kernel does not say here", why=why)
    return Finding(name="huge_pages", state="ok", seen=f"transparent huge pages: {chosen}", why=why)


def _clock_rate(seen: Seen) -> Finding:
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


def _clock_set(seen: Seen) -> Finding:
    why = "no duration depends on it; instants of several machines can be compared only where their clocks agree"
    name = "clock_synchronised"
    if seen.clocks.synchronised is None:
        return Finding(name=name, state="unknown", seen="the kernel cannot be asked here", why=why)
    if seen.clocks.synchronised:
        return Finding(name=name, state="ok", seen="the kernel says that it is", why=why)
    mend = "sudo timedatectl set-ntp true, on the host where this is a container"
    return Finding(name=name, state="doubt", seen="the kernel says that it is not", why=why, mend=mend)


def _clock_source(seen: Seen) -> Finding:
    why = "reading a slow clock takes microseconds and goes through the kernel"
    source = read_text(seen.root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if not source:
        return Finding(name="clock_source", state="unknown", seen="the kernel does not say here", why=why)
    slow = source in _SLOW_CLOCKS
    mend = "see why the kernel gave up a better one: dmesg | grep -i clocksource"
    return Finding(
        name="clock_source", state="doubt" if slow else "ok", seen=source, why=why, mend=mend if slow else None
    )


def _gpu_load(seen: Seen) -> Finding | None:
    why = "whoever else computes on the GPU takes from its speed, its power and its memory"
    devices = {device for device, _ in seen.after if device.startswith("gpu:")}
    if not devices:
        return None
    used = {
        device: 100.0 * value / total
        for device, value in seen.now("gpu_memory_used_bytes").items()
        if (total := seen.gpu_memory_bytes.get(device.removeprefix("gpu:")))
    }
    busy = seen.now("gpu_utilisation_percent")
    known = used.keys() | busy.keys()
    if not known:
        return Finding(name="gpu_load", state="unknown", seen=seen.lacking("gpu_utilisation_percent"), why=why)
    over = [one for one in sorted(known) if max(used.get(one, 0.0), busy.get(one, 0.0)) > _GPU_BUSY_PERCENT]
    told = f"none of {len(known)} is at work or holds more than {_GPU_BUSY_PERCENT:.0f} % of its memory"
    if over:
        told = "; ".join(_both(one, busy.get(one), used.get(one)) for one in over)
    mend = "see who uses it (nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv), or choose another"
    return Finding(name="gpu_load", state="doubt" if over else "ok", seen=told, why=why, mend=mend if over else None)


def _both(device: str, busy: float | None, used: float | None) -> str:
    told = [f"busy {busy:.0f} % of the time"] if busy is not None else []
    told += [f"{used:.0f} % of its memory in use"] if used is not None else []
    return f"{device}: {', '.join(told)}"


def _gpu_throttling(seen: Seen) -> Finding | None:
    why = "a GPU that is throttled runs slower than it can, and by how much changes with heat"
    masks = seen.now("gpu_throttle_mask")
    if not any(device.startswith("gpu:") for device, _ in seen.after):
        return None
    if not masks:
        return Finding(name="gpu_throttling", state="unknown", seen=seen.lacking("gpu_throttle_mask"), why=why)
    held = {device: reasons for device, mask in sorted(masks.items()) if (reasons := throttle_reasons(int(mask)))}
    told = "; ".join(f"{device}: {', '.join(reasons)}" for device, reasons in held.items()) or "none of them is, now"
    mend = DOUBTS["throttled"].remedy
    return Finding(
        name="gpu_throttling", state="doubt" if held else "ok", seen=told, why=why, mend=mend if held else None
    )


def _byte_code(seen: Seen) -> Finding | None:
    why = "importing TensorFlow takes 4 s with compiled byte code and 20 s without, in each worker"
    if not seen.byte_code:
        return None
    bare = [one for one in seen.byte_code if not one.compiled]
    if not bare:
        told = f"compiled: {', '.join(one.package for one in seen.byte_code)}"
        return Finding(name="byte_code", state="ok", seen=told, why=why)
    kept = all(one.writable for one in bare)
    told = f"not compiled: {', '.join(one.package for one in bare)}; " + (
        "the first import will keep it" if kept else "nor can an import keep it, as the place cannot be written to"
    )
    mend = "python -m compileall -q " + " ".join(str(one.folder) for one in bare)
    return Finding(name="byte_code", state="doubt", seen=told, why=why, mend=mend)


def _noise_floor(seen: Seen) -> Finding:
    why = "no comparison on this node can tell a smaller difference from noise"
    floor = seen.noise_floor
    if floor is None:
        told = "not measured on this node: `harness aa SUITE` does, and `--results` names the folder it was kept in"
        return Finding(name="noise_floor", state="unknown", seen=told, why=why)
    told = (
        f"equal settings differ by {100 * (floor['ratio'] - 1):.1f} % or more in 2 of 100 comparisons of "
        f"{floor['figure']} with {floor['repeats']} repeats (measured {floor['date']}"
    )
    other = floor["node"] != seen.node.get("node")
    told += f" on {floor['node']}, which has the same CPU model and as many hardware threads)" if other else ")"
    if floor["ratio"] <= SLOW_DOWN:
        return Finding(name="noise_floor", state="ok", seen=told, why=why)
    mend = "quiet the machine (see the doubts here) and run `harness aa` again; more repeats (--repeats) lower it too"
    return Finding(name="noise_floor", state="doubt", seen=told, why=why, mend=mend)


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _ranges(cpus: list[int]) -> str:
    """Return numbers in the kernel's notation: "0-3,8"."""
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in _runs(sorted(cpus)))


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def size(count: float) -> str:
    """Return a number of bytes for people: ``512 B``, ``1.5 KiB``, ``23.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f}".removesuffix(".0") + f" {unit}"
        count /= 1024
    return f"{count:.1f}".removesuffix(".0") + " TiB"


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
