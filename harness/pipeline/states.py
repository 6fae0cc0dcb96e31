"""The states of the trials of a run: kept as they come, given to whoever goes on from them, asked for at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from harness.domain.outcome import Finished
from harness.domain.state import StateError, glance
from harness.domain.trial import Trial
from harness.record.recorder import Recorder
from harness.schedule.loop import Loop
from harness.schedule.notice import Notice
from harness.schedule.protocol import Executor

_LAST_S: Final = 6.0  # for running trials to save their states where the run is told to end: a chunk takes up to 1.5 s


class States:
    """Passes states on between an executor and a recorder, and says what cannot be."""

    def __init__(self, executor: Executor, recorder: Recorder, notify: Callable[[Notice], None]) -> None:
        self._executor = executor
        self._recorder = recorder
        self._notify = notify
        self._seen: set[tuple[str, str]] = set()  # keys of trials that have saved one
        self._told: dict[tuple[str, str], str] = {}  # by the trial's key: what was said of its state, and is so still

    def keep(self) -> None:
        """Write what running trials have saved since the last call."""
        for saved in self._executor.saved():
            self._seen.add(saved.key)
            problem = self._recorder.save_state(saved.key, saved.attempt, saved.state)
            if problem is not None:
                self._say(problem)

    def of(self, trial: Trial) -> bytes | None:
        """Return what a trial goes on from, None where it is to begin anew; asked for when it was lost, and again when
        it runs, of which one is told."""
        self.keep()  # what came with the news that the attempt before was lost
        try:
            state = self._recorder.state_of(trial)
        except StateError as error:
            self._say(f"begun anew, as its saved state cannot be used: {error}", trial)
            return None
        if state is not None:
            text = f"goes on after epoch {glance(state).epoch}"
            if self._told.pop(trial.key, None) != text:
                self._told[trial.key] = text
                self._say(text, trial)
        return state

    def retried(self, trial: Trial) -> None:
        """Forget the state of a trial that came to a bad end of its own: another try begins anew."""
        self.keep()  # what it has saved and was not heard of yet is forgotten too
        self._recorder.drop_state(trial.key)

    def save_now(self, loop: Loop, record: Callable[[Finished], None]) -> None:
        """Have the trials of a loop that was ended save their states, and wait for those that can, for a moment; those
        that come to their end meanwhile are recorded."""
        missing = {trial.key for trial in loop.running.values() if self._can_save(trial)}
        if missing:
            self._executor.save_now()
        deadline = time.monotonic() + _LAST_S
        while missing and time.monotonic() < deadline:
            for finished in loop.hear(0.1):
                record(finished)
            self._seen.clear()
            self.keep()
            missing &= {trial.key for trial in loop.running.values()} - self._seen

    def _can_save(self, trial: Trial) -> bool:
        setting = trial.setting  # Keras's own loop may be within an epoch for long
        trains = setting.workload.name == "training" and setting.engine != "fit"
        return trial.checkpoint_s is not None and (trains or trial.key in self._seen)

    def _say(self, text: str, trial: Trial | None = None) -> None:
        self._notify(Notice(what="state", worker="", trial=trial, text=text))
