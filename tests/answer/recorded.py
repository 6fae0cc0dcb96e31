"""Runs for tests of comparisons: written by the recorder, their times drawn from a distribution."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from record.finished import INFO, epoch

from harness.analyse.compare import Spread
from harness.analyse.noise import NoiseFloor
from harness.domain.outcome import Facts, Finished, Outcome, Placement, Stopwatches
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.record.recorder import Recorder

NODE = {"node": "here", "cpu_model": "a CPU", "cpu_count_logical": 4}


def record(
    results: Path,
    run_id: str,
    *,
    suite: str = "suite",
    batch_sizes: Sequence[int] = (16, 32),
    repeats: int = 10,
    train_s: float = 0.1,
    slower: Mapping[int, float] | float = 1.0,
    spread: float = 0.01,
    accuracy: float = 0.9,
    arms: Sequence[Mapping[str, Any]] = ({},),
    arm_slower: float = 1.0,
    engine: str = "xla",
    neighbours: int | Sequence[int] = 1,
    seed: int = 0,
    status: Mapping[int, str] | None = None,
    commit: str | None = None,
    target: float | None = 0.8,
    cpu_model: str = "a CPU",
    floor: float | None = None,
    version: str = "0.1.0",
    names: Sequence[str] = (),
    nodes: Mapping[str, float] | None = None,
    at_the_end: Mapping[str, Any] | None = None,
) -> Path:
    """Record a run: `repeats` of each batch size and arm (fields of a setting that say how it is executed).

    `slower` is a factor on the time of an epoch (by batch size), `arm_slower` one more for each arm after the first;
    `status` is that of all trials of a batch size; `floor` the spread of a noise floor that the run measured;
    `nodes` are factors on the time by node, each of which runs everything, as `every_node` has it; `at_the_end` is more
    of what run.json holds then; `names` the values of one more axis, as many as batch sizes, which then are 1, 2, …
    """
    rng = np.random.default_rng(seed)
    attempt = {"suite_git": {"commit": commit, "dirty": False}} if commit is not None else {}
    goal = None if target is None else {"metric": "val_accuracy", "at_least": target, "at_most": None}
    batch_sizes = range(1, len(names) + 1) if names else batch_sizes
    axes: dict[str, list[Any]] = {"name": list(names)} if names else {"batch_size": list(batch_sizes)}
    info = {**INFO, "axes": axes, "target": goal, "harness_version": version}
    if nodes is not None:
        arms = [{**arm, "node": node} for arm in arms for node in nodes]
    with Recorder.create(results, suite=suite, run_id=run_id, info=info, attempt_info=attempt) as recorder:
        for node in nodes or ("here",):
            recorder.add_node({**NODE, "node": node, "cpu_model": cpu_model})
        position = 0
        for repeat in range(repeats):
            for batch_size in batch_sizes:
                for number, arm in enumerate(arms):
                    factor = slower if isinstance(slower, float | int) else slower.get(batch_size, 1.0)
                    place: str = arm.get("node", "here")
                    factor *= arm_slower**number if nodes is None else nodes[place]
                    time_s = train_s * factor * float(np.exp(rng.normal(0, spread)))
                    ended: Any = (status or {}).get(batch_size, "completed")
                    beside = neighbours if isinstance(neighbours, int) else neighbours[repeat]
                    recorder.write(
                        _finished(
                            Trial(
                                setting=Setting(batch_size=batch_size, epochs=2, **arm),
                                seed=repeat,
                                repeat=repeat,
                                axes=(("name", names[batch_size - 1]) if names else ("batch_size", batch_size),),
                            ),
                            time_s=time_s,
                            accuracy=accuracy + 0.001 * repeat,
                            status=ended,
                            engine=engine,
                            placement=Placement(
                                worker="0", node=place, position=position, block=repeat, attempt=1, neighbours=beside
                            ),
                        )
                    )
                    position += 1
        told = {} if floor is None else {"noise_floor": {"here": noise_floor(floor)}}
        recorder.finish("completed", {**told, **(at_the_end or {})} or None)
    return recorder.folder


def _finished(
    trial: Trial, *, time_s: float, accuracy: float, status: Any, engine: str, placement: Placement
) -> Finished:
    epochs = tuple(
        replace(
            epoch(n), train_s=time_s, elapsed_train_s=n * time_s, val_accuracy=accuracy - 0.2 * (2 - n), warmup=n == 1
        )
        for n in (1, 2)
    )
    return Finished(
        trial=trial,
        outcome=Outcome(
            status=status,
            epochs=epochs if status == "completed" else (),
            error=None if status == "completed" else "no",
            watches=Stopwatches(build_s=0.25, train_s=2 * time_s, wall_s=1.0),
            facts=Facts(engine=engine, cores=(0,), initial_val_accuracy=0.1, versions="tensorflow 2.21.0"),
            started_at=1_700_000_000.0,
            ended_at=1_700_000_001.5,
        ),
        placement=placement,
    )


def noise_floor(spread: float, *, neighbours: int = 1) -> dict[str, Any]:
    """Return a noise floor as run.json holds it."""
    of = Spread(single=spread, paired=spread, freedom=50)
    floor = NoiseFloor(
        node="here", cpu_model="a CPU", cores=1, workers=2, neighbours=neighbours, date="2026-01-02T03:04:05+00:00",
        figure="train_s", repeats=10, ratio=of.floor(10, 10, paired=True), spread=of, settings={}, cpu_count=4,
    )  # fmt: skip
    plain: dict[str, Any] = json.loads(json.dumps(floor.plain()))
    return plain
