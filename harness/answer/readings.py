"""What was read of the hardware, and the epochs, along the time of some trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.answer.gather import Gathered
from harness.answer.groups import Places

if TYPE_CHECKING:
    import pandas as pd

_READ: Final = 12  # trials whose readings are shown: of each of the first settings one


def readings_of(gathered: Gathered, settings: pd.DataFrame, place: Places) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the readings and the epochs of one trial of each of the first settings."""
    import pandas as pd

    from harness.analyse.readings import trial_epochs, trial_readings
    from harness.record.reading import load

    trials = gathered.trials[gathered.trials["started_at"].notna() & gathered.trials["ended_at"].notna()]
    shown = place.give(trials)
    shown = shown.assign(_other=shown["status"] != "completed").sort_values("_other", kind="stable")
    shown = shown.drop_duplicates("key")
    shown = shown[shown["key"].isin(settings["key"].head(_READ))]
    shown = place.give(shown.drop(columns="_other"))
    wanted = set(shown["run_id"])
    folders = [
        folder
        for folder, run in zip(gathered.results.folders, gathered.runs, strict=True)
        if run.get("run_id") in wanted
    ]
    columns = ["run_id", "node", "time", "device", "metric", "value"]
    telemetry = load(folders, columns={"telemetry": columns}).telemetry if folders else pd.DataFrame(columns=columns)
    return _of_trials(trial_readings(shown, telemetry), shown), _of_trials(trial_epochs(shown, gathered.epochs), shown)


def _of_trials(frame: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the key, the label, the name and the length of each row's trial first."""
    import pandas as pd

    from harness.analyse.readings import seconds

    key = ["run_id", "trial_id", "arm"]
    names = shown[["key", "label"]].assign(trial=shown["label"] + " seed=" + shown["seed"].astype(str))
    names["length_s"] = seconds(shown["ended_at"]) - seconds(shown["started_at"])
    names.index = pd.MultiIndex.from_frame(shown[key].astype(object))
    rows = names.reindex(pd.MultiIndex.from_frame(frame[key].astype(object))).reset_index(drop=True)
    return pd.concat([rows, frame.reset_index(drop=True)], axis=1)
