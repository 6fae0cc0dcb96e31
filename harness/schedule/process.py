"""A worker process and the socket to it: started, asked, watched, ended.

The same handle serves a process that this one started and one that another process started (`adopt`): the driver
starts the workers of its own node before Ray is up, so that importing the back end and starting Ray overlap.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import SetupError
from harness.domain.outcome import EpochRecord, Outcome, Stopwatches
from harness.domain.sources import Source
from harness.domain.trial import Trial

START_TIMEOUT_S: Final = 120.0  # importing a back end from a slow network disk takes this long at worst
_TAIL_BYTES: Final = 4000


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a worker process; the same on any node."""

    name: str
    body: str  # "module:attribute" that makes the Body
    backend: str
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the variables that must be set before Python starts, since thread pools are sized at import."""
        threads = str(max(1, len(self.cores)))
        values = {"KERAS_BACKEND": self.backend} if self.backend != "none" else {}
        return values | {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
            "CUDA_VISIBLE_DEVICES": ",".join(self.gpus),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "PYTHONUNBUFFERED": "1",
        }


@dataclass(frozen=True, kw_only=True)
class Started:
    """Where a worker process listens: all that another process needs to adopt it."""

    launch: Launch
    pid: int
    address: str
    key: str
    log: str


class BrokenWorkerError(Exception):
    """The worker process is gone or cannot be reached; the message says which and why."""


def spawn(launch: Launch, folder: Path) -> tuple[Started, subprocess.Popen[bytes]]:
    """Start a worker process and return at once; it imports its back end meanwhile.

    `folder` holds its socket and its log; the path must be short (a Unix socket's is at most 107 bytes).
    """
    token = secrets.token_hex(4)
    address = str(folder / f"{token}.sock")
    log = str(folder / f"{token}.log")
    key = secrets.token_hex(16)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "harness.schedule.child"),
                *("--address", address, "--body", launch.body, "--backend", launch.backend),
                *("--cores", ",".join(str(core) for core in launch.cores)),
            ],
            env={**os.environ, **launch.environment(), "HARNESS_WORKER_KEY": key},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the driver
        )
    return Started(launch=launch, pid=process.pid, address=address, key=key, log=log), process


@dataclass(kw_only=True)
class WorkerProcess:
    """A worker process, connected. Used by one thread at a time, but for `kill` and `progress`."""

    started: Started
    process: subprocess.Popen[bytes] | None  # None when another process started it
    epochs: list[EpochRecord] = field(default_factory=list)
    prepare_s: float | None = None
    _connection: Connection | None = None
    _killed: bool = False

    def connect(self, timeout_s: float = START_TIMEOUT_S) -> float:
        """Wait until the process is ready for trials; return the seconds that importing its back end took.

        Raises:
            BrokenWorkerError: when it ended first, or took longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while self._connection is None:
            if not self.alive():
                raise BrokenWorkerError(f"worker {self.name} ended while starting: {self.exit_reason()}")
            if time.monotonic() > deadline:
                self.kill()
                raise BrokenWorkerError(
                    f"worker {self.name} was not ready after {timeout_s:g} s; see {self.started.log}"
                )
            try:
                self._connection = Client(
                    self.started.address, family="AF_UNIX", authkey=bytes.fromhex(self.started.key)
                )
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.02)
            except (OSError, EOFError) as error:
                raise BrokenWorkerError(f"worker {self.name} ended while starting: {error}") from error
        value = self._receive("ready", deadline)
        self.prepare_s = float(value["prepare_s"])
        return self.prepare_s

    @property
    def name(self) -> str:
        return self.started.launch.name

    def send_sources(self, sources: Mapping[str, Source]) -> None:
        """Hand over the text of the files whose functions the trials name."""
        self._send(("sources", dict(sources)))

    def check(self, trial: Trial) -> str | None:
        """Have the process build what the trial declares; return what is wrong with it, or None."""
        self._send(("check", trial))
        deadline = time.monotonic() + (trial.timeout_s or 3600.0)
        return self._receive("checked", deadline)  # type: ignore[no-any-return]

    def run(self, trial: Trial, *, should_stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Run one trial to its end, whatever that is.

        A trial past its timeout is ended with the process; a process that dies yields a lost trial. Epochs that
        were measured before either are kept.
        """
        self.epochs = []
        began, clock = time.time(), time.monotonic()
        limit = None if trial.timeout_s is None else clock + trial.timeout_s
        try:
            self._send(("run", trial))
            while True:
                what, value = self._next(limit)
                if what == "epoch":
                    self.epochs.append(value)
                elif what == "done":
                    return value  # type: ignore[no-any-return]
        except TimeoutError:
            self.kill()
            reason = f"timed out after {trial.timeout_s:g} s"
            return self._cut_short("timeout", reason, None, began, clock)
        except (EOFError, OSError, BrokenWorkerError):
            self.wait_gone()
            reason = f"worker {self.name} died: {self.exit_reason()}"
            return self._cut_short("lost", reason, self.log_tail(), began, clock)

    def _cut_short(self, status: Any, error: str, detail: str | None, began: float, clock: float) -> Outcome:
        train_s = sum(epoch.train_s for epoch in self.epochs)
        eval_s = sum(epoch.eval_s or 0.0 for epoch in self.epochs)
        watches = Stopwatches(wall_s=time.monotonic() - clock, train_s=train_s, eval_s=eval_s)
        return Outcome(
            status=status, epochs=tuple(self.epochs), error=error, error_detail=detail, step=None,
            watches=watches, started_at=began, ended_at=time.time(),
        )  # fmt: skip

    def alive(self) -> bool:
        """Whether the process still runs."""
        if self.process is not None:
            return self.process.poll() is None
        state = _process_state(self.started.pid)
        return state is not None and state[0] not in "ZX"

    def kill(self) -> None:
        """End the process at once. Its number cannot have been given to another while we hold its socket's path."""
        self._killed = True
        if self.alive():
            os.kill(self.started.pid, signal.SIGKILL)
        self.wait_gone()
        self._close()

    def stop(self) -> None:
        """Ask an idle process to end, and see that it does."""
        with contextlib.suppress(OSError, BrokenWorkerError):
            self._send(("stop", None))
        self._close()

    def wait_gone(self, timeout_s: float = 2.0) -> None:
        """Wait until the process has ended."""
        deadline = time.monotonic() + timeout_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def exit_reason(self) -> str:
        """Return how the process ended, with what it last printed when it ended by itself."""
        code = self.process.poll() if self.process is not None else self._exit_code_of_another()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (the kernel does this when memory runs out)" if name == "SIGKILL" and not self._killed else ""
            return f"killed by {name}{hint}"
        last = [line for line in self.log_tail().splitlines() if line.strip()]
        said = f": {last[-1].strip()}" if last else ""
        return f"exit code {code}{said}" if code is not None else f"the process is gone{said}"

    def _exit_code_of_another(self) -> int | None:
        """The exit code of a process that another one started and has not yet waited for, as `Popen` gives it."""
        state = _process_state(self.started.pid)
        if state is None or state[0] != "Z":
            return None
        return os.waitstatus_to_exitcode(state[1])

    def log_tail(self) -> str:
        """Return the last lines that the process printed."""
        try:
            with open(self.started.log, "rb") as log:
                log.seek(max(0, Path(self.started.log).stat().st_size - _TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def _send(self, message: tuple[str, Any]) -> None:
        if self._connection is None:
            raise BrokenWorkerError(f"worker {self.name} is not connected")
        self._connection.send(message)

    def _next(self, limit: float | None) -> tuple[str, Any]:
        assert self._connection is not None
        while not self._connection.poll(None if limit is None else max(0.0, limit - time.monotonic())):
            if limit is not None and time.monotonic() >= limit:
                raise TimeoutError
        return self._connection.recv()  # type: ignore[no-any-return]

    def _receive(self, wanted: str, limit: float) -> Any:
        try:
            while True:
                what, value = self._next(limit)
                if what == wanted:
                    return value
        except TimeoutError as error:
            self.kill()
            raise BrokenWorkerError(f"worker {self.name} did not answer in time") from error
        except (EOFError, OSError) as error:
            self.wait_gone()
            raise BrokenWorkerError(f"worker {self.name} died: {self.exit_reason()}") from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


def _process_state(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and wait status (fields 3 and 52 of /proc/PID/stat), or None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[49])
    except (OSError, IndexError, ValueError):
        return None


def private_folder() -> Path:
    """Return a new folder that only this user can read, with a path short enough for sockets.

    Raises:
        SetupError: when none can be made.
    """
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(parent) <= 24:
            try:
                return Path(tempfile.mkdtemp(prefix="hns-", dir=parent))
            except OSError:
                continue
    raise SetupError("no folder for sockets: /tmp cannot be written; set TMPDIR to a short path that can")
