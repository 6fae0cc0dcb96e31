"""The nurseries that worker processes are forked by, from outside: started, reached, ended (see `child` for theirs).

A nursery can be used by another process than the one that started it: the driver starts its own node's before Ray is
up, so that importing the back end and starting Ray overlap.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path

from harness import processes
from harness.domain.errors import SetupError
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.child import Prime
from harness.schedule.endings import last_line
from harness.schedule.launch import Launch


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


def end_nurseries(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Close the lifeline of these nurseries and see that they end."""
    for process in started:
        if process.stdin is not None:
            process.stdin.close()
    for process in started:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:  # it is importing
            process.kill()
            process.wait()


class Prestarted:
    """The nurseries for some shares of this node, started before anything that will use them.

    The nth of `first` is the trial that the nth share will run first: its worker compiles for it meanwhile.
    """

    def __init__(
        self, launches: Sequence[Launch], first: Sequence[Trial] = (), sources: Mapping[str, Source] | None = None
    ) -> None:
        self.folder: Path = private_folder()
        self.nurseries: list[Nursery] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        primes: dict[tuple[object, ...], list[Prime]] = {launch.nursery_key(): [] for launch in launches}
        for launch, trial in zip(launches, first, strict=False):
            log = str(self.folder / f"{launch.name}.log")
            prime = Prime(name=launch.name, cores=launch.cores, log=log, trial=trial, sources=dict(sources or {}))
            primes[launch.nursery_key()].append(prime)
        for key, launch in {launch.nursery_key(): launch for launch in launches}.items():
            nursery, process = start_nursery(launch, self.folder, primes[key])
            self.nurseries.append(nursery)
            self._processes.append(process)

    def stop(self) -> None:
        """End what still runs."""
        end_nurseries(self._processes)
        shutil.rmtree(self.folder, ignore_errors=True)


def connect(nursery: Nursery, *, primed: str | None, deadline: float) -> tuple[Connection, str]:
    """Return a connection to a worker, and its log, once the nursery has imported what it must: to the one that it has
    forked for the share called `primed`, if that waits, or else to a new one, which prints to this log.

    Raises:
        BrokenWorkerError: when the nursery is gone, or has not imported it by the `deadline`.
    """
    _wait_until_it_listens(nursery, deadline)
    waiting = None if primed is None else _connect_primed(nursery, primed)
    return waiting or _connect_new(nursery, deadline)


def _wait_until_it_listens(nursery: Nursery, deadline: float) -> None:
    """Return once a nursery has imported what it must."""
    while not Path(nursery.address).exists():
        if not processes.alive(nursery.pid):
            raise BrokenWorkerError(f"the back end could not be imported: {last_line(nursery.log)}")
        if time.monotonic() > deadline:
            raise BrokenWorkerError("the back end was not imported in time")
        time.sleep(0.02)


def _connect_new(nursery: Nursery, deadline: float) -> tuple[Connection, str]:
    """Return a connection that the nursery will fork a worker for, and where its log is to be."""
    while True:
        try:
            connection = Client(nursery.address, family="AF_UNIX", authkey=bytes.fromhex(nursery.secret))
            return connection, f"{nursery.log[:-4]}-{secrets.token_hex(3)}.log"
        except (OSError, EOFError) as error:
            # Between the socket's name and its listening is a moment in which it refuses.
            refused = isinstance(error, ConnectionRefusedError) and processes.alive(nursery.pid)
            if not refused or time.monotonic() > deadline:
                raise BrokenWorkerError(f"the nursery is gone: {last_line(nursery.log)}") from error
            time.sleep(0.005)


def _connect_primed(nursery: Nursery, name: str) -> tuple[Connection, str] | None:
    """Return a connection to the worker that the nursery has forked for this share, and its log, if it waits."""
    for number, prime in enumerate(nursery.primed):
        if prime.name == name:
            with contextlib.suppress(OSError, EOFError):
                secret = bytes.fromhex(nursery.secret)
                return Client(f"{nursery.address}.{number}", family="AF_UNIX", authkey=secret), prime.log
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
