"""What is asked of the pipeline, and what it answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.domain.outcome import Finished
from harness.domain.suite import LoadedSuite
from harness.domain.trial import Trial
from harness.pipeline.standing import Standing
from harness.plan import Plan
from harness.record.stop import StopRequest
from harness.schedule.loop import Policy
from harness.schedule.notice import Notice
from harness.schedule.protocol import Executor

if TYPE_CHECKING:
    from harness.analyse.noise import NoiseFloor, Same
    from harness.analyse.repeats import Repeated

EXIT_COMPLETED: Final = 0
EXIT_SOME_FAILED: Final = 1
EXIT_MISSED: Final = 1  # with --check: a published value was not reproduced
EXIT_WRONG: Final = 2
EXIT_PREEMPTED: Final = 75  # EX_TEMPFAIL: run again with --resume
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked `harness run` for."""

    suite: Path
    results: Path = Path("results")
    overrides: Sequence[str] = ()
    where: Sequence[str] = ()
    small: bool = False
    resume: bool = False
    run: str | None = None  # which run to resume; None: the latest that is not finished; of a new run its id
    shard: tuple[int, int] | None = None  # of the run to resume these trials alone: which of how many, from 0
    force: bool = False  # resume although the suite changed
    take_over: bool = False  # resume although another host's process may still own the run
    policy: Policy = field(default_factory=Policy)
    noise: bool = False  # measure the nodes' noise floor by it: see `against_itself`
    command: Sequence[str] = field(default_factory=lambda: (*(Path(word).name for word in sys.argv[:1]), *sys.argv[1:]))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What a run that ran every setting under two names says of its nodes."""

    floors: Sequence[NoiseFloor]  # by node
    settings: Sequence[tuple[Same, Mapping[str, Any]]]  # each compared with itself, and its place in the grid


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run ended."""

    exit_code: int
    folder: Path
    run_id: str
    loaded: LoadedSuite
    counts: Mapping[str, int]  # finished trials by status, those of an earlier attempt included
    pending: int
    stopped: str | None  # why it ended early: "SIGINT", "SIGTERM", "max_fail", "budget", "stop" …
    unserved: Sequence[str]  # after "nodes": what the trials that are left ask of a node
    executor: Executor | None  # its workers are ended; it is left to close
    repeats: Sequence[Repeated] = ()  # with repeats="auto": how it stands with each arm
    figureless: bool = False  # with repeats="auto": every arm ended, and none of its trials had the figure
    noise: Noise | None = None  # with `Request.noise`, where every trial ended


class Display(Protocol):
    """What shows a run to a person, or to a log. Each event is in the `Standing` before it is told."""

    def planned(
        self, made: Plan, pending: Sequence[Trial], *, folder: Path, standing: Standing, unneeded: int = 0
    ) -> None:
        """The plan is made; `pending` are the trials that are neither recorded already nor unneeded."""

    def notice(self, notice: Notice) -> None:
        """Something happened to a worker or a trial."""

    def finished(self, finished: Finished) -> None:
        """A trial is done."""

    def tick(self) -> None:
        """A moment passed, and the standing knows how far each trial is."""

    def ending(self, signal_name: str) -> None:
        """The run was told to end. Called from the signal's handler: must be quick and take no lock."""

    def stopping(self, request: StopRequest) -> None:
        """The run was asked to end by `harness stop`."""
