"""The states of the trials of a run: kept as they come, given to whoever goes on from them, asked for at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from harness.domain.state import StateError, glance
from harness.domain.trial import Trial
from harness.record.recorder import Recorder
from harness.schedule.loop import Notice
from harness.schedule.protocol import Done, Executor, Gone

_LAST_S: Final = 6.0  # for running trials to save their states where the run is told to end: a chunk takes up to 1.5 s


class States:
    """Passes states on between an executor and a recorder, and says what cannot be."""

    def __init__(self, executor: Executor, recorder: Recorder, notify: Callable[[Notice], None]) -> None:
        self._executor = executor
        self._recorder = recorder
        self._notify = notify
        self._seen: set[tuple[str, str]] = set()  # keys of trials that have saved one

    def keep(self) -> None:
        """Write what running trials have saved since the last call."""
        for saved in self._executor.saved():
            self._seen.add(saved.key)
            problem = self._recorder.save_state(saved.key, saved.attempt, saved.state)
            if problem is not None:
                self._say(problem)

    def of(self, trial: Trial) -> bytes | None:
        """Return what a trial goes on from, None where it is to begin anew."""
        self.keep()  # what came with the news that the attempt before was lost
        try:
            state = self._recorder.state_of(trial)
        except StateError as error:
            self._say(f"begun anew, as its saved state cannot be used: {error}", trial)
            return None
        if state is not None:
            self._say(f"goes on after epoch {glance(state).epoch}", trial)
        return state

    def retried(self, trial: Trial) -> None:
        """Forget the state of a trial that came to a bad end of its own: another try begins anew."""
        self._recorder.drop_state(trial.key)

    def save_now(self, running: Mapping[str, Trial]) -> None:
        """Have the trials that are running save their states, by worker, and wait for those that can, for a moment."""
        awaited = {worker: trial.key for worker, trial in running.items() if self._can_save(trial)}
        if not awaited:
            return
        self._executor.save_now()
        deadline = time.monotonic() + _LAST_S
        missing = set(awaited.values())
        while missing and time.monotonic() < deadline:
            gone = [event for event in self._executor.wait(0.1) if isinstance(event, Done | Gone)]
            missing -= {awaited[event.worker] for event in gone if event.worker in awaited}
            self._seen.clear()
            self.keep()
            missing -= self._seen

    def _can_save(self, trial: Trial) -> bool:
        setting = trial.setting  # Keras's own loop may be within an epoch for long
        trains = setting.workload.name == "training" and setting.engine != "fit"
        return trial.checkpoint_s is not None and (trains or trial.key in self._seen)

    def _say(self, text: str, trial: Trial | None = None) -> None:
        self._notify(Notice(what="state", worker="", trial=trial, text=text))
