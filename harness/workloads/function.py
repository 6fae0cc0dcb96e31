"""Any Python function as a workload: it is given the trial and a recorder, and marks its epochs.

    def train(trial, recorder, rate=0.1):
        arrays = trial.data()                       # loading
        model = build(arrays, seed=trial.seed)      # what comes before the first epoch is building
        for epoch in recorder.epochs():             # 1 to trial.epochs; fewer where early stopping says so
            with epoch.training():                  # the timed span
                loss = model.fit_once(arrays.x_train, arrays.y_train, rate)
            with epoch.evaluating():                # off the training clock
                val_accuracy = model.score(arrays.x_val, arrays.y_val)
            epoch.report(samples=len(arrays.x_train), loss=loss, val_accuracy=val_accuracy)

A long one may keep a state, from which it goes on should its worker or its node be lost (the epochs and their clock are
kept with it; the loop goes on with the epoch after):

    model = restore(recorder.saved["weights"]) if recorder.saved else build(arrays, seed=trial.seed)
    for epoch in recorder.epochs():
        ...
        recorder.save(weights=model.weights)        # NumPy arrays, or what JSON holds; kept as the epoch ends

It may leave the loop early. A function that marks no epoch is one epoch, the whole of it, and may return what it
measured; one that takes the trial alone always is.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.domain.errors import SuiteError
from harness.domain.outcome import Facts, Scores
from harness.domain.setting import Setting
from harness.domain.sources import Source, resolve
from harness.domain.trial import Trial
from harness.workloads.protocol import Arrays, Epochs, Kept, Load, Stopwatch, Timing
from harness.workloads.reported import ReportError, checked, result, untrained


class Function:
    """The workload named "function"."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        """Raise unless the function can be found and takes what it will be given."""
        function, args = _resolve(trial, sources)
        name = _name(trial)
        if inspect.isgeneratorfunction(function):
            raise SuiteError(
                f"{name} is a generator; mark epochs by `for epoch in recorder.epochs():` instead of yield"
            )
        given = _named(function, args) | ({"recorder": None} if _takes_recorder(function) else {})
        try:
            inspect.signature(function).bind(None, **given)
        except TypeError as error:
            own = f", and of its own arguments: {', '.join(args)}" if args else ""
            raise SuiteError(
                f"{name}: {error}; it is given the trial, a recorder where it has an argument of that name{own}"
            ) from None

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> _Run:
        with watch.measuring("build"):
            function, args = _resolve(trial, sources)
            given = GivenTrial(
                setting=trial.setting,
                seed=trial.seed,
                epochs=trial.setting.epochs,
                args=args,
                trial_id=trial.trial_id,
                _load=partial(self._load_data, trial, sources, watch),
            )
            return _Run(_name(trial), partial(function, **_named(function, args)), given, watch)

    def _load_data(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> Arrays:
        if trial.setting.dataset is None:
            raise SuiteError(f"{_name(trial)} asked for data, but its setting names none; give it one by dataset=")
        with watch.measuring("data"):
            return self._load(trial.setting.dataset, sources)


@dataclass(frozen=True, kw_only=True)
class GivenTrial:
    """The trial, as a function is given it. `args` are those of its declaration, by name."""

    setting: Setting
    seed: int
    epochs: int
    args: Mapping[str, Any]
    trial_id: str
    _load: Callable[[], Arrays] = field(repr=False)

    def data(self) -> Arrays:
        """Return the setting's dataset: `x_train`, `y_train`, `x_val`, `y_val`, NumPy arrays with a sample a row."""
        return self._load()


class Recorder:
    """What a function marks its epochs with."""

    def __init__(self, name: str, epochs: Epochs, watch: Stopwatch, most: int) -> None:
        self._name = name
        self._epochs = epochs
        self._watch = watch
        self._most = most
        self._building = ExitStack()
        self._epoch: Epoch | None = None
        self._used = False
        self._initial = Scores()
        self._state: dict[str, Any] | None = None  # of the epoch that is open
        self._saved: dict[str, Any] | None = None
        self._unread = False  # whether `saved` has yet to be looked at
        if epochs.kept is not None:
            plain = epochs.kept.plain
            self._saved = {**plain["values"], **epochs.kept.arrays}
            self._unread = True
            self._initial = Scores(loss=plain["untrained"][0], accuracy=plain["untrained"][1])

    def epochs(self) -> Iterator[Epoch]:
        """Yield each epoch that is to be trained; it ends when the next is asked for, or the function returns."""
        if self._used:
            raise ReportError(f"{self._name}: recorder.epochs() gives the epochs of a trial once")
        if self._unread:
            raise ReportError(
                f"{self._name}: the trial goes on after epoch {self._epochs.count}, but what recorder.save() was given "
                "there is not taken up: look at recorder.saved before recorder.epochs()"
            )
        self._used = True
        self._building.close()
        while self._epochs.count < self._most and not self._epochs.over:
            self._epoch = Epoch(self._name, self._epochs, self._watch)
            yield self._epoch
            self._end()

    def evaluating(self) -> AbstractContextManager[None]:
        """Count what the block does as evaluation: of the untrained state, say."""
        return self._watch.measuring("eval")

    def loading(self) -> AbstractContextManager[None]:
        """Count what the block does as loading data."""
        return self._watch.measuring("data")

    @property
    def saved(self) -> Mapping[str, Any] | None:
        """What `save` was given after the last epoch that counts, where the trial goes on from there; else None."""
        self._unread = False
        return self._saved

    def save(self, **state: Any) -> None:
        """Keep what the function needs to go on after the present epoch: NumPy arrays, and what JSON can hold.

        Called in each epoch; it is written every few minutes (`checkpoint` of the suite). Nothing is copied, and
        nothing of it may change before the next epoch is asked for.
        """
        if self._epoch is None:
            raise ReportError(f"{self._name}: recorder.save() belongs into `for epoch in recorder.epochs():`")
        self._state = state

    def untrained(self, **metrics: Any) -> None:
        """Report `val_loss` and `val_accuracy` of the state before training."""
        if self._saved is None:  # else it is no more
            self._initial = untrained(metrics, f"{self._name}: recorder.untrained")

    def _run(self, call: Callable[[], Any]) -> None:
        """Call the function and record what it marks; if that is nothing, the call is an epoch."""
        started_at, built, evaluated = self._watch.unix_s(), self._watch["build"], self._watch["eval"]
        with self._building:
            self._building.enter_context(self._watch.measuring("build"))
            value = call()
        if self._used:
            self._end(left=True)
        else:
            train, eval_s = self._watch["build"] - built, (self._watch["eval"] - evaluated).wall_s
            self._watch.transfer(train, "build", "train")
            measured = checked(value, f"{self._name}: epoch 1")
            timing = Timing(train=train, eval_s=eval_s or None, started_at=started_at, ended_at=self._watch.unix_s())
            self._epochs.record(result(measured), timing)

    def _end(self, *, left: bool = False) -> None:
        """Hand over the epoch that is open; one in which nothing was done before the function left the loop is none."""
        epoch, self._epoch = self._epoch, None
        if epoch is not None and not (left and epoch.untouched):
            epoch._end()
            state, self._state = self._state, None
            if state is not None and not left and self._epochs.count < self._most:
                self._epochs.keep(lambda: self._kept(state))

    def _kept(self, state: Mapping[str, Any]) -> Kept:
        """Return what `save` was given, taken apart."""
        arrays = {name: value for name, value in state.items() if _is_array(value)}
        values = {name: value for name, value in state.items() if name not in arrays}
        where = f"{self._name}: recorder.save"
        objects = [name for name, value in arrays.items() if value.dtype.hasobject]
        if objects:
            raise ReportError(f"{where}: {objects[0]} is an array of Python objects")
        try:
            plain = json.loads(json.dumps(values))
        except (TypeError, ValueError) as error:
            raise ReportError(f"{where}: {error}; it takes NumPy arrays, and what JSON can hold") from None
        return Kept(plain={"values": plain, "untrained": [self._initial.loss, self._initial.accuracy]}, arrays=arrays)


class Epoch:
    """One epoch of a function."""

    def __init__(self, name: str, epochs: Epochs, watch: Stopwatch) -> None:
        self.number = epochs.count + 1
        self._trained = False
        self._where = f"{name}: epoch {self.number}"
        self._epochs = epochs
        self._watch = watch
        self._measured: dict[str, float] = {}
        epochs.begin()

    def training(self) -> AbstractContextManager[None]:
        """Time what the block does as training; several blocks add up."""
        self._trained = True
        return self._epochs.training()

    def evaluating(self) -> AbstractContextManager[None]:
        """Take what the block does for evaluation, wherever it stands."""
        return self._watch.measuring("eval")

    def report(self, **metrics: Any) -> None:
        """Report what the epoch measured: `samples`, `steps`, `loss`, `val_accuracy`, and any others by name."""
        self._measured |= checked(metrics, self._where)

    @property
    def untouched(self) -> bool:
        """Whether nothing was timed or reported in it."""
        return not self._trained and not self._measured

    def _end(self) -> None:
        if not self._trained:
            raise ReportError(f"{self._where} was not timed: put its training into `with epoch.training():`")
        self._epochs.record(result(self._measured))
        self._epochs.tick()


class _Run:
    """A trial that is one call of a function."""

    said = None  # what it prints goes to the worker's log

    def __init__(self, name: str, call: Callable[..., Any], given: GivenTrial, watch: Stopwatch) -> None:
        self._name = name
        self._call = call
        self._given = given
        self._watch = watch
        self.facts = Facts()

    def run(self, epochs: Epochs) -> None:
        if not _takes_recorder(self._call):
            epochs.begin()
            with epochs.training():
                value = self._call(self._given)
            epochs.record(result(checked(value, f"{self._name}: epoch 1")))
            return
        recorder = Recorder(self._name, epochs, self._watch, self._given.epochs)
        try:
            recorder._run(lambda: self._call(self._given, recorder=recorder))
        finally:
            initial = recorder._initial
            self.facts = Facts(initial_val_loss=initial.loss, initial_val_accuracy=initial.accuracy)

    def close(self) -> None:
        """Nothing is held."""


def _is_array(value: Any) -> bool:
    """Whether a value is NumPy's, which is not imported for those that do without."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _takes_recorder(function: Callable[..., Any]) -> bool:
    return "recorder" in inspect.signature(function).parameters


def _named(function: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that the function takes by name; all of them are in `GivenTrial.args` besides."""
    takes = inspect.signature(function).parameters
    anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
    return {name: value for name, value in args.items() if anything or name in takes}


def _resolve(trial: Trial, sources: Mapping[str, Source]) -> tuple[Callable[..., Any], dict[str, Any]]:
    args = dict(trial.setting.workload.args)
    return resolve(args.pop("function"), args.pop("sha256"), dict(sources)), args


def _name(trial: Trial) -> str:
    return str(trial.setting.workload.args["function"])
