"""The loop's policies, on an executor whose workers follow a script without any process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from scripted import trial

from harness.domain.errors import SetupError, SuiteError
from harness.domain.outcome import Facts, Finished, Outcome, Status
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.loop import Loop, Policy
from harness.schedule.notice import Notice
from harness.schedule.protocol import Calibrated, Checked, Done, Event, Gone, Progress, Ready, Worker


class ScriptedExecutor:
    """Workers without processes. A trial ends when `wait` is called, by the next status its label lists."""

    def __init__(self, workers: int = 2) -> None:
        self._count = workers
        self._events: list[Event] = []
        self._workers: dict[Demand, list[Worker]] = {}
        self._waiting: list[tuple[str, Trial, int]] = []
        self._runs: Counter[str] = Counter()
        self.replaced: list[str] = []
        self.calibrated: list[tuple[str, int]] = []  # which worker, while how many trials ran
        self.most_at_once = 0

    def start(self, sources: Mapping[str, Source]) -> None: ...

    def open(self, demand: Demand) -> list[Worker]:
        if demand not in self._workers:
            names = [f"{len(self._workers)}.{number}" for number in range(1 if demand.exclusive else self._count)]
            self._workers[demand] = [Worker(name=name, node="here", demand=demand) for name in names]
            self._events += [Ready(worker=name, prepare_s=0.0, pid=1) for name in names]
        return self._workers[demand]

    def node_names(self, demand: Demand) -> list[str]:
        return ["here"]

    def check(self, worker: str, trial: Trial) -> None:
        error = "the layer cannot be built" if trial.setting.label == "refuse" else None
        self._events.append(Checked(worker=worker, error=error))

    def calibrate(self, worker: str) -> None:
        self.calibrated.append((worker, len(self._waiting)))
        self._events.append(Calibrated(worker=worker, values={"dispatch_s": 1e-6}))

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        self._waiting.append((worker, trial, attempt))
        self.most_at_once = max(self.most_at_once, len(self._waiting))

    def replace(self, worker: str) -> None:
        self.replaced.append(worker)
        self._events.append(Ready(worker=worker, prepare_s=0.0, pid=1))

    def wait(self, timeout_s: float) -> list[Event]:
        for worker, one, attempt in self._waiting:
            script = one.setting.label.split()
            status: Any = script[min(self._runs[one.trial_id], len(script) - 1)]
            self._runs[one.trial_id] += 1
            if status == "gone":
                for serving in self._workers.values():
                    serving[:] = [other for other in serving if other.name != worker]
                self._events.append(Gone(worker=worker, reason="its node was lost"))
                continue
            rss_bytes = 5 << 30 if status == "leaky" else 1 << 20
            status = "completed" if status == "leaky" else status
            outcome = Outcome(
                status=status, error=None if status == "completed" else status, facts=Facts(rss_bytes=rss_bytes)
            )
            alive = status in ("completed", "failed")
            self._events.append(
                Done(worker=worker, key=one.key, attempt=attempt, outcome=outcome, alive=alive, cause="trial")
            )
            if not alive:
                self._events.append(Ready(worker=worker, prepare_s=0.0, pid=1))
        self._waiting = []
        events, self._events = self._events, []
        return events

    def progress(self) -> dict[str, Progress]:
        return {}


def run(trials: list[Trial], executor: ScriptedExecutor | None = None, **options: Any) -> tuple[list[Finished], Loop]:
    policy = Policy(**{name: options.pop(name) for name in list(options) if name in Policy.__dataclass_fields__})
    loop = Loop(trials, executor or ScriptedExecutor(), seed=1, policy=policy, **options)  # type: ignore[arg-type]
    return list(loop), loop


def statuses(finished: list[Finished]) -> Counter[Status]:
    return Counter(one.outcome.status for one in finished)


def test_every_trial_is_finished_once_with_its_place() -> None:
    finished, loop = run([trial("completed", seed=seed, repeat=seed) for seed in range(10)])
    assert sorted(one.trial.seed for one in finished) == list(range(10))
    assert sorted(one.placement.position for one in finished) == list(range(10))
    assert loop.stopped is None


def test_a_failed_trial_is_recorded_and_the_others_go_on() -> None:
    finished, _ = run([trial("failed"), *(trial("completed", seed=seed) for seed in range(1, 4))])
    assert statuses(finished) == {"failed": 1, "completed": 3}


def test_a_lost_trial_runs_again_without_using_up_its_own_retry() -> None:
    finished, _ = run([trial("lost failed completed")], retry=("failed",))
    assert statuses(finished) == {"completed": 1}
    assert finished[0].placement.attempt == 3


def test_a_trial_that_is_lost_three_times_is_recorded_as_lost() -> None:
    finished, _ = run([trial("lost")])
    assert statuses(finished) == {"lost": 1}
    assert finished[0].placement.attempt == 3


def test_without_a_retry_a_failed_trial_runs_once_and_with_it_twice() -> None:
    assert run([trial("failed")])[0][0].placement.attempt == 1
    assert run([trial("failed")], retry=("failed",))[0][0].placement.attempt == 2


def test_max_fail_stops_the_run_and_leaves_the_rest_unrun() -> None:
    finished, loop = run([trial("failed", seed=seed) for seed in range(20)], ScriptedExecutor(1), max_fail=3)
    assert len(finished) == 3
    assert loop.stopped == "max_fail"


def test_a_budget_ends_what_runs_and_starts_nothing_more() -> None:
    now = iter(range(0, 10_000, 10))
    finished, loop = run([trial("completed", seed=seed) for seed in range(50)], budget_s=60, clock=lambda: next(now))
    assert 0 < len(finished) < 50
    assert loop.stopped == "budget"


def test_a_signal_stops_at_once() -> None:
    seen: list[Notice] = []
    finished, loop = run(
        [trial("completed", seed=seed) for seed in range(50)], should_stop=lambda: len(seen) > 10, notify=seen.append
    )
    assert len(finished) < 50
    assert loop.stopped == "signal"


def test_fresh_workers_get_a_new_process_after_each_trial() -> None:
    executor = ScriptedExecutor(1)
    run([trial("completed", seed=seed) for seed in range(4)], executor, fresh_workers=True)
    assert len(executor.replaced) == 4


def test_a_worker_whose_memory_grew_is_replaced() -> None:
    executor = ScriptedExecutor(1)
    run(
        [trial("completed leaky", seed=0), trial("leaky", seed=1, repeat=1), trial("completed", seed=2, repeat=2)],
        executor,
    )
    assert len(executor.replaced) == 1


def test_an_exclusive_trial_runs_alone_and_says_that_it_had_no_neighbour() -> None:
    executor = ScriptedExecutor(2)
    finished, _ = run([trial("completed", seed=seed, exclusive=True) for seed in range(4)], executor)
    assert executor.most_at_once == 1
    assert {one.placement.neighbours for one in finished} == {0}


def test_trials_side_by_side_record_their_neighbours() -> None:
    finished, _ = run([trial("completed", seed=seed) for seed in range(6)], ScriptedExecutor(3))
    assert max(one.placement.neighbours for one in finished) == 2


def test_a_declaration_that_cannot_be_built_stops_the_run_before_the_first_trial() -> None:
    seen: list[Notice] = []
    with pytest.raises(SuiteError, match="the layer cannot be built"):
        run([trial("refuse"), trial("completed", seed=1)], notify=seen.append)
    assert all(notice.what != "started" for notice in seen)


def test_the_trial_of_a_worker_that_is_gone_runs_on_another() -> None:
    finished, _ = run([trial("gone completed"), trial("completed", seed=1)])
    assert statuses(finished) == {"completed": 2}


def test_when_no_worker_is_left_the_run_says_why() -> None:
    with pytest.raises(SetupError, match="its node was lost"):
        run([trial("gone gone gone completed")], ScriptedExecutor(1))


def test_positions_go_on_where_an_earlier_process_left_off() -> None:
    finished, _ = run([trial("completed", seed=seed) for seed in range(3)], first_position=7)
    assert sorted(one.placement.position for one in finished) == [7, 8, 9]


def test_what_a_trial_declares_is_built_by_a_worker_of_its_own_back_end_before_any_trial_runs() -> None:
    class Watching(ScriptedExecutor):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[str, str, str]] = []

        def note(self, what: str, worker: str, one: Trial) -> None:
            (serving,) = {w.demand.backend for serving in self._workers.values() for w in serving if w.name == worker}
            self.seen.append((what, serving, one.setting.backend))

        def check(self, worker: str, trial: Trial) -> None:
            self.note("check", worker, trial)
            super().check(worker, trial)

        def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
            self.note("run", worker, trial)
            super().submit(worker, trial, attempt=attempt, state=state)

    executor = Watching()
    list(Loop([trial(backend=name) for name in ("tensorflow", "jax", "torch")], executor, seed=0, policy=Policy()))  # type: ignore[arg-type]
    assert all(serving == backend for _, serving, backend in executor.seen)
    assert {backend for what, _, backend in executor.seen if what == "check"} == {"tensorflow", "jax", "torch"}
    first_run = next(n for n, (what, _, _) in enumerate(executor.seen) if what == "run")
    assert all(what == "run" for what, _, _ in executor.seen[first_run:])


def test_repeats_that_are_not_needed_do_not_run() -> None:
    wanted = [trial("completed", seed=seed, repeat=seed, batch_size=8) for seed in range(6)]
    enough = [trial("completed", seed=seed, repeat=seed, batch_size=16) for seed in range(6)]
    notices: list[Notice] = []

    def settled(finished: Finished) -> dict[tuple[str, str], bool]:
        trial = finished.trial
        return {(trial.setting_id, trial.arm): trial.setting.batch_size == 16 and trial.repeat >= 1}

    finished, loop = run([*wanted, *enough], ScriptedExecutor(1), enough=settled, notify=notices.append)
    assert Counter(one.trial.setting.batch_size for one in finished) == {8: 6, 16: 2}
    assert loop.stopped is None
    assert [notice.values["fewer"] for notice in notices if notice.what == "settled"] == [4]


def test_repeats_that_turn_out_to_be_needed_after_all_run() -> None:
    trials = [trial("completed", seed=seed, repeat=seed) for seed in range(6)]
    seen: list[int] = []

    def settled(finished: Finished) -> dict[tuple[str, str], bool]:
        seen.append(finished.trial.repeat)
        return {(finished.trial.setting_id, finished.trial.arm): len(seen) == 2}

    finished, _ = run(trials, ScriptedExecutor(3), enough=settled)  # the third still ran when two seemed enough
    assert len(finished) == 6


def test_max_fail_counts_as_before_where_repeats_are_held_back() -> None:
    trials = [trial("failed", seed=seed, repeat=seed) for seed in range(9)]
    arm = (trials[0].setting_id, "of another name")
    finished, loop = run(trials, ScriptedExecutor(1), max_fail=3, enough=lambda one: {arm: True})
    assert len(finished) == 3
    assert loop.stopped == "max_fail"


def test_one_worker_calibrates_before_the_first_trial_while_nothing_runs() -> None:
    executor = ScriptedExecutor(2)
    seen: list[Notice] = []
    run([trial("completed", seed=seed) for seed in range(6)], executor, notify=seen.append)
    assert executor.calibrated == [("0.0", 0)]
    what = [notice.what for notice in seen]
    assert what.index("calibrated") < what.index("started")


def test_calibration_can_be_left_out() -> None:
    executor = ScriptedExecutor(2)
    finished, _ = run([trial("completed")], executor, calibrate=False)
    assert len(finished) == 1
    assert executor.calibrated == []


def test_calibration_waits_until_every_worker_of_the_node_is_up() -> None:
    class Late(ScriptedExecutor):
        late: Ready | None = None
        up_when_calibrated: bool | None = None

        def open(self, demand: Demand) -> list[Worker]:
            new = demand not in self._workers
            workers = super().open(demand)
            if new:
                self.late = self._events.pop()  # type: ignore[assignment]
            return workers

        def calibrate(self, worker: str) -> None:
            self.up_when_calibrated = self.late is None
            super().calibrate(worker)

        def wait(self, timeout_s: float) -> list[Event]:
            events = super().wait(timeout_s)
            if not events and self.late is not None:
                events, self.late = [self.late], None
            return events

    executor = Late(2)
    finished, _ = run([trial("completed", seed=seed) for seed in range(4)], executor)
    assert len(finished) == 4
    assert executor.up_when_calibrated is True


def test_another_worker_calibrates_where_the_first_is_lost_with_it() -> None:
    class Losing(ScriptedExecutor):
        def calibrate(self, worker: str) -> None:
            if self.calibrated:
                super().calibrate(worker)
                return
            self.calibrated.append((worker, 0))
            for serving in self._workers.values():
                serving[:] = [other for other in serving if other.name != worker]
            self._events.append(Gone(worker=worker, reason="its node was lost"))

    executor = Losing(2)
    finished, _ = run([trial("completed", seed=seed) for seed in range(4)], executor)
    assert [worker for worker, _ in executor.calibrated] == ["0.0", "0.1"]
    assert len(finished) == 4
