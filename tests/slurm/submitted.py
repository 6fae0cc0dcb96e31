"""Runs that are submitted to a Slurm of the tests' own by `harness submit`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from slurm.daemons import Slurm

HARNESS = str(Path(sys.executable).with_name("harness"))
SUITE = Path(__file__).with_name("paced.py")
LIMIT_S = 120


class Submitted:
    """One run and its job; what it says is in `log`."""

    def __init__(self, slurm: Slurm, folder: Path, job: str) -> None:
        self.slurm = slurm
        self.folder = folder
        self.job = job

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted((self.folder / "slurm").glob("*.log*")))

    def content(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text()))

    def rows(self, table: str = "trials") -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"{table}.parquet")

    def waits(self, until: Callable[[], object], *, within_s: float = LIMIT_S) -> None:
        """Wait until something has come true."""
        end = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end, self.log
            time.sleep(0.2)

    def done(self) -> int:
        """Return how many trials are recorded, by the driver's own count."""
        found = list(self.folder.glob("**/live.json"))
        return sum(sum(json.loads(path.read_text())["counts"].values()) for path in found)

    def ends(self, state: str = "COMPLETED") -> None:
        self.waits(lambda: self.slurm.state(self.job) == state)


def harness(slurm: Slurm, *words: str, cwd: Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of the harness's where Slurm's commands mean this Slurm."""
    done = subprocess.run(
        [HARNESS, *words], cwd=cwd, env=slurm.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def submit(slurm: Slurm, *words: str, cwd: Path, suite: Path = SUITE) -> Submitted:
    """Submit a suite; return its run."""
    told = json.loads(harness(slurm, "submit", str(suite), "--json", *words, cwd=cwd).stdout)
    return Submitted(slurm, cwd / told["folder"], told["job"])
