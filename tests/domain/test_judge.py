from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.domain.doubts import DOUBTS
from harness.domain.judge import READ, Figures, Judgement, flops_per_s, judge, peak_percent, share_key

QUIET = {"throttled": 0.0, "contended": 0.0, "stolen": 0.0, "swapped": 0.0}


def judged(
    train_s: Sequence[float] = (1.0,) * 6,
    *,
    warmup: int = 0,
    read: dict[str, float | None] | None = None,
    epochs_read: dict[str, Sequence[float | None]] | None = None,
    compilations: Sequence[int | None] | None = None,
    **given: Any,
) -> Judgement:
    """Judge a trial that nothing is wrong with but for what is given; `warmup` epochs are flagged."""
    count = len(train_s)
    figures = {
        "cpus": 1,
        "cores": 1,
        "quota": None,
        "trials_at_a_time": 1,
        "has_gpu": True,
        "compiles": True,
        "wall_s": 10.0,
        "clock_step_s": 0.0,
        "clock_drift": 0.0,
        **given,
    }
    return judge(
        Figures(
            read={**QUIET, **(read or {})},
            train_s=train_s,
            warmup=[number < warmup for number in range(count)],
            compilations=compilations or [0] * count,
            epochs_read={**{name: [0.0] * count for name in READ}, **(epochs_read or {})},
            **figures,
        )
    )


def test_a_trial_that_nothing_is_wrong_with_carries_no_warning() -> None:
    assert judged() == Judgement(warnings=[], unjudged=[], epochs=[[]] * 6)


@pytest.mark.parametrize(
    ("name", "limit"), [("throttled", 5.0), ("contended", 10.0), ("stolen", 5.0), ("swapped", 2**20)]
)
def test_what_the_readings_show_is_judged_by_its_threshold(name: str, limit: float) -> None:
    assert judged(read={name: limit}).warnings == []
    assert judged(read={name: limit * 1.01}).warnings == [name]
    values = [0.0, limit * 2, None, limit, limit * 1.01, 0.0]
    found = judged(epochs_read={name: values})
    assert found.epochs == [[], [name], [], [], [name], []]
    assert found.warnings == []  # an epoch's own readings are not the trial's
    missing = judged(read={name: None})
    assert (missing.warnings, missing.unjudged) == ([], [name])


def test_without_a_gpu_nothing_is_throttled_and_nothing_lacks() -> None:
    found = judged(has_gpu=False, read={"throttled": None})
    assert (found.warnings, found.unjudged) == ([], [])


@pytest.mark.parametrize(
    ("cpus", "cores", "quota", "at_a_time", "warned"),
    [
        (2, 2, None, 1, False),
        (2, 4, None, 1, False),  # both threads of each core
        (2, 1, None, 1, True),
        (1, 1, 2.0, 2, False),
        (1, 1, 1.5, 2, True),
        (1, None, 0.5, 1, True),
    ],
)
def test_a_worker_with_fewer_cores_than_asked_for(
    cpus: int, cores: int | None, quota: float | None, at_a_time: int, warned: bool
) -> None:
    found = judged(cpus=cpus, cores=cores, quota=quota, trials_at_a_time=at_a_time)
    assert found.warnings == ["few_cores"] * warned
    assert found.unjudged == []


@pytest.mark.parametrize(
    ("step_s", "drift", "warned"),
    [(0.009, 0.0, False), (0.011, 0.0, True), (-0.5, 0.0, True), (0.0, 5e-4, False), (0.0, -2e-3, True)],
)
def test_a_clock_that_was_set_or_ran_wrong(step_s: float, drift: float, warned: bool) -> None:
    assert judged(clock_step_s=step_s, clock_drift=drift).warnings == ["clock_drift"] * warned


def test_a_trial_of_milliseconds_does_not_drift_by_how_long_it_took_to_read_its_clocks() -> None:
    assert judged(wall_s=0.002, clock_drift=4e-3).warnings == []  # 8 microseconds
    assert judged(wall_s=0.002, clock_drift=None, clock_step_s=5.0).warnings == ["clock_drift"]
    assert judged(wall_s=None, clock_drift=4e-3).unjudged == ["clock_drift"]


def test_what_cannot_be_judged_is_told() -> None:
    found = judged(cores=None, clock_step_s=None, clock_drift=None, compilations=[None] * 6, read=dict.fromkeys(READ))
    assert found.unjudged == ["throttled", "contended", "stolen", "few_cores", "clock_drift", "recompiled", "swapped"]
    assert judged(compilations=[None] * 6, compiles=False).unjudged == []


def test_an_epoch_within_which_something_was_compiled_marks_its_trial() -> None:
    found = judged(compilations=[0, 0, None, 2, 0, 0])
    assert found.warnings == ["recompiled"]
    assert found.epochs == [[], [], [], ["recompiled"], [], []]
    assert found.unjudged == []


@pytest.mark.parametrize(
    ("train_s", "warmup", "slow", "trial"),
    [
        ([1.3, 1.2, 1.0, 1.0, 1.0, 1.0], 0, [0, 1], False),
        ([1.3, 1.2, 1.2, 1.0, 1.0, 1.0], 0, [0, 1, 2], True),
        ([1.0, 1.3, 1.0, 1.0, 1.0, 1.0], 0, [], False),  # a slow one later on is something else
        ([5.0, 1.2, 1.0, 1.0, 1.0, 1.0], 1, [1], False),  # flagged already: not said twice
        ([1.05, 1.0, 1.0, 1.0, 1.0, 1.0], 0, [], False),
        ([1.3, 1.0, 1.0, 1.0], 0, [], False),  # too few to tell
        ([], 0, [], False),
    ],
)
def test_epochs_that_are_still_warming_up(train_s: list[float], warmup: int, slow: list[int], trial: bool) -> None:
    found = judged(train_s, warmup=warmup)
    assert [number for number, names in enumerate(found.epochs) if "warming_up" in names] == slow
    assert ("warming_up" in found.warnings) == trial


def test_epochs_that_differ_much_make_a_trial_noisy() -> None:
    assert judged([1.0, 1.2, 0.9, 1.3, 0.8, 1.0]).warnings == ["noisy"]
    assert judged([1.0, 1.01, 1.02, 0.99, 1.0, 1.5]).warnings == []
    assert judged([9.0, 1.0, 1.2, 0.9, 1.3], warmup=1).warnings == []  # only four are no warm-up


def test_warnings_come_in_the_order_of_their_declaration() -> None:
    found = judged(
        [1.5, 1.4, 1.0, 1.0, 1.0, 1.0],
        read={"swapped": 1e9, "throttled": 50.0},
        epochs_read={"swapped": [1e9] * 6, "stolen": [50.0] * 6},
        compilations=[1] * 6,
    )
    order = list(DOUBTS)
    assert found.epochs[0] == ["stolen", "warming_up", "recompiled", "swapped"]
    for names in (found.warnings, *found.epochs):
        assert names == sorted(names, key=order.index)


def test_the_rate_of_a_trial_leaves_warm_up_epochs_out_and_counts_short_batches_by_their_samples() -> None:
    def rate(**given: Any) -> float | None:
        figures = {"train_s": [9.0, 2.0, 2.0], "samples": [100, 100, 50], "warmup": [True, False, False], **given}
        return flops_per_s(1000.0, 10, **figures)

    assert rate() == pytest.approx(1000 * 15 / 4)
    assert rate(warmup=[True] * 3) is None
    assert rate(samples=[None] * 3) is None
    assert flops_per_s(None, 10, train_s=[1.0], samples=[10], warmup=[False]) is None


def test_the_share_of_the_peak_is_by_what_was_calibrated_for_this_kind_of_share() -> None:
    assert share_key("jax", 2, 0.5) == "jax/cpus=2/gpus=0.5"
    assert share_key(None, 1, 1.0) == "none/cpus=1/gpus=1"
    share = {"core_flops_per_s": 1e9, "share_flops_per_s": 4e9, "gpu_flops_per_s": 1e12}
    assert peak_percent(2e9, share, 0) == 50.0
    assert peak_percent(1e12, share, 2) == 50.0
    assert peak_percent(None, share, 0) is None
    assert peak_percent(2e9, {}, 0) is None
    assert peak_percent(2e9, {"share_flops_per_s": 4e9}, 1) is None


def test_a_calibration_beside_others_is_no_measure_of_the_device() -> None:
    assert peak_percent(2e9, {"share_flops_per_s": 4e9, "share_foreign_percent": 40.0}, 0) is None
    assert peak_percent(2e9, {"share_flops_per_s": 4e9, "share_foreign_percent": 4.0}, 0) == 50.0


def test_a_packed_trial_has_as_many_cores_as_it_asked_for() -> None:
    assert judged(cpus=0.125, cores=2).warnings == []
    assert judged(cpus=0.125, cores=2, quota=2.0, trials_at_a_time=16).warnings == []
    assert judged(cpus=0.3, cores=1, quota=1.0, trials_at_a_time=3).warnings == []
    assert judged(cpus=0.5, cores=2, quota=1.0, trials_at_a_time=4).warnings == ["few_cores"]
