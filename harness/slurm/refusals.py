"""What Slurm's commands say where they refuse or do not answer, as one clear message with the way out."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Final

from harness.domain.component import did_you_mean
from harness.domain.errors import SetupError, known

_SILENT: Final = "Unable to contact|Connection refused|connect failure|connection failure"
_LOST: Final = "timed out|Unexpected message|eceive"  # it may have heard the question all the same


class UnsureError(SetupError):
    """It stays open whether a job was submitted."""


def absent(words: str) -> SetupError:
    """Return that Slurm cannot be asked, in its words."""
    if re.search("configuration file|ClusterName|cannot stat|DNS SRV", words):
        return SetupError(
            f"Slurm's commands find no configuration ({words}); run this where Slurm is set up, or set SLURM_CONF to "
            "its slurm.conf"
        )
    return SetupError(f"Slurm's controller does not answer ({words}); try again later, or ask who runs the cluster")


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command says as one line."""
    return one_line(f"{done.stderr}\n{done.stdout}") or f"exit code {done.returncode}, without a word"


def one_line(text: str) -> str:
    """Return what a command says without its own name and the frames that it puts around."""
    lines = [line.strip(" *") for line in text.splitlines()]
    lines = [re.sub(r"^(sbatch|squeue|scontrol|scancel|sacct): ((error|fatal): )?", "", line) for line in lines]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def asked_for(option: str, script: str) -> str:
    """Return the value of an option in a script's lines for sbatch; empty where it has none."""
    return next(iter(re.findall(rf"(?m)^#SBATCH --{option}=(.*)$", script)), "").strip('"')


def unsure(what: str, script: str) -> UnsureError:
    """Return that the job of a script may have been submitted, and how to find out."""
    name = asked_for("job-name", script)
    look = f"squeue --me --name={shlex.quote(name)}" if name else "squeue --me"
    return UnsureError(
        f"{what}: the job may have been submitted all the same. `{look}` shows it if so, and `scancel` with its number "
        "takes it back; submit again only if it is not there"
    )


def refused(words: str, script: str, partitions: Callable[[], list[str]]) -> SetupError:
    """Return what sbatch's refusal means and what to do about it; `partitions` tells which there are."""
    if re.search(_SILENT, words):
        return absent(words)
    if re.search(_LOST, words):
        return unsure(f"sbatch lost its way to Slurm's controller ({words})", script)
    low = words.lower()
    for told, way in _WAYS_OUT.items():
        if re.search(told, low):
            way = _partition(script, partitions()) if way is None else way
            return SetupError(f"Slurm refuses the job: {words}; {way}")
    return SetupError(f"Slurm refuses the job: {words}; change what the profile or the options ask for")


def _partition(script: str, found: list[str]) -> str:
    asked = asked_for("partition", script)
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
    "partition not available": "it is closed: wait, or name another with --partition; `sinfo` lists them",
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
    "license": "`scontrol show licenses` lists them: see to `sbatch` in the profile and to --sbatch",
    "array": "`scontrol show config | grep MaxArraySize` says how large an array may be: see to --array",
    "unrecognized option|invalid option": "see to `sbatch` in the profile and to --sbatch",
}
