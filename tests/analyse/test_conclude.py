"""The answer of a run in one sentence: true, with numbers, and no surer than the repeats are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analyse.compare import Spread
from harness.analyse.conclude import Conclusion, conclude
from harness.analyse.conclude.claims import counted
from harness.analyse.conclude.words import ratio
from harness.analyse.references import Judged
from harness.analyse.standing import standing
from harness.domain.handy import alike, direction, reference

NAMING = {"batch_size": "batch_size"}
INF = math.inf


def tables(settings: Mapping[Any, Sequence[float]], **fields: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Settings by batch size, with the seconds that each repeat takes to val_accuracy 0.9; infinite: it gets to 0.85.

    A trial has two epochs: the first, of a tenth of that time, ends at 0.5; the second ends at 1.0, after as much more
    as it takes to cross 0.9 at that time.
    """
    trials, epochs = [], []
    for setting, times in settings.items():
        for repeat, seconds in enumerate(times):
            ids = {"run_id": "r", "trial_id": f"{setting}-{repeat}", "setting_id": f"s{setting}", "arm": "default"}
            given = {name: value.get(setting, [])[repeat] for name, value in fields.items() if isinstance(value, dict)}
            trials.append(
                ids
                | {"seed": repeat, "block": repeat, "batch_size": setting, "status": "completed", "error": None}
                | {"initial_val_accuracy": 0.1, "wall_s": 3.0, "neighbours": 0, "warnings": []}
                | given
            )
            misses = math.isinf(seconds)
            first_s = 0.1 if misses else 0.1 * seconds
            second_s = 1.0 if misses else (seconds - first_s) / 0.8
            for number, (train_s, value) in enumerate([(first_s, 0.5), (second_s, 0.85 if misses else 1.0)], 1):
                elapsed_s = first_s if number == 1 else first_s + second_s
                measured = {"train_s": train_s, "elapsed_train_s": elapsed_s, "val_accuracy": value}
                epochs.append(ids | {"epoch": number, "warmup": False, **measured})
    return pd.DataFrame(trials), pd.DataFrame(epochs)


def said(settings: Mapping[Any, Sequence[float]], **options: Any) -> Conclusion:
    trials, epochs = tables(settings)
    return conclude(trials, epochs, **{"metric": "val_accuracy", "at_least": 0.9, "naming": NAMING} | options)


def around(middle: float, count: int = 3, by: float = 0.01) -> list[float]:
    """Repeats in no order that another setting's would share."""
    return [
        middle * (1 + by * (-1) ** (number * int(middle * 7 + 1)) * (number + 1) / count) for number in range(count)
    ]


# With a target ------------------------------------------------------------------------------------------------------


def test_the_first_is_named_with_its_time_and_how_much_longer_the_next_and_the_last_take() -> None:
    told = said({16: [1.0, 1.01, 0.99], 32: [1.52, 1.51, 1.5], 64: [3.0, 3.02, 3.04]})
    assert told.verdict == "different"
    assert told.sentence == (
        "batch_size=16 reaches val_accuracy ≥ 0.9 first, after 1.00 s of training (3 repeats: 0.990 to 1.01 s); the "
        "next, batch_size=32, takes 1.51 times as long (1.46 to 1.56 at 98 % confidence), and the last, batch_size=64, "
        "3.02 times as long (2.85 to 3.2 at 98 % confidence)."
    )
    assert told.details[0].startswith("With 98 % confidence, against the first: batch_size=32 takes 1.")
    assert "Holm's correction for all pairs decides" in told.details[0]
    assert len(told.details) == 1


def test_ratios_have_two_or_three_digits() -> None:
    assert [ratio(one) for one in (0.0843, 0.5821, 0.9972, 1.064, 2.24, 14.2, 99.7, 1234.0)] == [
        "0.084", "0.58", "0.997", "1.06", "2.2", "14", "100", "1,200",
    ]  # fmt: skip


def test_two_settings_that_differ() -> None:
    told = said({16: [1.0, 1.01, 0.99], 32: [1.52, 1.51, 1.5]})
    assert "; batch_size=32 takes 1.51 times as long (1." in told.sentence
    assert "Holm" not in told.details[0]


def test_what_cannot_be_told_apart_is_not_called_different() -> None:
    told = said({16: [1.0, 1.5, 0.8], 32: [1.52, 1.1, 1.3], 64: [1.2, 1.9, 2.5]})
    assert told.verdict == "cannot tell: too few repeats"
    assert told.sentence.endswith(
        "; batch_size=32 (1.30 s) cannot be told from it, nor can the last, batch_size=64 (1.90 s)."
    )
    assert "times as long" not in told.sentence


def test_the_last_can_differ_where_the_next_does_not() -> None:
    told = said({16: [1.0, 1.01, 0.99], 32: [1.0, 1.03, 1.02], 64: [3.0, 3.02, 3.04]})
    assert told.verdict == "cannot tell: too few repeats"
    assert told.sentence.startswith(
        "batch_size=16 reaches val_accuracy ≥ 0.9 first, after 1.00 s of training (3 repeats: 0.990 to 1.01 s); "
        "batch_size=32 (1.02 s) cannot be told from it, while the last, batch_size=64, takes 3.0"
    )
    assert len(told.sentence.split()) <= 45


def test_all_take_about_the_same_where_the_repeats_would_have_shown_a_difference() -> None:
    draw = np.random.default_rng(3)
    told = said({size: list(np.exp(draw.normal(0, 0.02, 12))) for size in (16, 32, 64, 128)})
    assert told.verdict == "no difference shown"
    assert told.sentence.startswith("All 4 settings reach val_accuracy ≥ 0.9 in about the same time: batch_size=")
    assert "and the last, batch_size=64, after 1.0" in told.sentence


def test_the_first_of_many_equal_settings_is_rarely_called_different_from_another() -> None:
    draw = np.random.default_rng(1)
    alarms = 0
    for _ in range(20):
        told = said({size: list(np.exp(draw.normal(0, 0.1, 5))) for size in range(6)})
        alarms += "times as long" in told.sentence
    assert alarms <= 2


def test_of_few_repeats_the_spread_of_all_settings_counts() -> None:
    near = {16: [1.0, 1.02, 0.99], 32: [1.32, 1.29, 1.31]}
    assert said(near | {64: [2.0, 2.05, 1.97], 128: [4.0, 3.9, 4.02]}).verdict == "different"
    noisy = {16: [1.0, 1.5, 0.8], 32: [1.32, 1.8, 1.2]}
    quiet = {64: [9.0, 9.01, 8.99], 128: [12.0, 12.01, 11.99]}
    assert said(noisy | quiet).verdict == "cannot tell: too few repeats"


def test_of_very_many_settings_the_nearest_and_the_last_are_compared() -> None:
    told = said({size: [1.0 + size, 1.01 * (1 + size), 0.99 * (1 + size)] for size in range(60)})
    assert "and the last, batch_size=59, 60 times as long (60 to 60 " in told.sentence
    assert "one of 60 settings was picked" in told.details[0]


def test_the_noise_of_the_node_hides_what_is_within_it() -> None:
    settings = {16: [1.0, 1.01, 0.99], 32: [1.12, 1.11, 1.1]}
    assert said(settings).verdict == "different"
    told = said(settings, noise=Spread(single=0.2, paired=0.2, freedom=9))
    assert told.verdict == "cannot tell: too few repeats"
    assert "the node's noise alone comes to" in told.details[0]


def test_only_some_reach_it() -> None:
    told = said({16: [1.0, 1.01, 0.99], 32: [2.0, 2.01, INF], 64: [INF, INF, 2.0], 128: [INF] * 3})
    assert told.sentence.startswith("2 of 4 settings reach val_accuracy ≥ 0.9, batch_size=16 first, after 1.00 s")
    assert told.details[0] == (
        "batch_size=32 reached it in 2 of 3; batch_size=64 reached it in 1 of 3; batch_size=128 reached it in 0 of 3 "
        "repeats."
    )


def test_one_alone_reaches_it() -> None:
    told = said({16: [1.0, 1.01, 0.99], 32: [INF] * 3})
    assert told.verdict == "nothing to compare"
    assert told.sentence.startswith(
        "Only batch_size=16 of 2 settings reaches val_accuracy ≥ 0.9, after 1.00 s of training"
    )


def test_a_first_that_missed_at_times_is_not_called_quicker() -> None:
    told = said({16: [1.0, 1.01, 1.02, 0.99, INF], 32: [9.0, 9.1, 9.2, 9.3, 9.0]})
    assert told.verdict == "cannot tell: too few repeats"
    assert "after 1.01 s of training (4 of 5 repeats: 0.990 to 1.02 s)" in told.sentence
    assert told.details[0] == "batch_size=16 reached it in 4 of 5 repeats."


def test_nothing_reached_it_and_the_best_that_was_had_is_told() -> None:
    told = said({16: [1.0], 32: [INF]}, at_least=1.5)
    assert told.verdict == "target not reached"
    assert told.sentence == (
        "No setting of 2 reaches val_accuracy ≥ 1.5: the best value was 1, by batch_size=16 in epoch 2, 0.5 short of "
        "it."
    )
    told = said({16: [INF, INF]})
    assert told.sentence == (
        "batch_size=16 does not reach val_accuracy ≥ 0.9: the best value was 0.85, in epoch 2, 0.05 short of it."
    )
    told = said({16: [INF, INF, 1.0], 32: [INF] * 3})
    assert told.sentence == (
        "No setting of 2 reaches val_accuracy ≥ 0.9 in more than half of its repeats: batch_size=16 does in 1 of 3."
    )


def test_a_target_from_above() -> None:
    trials, epochs = tables({16: [1.0, 1.0], 32: [2.0, 2.0]})
    epochs = epochs.assign(val_loss=1 - epochs["val_accuracy"])
    told = conclude(trials, epochs, metric="val_loss", at_most=0.01, naming=NAMING)
    assert told.sentence.startswith("batch_size=16 reaches val_loss ≤ 0.01 first, after 1.20 s")
    told = conclude(trials, epochs, metric="val_loss", at_most=-0.25, naming=NAMING)
    assert told.sentence.endswith("the best value was 0, by batch_size=16 in epoch 2, 0.25 above it.")


def test_a_setting_alone_is_compared_with_nothing() -> None:
    told = said({16: [1.0, 1.01, 0.99]}, naming={})
    assert told.verdict == "nothing to compare"
    assert told.sentence == (
        "The setting reaches val_accuracy ≥ 0.9 after 1.00 s of training (3 repeats: 0.990 to 1.01 s)."
    )
    assert said({16: [1.0]}).sentence == "batch_size=16 reaches val_accuracy ≥ 0.9 after 1.00 s of training."


def test_one_repeat_proves_nothing() -> None:
    told = said({16: [1.0], 32: [2.0], 64: [9.0]})
    assert told.verdict == "cannot tell: too few repeats"
    assert told.sentence == (
        "batch_size=16 reaches val_accuracy ≥ 0.9 first, after 1.00 s of training; the next, batch_size=32, takes 2 "
        "times as long, and the last, batch_size=64, 9 times as long, in one repeat each, so chance is not ruled out."
    )
    assert told.details == ()


def test_what_is_there_before_training_has_no_ratio() -> None:
    told = said({16: [1.0, 1.0], 32: [2.0, 2.0]}, at_least=0.05)
    assert told.sentence.startswith("batch_size=16 reaches val_accuracy ≥ 0.05 first, after 0 s of training")
    assert told.verdict == "cannot tell: too few repeats"


# What did not complete ----------------------------------------------------------------------------------------------


def test_no_trial_completed() -> None:
    trials, epochs = tables({16: [1.0, 1.0], 32: [1.0]})
    trials = trials.assign(status=["failed", "failed", "timeout"], error=["out of memory\nat 4096", None, None])
    told = conclude(trials, epochs, metric="val_accuracy", at_least=0.9, naming=NAMING)
    assert told == Conclusion(
        sentence="No trial completed: of 3 trials 2 failed, 1 timed out (out of memory at 4096).",
        verdict="nothing measured",
    )
    empty = conclude(trials[:0], epochs[:0], metric="val_accuracy")
    assert empty.sentence == "No trial is recorded."


def test_what_speaks_against_it_is_told() -> None:
    trials, epochs = tables({16: [1.0, 1.01, 0.99], 32: [1.52, 1.51, 1.5]})
    trials = trials.assign(
        status=["completed"] * 5 + ["lost"],
        warnings=[["noisy", "contended"], ["noisy"], [], [], [], []],
        neighbours=[0, 1, 1, 1, 1, 1],
    )
    told = conclude(trials, epochs, metric="val_accuracy", at_least=0.9, naming=NAMING)
    assert told.details[-1] == (
        "What speaks against it: of 6 trials 1 were lost; 2 of 6 trials carry warnings (noisy 2, contended 1); "
        "trials ran beside 0 to 1 others on their node."
    )
    assert len(told.details) <= 4


# Without a target ---------------------------------------------------------------------------------------------------


def test_without_a_target_the_best_metric_and_the_quickest_epochs_count() -> None:
    trials, epochs = tables({16: [1.0, 1.1, 0.9], 32: [0.5, 0.55, 0.6]})
    last = epochs["epoch"] == 2
    epochs.loc[last, "val_accuracy"] = [0.931, 0.934, 0.936, 0.911, 0.915, 0.913]
    told = conclude(trials, epochs, metric="val_accuracy", naming=NAMING)
    assert told.verdict == "different"
    assert told.sentence == (
        "batch_size=16 has the best val_accuracy, 0.934 (3 repeats: 0.931 to 0.936), shown to be ahead of the next, "
        "batch_size=32 (0.913)."
    )
    assert told.details[0] == ("batch_size=32 has the quickest epochs, 0.337 s; those of batch_size=16 take 0.613 s.")
    epochs.loc[last, "val_accuracy"] = [0.93, 0.95, 0.97, 0.94, 0.95, 0.94]
    told = conclude(trials, epochs, metric="val_accuracy", naming=NAMING)
    assert told.sentence.endswith("; batch_size=32 (0.94) cannot be told from it.")


def test_differences_that_are_equal_by_luck_are_not_sure() -> None:
    trials, epochs = tables({16: [1.0] * 3, 32: [1.0] * 3})
    epochs.loc[epochs["epoch"] == 2, "val_accuracy"] = [0.93, 0.94, 0.95, 0.92, 0.93, 0.94]
    told = conclude(trials, epochs, metric="val_accuracy", naming=NAMING)
    assert told.verdict == "cannot tell: too few repeats"


def test_what_has_no_metric_is_told_by_its_times() -> None:
    trials, epochs = tables({16: [1.0, 1.01, 0.99], 32: [1.52, 1.51, 1.5]})
    epochs["val_accuracy"] = math.nan
    told = conclude(
        trials.drop(columns="initial_val_accuracy"), epochs, metric="val_accuracy", at_least=0.9, naming=NAMING
    )
    assert told.sentence.startswith("batch_size=16 has the quickest epochs, 0.613 s (3 repeats: 0.606 to 0.619 s); ")
    assert "; batch_size=32 takes 1.51 times as long (1." in told.sentence


def test_what_has_no_epochs_is_told_by_the_time_of_a_trial() -> None:
    trials, epochs = tables({16: [1.0], 32: [1.0]})
    trials["wall_s"] = [2.0, 3.0]
    told = conclude(trials, epochs[:0], metric="val_accuracy", naming=NAMING)
    assert told.sentence == (
        "batch_size=16 has the quickest trials, 2.00 s; batch_size=32 takes 1.5 times as long, in one repeat each, "
        "so chance is not ruled out."
    )
    told = conclude(trials.assign(wall_s=math.nan), epochs[:0], metric="val_accuracy", naming=NAMING)
    assert told.verdict == "nothing measured"


# Names --------------------------------------------------------------------------------------------------------------


def test_arms_and_hardware_are_named_where_the_axes_do_not_tell_them_apart() -> None:
    trials, epochs = tables({16: [1.0, 2.0]})
    trials = trials.assign(arm=["cpus=1", "cpus=2"], hardware=["a", "b"])
    epochs = epochs.assign(arm=["cpus=1"] * 2 + ["cpus=2"] * 2)
    told = conclude(trials, epochs, metric="val_accuracy", at_least=0.9, naming=NAMING)
    assert told.sentence.startswith("batch_size=16 cpus=1 reaches")
    assert "; batch_size=16 cpus=2 takes 2 times as long" in told.sentence
    by_axis = conclude(
        trials.assign(cpus=[1, 2]), epochs, metric="val_accuracy", at_least=0.9, naming=NAMING | {"cpus": "cpus"}
    )
    assert by_axis.sentence.startswith("batch_size=16 cpus=1 reaches")
    same = trials.assign(arm="default")
    told = conclude(
        same, epochs.assign(arm="default"), metric="val_accuracy", at_least=0.9, naming=NAMING,
        by=("setting_id", "arm", "hardware"),
    )  # fmt: skip
    assert told.sentence.startswith("batch_size=16 a reaches")


def labelled(*labels: str) -> str:
    """The sentence on settings with these labels, the first of which is first."""
    trials, epochs = tables({number: [float(number)] for number in range(1, len(labels) + 1)})
    return conclude(
        trials.assign(label=labels), epochs, metric="val_accuracy", at_least=0.9, naming={"label": "label"}
    ).sentence


def test_a_label_is_one_short_line_of_plain_text() -> None:
    told = labelled(*(f'<b>{number}</b>\n"quoted"\t' + "y" * 200 for number in (1, 2)))
    assert told.startswith('label=<b>1</b> "quoted… reaches val_accuracy')
    assert "\n" not in told


def test_a_long_label_keeps_what_tells_it_from_the_others() -> None:
    told = labelled(*(f"{'a' * 90}{which}{'b' * 90}" for which in ("one", "other")))
    assert told.startswith("…aaaaaaaaaaaonebbbbbbbbbbbb… reaches")  # an "o" is the same in both
    told = labelled("a" * 90 + "1" + "b" * 90, "a" * 90 + "2" + "b" * 90, "c" * 190)
    assert "bbb #1 reaches" in told
    assert "bbb #2, takes" in told


def test_arrow_columns_and_null_axes_do_not_matter() -> None:
    trials, epochs = tables({16: [1.0, 1.01, 0.99], 32: [1.52, 1.51, 1.5]})
    expected = conclude(trials, epochs, metric="val_accuracy", at_least=0.9, naming=NAMING)
    arrow = trials.drop(columns=["warnings", "error"]).convert_dtypes(dtype_backend="pyarrow")
    categories = epochs.astype(dict.fromkeys(("run_id", "trial_id", "setting_id", "arm"), "category"))
    assert conclude(arrow, categories, metric="val_accuracy", at_least=0.9, naming=NAMING) == expected
    assert conclude(arrow, categories, metric="val_accuracy", naming=NAMING).verdict != "nothing measured"
    none = conclude(arrow.assign(batch_size=pd.NA), categories, metric="val_accuracy", at_least=0.9, naming=NAMING)
    assert none.sentence.startswith("batch_size=– s16 reaches")


# Published conclusions ----------------------------------------------------------------------------------------------


def side(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"run_id": "r", "block": range(len(values)), "value": values})


TARGET = {"metric": "val_accuracy", "at_least": 0.9, "at_most": None}


def judged(kind: str, verdict: Any, *sides: Sequence[float], **fields: Any) -> Judged:
    """A direction, or a likeness within 0.3, of these groups in the order of their medians."""
    what: Any = direction("A2", metric="val_accuracy", epoch=1, higher="batch_size == 16", lower="batch_size == 64")
    if kind == "alike":
        what = alike("A2", metric="time_to_target", where="batch_size in [16, 64]", within=0.3)
        fields = {"target": TARGET, "ends": ("batch_size=64", "batch_size=16")} | fields
    if kind == "time":
        what = direction("A2", metric="time_to_target", higher="batch_size == 16", lower="batch_size == 64")
        fields = {"target": TARGET} | fields
    frames = tuple(side(*values) for values in sides)
    medians = [float(np.median(values)) for values in sides] or [None]
    fields = {"repeats": min(map(len, sides), default=0), "measured": medians[-1], "lower": medians[0]} | fields
    return Judged(reference=what, verdict=verdict, sides=frames, **fields)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (judged("direction", "reproduced", [0.5, 0.51, 0.5], [0.8, 0.8, 0.79]), "confirmed"),
        (judged("direction", "missed", [0.8, 0.8, 0.79], [0.5, 0.51, 0.5]), "refuted"),
        (judged("direction", "reproduced", [0.5, 0.81, 0.5], [0.8, 0.51, 0.79]), "undecided"),
        (judged("direction", "reproduced", [0.5], [0.8]), "undecided"),
        (judged("direction", "reproduced", [-0.5, -0.51, -0.5], [0.8, 0.8, 0.79]), "confirmed"),
        (judged("direction", "not measured", reason="1 of 3 failed"), "undecided"),
        (judged("direction", "none", reason="not run"), None),
        (judged("alike", "reproduced"), "confirmed"),
        (judged("alike", "missed"), "refuted"),
        (judged("alike", "not measured"), "undecided"),
        (Judged(reference=reference("A2", metric="loss", epoch=1, value=1.0), verdict="reproduced"), None),
    ],
)
def test_a_published_conclusion_stands_as_surely_as_it_was_measured(one: Judged, expected: Any) -> None:
    assert standing(one) == expected


REFUTED = judged("alike", "missed", [1.0, 1.01, 1.02], [2.0, 2.01, 2.03])
CONFIRMED = judged("direction", "reproduced", [0.5, 0.51, 0.5], [0.8, 0.8, 0.79])
UNDECIDED = judged("direction", "not measured", reason="1 of 3 failed")


def test_the_sentence_leads_with_a_claim_about_the_time_to_the_target() -> None:
    plain = said({16: [1.0], 32: [2.0]})
    told = said({16: [1.0], 32: [2.0]}, references=[CONFIRMED, REFUTED])
    assert told.claim == "refuted"
    assert told.verdict == plain.verdict
    assert told.sentence == (
        "Refuted: the time to val_accuracy ≥ 0.9 is not about the same for batch_size in [16, 64] (A2): it runs from "
        "1.01 s (batch_size=64) to 2.01 s (batch_size=16), 1.99 times as long (1.94 to 2.05 at 98 % confidence) where "
        "at most 1.3 was claimed."
    )
    assert told.details[0] == plain.sentence
    assert told.details[1].startswith("The other published conclusion that val_accuracy after epoch 1 is higher with ")
    assert told.details[1].endswith(" than with batch_size=64 is confirmed.")


@pytest.mark.parametrize(
    ("one", "start", "end"),
    [
        (
            judged("alike", "reproduced", [1.0, 1.01, 1.02], [1.1, 1.11, 1.13]),
            "Confirmed: the time to val_accuracy ≥ 0.9 is about the same for batch_size in [16, 64] (A2): it runs ",
            " at 98 % confidence) where at most 1.3 was claimed.",
        ),
        (
            judged("alike", "not measured", [1.0, 1.4, 1.9], [1.5, 2.2, 2.9], reason="too few repeats to tell"),
            "Undecided: whether the time to val_accuracy ≥ 0.9 is about the same for batch_size in [16, 64] (A2): it ",
            "where at most 1.3 was claimed; 3 repeats are too few, some 130 would tell.",
        ),
        (
            judged("alike", "not measured", [1.0], [2.0], reason="too few repeats to tell"),
            "Undecided: ",
            "2 times as long where at most 1.3 was claimed; one repeat is too few.",
        ),
        (
            judged("alike", "not measured", measured=None, lower=None, reason="1 of 6 failed"),
            "Undecided: whether ",
            "(A2): 1 of 6 failed.",
        ),
        (
            judged("alike", "missed", measured=None, lower=None, reason="1 of 2 never reached the target"),
            "Refuted: the time to val_accuracy ≥ 0.9 is not about the same for ",
            "(A2): 1 of 2 never reached the target.",
        ),
        (
            judged("time", "reproduced", [1.0, 1.01, 1.02], [2.0, 2.01, 2.03]),
            "Confirmed: the time to val_accuracy ≥ 0.9 is longer with batch_size=16 than with batch_size=64 (A2): "
            "2.01 s against 1.01 s, 1.99 times as long (",
            " at 98 % confidence).",
        ),
        (
            judged("time", "missed", [2.0, 2.01, 2.03], [1.0, 1.01, 1.02]),
            "Refuted: the time to val_accuracy ≥ 0.9 is not longer with batch_size=16 than with batch_size=64 (A2): "
            "1.01 s against 2.01 s, 0.502 times as long (",
            " at 98 % confidence).",
        ),
    ],
)
def test_a_claim_is_told_with_its_numbers(one: Judged, start: str, end: str) -> None:
    told = said({16: [1.0], 32: [2.0]}, references=[one]).sentence
    assert told.startswith(start), told
    assert told.endswith(end), told


def test_a_claim_about_another_target_is_no_answer_to_this_one() -> None:
    told = said({16: [1.0], 32: [2.0]}, at_least=0.5, references=[REFUTED])
    assert told.claim is None
    assert told.sentence.startswith("batch_size=16 reaches val_accuracy ≥ 0.5 first")
    assert told.details[-1] == (
        "The published conclusion that the time to val_accuracy ≥ 0.9 is about the same for batch_size in [16, 64] is "
        "refuted: medians of 2.01 and 1.01, 1.99 times apart where 1.3 is allowed."
    )


def test_of_several_claims_a_refuted_one_leads() -> None:
    calm = judged("alike", "reproduced", [1.0, 1.01], [1.0, 1.02], arm="cpus=1")
    told = said({16: [1.0], 32: [2.0]}, references=[calm, REFUTED])
    assert told.sentence.startswith("Refuted: ")
    assert told.details[-1].endswith("for batch_size in [16, 64] with cpus=1 is confirmed.")


def test_the_other_published_conclusions_are_counted() -> None:
    assert counted([CONFIRMED, UNDECIDED, REFUTED], None) == (
        "Of 3 published conclusions 1 is confirmed, 1 is refuted and 1 is undecided: that the time to val_accuracy ≥ "
        "0.9 is about the same for batch_size in [16, 64] is refuted (medians of 2.01 and 1.01, 1.99 times apart where "
        "1.3 is allowed); that val_accuracy after epoch 1 is higher with batch_size=16 than with batch_size=64 is "
        "undecided (1 of 3 failed)."
    )
    assert counted([CONFIRMED, CONFIRMED, REFUTED], REFUTED) == "Of 2 other published conclusions 2 are confirmed."
    assert counted([], None) == counted([REFUTED], REFUTED) == ""


def test_the_same_seeds_in_several_runs_are_no_further_repeats_of_what_the_seed_decides() -> None:
    trials, epochs = tables({16: around(1.0), 32: around(1.02)})
    copies = [[one.assign(run_id=f"r{number}") for one in (trials, epochs)] for number in range(5)]
    many, measured = (pd.concat(parts, ignore_index=True) for parts in zip(*copies, strict=True))
    told: dict[str, Any] = {"metric": "val_accuracy", "at_least": 0.9, "naming": NAMING}
    assert conclude(many, measured, **told) == conclude(trials, epochs, **told)
