"""What `harness doctor` found out about this machine, as text on standard output or as JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from harness.doctor.memory import size
from harness.domain.errors import ResultsError
from harness.record import runs
from harness.telemetry.throttling import throttle_reasons
from harness.terminal.text import plural, print_lines, print_table, significant

if TYPE_CHECKING:
    from harness.doctor.examine import Examination
    from harness.doctor.seen import Finding
    from harness.telemetry.probe import Reading

_STATES: Final = ("doubt", "unknown", "ok")  # the most urgent first


def recorded_runs(results: Path | None) -> list[dict[str, Any]]:
    """Return the run.json of each run in a results folder; None: in the usual one, if it is there.

    Raises:
        ResultsError: when there is no such folder.
    """
    usual = Path("results")
    if results is None and not usual.is_dir():
        return []
    found = []
    for folder in runs.find_runs(results or usual):
        try:
            found.append(runs.read_run_file(folder))
        except ResultsError:  # what is wrong with a run is for `status` to say
            continue
    return found


def print_examination(found: Examination) -> None:
    """Print the machine, what can be read of it, what cannot and why, and what would make numbers noisy."""
    print_lines(_machine(found))
    typer.echo("")
    print_table([("can be read", "left"), ("of", "left"), ("now", "right")], list(_counters(found.readings)))
    if found.absent:
        typer.echo("\ncannot be read")
        print_lines(line for one in found.absent for line in (f"  {', '.join(one.what)}", f"      {one.reason}"))
    typer.echo("\nwhat would make numbers noisy")
    print_lines(_told(found.findings))
    counts = {state: sum(one.state == state for one in found.findings) for state in _STATES}
    typer.echo(f"\n{plural(counts['doubt'], 'doubt')}, {counts['unknown']} unknown, {counts['ok']} in order")


def _machine(found: Examination) -> Iterator[str]:
    node = found.node

    def known(name: str, say: Callable[[Any], str] = str) -> list[str]:
        return [say(node[name])] if node.get(name) is not None else []

    threads = plural(node.get("cpu_count_logical") or 0, "hardware thread")
    cores = [*known("sockets", lambda count: plural(count, "socket"))]
    cores += [*known("cpu_count_physical", lambda count: plural(count, "core")), threads]
    cores += known("numa_nodes", lambda count: plural(count, "NUMA node"))
    cores += known("cpu_limit", lambda limit: f"of which {limit:g} CPUs' worth may be used")
    yield f"CPU:       {', '.join([*known('cpu_model'), *cores])}"
    more = known("caches", _caches) + known("cpu_max_hz", lambda hz: f"at most {_hertz(hz)}")
    if more:
        yield f"           {', '.join(more)}"
    limits = known("memory_limit_bytes", lambda limit: f"control groups allow {size(limit)}")
    yield f"Memory:    {', '.join([*known('memory_bytes', size), *limits])}"
    under = [*known("container", lambda kind: f"container: {kind}")]
    under += known("virtualisation", lambda kind: f"virtual: {kind}")
    yield f"System:    {', '.join([*known('os'), *known('kernel', lambda kernel: f'kernel {kernel}'), *under])}"
    for gpu in found.gpus:
        memory = "" if gpu.memory_bytes is None else f", {size(gpu.memory_bytes)}"
        mig = ", a MIG instance" if gpu.uuid.startswith("MIG-") else ""
        yield f"GPU:       {gpu.name or 'of unknown model'}{memory}{mig}, {gpu.uuid}"
    if found.gpus:
        cuda = known("gpu_cuda", lambda version: f"serves CUDA up to {version}")
        yield f"Driver:    {', '.join([*known('gpu_driver'), *cuda])}"
    else:
        yield "GPU:       none to be seen"
    backends = (f"{name} {version or '(not installed)'}" for name, version in found.backends.items())
    yield f"Back ends: {', '.join(backends)}"
    pins = ", ".join("+".join(map(str, cores)) for cores in found.workers)
    yield f"Workers:   {len(found.workers)} of one core each, pinned to {pins}" + (
        f" ({found.workers_note})" if found.workers_note else ""
    )
    if found.meter:
        yield f"Energy:    counted at the edges of each epoch for {', '.join(found.meter)}"


def _counters(readings: Sequence[Reading]) -> Iterator[list[str]]:
    """Return a row for each metric of each kind of device: cores, GPUs and sensors stand together."""
    kinds: dict[tuple[str, str], list[Reading]] = {}
    for reading in readings:
        kinds.setdefault((_kind(reading.device), reading.metric), []).append(reading)
    for (kind, metric), found in sorted(kinds.items(), key=lambda one: one[0][0]):
        whom = found[0].device if len(found) == 1 else plural(len(found), kind)
        whom = "a worker" if kind == "worker" else whom
        least, most = min(one.value for one in found), max(one.value for one in found)
        now = _value(metric, least)
        yield [metric, whom, now if _value(metric, most) == now else f"{now} … {_value(metric, most)}"]


def _kind(device: str) -> str:
    if re.fullmatch(r"cpu\d+", device):
        return "CPU"
    kind, colon, _ = device.partition(":")
    return {"gpu": "GPU"}.get(kind, kind) if colon else device


def _told(findings: Sequence[Finding]) -> Iterator[str]:
    for one in sorted(findings, key=lambda one: _STATES.index(one.state)):
        yield f"  {one.state:<8} {one.name}: {one.seen}"
        if one.state == "doubt":
            yield f"           why: {one.why}"
            yield f"           mend: {one.mend}"


def _value(metric: str, value: float) -> str:
    """Return a reading for people, in the unit that ends the metric's name."""
    if metric == "gpu_throttle_mask":
        return ", ".join(throttle_reasons(int(value))) or "not throttled"
    units: dict[str, Callable[[float], str]] = {
        "_bytes": size,
        "_bytes_per_s": lambda value: f"{size(value)}/s",
        "_percent": lambda value: f"{value:.1f} %",
        "_hz": _hertz,
        "_w": lambda value: f"{value:.1f} W",
        "_j": lambda value: f"{_figure(value)} J",
        "_c": lambda value: f"{value:.0f} °C",
        "_s": lambda value: f"{_figure(value)} s",
    }
    unit = max((ending for ending in units if metric.endswith(ending)), key=len, default=None)
    return _figure(value) if unit is None else units[unit](value)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else significant(value)


def _caches(caches: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {size(count)}" for kind, count in caches.items())


def _hertz(value: float) -> str:
    return f"{value / 1e9:.2f} GHz"
