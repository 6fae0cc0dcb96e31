"""Findings on the memory."""

from __future__ import annotations

from typing import Final

from harness.doctor.seen import Finding, Seen, State
from harness.domain.doubts import DOUBTS
from harness.telemetry.cgroup import memory_left_bytes, read_text

_FREE_PERCENT: Final = 10.0  # less than this is nearly full
_SWAP_USED_PERCENT: Final = 1.0  # of the memory


def space(seen: Seen) -> Finding:
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
    if 100.0 * free / total > _FREE_PERCENT:
        return Finding(name="memory", state="ok", seen=told, why=why)
    mend = "end what holds it (ps -eo rss,pid,comm --sort=-rss | head), or run fewer workers (--workers)"
    return Finding(name="memory", state="doubt", seen=told, why=why, mend=mend)


def swap(seen: Seen) -> Finding:
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


def huge_pages(seen: Seen) -> Finding:
    why = "they change how fast memory is: compare machines that have the same setting"
    told = read_text(seen.root / "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = told[told.find("[") + 1 : told.find("]")] if "[" in told else told
    if not chosen:
        return Finding(name="huge_pages", state="unknown", seen="the kernel does not say here", why=why)
    return Finding(name="huge_pages", state="ok", seen=f"transparent huge pages: {chosen}", why=why)


def size(count: float) -> str:
    """Return a number of bytes for people: ``512 B``, ``1.5 KiB``, ``23.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f}".removesuffix(".0") + f" {unit}"
        count /= 1024
    return f"{count:.1f}".removesuffix(".0") + " TiB"
