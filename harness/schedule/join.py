"""What is checked before a cluster and its nodes are used. Knows nothing of Ray's packages."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import SetupError

CLOCK_WARN_S: Final = 2.0
CLOCK_REFUSE_S: Final = 60.0  # readings and records go by the nodes' own clocks

_HTTP2_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty settings
_HTTP2_SETTINGS: Final = 4


def probe(address: str, *, patience_s: float = 0.0, within_s: float = 10.0) -> None:
    """Raise unless something at HOST:PORT speaks as Ray does within `within_s`; ask again for `patience_s`.

    Raises:
        SetupError: with what is wrong there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SetupError("this is no HOST:PORT")
    end_s = time.monotonic() + patience_s
    while True:
        try:
            _greet(host.strip("[]"), int(port), within_s)
            return
        except SetupError:
            if time.monotonic() >= end_s:
                raise
        time.sleep(0.2)


def listens(address: str, *, within_s: float) -> bool:
    """Whether something listens at HOST:PORT, be it too busy to answer."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=within_s).close()
    except OSError:
        return False
    return True


def expect_answer(option: str, address: str, way_out: str, *, patience_s: float = 0.0) -> None:
    """Raise, naming the option that gave the address, unless a Ray answers there: Ray itself would try for minutes."""
    try:
        probe(address, patience_s=patience_s)
    except SetupError as error:
        raise SetupError(f"{option} {address}: {error}; {way_out}") from None


def _greet(host: str, port: int, within_s: float) -> None:
    """Greet a gRPC server, which answers at once with its settings."""
    try:
        with socket.create_connection((host, port), timeout=within_s) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":  # it would want another greeting
                return
            answer = b""
            try:
                connection.sendall(_HTTP2_GREETING)
                while len(answer) < 4:
                    part = connection.recv(64)
                    if not part:
                        break
                    answer += part
            except OSError:
                answer = b""
    except OSError as error:
        raise SetupError(f"nothing answers there ({error.strerror or error})") from None
    if len(answer) < 4 or answer[3] != _HTTP2_SETTINGS:
        raise SetupError(
            "what answers there is no Ray: give the port of the head, 6379 unless it was started otherwise"
        )


@cache
def identity() -> dict[str, str]:
    """Return what must be the same wherever a run takes part: versions, and a digest of this package's own files."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return {
        "Python": platform.python_version(),
        "Ray": metadata.version("ray"),
        "harness": metadata.version("harness"),
        "harness's files": digest.hexdigest()[:12],
    }


def problem(about: Mapping[str, Any], *, asked_at: float, answered_at: float) -> str | None:
    """Return why a node cannot be used, or None, from what it said of itself between these two Unix times."""
    here, there = identity(), about.get("identity", {})
    other = [f"{name} {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]]
    if other:
        return f"has another version ({'; '.join(other)}); install the same on both"
    off_s = clock_off_s(about, asked_at=asked_at, answered_at=answered_at)
    if abs(off_s) > CLOCK_REFUSE_S:
        return f"has a clock that is {_amount(off_s)}; set it, for instance by NTP"
    return None


def doubt(about: Mapping[str, Any], *, asked_at: float, answered_at: float) -> str | None:
    """Return what is odd about a node that can be used, or None."""
    off_s = clock_off_s(about, asked_at=asked_at, answered_at=answered_at)
    return f"has a clock that is {_amount(off_s)}: its times are off" if abs(off_s) > CLOCK_WARN_S else None


def clock_off_s(about: Mapping[str, Any], *, asked_at: float, answered_at: float) -> float:
    """Return by how much at least a node's clock is ahead of the one here (< 0: behind), in seconds.

    It was read at some moment of the round trip; within that nothing is known.
    """
    read = float(about["unix_s"])
    return max(0.0, read - answered_at) + min(0.0, read - asked_at)


def _amount(off_s: float) -> str:
    size = abs(off_s)
    told = f"{size / 3600:.1f} h" if size > 3000 else f"{size:.0f} s"
    return f"{told} {'ahead of' if off_s > 0 else 'behind'} the one here"
