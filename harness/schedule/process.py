"""A worker process and the connection to it: started, asked, watched, ended (see `child` for its own side).

A nursery can be used by another process than the one that started it: the driver starts its own node's before Ray is
up, so that importing the back end and starting Ray overlap.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, Final

from harness import processes
from harness.domain.errors import SetupError
from harness.domain.outcome import EpochRecord, Facts, Outcome, Stopwatches
from harness.domain.sources import Source
from harness.domain.state import glance
from harness.domain.trial import Trial
from harness.schedule.child import Prime

START_TIMEOUT_S: Final = 120.0  # importing a back end from a slow network disk takes this long at worst
CALIBRATE_TIMEOUT_S: Final = 10.0  # of which the cores take 5 at most
PEER_GONE: Final = "another process of the trial is gone"  # what a process says that ends because one has
_GRACE_S: Final = 2.0  # for a worker to end a program whose time is up, and say what it printed
_TAIL_BYTES: Final = 4000
_CHATTER: Final = re.compile(
    r"[IWE]\d{4} |WARNING: All log messages before|To enable the following instructions"
)  # what TensorFlow logs at every start


@dataclass(frozen=True, kw_only=True)
class Group:
    """A process's place among those that run one trial together."""

    rank: int  # from 0
    size: int
    coordinator: str  # where that of rank 0 listens for the others, IP:PORT
    ip: str  # its own

    def __str__(self) -> str:
        return f"{self.rank} {self.size} {self.coordinator} {self.ip}"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a worker process; the same on any node."""

    name: str
    body: str  # "module:attribute" that makes the Body
    backend: str
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    devices: int = 1  # that it splits a batch over: its GPUs, or as many that XLA makes of its cores
    group: Group | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that must be set before Python starts, since thread pools are sized at import."""
        threads = str(max(1, len(self.cores)))
        values = {"KERAS_BACKEND": self.backend} if self.backend != "none" else {}
        if self.devices > 1:
            values["HARNESS_DEVICES"] = str(self.devices)
        if self.devices > 1 and not self.gpus:
            count = f"--xla_force_host_platform_device_count={self.devices}"
            values["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
        return values | {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get(
                "TF_CPP_MIN_LOG_LEVEL", "0" if self.backend == "tensorflow" else "2"
            ),
            # A line for each compilation, which the worker counts (see harness/workloads/training/tensorflow_log.py).
            "TF_CPP_VMODULE": os.environ.get("TF_CPP_VMODULE", "device_compilation_profiler=1"),
            "CUDA_VISIBLE_DEVICES": ",".join(self.gpus),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "NPROC": threads,  # XLA's pool under JAX, where cores cannot be pinned
            "JAX_PLATFORMS": "" if self.gpus else "cpu",  # the former: whatever there is
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # Keras asks for a GPU when imported; the nursery has to fork after
            "PYTHONUNBUFFERED": "1",
        }

    def nursery_key(self) -> tuple[object, ...]:
        """Return what launches must have in common to be forked from one nursery."""
        return (self.body, self.backend, *sorted(self.environment().items()))


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a run was asked for: what its workers take over where they were started by another command before."""

    folder: str
    environment: Mapping[str, str | None]  # the variables that differ from that command's; None: not set


class BrokenWorkerError(Exception):
    """The worker process is gone or cannot be reached; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Nursery:
    """Where a nursery listens: all that a process needs to have workers forked by it."""

    key: tuple[object, ...]
    pid: int
    address: str
    secret: str
    log: str
    primed: tuple[Prime, ...] = ()  # workers that it forks without being asked; the nth listens at "<address>.<n>"


def start_nursery(
    launch: Launch, folder: Path, primes: Sequence[Prime] = ()
) -> tuple[Nursery, subprocess.Popen[bytes]]:
    """Start the nursery that `launch` needs and return at once; it imports the back end meanwhile.

    `folder` holds its socket and its log; the path must be short (a Unix socket's is at most 107 bytes). It removes it
    when it ends, as others in it do at the same time. `primes` are workers that it forks as soon as it can, to compile
    ahead.
    """
    token = secrets.token_hex(4)
    address = str(folder / f"{token}.sock")
    log = str(folder / f"{token}.log")
    secret = secrets.token_hex(16)
    priming: list[str] = []
    if primes:
        file = folder / f"{token}.prime"
        file.write_bytes(pickle.dumps(list(primes)))
        priming = ["--prime", str(file)]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [
                *processes.command("harness.schedule.child"),
                *("--address", address, "--body", launch.body, "--backend", launch.backend),
                *priming,
            ],
            env={
                **os.environ,
                **launch.environment(),
                "HARNESS_WORKER_KEY": secret,
                "HARNESS_WORKER_FOLDER": str(folder),  # what a killed worker leaves there is removed with it
                # What one worker of the run has compiled, the others need only read.
                "TF_XLA_FLAGS": f"{os.environ.get('TF_XLA_FLAGS', '')} "
                f"--tf_xla_persistent_cache_directory={folder / 'xla'}".strip(),
                "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "jax")),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            },
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the driver
        )
    key = launch.nursery_key()
    made = Nursery(key=key, pid=process.pid, address=address, secret=secret, log=log, primed=tuple(primes))
    return made, process


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
        _wait_until_it_listens(nursery, deadline)
        connection, log = (None if after is not None else _connect_primed(nursery, launch.name)) or _connect(
            nursery, deadline
        )
        try:
            group = None if launch.group is None else str(launch.group)
            connection.send({"cores": launch.cores, "log": log, "after": after, "group": group})
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                raise BrokenWorkerError(f"worker {launch.name} was not ready after {timeout_s:g} s")
            _, value = connection.recv()
        except (OSError, EOFError) as error:
            raise BrokenWorkerError(f"worker {launch.name} ended while starting: {_tail(log)}") from error
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
        try:
            self.connection.send(("calibrate", self.launch.cores))
            _, value = self._next(time.monotonic() + CALIBRATE_TIMEOUT_S)
        except TimeoutError as error:
            self.kill()
            raise BrokenWorkerError(f"calibrating took longer than {CALIBRATE_TIMEOUT_S:g} s") from error
        except (EOFError, OSError) as error:
            self.wait_gone()
            raise BrokenWorkerError(f"worker {self.name} died: {self.exit_reason()}") from error
        return value  # type: ignore[no-any-return]

    def check(self, trial: Trial) -> str | None:
        """Have the process build what the trial declares; return what is wrong with it, or None.

        Raises:
            BrokenWorkerError: when the process ends instead, or takes longer than the trial's timeout.
        """
        limit = None if trial.timeout_s is None else time.monotonic() + trial.timeout_s
        try:
            self.connection.send(("check", trial))
            _, value = self._next(limit)
        except TimeoutError as error:
            self.kill()
            raise BrokenWorkerError(f"building the model took longer than {trial.timeout_s:g} s") from error
        except (EOFError, OSError) as error:
            self.wait_gone()
            raise BrokenWorkerError(f"worker {self.name} died: {self.exit_reason()}") from error
        return value  # type: ignore[no-any-return]

    def run(
        self, trial: Trial, *, state: bytes | None = None, on_state: Callable[[bytes], None] = lambda state: None
    ) -> Outcome:
        """Run one trial to its end, whatever that is, from a `state` that was saved before if there is one.

        A trial past its timeout is ended with the process, but for a program, which its worker ends in time if it
        can; a process that dies yields a lost trial. Epochs that were measured before either are kept.
        """
        self.epochs = []
        self._starved = _memory_kills()
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
            return self._cut_short("lost", reason, _read_tail(self.log), began, clock, state)

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
        state = _process_state(self.pid)
        return os.waitstatus_to_exitcode(state[1]) if state is not None and state[0] == "Z" else None

    def out_of_memory(self) -> bool | None:
        """Return whether the kernel has ended a process of this machine for memory since the present trial began;
        None where it does not tell."""
        now = _memory_kills()
        return None if now is None or self._starved is None else now != self._starved

    def exit_reason(self) -> str:
        """Return how the process ended, with what it last printed when it ended by itself."""
        code = self.exit_code()
        if code is None:
            return f"the process is gone: {_tail(self.log)}"
        if code < 0:
            name = signal.Signals(-code).name
            hints = {True: ": memory had run out", None: " (the kernel does this when memory runs out)"}
            hint = hints.get(self.out_of_memory(), "") if name == "SIGKILL" and not self._killed else ""
            return f"killed by {name}{hint}"
        return f"exit code {code}: {_tail(self.log)}"

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


def _wait_until_it_listens(nursery: Nursery, deadline: float) -> None:
    """Return once a nursery has imported what it must."""
    while not Path(nursery.address).exists():
        if not processes.alive(nursery.pid):
            raise BrokenWorkerError(f"the back end could not be imported: {_tail(nursery.log)}")
        if time.monotonic() > deadline:
            raise BrokenWorkerError("the back end was not imported in time")
        time.sleep(0.02)


def _connect(nursery: Nursery, deadline: float) -> tuple[Connection, str]:
    """Return a connection that the nursery will fork a worker for, and where its log is to be."""
    while True:
        try:
            connection = Client(nursery.address, family="AF_UNIX", authkey=bytes.fromhex(nursery.secret))
            return connection, f"{nursery.log[:-4]}-{secrets.token_hex(3)}.log"
        except (OSError, EOFError) as error:
            # Between the socket's name and its listening is a moment in which it refuses.
            refused = isinstance(error, ConnectionRefusedError) and processes.alive(nursery.pid)
            if not refused or time.monotonic() > deadline:
                raise BrokenWorkerError(f"the nursery is gone: {_tail(nursery.log)}") from error
            time.sleep(0.005)


def _connect_primed(nursery: Nursery, name: str) -> tuple[Connection, str] | None:
    """Return a connection to the worker that the nursery has forked for this share, and its log, if it waits."""
    for number, prime in enumerate(nursery.primed):
        if prime.name == name:
            with contextlib.suppress(OSError, EOFError):
                secret = bytes.fromhex(nursery.secret)
                return Client(f"{nursery.address}.{number}", family="AF_UNIX", authkey=secret), prime.log
    return None


def _read_tail(log: str) -> str:
    """Return the last lines that a process printed."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, Path(log).stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
            return "".join(line for line in lines if not _CHATTER.match(line))
    except OSError:
        return ""


def _tail(log: str) -> str:
    lines = [line.strip() for line in _read_tail(log).splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _memory_kills() -> int | None:
    """Return how often the kernel has ended a process of this machine because memory had run out, by its count; None
    where it does not tell."""
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in counters.splitlines() if line.startswith("oom_kill ")), None)


def _process_state(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and wait status (fields 3 and 52 of /proc/PID/stat), or None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[49])
    except (OSError, IndexError, ValueError):
        return None


def private_folder(within: Path | None = None) -> Path:
    """Return a new folder that only this user can read, with a path short enough for sockets, in one such or in /tmp.

    Raises:
        SetupError: when none can be made.
    """
    if within is not None:
        within.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="n-", dir=within))
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(parent) <= 24:
            try:
                return Path(tempfile.mkdtemp(prefix="hns-", dir=parent))
            except OSError:
                continue
    raise SetupError("no folder for sockets: /tmp cannot be written; set TMPDIR to a short path that can")
