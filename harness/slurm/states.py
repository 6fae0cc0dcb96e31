"""What Slurm's states mean for a run, and what a run has come to, by its records and by Slurm together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from harness.domain.errors import known
from harness.domain.naming import plural
from harness.slurm.client import Job

Kind = Literal["going on", "again", "well", "badly"]  # "again": pending, not failed: Slurm starts it once more

# The exit codes of `harness run`.
_COMPLETED, _SOME_FAILED, _WRONG, _LEFT, _INTERRUPTED = 0, 1, 2, 75, 130
_KILLED: Final = 9
_NO_LOG: Final = 53  # "signal" with which Slurm marks a job whose log it could not open
_MORE_MEMORY: Final = "ask for more with --memory, or let fewer trials run at once with --workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a state means, in words for a person; and what to do about it, where something is to be done."""

    kind: Kind
    words: str
    way_out: str = ""


def _on(words: str) -> Meaning:
    return Meaning(kind="going on", words=words)


def _again(words: str) -> Meaning:
    return Meaning(kind="again", words=words)


_GO_ON: Final = "`harness submit --again` goes on with what is left"
_MORE_TIME: Final = f"{_GO_ON}; ask for more with --time"
_NOT_SEEN: Final = "results have to be where all nodes see them (--results)"
_HELD: Final = "`scontrol release JOB` lets it go"

MEANINGS: Final[dict[str, Meaning]] = {
    "PENDING": _on("waits to start"),
    "CONFIGURING": _on("its nodes are made ready"),
    "RUNNING": _on("runs"),
    "COMPLETING": _on("ends"),
    "STAGE_OUT": _on("its files are copied out"),
    "SIGNALING": _on("is being signalled"),
    "RESIZING": _on("changes its size"),
    "EXPEDITING": _on("waits to start before others"),
    "POWER_UP_NODE": _on("its nodes are switched on"),
    "SUSPENDED": Meaning(kind="going on", words="is suspended", way_out="`scontrol resume JOB` lets it go on"),
    "STOPPED": Meaning(kind="going on", words="is stopped", way_out="`scancel --signal=CONT JOB` lets it go on"),
    "REQUEUED": _again("waits to start again"),
    "REQUEUE_FED": _again("waits to start again"),
    "REQUEUE_HOLD": Meaning(kind="again", words="is held before it starts again", way_out=_HELD),
    "RESV_DEL_HOLD": Meaning(kind="again", words="is held: its reservation is gone", way_out=_HELD),
    "SPECIAL_EXIT": Meaning(kind="again", words="is held before it starts again", way_out=_HELD),
    "PREEMPTED": _again("was preempted"),
    "NODE_FAIL": _again("has lost a node"),
    "BOOT_FAIL": _again("one of its nodes did not start"),
    "LAUNCH_FAILED": _again("could not be started on its nodes"),
    "RECONFIG_FAIL": _again("its nodes could not be made ready"),
    "COMPLETED": Meaning(kind="well", words="has ended well"),
    "FAILED": Meaning(kind="badly", words="has failed", way_out="what it says is in its log"),
    "OUT_OF_MEMORY": Meaning(kind="badly", words="was killed for want of memory", way_out=_MORE_MEMORY),
    "TIMEOUT": Meaning(kind="badly", words="has used up its time", way_out=_MORE_TIME),
    "DEADLINE": Meaning(kind="badly", words="could not end before its deadline", way_out=_MORE_TIME),
    "CANCELLED": Meaning(kind="badly", words="was cancelled", way_out=_GO_ON),
    "REVOKED": Meaning(kind="badly", words="was taken back", way_out=_GO_ON),
}

# Why Slurm has a job wait that no waiting helps, as a pattern of its reason, and what to do about it.
_STUCK: Final[dict[str, str]] = {
    "PartitionNodeLimit|MaxNodePerJob": "ask for fewer with --nodes: `sinfo` says how many a partition has",
    "PartitionTimeLimit|MaxWallDurationPerJob": "ask for less with --time: `sinfo --format='%P %l'` lists the longest",
    "PartitionConfig|BadConstraints": (
        "its partition cannot grant it: ask for less (--time, --nodes, --cpus-per-node, --memory), or for another"
    ),
    "^(Account|QOS)NotAllowed|^Invalid(Account|QOS)": "name another with --account, --qos or --partition",
    "^Partition(Down|Inactive)": "its partition is closed: wait, or name another with --partition",
    "Max\\w+Per(Job|Node)|^MaxMemPerLimit": (
        "no job may have so much there: ask for less (--time, --nodes, --cpus-per-node, --memory, --gpus-per-node)"
    ),
    "^QOSMin": "ask for more, or name another with --qos: `sacctmgr show qos format=name,mintres` lists the least",
    "Grp\\w*(?<!Run)Minutes": "what may be spent is used up: name another with --account or --qos, or ask who runs it",
    "^DependencyNeverSatisfied": "what it waits for has failed: `scontrol update JobId=JOB Dependency=` lets it go",
    "^ReqNodeNotAvail": (
        "nodes that it needs are down or reserved: `sinfo --list-reasons` and `scontrol show reservation` say which; "
        "before a maintenance a shorter --time may do"
    ),
    "^JobHeld|[Hh]eld$|^JobHoldMaxRequeue": _HELD,
}


def meaning(job: Job) -> Meaning:
    """Return what a job's state means for its run; a state that is not known is one of a job that goes on."""
    if job.state == "FAILED" and job.signal == _KILLED:
        return Meaning(
            kind="badly", words="was killed (signal 9), for want of memory as it seems", way_out=_MORE_MEMORY
        )
    if job.state == "FAILED" and job.signal == _NO_LOG:
        return Meaning(kind="badly", words="could not open its log on the node", way_out=_NOT_SEEN)
    if job.state == "FAILED" and job.exit_code in (_LEFT, _INTERRUPTED):
        return Meaning(kind="badly", words="has ended with something left")
    found = MEANINGS.get(job.state) or _on(f"is {job.state.lower()}")
    if job.state == "PENDING":
        return replace(found, way_out=stuck(job))
    if found.kind == "again" and job.past:
        return Meaning(kind="badly", words=f"{found.words} and did not start again", way_out=_GO_ON)
    return found


def stuck(job: Job) -> str:
    """Return what to do about a job that waits for what does not come by itself; empty for others."""
    reason = job.reason if job.state == "PENDING" else ""
    way_out = next((way for pattern, way in _STUCK.items() if re.search(pattern, reason)), "")
    return f"it does not start as things are: {way_out}" if way_out else ""


def going_on(state: str) -> bool:
    """Tell whether a job of this state runs, or may yet start."""
    found = MEANINGS.get(state)
    return found is None or found.kind in ("going on", "again")


def waiting(job: Job) -> bool:
    """Tell whether a job does not run but may yet start."""
    return not job.past and (job.state == "PENDING" or meaning(job).kind == "again")


def told(job: Job) -> str:
    """Return a job with its state: ``job 12 RUNNING on n[1-3], 0:12 of 2:00:00``."""
    line = f"job {job.id} {job.state}"
    found = meaning(job)
    if found.kind == "again":
        return f"{line}: pending, Slurm starts it again" if not found.way_out else f"{line}: {found.words}"
    if waiting(job):
        return f"{line} ({job.reason})" if job.reason else line
    if found.kind == "going on":
        where = f" on {job.nodes}" if job.nodes else ""
        spent = f", {job.used}" + (f" of {job.limit}" if job.limit not in ("", "UNLIMITED") else "") if job.used else ""
        return line + where + spent
    return f"{line}: {found.words}{_ended_with(job)}" if found.kind == "badly" else line


def for_want_of_memory(jobs: Iterable[Job], said: str) -> str:
    """Return that jobs that ended badly took too much memory, and what to do about it, where Slurm `said` so in their
    logs and not by their states."""
    bad = [job for job in jobs if meaning(job).kind == "badly" and meaning(job).way_out != _MORE_MEMORY]
    return f"killed for want of memory (Slurm: {said}); {_MORE_MEMORY}" if said and bad else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run has come to, as `harness submit --wait` ends."""

    exit_code: int
    words: str


def verdict(
    run_state: str, *, counts: Mapping[str, int], pending: int, jobs: Iterable[Job], silent: bool = False
) -> Verdict:
    """Return what a run has come to: well only if its records and Slurm agree.

    `run_state` is as of run.json, `counts` its finished trials by status, `pending` those left; `jobs` are the last
    ones of the run, or of each shard, those that Slurm has forgotten left out; `silent`: it does not answer.
    """
    found = [] if silent else list(jobs)
    forgotten = "Slurm does not answer" if silent else "Slurm does not know its job any more"
    again = [job for job in found if going_on(job.state) and not job.past]
    bad = [job for job in found if meaning(job).kind == "badly" and not _explained(job, counts, pending)]
    failed = sum(counts.values()) - counts.get("completed", 0)
    if again:
        return Verdict(exit_code=_LEFT, words=_several(again, "is pending, not failed"))
    refused = not any(counts.values()) and any(job.state == "FAILED" and job.exit_code == _WRONG for job in bad)
    if run_state == "submitted" or (pending and refused):
        return _unbegun(bad)
    if pending or run_state not in ("completed", "failed"):
        left = f"{plural(pending, 'trial')} left" if pending else f"the run is {run_state}"
        died = any(job.state in ("OUT_OF_MEMORY", "FAILED") for job in bad)
        code = _SOME_FAILED if died or run_state == "failed" else _LEFT
        code = _INTERRUPTED if run_state == "interrupted" and not bad else code
        why = f": {_all(bad)}" if bad else "" if found else f": {forgotten}"
        return Verdict(exit_code=code, words=left + why)
    if bad:
        what = "all trials are recorded" if not failed else f"{plural(failed, 'trial')} did not complete"
        return Verdict(exit_code=_SOME_FAILED, words=f"{what}, but Slurm says otherwise: {_all(bad)}")
    by = "" if found else f" by its records; {forgotten}"
    if failed or run_state == "failed":
        return Verdict(exit_code=_SOME_FAILED, words=f"{plural(failed, 'trial')} did not complete{by}")
    return Verdict(exit_code=_COMPLETED, words=f"completed{by}")


def _unbegun(bad: list[Job]) -> Verdict:
    """Return what a run has come to that never began: to cancel its job is no mistake."""
    if bad and all(job.state in ("CANCELLED", "REVOKED") for job in bad):
        return Verdict(exit_code=_LEFT, words=f"the run has not begun: {_all(bad)}")
    why = f": {_all(bad)}" if bad else ""
    return Verdict(exit_code=_WRONG, words=f"the job ended before the run began{why}")


def _explained(job: Job, counts: Mapping[str, int], pending: int) -> bool:
    """Tell whether a job failed just because the run said so by its exit code, as the records do."""
    if job.state != "FAILED" or job.signal:
        return False
    failed = any(count for status, count in counts.items() if status != "completed")
    return (job.exit_code == _SOME_FAILED and failed) or (job.exit_code in (_LEFT, _INTERRUPTED) and pending > 0)


def _all(jobs: list[Job]) -> str:
    """Return what has become of jobs: those alike once, with what to do about it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for job in jobs:
        found = meaning(job)
        groups.setdefault((found.words + _ended_with(job), found.way_out), []).append(job.id)
    return "; ".join(
        f"{_named(ids)} {words}{f' ({way_out})' if way_out else ''}" for (words, way_out), ids in groups.items()
    )


def _ended_with(job: Job) -> str:
    if job.state != "FAILED" or job.signal in (_KILLED, _NO_LOG) or job.exit_code in (_LEFT, _INTERRUPTED):
        return ""
    if job.signal:
        return f" by signal {job.signal}"
    return "" if job.exit_code is None else f" with exit code {job.exit_code}"


def _several(jobs: list[Job], what: str) -> str:
    return f"{_named([job.id for job in jobs])} {what} ({known(Counter(job.state for job in jobs))})"


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"job {ids[0]}" if len(ids) == 1 else f"jobs {', '.join(ids[:3])}{more}: each"
