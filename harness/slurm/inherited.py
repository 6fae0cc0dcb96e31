"""What a job inherits of the environment in which it is submitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# Variables by which sbatch takes options: they win over the script's own lines, for which a profile stands.
_INSTEAD_OF: Final = {
    "account": "SBATCH_ACCOUNT", "chdir": "SBATCH_CHDIR", "constraint": "SBATCH_CONSTRAINT",
    "exclusive": "SBATCH_EXCLUSIVE", "gres": "SBATCH_GRES", "job-name": "SBATCH_JOB_NAME",
    "mem": "SBATCH_MEM_PER_NODE", "no-kill": "SBATCH_NO_KILL", "no-requeue": "SBATCH_NO_REQUEUE",
    "open-mode": "SBATCH_OPEN_MODE", "output": "SBATCH_OUTPUT", "partition": "SBATCH_PARTITION",
    "qos": "SBATCH_QOS", "requeue": "SBATCH_REQUEUE", "reservation": "SBATCH_RESERVATION",
    "signal": "SBATCH_SIGNAL", "time": "SBATCH_TIMELIMIT",
}  # fmt: skip

# Beginnings of those that stand for what a profile cannot ask for, or that do not go with what the script asks for.
_NEVER: Final = (
    "SBATCH_ARRAY_INX", "SBATCH_CLUSTERS", "SBATCH_CPUS_PER_", "SBATCH_ERROR", "SBATCH_EXPORT", "SBATCH_GPUS",
    "SBATCH_INPUT", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU", "SBATCH_WAIT",
)  # fmt: skip

# Beginnings of what Slurm has told a job from which another is submitted, and of what would steer its srun.
_OF_A_JOB: Final = (
    "SLURM_", "SLURMD_", "SRUN_", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK", "HARNESS_GPUS", "HARNESS_SLURM_",
)  # fmt: skip
_OF_THE_CLUSTER: Final = ("SLURM_CONF", "SLURM_JWT")  # how Slurm's commands find it, and who the user is to it


def inherited(environ: Mapping[str, str], script: str) -> dict[str, str]:
    """Return the environment for sbatch, which the job has too: nothing in it goes before a line of the script."""
    dropped = [name for option, name in _INSTEAD_OF.items() if re.search(rf"(?m)^#SBATCH --{option}(=|$)", script)]
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_OF_THE_CLUSTER) or not (name in dropped or name.startswith((*_NEVER, *_OF_A_JOB)))
    }
