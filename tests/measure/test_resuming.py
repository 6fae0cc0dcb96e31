"""A trial that goes on from a saved state: its clock, its epochs, what is refused.

That its weights have the same bits is held for each back end in tests/workloads/test_backends.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from harness.domain import sources, state
from harness.domain.component import function
from harness.domain.errors import HarnessError
from harness.domain.handy import early_stopping
from harness.domain.outcome import EpochRecord, Facts, Outcome, Scores
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.measure import Body, WorkerState, run_trial
from harness.workloads.protocol import EpochResult, Kept, Stopwatch, Tick

HALF_S = 4.0  # that half an epoch takes to train


@dataclass
class Clock:
    """A clock that only moves when told to."""

    time_s: float = 100.0

    def __call__(self) -> float:
        return self.time_s

    def advance(self, seconds: float) -> None:
        self.time_s += seconds


class Killed(BaseException):
    """What ends a process at once."""


@dataclass
class Halves:
    """A workload and its session whose epochs are of two halves. Its weight counts them; a state takes 2 s to make."""

    clock: Clock = field(default_factory=Clock)
    dies_in: tuple[int, int] | None = None  # epoch and half
    facts: Facts = field(default_factory=lambda: Facts(engine="fake", versions="fake 1", program_reused=False))
    weight: int = 0
    half: int = 0
    untrained: int = 0  # evaluations of the untrained weight

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None: ...

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> Halves:
        with watch.measuring("build"):
            self.clock.advance(1)
        return self

    def evaluate(self) -> Scores:
        self.untrained += not self.weight
        self.clock.advance(0.5)
        return Scores(loss=abs(5 - self.weight))

    def before_epoch(self, epoch: int) -> None: ...

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        while self.half < 2:
            self.clock.advance(HALF_S)
            if self.dies_in == (epoch, self.half):
                raise Killed
            self.weight, self.half = self.weight + 1, self.half + 1
            tick()
        self.half = 0
        return EpochResult(samples=8, steps=2, train=Scores(loss=1.0))

    def observe(self, epoch: int) -> None: ...

    def snapshot(self) -> list[np.ndarray]:
        return [np.array(self.weight)]

    def restore(self, snapshot: list[np.ndarray]) -> None:
        self.weight = int(snapshot[0])

    def keep(self) -> Kept:
        self.clock.advance(2)
        return Kept(plain={"half": self.half % 2}, arrays={"weight": np.array(self.weight)})

    def resume(self, kept: Kept) -> None:
        self.weight, self.half = int(kept.arrays["weight"]), kept.plain["half"]

    def files(self) -> dict[str, bytes]:
        return {"weight.txt": str(self.weight).encode()}

    def drain(self) -> None: ...

    def close(self) -> None: ...


def a_trial(*, checkpoint_s: float | None = 5.0, epochs: int = 4, **fields: Any) -> Trial:
    setting = Setting(epochs=epochs, batch_size=64, **fields)
    return Trial(setting=setting, seed=0, repeat=0, checkpoint_s=checkpoint_s)


def run(fake: Halves, trial: Trial, **options: Any) -> tuple[Outcome, list[EpochRecord], list[bytes]]:
    """Return the outcome, the epochs that were handed over, and the states."""
    told: list[EpochRecord] = []
    states: list[bytes] = []
    outcome = run_trial(
        trial,
        WorkerState(workloads={"tensorflow.training": fake}),
        told.append,
        now=fake.clock,
        on_state=states.append,
        **options,
    )
    return outcome, told, states


def cut_off(trial: Trial, dies_in: tuple[int, int], **options: Any) -> bytes:
    """Return the last state of a trial whose process died."""
    states: list[bytes] = []
    fake = Halves(dies_in=dies_in)
    worker = WorkerState(workloads={"tensorflow.training": fake})
    with pytest.raises(Killed):
        run_trial(trial, worker, lambda epoch: None, now=fake.clock, on_state=states.append, **options)
    return states[-1]


def test_the_training_clock_goes_on_from_that_of_the_state() -> None:
    trial = a_trial()
    whole, _, _ = run(Halves(), trial)
    state = cut_off(trial, (3, 1))  # saved in the middle of epoch 3
    resumed, told, _ = run(Halves(clock=Clock(5000.0)), trial, state=state)
    assert [epoch.elapsed_train_s for epoch in resumed.epochs] == [8.0, 16.0, 24.0, 32.0]
    assert [epoch.train_s for epoch in resumed.epochs] == [epoch.train_s for epoch in whole.epochs]
    assert [epoch.val_loss for epoch in resumed.epochs] == [epoch.val_loss for epoch in whole.epochs]
    assert resumed.watches.train_s == whole.watches.train_s == 32.0
    assert resumed.watches.eval_s == whole.watches.eval_s  # the untrained weight is not looked at again
    assert resumed.watches.build_s == 2.0  # each process has built it
    assert resumed.watches.unattributed_s == pytest.approx(0)
    assert tuple(told) == resumed.epochs  # also those of before
    assert resumed.files == whole.files == {"weight.txt": b"8"}


def test_the_row_says_that_it_was_resumed_and_where() -> None:
    trial = a_trial()
    second = cut_off(trial, (4, 0), state=cut_off(trial, (2, 1)))
    outcome, _, _ = run(Halves(), trial, state=second)
    assert state.glance(second).epoch == 2  # the last that was over when it was saved
    assert (outcome.facts.resumptions, outcome.facts.resumed_after_epoch) == (2, 2)
    assert outcome.facts.initial_val_loss == 5
    assert run(Halves(), trial)[0].facts.resumptions == 0


def test_the_first_epoch_in_a_cold_process_is_flagged_again() -> None:
    trial = a_trial()
    outcome, _, _ = run(Halves(), trial, state=cut_off(trial, (3, 1)))
    assert [epoch.warmup for epoch in outcome.epochs] == [True, False, True, False]


def test_an_epoch_that_began_in_a_cold_process_stays_flagged_in_a_warm_one() -> None:
    trial = a_trial()
    warm = Halves(facts=Facts(engine="fake", versions="fake 1", program_reused=True))
    outcome, _, _ = run(warm, trial, state=cut_off(trial, (1, 1)))
    assert [epoch.warmup for epoch in outcome.epochs] == [True, False, False, False]


def test_early_stopping_and_its_best_weights_go_on() -> None:
    trial = a_trial(epochs=9, early_stopping=early_stopping("val_loss", patience=2, best_weights=True))
    whole, _, _ = run(Halves(), trial)  # the loss is |5 - weight|: 3, 1, 1, 3
    resumed, _, _ = run(Halves(), trial, state=cut_off(trial, (4, 0)))
    for outcome in (whole, resumed):
        assert [epoch.val_loss for epoch in outcome.epochs] == [3, 1, 1, 3]
        assert (outcome.facts.best_epoch, outcome.facts.stopped_early) == (2, True)
        assert outcome.files == {"weight.txt": b"4"}


def test_a_state_is_saved_each_so_many_seconds_off_the_training_clock() -> None:
    outcome, _, states = run(Halves(), a_trial(checkpoint_s=9.0))
    assert len(states) == 3  # of 4 epochs of 8.5 s and more, each state 2 s
    assert outcome.watches.train_s == 32.0
    assert outcome.watches.record_s == 6.0
    assert not run(Halves(), a_trial(checkpoint_s=None))[2]
    assert not run(Halves(), a_trial(checkpoint_s=3600.0))[2]


def test_a_state_is_saved_when_asked_for() -> None:
    body, states = Body(), []
    body._state.workloads["tensorflow.training"] = Halves()

    def asks() -> None:
        if not states:
            body.save_now()

    body.run(a_trial(checkpoint_s=3600.0), lambda epoch: None, asks, on_state=states.append)
    assert len(states) == 1
    assert state.unpack(a_trial(), states[0]).head["part"] is not None  # at once, within the first epoch


def damaged(whole: bytes) -> bytes:
    return whole[:-7] + b"x" + whole[-6:]


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda whole: whole[: len(whole) // 2], "cut off or damaged"),
    "damaged": (damaged, "cut off or damaged"),
    "nothing": (lambda whole: b"", "no state"),
    "text": (lambda whole: b"import os", "no state"),
    "of another format": (lambda whole: whole.replace(b"state 1", b"state 2", 1), "format of another version"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_state_that_is_not_whole_is_refused_and_the_trial_begins_anew(how: str) -> None:
    change, why = REFUSED[how]
    trial = a_trial()
    outcome, _, _ = run(Halves(), trial, state=change(cut_off(trial, (3, 1))))
    assert outcome.status == "completed"
    assert outcome.facts.resumptions == 0
    assert [epoch.epoch for epoch in outcome.epochs] == [1, 2, 3, 4]
    assert why in (outcome.remark or "")
    assert (outcome.remark or "").startswith("begun anew")


def test_a_state_of_other_versions_engines_or_trials_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = a_trial()
    kept = cut_off(trial, (3, 1))
    elsewhere = Halves(facts=Facts(engine="fake", versions="fake 2"))
    assert "fake 1, and what runs here is fake 2" in (run(elsewhere, trial, state=kept)[0].remark or "")
    other = Halves(facts=Facts(engine="other", versions="fake 1"))
    assert "it is of fake" in (run(other, trial, state=kept)[0].remark or "")
    assert "another trial" in (run(Halves(), replace(trial, seed=1), state=kept)[0].remark or "")
    monkeypatch.setattr(state, "_version", lambda: "9.9")
    outcome, _, _ = run(Halves(), trial, state=kept)
    assert "has saved it, and this is 9.9" in (outcome.remark or "")
    assert outcome.facts.resumptions == 0


def test_a_state_holds_nothing_but_json_and_arrays() -> None:
    kept = cut_off(a_trial(), (3, 1))
    head = state.glance(kept)
    assert json.loads(json.dumps(head.head)) == head.head
    assert bytes(head.arrays[:2]) == b"PK"  # npz, read without pickle
    with pytest.raises(state.StateError):
        state.unpack(a_trial(), b"\x80\x04pickled")
    assert issubclass(state.StateError, HarnessError)


# Functions of one's own. ---------------------------------------------------------------------------------------


def adds_up(trial: Any, recorder: Any) -> None:
    total, seen = np.zeros(2), []
    if recorder.saved:
        total, seen = recorder.saved["total"], recorder.saved["seen"]
    recorder.untrained(val_loss=float(total[0]))
    for epoch in recorder.epochs():
        with epoch.training():
            total = total + epoch.number
        seen = [*seen, epoch.number]
        epoch.report(loss=float(total[0]))
        recorder.save(total=total, seen=seen)


def looks_at_nothing(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        recorder.save(number=epoch.number)


def keeps_objects(trial: Any, recorder: Any) -> None:
    for epoch in recorder.epochs():
        with epoch.training():
            pass
        recorder.save(what=object())


def run_function(which: Any, *, state: bytes | None = None) -> tuple[Outcome, list[bytes]]:
    trial = a_trial(checkpoint_s=0.0, workload=function(which))
    states: list[bytes] = []
    worker = WorkerState(sources=sources.collected())
    return run_trial(trial, worker, lambda epoch: None, state=state, on_state=states.append), states


def test_a_function_goes_on_with_what_it_gave_to_save() -> None:
    whole, states = run_function(adds_up)
    assert len(states) == 3  # none after the last epoch
    resumed, _ = run_function(adds_up, state=states[1])
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs] == [1, 3, 6, 10]
    assert resumed.epochs[:2] == whole.epochs[:2]
    assert resumed.epochs[3].elapsed_train_s == pytest.approx(sum(epoch.train_s for epoch in resumed.epochs))
    assert (resumed.facts.resumptions, resumed.facts.resumed_after_epoch) == (1, 2)
    assert resumed.facts.initial_val_loss == 0


def test_a_function_that_saves_must_look_at_what_it_saved() -> None:
    _, states = run_function(looks_at_nothing)
    outcome, _ = run_function(looks_at_nothing, state=states[0])
    assert outcome.status == "failed"
    assert "look at recorder.saved before recorder.epochs()" in (outcome.error or "")


def test_a_function_can_keep_no_objects() -> None:
    outcome, _ = run_function(keeps_objects)
    assert outcome.status == "failed"
    assert "NumPy arrays, and what JSON can hold" in (outcome.error or "")
