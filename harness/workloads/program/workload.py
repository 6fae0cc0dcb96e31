"""The workload named "program"."""

from __future__ import annotations

from collections.abc import Mapping

from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.program.command import command, files_of
from harness.workloads.program.run import Run
from harness.workloads.protocol import Stopwatch


class Program:
    """The workload named "program"."""

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        """Raise if the command names a value that the setting does not have, or a file that did not travel."""
        files_of(trial, sources)
        command(trial, ".")

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> Run:
        return Run(trial, files_of(trial, sources), watch)
