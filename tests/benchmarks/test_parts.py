"""The parts, each by itself: planning, dispatch through Ray, recording, an epoch. Run them with `make bench`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import epoch, trial

from harness.domain.grid import product
from harness.domain.handy import mlp, sgd
from harness.domain.outcome import Facts, Finished, Outcome, Placement, Stopwatches
from harness.domain.setting import Setting
from harness.domain.suite import Suite
from harness.domain.trial import Trial
from harness.measure import Body
from harness.plan import plan
from harness.record.recorder import Recorder
from harness.schedule import ray_environment
from harness.schedule.demand import Demand
from harness.schedule.loop import Loop, Policy
from harness.schedule.nursery import Prestarted
from harness.schedule.order import Queue
from harness.schedule.shares import share_out


def _setting(**fields: Any) -> Setting:
    return Setting(dataset="mnist5k", model=mlp(128), optimizer=sgd(0.1), **fields)


def test_planning_a_thousand_settings(benchmark: Any) -> None:
    axes = {"optimizer.learning_rate": [0.001 * number for number in range(1, 101)]}
    suite = Suite(name="many", base=_setting(), grid=product(axes, batch_size=list(range(1, 11))))
    assert len(benchmark(plan, suite).trials) == 1000


def test_ordering_ten_thousand_trials(benchmark: Any) -> None:
    trials = [trial(seed=seed, repeat=seed % 10, batch_size=seed // 10 + 1) for seed in range(10_000)]

    def order() -> int:
        queue, taken = Queue(trials, seed=1), 0
        for name in ("0", "1"):
            queue.join(name, queue.demands[0], ("here",))
        while queue.take(str(taken % 2)) is not None:
            queue.ended(str(taken % 2))
            taken += 1
        return taken

    assert benchmark.pedantic(order, rounds=3) == 10_000


def test_recording_a_hundred_trials_and_finishing_the_run(benchmark: Any, tmp_path: Path) -> None:
    epochs = tuple(epoch(number) for number in range(1, 11))
    done = [
        Finished(
            trial=Trial(setting=_setting(batch_size=number + 1), seed=0, repeat=0),
            outcome=Outcome(
                status="completed",
                epochs=epochs,
                watches=Stopwatches(wall_s=1.0),
                facts=Facts(),
                started_at=1.0,
                ended_at=2.0,
            ),
            placement=Placement(worker="0", node="here", position=number, block=0, attempt=1, neighbours=0),
        )
        for number in range(100)
    ]

    def record() -> None:
        with Recorder.create(
            tmp_path, suite="bench", info={"suite_sha256": "-", "axes": {}, "trials": 100}
        ) as recorder:
            for finished in done:
                recorder.write(finished)
            recorder.flush()
            recorder.finish("completed", {})

    benchmark.pedantic(record, rounds=3)


@pytest.fixture(scope="module")
def executor() -> Iterator[Any]:
    import scripted

    os.environ["PYTHONPATH"] = str(Path(scripted.__file__).parent)
    ray_environment.prepare(None)
    from harness.schedule.ray_cluster import RayExecutor

    body = "scripted:ScriptedBody"
    made = RayExecutor(body=body, prestarted=Prestarted(share_out(Demand.of(trial()), body=body)))
    made.start({})
    yield made
    made.stop()
    made.close(leaving=False)
    del os.environ["PYTHONPATH"]


def test_dispatching_a_hundred_trials_that_do_nothing_through_ray(benchmark: Any, executor: Any) -> None:
    def dispatch() -> int:
        executor.start({})
        return sum(
            1 for _ in Loop([trial(seed=seed) for seed in range(100)], executor, seed=1, policy=Policy(calibrate=False))
        )

    assert benchmark.pedantic(dispatch, rounds=3, warmup_rounds=1) == 100


@pytest.mark.parametrize("batch_size", [128, 16])
def test_a_warm_trial_of_five_epochs(benchmark: Any, batch_size: int) -> None:
    body = Body()
    body.preload("tensorflow")
    body.prepare("tensorflow")
    one = Trial(setting=_setting(batch_size=batch_size, epochs=5), seed=0, repeat=0)
    body.run(one, lambda _: None, lambda: None)
    outcome = benchmark.pedantic(body.run, args=(one, lambda _: None, lambda: None), rounds=3)
    assert outcome.status == "completed"
    assert outcome.facts.program_reused
