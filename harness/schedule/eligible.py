"""Which nodes can hold a trial, by what is known of each, and in words why not the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.domain.naming import plural
from harness.schedule.demand import Demand

_WORDS = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*")


def refusal(about: Mapping[str, Any], demand: Demand) -> str | None:
    """Return why a node cannot hold a trial that needs this, such as "has 2 cores, cpus=4 asked for"; None: it can.

    `about` is what is known of the node: ``node`` (its name), ``labels``, ``accelerators`` (the kinds that Ray knows
    its GPUs by), ``cores`` (physical ones that workers may fill) and ``gpu_names`` (of each GPU, or MIG instance, as
    NVML has it). What is missing is taken to be there: the node itself will say.
    """
    if demand.node and about.get("node", demand.node) != demand.node:
        return f"is not {demand.node}, node={demand.node} asked for"
    labels: Mapping[str, str] = about.get("labels", dict(demand.labels))
    for name, value in demand.labels:
        if labels.get(name) != value:
            has = f"has {name}={labels[name]}" if name in labels else f"has no label {name}"
            return f"{has}, node_labels.{name}={value} asked for"
    kinds, names = about.get("accelerators"), about.get("gpu_names")
    every = None if kinds is None or names is None else (*kinds, *names)
    if demand.accelerator and every is not None and not any(is_kind(demand.accelerator, kind) for kind in every):
        return f"has {_gpus(names or (), kinds or ())}, accelerator={demand.accelerator} asked for"
    if names is not None and demand.gpus > len(names):
        return f"has {_gpus(names, ())}, gpus={demand.gpus:g} asked for"
    cores = about.get("cores")
    if cores is not None and demand.cpus > cores:
        return f"has {plural(cores, 'core')}, cpus={demand.cpus:g} asked for"
    return None


def what_there_is(abouts: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each node: its cores, GPUs and labels."""
    lines = []
    for about in abouts:
        told = [plural(about["cores"], "core")] if about.get("cores") is not None else []
        told.append(_gpus(about.get("gpu_names") or (), about.get("accelerators") or ()))
        labels = sorted((about.get("labels") or {}).items())
        told += [f"{name}={value}" for name, value in labels if not name.startswith("ray.io/")]  # which are Ray's own
        lines.append(f"  {about.get('node', 'a node')}: {', '.join(told)}")
    return "\n".join(lines)


def is_kind(accelerator: str, name: str | None) -> bool:
    """Whether a GPU of this name is of the kind asked for: its words are among the name's, in their order, as those of
    "A100" are among "NVIDIA A100-SXM4-40GB"; "A10" is not."""
    wanted, words = _WORDS.findall(accelerator.lower()), _WORDS.findall((name or "").lower())
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))


def _gpus(names: Sequence[str | None], kinds: Sequence[str]) -> str:
    """Return GPUs in words, as "2 GPUs (NVIDIA A100-SXM4-40GB)"."""
    different = list(dict.fromkeys([*(name or "unnamed" for name in names), *kinds]))
    if not names and not kinds:
        return "no GPU"
    count = plural(len(names), "GPU") if names else "GPUs"
    return f"{count} ({', '.join(different)})"
