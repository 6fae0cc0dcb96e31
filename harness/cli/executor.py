"""What runs the trials: workers through Ray, or this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from harness.domain.trial import Trial
    from harness.schedule.expected import Expected
    from harness.schedule.nursery import Prestarted
    from harness.schedule.protocol import Executor

_BODY = "harness.measure:Body"


def on_resident(
    *, inline: bool, address: str | None, workers: int | None, fresh_workers: bool, say: Callable[[str], None]
) -> bool:
    """Return whether a run goes on resident workers (see `harness up`), and say so; or why not, where there are any."""
    from harness.schedule.resident import place

    there = place.state()
    if there is None or inline:
        return False
    if there["state"] in ("starting", "ending"):
        say(f"resident workers are {there['state']} (harness up), and not used")
        return False
    most = there["workers"]
    if address is not None and address != there["address"]:
        why = f"--address {address} is elsewhere"
    elif fresh_workers:
        why = "--fresh-workers asks for new ones"
    elif workers is not None and most is not None and workers > most:
        why = f"--workers {workers} is more than the {most} a node that there are"
    else:
        say(f"on resident workers (harness up, {describe(there)})")
        return True
    say(f"resident workers are up ({describe(there)}), but not used: {why}")
    return False


def describe(resident: Mapping[str, Any]) -> str:
    """Return where resident workers are, by their state, as a part of a line."""
    cluster = "" if resident["address"] is None else f", on the cluster at {resident['address']}"
    return f"process {resident['pid']}{cluster}"


def make_executor(
    trials: Sequence[Trial],
    seed: int,
    *,
    inline: bool,
    address: str | None,
    workers: int | None,
    hz: float,
    resident: bool = False,
    skip_bad_nodes: bool = False,
    expected: Expected | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Executor:
    """Return what runs the trials; on a cluster that is just being started where nodes are `expected`."""
    if resident:
        from harness.schedule.resident.client import ResidentExecutor

        return ResidentExecutor(telemetry_hz=hz, workers=workers, say=say)
    if address is None:
        from harness.slurm.granted import keep_to_granted

        if kept := keep_to_granted():
            say(f"{kept}, which Slurm has granted")
    if inline:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
        os.environ["KERAS_BACKEND"] = _only_backend(trials)
        from harness.measure import Body
        from harness.schedule.inline import InlineExecutor

        return InlineExecutor(Body(), telemetry_hz=hz)
    from harness.schedule import ray_environment

    if address is not None and expected is None:
        from harness.schedule.join import expect_answer

        way_out = "start a cluster with `harness node --head`, or leave --address away to run on this machine"
        expect_answer("--address", address, way_out)
    if address is None:
        _expect_held_here(trials)
    ray_environment.prepare(address)
    prestarted = _prestart(trials, seed, workers) if address is None else None
    try:
        from harness.schedule.gangs import Gangs
        from harness.schedule.ray_cluster import RayExecutor

        made = RayExecutor(
            body=_BODY, address=address, prestarted=prestarted, workers=workers, telemetry_hz=hz,
            skip_bad_nodes=skip_bad_nodes, expected=expected, say=say,
        )  # fmt: skip
        return Gangs(made) if any(trial.setting.nodes > 1 for trial in trials) else made
    except BaseException:
        if prestarted is not None:
            prestarted.stop()
        raise


def _expect_held_here(trials: Sequence[Trial]) -> None:
    """Raise for what this machine alone cannot hold, before anything is started.

    Raises:
        SetupError: naming what is asked for, and what there is.
    """
    import platform

    from harness.domain.errors import SetupError
    from harness.schedule.demand import Demand
    from harness.schedule.eligible import refusal, what_there_is
    from harness.telemetry.cores import usable_cores
    from harness.telemetry.nvidia import describe_gpus

    demands = {Demand.of(trial) for trial in trials}
    found = describe_gpus() if any(one.gpus or one.accelerator for one in demands) else None
    gpus = [] if found is None else [gpu.name for gpu in found.devices]
    here = {"node": platform.node(), "labels": {}, "accelerators": [], "cores": usable_cores(), "gpu_names": gpus}
    for demand in sorted(demands):
        why = refusal(here, demand)
        if demand.nodes > 1:
            why = f"is one node, nodes={demand.nodes} asked for; name a cluster with --address HOST:PORT"
        if why is not None:
            there = what_there_is([here])
            raise SetupError(f"no node can hold a trial that needs {demand}: {here['node']} {why}; there is:\n{there}")


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
    from harness.schedule.demand import Demand
    from harness.schedule.nursery import Prestarted
    from harness.schedule.order import first_trials
    from harness.schedule.shares import share_out

    (first,) = first_trials(trials, seed=seed, workers=1)
    demand = Demand.of(first)
    launches = share_out(demand, body=_BODY, most=workers)
    ahead = [] if demand.backend == "none" else first_trials(trials, seed=seed, workers=len(launches))
    return Prestarted(launches, ahead, collected())
