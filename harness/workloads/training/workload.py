"""The training workload: Keras's mathematics on any back end, a whole epoch in one compiled program where it can be.

A model, its data and its programs are kept from trial to trial, and used again by every trial that differs in nothing
but weights, seed or what a program holds in variables, such as a plain learning rate. What a back end does is in
`harness.workloads.training.engine`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from harness.domain.errors import SuiteError
from harness.domain.outcome import Facts, Scores
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.state import StateError
from harness.domain.trial import Trial
from harness.workloads.protocol import EpochResult, Kept, Load, Session, Stopwatch, Tick
from harness.workloads.states import cast
from harness.workloads.training import initial, network, saved
from harness.workloads.training.engine import Backend, Block, Program, Totals
from harness.workloads.training.feed import Data, Part
from harness.workloads.training.losses import Head, Objective, Tally, label_form
from harness.workloads.training.recent import Recent

if TYPE_CHECKING:
    from harness.workloads.training.board import Board

Sources = Mapping[str, Source]

CHUNK_S: Final = 1.5  # seconds that one call may take, about: time-outs and Ctrl-C wait no longer
_EVAL_BATCH: Final = 1024  # samples evaluated at once, at most


@dataclass(kw_only=True, eq=False)
class Updater:
    """An optimizer built for a network, and what its variables hold before the first step.

    A program is known by the very updater it updates with, which so lives as long as the program does.
    """

    key: str  # what it was declared as, a plain learning rate left out
    optimizer: keras.optimizers.Optimizer
    fresh: list[tuple[Any, Any]] = field(default_factory=list)  # variable, value

    @classmethod
    def build(cls, key: str, optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Updater:
        optimizer.build(model.trainable_variables)
        rate = getattr(getattr(optimizer, "inner_optimizer", optimizer), "_learning_rate", None)
        held = [variable for variable in optimizer.variables if variable is not rate]
        return cls(key=key, optimizer=optimizer, fresh=[(variable, _compact(variable.value)) for variable in held])

    def reset(self, learning_rate: float | None) -> None:
        """Forget all steps taken, and set the learning rate unless a schedule sets it."""
        for variable, value in self.fresh:
            variable.assign(np.full(variable.shape, value, variable.dtype) if np.ndim(value) == 0 else value)
        if learning_rate is not None:
            self.optimizer.learning_rate = learning_rate


def _compact(value: Any) -> Any:
    """Return a variable's value, as one number where all its elements are equal."""
    array = np.array(ops.convert_to_numpy(value))
    return array.reshape(-1)[0] if array.size and (array == array.reshape(-1)[0]).all() else array


@dataclass(kw_only=True)
class Network:
    """A Keras model that many trials use in turn, its head taken off, with all that was compiled for it."""

    model: keras.Model
    head: Head
    recipes: initial.Recipes
    objectives: dict[str, Objective] = field(default_factory=dict)
    updaters: Recent[str, Updater] = field(default_factory=lambda: Recent(16))
    programs: Recent[tuple[Any, ...], Program] = field(default_factory=lambda: Recent(32))
    unfit: dict[tuple[str, str, str], str] = field(default_factory=dict)  # engine, objective, updater → why not

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)

    def outputs(self, x: Any, *, training: bool) -> Any:
        """Return what the model makes of a batch, told whether it is training if it wants to know."""
        return self.model(x, training=training) if self.model._call_has_training_arg else self.model(x)


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
            session = self._session(_Parts(trial, data, made, objective, updater, metrics, self._backend))
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

    def _session(self, parts: _Parts) -> Session:
        """Return a session on the first engine that can compile the trial."""
        backend, made = self._backend, parts.made
        engine: str = parts.trial.setting.engine
        reason: str | None = None
        if engine == "auto":
            engine, reason = backend.first_choice(made)
        for candidate in backend.engines[backend.engines.index(engine) :]:
            unfit = (candidate, parts.objective.key, parts.updater.key)
            if unfit not in made.unfit:
                kind = _FitSession if candidate == "fit" else _CompiledSession
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """How far an epoch has come: steps and calls, programs compiled meanwhile, and the totals."""

    steps: int = 0
    calls: int = 0
    compilations: int | None = 0
    totals: Totals


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a session is made of."""

    trial: Trial
    data: Data
    made: Network
    objective: Objective
    updater: Updater
    metrics: dict[str, keras.metrics.Metric]
    backend: Backend


def _board(parts: _Parts) -> Board | None:
    """Return where a trial's weights and scores are noted for TensorBoard, if that was asked for."""
    if not parts.trial.setting.tensorboard:
        return None
    from harness.workloads.training.board import Board  # TensorBoard's package is for those who ask for it

    with parts.made.head.put_on():
        return Board(saved.structure(parts.made.model), parts.trial.trial_id)


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


class _Session:
    """What all engines share: a trial's parts, its order of samples, what is looked at and kept besides."""

    facts: Facts

    def __init__(self, parts: _Parts, engine: str) -> None:
        self._parts = parts
        self._trial, self._data, self._made = parts.trial, parts.data, parts.made
        self._objective, self._updater, self._backend = parts.objective, parts.updater, parts.backend
        self._engine = engine
        self._order: NDArray[np.int32] | None = None
        self._board = _board(parts)
        self._seen = Scores(), Scores()  # of the last epoch: as trained, held out

    def before_epoch(self, epoch: int) -> None:
        if self._trial.setting.shuffle:
            self._order = initial.shuffled(self._trial.seed, epoch, self._data.train.rows)

    def _further_scores(self) -> dict[str, float]:
        """Return the further metrics of the held-out part, by name."""
        if not self._parts.metrics:
            return {}
        self._backend.settle(self._made, self._updater)
        tally = Tally(self._parts.metrics, self._objective)
        for x, y in self._data.held_out.slices(_EVAL_BATCH):
            tally.add(y, self._made.outputs(x, training=False))
        return tally.results()

    def observe(self, epoch: int) -> None:
        if self._board is None:
            return
        self._backend.settle(self._made, self._updater)
        # Numbered, since Keras's own names of layers depend on what the process has built before.
        variables = enumerate(self._made.model.trainable_variables, start=1)
        weights = {f"weights/{n:02d}_{one.name}": np.array(ops.convert_to_numpy(one.value)) for n, one in variables}
        trained, held_out = self._seen
        self._board.histograms(epoch, weights)
        self._board.scalars(epoch, {"loss": trained.loss, "accuracy": trained.accuracy})
        further = {f"val_{name}": value for name, value in held_out.extra.items()}
        self._board.scalars(epoch, {"val_loss": held_out.loss, "val_accuracy": held_out.accuracy, **further})

    def snapshot(self) -> list[NDArray[Any]]:
        self._backend.settle(self._made, self._updater)
        return [np.array(ops.convert_to_numpy(variable.value)) for variable in self._made.model.variables]

    def restore(self, snapshot: list[NDArray[Any]]) -> None:
        self._backend.settle(self._made, self._updater)
        for variable, value in zip(self._made.model.variables, snapshot, strict=True):
            variable.assign(value)
        self._backend.begin(self._made, self._updater)

    def keep(self) -> Kept | None:
        self._backend.settle(self._made, self._updater)
        values = [np.array(ops.convert_to_numpy(variable.value)) for variable in self._variables()]
        arrays = {f"variable/{number}": value for number, value in enumerate(values)}
        arrays |= {f"random/{name}": value for name, value in self._backend.random_state().items()}
        plain: dict[str, Any] = {"variables": self._shapes(), "place": self._place_in_epoch()}
        if self._board is not None:
            (plain["board"], events), *_ = self._board.files().items()
            arrays["board"] = np.frombuffer(events, np.uint8)
        return Kept(plain=plain, arrays=arrays)

    def resume(self, kept: Kept) -> None:
        if kept.plain["variables"] != self._shapes():
            raise StateError("model or optimizer have other variables than those that were saved")
        for number, variable in enumerate(self._variables()):
            variable.assign(cast(kept.arrays[f"variable/{number}"], variable.dtype))
        self._backend.begin(self._made, self._updater)
        states = {name: value for name, value in kept.arrays.items() if name.startswith("random/")}
        self._backend.set_random_state({name.removeprefix("random/"): value for name, value in states.items()})
        if self._board is not None:
            self._board.resume(kept.plain["board"], kept.arrays["board"].tobytes())

    def _variables(self) -> list[Any]:
        """Return all that training changes, the learning rate and the seeds of random numbers included."""
        return [*self._made.model.variables, *self._updater.optimizer.variables]

    def _shapes(self) -> list[list[Any]]:
        return [[list(variable.shape), str(variable.dtype)] for variable in self._variables()]

    def _place_in_epoch(self) -> Any:
        """Return how far the epoch in training has come, as JSON; None between two."""
        return None

    def files(self) -> dict[str, bytes]:
        kept = {} if self._board is None else self._board.files()
        if self._trial.setting.save_model:
            self._backend.settle(self._made, self._updater)
            with self._made.head.put_on():
                kept |= saved.files(self._made.model, self._trial, self._data.preparation)
        return kept

    def drain(self) -> None:
        self._backend.drain()

    def close(self) -> None:
        pass

    def _compilations_since(self, before: int | None) -> int | None:
        now = self._backend.compilations()
        return None if before is None or now is None else now - before

    def _facts(self, reason: str | None, *, reused: bool, step_flops: float | None = None) -> Facts:
        data, versions = self._data, self._backend.versions()
        return Facts(
            engine=self._engine,
            engine_reason=reason,
            program_reused=reused,
            parameters=self._made.parameters,
            train_samples=data.train.rows,
            val_samples=data.held_out.rows,
            classes=data.classes,
            train_class_counts=data.train_class_counts,
            val_class_counts=data.val_class_counts,
            threads=self._backend.threads(),
            step_flops=step_flops,
            flops_source=None if step_flops is None else self._backend.flops_source,
            versions=", ".join(
                f"{name} {version}"
                for name, version in {**versions, "keras": keras.__version__, "numpy": np.__version__}.items()
            ),
        )


class _CompiledSession(_Session):
    """A trial on programs of its own shape: whole epochs, or single steps, as calls."""

    def __init__(self, parts: _Parts, engine: str, reason: str | None) -> None:
        super().__init__(parts, engine)
        self._compiled = 0
        self._place: _Place | None = None  # in the epoch that is being trained, or that is to go on
        self._batch = self._trial.setting.batch_size
        self._eval_batch = _divisor(self._data.held_out.rows, _EVAL_BATCH)
        whole = self._prepare(self._data.train, self._batch, self._train_program)
        self._prepare(self._data.held_out, self._eval_batch, self._eval_program)
        flops = None if whole is None else whole.step_flops
        self.facts = self._facts(reason, reused=self._compiled == 0, step_flops=flops)

    def evaluate(self) -> Scores | None:
        swept = self._sweep(
            self._data.held_out,
            None,
            self._eval_batch,
            self._eval_program,
            CHUNK_S,
            _Place(totals=self._backend.zero()),
            lambda place: None,
        )
        scores = self._scores(swept.totals, self._data.held_out.rows, extra=self._further_scores())
        self._seen = self._seen[0], scores
        return scores

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        chunk_s = CHUNK_S if self._trial.setting.dispatch == "epoch" else None
        begun = self._place or _Place(totals=self._backend.zero())
        before = self._backend.compilations()

        def reached(place: _Place) -> None:
            since = self._compilations_since(before)
            known = None if since is None or begun.compilations is None else begun.compilations + since
            self._place = replace(place, compilations=known)
            tick()

        swept = self._sweep(self._data.train, self._order, self._batch, self._train_program, chunk_s, begun, reached)
        self._place, place = None, self._place or begun
        rows = self._data.train.rows
        scores = self._scores(swept.totals, rows)
        self._seen = scores, self._seen[1]
        return EpochResult(
            samples=rows, steps=swept.steps, chunks=swept.calls, train=scores, compilations=place.compilations
        )

    def resume(self, kept: Kept) -> None:
        super().resume(kept)
        place = kept.plain["place"]
        if place is not None:
            loss, hits = place.pop("loss"), place.pop("hits")
            self._place = _Place(**place, totals=self._backend.zero(loss, hits))

    def _place_in_epoch(self) -> Any:
        place = self._place
        if place is None:
            return None
        loss, hits = self._backend.read(place.totals)
        plain = {"steps": place.steps, "calls": place.calls, "compilations": place.compilations}
        return {**plain, "loss": loss, "hits": hits}

    def _sweep(
        self,
        part: Part,
        order: NDArray[np.int32] | None,
        batch: int,
        program_for: Callable[[int, Block], Program],
        chunk_s: float | None,
        place: _Place,
        reached: Callable[[_Place], None],
    ) -> _Place:
        """Go once over a part of the data, from a place in it on, to its end; return what that is."""
        done = place.steps * batch  # samples; more than there are where the last, short batch is done too
        if done >= part.rows:
            return place
        first, done = divmod(done, part.block_rows(batch))
        for block in part.blocks(order, batch, first=first):
            full, rest = divmod(block.rows, batch)
            for size, offset, count in ((batch, done, full - done // batch), (rest, full * batch, 1 if rest else 0)):
                if count:
                    place = self._run(program_for(size, block), block, size, offset, count, place, chunk_s, reached)
            done = 0
        return place

    def _run(
        self,
        program: Program,
        block: Block,
        batch: int,
        offset: int,
        count: int,
        place: _Place,
        chunk_s: float | None,
        reached: Callable[[_Place], None],
    ) -> _Place:
        """Run `count` batches from sample `offset` on; return the new place.

        The calls are cut so that each takes at most about `chunk_s`, by what a batch took before; None: a batch a
        call, none of them waited for. `reached` is called once the device has done what it was asked.
        """
        totals, steps, calls = place.totals, place.steps, place.calls
        if chunk_s is None:
            for step in range(count):
                totals = program(block, offset + step * batch, 1, totals)
            self._backend.read(totals)
            place = _Place(steps=steps + count, calls=calls + count, totals=totals)
            reached(place)
            return place
        while count > 0:
            size = 1 if program.step_s is None else max(1, min(count, int(chunk_s / program.step_s)))
            began = time.perf_counter()
            totals = program(block, offset, size, totals)
            self._backend.read(totals)
            program.step_s = (time.perf_counter() - began) / size
            steps, calls = steps + size, calls + 1
            place = _Place(steps=steps, calls=calls, totals=totals)
            reached(place)
            offset += size * batch
            count -= size
        return place

    def _prepare(self, part: Part, batch: int, program_for: Callable[[int, Block], Program]) -> Program | None:
        """Compile every program that a sweep over the part needs; return the one for full batches, if there are any."""
        block = next(iter(part.blocks(None, batch)))
        whole = program_for(batch, block) if part.rows >= batch else None
        if part.rows % batch:
            program_for(part.rows % batch, block)
        return whole

    def _train_program(self, batch: int, block: Block) -> Program:
        key = ("train", self._engine, self._updater, self._objective.key, batch, *_shapes(block))
        program = self._made.programs.get(key)
        if program is None:
            self._compiled += 1
            signature = f"{self._trial.program_key} {self._trial.setting.epochs}"
            program = self._backend.train_program(
                self._made, self._updater, self._objective, batch, block, self._engine, signature
            )
            self._made.programs.put(key, program)
        return program

    def _eval_program(self, batch: int, block: Block) -> Program:
        key = ("eval", self._objective.key, batch, *_shapes(block))
        program = self._made.programs.get(key)
        if program is None:
            self._compiled += 1
            program = self._backend.eval_program(self._made, self._objective, batch, block, self._trial.program_key)
            self._made.programs.put(key, program)
        return program

    def _scores(self, totals: Totals, rows: int, extra: Mapping[str, float] | None = None) -> Scores:
        loss, hits = self._backend.read(totals)
        accuracy = None if self._objective.form == "numbers" else hits / rows
        return Scores(loss=loss / rows, accuracy=accuracy, extra=extra or {})


class _FitSession(_Session):
    """A trial on `model.fit`, an epoch a call: for what nothing else can compile, and to compare with."""

    def __init__(self, parts: _Parts, engine: str, reason: str | None) -> None:
        super().__init__(parts, engine)
        self._model = self._made.model
        self._training = False
        self._x, self._y = self._host(self._data.train)
        self._val = self._host(self._data.held_out)
        # What none of the back end's engines compiles can only be run operation by operation.
        self._model.compile(
            optimizer=self._updater.optimizer,
            loss=_AsLoss(self._objective),
            metrics=[] if self._objective.form == "numbers" else [_as_accuracy(self._objective)],
            run_eagerly=(self._backend.engines[-2], self._objective.key, self._updater.key) in self._made.unfit,
        )
        size = self._trial.setting.batch_size
        self._model.fit(self._x[:size], self._y[:size], batch_size=size, verbose=0)  # traces; undone by the reset
        self._model.evaluate(*self._val, batch_size=_EVAL_BATCH, verbose=0)
        self.facts = self._facts(reason, reused=False)

    def _host(self, part: Part) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.array(ops.convert_to_numpy(part.x)), np.array(ops.convert_to_numpy(part.y))

    def keep(self) -> Kept | None:
        return None if self._training else super().keep()  # Keras's loop cannot be left in its middle

    def evaluate(self) -> Scores | None:
        x, y = self._val
        logs = self._model.evaluate(x, y, batch_size=_EVAL_BATCH, verbose=0, return_dict=True)
        scores = self._scores(logs, extra=self._further_scores())
        self._seen = self._seen[0], scores
        return scores

    def before_epoch(self, epoch: int) -> None:
        super().before_epoch(epoch)
        self._shuffled = (self._x, self._y) if self._order is None else (self._x[self._order], self._y[self._order])

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        x, y = self._shuffled
        size = self._trial.setting.batch_size
        before = self._backend.compilations()
        between = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: tick())
        self._training = True
        history = self._model.fit(x, y, batch_size=size, shuffle=False, verbose=0, callbacks=[between]).history
        self._training = False
        scores = self._scores({name: values[-1] for name, values in history.items()})
        self._seen = scores, self._seen[1]
        steps = -(-len(x) // size)
        compilations = self._compilations_since(before)
        return EpochResult(samples=len(x), steps=steps, chunks=steps, train=scores, compilations=compilations)

    @staticmethod
    def _scores(logs: Mapping[str, float], extra: Mapping[str, float] | None = None) -> Scores:
        accuracy = logs.get("accuracy")
        return Scores(
            loss=float(logs["loss"]), accuracy=None if accuracy is None else float(accuracy), extra=extra or {}
        )


class _AsLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """An objective as a loss of Keras's, for targets as they are stored."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(name="objective", reduction=None)
        self._objective = objective

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self._objective.loss(_flat(self._objective, y_true), y_pred)


def _as_accuracy(objective: Objective) -> keras.metrics.Metric:
    def right(y_true: Any, y_pred: Any) -> Any:
        return objective.right(_flat(objective, y_true), y_pred)

    return keras.metrics.MeanMetricWrapper(right, name="accuracy")


def _flat(objective: Objective, y: Any) -> Any:
    """Return labels as they are stored: Keras's loop gives them a second axis, or another type."""
    return y if objective.form == "numbers" else ops.cast(ops.reshape(y, (-1,)), "int32")


def _shapes(block: Block) -> tuple[Any, ...]:
    return tuple(block.x.shape), tuple(block.y.shape)


def _divisor(rows: int, limit: int) -> int:
    """Return the batch to evaluate by: the largest divisor of `rows` in the upper half of `limit`, or `limit`."""
    if rows <= limit:
        return rows
    return next((size for size in range(limit, limit // 2, -1) if rows % size == 0), limit)
