"""What else may be told to sbatch: any long option that the harness does not set itself."""

from __future__ import annotations

import re
from typing import Final

_OPTION = re.compile(r"(--[A-Za-z][\w-]*)(?:=.*)?", re.ASCII)

_LOGS = "the logs lie in the run's folder"
_CPUS = "use the key cpus_per_node"
_GPUS = "use the key gpus_per_node"
_MEMORY = "use the key memory_per_node"
_TASKS = "there is one task a node"
_EXPORT = "use the key environment"
_OWN_WAIT = "use `harness submit --wait`"

# An option of sbatch that the harness sets, or that would undo what it sets → what to do instead.
INSTEAD: Final = {
    "--account": "use the key account",
    "--array": "use `harness submit --array`",
    "--chdir": "submit in that folder",
    "--clusters": "submit on a machine of that cluster",
    "--constraint": "use the key constraint",
    "--cpus-per-gpu": _CPUS,
    "--cpus-per-task": _CPUS,
    "--error": _LOGS,
    "--exclusive": "use the key exclusive",
    "--export": _EXPORT,
    "--export-file": _EXPORT,
    "--gpus": _GPUS,
    "--gpus-per-node": _GPUS,
    "--gpus-per-socket": _GPUS,
    "--gpus-per-task": _GPUS,
    "--gres": _GPUS,
    "--input": "the job reads nothing",
    "--job-name": "use `harness submit --job-name`",
    "--mem": _MEMORY,
    "--mem-per-cpu": _MEMORY,
    "--mem-per-gpu": _MEMORY,
    "--no-kill": "it is set already",
    "--no-requeue": "use the key requeue",
    "--nodes": "use the key nodes",
    "--ntasks": _TASKS,
    "--ntasks-per-core": _TASKS,
    "--ntasks-per-gpu": _TASKS,
    "--ntasks-per-node": _TASKS,
    "--ntasks-per-socket": _TASKS,
    "--open-mode": _LOGS,
    "--output": _LOGS,
    "--oversubscribe": "use the key exclusive",
    "--parsable": "use `harness submit --json`",
    "--partition": "use the key partition",
    "--qos": "use the key qos",
    "--requeue": "use the key requeue",
    "--reservation": "use the key reservation",
    "--signal": "use the key warn",
    "--test-only": "use `harness submit --dry-run`",
    "--time": "use the key time",
    "--wait": _OWN_WAIT,
    "--wait-all-nodes": "the run itself waits for its nodes: use the key expect_within",
    "--wrap": "the job runs the suite, behind the lines of the key setup",
}


def further_option(word: str) -> str:
    """Return a further option of sbatch as given.

    Raises:
        ValueError: with what is wrong, as what follows "sbatch", and what to use instead.
    """
    match = _OPTION.fullmatch(word)
    if match is None:
        raise ValueError(
            f"cannot hold {word!r}: write one long option of sbatch, with its value behind =, such as --comment=text"
        )
    name = match[1]
    # sbatch takes any beginning that is one option's alone: --arr=3 is --array=3.
    taken = name if name in INSTEAD else next((option for option in INSTEAD if option.startswith(name)), None)
    if taken is not None:
        raise ValueError(f"cannot hold {taken}: {INSTEAD[taken]}")
    return word
