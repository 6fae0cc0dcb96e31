"""Readings of a node, joined to the spans of time in which one of its workers computed: energy, loads, throttling.

Everything is computed on cumulative integrals, so that millions of spans cost seconds: there is no loop over samples or
spans. Instants are seconds since the Unix epoch, of the node's one clock. NaN stands for what was not read.

A reading of a load, what a counter has grown by and a reading of a mask stand for the time since the reading before;
power is taken to change evenly from one reading to the next, which is the trapezoidal rule. Where readings are missing,
that is, where two of a series are further apart than `GAP_PERIODS` of its median spacing and than `LEAST_GAP_S`, or
where the sampler itself recorded a gap, nothing is known, and the coverage says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.telemetry.throttling import THROTTLE_REASONS, THROTTLED, throttle_reasons

Reals = NDArray[np.float64]
Series = tuple[Reals, Reals]  # times, values
Readings = Mapping[tuple[str, str], Series]  # by device and metric
Gaps = Sequence[tuple[float, float]]  # from the last sample before to the first one after

GAP_PERIODS: Final = 2.5
LEAST_GAP_S: Final = 0.25  # NVML takes 20 ms for each direction of PCIe traffic, beats of 50 Hz that are left out
LEAST_SPAN_S: Final = 1.0  # shorter spans have the loads of the second around their middle: kernels count in ticks
LEAST_COVERED: Final = 0.5  # of a span, for a mean over it to be told
LEAST_COVERAGE: Final = 0.95  # of an energy, for it to be valid
_ROUNDING: Final = 1e-6  # by which a sum of seconds may fall without having begun anew
_EDGE_S = 1e-3  # instants are stored in microseconds: gaps and readings that meet do not overlap

# What the harness joins; a table of readings has much else.
METRICS: Final = frozenset({
    "cpu_percent", "steal_percent", "user_cpu_s", "system_cpu_s", "swap_in_bytes", "swap_out_bytes",
    "gpu_power_w", "gpu_utilisation_percent", "gpu_throttle_mask",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Spans of one worker; arrays of one length, NaN where an instant is not known."""

    start_s: Reals
    end_s: Reals
    cpu_s: Reals  # user and system time that the worker itself measured within the span, NaN where it did not
    worker: str
    cores: tuple[int, ...]
    gpus: tuple[str, ...]  # UUIDs
    beside: tuple[str, ...] = ()  # other workers of the harness that may run on some of these cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What the readings say of each span; arrays in the order of the spans, NaN (and None) for what was not read."""

    gpu_power_j: Reals  # over the covered part of the span
    gpu_power_coverage: Reals
    cpu_percent: Reals
    foreign_percent: Reals
    steal_percent: Reals
    gpu_utilisation_percent: Reals
    throttled_percent: Reals
    throttle_reasons: list[list[str] | None]
    swapped_bytes: Reals


def join(readings: Readings, spans: Spans, gaps: Gaps = ()) -> Joined:
    """Return what the readings of a node say of a worker's spans.

    Energy is over the span itself; the rest of a span below `LEAST_SPAN_S` is that of so much time around it.
    """
    around = _Window.around(spans)
    cores = [f"cpu{core}" for core in spans.cores]
    gpus = [f"gpu:{uuid}" for uuid in spans.gpus]

    def held(devices: Iterable[str], metric: str) -> list[_Curve]:
        return [_Curve.held(readings.get((device, metric)), gaps) for device in devices]

    cpu_percent = _mean(held(cores, "cpu_percent"), around)
    power_j, coverage = _energy([_Curve.line(readings.get((gpu, "gpu_power_w")), gaps) for gpu in gpus], spans)
    masks = [readings[gpu, "gpu_throttle_mask"] for gpu in gpus if (gpu, "gpu_throttle_mask") in readings]
    throttled_percent, reasons = _throttling(masks, around, gaps)
    swapped = [_mean([_Curve.counted(readings.get(("host", f"swap_{way}_bytes")))], around) for way in ("in", "out")]
    return Joined(
        gpu_power_j=power_j,
        gpu_power_coverage=coverage,
        cpu_percent=cpu_percent,
        foreign_percent=_foreign(readings, spans, around, cpu_percent, gaps),
        steal_percent=_mean(held(cores, "steal_percent"), around),
        gpu_utilisation_percent=_mean(held(gpus, "gpu_utilisation_percent"), around),
        throttled_percent=throttled_percent,
        throttle_reasons=reasons,
        swapped_bytes=(swapped[0] + swapped[1]) * around.length_s,
    )


def validity(energy_j: ArrayLike, coverage: ArrayLike, length_s: ArrayLike, shared: ArrayLike) -> list[str | None]:
    """Return for each energy "valid", or why it is to be doubted, joined by commas; None where there is no energy.

    "short": the span is below `LEAST_SPAN_S`, and counters and power readings are renewed too rarely for that;
    "shared": others ran on the same device; "gaps": the coverage is below `LEAST_COVERAGE`.
    """
    words = ("short", "shared", "gaps")
    texts = [", ".join(word for bit, word in enumerate(words) if code >> bit & 1) or "valid" for code in range(8)]
    with np.errstate(invalid="ignore"):
        short = np.asarray(length_s, dtype=np.float64) < LEAST_SPAN_S
        gappy = ~(np.asarray(coverage, dtype=np.float64) >= LEAST_COVERAGE)
    codes = short * 1 + np.asarray(shared, dtype=bool) * 2 + gappy * 4
    missing = np.isnan(np.asarray(energy_j, dtype=np.float64))
    return [None if none else texts[code] for none, code in zip(missing.tolist(), codes.tolist(), strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    start_s: Reals
    end_s: Reals

    @classmethod
    def around(cls, spans: Spans) -> _Window:
        """Return the spans, the short ones widened on both sides."""
        lacking_s = np.maximum(LEAST_SPAN_S - (spans.end_s - spans.start_s), 0.0) / 2
        return cls(start_s=spans.start_s - lacking_s, end_s=spans.end_s + lacking_s)

    @property
    def length_s(self) -> Reals:
        return self.end_s - self.start_s


class _Curve:
    """A quantity over time: it changes evenly within each of some stretches and is not known between them."""

    def __init__(self, begins: Reals, ends: Reals, first: Reals, last: Reals) -> None:
        """Take stretches in order of time, with the quantity at the begin and the end of each."""
        self._begins = begins
        self._lengths = ends - begins
        self._first = first
        self._slopes = (last - first) / self._lengths
        self._integrals = _before((first + last) / 2 * self._lengths)
        self._covered = _before(self._lengths)

    @classmethod
    def held(cls, series: Series | None, gaps: Gaps) -> _Curve:
        """Return readings that each stand for the time since the one before."""
        times, values = _ordered(series)
        known = _unbroken(times, gaps)
        return cls(times[:-1][known], times[1:][known], values[1:][known], values[1:][known])

    @classmethod
    def line(cls, series: Series | None, gaps: Gaps) -> _Curve:
        """Return readings of single moments, joined by straight lines."""
        times, values = _ordered(series)
        known = _unbroken(times, gaps)
        return cls(times[:-1][known], times[1:][known], values[:-1][known], values[1:][known])

    @classmethod
    def counted(cls, series: Series | None, gaps: Gaps | None = None) -> _Curve:
        """Return the rate at which a counter grows; where it falls, it began anew, and nothing is known.

        Without `gaps` it is told across gaps too, as what a counter has grown by is known all the same.
        """
        times, values = _ordered(series)
        rises = np.diff(values)
        known = rises >= -_ROUNDING
        if gaps is not None:
            known &= _unbroken(times, gaps)
        rates = np.maximum(rises[known], 0.0) / np.diff(times)[known]
        return cls(times[:-1][known], times[1:][known], rates, rates)

    def over(self, start_s: Reals, end_s: Reals) -> tuple[Reals, Reals]:
        """Return for each span the integral over what is known of it, and how many seconds that is."""
        if not len(self._begins):
            return np.zeros_like(start_s), np.zeros_like(start_s)
        (integral, covered), (integral_before, covered_before) = self._until(end_s), self._until(start_s)
        return np.maximum(integral - integral_before, 0.0), covered - covered_before  # what rounding leaves is nothing

    def _until(self, instants: Reals) -> tuple[Reals, Reals]:
        number = np.maximum(np.searchsorted(self._begins, instants, side="right") - 1, 0)
        into = np.clip(instants - self._begins[number], 0.0, self._lengths[number])
        grown = (self._first[number] + self._slopes[number] * into / 2) * into
        return self._integrals[number] + grown, self._covered[number] + into


def _before(amounts: Reals) -> Reals:
    """Return for each the sum of those before it."""
    return np.cumsum(amounts) - amounts


def _ordered(series: Series | None) -> Series:
    """Return a series in order of time, each time once."""
    if series is None:
        return np.zeros(0), np.zeros(0)
    times, first = np.unique(series[0], return_index=True)
    return times, series[1][first]


def _unbroken(times: Reals, gaps: Gaps) -> NDArray[np.bool_]:
    """Tell for each reading but the first whether the time since the one before is covered."""
    if len(times) < 2:
        return np.zeros(0, dtype=bool)
    spacing = np.diff(times)
    known = spacing <= max(GAP_PERIODS * np.median(spacing), LEAST_GAP_S + _EDGE_S)
    for began, ended in gaps:
        known &= (times[1:] <= began + _EDGE_S) | (times[:-1] >= ended - _EDGE_S)
    return known


def _energy(curves: Sequence[_Curve], spans: Spans) -> tuple[Reals, Reals]:
    """Return joules of all devices over the covered part of each span, and the share of their time that it is."""
    joules, covered = _total(curves, spans.start_s, spans.end_s)
    with np.errstate(invalid="ignore", divide="ignore"):
        coverage = np.minimum(covered / (len(curves) * (spans.end_s - spans.start_s)), 1.0)
    return np.where(covered > 0, joules, np.nan), np.where(covered > 0, coverage, np.nan)


def _total(curves: Sequence[_Curve], start_s: Reals, end_s: Reals) -> tuple[Reals, Reals]:
    integral, covered = np.zeros_like(start_s), np.zeros_like(start_s)
    for curve in curves:
        one, known = curve.over(start_s, end_s)
        integral, covered = integral + one, covered + known
    return integral, covered


def _mean(curves: Sequence[_Curve], window: _Window) -> Reals:
    """Return the mean over all devices; NaN where less than `LEAST_COVERED` of their time is known."""
    integral, covered = _total(curves, window.start_s, window.end_s)
    with np.errstate(invalid="ignore", divide="ignore"):
        enough = (covered > 0) & (covered >= LEAST_COVERED * len(curves) * window.length_s)
        return np.where(enough, integral / covered, np.nan)


def _foreign(readings: Readings, spans: Spans, window: _Window, cpu_percent: Reals, gaps: Gaps) -> Reals:
    """Return the load of the cores that is neither the worker's nor the harness's, in percent, never below 0.

    It is a lower bound: what the harness and the worker did on other cores is taken off all the same.
    """

    def load(device: str) -> Reals:
        """Return how many cores a device keeps busy."""
        kinds = ("user_cpu_s", "system_cpu_s")
        first, second = (_mean([_Curve.counted(readings.get((device, kind)), gaps)], window) for kind in kinds)
        return first + second

    worker = load(f"worker:{spans.worker}")
    with np.errstate(invalid="ignore", divide="ignore"):
        own = spans.cpu_s / window.length_s  # of a window that was widened: so much at least
        ours = np.where(own > worker, own, worker) + load("harness")
        for other in spans.beside:
            ours = ours + np.nan_to_num(load(f"worker:{other}"))
        return np.maximum(cpu_percent - 100.0 * ours / max(1, len(spans.cores)), 0.0)


def _throttling(masks: Sequence[Series], window: _Window, gaps: Gaps) -> tuple[Reals, list[list[str] | None]]:
    """Return the share of the time in which the worst of the GPUs was throttled, in percent, and the reasons of all."""
    worst = np.full_like(window.start_s, np.nan)
    seen = np.zeros(len(worst), dtype=np.int64)
    for times, values in masks:
        bits = values.astype(np.int64)
        worst = np.fmax(worst, _mean([_Curve.held((times, (bits & THROTTLED != 0) * 100.0), gaps)], window))
        for bit in THROTTLE_REASONS:
            if np.any(bits & bit):
                share, _ = _Curve.held((times, (bits & bit != 0) * 1.0), gaps).over(window.start_s, window.end_s)
                seen |= np.where(share > 1e-9, bit, 0)  # less than that is what rounding leaves
    seen[np.isnan(worst)] = -1
    codes: list[int] = seen.tolist()
    named = {code: None if code < 0 else throttle_reasons(code) for code in set(codes)}
    return worst, [named[code] for code in codes]
