"""Any Python function as a workload: what it does between two yields is an epoch.

A generator function is called once a trial with a `Job`. The code before its first ``yield`` is building; that
``yield`` hands over nothing, or the scores of the untrained state (``val_loss``, ``val_accuracy``). Every later
``yield`` ends an epoch and hands over what it measured::

    def noise(job):
        rng = random.Random(job.seed)
        yield
        for _ in range(job.epochs):
            loss = rng.random()                       # the training
            with job.evaluating():                    # off the training clock
                val_loss = rng.random()
            yield {"samples": 1000, "loss": loss, "val_loss": val_loss}

It may end early. A plain function is called once, is one epoch, and returns the mapping, or None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.domain.errors import SuiteError, known
from harness.domain.metrics import METRICS
from harness.domain.outcome import Facts, Scores
from harness.domain.setting import Setting
from harness.domain.sources import Source, resolve
from harness.domain.trial import Trial
from harness.workloads.protocol import EpochResult, Stopwatch, Tick

_HANDED_OVER = ("samples", *METRICS)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a workload function is given. `evaluating` is a context manager for what is not training."""

    setting: Setting
    seed: int
    epochs: int
    args: Mapping[str, Any]
    evaluating: Callable[[], AbstractContextManager[None]]


class Function:
    """The workload named "function"."""

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        """Raise unless the function can be found and takes one argument."""
        function, _ = _resolve(trial, sources)
        try:
            inspect.signature(function).bind(None)
        except TypeError as error:
            raise SuiteError(f"{_name(trial)}(job) must take one argument, the job: {error}") from None

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> _Session:
        with watch.measuring("build"):
            function, args = _resolve(trial, sources)

            @contextmanager
            def evaluating() -> Iterator[None]:
                with watch.measuring("eval"):
                    yield

            job = Job(
                setting=trial.setting, seed=trial.seed, epochs=trial.setting.epochs, args=args, evaluating=evaluating
            )
            name = _name(trial)
            call = partial(function, **_named(function, args))
            if inspect.isgeneratorfunction(function):
                return _Session(name, call(job))
            return _Session(name, _once(call, job))


def _named(function: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that the function takes by name; all of them are in `Job.args` besides."""
    takes = inspect.signature(function).parameters
    anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
    return {name: value for name, value in args.items() if anything or name in takes}


class _Session:
    """A trial whose steps are those of a generator."""

    def __init__(self, name: str, steps: Iterator[Any]) -> None:
        self._name = name
        self._steps = steps
        self._untrained = Scores()
        try:
            first = next(steps)
        except StopIteration:
            first = None
        if first is not None:
            measured = _checked(name, first, "its first yield, which ends the building,", ("val_loss", "val_accuracy"))
            self._untrained = Scores(loss=measured.get("val_loss"), accuracy=measured.get("val_accuracy"))

    @property
    def facts(self) -> Facts:
        return Facts(initial_val_loss=self._untrained.loss, initial_val_accuracy=self._untrained.accuracy)

    def evaluate(self) -> Scores | None:
        return None

    def before_epoch(self, epoch: int) -> None:
        pass

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult | None:
        try:
            value = next(self._steps)
        except StopIteration:
            return None
        tick()
        measured = _checked(self._name, value, f"epoch {epoch}", _HANDED_OVER)
        samples = measured.get("samples")
        return EpochResult(
            samples=None if samples is None else int(samples),
            train=Scores(loss=measured.get("loss"), accuracy=measured.get("accuracy")),
            held_out=Scores(loss=measured.get("val_loss"), accuracy=measured.get("val_accuracy")),
        )

    def drain(self) -> None:
        pass

    def close(self) -> None:
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()


def _once(function: Callable[[Job], Any], job: Job) -> Iterator[Any]:
    yield
    yield function(job)


def _resolve(trial: Trial, sources: Mapping[str, Source]) -> tuple[Callable[[Job], Any], dict[str, Any]]:
    args = dict(trial.setting.workload.args)
    return resolve(args.pop("function"), args.pop("sha256"), dict(sources)), args


def _name(trial: Trial) -> str:
    return str(trial.setting.workload.args["function"])


def _checked(name: str, value: Any, where: str, right: tuple[str, ...]) -> dict[str, float]:
    """Return the numbers that a function handed over; those that are None are left out.

    Raises:
        TypeError: for anything but a mapping of the names in `right` to numbers.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: {where} handed over {value!r}; expected a mapping of {', '.join(right)}")
    measured: dict[str, float] = {}
    for key, item in value.items():
        if key not in right:
            raise TypeError(f"{name}: {where} handed over {key!r}; it can hand over: {known(right)}")
        if item is None:
            continue
        try:
            if isinstance(item, str | bytes | bool):
                raise TypeError
            measured[key] = float(item)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: {where} handed over {key}={item!r}; expected a number") from None
    return measured
