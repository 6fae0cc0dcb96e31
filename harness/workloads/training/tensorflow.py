"""The training engine on TensorFlow: Keras's mathematics, a whole epoch in one compiled program.

Which engine runs is a rule, not a timing: on a CPU, a model that draws random numbers, convolves or takes maxima of
windows runs as a graph, everything else under XLA; `engine` in the setting overrides it. What an engine cannot compile
falls to the next of `ENGINES`.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from harness.domain.errors import SuiteError
from harness.domain.outcome import Facts, Scores
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.protocol import EpochResult, Load, Session, Stopwatch, Tick
from harness.workloads.training import initial, network, programs
from harness.workloads.training.feed import Block, Data, Part
from harness.workloads.training.programs import ENGINES, Network, Objective, Program, Recent, Totals, Updater

Sources = Mapping[str, Source]

CHUNK_S: Final = 1.5  # seconds that one call may take, about: time-outs and Ctrl-C wait no longer
_EVAL_BATCH: Final = 1024  # samples evaluated at once, at most


def prepare_process() -> None:
    """Size TensorFlow's thread pools to this process's share and touch the device, so that no trial pays for it."""
    threads = thread_count()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(int(os.environ.get("TF_NUM_INTEROP_THREADS", "1")))
    except RuntimeError:
        pass  # TensorFlow has started already: it keeps the sizes that it started with
    (tf.constant(1.0) + 1.0).numpy()
    gc.collect()
    gc.freeze()  # what the imports made need never be looked at again


def thread_count() -> int:
    """Return the size of the thread pool that computes: as configured, as the environment says, or one a core."""
    configured = int(tf.config.threading.get_intra_op_parallelism_threads())
    if configured:
        return configured
    stated = os.environ.get("TF_NUM_INTRAOP_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit() and int(stated) > 0:
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Training:
    """The workload named "training". `free_bytes` stands in for the device's free memory where it is given."""

    def __init__(self, load: Load, *, free_bytes: int | None = None) -> None:
        self._load_arrays = load
        self._free_bytes = free_bytes
        self._data: Recent[str, Data] = Recent(4)
        self._networks: Recent[str, Network] = Recent(16)

    def check(self, trial: Trial, sources: Sources) -> None:
        """Load the data and build model, loss and optimizer; raise what is wrong with them."""
        setting = trial.setting
        data = self._load(setting, sources)
        made = self._network(setting, data, sources)
        _objective(made, setting, data, sources)
        _updater(made, setting, sources)

    def open(self, trial: Trial, sources: Sources, watch: Stopwatch) -> Session:
        """Return the trial ready to train."""
        setting = trial.setting
        with watch.measuring("data"):
            data = self._load(setting, sources)
        with watch.measuring("build"):
            made = self._network(setting, data, sources)
            objective = _objective(made, setting, data, sources)
            updater = _updater(made, setting, sources)
        with watch.measuring("compile"):
            session = _session(trial, data, made, objective, updater)
        with watch.measuring("build"):
            made.recipes.initialise(trial.seed)
            updater.reset(_learning_rate(setting))
        return session

    def _load(self, setting: Setting, sources: Sources) -> Data:
        if setting.dataset is None or setting.model is None:
            missing = "dataset" if setting.dataset is None else "model"
            raise SuiteError(f"the workload 'training' needs a {missing}; add {missing}=... to the suite's base")
        key = _key(setting.dataset.plain())
        data = self._data.get(key)
        if data is None:
            data = self._data.put(key, Data.place(self._load_arrays(setting.dataset, sources), self._free_bytes))
        if setting.batch_size > data.train.rows:
            raise SuiteError(
                f"batch_size is {setting.batch_size}, more than the {data.train.rows} training samples of "
                f"{setting.dataset.name!r}; lower batch_size"
            )
        return data

    def _network(self, setting: Setting, data: Data, sources: Sources) -> Network:
        assert setting.model is not None
        outputs = data.classes or (data.target_shape or (1,))[-1]
        key = _key([setting.model.plain(), data.sample_shape, outputs])
        made = self._networks.get(key)
        if made is None:
            with initial.captured() as recipes_of:
                model = network.build_model(
                    setting.model, input_shape=data.sample_shape, outputs=outputs, sources=sources
                )
            made = self._networks.put(key, Network(model=model, recipes=recipes_of(model)))
        return made


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _objective(made: Network, setting: Setting, data: Data, sources: Sources) -> Objective:
    """Return the loss of a setting and how labels meet it.

    Raises:
        SuiteError: where the model's output does not fit the dataset's classes.
    """
    key = _key([setting.loss.plain(), data.classes])
    if key not in made.objectives:
        loss = network.build_loss(setting.loss, sources)
        form = _form(setting, made.model, data.classes)
        made.objectives[key] = Objective(loss=loss, form=form, classes=data.classes)
    return made.objectives[key]


def _form(setting: Setting, model: keras.Model, classes: int | None) -> str:
    if classes is None:
        return "numbers"
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise SuiteError(f"the model's output has the shape {shape}; a classifier's is (None, {classes})")
    sparse = setting.loss.name.startswith("sparse_")
    if shape[1] == 1 and classes == 2 and not sparse:
        return "column"
    if shape[1] != classes:
        raise SuiteError(
            f"the model ends in {shape[1]} outputs, but the dataset has {classes} classes; "
            f"make its last layer {classes} wide"
        )
    return "labels" if sparse else "one_hot"


def _updater(made: Network, setting: Setting, sources: Sources) -> Updater:
    """Return the optimizer of a setting; those that differ only in a plain learning rate are one."""
    plain = setting.optimizer.plain()
    if _learning_rate(setting) is not None:
        del plain["learning_rate"]
    key = _key(plain)
    updater = made.updaters.get(key)
    if updater is None:
        optimizer = network.build_optimizer(setting.optimizer, sources)
        updater = made.updaters.put(key, Updater.build(optimizer, made.model))
    return updater


def _learning_rate(setting: Setting) -> float | None:
    """Return the learning rate where it is a plain number, which a program holds in a variable."""
    rate = setting.optimizer.args.get("learning_rate")
    return float(rate) if isinstance(rate, int | float) and setting.optimizer.name != "function" else None


def _session(trial: Trial, data: Data, made: Network, objective: Objective, updater: Updater) -> Session:
    """Return a session on the first engine that can compile the trial."""
    engine, reason = _first_choice(trial.setting, made)
    for candidate in ENGINES[ENGINES.index(engine) :]:
        if candidate not in made.unfit:
            kind = _FitSession if candidate == "fit" else _CompiledSession
            try:
                return kind(trial, data, made, objective, updater, candidate, reason)
            except tf.errors.ResourceExhaustedError:
                raise
            except (tf.errors.OpError, NotImplementedError) as error:
                if candidate == ENGINES[-1]:
                    raise
                made.unfit[candidate] = next(line for line in [*str(error).splitlines(), "?"] if line.strip())[:200]
        reason = f"{candidate} cannot compile it: {made.unfit[candidate]}"
    raise AssertionError("the last engine either runs or raises")


def _first_choice(setting: Setting, made: Network) -> tuple[str, str | None]:
    if setting.engine != "auto":
        return setting.engine, None
    if made.slow_under_xla is not None and not tf.config.list_logical_devices("GPU"):
        return "graph", f"the model {made.slow_under_xla}, which XLA is slow at on a CPU"
    return "xla", None


class _CompiledSession:
    """A trial on programs of its own shape: whole epochs, or single steps, as calls."""

    def __init__(
        self,
        trial: Trial,
        data: Data,
        made: Network,
        objective: Objective,
        updater: Updater,
        engine: str,
        reason: str | None,
    ) -> None:
        self._trial, self._data, self._made = trial, data, made
        self._objective, self._updater, self._jit = objective, updater, engine == "xla"
        self._compiled = 0
        self._order: np.ndarray[Any, np.dtype[np.int32]] | None = None
        self._batch = trial.setting.batch_size
        self._eval_batch = _divisor(data.held_out.rows, _EVAL_BATCH)
        self._prepare(data.train, self._batch, self._train_program)
        self._prepare(data.held_out, self._eval_batch, self._eval_program)
        self.facts = _facts(made, data, engine, reason, reused=self._compiled == 0)

    def evaluate(self) -> Scores | None:
        totals, _, _ = self._sweep(self._data.held_out, None, self._eval_batch, self._eval_program, CHUNK_S, _nothing)
        return self._scores(totals, self._data.held_out.rows)

    def before_epoch(self, epoch: int) -> None:
        if self._trial.setting.shuffle:
            self._order = initial.shuffled(self._trial.seed, epoch, self._data.train.rows)

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        chunk_s = CHUNK_S if self._trial.setting.dispatch == "epoch" else None
        totals, steps, chunks = self._sweep(
            self._data.train, self._order, self._batch, self._train_program, chunk_s, tick
        )
        rows = self._data.train.rows
        return EpochResult(samples=rows, steps=steps, chunks=chunks, train=self._scores(totals, rows))

    def drain(self) -> None:
        _drain()

    def close(self) -> None:
        pass

    def _sweep(
        self,
        part: Part,
        order: np.ndarray[Any, np.dtype[np.int32]] | None,
        batch: int,
        program_for: Callable[[int, Block], Program],
        chunk_s: float | None,
        tick: Tick,
    ) -> tuple[Totals, int, int]:
        """Go once over a part of the data; return the totals, the steps and the calls it took."""
        totals, steps, calls = Totals.zero(), 0, 0
        for block in part.blocks(order, batch):
            full, rest = divmod(block.rows, batch)
            for size, offset, count in ((batch, 0, full), (rest, full * batch, 1 if rest else 0)):
                if count:
                    program = program_for(size, block)
                    arguments = _arguments(program, block)
                    totals, made = programs.run(
                        program,
                        arguments,
                        offset=offset,
                        count=count,
                        totals=totals,
                        chunk_s=chunk_s,
                        after_chunk=tick,
                    )
                    calls += made
                    steps += count
        return totals, steps, calls

    def _prepare(self, part: Part, batch: int, program_for: Callable[[int, Block], Program]) -> None:
        """Compile every program that a sweep over the part needs."""
        block = next(iter(part.blocks(None, batch)))
        if part.rows >= batch:
            program_for(batch, block)
        if part.rows % batch:
            program_for(part.rows % batch, block)

    def _train_program(self, batch: int, block: Block) -> Program:
        key = ("train", self._jit, id(self._updater), id(self._objective), batch, *_shapes(block))
        program = self._made.programs.get(key)
        if program is None:
            self._compiled += 1
            arguments = (block.x, block.y, block.order)
            program = self._made.programs.put(
                key,
                programs.train_program(
                    self._made, self._updater, self._objective, batch, arguments, self._jit, self._trial.program_key
                ),
            )
        return program

    def _eval_program(self, batch: int, block: Block) -> Program:
        key = ("eval", id(self._objective), batch, *_shapes(block))
        program = self._made.programs.get(key)
        if program is None:
            self._compiled += 1
            program = self._made.programs.put(
                key,
                programs.eval_program(self._made, self._objective, batch, (block.x, block.y), self._trial.program_key),
            )
        return program

    def _scores(self, totals: Totals, rows: int) -> Scores:
        accuracy = None if self._objective.form == "numbers" else float(totals.hits) / rows
        return Scores(loss=float(totals.loss) / rows, accuracy=accuracy)


class _FitSession:
    """A trial on `model.fit`, an epoch a call: for what nothing else can compile, and to compare with."""

    def __init__(
        self,
        trial: Trial,
        data: Data,
        made: Network,
        objective: Objective,
        updater: Updater,
        engine: str,
        reason: str | None,
    ) -> None:
        self._trial, self._data, self._model, self._objective = trial, data, made.model, objective
        self._order: np.ndarray[Any, np.dtype[np.int32]] | None = None
        self._x, self._y = np.asarray(data.train.x), _targets(objective, data.train)
        self._val = np.asarray(data.held_out.x), _targets(objective, data.held_out)
        metrics = [] if objective.form == "numbers" else ["accuracy"]
        # A model that is no graph either can only be run operation by operation.
        self._model.compile(
            optimizer=updater.optimizer, loss=objective.loss, metrics=metrics, run_eagerly="graph" in made.unfit
        )
        size = trial.setting.batch_size
        self._model.fit(self._x[:size], self._y[:size], batch_size=size, verbose=0)  # traces; undone by the reset
        self.evaluate()
        self.facts = _facts(made, data, engine, reason, reused=False)

    def evaluate(self) -> Scores | None:
        x, y = self._val
        return self._scores(self._model.evaluate(x, y, batch_size=_EVAL_BATCH, verbose=0, return_dict=True))

    def before_epoch(self, epoch: int) -> None:
        if self._trial.setting.shuffle:
            order = initial.shuffled(self._trial.seed, epoch, len(self._x))
            self._shuffled = self._x[order], self._y[order]
        else:
            self._shuffled = self._x, self._y

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        x, y = self._shuffled
        size = self._trial.setting.batch_size
        between = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: tick())
        history = self._model.fit(x, y, batch_size=size, shuffle=False, verbose=0, callbacks=[between]).history
        scores = self._scores({name: values[-1] for name, values in history.items()})
        return EpochResult(samples=len(x), steps=-(-len(x) // size), chunks=-(-len(x) // size), train=scores)

    def drain(self) -> None:
        _drain()

    def close(self) -> None:
        pass

    @staticmethod
    def _scores(logs: Mapping[str, float]) -> Scores:
        return Scores(loss=float(logs["loss"]), accuracy=logs.get("accuracy"))


def _targets(objective: Objective, part: Part) -> Any:
    return objective.targets(tf.constant(part.y)).numpy()


def _arguments(program: Program, block: Block) -> tuple[Any, ...]:
    return (block.x, block.y, block.order) if program.training else (block.x, block.y)


def _shapes(block: Block) -> tuple[Any, ...]:
    return tuple(block.x.shape), tuple(block.y.shape)


def _divisor(rows: int, limit: int) -> int:
    """Return the batch to evaluate by: the largest divisor of `rows` in the upper half of `limit`, or `limit`."""
    if rows <= limit:
        return rows
    return next((size for size in range(limit, limit // 2, -1) if rows % size == 0), limit)


def _facts(made: Network, data: Data, engine: str, reason: str | None, *, reused: bool) -> Facts:
    return Facts(
        engine=engine,
        engine_reason=reason,
        program_reused=reused,
        parameters=made.parameters,
        train_samples=data.train.rows,
        val_samples=data.held_out.rows,
        threads=thread_count(),
        versions=f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}",
    )


def _drain() -> None:
    """Wait for GPUs; on a CPU a call returns when its work is done."""
    if tf.config.list_logical_devices("GPU"):
        tf.test.experimental.sync_devices()


def _nothing() -> None:
    pass
