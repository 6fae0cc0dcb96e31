"""The training workload: Keras's mathematics on any back end, a whole epoch in one compiled program where it can be.

A model, its data and its programs are kept from trial to trial, and used again by every trial that differs in nothing
but weights, seed or what a program holds in variables, such as a plain learning rate. What a back end does is in
`harness.workloads.training.engine`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import keras

from harness.domain.errors import SuiteError
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.protocol import Load, Session, Stopwatch
from harness.workloads.training import initial, network, saved
from harness.workloads.training.compiled import CompiledSession
from harness.workloads.training.engine import Backend
from harness.workloads.training.feed import Data
from harness.workloads.training.fit import FitSession
from harness.workloads.training.losses import Head, Objective, Tally, label_form
from harness.workloads.training.recent import Recent
from harness.workloads.training.reused import Network, Updater
from harness.workloads.training.session import Parts

Sources = Mapping[str, Source]


class Training:
    """The workload named "training". `free_bytes` stands in for the device's free memory where it is given."""

    def __init__(self, load: Load, backend: Backend, *, free_bytes: int | None = None) -> None:
        self._load_arrays = load
        self._backend = backend
        self._free_bytes = free_bytes
        self._data: Recent[str, Data] = Recent(4)
        self._networks: Recent[str, Network] = Recent(16)

    def check(self, trial: Trial, sources: Sources) -> None:
        """Load the data and build model, loss, optimizer and metrics; raise what is wrong with them."""
        setting = trial.setting
        data = self._load(setting, sources)
        made = self._network(setting, data, sources)
        objective = _objective(made, setting, data, sources)
        _updater(made, setting, data, sources)
        Tally(_metrics(setting, sources), objective).check(made.model.output_shape[-1])
        if setting.save_model or setting.tensorboard:
            saved.structure(made.model)
        if setting.tensorboard and find_spec("tensorboard") is None:
            raise SuiteError("tensorboard: the package is not installed; pip install 'harness[tensorboard]'")

    def open(self, trial: Trial, sources: Sources, watch: Stopwatch) -> Session:
        """Return the trial ready to train."""
        setting = trial.setting
        with watch.measuring("data"):
            data = self._load(setting, sources)
        with watch.measuring("build"):
            made = self._network(setting, data, sources)
            objective = _objective(made, setting, data, sources)
            updater = _updater(made, setting, data, sources)
            metrics = _metrics(setting, sources)
        with watch.measuring("compile"):
            session = self._session(Parts(trial, data, made, objective, updater, metrics, self._backend))
        with watch.measuring("build"):
            made.recipes.initialise(trial.seed)
            updater.reset(_learning_rate(setting))
            self._backend.begin(made, updater)
        return session

    def _load(self, setting: Setting, sources: Sources) -> Data:
        if setting.dataset is None or setting.model is None:
            missing = "dataset" if setting.dataset is None else "model"
            raise SuiteError(f"the workload 'training' needs a {missing}; add {missing}=... to the suite's base")
        key = _key(setting.dataset.plain())
        data = self._data.get(key)
        if data is None:
            arrays = self._load_arrays(setting.dataset, sources)
            data = self._data.put(key, Data.place(arrays, self._backend, self._free_bytes))
        if setting.batch_size > data.train.rows:
            raise SuiteError(
                f"batch_size is {setting.batch_size}, more than the {data.train.rows} training samples of "
                f"{setting.dataset.name!r}; lower batch_size"
            )
        return data

    def _network(self, setting: Setting, data: Data, sources: Sources) -> Network:
        assert setting.model is not None
        outputs = data.classes or (data.target_shape or (1,))[-1]
        key = _key([setting.model.plain(), data.sample_shape, outputs, setting.precision])
        made = self._networks.get(key)
        if made is None:
            with initial.captured() as recipes_of, network.precision(setting.precision):
                model = network.build_model(
                    setting.model, input_shape=data.sample_shape, outputs=outputs, sources=sources
                )
            made = Network(model=model, head=Head.take_off(model), recipes=recipes_of(model))
            self._networks.put(key, made)
        return made

    def _session(self, parts: Parts) -> Session:
        """Return a session on the first engine that can compile the trial."""
        backend, made = self._backend, parts.made
        engine: str = parts.trial.setting.engine
        reason: str | None = None
        if engine == "auto":
            engine, reason = backend.first_choice(made)
        for candidate in backend.engines[backend.engines.index(engine) :]:
            unfit = (candidate, parts.objective.key, parts.updater.key)
            if unfit not in made.unfit:
                kind = FitSession if candidate == "fit" else CompiledSession
                try:
                    return kind(parts, candidate, reason)
                except backend.ran_out_of_memory:
                    raise
                except backend.cannot_compile as error:
                    if candidate == backend.engines[-1]:
                        raise
                    made.unfit[unfit] = next(line for line in [*str(error).splitlines(), "?"] if line.strip())[:200]
            reason = f"{candidate} cannot compile it: {made.unfit[unfit]}"
        raise AssertionError("the last engine either runs or raises")


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _objective(made: Network, setting: Setting, data: Data, sources: Sources) -> Objective:
    """Return the loss of a setting and how labels meet it.

    Raises:
        SuiteError: where the model's output does not fit the dataset's classes.
    """
    key = _key([setting.loss.plain(), data.classes])
    if key not in made.objectives:
        form = label_form(setting.loss.name, made.model.output_shape, data.classes)
        if data.classes is None and made.head.name == "softmax" and made.model.output_shape[-1] == 1:
            raise SuiteError("the model ends in a softmax of one output, which is always 1; say output='linear'")
        made.objectives[key] = Objective.build(
            key, setting.loss, made.head, form=form, classes=data.classes, sources=sources
        )
    return made.objectives[key]


def _updater(made: Network, setting: Setting, data: Data, sources: Sources) -> Updater:
    """Return the optimizer of a setting; those that differ only in a plain learning rate are one."""
    plain = setting.optimizer.plain()
    steps = 0  # that a learning rate which is a function of the step is called for
    rate = plain.get("learning_rate")
    if _learning_rate(setting) is not None:
        plain["learning_rate"] = "a number"  # unlike none at all, for which Keras has one of its own
    elif isinstance(rate, dict) and rate.get("name") == "function":
        steps = setting.epochs * -(-data.train.rows // setting.batch_size)
    key = _key([plain, steps])
    updater = made.updaters.get(key)
    if updater is None:
        optimizer = network.build_optimizer(setting.optimizer, sources, steps=steps)
        if setting.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        updater = made.updaters.put(key, Updater.build(key, optimizer, made.model))
    return updater


def _learning_rate(setting: Setting) -> float | None:
    """Return the learning rate where it is a plain number, which a program holds in a variable."""
    rate = setting.optimizer.args.get("learning_rate")
    return float(rate) if isinstance(rate, int | float) and setting.optimizer.name != "function" else None


def _metrics(setting: Setting, sources: Sources) -> dict[str, keras.metrics.Metric]:
    """Return the further metrics of a setting, by the names they are recorded under, less their "val_"."""
    return {one.name: network.build(one.plain(), sources) for one in setting.metrics}
