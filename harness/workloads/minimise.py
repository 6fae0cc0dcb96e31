"""Test functions, minimised by SciPy's methods or by Keras's optimizers: an epoch is one iteration, its path recorded.

`epochs` is the most iterations there can be; a method of SciPy ends earlier once it has converged or reached limits of
its own, and says which in the trial's file ``result.json``. Each epoch records f at the point reached as `loss`, and
besides, as further metrics, the point's coordinates `x0`, `x1`, …, the `evaluations` so far (of f, those that stand
for a derivative included, and of the gradient where a method is given one) and `gradient_norm`. The start's f is
the trial's `initial_val_loss`. What only the records need, f and its gradient at the point reached, is found off the
training clock.

SciPy's methods work in float64 and on f alone, finding derivatives by differences, but for those that cannot do without
a gradient. Keras's optimizers are handed the gradient, and work in the precision of the back end's variables.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import scipy
from scipy.optimize import minimize

from harness.domain.component import Component, did_you_mean
from harness.domain.errors import SuiteError
from harness.domain.outcome import Facts, Scores
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.problems import PROBLEMS, Point, Problem
from harness.workloads.protocol import EpochResult, Kept, Stopwatch, Tick

# SciPy's methods by what they take; those that need second derivatives ("dogleg", "trust-ncg" and their like) are not
# among them.
_BOUNDED: Final = ("COBYLA", "COBYQA", "L-BFGS-B", "Nelder-Mead", "Powell", "SLSQP", "TNC", "trust-constr")
_WITH_GRADIENT: Final = ("Newton-CG",)
METHODS: Final = tuple(sorted(("BFGS", "CG", *_BOUNDED, *_WITH_GRADIENT), key=str.lower))

_TICK_S: Final = 1.0  # how often an iteration that takes long shows that it is alive


class Minimise:
    """The workload named "minimise"."""

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        """Raise unless start, bounds and method fit the function and one another, and the optimizer can be built."""
        args = trial.setting.workload.args
        _check(args)
        if args.get("optimizer") is not None:
            problem, start = PROBLEMS[args["problem"]], np.array(args["start"], float)
            _KerasSteps(problem, start, args["optimizer"], sources, trial.setting.epochs)

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> _Session:
        args = trial.setting.workload.args
        _check(args)
        with watch.measuring("build"):
            problem, start = PROBLEMS[args["problem"]], np.array(args["start"], float)
            steps: _Steps
            if args.get("optimizer") is not None:
                steps = _KerasSteps(problem, start, args["optimizer"], sources, trial.setting.epochs)
            else:
                steps = _ScipySteps(problem, start, args["method"], args.get("bounds"))
            return _Session(problem, start, steps, watch)


def _check(args: Mapping[str, Any]) -> None:
    name, start, bounds, method = args["problem"], args["start"], args.get("bounds"), args.get("method")
    problem = PROBLEMS[name]
    if len(start) < problem.least or (problem.most is not None and len(start) > problem.most):
        right = f"{problem.least}" if problem.most is not None else f"{problem.least} or more"
        raise SuiteError(f"minimise: {name} takes {right} coordinates, but start has {len(start)}: {start}")
    if method is not None and method not in METHODS:
        raise SuiteError(
            f"minimise: unknown method {method!r};{did_you_mean(method, METHODS)} the methods are: {', '.join(METHODS)}"
        )
    if bounds is None:
        return
    if method not in _BOUNDED:
        which = f"the method {method!r}" if method is not None else "an optimizer of Keras's"
        raise SuiteError(f"minimise: {which} takes no bounds; those that do are: {', '.join(_BOUNDED)}")
    if len(bounds) != len(start):
        raise SuiteError(
            f"minimise: start has {len(start)} coordinates, but bounds are given for {len(bounds)}; give a [low, high] "
            "for each"
        )
    for place, (value, (low, high)) in enumerate(zip(start, bounds, strict=True)):
        if not low <= value <= high:
            raise SuiteError(f"minimise: start has x{place} = {value:g}, outside its bounds from {low:g} to {high:g}")


class _Steps(Protocol):
    """A method at work, one iteration after another."""

    engine: str
    versions: str
    evaluations: int

    def advance(self, tick: Tick) -> Point | None:
        """Return the point that the next iteration reaches; None when there is no further one."""

    def result(self) -> dict[str, Any] | None:
        """Return what the method says of its end, None while it has not come to one."""

    def close(self) -> None:
        """Give up whatever is left to be done."""


class _Session:
    """A method at its start, ready to iterate."""

    def __init__(self, problem: Problem, start: Point, steps: _Steps, watch: Stopwatch) -> None:
        self._problem = problem
        self._start = start
        self._steps = steps
        self._watch = watch

    @property
    def facts(self) -> Facts:
        return Facts(engine=self._steps.engine, parameters=len(self._start), versions=self._steps.versions)

    def evaluate(self) -> Scores | None:
        """Score the start: asked once, since every epoch hands over that nothing is held out."""
        return Scores(loss=self._problem.value(self._start))

    def before_epoch(self, epoch: int) -> None:
        pass

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult | None:
        point = self._steps.advance(tick)
        if point is None:
            return None
        with self._watch.measuring("eval"), np.errstate(over="ignore", invalid="ignore"):
            extra = {f"x{place}": float(value) for place, value in enumerate(point)}
            extra["evaluations"] = float(self._steps.evaluations)
            extra["gradient_norm"] = float(np.linalg.norm(self._problem.gradient(point)))
            loss = self._problem.value(point)
        return EpochResult(samples=None, steps=1, train=Scores(loss=loss, extra=extra), held_out=Scores())

    def observe(self, epoch: int) -> None:
        pass

    def snapshot(self) -> Any:
        return None  # a path has no weights to come back to

    def restore(self, snapshot: Any) -> None:
        pass

    def keep(self) -> Kept | None:
        return None  # a method of SciPy's cannot be left in its middle

    def resume(self, kept: Kept) -> None:
        raise AssertionError("nothing was kept")

    def files(self) -> dict[str, bytes]:
        result = self._steps.result()
        return {} if result is None else {"result.json": json.dumps(result, indent=1).encode()}

    def drain(self) -> None:
        pass

    def close(self) -> None:
        self._steps.close()


class _ScipySteps:
    """One of SciPy's methods, held up after each iteration."""

    engine = "scipy"
    versions = f"scipy {scipy.__version__}, numpy {np.__version__}"

    def __init__(self, problem: Problem, start: Point, method: str, bounds: Sequence[Sequence[float]] | None) -> None:
        self.evaluations = 0
        self._problem = problem
        self._point = start
        self._result: Any = None
        gradient = self._gradient if method in _WITH_GRADIENT else None

        def work() -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                self._result = minimize(
                    self._value, start, method=method, jac=gradient, bounds=bounds, callback=self._iterated
                )

        self._turns = _Turns(work)

    def advance(self, tick: Tick) -> Point | None:
        return self._point if self._turns.take(tick) else None

    def result(self) -> dict[str, Any] | None:
        if self._result is None:
            return None
        return {
            "success": bool(self._result.success),
            "message": str(self._result.message),
            "x": [float(value) for value in self._result.x],
            "f": float(self._result.fun),
            "evaluations": self.evaluations,
        }

    def close(self) -> None:
        self._turns.close()

    def _value(self, point: Point) -> float:
        self._turns.check()
        self.evaluations += 1
        return self._problem.value(point)

    def _gradient(self, point: Point) -> Point:
        self._turns.check()
        self.evaluations += 1
        return self._problem.gradient(point)

    def _iterated(self, xk: Point, *state: Any) -> None:
        self._point = np.array(xk, float)  # a copy: the method goes on with its own
        self._turns.give()


class _Turns:
    """Runs `work` in a thread of its own that moves only while `take` waits for it, from one `give` to the next.

    It makes a method that calls back into one that is called. Two changes of thread are some 20 µs.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._go, self._came = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._came.acquire()
        self._ended = self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="minimise", daemon=True)
        self._thread.start()

    def take(self, tick: Tick) -> bool:
        """Let the work go on to its next `give`; False when it has ended. Raises what the work raised."""
        if self._ended:
            return False
        self._go.release()
        while not self._came.acquire(timeout=_TICK_S):
            tick()
        if self._error is not None:
            raise self._error
        return not self._ended

    def give(self) -> None:
        """Called by the work: hold still until the next `take`."""
        self._came.release()
        self._go.acquire()
        self.check()

    def check(self) -> None:
        """Called by the work: end it if nobody waits for it any more."""
        if self._closing:
            raise _NotWanted

    def close(self) -> None:
        """End the work wherever it is."""
        self._closing = True
        if not self._ended and self._go.locked():
            self._go.release()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.check()
            self._work()
        except _NotWanted:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            if self._came.locked():
                self._came.release()


class _NotWanted(BaseException):
    """Ends a method in its thread; no Exception, which a method might handle itself."""


class _KerasSteps:
    """One of Keras's optimizers, handed the gradient of the function, on the back end of this process."""

    engine = "eager"

    def __init__(
        self,
        problem: Problem,
        start: Point,
        optimizer: Mapping[str, Any],
        sources: Mapping[str, Source],
        most: int,
    ) -> None:
        import keras

        from harness.workloads.training.network import build_optimizer

        self.evaluations = 0
        self.versions = f"keras {keras.__version__} on {keras.backend.backend()}, numpy {np.__version__}"
        self._problem = problem
        self._optimizer = build_optimizer(Component.of("optimizer", optimizer), sources, steps=most)
        self._x = keras.Variable(start, dtype=keras.config.floatx(), name="x")
        self._optimizer.build([self._x])
        self._to_tensor, self._to_numpy = keras.ops.convert_to_tensor, keras.ops.convert_to_numpy

    def advance(self, tick: Tick) -> Point | None:
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = self._problem.gradient(self._where())
        self.evaluations += 1
        self._optimizer.apply([self._to_tensor(gradient, dtype=self._x.dtype)], [self._x])
        point = self._where()  # which waits for the back end
        tick()
        return point

    def result(self) -> dict[str, Any] | None:
        return None  # an optimizer goes on for as long as it is asked to

    def close(self) -> None:
        pass

    def _where(self) -> Point:
        return np.asarray(self._to_numpy(self._x), float)
