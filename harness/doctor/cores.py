"""Findings on the cores: who else uses them, which of them may be used, and how fast they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.doctor.seen import Finding, Seen, State
from harness.domain.doubts import DOUBTS
from harness.telemetry.cgroup import cpu_quota, read_text
from harness.telemetry.cores import cpu_list, quota_note
from harness.telemetry.environment import frequency

_CPU: Final = "sys/devices/system/cpu"


def load(seen: Seen) -> Finding:
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


def steal(seen: Seen) -> Finding:
    doubt = DOUBTS["stolen"]
    why = "while the hypervisor runs another machine on the core, the epoch's clock goes on"
    steals = seen.now("steal_percent", lambda device: device != "host")
    if not steals:
        return Finding(name="steal", state="unknown", seen=seen.lacking("steal_percent"), why=why)
    cpu, most = max(steals.items(), key=lambda one: one[1])
    state: State = "doubt" if most > doubt.threshold else "ok"
    told = f"{most:.1f} % on {cpu}, the most of any, within {seen.span_s:.1f} s"
    return Finding(name="steal", state=state, seen=told, why=why, mend=doubt.remedy if state == "doubt" else None)


def quota(seen: Seen) -> Finding:
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


def affinity(seen: Seen) -> Finding:
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


def pinning(seen: Seen) -> Finding:
    why = "a worker that is not pinned moves between cores, and finds their caches cold"
    if seen.pinning is None:
        told = "a process can be pinned to each of the cores"
        return Finding(name="pinning", state="ok", seen=told, why=why)
    mend = "let the container or the sandbox call sched_setaffinity"
    return Finding(name="pinning", state="doubt", seen=f"not possible: {seen.pinning}", why=why, mend=mend)


def governor(seen: Seen) -> Finding:
    why = "other governors than `performance` change the clock with the load, within an epoch too"
    told = frequency(root=seen.root)["governor"]
    if told is None:
        told = "the kernel shows no frequency governor here, as in most virtual machines"
        return Finding(name="governor", state="unknown", seen=told, why=why)
    if told == "performance":
        return Finding(name="governor", state="ok", seen=told, why=why)
    mend = "sudo cpupower frequency-set -g performance"
    return Finding(name="governor", state="doubt", seen=told, why=why, mend=mend)


def turbo(seen: Seen) -> Finding:
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


def smt(seen: Seen) -> Finding:
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
