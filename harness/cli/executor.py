"""What runs the trials: workers through Ray, or this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.domain.trial import Trial
    from harness.schedule.node import Prestarted
    from harness.schedule.protocol import Executor

_BODY = "harness.measure:Body"


def make_executor(
    trials: Sequence[Trial], seed: int, *, inline: bool, address: str | None, workers: int | None, hz: float
) -> Executor:
    if inline:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
        os.environ["KERAS_BACKEND"] = _only_backend(trials)
        from harness.measure import Body
        from harness.schedule.inline import InlineExecutor

        return InlineExecutor(Body(), telemetry_hz=hz)
    from harness.schedule import ray_environment

    if address is not None:
        _expect_answer(address)
    ray_environment.prepare(address)
    prestarted = _prestart(trials, seed, workers) if address is None else None
    try:
        from harness.schedule.ray_cluster import RayExecutor

        return RayExecutor(body=_BODY, address=address, prestarted=prestarted, workers=workers, telemetry_hz=hz)
    except BaseException:
        if prestarted is not None:
            prestarted.stop()
        raise


def _only_backend(trials: Sequence[Trial]) -> str:
    """Return the back end that all trials need: Keras takes one a process."""
    from harness.domain.errors import SuiteError

    needed = sorted({trial.setting.needs for trial in trials} - {"none"})
    if len(needed) > 1:
        raise SuiteError(
            f"--inline runs one back end; these trials need {', '.join(needed)}: choose with --set backend=…"
        )
    return needed[0] if needed else "tensorflow"


def _prestart(trials: Sequence[Trial], seed: int, workers: int | None) -> Prestarted:
    """Start what the first trials need on this machine, before Ray is even imported."""
    from harness.domain.sources import collected
    from harness.schedule.node import Prestarted
    from harness.schedule.order import Demand, first_trials
    from harness.schedule.shares import share_out

    (first,) = first_trials(trials, seed=seed, workers=1)
    demand = Demand.of(first)
    launches = share_out(demand, body=_BODY, most=workers)
    ahead = [] if demand.backend == "none" else first_trials(trials, seed=seed, workers=len(launches))
    return Prestarted(launches, ahead, collected())


def _expect_answer(address: str) -> None:
    """Raise if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    import socket

    from harness.domain.errors import SetupError

    host, _, port = address.rpartition(":")
    way_out = "start a cluster there with `ray start --head`, or leave --address away to run on this machine"
    if not host or not port.isdigit():
        raise SetupError(f"--address {address!r} is no HOST:PORT; {way_out}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise SetupError(f"--address {address}: nothing answers there ({error.strerror or error}); {way_out}") from None
