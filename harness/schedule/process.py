"""A worker process and the connection to it: forked, asked, watched, ended (see `child` for its own side)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Final

from harness import processes
from harness.domain.outcome import EpochRecord, Facts, Outcome, Stopwatches
from harness.domain.sources import Source
from harness.domain.state import glance
from harness.domain.trial import Trial
from harness.schedule.endings import exit_code, last_line, last_lines, memory_kills
from harness.schedule.launch import Launch, Surroundings
from harness.schedule.nursery import BrokenWorkerError, Nursery, connect

START_TIMEOUT_S: Final = 120.0  # importing a back end from a slow network disk takes this long at worst
CALIBRATE_TIMEOUT_S: Final = 10.0  # of which the cores take 5 at most
_GRACE_S: Final = 2.0  # for a worker to end a program whose time is up, and say what it printed


@dataclass(kw_only=True)
class WorkerProcess:
    """A worker process, connected. Used by one thread at a time, but for `kill` and `epochs`."""

    launch: Launch
    pid: int
    log: str
    prepare_s: float  # of importing the back end and touching the device
    connection: Connection
    anchor_s: float = field(default_factory=lambda: time.time() - time.perf_counter())  # Unix time less steady clock
    epochs: list[EpochRecord] = field(default_factory=list)
    _killed: bool = False
    _starved: int | None = None  # how many processes the kernel had ended for memory when the present trial began

    @classmethod
    def fork(
        cls, launch: Launch, nursery: Nursery, *, after: int | None, timeout_s: float = START_TIMEOUT_S
    ) -> WorkerProcess:
        """Have a nursery fork a worker, wait until it is ready for trials, and return it.

        `after` is the process that it replaces, which nobody has a question about any more.

        Raises:
            BrokenWorkerError: when it ended first, or took longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        primed = launch.name if after is None else None
        connection, log = connect(nursery, primed=primed, deadline=deadline)
        try:
            group = None if launch.group is None else str(launch.group)
            connection.send({"cores": launch.cores, "log": log, "after": after, "group": group})
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                raise BrokenWorkerError(f"worker {launch.name} was not ready after {timeout_s:g} s")
            _, value = connection.recv()
        except (OSError, EOFError) as error:
            raise BrokenWorkerError(f"worker {launch.name} ended while starting: {last_line(log)}") from error
        return cls(launch=launch, pid=value["pid"], log=log, prepare_s=float(value["prepare_s"]), connection=connection)

    @property
    def name(self) -> str:
        return self.launch.name

    def introduce(
        self, sources: Mapping[str, Source], anchor_s: float, surroundings: Surroundings | None = None
    ) -> None:
        """Hand over the text of the files whose functions the trials name, and the node's clock (see `Body`)."""
        self.anchor_s = anchor_s
        self.epochs = []
        if surroundings is not None:
            own = self.launch.environment().keys()
            changed = {name: value for name, value in surroundings.environment.items() if name not in own}
            self.connection.send(("surroundings", (surroundings.folder, changed)))
        self.connection.send(("sources", dict(sources)))
        self.connection.send(("clock", anchor_s))

    def calibrate(self) -> dict[str, Any]:
        """Have the process measure what its cores can do, and then what its back end and device can.

        Raises:
            BrokenWorkerError: when the process ends instead, or takes longer than `CALIBRATE_TIMEOUT_S`.
        """
        measured: dict[str, Any] = self._answer(
            ("calibrate", self.launch.cores), "calibrating", limit_s=CALIBRATE_TIMEOUT_S
        )
        return measured

    def check(self, trial: Trial) -> str | None:
        """Have the process build what the trial declares; return what is wrong with it, or None.

        Raises:
            BrokenWorkerError: when the process ends instead, or takes longer than the trial's timeout.
        """
        wrong: str | None = self._answer(("check", trial), "building the model", limit_s=trial.timeout_s)
        return wrong

    def _answer(self, message: tuple[str, Any], doing: str, *, limit_s: float | None) -> Any:
        """Return what the process answers to a message; what it is `doing` meanwhile is told where it takes too long.

        Raises:
            BrokenWorkerError: when the process ends instead, or takes longer than `limit_s`.
        """
        limit = None if limit_s is None else time.monotonic() + limit_s
        try:
            self.connection.send(message)
            _, value = self._next(limit)
        except TimeoutError as error:
            self.kill()
            raise BrokenWorkerError(f"{doing} took longer than {limit_s:g} s") from error
        except (EOFError, OSError) as error:
            self.wait_gone()
            raise BrokenWorkerError(f"worker {self.name} died: {self.exit_reason()}") from error
        return value

    def run(
        self, trial: Trial, *, state: bytes | None = None, on_state: Callable[[bytes], None] = lambda state: None
    ) -> Outcome:
        """Run one trial to its end, whatever that is, from a `state` that was saved before if there is one.

        A trial past its timeout is ended with the process, but for a program, which its worker ends in time if it
        can; a process that dies yields a lost trial. Epochs that were measured before either are kept.
        """
        self.epochs = []
        self._starved = memory_kills()
        began, clock = self._now(), time.monotonic()
        grace_s = _GRACE_S if trial.setting.workload.name == "program" else 0.0
        limit = None if trial.timeout_s is None else clock + trial.timeout_s + grace_s
        try:
            self.connection.send(("run", (trial, state)))
            while True:
                what, value = self._next(limit)
                if what == "epoch":
                    self.epochs.append(value)
                elif what == "state":
                    on_state(value)
                elif what == "done":
                    return value  # type: ignore[no-any-return]
        except TimeoutError:
            self.kill()
            reason = f"timed out after {trial.timeout_s:g} s"
            return self._cut_short("timeout", reason, None, began, clock, state)
        except (EOFError, OSError):
            self.wait_gone()
            reason = f"worker {self.name} died: {self.exit_reason()}"
            return self._cut_short("lost", reason, last_lines(self.log), began, clock, state)

    def save_now(self) -> None:
        """Have the trial that is running save its state as soon as it can. Other threads may call it."""
        with contextlib.suppress(OSError):
            self.connection.send(("save", None))

    def _cut_short(
        self, status: Any, error: str, detail: str | None, began: float, clock: float, state: bytes | None
    ) -> Outcome:
        train_s = sum(epoch.train_s for epoch in self.epochs)
        eval_s = sum(epoch.eval_s or 0.0 for epoch in self.epochs)
        watches = Stopwatches(wall_s=time.monotonic() - clock, train_s=train_s, eval_s=eval_s)
        return Outcome(
            status=status,
            epochs=tuple(self.epochs),
            error=error,
            error_detail=detail,
            watches=watches,
            facts=_resumed(
                Facts(gpus=self.launch.gpus or None),  # so that what was read of them can be joined
                state,
                self.epochs,
            ),
            started_at=began,
            ended_at=self._now(),
        )

    def _now(self) -> float:
        return self.anchor_s + time.perf_counter()

    def alive(self) -> bool:
        """Whether the process still runs."""
        return processes.alive(self.pid)

    def kill(self) -> None:
        """End the process at once, and every one that it has started."""
        self._killed = True
        if self.alive():
            processes.end(self.pid)
        self.wait_gone()
        self.connection.close()

    def stop(self) -> None:
        """Ask an idle process to end."""
        with contextlib.suppress(OSError):
            self.connection.send(("stop", None))
        self.connection.close()

    def wait_gone(self, timeout_s: float = 2.0) -> None:
        """Wait until the process has ended."""
        deadline = time.monotonic() + timeout_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def exit_code(self) -> int | None:
        """Return how the process ended, -N by signal N; None where it runs, or where that is not known any more."""
        return exit_code(self.pid)

    def out_of_memory(self) -> bool | None:
        """Return whether the kernel has ended a process of this machine for memory since the present trial began;
        None where it does not tell."""
        now = memory_kills()
        return None if now is None or self._starved is None else now != self._starved

    def exit_reason(self) -> str:
        """Return how the process ended, with what it last printed when it ended by itself."""
        code = self.exit_code()
        if code is None:
            return f"the process is gone: {last_line(self.log)}"
        if code < 0:
            name = signal.Signals(-code).name
            hints = {True: ": memory had run out", None: " (the kernel does this when memory runs out)"}
            hint = hints.get(self.out_of_memory(), "") if name == "SIGKILL" and not self._killed else ""
            return f"killed by {name}{hint}"
        return f"exit code {code}: {last_line(self.log)}"

    def _next(self, limit: float | None) -> tuple[str, Any]:
        while not self.connection.poll(None if limit is None else max(0.0, limit - time.monotonic())):
            if limit is not None and time.monotonic() >= limit:
                raise TimeoutError
        return self.connection.recv()  # type: ignore[no-any-return]


def _resumed(facts: Facts, state: bytes | None, epochs: Sequence[EpochRecord]) -> Facts:
    """Return the facts with what follows from the state that a trial was given, unless its worker has refused it."""
    if state is None:
        return facts
    given = glance(state)
    first = given.head["epochs"][:1]
    if first and not (epochs and epochs[0].started_at == first[0]["started_at"]):
        return facts
    return replace(facts, resumptions=given.resumptions + 1, resumed_after_epoch=given.epoch)
