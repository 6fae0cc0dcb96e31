from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.order import Queue


def grid(settings: int, repeats: int, **fields: object) -> list[Trial]:
    return [
        Trial(setting=Setting.model_validate({"batch_size": number + 1, **fields}), seed=repeat, repeat=repeat)
        for repeat in range(repeats)
        for number in range(settings)
    ]


def staffed(trials: list[Trial], workers: int, *, seed: int = 0) -> Queue:
    """A queue with so many workers, "0" and on, for each kind of demand, all on one node."""
    queue = Queue(trials, seed=seed)
    for demand in sorted({Demand.of(trial) for trial in trials}):
        for _ in range(workers):
            queue.join(str(len(queue.workers)), demand, ("here",))
    return queue


def drain(queue: Queue) -> list[tuple[int, int, Trial]]:
    """Run all trials on workers that take turns, each trial ending before the next is taken."""
    taken: list[tuple[int, int, Trial]] = []
    warm: dict[str, dict[str, None]] = {name: {} for name in queue.workers}
    while len(queue):
        for name in queue.workers:
            ordered = queue.take(name, warm=warm[name])
            if ordered is not None:
                taken.append((int(name), ordered.block, ordered.trial))
                warm[name][ordered.trial.program_key] = None
                queue.ended(name)
    return taken


@given(settings=st.integers(1, 12), repeats=st.integers(1, 5), workers=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_trial_is_taken_exactly_once(settings: int, repeats: int, workers: int, seed: int) -> None:
    trials = grid(settings, repeats)
    taken = drain(staffed(trials, workers, seed=seed))
    assert Counter(trial.key for _, _, trial in taken) == Counter(trial.key for trial in trials)


@given(settings=st.integers(1, 8), repeats=st.integers(1, 5), workers=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_worker_is_never_more_than_one_block_ahead(settings: int, repeats: int, workers: int, seed: int) -> None:
    blocks = [block for _, block, _ in drain(staffed(grid(settings, repeats), workers, seed=seed))]
    left = Counter(block for block in blocks)
    for block in blocks:
        assert block <= min(number for number, count in left.items() if count) + 1
        left[block] -= 1


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    trials = grid(8, 2)
    orders = [[trial.key for _, _, trial in drain(staffed(trials, 2, seed=seed))] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_settings_rotate_over_the_workers_from_block_to_block() -> None:
    where: dict[str, list[int]] = {}
    for index, _, trial in drain(staffed(grid(4, 4), 2, seed=3)):
        where.setdefault(trial.setting_id, []).append(index)
    assert all(set(indices) == {0, 1} for indices in where.values())


def test_a_block_is_shuffled() -> None:
    order = [trial.setting.batch_size for _, block, trial in drain(staffed(grid(30, 1), 1, seed=5)) if block == 0]
    assert order != sorted(order)


def test_trials_that_need_other_shares_wait_until_the_phase_before_has_ended() -> None:
    queue = staffed(grid(2, 1, cpus=1) + grid(2, 1, cpus=2), 2)
    of_first = [name for name, demand in queue.workers.items() if demand == queue.due("here")]
    of_second = [name for name in queue.workers if name not in of_first]
    assert [queue.take(name) is None for name in of_second] == [True, True]
    assert [queue.take(name) is None for name in of_first] == [False, False]
    assert queue.due("here") == queue.workers[of_second[0]]
    assert queue.take(of_second[0]) is None
    queue.ended(of_first[0])
    assert queue.take(of_second[0]) is None
    queue.ended(of_first[1])
    assert queue.take(of_second[0]) is not None


def test_a_trial_put_back_is_taken_again() -> None:
    queue = staffed(grid(1, 1), 1)
    ordered = queue.take("0")
    assert ordered is not None
    queue.ended("0")
    queue.put_back(ordered)
    assert queue.take("0") == ordered


def test_what_is_held_back_is_not_taken_until_it_is_released() -> None:
    trials = grid(2, 3)
    one, other = trials[0], trials[1]
    queue = staffed(trials, 1)
    assert queue.hold(one.setting_id, one.arm) == 3
    assert queue.hold(one.setting_id, one.arm) == 0
    assert len(queue) == 3
    assert {trial.setting_id for _, _, trial in drain(queue)} == {other.setting_id}
    assert queue.release(one.setting_id, one.arm) == 3
    assert [block for _, block, _ in drain(queue)] == [0, 1, 2]


def test_an_arm_can_be_held_back_again_after_it_was_released_and_some_of_it_ran() -> None:
    trials = grid(2, 4)
    queue, arm = staffed(trials, 1), (trials[0].setting_id, trials[0].arm)
    assert queue.hold(*arm) == 4
    assert queue.release(*arm) == 4
    while (taken := queue.take("0")) is not None and taken.trial.setting_id != arm[0]:
        queue.ended("0")
    assert queue.hold(*arm) == 3
    assert arm[0] not in {trial.setting_id for _, _, trial in drain(queue)}


def test_a_trial_put_back_while_its_arm_is_held_back_waits_with_the_others() -> None:
    queue = staffed(grid(1, 2), 1)
    taken = queue.take("0")
    assert taken is not None
    queue.hold(taken.trial.setting_id, taken.trial.arm)
    queue.ended("0")
    queue.put_back(taken)
    assert len(queue) == 0
    assert queue.release(taken.trial.setting_id, taken.trial.arm) == 2
