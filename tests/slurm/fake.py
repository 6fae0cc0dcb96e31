"""Slurm's commands as small scripts that say what a test has them say, and note what they are called with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

_SCRIPT = """\
#!/bin/bash
printf '%s\\n' "{name} $*" >> {folder}/calls
env > {folder}/{name}.env
[ ! -e {folder}/{name}.sleeps ] || exec sleep 60
cat {folder}/{name}.err >&2
cat {folder}/{name}.out
exit "$(cat {folder}/{name}.code)"
"""


@dataclass(frozen=True)
class FakeSlurm:
    """A folder of commands, on the PATH before all others."""

    folder: Path

    @classmethod
    def on_path(cls, folder: Path, patch: pytest.MonkeyPatch) -> FakeSlurm:
        """Return one whose controller is up, which knows no job, and which takes each submission as job 12."""
        folder.mkdir()
        fake = cls(folder)
        fake.says("scontrol", "Slurmctld(primary) at here is UP\n")
        fake.says("sbatch", "12\n")
        fake.says("scancel")
        fake.says("sinfo", "main\nurgent\nmain\n")
        fake.knows()
        fake.says("sacct", err="Slurm accounting storage is disabled\n", code=1)
        patch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return fake

    def says(self, name: str, out: str = "", *, err: str = "", code: int = 0) -> None:
        """Have a command say this from now on."""
        for kind, text in (("out", out), ("err", err), ("code", str(code))):
            (self.folder / f"{name}.{kind}").write_text(text)
        script = self.folder / name
        script.write_text(_SCRIPT.format(name=name, folder=self.folder))
        script.chmod(0o755)

    def hangs(self, name: str) -> None:
        (self.folder / f"{name}.sleeps").touch()

    def knows(self, *jobs: str) -> None:
        """Have squeue list jobs, each as ``12|N/A|PENDING|0|0|0:00|2:00:00|Resources|``; none: it refuses their ids."""
        lines = "".join("|".join(f"{field:30}" for field in job.split("|")) + "|\n" for job in jobs)
        err = "" if jobs else "slurm_load_jobs error: Invalid job id specified\n"
        self.says("squeue", lines, err=err, code=0 if jobs else 1)

    def calls(self, name: str) -> list[str]:
        """Return what a command was called with, each time."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.split(" ")[0] == name]

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables that a command last saw."""
        lines = (self.folder / f"{name}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


PENDING = "12|N/A|PENDING|0|0|0:00|2:00:00|Resources|"
RUNNING = "12|N/A|RUNNING|0|0|0:12|2:00:00|None|n[1-3]"
PREEMPTED = "12|N/A|PREEMPTED|0|0|0:12|2:00:00|None|n[1-3]"
REQUEUED = "12|N/A|PENDING|0|1|0:00|2:00:00|BeginTime|"
COMPLETED = "12|N/A|COMPLETED|0|0|1:12|2:00:00|None|n[1-3]"
