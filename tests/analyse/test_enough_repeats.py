from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from harness.analyse.compare import half_width
from harness.analyse.repeats import Repeats
from harness.domain.outcome import EpochRecord, Finished, Outcome, Placement, Status
from harness.domain.repeats import Auto
from harness.domain.setting import Setting
from harness.domain.trial import Trial

STEADY = (1.0, 1.01, 0.99, 1.0, 1.01, 0.99)
WILD = (1.0, 2.0, 0.5, 1.5, 0.7, 1.1)


def trials(count: int = 6, **fields: Any) -> list[Trial]:
    return [Trial(setting=Setting.model_validate(fields), seed=number, repeat=number) for number in range(count)]


def epoch(number: int, train_s: float, accuracy: float = 0.5) -> EpochRecord:
    return EpochRecord(
        epoch=number, train_s=train_s, eval_s=0.1, elapsed_train_s=number * train_s, samples=10, steps=1, chunks=1,
        loss=1.0, accuracy=0.5, val_loss=1.0, val_accuracy=accuracy, user_cpu_s=0.0, system_cpu_s=0.0,
        started_at=0.0, ended_at=0.0, warmup=number == 1,
    )  # fmt: skip


def ended(trial: Trial, train_s: float, *, status: Status = "completed", accuracy: float = 0.5) -> Finished:
    epochs = (epoch(1, 9.0, accuracy), epoch(2, train_s, accuracy)) if status == "completed" else ()
    placement = Placement(worker="0", node="n", position=0, block=trial.repeat, attempt=1, neighbours=0)
    return Finished(trial=trial, outcome=Outcome(status=status, epochs=epochs), placement=placement)


def settled(repeats: Repeats, of: Sequence[Trial], times: Sequence[float], **how: Any) -> list[bool]:
    """Whether the first trial's arm needs no more, after each trial."""
    key = (of[0].setting_id, of[0].arm)
    return [repeats.add(ended(trial, train_s, **how))[key] for trial, train_s in zip(of, times, strict=False)]


def test_a_steady_setting_needs_the_least_and_a_wild_one_all() -> None:
    steady, wild = trials(), trials(batch_size=64)
    repeats = Repeats(Auto(), [*steady, *wild])
    assert settled(repeats, steady, STEADY[:5]) == [False] * 4 + [True]
    assert settled(repeats, wild, WILD) == [False] * 5 + [True]
    assert [(one.ended, one.repeats) for one in repeats.report()] == [("narrow", 5), ("cap", 6)]
    assert not repeats.needs(steady[5])


def test_where_the_cap_ends_it_the_report_says_how_many_were_needed() -> None:
    wild = trials()
    repeats = Repeats(Auto(), wild)
    settled(repeats, wild, WILD)
    (row,) = repeats.report()
    assert row.needed is not None
    assert row.needed > 100
    assert row.half_width is not None
    assert row.half_width > row.within
    assert json.loads(json.dumps(row.plain()))["ended"] == "cap"


def test_arms_of_a_setting_go_on_together_so_that_their_repeats_stay_matched() -> None:
    first, second = trials(label="A"), trials(label="B")
    repeats = Repeats(Auto(), [*first, *second])
    assert settled(repeats, first, STEADY[:5]) == [False] * 5
    assert repeats.needs(first[5])
    assert settled(repeats, second, STEADY[:5]) == [False] * 4 + [True]
    assert not repeats.needs(first[5])


def test_a_setting_whose_trials_all_fail_is_given_up_and_holds_no_other_arm_up() -> None:
    bad, good = trials(label="bad"), trials(label="good")
    repeats = Repeats(Auto(), [*bad, *good])
    assert settled(repeats, bad, STEADY[:5], status="failed") == [False] * 4 + [True]
    assert settled(repeats, good, STEADY[:5])[-1]
    assert [(one.ended, one.without) for one in repeats.report()] == [("failing", 5), ("narrow", 0)]


def test_a_failure_now_and_then_does_not_end_it() -> None:
    some = trials(8)
    repeats = Repeats(Auto(), some)
    for number, trial in enumerate(some[:6]):
        repeats.add(ended(trial, 1.0 + number / 2, status="failed" if number % 2 else "completed"))
    assert repeats.needs(some[7])


def test_missing_the_target_counts_as_ending_without_the_figure() -> None:
    some = trials()
    target = {"metric": "val_accuracy", "at_least": 0.9, "at_most": None}
    repeats = Repeats(Auto(figure="time_to_target"), some, target=target)
    assert settled(repeats, some[:5], STEADY, accuracy=0.5)[-1]
    assert repeats.report()[0].ended == "failing"
    reached = Repeats(Auto(figure="time_to_target"), some, target=target)
    assert settled(reached, some[:5], STEADY, accuracy=0.95)[-1]
    assert reached.report()[0].ended == "narrow"


def test_a_metric_is_judged_by_its_absolute_width() -> None:
    some = trials()
    repeats = Repeats(Auto(figure="val_accuracy"), some)
    for trial, accuracy in zip(some[:5], (0.90, 0.905, 0.895, 0.9, 0.9), strict=True):
        last = repeats.add(ended(trial, 1.0, accuracy=accuracy))
    assert last[some[0].setting_id, some[0].arm]
    (row,) = repeats.report()
    assert not row.relative
    assert row.within == 0.01


@pytest.mark.parametrize("figure", ["samples_per_s", "eval_s"])
def test_other_columns_of_an_epoch_can_be_the_figure(figure: str) -> None:
    some = trials()
    repeats = Repeats(Auto(figure=figure), some)
    assert settled(repeats, some, STEADY)[-1]
    assert repeats.report()[0].repeats == 6


def test_what_is_recorded_counts_when_a_run_is_resumed() -> None:
    some = trials()
    rows = [
        {"trial_id": one.trial_id, "setting_id": one.setting_id, "arm": one.arm, "repeat": one.repeat,
         "status": "completed", "run_id": "r"}
        for one in some[:5]
    ]  # fmt: skip
    epochs = [
        {"run_id": "r", "trial_id": row["trial_id"], "arm": row["arm"], "epoch": 1, "train_s": train_s, "warmup": False}
        for row, train_s in zip(rows, STEADY, strict=False)
    ]
    resumed = Repeats(Auto(), some)
    resumed.resume(pd.DataFrame(rows), pd.DataFrame(epochs))
    assert not resumed.needs(some[5])
    again = Repeats(Auto(), some)
    again.resume(pd.DataFrame(rows), pd.DataFrame(epochs), again=[some[4].key])
    assert again.needs(some[4])


def test_a_setting_is_looked_at_once_however_many_trials_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    some = trials(50)
    repeats = Repeats(Auto(), some)
    settled(repeats, some, WILD)
    looked = []
    width = half_width
    monkeypatch.setattr("harness.analyse.repeats.half_width", lambda values: looked.append(1) or width(values))
    assert all(repeats.needs(trial) for trial in some[6:])
    assert len(looked) <= 1
    repeats.add(ended(some[6], 1.0))
    assert len(looked) >= 1  # what ended since counts


def test_a_trial_that_ran_again_counts_once() -> None:
    some = trials()
    repeats = Repeats(Auto(), some)
    for _ in range(2):
        repeats.add(ended(some[0], 1.0))
    assert repeats.report()[0].repeats == 1
