"""A trial's figures → the doubts about it and about its epochs, by the thresholds of `harness.domain.doubts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

from harness.domain.doubts import CALIBRATION_FOREIGN_PERCENT, CLOCKS_LEAST_S, DOUBTS, EPOCHS_LEAST

Figure = float | None  # None: not known

# What the readings say of a span, by the warning that it may give.
READ: Final = {
    "throttled": "throttled_percent",
    "contended": "foreign_percent",
    "stolen": "steal_percent",
    "swapped": "swapped_bytes",
}
_UNITS: Final = {"swapped": 2**20}  # of a doubt's threshold, in the figure's own unit
_ORDER: Final = {name: number for number, name in enumerate(DOUBTS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a trial is judged by; the sequences have one entry an epoch."""

    cpus: float  # asked for
    cores: int | None  # hardware threads that the worker was pinned to
    quota: float | None  # CPUs that the node's trials may use together; None: no limit
    trials_at_a_time: int  # that shared the quota
    has_gpu: bool
    compiles: bool  # whether a back end computes it, which might compile
    wall_s: Figure
    clock_step_s: Figure
    clock_drift: Figure
    read: Mapping[str, Figure]  # over the whole trial, by warning (see `READ`)
    train_s: Sequence[float]
    warmup: Sequence[bool]
    compilations: Sequence[int | None]
    epochs_read: Mapping[str, Sequence[Figure]]  # over each timed span, by warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Names of `DOUBTS`, in their order. `unjudged`: those that apply to the trial but whose figures are missing."""

    warnings: list[str]
    unjudged: list[str]
    epochs: list[list[str]]  # the warnings of each epoch


def judge(trial: Figures) -> Judgement:
    """Return the doubts about a trial: what its own span shows, and what its epochs do."""
    epochs: list[list[str]] = [[] for _ in trial.train_s]
    found: set[str] = set()
    unjudged: set[str] = set()
    _judge_readings(trial, epochs, found, unjudged)
    _judge_cores(trial, found, unjudged)
    _judge_clock(trial, found, unjudged)
    _judge_compilations(trial, epochs, found, unjudged)
    if _judge_warming_up(trial, epochs):
        found.add("warming_up")
    if _spread_percent(trial) > DOUBTS["noisy"].threshold:
        found.add("noisy")
    for warnings in epochs:
        if len(warnings) > 1:
            warnings.sort(key=_ORDER.__getitem__)
    return Judgement(warnings=_in_order(found), unjudged=_in_order(unjudged), epochs=epochs)


def _in_order(names: set[str]) -> list[str]:
    return sorted(names, key=_ORDER.__getitem__)


def _judge_readings(trial: Figures, epochs: Sequence[list[str]], found: set[str], unjudged: set[str]) -> None:
    for name in READ:
        if name == "throttled" and not trial.has_gpu:
            continue
        limit = DOUBTS[name].threshold * _UNITS.get(name, 1)
        value = trial.read[name]
        if value is None:
            unjudged.add(name)
        elif value > limit:
            found.add(name)
        for warnings, figure in zip(epochs, trial.epochs_read[name], strict=True):
            if figure is not None and figure > limit:
                warnings.append(name)


def _judge_cores(trial: Figures, found: set[str], unjudged: set[str]) -> None:
    had = [] if trial.cores is None else [float(trial.cores)]
    if trial.quota is not None:
        had.append(trial.quota / trial.trials_at_a_time)
    if had and trial.cpus - min(had) > DOUBTS["few_cores"].threshold:
        found.add("few_cores")
    elif trial.cores is None:
        unjudged.add("few_cores")


def _judge_clock(trial: Figures, found: set[str], unjudged: set[str]) -> None:
    off_s: list[float] = []
    if trial.wall_s:
        off_s += [abs(trial.clock_drift) * trial.wall_s] if trial.clock_drift is not None else []
        off_s += [abs(trial.clock_step_s)] if trial.clock_step_s is not None else []
    if not trial.wall_s or not off_s:
        unjudged.add("clock_drift")
    elif max(off_s) > CLOCKS_LEAST_S and 100 * max(off_s) / trial.wall_s > DOUBTS["clock_drift"].threshold:
        found.add("clock_drift")


def _judge_compilations(trial: Figures, epochs: Sequence[list[str]], found: set[str], unjudged: set[str]) -> None:
    known = False
    for warnings, count in zip(epochs, trial.compilations, strict=True):
        if count is not None:
            known = True
            if count > DOUBTS["recompiled"].threshold:
                warnings.append("recompiled")
                found.add("recompiled")
    if epochs and trial.compiles and not known:
        unjudged.add("recompiled")


def _judge_warming_up(trial: Figures, epochs: Sequence[list[str]]) -> bool:
    """Put the warning on the first epochs that are slow, and tell whether they are half of those to be had."""
    numbers = [number for number, warmup in enumerate(trial.warmup) if not warmup]
    if len(numbers) < EPOCHS_LEAST:
        return False
    later_s = median(trial.train_s[number] for number in numbers[len(numbers) // 2 :])
    slow = later_s * (1 + DOUBTS["warming_up"].threshold / 100)
    count = 0
    for number in numbers:
        if not trial.train_s[number] > slow:
            break
        epochs[number].append("warming_up")
        count += 1
    return 2 * count >= len(numbers)


def _spread_percent(trial: Figures) -> float:
    """Return the interquartile range of the epochs' times over their median, in percent; 0 of too few epochs."""
    times_s = [train_s for train_s, warmup in zip(trial.train_s, trial.warmup, strict=True) if not warmup]
    if len(times_s) < EPOCHS_LEAST:
        return 0.0
    low, middle, high = quantiles(times_s, n=4, method="inclusive")
    return 100 * (high - low) / middle if middle > 0 else 0.0


def flops_per_s(
    step_flops: Figure,
    batch_size: int,
    *,
    train_s: Sequence[float],
    samples: Sequence[int | None],
    warmup: Sequence[bool],
) -> Figure:
    """Return the floating-point operations a second of the epochs that are no warm-up.

    A step on a full batch takes `step_flops`; a short last batch counts by its share of samples. None where the
    operations or the samples are not known, or no such epoch is there.
    """
    if step_flops is None:
        return None
    counted, time_s = 0, 0.0
    for seconds, count, warm in zip(train_s, samples, warmup, strict=True):
        if not warm and count is not None:
            counted, time_s = counted + count, time_s + seconds
    return step_flops * counted / batch_size / time_s if counted and time_s > 0 else None


def share_key(backend: str | None, cpus: float, gpus: float) -> str:
    """Return the name of a kind of share in a node's calibration."""
    return f"{backend or 'none'}/cpus={cpus:g}/gpus={gpus:g}"


def peak_percent(flops: Figure, share: Mapping[str, Figure], gpus: float) -> Figure:
    """Return what share of its calibrated rate of matrix products a trial reached, in percent.

    `share` is the calibration of its kind of share; None where that, or the trial's rate, is not known, or others
    computed on the cores while they were calibrated.
    """
    if not gpus and (share.get("share_foreign_percent") or 0.0) > CALIBRATION_FOREIGN_PERCENT:
        return None
    rate = share.get("gpu_flops_per_s") if gpus else share.get("share_flops_per_s")
    return None if flops is None or not rate else 100 * flops / (rate * (gpus or 1))
