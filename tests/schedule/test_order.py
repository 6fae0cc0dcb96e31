from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.schedule.order import Queue


def grid(settings: int, repeats: int, **fields: object) -> list[Trial]:
    return [
        Trial(setting=Setting.model_validate({"batch_size": number + 1, **fields}), seed=repeat, repeat=repeat)
        for repeat in range(repeats)
        for number in range(settings)
    ]


def drain(queue: Queue, workers: int) -> list[tuple[int, int, Trial]]:
    """Run all trials on workers that take turns, each trial ending before the next is taken."""
    taken: list[tuple[int, int, Trial]] = []
    warm: list[set[str]] = [set() for _ in range(workers)]
    while len(queue):
        for index in range(workers):
            ordered = queue.take(index=index, workers=workers, warm=warm[index])
            if ordered is not None:
                taken.append((index, ordered.block, ordered.trial))
                warm[index].add(ordered.trial.program_key)
                queue.ended()
    return taken


@given(settings=st.integers(1, 12), repeats=st.integers(1, 5), workers=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_trial_is_taken_exactly_once(settings: int, repeats: int, workers: int, seed: int) -> None:
    trials = grid(settings, repeats)
    taken = drain(Queue(trials, seed=seed), workers)
    assert Counter(trial.key for _, _, trial in taken) == Counter(trial.key for trial in trials)


@given(settings=st.integers(1, 8), repeats=st.integers(1, 5), workers=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_worker_is_never_more_than_one_block_ahead(settings: int, repeats: int, workers: int, seed: int) -> None:
    queue = Queue(grid(settings, repeats), seed=seed)
    blocks = [block for _, block, _ in drain(queue, workers)]
    left = Counter(block for block in blocks)
    for block in blocks:
        assert block <= min(number for number, count in left.items() if count) + 1
        left[block] -= 1


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    trials = grid(8, 2)
    orders = [[trial.key for _, _, trial in drain(Queue(trials, seed=seed), 2)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_settings_rotate_over_the_workers_from_block_to_block() -> None:
    where: dict[str, list[int]] = {}
    for index, _, trial in drain(Queue(grid(4, 4), seed=3), 2):
        where.setdefault(trial.setting_id, []).append(index)
    assert all(set(indices) == {0, 1} for indices in where.values())


def test_a_block_is_shuffled() -> None:
    order = [trial.setting.batch_size for _, block, trial in drain(Queue(grid(30, 1), seed=5), 1) if block == 0]
    assert order != sorted(order)


def test_trials_that_need_other_shares_wait_until_the_phase_before_has_ended() -> None:
    queue = Queue(grid(2, 1, cpus=1) + grid(2, 1, cpus=2), seed=0)
    first = queue.take(index=0, workers=1, warm=())
    second = queue.take(index=0, workers=1, warm=())
    assert first is not None
    assert second is not None
    assert first.trial.setting.cpus == second.trial.setting.cpus
    assert queue.take(index=0, workers=1, warm=()) is None
    assert queue.demand is None
    queue.ended()
    queue.ended()
    third = queue.take(index=0, workers=1, warm=())
    assert third is not None
    assert third.trial.setting.cpus != first.trial.setting.cpus


def test_a_trial_put_back_is_taken_again() -> None:
    queue = Queue(grid(1, 1), seed=0)
    ordered = queue.take(index=0, workers=1, warm=())
    assert ordered is not None
    queue.ended()
    queue.put_back(ordered)
    assert queue.take(index=0, workers=1, warm=()) == ordered


def test_what_is_held_back_is_not_taken_until_it_is_released() -> None:
    trials = grid(2, 3)
    one, other = trials[0], trials[1]
    queue = Queue(trials, seed=0)
    assert queue.hold(one.setting_id, one.arm) == 3
    assert queue.hold(one.setting_id, one.arm) == 0
    assert len(queue) == 3
    assert {trial.setting_id for _, _, trial in drain(queue, 1)} == {other.setting_id}
    assert queue.release(one.setting_id, one.arm) == 3
    assert [block for _, block, _ in drain(queue, 1)] == [0, 1, 2]


def test_an_arm_can_be_held_back_again_after_it_was_released_and_some_of_it_ran() -> None:
    trials = grid(2, 4)
    queue, arm = Queue(trials, seed=0), (trials[0].setting_id, trials[0].arm)
    assert queue.hold(*arm) == 4
    assert queue.release(*arm) == 4
    while (taken := queue.take(index=0, workers=1, warm=())) is not None and taken.trial.setting_id != arm[0]:
        queue.ended()
    assert queue.hold(*arm) == 3
    assert arm[0] not in {trial.setting_id for _, _, trial in drain(queue, 1)}


def test_a_trial_put_back_while_its_arm_is_held_back_waits_with_the_others() -> None:
    queue = Queue(grid(1, 2), seed=0)
    taken = queue.take(index=0, workers=1, warm=())
    assert taken is not None
    queue.hold(taken.trial.setting_id, taken.trial.arm)
    queue.ended()
    queue.put_back(taken)
    assert len(queue) == 0
    assert queue.release(taken.trial.setting_id, taken.trial.arm) == 2
