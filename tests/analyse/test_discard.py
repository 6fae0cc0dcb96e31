"""Trials left out for the warnings that they carry."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.analyse.discard import discard
from harness.domain.errors import ResultsError, SuiteError


def ids(trial: str) -> dict[str, str]:
    return {"run_id": "r", "trial_id": trial, "setting_id": "s", "arm": "default"}


def epochs(trial: str = "a") -> pd.DataFrame:
    return pd.DataFrame([ids(trial) | {"epoch": number, "train_s": 2.0} for number in (1, 2)])


def warned(*warnings: list[str] | None, unjudged: list[str] | None = None) -> pd.DataFrame:
    more = [{"warnings": names, "unjudged": unjudged or []} for names in warnings]
    rows = [ids(trial) | own for trial, own in zip("abcdefgh", more, strict=False)]
    return pd.DataFrame(rows)


def test_trials_with_a_warning_are_discarded_with_their_epochs() -> None:
    rows = warned(["noisy", "contended"], [], ["noisy"], None)
    measured = pd.concat([epochs(trial) for trial in "abcd"])
    kept, left, what = discard(rows, measured, ["contended", "throttled"])
    assert kept["trial_id"].tolist() == ["b", "c", "d"]
    assert set(left["trial_id"]) == {"b", "c", "d"}
    assert what.trials["trial_id"].tolist() == ["a"]
    assert (what.names, what.of, what.unjudged) == (("contended", "throttled"), 4, 1)  # "d" was not looked at


def test_trials_that_could_not_be_judged_are_kept_and_counted() -> None:
    rows = warned([], ["noisy"], unjudged=["throttled"])
    kept, _, what = discard(rows, epochs(), ["throttled", "noisy"])
    assert len(kept) == 1
    assert what.unjudged == 1


def test_an_unknown_warning_and_nothing_left_are_errors() -> None:
    with pytest.raises(SuiteError, match=r"no warning 'hot'; the warnings are .*throttled"):
        discard(warned([]), epochs(), ["hot"])
    with pytest.raises(ResultsError, match="all 2 trials"):
        discard(warned(["noisy"], ["noisy"]), epochs(), ["noisy"])
