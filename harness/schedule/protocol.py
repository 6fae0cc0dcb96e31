"""What the loop asks of whatever runs trials: an executor with workers; and what gangs ask of one that knows nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.domain.outcome import EpochRecord, Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.launch import Launch
from harness.schedule.losses import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that holds a share of a node and runs trials one after another."""

    name: str
    node: str  # of a worker that spans several: the one whose clock counts
    demand: Demand
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()  # UUIDs
    others: tuple[str, ...] = ()  # the further nodes that it spans

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.node, *self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A worker can take trials; `prepare_s` is what importing the back end took."""

    worker: str
    prepare_s: float
    pid: int
    warm: frozenset[str] = frozenset()  # program keys that the process has run before, for another run


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A worker has built what a setting declares; `error` is what was wrong with it."""

    worker: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A worker has ended a trial, or was ended because of it."""

    worker: str
    key: tuple[str, str]  # of the trial
    attempt: int  # as it was submitted: what an attempt says that was given up meanwhile is not listened to
    outcome: Outcome
    alive: bool  # False: the process is gone and a new one is on its way; `Ready` or `Gone` will follow
    cause: Cause = "outside"  # of a trial that was lost: what ended it
    blamed: tuple[str, ...] = ()  # of a trial that was lost: the nodes to blame, where they are not all of the worker's


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A worker is lost for good, with its node or because it cannot start."""

    worker: str
    reason: str
    blamed: tuple[str, ...] = ()  # the nodes to blame, where they are not all of the worker's


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A worker and its node have measured what its share can do: columns of `nodes`; empty if that failed."""

    worker: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The state of a trial in its middle: whatever runs it can go on from there."""

    key: tuple[str, str]  # of the trial
    attempt: int
    state: bytes


Event = Ready | Checked | Calibrated | Done | Gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the trial on a worker has come."""

    epochs: int = 0
    last: EpochRecord | None = None


class Body(Protocol):
    """What runs inside a worker: the measuring side, handed to this package as an import path or an object."""

    def preload(self, backend: str) -> None:
        """Import what the back end needs, but start no thread and touch no device; "none" needs nothing."""

    def prepare(self, backend: str) -> None:
        """Touch the devices, so that no trial pays for it. The process may have been forked after `preload`."""

    def sources(self, sources: Mapping[str, Source]) -> None:
        """Take the text of the files whose functions the trials name."""

    def check(self, trial: Trial) -> str | None:
        """Build what the setting declares; return what is wrong with it, or None."""

    def calibrate(self) -> dict[str, Any]:
        """Measure what the back end and its device can do, within a second: columns of `nodes`."""

    def clock(self, anchor_s: float) -> None:
        """Take Unix times as `anchor_s` plus the steady clock from now on, as all of this node do."""

    def prime(self, trial: Trial) -> None:
        """Do ahead what can be done for the trial that this worker will run first; what is wrong is for `check`."""

    def run(
        self,
        trial: Trial,
        on_epoch: Callable[[EpochRecord], None],
        on_progress: Callable[[], None],
        *,
        state: bytes | None = None,
        on_state: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run one trial, from the beginning or from a `state` that was saved before.

        `on_epoch` after each epoch, also after those that the state holds; `on_progress` at least every few seconds;
        `on_state` with a state to go on from, each `trial.checkpoint_s` seconds.
        """

    def save_now(self) -> None:
        """Have the trial that is running save its state as soon as it can; called from its `on_progress`."""


class Executor(Protocol):
    """Starts workers and runs trials on them. All calls come from one thread."""

    def start(self, sources: Mapping[str, Source]) -> None:
        """Get ready to open workers; `sources` is the text of the files whose functions the trials name."""

    def open(self, demand: Demand) -> list[Worker]:
        """Return the workers that serve a demand, starting those that are missing; each is `Ready` later.

        Called again and again: a node that has joined meanwhile has its workers among them. None at all where those
        nodes that could hold one are gone, and may come back.

        Raises:
            SetupError: when no node that was ever there can hold one, with what the cluster has.
        """

    def node_names(self, demand: Demand) -> list[str]:
        """Return the names of the nodes that are there now and could hold such a trial.

        Raises:
            SetupError: when there is none, and none may come or come back, with what the cluster has.
        """

    def check(self, worker: str, trial: Trial) -> None:
        """Have a ready worker build what a trial declares; `Checked` follows."""

    def calibrate(self, worker: str) -> None:
        """Have a ready worker and its node measure what its share can do; `Calibrated` follows."""

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        """Have a ready worker run a trial, from the state if one was saved; `Done` follows. `attempt` counts from 1."""

    def set_aside(self, node: str) -> None:
        """Use a node no more: `open` returns no worker of it from now on, nor of one of that name that joins."""

    def replace(self, worker: str) -> None:
        """End the process of an idle worker and start a new one; `Ready` follows."""

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what happened since the last call, waiting for at most `timeout_s` for the first event."""

    def progress(self) -> dict[str, Progress]:
        """Return how far the trials now running have come, by worker."""

    def saved(self) -> list[Saved]:
        """Return the states that running trials have saved since the last call, of each trial the last one."""

    def save_now(self) -> None:
        """Ask the trials that are running to save their states as soon as they can: `saved` has them soon, as `wait` is
        called."""

    def telemetry(self) -> list[dict[str, Any]]:
        """Return the hardware readings since the last call."""

    def sampling(self) -> dict[str, dict[str, Any]]:
        """Return by node, once stopped, which readings could not be had and when there were none, with reasons."""

    def nodes(self) -> list[dict[str, Any]]:
        """Return the description of each node in use."""

    def stop(self) -> None:
        """End the workers and collect the last readings; quick, and safe to call twice."""

    def close(self, *, leaving: bool) -> None:
        """End all else that was started, after `stop`. It may take seconds, unless this process is `leaving`, which
        then must exit at once."""


class NodeExecutor(Executor, Protocol):
    """An executor that can start workers one by one."""

    def hosts(self, demand: Demand) -> list[str]:
        """Return the names of the nodes that could hold a part of such a trial."""

    def shares(self, node: str, demand: Demand) -> list[Launch]:
        """Return the disjoint shares of a node that can each hold a part of such a trial; none is started by that.

        Raises:
            SetupError: when it can hold none, or is gone.
        """

    def free_address(self, node: str) -> str:
        """Return an address of a node, IP:PORT, that nobody listens on at this moment.

        Raises:
            SetupError: when the node is gone.
        """

    def start_worker(self, node: str, launch: Launch, demand: Demand) -> Worker:
        """Start a worker with this very share; it is `Ready` later, and no part of what `open` returns."""

    def end_worker(self, worker: str) -> None:
        """End a worker for good, whatever it does; nothing is told of it any more."""
