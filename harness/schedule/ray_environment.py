"""The variables that Ray reads when it is imported: call `prepare` before importing `ray_cluster`."""

from __future__ import annotations

import os
import secrets
from typing import Final

# Loopback only, authentication on, no usage report (nor the empty one that says reports are off), CPU work sees no
# GPU, nothing drained at the end.
LOCAL: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_enable_worker_prestart": "0",  # the one agent is all that Ray starts here
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",  # or every process below Ray would run at 15
}


MARKER: Final = "HARNESS_DRIVER"  # inherited by all that a driver starts; its value is unique to the driver


def prepare(address: str | None) -> None:
    """Set the variables for a Ray of our own (`address` None) or for one that runs already."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ[MARKER] = secrets.token_hex(16)
    if address is None:
        os.environ.update(LOCAL)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once a process
        os.environ.pop("RAY_ADDRESS", None)
