"""Slurm's own commands, run from one place: no shell, a time limit each, and their refusals as one clear message."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.domain.component import did_you_mean
from harness.domain.errors import SetupError, known
from harness.slurm.inherited import inherited

_ANSWER_S: Final = 10.0  # for what only asks
_SUBMIT_S: Final = 60.0  # a controller with much to do may take a submission long after the usual time
_SILENT: Final = "Unable to contact|Connection refused|connect failure|connection failure"
_LOST: Final = "timed out|Unexpected message|eceive"  # it may have heard the question all the same

# What squeue tells of a job: the field, and the most letters of it. No name is among them: one may hold anything.
_FIELDS: Final = {
    "ArrayJobID": 20, "ArrayTaskID": 40, "State": 24, "exit_code": 12, "RestartCnt": 8, "TimeUsed": 20,
    "TimeLimit": 20, "Reason": 120, "NodeList": 400,
}  # fmt: skip
_ACCOUNTED: Final = ("JobID", "State", "ExitCode", "Elapsed", "Timelimit", "NodeList")


class UnsureError(SetupError):
    """It stays open whether a job was submitted."""


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
    raise _absent(_words(done))


def sbatch(script: Path, *, cwd: Path, array: str | None = None) -> str:
    """Submit a script and return the job's id. `array` is its tasks in Slurm's form: ``0-99%10``.

    Raises:
        UnsureError: where it stays open whether the job was submitted.
        SetupError: where it was not, with Slurm's words and the way out.
    """
    words = ["--parsable", *([f"--array={array}"] if array is not None else []), str(script)]
    text = script.read_text(encoding="utf-8")
    try:
        done = _run("sbatch", *words, timeout_s=_SUBMIT_S, cwd=cwd, environ=inherited(os.environ, text))
    except subprocess.TimeoutExpired:
        raise _unsure(f"sbatch did not answer within {_SUBMIT_S:.0f} s", text) from None
    if done.returncode != 0:
        raise _refused(_words(done), text)
    job_id = done.stdout.strip().split(";")[0]
    if not job_id.isdecimal():
        raise _unsure(f"sbatch answered {_words(done)!r}, which is no job's id", text)
    return job_id


def jobs(ids: Iterable[str], *, timeout_s: float = _ANSWER_S) -> dict[str, Job]:
    """Return what Slurm knows of these jobs by their ids, of an array each task as ``12_3``: those it has forgotten are
    not there. Tasks that were cancelled together before they began are one job, ``12``.

    Raises:
        SetupError: when Slurm cannot be asked.
    """
    asked = sorted(set(ids))
    if not asked:
        return {}
    layout = ",".join(f"{name}:{most}|" for name, most in _FIELDS.items())
    words = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(asked)}", f"--Format={layout}"]
    done = _ask(words, timeout_s)
    if done.returncode != 0 and "nvalid job id" not in done.stderr:
        raise _absent(_words(done))
    found = {job.id: job for line in done.stdout.splitlines() if (job := _of_squeue(line)) is not None}
    known_ids = {name.partition("_")[0] for name in found}
    forgotten = [one for one in asked if one not in known_ids]
    return found | (_accounted(forgotten, timeout_s) if forgotten else {})


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
        raise SetupError(f"scancel {' '.join(asked)}: {_words(done)}; say `scancel {' '.join(asked)}` yourself later")


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


def _silent(command: str, seconds: float, said: str | bytes | None) -> SetupError:
    """Return that a command took too long, with what it had said by then."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    told = f": {_line(text)}" if text.strip() else ""
    return _absent(f"{command} took longer than {seconds:.0f} s{told}")


def _absent(words: str) -> SetupError:
    if re.search("configuration file|ClusterName|cannot stat|DNS SRV", words):
        return SetupError(
            f"Slurm's commands find no configuration ({words}); run this where Slurm is set up, or set SLURM_CONF to "
            "its slurm.conf"
        )
    return SetupError(f"Slurm's controller does not answer ({words}); try again later, or ask who runs the cluster")


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command says as one line."""
    return _line(f"{done.stderr}\n{done.stdout}") or f"exit code {done.returncode}, without a word"


def _line(text: str) -> str:
    """Return what a command says without its own name and the frames that it puts around."""
    lines = [line.strip(" *") for line in text.splitlines()]
    lines = [re.sub(r"^(sbatch|squeue|scontrol|scancel|sacct): ((error|fatal): )?", "", line) for line in lines]
    return "; ".join(dict.fromkeys(line for line in lines if line))


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
    words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(ids)}"]
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


def _asked_for(option: str, script: str) -> str:
    """Return the value of an option in a script's lines for sbatch; empty where it has none."""
    return next(iter(re.findall(rf"(?m)^#SBATCH --{option}=(.*)$", script)), "").strip('"')


def _unsure(what: str, script: str) -> UnsureError:
    name = _asked_for("job-name", script)
    look = f"squeue --me --name={shlex.quote(name)}" if name else "squeue --me"
    return UnsureError(
        f"{what}: the job may have been submitted all the same. `{look}` shows it if so, and `scancel` with its number "
        "takes it back; submit again only if it is not there"
    )


def _refused(words: str, script: str) -> SetupError:
    """Return what sbatch's refusal means and what to do about it."""
    if re.search(_SILENT, words):
        return _absent(words)
    if re.search(_LOST, words):
        return _unsure(f"sbatch lost its way to Slurm's controller ({words})", script)
    low = words.lower()
    for told, way in _WAYS_OUT.items():
        if re.search(told, low):
            return SetupError(f"Slurm refuses the job: {words}; {_partition(script) if way is None else way}")
    return SetupError(f"Slurm refuses the job: {words}; change what the profile or the options ask for")


def _partition(script: str) -> str:
    found = partitions()
    asked = _asked_for("partition", script)
    there = f"there are {known(found)}" if found else "`sinfo` lists them"
    near = did_you_mean(asked, found) if asked else ""
    return f"{near.strip()} {there}: choose one with --partition or in the profile".strip()


# What Slurm says, in lower case, and what is to be done; None: the partitions that there are.
_WAYS_OUT: Final[dict[str, str | None]] = {
    "violates accounting|submit limit": "ask for less, or wait until fewer of your jobs are queued",
    "not permitted|access|denied": "ask who runs the cluster for the right to, or use another partition or account",
    "invalid account|account/partition|account.*specif": (
        "name an account that you may use, with --account or in the profile: `sacctmgr show associations "
        'user="$USER" format=account,partition,qos` lists them'
    ),
    "partition specified|partition name|partition config|no partition|default partition": None,
    "node name": "`sinfo --Node` lists the nodes: see to `sbatch` in the profile and to --sbatch",
    "node count|more nodes": "ask for fewer with --nodes: `sinfo` says how many a partition has",
    "qos": "name one that you may use, with --qos or in the profile: `sacctmgr show qos format=name` lists them",
    "time limit|time specification": (
        "ask for less with --time, or for another partition: `sinfo --format='%P %l'` lists their longest times"
    ),
    "node configuration|memory specification|generic resource|gres|cpu count|processor": (
        "no node has what is asked for: ask for less (--memory, --cpus-per-node, --gpus-per-node), or for another "
        "partition: `sinfo --format='%P %D %c %m %G'` lists what their nodes have"
    ),
    "feature": "`sinfo --format='%P %f'` lists the features that there are: see to --constraint",
    "reservation": "`scontrol show reservation` lists them: see to --reservation",
    "array": "`scontrol show config | grep MaxArraySize` says how large an array may be: see to --array",
    "unrecognized option|invalid option": "see to `sbatch` in the profile and to --sbatch",
}
