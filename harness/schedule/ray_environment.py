"""The variables that Ray reads when it starts or is imported: the one place for what we want of it.

A Ray of our own (`LOCAL`) stays on loopback; one over several machines (`CLUSTER`) does not, and its nodes and drivers
set the same. Call `prepare` before importing `ray_cluster`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.domain.errors import SetupError

# Authentication on, no usage report (nor the empty one that says reports are off), CPU work sees no GPU, nothing
# drained at the end.
_EVERYWHERE: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_enable_worker_prestart": "0",  # the one agent a node is all that Ray starts
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",  # or every process below Ray would run at 15
    # Where memory runs out, Ray and the kernel would end the agent, which holds little, and so all trials of its node.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_oom_score_adjustment": "0",
}

LOCAL: Final = {**_EVERYWHERE, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # which puts everything on loopback

# A node whose network is cut is taken for lost after failure_threshold × (period + timeout) = 20 s, a killed one
# sooner. Calls to it would otherwise hang for the 420 s of gRPC's own keepalive. All may be set otherwise in the
# environment.
CLUSTER_TIMES: Final = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}

# A driver whose cluster is gone must live to say so, and to wait for it: Ray would end the process after these 60 s.
_DRIVER: Final = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    "RAY_gcs_server_request_timeout_seconds": "20",  # for what is asked while joining
}

MARKER: Final = "HARNESS_DRIVER"  # inherited by all that a driver starts; its value is unique to the driver

_DEFAULT_TOKEN: Final = Path(".ray", "auth_token")  # in the home folder: where Ray looks last


def prepare(address: str | None) -> None:
    """Set the variables for a Ray of our own (`address` None) or for one that runs already.

    Raises:
        SetupError: when the token of the one that runs already is nowhere.
    """
    os.environ[MARKER] = secrets.token_hex(16)
    if address is None:
        os.environ.update(LOCAL)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once a process
        os.environ.pop("RAY_ADDRESS", None)
    else:
        expect_token(os.environ)
        os.environ.update(cluster(os.environ) | {name: os.environ.get(name, value) for name, value in _DRIVER.items()})


def cluster(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a node of a cluster, or of a driver on it, given those that are set."""
    return _EVERYWHERE | {name: environment.get(name, value) for name, value in CLUSTER_TIMES.items()}


def expect_token(environment: Mapping[str, str]) -> None:
    """Raise unless there is a token where Ray looks for one: without it a cluster would be open to everybody."""
    if environment.get("RAY_AUTH_TOKEN", "").strip():
        return
    named = environment.get("RAY_AUTH_TOKEN_PATH", "")
    path = Path(named) if named else Path(environment.get("HOME", "/")) / _DEFAULT_TOKEN
    try:
        if path.read_text(encoding="utf-8").strip():
            return
        problem = f"{path} is empty"
    except (OSError, UnicodeError) as error:
        problem = f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
    raise SetupError(
        f"a cluster needs a token, the same on every node and for every run on it: RAY_AUTH_TOKEN is not set, and "
        f"{problem}; make one with `(umask 077; openssl rand -hex 32 > ~/cluster.token)`, copy it to every node, and "
        "there `export RAY_AUTH_TOKEN_PATH=~/cluster.token`"
    )
