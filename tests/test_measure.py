"""The clock and the outcome, with a workload that does what it is told."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.domain.component import Component
from harness.domain.handy import early_stopping, program
from harness.domain.outcome import Energy, EpochRecord, Facts, Outcome, Scores
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.measure import Body, WorkerState, run_trial
from harness.measure.epochs import MeasuredEpochs
from harness.measure.process import Edge
from harness.workloads.protocol import EpochResult, Stopwatch, Tick


@dataclass
class Clock:
    """A clock that only moves when told to."""

    time_s: float = 100.0

    def __call__(self) -> float:
        return self.time_s

    def advance(self, seconds: float) -> None:
        self.time_s += seconds


@dataclass
class Fake:
    """A workload and its session; each hook is called where its name says, and may advance the clock or raise."""

    clock: Clock = field(default_factory=Clock)
    in_build: Callable[[], None] = lambda: None
    in_epoch: Callable[[int], None] = lambda epoch: None
    in_drain: Callable[[], None] = lambda: None
    loss: Callable[[int], float] = lambda epoch: 1.0 / epoch
    val_loss: Callable[[int], float] = lambda epoch: 2.0
    queued_s: float = 0.0
    closed: bool = False
    weights: int = 0  # the epoch that they were last trained in
    snapshots: list[int] = field(default_factory=list)
    facts: Facts = field(default_factory=lambda: Facts(engine="fake", program_reused=False))

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        pass

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> Fake:
        with watch.measuring("data"):
            self.clock.advance(1)
        with watch.measuring("build"):
            self.clock.advance(2)
            self.in_build()
            with watch.measuring("compile"):
                self.clock.advance(4)
        return self

    def evaluate(self) -> Scores:
        self.clock.advance(0.5)
        return Scores(loss=self.val_loss(self.weights), accuracy=0.25, extra={"r2_score": 0.125})

    def before_epoch(self, epoch: int) -> None:
        self.clock.advance(0.125)

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        self.clock.advance(8)
        self.in_epoch(epoch)
        self.weights = epoch
        tick()
        return EpochResult(samples=80, steps=8, train=Scores(loss=self.loss(epoch), accuracy=0.5))

    def observe(self, epoch: int) -> None:
        self.clock.advance(0.0625)

    def snapshot(self) -> int:
        self.clock.advance(0.03125)
        self.snapshots.append(self.weights)
        return self.weights

    def restore(self, snapshot: int) -> None:
        self.weights = snapshot

    def files(self) -> dict[str, bytes]:
        return {"weights.txt": str(self.weights).encode()}

    def drain(self) -> None:
        self.in_drain()
        self.clock.advance(self.queued_s)
        self.queued_s = 0.0

    def close(self) -> None:
        self.closed = True


def run(fake: Fake, *, epochs: int = 2, on_epoch: Any = None, on_progress: Any = None, **fields: Any) -> Outcome:
    worker = WorkerState(workloads={"tensorflow.training": fake})
    trial = Trial(setting=Setting(epochs=epochs, batch_size=64, **fields), seed=0, repeat=0)
    return run_trial(trial, worker, on_epoch or (lambda epoch: None), on_progress, now=fake.clock)


def fails(error: BaseException, *, at: int = 2) -> Callable[[int], None]:
    def fail(epoch: int) -> None:
        if epoch == at:
            raise error

    return fail


def test_every_second_of_a_trial_stands_under_one_stopwatch() -> None:
    fake = Fake()
    outcome = run(fake, on_epoch=lambda epoch: fake.clock.advance(0.25), on_progress=lambda: fake.clock.advance(0.75))
    watches = outcome.watches
    assert (watches.data_s, watches.build_s, watches.compile_s) == (1.25, 2, 4)
    assert (watches.train_s, watches.eval_s, watches.record_s) == (16, 1.5, 2.125)
    assert watches.unattributed_s == 0
    assert watches.wall_s == 26.875


def test_the_clock_of_training_is_training_alone() -> None:
    fake = Fake()
    outcome = run(fake, on_progress=lambda: fake.clock.advance(3))
    assert [(epoch.train_s, epoch.eval_s, epoch.elapsed_train_s) for epoch in outcome.epochs] == [
        (8, 0.5, 8), (8, 0.5, 16),
    ]  # fmt: skip


def test_work_that_the_device_has_only_queued_is_in_the_epochs_time() -> None:
    fake = Fake()

    def queue(epoch: int) -> None:
        fake.queued_s = 5.0

    fake.in_epoch = queue
    assert [epoch.train_s for epoch in run(fake).epochs] == [13, 13]


def test_work_queued_before_an_epoch_is_not_in_its_time() -> None:
    fake = Fake()
    fake.queued_s = 7.0
    assert run(fake, epochs=1).epochs[0].train_s == 8


def test_the_untrained_model_is_scored_before_the_first_epoch() -> None:
    facts = run(Fake()).facts
    assert (facts.initial_val_loss, facts.initial_val_accuracy) == (2.0, 0.25)


def test_the_first_epoch_of_a_new_program_is_flagged_and_kept() -> None:
    assert [epoch.warmup for epoch in run(Fake()).epochs] == [True, False]
    assert [epoch.warmup for epoch in run(Fake(facts=Facts(program_reused=True))).epochs] == [False, False]


def test_an_error_keeps_the_epochs_before_it_and_says_where_it_was() -> None:
    fake = Fake(in_epoch=fails(ValueError("wrong\nin detail")))
    outcome = run(fake)
    assert (outcome.status, outcome.step, len(outcome.epochs)) == ("failed", "train", 1)
    assert outcome.error == "ValueError: wrong"
    assert "in detail" in str(outcome.error_detail)
    assert outcome.facts.engine == "fake"
    assert outcome.facts.initial_val_loss == 2.0
    assert outcome.watches.train_s == 16
    assert fake.closed


def test_an_error_while_building_is_said_to_be_there() -> None:
    def fail() -> None:
        raise KeyError("units")

    assert run(Fake(in_build=fail)).step == "build"


def test_memory_that_runs_out_names_the_batch_size() -> None:
    for error in (MemoryError("no room"), type("ResourceExhaustedError", (Exception,), {})("no room")):
        outcome = run(Fake(in_epoch=fails(error)))
        assert "out of memory at batch_size=64" in str(outcome.error)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_trial_and_its_epoch_is_kept(loss: float) -> None:
    outcome = run(Fake(loss=lambda epoch: loss if epoch == 2 else 1.0), epochs=5)
    assert (outcome.status, outcome.step, len(outcome.epochs)) == ("failed", "train", 2)
    assert f"diverged: loss is {loss} at epoch 2; lower the learning rate, now 0.01" in str(outcome.error)


def test_a_timeout_out_of_progress_ends_the_trial_as_one() -> None:
    def late() -> None:
        raise TimeoutError("timed out after 5 s")

    outcome = run(Fake(), on_progress=late)
    assert (outcome.status, outcome.error) == ("timeout", "timed out after 5 s")


def test_a_timeout_of_the_workloads_own_is_a_failure() -> None:
    assert run(Fake(in_epoch=fails(TimeoutError("no answer")))).status == "failed"


def test_ctrl_c_goes_through_and_closes_the_session() -> None:
    fake = Fake(in_epoch=fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(fake)
    assert fake.closed


def test_epochs_are_handed_over_one_by_one() -> None:
    seen: list[EpochRecord] = []
    outcome = run(Fake(), epochs=3, on_epoch=seen.append)
    assert tuple(seen) == outcome.epochs


def test_the_garbage_collector_rests_while_an_epoch_is_timed() -> None:
    states: list[bool] = []
    run(Fake(in_epoch=lambda epoch: states.append(gc.isenabled())))
    assert states == [False, False]
    assert gc.isenabled()


def test_further_metrics_are_recorded_as_those_of_the_held_out_part() -> None:
    assert run(Fake(), epochs=1).epochs[0].extra == {"val_r2_score": 0.125}


# Early stopping: the losses of the epochs, the rule, and the epochs run and the best that come of it. ---------------


def held_out(*losses: float) -> Fake:
    return Fake(val_loss=lambda epoch: losses[epoch - 1] if epoch else 9.0)


@pytest.mark.parametrize(
    ("losses", "rule", "ran", "best", "stopped"),
    [
        ([3, 2, 1, 0.5], early_stopping(), 4, 4, False),
        ([3, 2, 2, 0.5], early_stopping(), 3, 2, True),
        ([3, 2, 2, 0.5], early_stopping(patience=1), 3, 2, True),
        ([3, 2, 2.5, 2, 0.5], early_stopping(patience=2), 4, 2, True),
        ([3, 2, 2.5, 1, 1, 1], early_stopping(patience=2), 6, 4, False),
        ([3, 2.95, 2.9, 2.8], early_stopping(min_delta=0.1, patience=2), 3, 1, True),
        ([3, 3.5], early_stopping(), 2, 1, False),
    ],
)
def test_a_training_ends_after_patience_epochs_without_an_improvement(
    losses: list[float], rule: Component, ran: int, best: int, stopped: bool
) -> None:
    outcome = run(held_out(*losses), epochs=len(losses), early_stopping=rule)
    assert outcome.status == "completed"
    assert (len(outcome.epochs), outcome.facts.best_epoch, outcome.facts.stopped_early) == (ran, best, stopped)


def test_a_metric_of_which_more_is_better_is_taken_so() -> None:
    rule = early_stopping("accuracy", patience=2)
    assert len(run(Fake(), epochs=5, early_stopping=rule).epochs) == 3


def test_best_weights_are_brought_back_off_the_clock_before_anything_is_kept() -> None:
    fake = held_out(3, 2, 2.5, 2.5, 1)
    outcome = run(fake, epochs=5, early_stopping=early_stopping(patience=2, best_weights=True))
    assert fake.snapshots == [1, 2]
    assert outcome.files == {"weights.txt": b"2"}
    assert outcome.watches.record_s == 4 * 0.0625 + 2 * 0.03125
    assert outcome.watches.unattributed_s == 0


def test_without_early_stopping_nothing_is_said_of_it_and_the_last_weights_are_kept() -> None:
    fake = held_out(1, 2)
    outcome = run(fake)
    assert (outcome.facts.best_epoch, outcome.facts.stopped_early, fake.snapshots) == (None, None, [])
    assert outcome.files == {"weights.txt": b"2"}


def test_nothing_is_kept_of_a_trial_that_failed() -> None:
    assert run(Fake(loss=lambda epoch: float("nan"))).files == {}
    assert run(Fake(in_epoch=fails(ValueError()))).files == {}


# A back end that is not installed. ----------------------------------------------------------------------------------


def test_a_back_end_that_is_not_installed_fails_its_trials_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "harness.workloads.training.jax", None)
    body = Body()
    body.preload("jax")
    body.prepare("jax")
    trial = Trial(setting=Setting(backend="jax"), seed=0, repeat=0)
    assert body.check(trial) is None
    body.prime(trial)
    outcome = body.run(trial, lambda epoch: None)
    assert outcome.status == "failed"
    assert f"the back end 'jax' is not installed on node {platform.node()}: pip install 'harness[jax]'" in str(
        outcome.error
    )


def test_a_worker_counts_its_trials() -> None:
    fake = Fake()
    worker = WorkerState(workloads={"tensorflow.training": fake})
    trial = Trial(setting=Setting(), seed=0, repeat=0)
    before = [run_trial(trial, worker, lambda epoch: None).facts.worker_trials_before for _ in range(3)]
    assert before == [0, 1, 2]


def test_measuring_imports_no_back_end() -> None:
    code = (
        "import sys, harness.measure, harness.workloads.function; "
        "print(sorted({'tensorflow', 'keras', 'ray', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@dataclass
class Meter:
    """Counters of a device that uses 100 W while the clock runs, read as often as asked."""

    clock: Clock
    reads: list[float] = field(default_factory=list)

    def read(self) -> dict[str, float]:
        self.reads.append(self.clock())
        return {"gpu:GPU-0": 100.0 * self.clock()}

    def between(self, before: Mapping[str, float], after: Mapping[str, float]) -> Energy:
        return Energy(gpu_j=after["gpu:GPU-0"] - before["gpu:GPU-0"], gpu_coverage=1.0)


def run_with(worker: WorkerState, fake: Fake, *, epochs: int = 2) -> Outcome:
    worker.workloads["tensorflow.training"] = fake
    trial = Trial(setting=Setting(epochs=epochs, batch_size=64), seed=0, repeat=0)
    return run_trial(trial, worker, lambda epoch: None, now=fake.clock)


def test_energy_counters_are_read_at_the_edges_of_each_timed_span_and_of_the_trial() -> None:
    fake = Fake()
    meter = Meter(fake.clock)
    outcome = run_with(WorkerState(meter=meter), fake)  # type: ignore[arg-type]
    assert [epoch.energy and epoch.energy.gpu_j for epoch in outcome.epochs] == [800.0, 800.0]
    assert outcome.facts.energy is not None
    assert outcome.facts.energy.gpu_j == pytest.approx(100.0 * outcome.watches.wall_s)
    assert len(meter.reads) == 2 + 2 * 2


def test_without_a_counter_there_is_no_energy_rather_than_none_used() -> None:
    outcome = run_with(WorkerState(), Fake())
    assert outcome.facts.energy is None
    assert {epoch.energy for epoch in outcome.epochs} == {None}


def test_setting_the_wall_clock_bends_no_time_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, fake = WorkerState(), Fake()
    real = time.time
    step_s = [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + step_s[0])

    def set_the_clock_back(epoch: int) -> None:
        step_s[0] = -3600.0

    fake.in_epoch = set_the_clock_back
    outcome = run_with(worker, fake)
    assert outcome.facts.clock_step_s == pytest.approx(-3600.0, abs=60.0)
    times = [outcome.started_at]
    for epoch in outcome.epochs:
        times += [epoch.started_at, epoch.ended_at]
    times.append(outcome.ended_at)
    assert times == sorted(times)


def test_all_workers_of_a_node_take_the_time_that_they_are_told() -> None:
    body = Body()
    body.clock(1e9 - time.perf_counter())
    assert body._state.unix_s() == pytest.approx(1e9, abs=60.0)


def test_what_changed_around_a_trial_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Edge(wall_s=1000.0, steady_s=10.0, raw_s=5.0, major_faults=3, switches=40, counters=None)
    after = Edge(wall_s=1012.5, steady_s=20.0, raw_s=13.0, major_faults=4, switches=47, counters=None)
    monkeypatch.setattr(Edge, "read", lambda worker: after)
    facts = before.told(Facts(), WorkerState(), others=False)
    assert facts.clock_step_s == 2.5  # the wall clock was set by so much
    assert facts.clock_drift == 0.25  # the steady clock went by 10 s while the hardware's went by 8
    assert (facts.major_faults, facts.involuntary_switches) == (1, 7)


def test_the_workers_own_faults_and_switches_are_not_told_of_a_program() -> None:
    worker, fake = WorkerState(), Fake()
    worker.workloads["program"] = fake
    trial = Trial(setting=Setting(workload=program("true"), epochs=1), seed=0, repeat=0)
    facts = run_trial(trial, worker, lambda epoch: None, now=fake.clock).facts
    assert (facts.major_faults, facts.involuntary_switches) == (None, None)


def test_the_energy_of_an_epoch_of_many_spans_is_their_sum_and_lacks_what_one_lacks() -> None:
    clock = Clock()
    epochs = MeasuredEpochs(
        Trial(setting=Setting(), seed=0, repeat=0), Stopwatch(clock), lambda epoch: None, None, None
    )
    spent = [Energy(gpu_j=1.0, gpu_coverage=1.0, cpu_j=2.0, cpu_coverage=1.0)] * 2
    spent += [Energy(gpu_j=4.0, gpu_coverage=0.5, cpu_coverage=0.0)]

    class Told(Meter):
        def between(self, before: Mapping[str, float], after: Mapping[str, float]) -> Energy:
            return spent.pop(0)

    epochs._meter = Told(clock)  # type: ignore[assignment]
    for _ in range(3):
        with epochs.training():
            clock.advance(1.0)
    epochs.record(EpochResult(samples=1))
    assert epochs.records[0].energy == Energy(gpu_j=6.0, gpu_coverage=0.5, cpu_j=None, cpu_coverage=0.0)
    epochs.begin()
    epochs._meter = None
    with epochs.training():
        clock.advance(1.0)
    epochs.record(EpochResult(samples=1))
    assert epochs.records[1].energy is None


def test_a_back_end_that_cannot_be_calibrated_tells_nothing_and_raises_nothing() -> None:
    class Broken:
        def calibrate(self) -> Mapping[str, Any]:
            raise RuntimeError("CUDA error: no kernel image is available")

    body = Body()
    body._backend = Broken()  # type: ignore[assignment]
    assert body.calibrate() == {}
