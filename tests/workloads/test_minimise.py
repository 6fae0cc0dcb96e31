"""Test functions minimised: SciPy's methods and Keras's optimizers, an epoch an iteration, the path recorded."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from harness.domain.component import Component
from harness.domain.errors import SuiteError
from harness.domain.handy import minimise, sgd
from harness.domain.outcome import Scores
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.workloads.minimise import METHODS, Minimise
from harness.workloads.problems import PROBLEMS, beale
from harness.workloads.protocol import EpochResult, Session, Stopwatch

SQUARE = [[-4.5, 4.5], [-4.5, 4.5]]


def trial(workload: Component, epochs: int = 500) -> Trial:
    return Trial(setting=Setting(workload=workload, epochs=epochs), seed=0, repeat=0)


def opened(workload: Component) -> Session:
    return Minimise().open(trial(workload), {}, Stopwatch())


def idle() -> None:
    pass


def at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "minimise"]


def run(workload: Component, epochs: int = 500) -> tuple[Scores, list[EpochResult], dict[str, Any]]:
    """Return the score of the start, the epochs, and what the method says of its end."""
    session = opened(workload)
    untrained = session.evaluate()
    assert untrained is not None
    results = []
    for epoch in range(1, epochs + 1):
        session.before_epoch(epoch)
        result = session.train_epoch(epoch, idle)
        if result is None:
            break
        results.append(result)
    files = session.files()
    session.close()
    return untrained, results, json.loads(files["result.json"]) if files else {}


def test_beale_by_l_bfgs_b_takes_the_published_path() -> None:
    untrained, epochs, result = run(minimise("beale", start=(4, 4), method="L-BFGS-B", bounds=SQUARE))
    last = epochs[-1].train
    assert untrained.loss == 68_891.203125
    assert len(epochs) == 14
    assert last.extra["evaluations"] == 60
    assert (last.extra["x0"], last.extra["x1"]) == pytest.approx((3.00000257, 0.50000085), abs=5e-9)
    assert last.loss == pytest.approx(2.07e-12, rel=5e-3)
    assert (result["success"], result["evaluations"]) == (True, 60)
    assert "CONVERGENCE" in result["message"]


def test_what_is_held_out_stays_unknown_since_nothing_is() -> None:
    _, epochs, _ = run(minimise("beale", start=(4, 4)), epochs=2)
    assert [epoch.held_out for epoch in epochs] == [Scores(), Scores()]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_held_up_after_each_iteration_goes_where_it_goes_by_itself(method: str) -> None:
    _, epochs, result = run(minimise("rosenbrock", start=(-1.2, 1.0), method=method), epochs=2000)
    gradient = PROBLEMS["rosenbrock"].gradient if method == "Newton-CG" else None
    alone = minimize(PROBLEMS["rosenbrock"].value, [-1.2, 1.0], method=method, jac=gradient)
    assert result["f"] == pytest.approx(alone.fun, abs=1e-12)
    assert result["message"] == alone.message
    after_the_last_call_back = 1e-5 if method == "COBYLA" else 0
    assert epochs[-1].train.loss == pytest.approx(alone.fun, abs=1e-12 + after_the_last_call_back)
    told = [epoch.train.extra["evaluations"] for epoch in epochs]
    assert told == sorted(told)


def test_no_more_iterations_than_epochs_are_made() -> None:
    _, epochs, result = run(minimise("rosenbrock", start=[0.0] * 5), epochs=3)
    assert len(epochs) == 3
    assert result == {}
    assert sorted(epochs[-1].train.extra) == ["evaluations", "gradient_norm", "x0", "x1", "x2", "x3", "x4"]
    assert not at_work()


def test_a_session_that_is_closed_before_its_first_epoch_leaves_no_thread() -> None:
    opened(minimise("beale", start=(4, 4))).close()
    assert not at_work()


def test_an_iteration_that_takes_long_shows_that_it_is_alive_and_can_be_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticked = threading.Event()

    def slow(point: Any) -> float:
        ticked.wait(60)
        return beale(point)

    def out_of_time() -> None:
        ticked.set()
        raise TimeoutError

    monkeypatch.setattr("harness.workloads.minimise._TICK_S", 0.01)
    monkeypatch.setitem(PROBLEMS, "beale", replace(PROBLEMS["beale"], value=slow))
    session = opened(minimise("beale", start=(4, 4)))
    with pytest.raises(TimeoutError):
        session.train_epoch(1, out_of_time)
    session.close()
    assert session.files() == {}  # it was given up, and did not come to its end
    assert not at_work()


def test_what_the_function_raises_comes_out_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(point: Any) -> float:
        raise LookupError("no value here")

    monkeypatch.setitem(PROBLEMS, "beale", replace(PROBLEMS["beale"], value=broken))
    session = opened(minimise("beale", start=(4, 4)))
    with pytest.raises(LookupError, match="no value here"):
        session.train_epoch(1, idle)
    session.close()


def test_what_the_records_alone_need_is_off_the_training_clock() -> None:
    watch = Stopwatch()
    session = Minimise().open(trial(minimise("beale", start=(4, 4))), {}, watch)
    with watch.measuring("train"):
        session.train_epoch(1, idle)
    session.close()
    assert watch["eval"].wall_s > 0


@pytest.mark.parametrize(("name", "dimensions"), [("beale", 2), ("himmelblau", 2), ("rastrigin", 1), ("rosenbrock", 6)])
def test_gradients_are_those_of_the_functions(name: str, dimensions: int) -> None:
    problem = PROBLEMS[name]
    point = np.random.default_rng(0).normal(size=dimensions)
    scale = float(np.linalg.norm(problem.gradient(point)))
    assert check_grad(problem.value, problem.gradient, point) < 1e-5 * scale


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("beale", (3, 0.5)),
        ("himmelblau", (3, 2)),
        ("himmelblau", (3.584428, -1.848127)),
        ("rastrigin", (0, 0, 0)),
        ("rosenbrock", (1, 1, 1)),
    ],
)
def test_functions_are_least_where_their_sources_say(name: str, point: tuple[float, ...]) -> None:
    assert PROBLEMS[name].value(np.array(point, float)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (minimise("beale", start=(4, 4, 4)), "beale takes 2 coordinates, but start has 3: [4, 4, 4]"),
        (minimise("rosenbrock", start=[1]), "rosenbrock takes 2 or more coordinates, but start has 1: [1]"),
        (minimise("beale", start=(4, 4), method="LBFGS"), "unknown method 'LBFGS'"),
        (minimise("beale", start=(4, 4), method="BFGS", bounds=SQUARE), "the method 'BFGS' takes no bounds; those"),
        (minimise("beale", start=(4, 4), optimizer=sgd(0.1), bounds=SQUARE), "an optimizer of Keras's takes no bounds"),
        (minimise("beale", start=(4, 4), bounds=SQUARE[:1]), "bounds are given for 1"),
        (minimise("beale", start=(4, 5), bounds=SQUARE), "start has x1 = 5, outside its bounds from -4.5 to 4.5"),
    ],
)
def test_what_cannot_be_run_is_said_before_it_is(workload: Component, message: str) -> None:
    with pytest.raises(SuiteError) as raised:
        Minimise().check(trial(workload), {})
    assert message in str(raised.value)


def test_a_wrong_method_is_answered_with_the_right_ones() -> None:
    with pytest.raises(SuiteError, match=r"did you mean .L-BFGS-B..*BFGS, CG, COBYLA"):
        Minimise().check(trial(minimise("beale", start=(4, 4), method="L-BFGSB")), {})


def test_an_optimizer_of_kerass_takes_the_steps_of_its_formula() -> None:
    momentum, rate = 0.5, 1e-3
    workload = minimise("himmelblau", start=(0, 0), optimizer=sgd(rate, momentum=momentum))
    Minimise().check(trial(workload), {})
    untrained, epochs, _ = run(workload, epochs=20)
    point, velocity = np.zeros(2), np.zeros(2)
    for epoch in epochs:
        velocity = momentum * velocity - rate * PROBLEMS["himmelblau"].gradient(point)
        point = point + velocity
        assert (epoch.train.extra["x0"], epoch.train.extra["x1"]) == pytest.approx(tuple(point), rel=1e-5)
    assert untrained.loss == 170
    assert len(epochs) == 20
    assert epochs[-1].train.extra["evaluations"] == 20
