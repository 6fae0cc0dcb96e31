"""A function of one's own as a workload, and what becomes of one that does it wrong."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from workloads.stepped import CLOCK

from harness.domain import sources
from harness.domain.component import function
from harness.domain.errors import SuiteError
from harness.domain.handy import dataset, early_stopping
from harness.domain.outcome import EpochRecord, Outcome
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.measure import WorkerState, run_trial


def counts_down(trial: Any, recorder: Any) -> None:
    loss = float(trial.args["start"])
    recorder.untrained(val_loss=loss)
    for epoch in recorder.epochs():
        with epoch.training():
            loss /= 2
        epoch.report(samples=100, steps=4, loss=loss, accuracy=0.5)
        epoch.report(val_loss=loss + 1, val_accuracy=None, val_f1=np.float32(0.25), depth=3)


def evaluates(trial: Any, recorder: Any) -> None:
    with recorder.evaluating():
        CLOCK.advance(0.25)
    for epoch in recorder.epochs():
        with epoch.training():
            CLOCK.advance(8.0)
            with epoch.evaluating():
                CLOCK.advance(0.5)
        with epoch.evaluating():
            CLOCK.advance(1.0)
        epoch.report(val_loss=1.0)


def builds_slowly(trial: Any, recorder: Any) -> None:
    CLOCK.advance(0.5)
    with recorder.loading():
        CLOCK.advance(0.25)
    for epoch in recorder.epochs():
        with epoch.training():
            pass


def trains_in_two_parts(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        for _ in range(2):
            with epoch.training():
                assert not gc.isenabled()
                CLOCK.advance(0.5)
            assert gc.isenabled()
            CLOCK.advance(4.0)


def stops_early(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        epoch.report(loss=1.0)
        if epoch.number == 2:
            break


def trains_within_training(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training(), epoch.training():
            pass


def names_the_arm(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        epoch.report(arm=3)


def leaves_at_once(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        if epoch.number == 3:
            break
        with epoch.training():
            pass


def runs_once(trial: Any) -> dict[str, float]:
    CLOCK.advance(0.5)
    return {"samples": 7, "loss": trial.seed}


def marks_nothing(trial: Any, recorder: Any) -> dict[str, float]:
    CLOCK.advance(0.5)
    with recorder.evaluating():
        CLOCK.advance(0.25)
    return {"val_loss": 2.0}


def does_nothing(trial: Any) -> None:
    pass


def raises(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training():
            if epoch.number == 2:
                raise LookupError("no more data\nat all")
        epoch.report(loss=1.0)


def diverges(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        epoch.report(loss=float("nan") if epoch.number == 2 else 1.0)
    raise ValueError("a nan is of no use from here on")


def reports(trial: Any, recorder: Any) -> Any:
    wrong: dict[str, Any] = {
        "a word": {"loss": "low"}, "a flag": {"loss": True}, "two numbers": {"f1": [1.0, 2.0]},
        "a column": {"train_s": 1.0}, "half a sample": {"samples": 1.5}, "a nan": {"val_f1": float("nan")},
        "a sentence": {"F 1": 1.0},
    }  # fmt: skip
    if trial.args["what"] == "a list":
        return [1.0]
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        epoch.report(**wrong[trial.args["what"]])
    return None


def times_nothing(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        epoch.report(loss=1.0)


def follows_a_path(trial: Any, recorder: Any, f1: list[float]) -> None:
    for epoch, value in zip(recorder.epochs(), f1, strict=False):
        with epoch.training():
            pass
        epoch.report(val_f1=value)


def counts_its_data(trial: Any, recorder: Any) -> None:
    arrays = trial.data()
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        epoch.report(samples=len(arrays.x_train), classes=arrays.classes)


def takes_by_name(trial: Any, start: float, step: float = 1.0) -> dict[str, float]:
    return {"loss": start + step}


def yields(trial: Any) -> Any:
    yield {"loss": 1.0}


def run(
    workload: Any,
    *,
    epochs: int = 3,
    seed: int = 0,
    setting: dict[str, Any] | None = None,
    now: Callable[[], float] = CLOCK,
    **args: Any,
) -> Outcome:
    given = Setting(workload=function(workload, kind="workload", **args), epochs=epochs, **(setting or {}))
    worker = WorkerState(sources=sources.collected())
    seen: list[EpochRecord] = []
    outcome = run_trial(Trial(setting=given, seed=seed, repeat=0), worker, seen.append, now=now)
    assert tuple(seen) == outcome.epochs
    return outcome


def check(workload: Any, **args: Any) -> None:
    setting = Setting(workload=function(workload, kind="workload", **args))
    worker = WorkerState(sources=sources.collected())
    trial = Trial(setting=setting, seed=0, repeat=0)
    worker.workload(trial).check(trial, worker.sources)


def test_each_epoch_is_recorded_with_what_was_reported_of_it() -> None:
    outcome = run(counts_down, start=8)
    assert (outcome.status, outcome.error) == ("completed", None)
    assert [(epoch.epoch, epoch.loss, epoch.val_loss) for epoch in outcome.epochs] == [
        (1, 4.0, 5.0), (2, 2.0, 3.0), (3, 1.0, 2.0),
    ]  # fmt: skip
    first = outcome.epochs[0]
    assert (first.samples, first.steps, first.accuracy, first.val_accuracy) == (100, 4, 0.5, None)
    assert first.extra == {"val_f1": 0.25, "depth": 3.0}
    assert outcome.facts.initial_val_loss == 8.0


def test_evaluation_is_off_the_training_clock_wherever_it_stands() -> None:
    outcome = run(evaluates, epochs=2)
    assert [(epoch.train_s, epoch.eval_s) for epoch in outcome.epochs] == [(8.0, 1.5)] * 2
    assert outcome.watches.eval_s == 0.25 + 2 * 1.5
    assert outcome.watches.train_s == outcome.epochs[-1].elapsed_train_s == 16.0


def test_what_comes_before_the_first_epoch_is_building_and_loading() -> None:
    outcome = run(builds_slowly)
    watches = outcome.watches
    assert (watches.build_s, watches.data_s, watches.unattributed_s) == (0.5, 0.25, 0.0)


def test_the_spans_of_an_epoch_add_up_and_the_garbage_collector_rests_in_them() -> None:
    outcome = run(trains_in_two_parts, epochs=1)
    assert outcome.error is None
    assert outcome.epochs[0].train_s == 1.0


def test_a_function_may_end_before_its_epochs_are_over() -> None:
    outcome = run(stops_early, epochs=5)
    assert [epoch.loss for epoch in outcome.epochs] == [1.0, 1.0]
    assert outcome.facts.stopped_early is None


def test_a_function_that_takes_the_trial_alone_is_one_epoch() -> None:
    (epoch,) = run(runs_once, seed=3).epochs
    assert (epoch.samples, epoch.loss) == (7, 3.0)
    assert epoch.train_s == 0.5


def test_a_function_that_marks_no_epoch_is_one_too() -> None:
    outcome = run(marks_nothing)
    (epoch,) = outcome.epochs
    assert (epoch.train_s, epoch.eval_s, epoch.val_loss) == (0.5, 0.25, 2.0)
    assert outcome.watches.build_s == 0.0


def test_what_a_function_does_not_measure_is_absent() -> None:
    (epoch,) = run(does_nothing).epochs
    assert (epoch.samples, epoch.steps, epoch.loss, epoch.val_accuracy, epoch.eval_s) == (None,) * 5


def test_an_error_keeps_the_epochs_before_it() -> None:
    outcome = run(raises)
    assert (outcome.status, outcome.step, len(outcome.epochs)) == ("failed", "train", 1)
    assert outcome.error == "LookupError: no more data"
    assert "raises" in str(outcome.error_detail)


def test_a_loss_that_is_no_number_ends_the_trial_whatever_the_function_makes_of_it() -> None:
    outcome = run(diverges, epochs=5)
    assert (outcome.status, outcome.error, len(outcome.epochs)) == ("failed", "diverged: loss is nan at epoch 2", 2)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("a list", "reports: epoch 1 reported [1.0]; expected metrics by name"),
        ("a word", "reports: epoch 1 reported loss='low'; expected a number"),
        ("a flag", "reports: epoch 1 reported loss=True; expected a number"),
        ("two numbers", "reports: epoch 1 reported f1=[1.0, 2.0]; expected a number"),
        ("a column", "reports: epoch 1 reported 'train_s', which the harness fills in"),
        ("half a sample", "reports: epoch 1 reported samples=1.5; expected a whole number from 0"),
        ("a nan", "reports: epoch 1 reported val_f1=nan; expected a finite number"),
        ("a sentence", "reports: epoch 1 reported 'F 1'; a metric's name is letters, digits and underscores"),
    ],
)
def test_what_is_no_measurement_fails_the_trial_and_says_so(what: str, message: str) -> None:
    outcome = run(reports, what=what)
    assert outcome.status == "failed"
    assert message in str(outcome.error)


def test_an_epoch_without_a_timed_span_is_refused() -> None:
    assert "put its training into `with epoch.training():`" in str(run(times_nothing).error)


def test_early_stopping_ends_the_epochs_of_a_function() -> None:
    rule = {"early_stopping": early_stopping("val_f1", patience=2)}
    outcome = run(follows_a_path, epochs=9, setting=rule, f1=[0.1, 0.5, 0.4, 0.5, 0.9])
    assert (outcome.status, len(outcome.epochs)) == ("completed", 4)
    assert (outcome.facts.best_epoch, outcome.facts.stopped_early) == (2, True)


def test_a_metric_of_early_stopping_that_is_not_reported_fails_the_trial() -> None:
    outcome = run(counts_down, start=8, setting={"early_stopping": early_stopping("val_f2")})
    assert (outcome.status, len(outcome.epochs)) == ("failed", 1)
    assert outcome.error == (
        "early_stopping.metric 'val_f2' was not reported at epoch 1; reported: accuracy, depth, loss, val_f1, val_loss"
    )


def test_a_function_gets_the_arrays_of_its_settings_dataset() -> None:
    given = {"dataset": dataset("mnist5k", take=50)}
    outcome = run(counts_its_data, epochs=1, setting=given, now=time.perf_counter)
    assert outcome.error is None
    assert (outcome.epochs[0].samples, outcome.epochs[0].extra) == (50, {"classes": 10.0})
    assert outcome.watches.data_s > 0
    assert "counts_its_data asked for data, but its setting names none" in str(run(counts_its_data).error)


def test_arguments_that_the_function_names_reach_it_by_name() -> None:
    assert run(takes_by_name, epochs=1, start=2.0, step=0.5, other="unnamed").epochs[0].loss == 2.5


def test_a_function_that_cannot_be_called_is_found_before_any_trial() -> None:
    with pytest.raises(SuiteError, match=r"takes_by_name: missing a required argument: 'start'; it is given the trial"):
        check(takes_by_name)
    with pytest.raises(SuiteError, match=r"yields is a generator; mark epochs by `for epoch in recorder.epochs\(\):`"):
        check(yields)


def test_a_trial_that_does_nothing_can_cost_less_than_a_millisecond() -> None:
    setting = Setting(workload=function(does_nothing, kind="workload"))
    worker = WorkerState(sources=sources.collected())
    costs = []
    for seed in range(50):
        began = time.perf_counter()
        run_trial(Trial(setting=setting, seed=seed, repeat=0), worker, lambda epoch: None)
        costs.append(time.perf_counter() - began)
    assert min(costs) < 0.001  # the others may have been held up


def test_a_function_may_leave_the_loop_before_an_epoch_begins() -> None:
    outcome = run(leaves_at_once, epochs=5)
    assert (outcome.status, len(outcome.epochs)) == ("completed", 2)


def test_a_metric_cannot_be_called_like_a_column_of_the_records() -> None:
    outcome = run(names_the_arm)
    assert outcome.error is not None
    assert "reported 'arm', which the harness fills in; call it something else" in outcome.error


def test_training_within_training_is_an_error() -> None:
    outcome = run(trains_within_training)
    assert "training() within training()" in str(outcome.error)
