"""What would make numbers noisy on this machine, each as a finding: pure functions of what was seen."""

from __future__ import annotations

from harness.doctor import clocks, cores, gpus, memory
from harness.doctor.seen import Finding, Seen
from harness.domain.design import SLOW_DOWN


def findings(seen: Seen) -> tuple[Finding, ...]:
    """Return all findings in a fixed order, but for those without an object here, such as GPUs where there are none."""
    made = (
        cores.load, cores.steal, cores.quota, cores.affinity, cores.pinning, cores.governor, cores.turbo, cores.smt,
        memory.space, memory.swap, memory.huge_pages, clocks.rate, clocks.synchronised, clocks.source,
        gpus.load, gpus.throttling, _byte_code, _noise_floor,
    )  # fmt: skip
    return tuple(finding for make in made if (finding := make(seen)) is not None)


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
