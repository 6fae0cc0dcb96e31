"""What becomes of the trials that run when a run is told to end, and of states that nobody wants any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from record.test_states import TRIAL, a_state, create
from virtual import VirtualCluster

from harness.domain.outcome import Finished
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.pipeline.ending import stopped_by
from harness.pipeline.states import States
from harness.schedule.loop import Loop, Policy
from harness.schedule.protocol import Saved


class Saving(VirtualCluster):
    """One core a trial; those of seed 0 come to their end once all are asked to save their states, the others save."""

    def __init__(self) -> None:
        super().__init__({"a": 2}, seconds=lambda trial, worker: 2.0 + 1e6 * trial.seed)
        self.states: list[Saved] = []

    def save_now(self) -> None:
        running = [one.trial for one in self.running.values() if one.trial.seed]
        self.states = [Saved(key=trial.key, attempt=1, state=a_state(trial)) for trial in running]

    def saved(self) -> list[Saved]:
        states, self.states = self.states, []
        return states


def test_a_trial_that_ends_while_the_others_save_their_states_is_recorded(tmp_path: Path) -> None:
    trials = [Trial(setting=Setting(epochs=3), seed=seed, repeat=seed, checkpoint_s=60.0) for seed in (0, 1)]
    cluster = Saving()
    loop = Loop(
        trials, cluster, seed=0, policy=Policy(calibrate=False), clock=cluster.clock,
        should_stop=lambda: len(cluster.running) == 2,
    )  # fmt: skip
    recorded: list[Finished] = []
    with create(tmp_path) as recorder:
        assert list(loop) == []
        assert loop.stopped == "signal"
        States(cluster, recorder, lambda notice: None).save_now(loop, recorded.append)  # type: ignore[arg-type]
        assert [one.trial.seed for one in recorded] == [0]
        assert recorder.state_of(trials[1]) == a_state(trials[1])
        assert recorder.state_of(trials[0]) is None


def test_a_trial_that_is_tried_again_begins_anew_whatever_it_told_last(tmp_path: Path) -> None:
    cluster = Saving()
    with create(tmp_path) as recorder:
        states = States(cluster, recorder, lambda notice: None)  # type: ignore[arg-type]
        cluster.states = [Saved(key=TRIAL.key, attempt=1, state=a_state())]  # with the news of how it ended
        states.retried(TRIAL)
        assert states.of(replace(TRIAL)) is None


def test_why_a_run_ended_is_what_its_user_sees_first() -> None:
    assert stopped_by([], "cluster", unstarted=True) == "cluster"
    assert stopped_by([], None, unstarted=True) == "stop"
    assert stopped_by(["SIGTERM"], "signal", unstarted=False) == "SIGTERM"
    assert stopped_by([], None, unstarted=False, absent=True) == "nodes"
