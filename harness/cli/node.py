"""``harness node``: this machine becomes a node of a Ray cluster, in the foreground."""

from __future__ import annotations

import os
import platform
import re
import select
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

_LONGEST_TEMP_DIR: Final = 43  # characters: Ray puts sockets below it, whose paths may have 107
_FIXED_PORTS: Final = 6  # the first ones of a range are for Ray's own processes, the others for workers
_HEAD_PATIENCE_S: Final = 20.0  # nodes may be started together
_LOOK_EVERY_S: Final = 0.2
_STEP_PATIENCE_S: Final = 600.0  # in a step, which ends sooner where the run gives up
_PORT: Final = 6379
_OBJECT_STORE_BYTES: Final = 100_000_000  # what passes through it is small

_RAY: Final = (sys.executable, "-P", "-m", "ray.scripts.scripts")

_WORD: Final = r"[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"
_NAME: Final = re.compile(_WORD, re.ASCII)
_LABEL: Final = re.compile(rf"(?:[\w.-]+/)?{_WORD}={_WORD}", re.ASCII)  # what Ray takes


def node(
    ip: Annotated[
        str | None, typer.Option("--ip", metavar="IP", help="This machine's address, as the other nodes see it.")
    ] = None,
    head: Annotated[bool, typer.Option("--head", help="The first node, which the others join.")] = False,
    join: Annotated[
        str | None, typer.Option("--join", metavar="HOST:PORT", help="Join the cluster of this head.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help=f"With --head: where it listens; {_PORT} if left out."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call this node instead of its host name.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="NAME=VALUE[,…]", help="What suites can ask for as node_labels.NAME."),
    ] = None,
    num_cpus: Annotated[
        int | None,
        typer.Option(
            "--num-cpus", min=0, metavar="N", help="Keep to so many hardware threads; 0: no trials here, else on all."
        ),
    ] = None,
    num_gpus: Annotated[int | None, typer.Option("--num-gpus", min=0, metavar="N", help="Instead of all GPUs.")] = None,
    temp_dir: Annotated[
        Path | None, typer.Option("--temp-dir", metavar="DIR", help="For sockets and logs; /tmp/ray if left out.")
    ] = None,
    ports: Annotated[
        str | None,
        typer.Option("--ports", metavar="FIRST-LAST", help="Listen on these alone, beside --port; else on any."),
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", hidden=True)] = False,
) -> None:
    """Start this machine's node of a Ray cluster; it ends with this command.

    Every node needs the same token: RAY_AUTH_TOKEN, or a file with it named by RAY_AUTH_TOKEN_PATH.
    """
    from harness.domain.errors import SetupError
    from harness.slurm.granted import keep_to_first

    if slurm:
        if ip or head or join or name or temp_dir or num_cpus is not None or num_gpus is not None:
            raise SetupError("--slurm goes with --port, --ports and --labels alone: Slurm says all else")
        _in_step(port=port, labels=labels or [], ports=ports)
    if ip is None:
        raise SetupError("--ip IP is missing: this machine's address, as the other nodes see it")
    command = node_command(
        ip=ip, head=head, join=join, port=port or _PORT, name=name, labels=labels or [], num_cpus=num_cpus,
        num_gpus=num_gpus, temp_dir=temp_dir, ports=ports,
    )  # fmt: skip
    _expect_own("--ip", ip)
    if head:
        _expect_free(port or _PORT)
    if temp_dir is not None:
        _expect_writable(temp_dir)
    _prepare()
    if join is not None:
        from harness.schedule.ray_link import expect_admission

        expect_admission(join)
    if num_cpus and (kept := keep_to_first(num_cpus)):
        typer.echo(kept)
    sys.stdout.flush()
    os.execv(sys.executable, [*_RAY, *command])


def _in_step(*, port: int | None, labels: list[str], ports: str | None) -> NoReturn:
    """Be the node that a step of a Slurm job starts, and end this process with it.

    Raises:
        SetupError: naming the node.
    """
    from harness.domain.errors import SetupError
    from harness.slurm.granted import keep_to_granted
    from harness.slurm.step import of_environment, own_folder, supervise

    try:
        kept = keep_to_granted()
        options = of_environment(os.environ, port=port)
        if kept:
            typer.echo(f"node {options.name}: {kept}")
        _expect_own("its address", options.ip)
        if options.join is None:
            _expect_free(options.port)
        _prepare()
        if options.join is not None and not _head_answers(options.join, patience_s=_STEP_PATIENCE_S):
            sys.exit(0)  # the run has ended meanwhile
        with own_folder(options) as made:
            command = node_command(
                ip=made.ip, head=made.join is None, join=made.join, port=made.port, name=made.name, labels=labels,
                num_cpus=made.num_cpus, num_gpus=made.num_gpus, temp_dir=made.ray_dir, ports=ports,
            )  # fmt: skip
            typer.echo(f"node {made.name}: its Ray starts at {made.ip}")
            sys.stdout.flush()
            code = supervise([*_RAY, *command], made)
    except SetupError as error:
        raise SetupError(f"node {os.environ.get('SLURMD_NODENAME') or platform.node()}: {error}") from None
    sys.exit(code)


def _head_answers(join: str, *, patience_s: float) -> bool:
    """Wait for the first node; return False where standard input closes before, which ends this one.

    Raises:
        SetupError: when it does not answer for so long.
    """
    from harness.domain.errors import SetupError
    from harness.schedule.join import probe

    end_s = time.monotonic() + patience_s
    while True:
        try:
            probe(join)
            return True
        except SetupError as error:
            if time.monotonic() > end_s:
                raise SetupError(f"the first node, at {join}: {error}") from None
        if select.select([0], [], [], _LOOK_EVERY_S)[0] and not os.read(0, 4096):
            return False


def _prepare() -> None:
    """Set the variables that a node's Ray reads."""
    from harness.schedule import ray_environment

    ray_environment.expect_token(os.environ)
    os.environ.update(ray_environment.cluster(os.environ))
    os.environ.pop("RAY_ADDRESS", None)


def _expect_own(what: str, ip: str) -> None:
    """Raise unless this machine has the address: Ray would try for minutes to reach itself there."""
    from harness.domain.errors import SetupError

    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
            probe.bind((ip, 0))
    except OSError as error:
        raise SetupError(
            f"{what} {ip}: this machine has no such address ({error.strerror}); `ip address` lists its own"
        ) from None


def _expect_free(port: int) -> None:
    """Raise if somebody listens at a port of this machine: Ray would say so on many lines."""
    from harness.domain.errors import SetupError

    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has ended does not count
            probe.bind(("", port))
    except OSError as error:
        raise SetupError(
            f"port {port}, where the others would join, cannot be had ({error.strerror}); name another with --port"
        ) from None


def _expect_writable(folder: Path) -> None:
    """Make a folder for Ray, or raise."""
    from harness.domain.errors import SetupError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written"
    except OSError as error:
        problem = error.strerror
    if problem:
        raise SetupError(f"--temp-dir {folder}: {problem}")


def node_command(
    *,
    ip: str,
    head: bool = False,
    join: str | None = None,
    port: int = _PORT,
    name: str | None = None,
    labels: list[str],
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    temp_dir: Path | None = None,
    ports: str | None = None,
) -> list[str]:
    """Return the words of `ray start` for a node; one that joins waits a while for the first one.

    Raises:
        SetupError: when they do not go together.
    """
    import ipaddress

    from harness.domain.errors import SetupError
    from harness.schedule.join import expect_answer

    if head == (join is not None):
        raise SetupError("a node is either the first, with --head, or joins one that is there, with --join HOST:PORT")
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        raise SetupError(f"--ip {ip!r} is no IP address") from None
    command = ["start", "--block", "--node-ip-address", ip, "--object-store-memory", str(_OBJECT_STORE_BYTES)]
    command += ["--disable-usage-stats"]
    if join is None:
        command += ["--head", "--port", str(port), "--include-dashboard", "false"]
    else:
        way_out = "start the first node there with `harness node --head`"
        expect_answer("--join", join, way_out, patience_s=_HEAD_PATIENCE_S)
        command += ["--address", join]
    if name is not None and not _NAME.fullmatch(name):
        raise SetupError(f"--name {name!r}: a name is of letters, digits and _ . - inside, at most 63 characters")
    command += ["--node-name", name] if name is not None else []
    command += _label_options(labels)
    command += ["--num-cpus", str(num_cpus)] if num_cpus is not None else []
    command += ["--num-gpus", str(num_gpus)] if num_gpus is not None else []
    if temp_dir is not None:
        folder = str(temp_dir.absolute())
        if len(folder) > _LONGEST_TEMP_DIR:
            raise SetupError(
                f"--temp-dir {folder} has {len(folder)} characters; Ray puts sockets there, whose paths are limited: "
                f"at most {_LONGEST_TEMP_DIR}"
            )
        command += ["--temp-dir", folder]
    return command + _port_options(ports)


def _label_options(labels: list[str]) -> list[str]:
    from harness.domain.errors import SetupError

    given = [pair.strip() for text in labels for pair in text.split(",")]
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise SetupError(f"--labels {pair!r} is no NAME=VALUE")
        if not _LABEL.fullmatch(pair):
            raise SetupError(
                f"--labels {pair!r}: names and values are of letters, digits and _ . - inside, at most 63 characters"
            )
        if name.startswith("ray.io/"):
            raise SetupError(f"--labels {pair!r}: names that begin with ray.io/ are Ray's own")
    return ["--labels", ",".join(given)] if given else []


def _port_options(ports: str | None) -> list[str]:
    """Return the options that keep a node to some ports."""
    from harness.domain.errors import SetupError

    if ports is None:
        return ["--min-worker-port", "0", "--max-worker-port", "0"]  # any: Ray's own range is in use elsewhere, too
    first, _, last = ports.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) >= 1024 and int(last) <= 65535):
        raise SetupError(f"--ports {ports!r} is no FIRST-LAST between 1024 and 65535")
    fixed = [str(int(first) + number) for number in range(_FIXED_PORTS)]
    if int(last) < int(first) + 2 * _FIXED_PORTS:
        raise SetupError(f"--ports {ports}: a node needs at least {2 * _FIXED_PORTS + 1} ports; better 100")
    names = ["node-manager", "object-manager", "dashboard-agent-grpc", "dashboard-agent-listen"]
    names += ["runtime-env-agent", "metrics-export"]
    options = [word for name, number in zip(names, fixed, strict=True) for word in (f"--{name}-port", number)]
    return [*options, "--min-worker-port", str(int(first) + _FIXED_PORTS), "--max-worker-port", last]
