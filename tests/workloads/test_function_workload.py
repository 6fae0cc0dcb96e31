"""A function of one's own as a workload, and what becomes of one that does it wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.domain import sources
from harness.domain.component import function
from harness.domain.outcome import Outcome
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.measure import WorkerState, run_trial
from harness.workloads.function import Job


def counts_down(job: Job) -> Iterator[Any]:
    loss = float(job.args["start"])
    yield {"val_loss": loss}
    for _ in range(job.epochs + 5):
        loss /= 2
        yield {"samples": 100, "loss": loss, "accuracy": 0.5, "val_loss": loss + 1, "val_accuracy": None}


def evaluates(job: Job) -> Iterator[Any]:
    yield
    for _ in range(job.epochs):
        with job.evaluating():
            time.sleep(0.05)
        yield {"val_loss": 1.0}


def builds_slowly(job: Job) -> Iterator[Any]:
    time.sleep(0.03)
    yield


def stops_early(job: Job) -> Iterator[Any]:
    yield
    yield {"loss": 1.0}


def runs_once(job: Job) -> dict[str, float]:
    return {"samples": 7, "loss": job.seed}


def does_nothing(job: Job) -> None:
    pass


def raises(job: Job) -> Iterator[Any]:
    yield
    yield {"loss": 1.0}
    raise LookupError("no more data\nat all")


def hands_over(job: Job) -> Iterator[Any]:
    yield
    yield {"a list": [1.0], "a word": {"loss": "low"}, "another name": {"lost": 1.0}, "a flag": {"loss": True}}[
        job.args["what"]
    ]


def run(workload: Any, *, epochs: int = 3, seed: int = 0, **args: Any) -> Outcome:
    setting = Setting(workload=function(workload, kind="workload", **args), epochs=epochs)
    worker = WorkerState(sources=sources.collected())
    return run_trial(Trial(setting=setting, seed=seed, repeat=0), worker, lambda epoch: None)


def test_each_yield_after_the_first_ends_an_epoch() -> None:
    outcome = run(counts_down, start=8)
    assert outcome.status == "completed"
    assert [(epoch.epoch, epoch.loss, epoch.val_loss) for epoch in outcome.epochs] == [
        (1, 4.0, 5.0), (2, 2.0, 3.0), (3, 1.0, 2.0),
    ]  # fmt: skip
    assert (outcome.epochs[0].samples, outcome.epochs[0].accuracy, outcome.epochs[0].val_accuracy) == (100, 0.5, None)
    assert outcome.facts.initial_val_loss == 8.0


def test_evaluation_is_off_the_training_clock() -> None:
    outcome = run(evaluates, epochs=2)
    assert all((epoch.eval_s or 0) >= 0.05 for epoch in outcome.epochs)
    assert outcome.watches.eval_s >= 0.1
    assert outcome.watches.train_s < 0.05
    assert outcome.watches.train_s == pytest.approx(outcome.epochs[-1].elapsed_train_s)


def test_what_comes_before_the_first_yield_is_building() -> None:
    outcome = run(builds_slowly)
    assert outcome.watches.build_s >= 0.03
    assert (outcome.status, outcome.epochs) == ("completed", ())


def test_a_generator_may_end_before_its_epochs_are_over() -> None:
    assert len(run(stops_early, epochs=5).epochs) == 1


def test_a_plain_function_is_one_epoch() -> None:
    outcome = run(runs_once, seed=3)
    assert [(epoch.samples, epoch.loss) for epoch in outcome.epochs] == [(7, 3.0)]


def test_what_a_function_does_not_measure_is_absent() -> None:
    (epoch,) = run(does_nothing).epochs
    assert (epoch.samples, epoch.steps, epoch.loss, epoch.val_accuracy, epoch.eval_s) == (None,) * 5


def test_an_error_keeps_the_epochs_before_it() -> None:
    outcome = run(raises)
    assert (outcome.status, outcome.step, len(outcome.epochs)) == ("failed", "train", 1)
    assert outcome.error == "LookupError: no more data"
    assert "raises" in str(outcome.error_detail)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("a list", "hands_over: epoch 1 handed over [1.0]; expected a mapping of samples, loss"),
        ("a word", "hands_over: epoch 1 handed over loss='low'; expected a number"),
        ("a flag", "hands_over: epoch 1 handed over loss=True; expected a number"),
        ("another name", "hands_over: epoch 1 handed over 'lost'; it can hand over: accuracy, loss, samples"),
    ],
)
def test_what_is_no_measurement_fails_the_trial_and_says_so(what: str, message: str) -> None:
    outcome = run(hands_over, what=what)
    assert outcome.status == "failed"
    assert message in str(outcome.error)


def test_a_trial_that_does_nothing_costs_less_than_a_millisecond() -> None:
    setting = Setting(workload=function(does_nothing, kind="workload"))
    worker = WorkerState(sources=sources.collected())
    costs = []
    for seed in range(50):
        began = time.perf_counter()
        run_trial(Trial(setting=setting, seed=seed, repeat=0), worker, lambda epoch: None)
        costs.append(time.perf_counter() - began)
    assert sorted(costs)[25] < 0.001


def takes_by_name(job: Job, start: float, step: float = 1.0) -> dict[str, float]:
    return {"loss": start + step}


def test_arguments_that_the_function_names_reach_it_by_name() -> None:
    assert run(takes_by_name, epochs=1, start=2.0, step=0.5, other="unnamed").epochs[0].loss == 2.5
