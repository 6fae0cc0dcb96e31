"""What Slurm itself writes among what a job's nodes say, and that its states do not tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from harness.slurm.jobfile import FOLDER

# "error: StepId=12.0 exceeded memory limit (…), being killed", or "error: Detected 1 oom_kill event in StepId=12.0 …"
_NO_MEMORY: Final = re.compile(r"slurmstepd.*?(exceeded (?:job |step )?memory limit.*|detected \d+ oom.kill.*)", re.I)


def out_of_memory(folder: Path) -> str:
    """Return what Slurm wrote of the nodes of a run that took more memory than was granted, in their last start; empty
    where it wrote no such thing."""
    for log in sorted((folder / FOLDER).glob("nodes*.log")):
        try:
            found = _NO_MEMORY.search(log.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found is not None:
            return found[1].strip()
    return ""
