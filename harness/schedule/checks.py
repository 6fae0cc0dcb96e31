"""What has to be built once before the first trial: each distinct thing that the trials declare."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence

from harness.domain.component import Component
from harness.domain.errors import SuiteError
from harness.domain.trial import Trial
from harness.schedule.demand import Demand


class Checks:
    """The trials to build, by the demand whose workers are to do it."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._waiting: dict[Demand, deque[Trial]] = {}
        for trial in _distinct(trials):
            self._waiting.setdefault(Demand.of(trial), deque()).append(trial)
        self._under_way: dict[Demand, dict[str, tuple[Trial, set[str]]]] = {}  # by trial: with who is building it
        self._building: dict[str, tuple[Demand, str]] = {}  # by worker
        self._built: dict[str, set[str]] = {}  # by worker
        self._problems: list[str] = []

    @property
    def demands(self) -> list[Demand]:
        """Those for which something has yet to be built."""
        return list(self._waiting)

    @property
    def under_way(self) -> bool:
        return bool(self._building)

    def take(self, worker: str, demand: Demand) -> Trial | None:
        """Return what a free worker should build: what nobody has built yet, or what another is building, since it
        will need it too."""
        waiting, under_way = self._waiting[demand], self._under_way.setdefault(demand, {})
        built = self._built.setdefault(worker, set())
        trial = (
            waiting.popleft()
            if waiting
            else next((one for one, _ in under_way.values() if one.trial_id not in built), None)
        )
        if trial is not None:
            under_way.setdefault(trial.trial_id, (trial, set()))[1].add(worker)
            self._building[worker] = (demand, trial.trial_id)
            built.add(trial.trial_id)
        return trial

    def ended(self, worker: str, problem: str | None) -> None:
        """Take note that a worker has built what it was given, or is gone; raise once all is built and some is wrong.

        Raises:
            SuiteError: naming everything that cannot be built.
        """
        if worker in self._building:
            demand, trial_id = self._building.pop(worker)
            workers = self._under_way[demand][trial_id][1]
            workers.discard(worker)
            if not workers:
                del self._under_way[demand][trial_id]
            if not self._waiting[demand] and not self._under_way[demand]:
                del self._waiting[demand]
        self._problems += [] if problem is None else [problem]
        if self._problems and not self._waiting:
            raise SuiteError("\n".join(dict.fromkeys(self._problems)))


def _without_numbers(function: Component) -> Component:
    """Return a function that is a workload with no number among its arguments: whether it takes them is all that can be
    checked before it runs, and a grid over one of them would be checked value by value."""
    plain = {name: None if isinstance(value, int | float) else value for name, value in function.args.items()}
    return function.model_copy(update={"args": plain})


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """One trial for each distinct thing to build."""
    found: dict[str, Trial] = {}
    seen: dict[int, str] = {}
    for trial in trials:
        setting = trial.setting
        key = seen.get(id(setting))
        if key is None:
            parts = [
                setting.dataset,
                _without_numbers(setting.workload) if setting.workload.name == "function" else setting.workload,
                setting.model,
                setting.loss,
                setting.optimizer,
                *setting.metrics,
            ]
            plain = [part.plain() if part is not None else None for part in parts]
            how = [setting.backend, setting.precision, setting.engine, setting.save_model, setting.tensorboard]
            key = json.dumps([plain, how], sort_keys=True)
            seen[id(setting)] = key
        found.setdefault(key, trial)
    return list(found.values())
