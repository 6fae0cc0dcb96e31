"""A cluster on several hosts, and runs on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
from cluster.hosts import FAST, HARNESS, PORT, Host, Hosts, start_cluster, wait_for

from harness.record import live

SUITE = Path(__file__).with_name("paced.py")


class Made:
    """The cluster; `run` starts a run on its head."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts = hosts
        self.folder = folder
        self.environment = {"RAY_AUTH_TOKEN": "5a" * 32, **FAST}
        self.address = f"{hosts[0].ip}:{PORT}"
        self._runs = 0

    def start(self) -> None:
        start_cluster(self.hosts.hosts, environment=self.environment, folder=self.folder)
        logs = [self.folder / f"{host.name}.log" for host in self.hosts.hosts]
        assert wait_for(lambda: all("runtime started" in log.read_text() for log in logs), within_s=90)

    def join(self, host: Host, *options: str) -> None:
        """Start a host's node anew."""
        log = self.folder / f"{host.name}.log"
        host.join(self.hosts[0], "--num-cpus", "2", *options, environment=self.environment, log=log)

    def run(self, *options: str, on: int = 0, **environment: str) -> Running:
        """Start `harness run --address` of the suite beside this file on a host."""
        self._runs += 1
        results = self.folder / f"results{self._runs}"
        words = [HARNESS, "run", str(SUITE), "--address", self.address, "--results", str(results), "--no-calibrate"]
        log = self.folder / f"run{self._runs}.log"
        process = self.hosts[on].start(*words, *options, environment={**self.environment, **environment}, log=log)
        return Running(process, results, log)

    def interrupt(self, on: int = 0, *, by: signal.Signals = signal.SIGINT) -> None:
        """Tell the runs on a host to end, as Ctrl-C does by default."""
        for pid in self.hosts[on].pids("harness run"):
            os.kill(pid, by)


class Running:
    """A run that goes on."""

    def __init__(self, process: subprocess.Popen[str], results: Path, log: Path) -> None:
        self._process = process
        self._results = results
        self._log = log
        self._began = time.monotonic()

    @property
    def said(self) -> str:
        return self._log.read_text()

    def says(self, text: str, *, within_s: float = 120) -> None:
        """Wait until the run says this."""
        assert wait_for(lambda: text in self.said or self._process.poll() is not None, within_s=within_s), self.said
        assert text in self.said, self.said

    def ends(self, code: int = 0, *, within_s: float = 120) -> float:
        """Wait until the run ends with this exit code; return the seconds that it took."""
        assert self._process.wait(within_s) == code, self.said
        return time.monotonic() - self._began

    def records(self) -> pd.DataFrame:
        """Return the rows of its trials."""
        (path,) = self._results.glob("*/*/trials.parquet")
        return pd.read_parquet(path)

    def busy(self) -> set[str]:
        """Return the nodes on which a trial runs now."""
        (path,) = self._results.glob("*/*/run.json")
        now = live.read(path.parent)
        return {trial.node for trial in now.running} if now else set()

    def nodes(self) -> set[Any]:
        return set(self.records()["node"])
