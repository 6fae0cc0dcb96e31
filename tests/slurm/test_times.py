from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.errors import SuiteError
from harness.slurm.times import slurm_form, time_limit

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90 * MINUTE),
        (" 90 ", 90 * MINUTE),
        ("90:00", 90 * MINUTE),
        ("2:00:00", 2 * HOUR),
        ("48:00:00", 2 * DAY),
        ("1-12", DAY + 12 * HOUR),
        ("1-12:30", DAY + 12 * HOUR + 30 * MINUTE),
        ("1-12:30:00", DAY + 12 * HOUR + 30 * MINUTE),
        ("0-00:01:00", MINUTE),
        ("90m", 90 * MINUTE),
        ("2h", 2 * HOUR),
        ("1h30m", 90 * MINUTE),
        ("1h 30m", 90 * MINUTE),
        ("1.1h", 66 * MINUTE),
        ("2d", 2 * DAY),
        ("120s", 2 * MINUTE),
    ],
)
def test_each_of_slurms_forms_and_ours_is_a_time(text: str, seconds: int) -> None:
    assert time_limit(text) == seconds


@pytest.mark.parametrize(("text", "minutes"), [("0:01", 1), ("1:30", 2), ("61s", 2), ("0:00:59", 1), ("0-0:0:1", 1)])
def test_what_is_no_whole_minute_is_rounded_up_as_slurm_does(text: str, minutes: int) -> None:
    assert time_limit(text) == minutes * MINUTE


@pytest.mark.parametrize("text", ["unlimited", "UNLIMITED", "infinite", "Infinite"])
def test_no_limit_is_none(text: str) -> None:
    assert time_limit(text) is None
    assert slurm_form(None) == "UNLIMITED"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0", "0:00", "0-00", "0h", "-1", "-2:00:00", "+5", "1e3", "1:75:00", "1:00:60", "1-24", "1-00:60",
        "1:2:3:4", "1-", "-", ":", "1:", "1h30", "30m1h", "1.5", "2 hours", "x", "nan", "inf", "٣", "99999999999",
        "1-1-1", "3 0",
    ],
)  # fmt: skip
def test_a_time_that_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(SuiteError) as refused:
        time_limit(text)
    assert str(refused.value).startswith(f"{text!r} is no time limit; give minutes")
    assert "D-HH:MM:SS" in str(refused.value)


@pytest.mark.parametrize(
    ("seconds", "form"),
    [
        (1, "0-00:01:00"),
        (60, "0-00:01:00"),
        (61, "0-00:02:00"),
        (2 * HOUR, "0-02:00:00"),
        (DAY - 1, "1-00:00:00"),
        (36 * HOUR + 1800, "1-12:30:00"),
    ],
)
def test_a_time_is_told_in_slurms_longest_form(seconds: int, form: str) -> None:
    assert slurm_form(seconds) == form


@given(st.integers(min_value=1, max_value=2**31 - 120))
def test_a_form_reads_back_as_the_time_in_whole_minutes(seconds: int) -> None:
    read = time_limit(slurm_form(seconds))
    assert read == math.ceil(seconds / 60) * 60
    assert slurm_form(read) == slurm_form(seconds)


@given(st.text(alphabet="0123456789:-dhms. ", max_size=12))
def test_any_text_is_a_time_above_0_or_refused(text: str) -> None:
    try:
        seconds = time_limit(text)
    except SuiteError:
        return
    assert seconds is not None
    assert seconds > 0
    assert seconds % 60 == 0
