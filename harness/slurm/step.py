"""A node of a run's cluster in a step of Slurm's: what its environment says, and a parent for Ray that ends it all."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness import processes
from harness.domain.errors import SetupError
from harness.slurm.granted import granted_gpus, node_names

ADDRESSES: Final = "HARNESS_SLURM_ADDRESSES"  # "n1=10.0.0.1 n2=…": where the job's nodes are
PORT: Final = "HARNESS_SLURM_PORT"  # where the first of them listens for the others

_LONGEST_TEMP_DIR: Final = 22  # characters: with "/t" it is what `harness.schedule.nursery.private_folder` takes
_REAP_EVERY_S: Final = 5.0
_SLOW_START_S: Final = 30.0  # Ray gives up on its own parts after so long, as where a busy disk keeps them,
_START_OVER_S: Final = 120.0  # and that is likely why it has ended with an error by then


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How to start this node."""

    name: str
    ip: str
    join: str | None  # the first node's HOST:PORT; None: this is the first
    port: int
    temp_dir: Path
    num_cpus: int | None
    num_gpus: int | None  # None: as many as Ray finds

    @property
    def ray_dir(self) -> Path:
        """Where Ray puts its sockets and logs: it opens that folder to everybody, and so the one above must not be."""
        return self.temp_dir / "r"

    @property
    def environment(self) -> dict[str, str]:
        """The variables for Ray and all below it: what is put into temporary folders is removed in the end."""
        return {"TMPDIR": str(self.temp_dir / "t")}


def of_environment(
    environ: Mapping[str, str], *, port: int | None = None, resolve: Callable[[str], str] | None = None
) -> NodeOptions:
    """Return how to start the node of this step, by what Slurm and the job's script say; `port` goes before the latter.

    Raises:
        SetupError: when they do not say it.
    """
    missing = [name for name in ("SLURM_JOB_ID", "SLURM_NODEID", "SLURMD_NODENAME") if not environ.get(name)]
    if missing:
        raise SetupError(
            f"--slurm is for a step of a Slurm job, one task a node, as `harness submit` starts it: {missing[0]} is "
            "not set; elsewhere use --ip with --head or --join"
        )
    name, job = environ["SLURMD_NODENAME"], environ["SLURM_JOB_ID"]
    places = dict(pair.partition("=")[::2] for pair in environ.get(ADDRESSES, "").split())
    listed = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or name
    head = name if _number(environ, "SLURM_NODEID") == 0 else node_names(listed)[0]
    for one in (name, head):
        if one not in places:
            raise SetupError(f"{ADDRESSES} does not say where {one} is; it has {' '.join(places) or 'no node'}")
    resolve = resolve or resolved
    own_port = _number(environ, PORT) if port is None else port
    restart = _number(environ, "SLURM_RESTART_COUNT") if environ.get("SLURM_RESTART_COUNT") else 0
    gpus = granted_gpus(environ)
    return NodeOptions(
        name=name,
        ip=_own_ip(name, places, resolve),
        join=None if head == name else f"{resolve(places[head])}:{own_port}",
        port=own_port,
        temp_dir=_temp_dir(environ, f"h{job}.{restart}.{environ['SLURM_NODEID']}"),
        num_cpus=_number(environ, "SLURM_CPUS_ON_NODE") if environ.get("SLURM_CPUS_ON_NODE") else None,
        num_gpus=None if gpus is None else len(gpus),
    )


def _own_ip(name: str, places: Mapping[str, str], resolve: Callable[[str], str]) -> str:
    """Return this node's address as the others see it: on many a system a host's own name stands for 127.0.1.1."""
    own = resolve(places[name])
    others = [place for other, place in places.items() if other != name]
    if own == places[name] or not others or not ipaddress.ip_address(own).is_loopback:
        return own
    peer = resolve(others[0])
    with socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))  # which sends nothing, and chooses the way there
        return str(probe.getsockname()[0])


def _number(environ: Mapping[str, str], name: str) -> int:
    told = environ.get(name, "")
    if not told.isdigit():
        raise SetupError(f"{name}={told!r} is no number; it is set by Slurm, or by the script of `harness submit`")
    return int(told)


def _temp_dir(environ: Mapping[str, str], name: str) -> Path:
    """Return a short path of this start's own, below TMPDIR where that is short enough, and is on this node."""
    wanted = Path(environ.get("TMPDIR") or "/tmp", name)
    good = wanted.is_absolute() and len(str(wanted)) <= _LONGEST_TEMP_DIR and os.access(wanted.parent, os.W_OK)
    return wanted if good else Path("/tmp", name)


def resolved(host: str) -> str:
    """Return the IP address of a host, of the fourth version if it has one.

    Raises:
        SetupError: when the name is not known.
    """
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SetupError(f"{host}, as Slurm calls a node's address, is not known here ({error.strerror})") from None
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return str(found[0][4][0])


# The parent of all that runs on the node. -----------------------------------------------------------------------------


@contextlib.contextmanager
def own_folder(options: NodeOptions) -> Iterator[NodeOptions]:
    """The options with a folder that is there, and this start's alone until the context ends; then it is removed.

    What earlier starts of the job left here is removed too: Slurm has ended them, and they may have had no time to.

    Raises:
        SetupError: when it cannot be made.
    """
    _remove_older(options.temp_dir)
    folder, lock = _made(options.temp_dir)
    try:
        made = replace(options, temp_dir=folder)
        Path(made.environment["TMPDIR"]).mkdir(mode=0o700)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_older(folder: Path) -> None:
    job, start, _ = folder.name.split(".")
    for other in folder.parent.glob(f"{job}.*.*"):
        earlier = other.name.split(".")[1]
        if earlier.isdigit() and int(earlier) < int(start) and (lock := _locked(other)) is not None:
            shutil.rmtree(other, ignore_errors=True)
            os.close(lock)


def _made(folder: Path) -> tuple[Path, int]:
    """Make a folder of this name, or with a letter more where that is in use, as by another Slurm's job on the same
    machine; return it, and its lock."""
    for wanted in (folder, *(folder.with_name(folder.name + letter) for letter in "bcdefgh")):
        if (left := _locked(wanted)) is not None:
            shutil.rmtree(wanted, ignore_errors=True)
            os.close(left)
        try:
            wanted.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise SetupError(f"{wanted}, for sockets and logs, cannot be made ({error.strerror})") from None
        if (lock := _locked(wanted)) is not None:
            return wanted, lock
    raise SetupError(
        f"{folder}, for sockets and logs, is in use, and so are those beside it; remove what is left there"
    )


def _locked(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder; None where another process does, or there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def supervise(command: Sequence[str], options: NodeOptions) -> int:
    """Run a command until standard input closes or it ends, and then end all below it; return the exit code, 0 where
    its input closed. A Ray that seems to have given up on a slow start is started once more.

    Slurm sends SIGTERM to every process of a job that is to end, while the run still has to save. So it is blocked for
    all that runs below. A preemption tells the job's steps alone: its script hears of it by the line that is written
    here.
    """
    processes.adopt_orphans()
    told = _signals_to_a_pipe()
    began_s = time.monotonic()
    code = _supervised(command, options, told)
    if code is not None and code > 0 and _SLOW_START_S <= time.monotonic() - began_s <= _START_OVER_S:
        print(f"node {options.name}: its Ray did not start in time (exit code {code}), and is started once more",
              file=sys.stderr, flush=True)  # fmt: skip
        code = _supervised(command, options, told)
    if code is None:
        return 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    print(f"harness: node {options.name}: its Ray {how}", file=sys.stderr, flush=True)
    return 128 - code if code < 0 else code or 1


def _supervised(command: Sequence[str], options: NodeOptions, told: int) -> int | None:
    """Return the exit code of a command that ended by itself; None where standard input closed before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env={**os.environ, **options.environment},
            preexec_fn=processes.end_with_parent,
        )  # fmt: skip
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        closed = _follow(child, told, lambda: _say_terminated(options))
    finally:
        processes.end_below(os.getpid())
    return None if closed else child.wait()


def _signals_to_a_pipe() -> int:
    """Return what can be read once a signal has come: its number."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    return told


def _follow(child: subprocess.Popen[bytes], told: int, terminated: Callable[[], None]) -> bool:
    """Return True once standard input has closed, or False once the child has ended."""
    heard = False
    while child.poll() is None:
        ready, _, _ = select.select([0, told], [], [], _REAP_EVERY_S)
        if 0 in ready and not os.read(0, 4096):
            return True
        if told in ready and signal.SIGTERM in os.read(told, 4096) and not heard:
            heard = True
            terminated()
        processes.reap(spare=[child.pid])
    return False


def _say_terminated(options: NodeOptions) -> None:
    """Write what the job's script waits for."""
    print(f"node {options.name}: Slurm tells it to end (SIGTERM); the run is told, and the node waits for it to end",
          file=sys.stderr, flush=True)  # fmt: skip
