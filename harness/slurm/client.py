"""Slurm's own commands, run from one place: no shell, a time limit each, and their refusals as one clear message."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.domain.errors import SetupError
from harness.domain.naming import plural
from harness.slurm.inherited import inherited
from harness.slurm.refusals import absent, asked_for, one_line, refused, said, unsure

_ANSWER_S: Final = 10.0  # for what only asks
_SUBMIT_S: Final = 60.0  # a controller with much to do may take a submission long after the usual time

# What squeue tells of a job: the field, and the most letters of it. No name is among them: one may hold anything.
_FIELDS: Final = {
    "ArrayJobID": 20, "ArrayTaskID": 40, "State": 24, "exit_code": 12, "RestartCnt": 8, "TimeUsed": 20,
    "TimeLimit": 20, "Reason": 120, "NodeList": 400,
}  # fmt: skip
_ACCOUNTED: Final = ("JobID", "State", "ExitCode", "Elapsed", "Timelimit", "NodeList")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job, or a task of an array, as Slurm tells of it; None where it does not say."""

    id: str  # "12", of a task "12_3"
    task: int | None  # of an array
    state: str  # as `states.MEANINGS` has them
    reason: str = ""  # why it is pending, or ended
    exit_code: int | None = None
    signal: int | None = None  # that ended it
    nodes: str = ""  # "n[1-3]"
    used: str = ""  # "0:12", of this start
    limit: str = ""  # "2:00:00"
    restarts: int | None = None
    past: bool = False  # only the accounting knows it: it does not start again


def expect_slurm() -> None:
    """Raise SetupError unless jobs can be submitted from here: Slurm's commands are there, and its controller answers.

    Cheaper than finding out when everything is planned.
    """
    if shutil.which("sbatch") is None:
        raise SetupError(
            "there is no Slurm here: sbatch is not on the PATH; run this where it is (a cluster's login node), or run "
            "the suite here with `harness run`"
        )
    done = _ask(["scontrol", "ping"], _ANSWER_S)
    if done.returncode == 0 and " UP" in done.stdout:
        return
    raise absent(said(done))


def sbatch(script: Path, *, cwd: Path, array: str | None = None) -> str:
    """Submit a script and return the job's id. `array` is its tasks in Slurm's form: ``0-99%10``.

    Raises:
        UnsureError: where it stays open whether the job was submitted.
        SetupError: where it was not, with Slurm's words and the way out.
    """
    words = ["--parsable", *([f"--array={array}"] if array is not None else []), str(script)]
    text = script.read_text(encoding="utf-8")
    environ = inherited(os.environ, text)
    _expect_nodes(asked_for("nodes", text), asked_for("partition", text) or environ.get("SBATCH_PARTITION", ""))
    try:
        done = _run("sbatch", *words, timeout_s=_SUBMIT_S, cwd=cwd, environ=environ)
    except subprocess.TimeoutExpired:
        raise unsure(f"sbatch did not answer within {_SUBMIT_S:.0f} s", text) from None
    if done.returncode != 0:
        raise refused(said(done), text, partitions)
    told = re.findall(r"(?m)^(\d+)(?:;\S*)?\s*$", done.stdout)  # a site may have it say more, on lines before
    if not told:
        raise unsure(f"sbatch answered {said(done)!r}, which is no job's id", text)
    return str(told[-1])


def _expect_nodes(nodes: str, partition: str) -> None:
    """Raise SetupError for more nodes than a partition has: Slurm would take the job, and never start it.

    Those that are down or switched off count. Nothing is refused where Slurm does not tell, as of a hidden partition,
    and where it may be otherwise in the end. `partition` may be several, with commas between; empty for the default
    one.
    """
    if not nodes.isdecimal():
        return
    asked, sizes = partition.split(",") if partition else [], {}
    for line in shown("partition", "-o").splitlines():
        told = dict(word.partition("=")[::2] for word in line.split())
        name, count = told.get("PartitionName", ""), told.get("TotalNodes", "")
        wanted = name in asked if asked else told.get("Default") == "YES"
        if wanted and count.isdecimal():
            sizes[name] = int(count)
    if not sizes or not sizes.keys() >= set(asked) or int(nodes) <= max(sizes.values()) or _may_change():
        return
    has = " and ".join(f"partition {name} has {plural(count, 'node')}" for name, count in sizes.items())
    raise SetupError(f"the job asks for {nodes} nodes, and {has}: ask for fewer with --nodes, or for another partition")


def _may_change() -> bool:
    """Tell whether nodes may join while Slurm runs, or a plugin of the site's may choose another partition."""
    config = shown("config")
    if re.search(r"(?m)^JobSubmitPlugins\s*= (?!\(null\))\S", config):
        return True
    most = re.search(r"(?m)^MaxNodeCount\s*= (\d+)", config)
    return most is not None and int(most[1]) > len(shown("node", "-o").splitlines())


def jobs(ids: Iterable[str], *, ended: Mapping[str, Job] | None = None, timeout_s: float = _ANSWER_S) -> dict[str, Job]:
    """Return what Slurm knows of these jobs by their ids, of an array each task as ``12_3``: those it has forgotten are
    not there. Tasks that were cancelled together before they began are one job, ``12``.

    A task that is asked for by its own id is looked up in the accounting once the controller has forgotten it, which
    it does while others of its array still run; unless it is among those that are known to have `ended`.

    Raises:
        SetupError: when Slurm cannot be asked.
    """
    asked = sorted(set(ids))
    if not asked:
        return {}
    ended = ended or {}
    layout = ",".join(f"{name}:{most}|" for name, most in _FIELDS.items())
    words = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(_whole(asked))}"]
    done = _ask([*words, f"--Format={layout}"], timeout_s)
    if done.returncode != 0 and "nvalid job id" not in done.stderr:
        raise absent(said(done))
    found = {job.id: job for line in done.stdout.splitlines() if (job := _of_squeue(line)) is not None}
    listed = {*found, *_whole(found)}  # by an array's id, any of its tasks is meant
    forgotten = [one for one in asked if one not in listed]
    unknown = [one for one in forgotten if one not in ended]
    known = {one: ended[one] for one in forgotten if one in ended} | found
    return (_accounted(unknown, timeout_s) if unknown else {}) | known


def _whole(ids: Iterable[str]) -> list[str]:
    """Return the ids of jobs, and for tasks those of their arrays."""
    return sorted({one.partition("_")[0] for one in ids})


def cancel(ids: Iterable[str], *, pending: bool = False) -> None:
    """Cancel jobs, or tasks of an array as ``12_3``; with `pending` only what waits to start. One that has ended is no
    mistake.

    Raises:
        SetupError: when Slurm cannot be told, or refuses.
    """
    asked = sorted(set(ids))
    if not asked:
        return
    done = _ask(["scancel", *(["--state=PENDING"] if pending else []), *asked], _ANSWER_S)
    if done.returncode != 0 and "nvalid job id" not in done.stderr and "already" not in done.stderr:
        raise SetupError(f"scancel {' '.join(asked)}: {said(done)}; say `scancel {' '.join(asked)}` yourself later")


def partitions() -> list[str]:
    """Return the partitions that there are, by name; none where Slurm does not tell."""
    try:
        done = _ask(["sinfo", "--noheader", "--format=%R"], _ANSWER_S)
    except SetupError:
        return []
    return sorted(set(done.stdout.split()))


def shown(*words: str) -> str:
    """Return what `scontrol show` says of something; where there is no such thing, nothing.

    Raises:
        SetupError: when Slurm cannot be asked.
    """
    return _ask(["scontrol", "show", *words], _ANSWER_S).stdout


def _run(
    *words: str, timeout_s: float, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; in English, and without what the user's environment would have it filter or lay out otherwise,
    unless another is given."""
    if environ is None:
        dropped = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | {"LC_ALL": "C"}
    return subprocess.run(
        words, env=environ, cwd=cwd, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip


def _ask(words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    try:
        return _run(*words, timeout_s=timeout_s)
    except FileNotFoundError:
        raise SetupError(f"there is no Slurm here: {words[0]} is not on the PATH; ask where it is") from None
    except OSError as error:
        raise SetupError(f"{words[0]} cannot be run ({error.strerror}); see to its permissions") from error
    except subprocess.TimeoutExpired as error:
        raise _silent(words[0], timeout_s, error.stderr) from None


def _silent(command: str, seconds: float, output: str | bytes | None) -> SetupError:
    """Return that a command took too long, with what it had said by then."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    told = f": {one_line(text)}" if text.strip() else ""
    return absent(f"{command} took longer than {seconds:.0f} s{told}")


def _of_squeue(line: str) -> Job | None:
    fields = [field.strip() for field in line.split("|")]
    if len(fields) != len(_FIELDS) + 1:
        return None
    job_id, task, state, code, restarts, used, limit, reason, nodes = fields[:-1]
    status, signal = _code(code)
    return Job(
        id=f"{job_id}_{task}" if task.isdecimal() else job_id, task=int(task) if task.isdecimal() else None,
        state=_state(state), reason="" if reason == "None" else reason, exit_code=status, signal=signal, nodes=nodes,
        used=used, limit=limit, restarts=int(restarts) if restarts.isdecimal() else None,
    )  # fmt: skip


def _accounted(ids: Sequence[str], timeout_s: float) -> dict[str, Job]:
    """Return what the accounting has of jobs that the controller has forgotten; nothing where there is none."""
    words = ["sacct", "--noheader", "--parsable2", "--allocations", "--allusers", f"--jobs={','.join(_whole(ids))}"]
    try:
        done = _ask([*words, f"--format={','.join(_ACCOUNTED)}"], timeout_s)
    except SetupError:
        return {}
    found = {}
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        fields = line.split("|")
        if len(fields) != len(_ACCOUNTED):
            continue
        job_id, state, code, used, limit, nodes = fields
        if "[" in job_id and _state(state) == "PENDING":  # the controller knows better: it lists them one by one
            continue
        if not re.fullmatch(r"\d+(_\d+)?", job_id):  # "12_[3-5]": tasks that never began, as one
            job_id = job_id.partition("_")[0]
        task = job_id.partition("_")[2]
        status, signal = _code(code)
        found[job_id] = Job(
            id=job_id, task=int(task) if task else None, state=_state(state), exit_code=status, signal=signal,
            nodes="" if nodes == "None assigned" else nodes, used=used, limit=limit, past=True,
        )  # fmt: skip
    return found


def _state(text: str) -> str:
    """Return a state alone: the accounting says ``CANCELLED by 1000``, and flags may follow a plus sign."""
    return re.split(r"[ +]", text.strip().upper())[0]


def _code(text: str) -> tuple[int | None, int | None]:
    """Return the exit code and the signal of ``3:0``, or of the number that squeue has for both."""
    if ":" in text:
        code, _, signal = text.partition(":")
        return (int(code), int(signal)) if code.isdecimal() and signal.isdecimal() else (None, None)
    return (int(text) >> 8, int(text) & 127) if text.isdecimal() else (None, None)
