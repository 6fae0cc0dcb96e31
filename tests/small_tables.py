"""Tables of a few trials and their epochs, as plain data frames."""

from __future__ import annotations

from typing import Any

import pandas as pd


def trials(*rows: dict[str, Any]) -> pd.DataFrame:
    """One row a trial; `a`, `b`, ... are their identities."""
    plain = {"arm": "default", "setting_id": "s", "status": "completed", "compile_s": 0.0}
    initial = {"initial_val_accuracy": 0.1, "initial_val_loss": 2.3}
    return pd.DataFrame(
        [{"run_id": "r", "trial_id": "abcdefgh"[number], **plain, **initial, **row} for number, row in enumerate(rows)]
    )


def epochs(metric: str = "val_accuracy", train_s: float = 1.0, **values: list[float]) -> pd.DataFrame:
    """The metric of each trial, epoch by epoch, each of which took `train_s`."""
    return pd.DataFrame(
        [
            {
                "run_id": "r",
                "trial_id": trial,
                "arm": "default",
                "setting_id": "s",
                "epoch": number + 1,
                "train_s": train_s,
                "elapsed_train_s": train_s * (number + 1),
                "samples": 100,
                "samples_per_s": 100 / train_s,
                "warmup": False,
                metric: value,
            }
            for trial, of_trial in values.items()
            for number, value in enumerate(of_trial)
        ]
    )


def run(*of_trials: tuple[str, list[float]], **columns: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials and epochs of a run: of each trial its setting and its val_accuracy, epoch by epoch."""
    rows = trials(*({"setting_id": setting} for setting, _ in of_trials))
    measured = epochs(**{name: values for name, (_, values) in zip("abcdefgh", of_trials, strict=False)})
    measured["setting_id"] = measured["trial_id"].map(dict(zip(rows["trial_id"], rows["setting_id"], strict=True)))
    return rows, measured.assign(**columns)
