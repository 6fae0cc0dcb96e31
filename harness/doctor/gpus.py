"""Findings on the GPUs; none where there are none."""

from __future__ import annotations

from typing import Final

from harness.doctor.seen import Finding, Seen
from harness.domain.doubts import DOUBTS
from harness.telemetry.throttling import throttle_reasons

_BUSY_PERCENT: Final = 5.0  # of its time, or of its memory, before a run has begun


def load(seen: Seen) -> Finding | None:
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
    over = [one for one in sorted(known) if max(used.get(one, 0.0), busy.get(one, 0.0)) > _BUSY_PERCENT]
    told = f"none of {len(known)} is at work or holds more than {_BUSY_PERCENT:.0f} % of its memory"
    if over:
        told = "; ".join(_both(one, busy.get(one), used.get(one)) for one in over)
    mend = "see who uses it (nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv), or choose another"
    return Finding(name="gpu_load", state="doubt" if over else "ok", seen=told, why=why, mend=mend if over else None)


def throttling(seen: Seen) -> Finding | None:
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


def _both(device: str, busy: float | None, used: float | None) -> str:
    told = [f"busy {busy:.0f} % of the time"] if busy is not None else []
    told += [f"{used:.0f} % of its memory in use"] if used is not None else []
    return f"{device}: {', '.join(told)}"
