"""Several runs of the same settings, each held against the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analyse.runs import runs_apart


def recorded(**slower: float) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]], pd.DataFrame]:
    """A run of two settings for each name, in that order, its epochs so many times as long as those of the first."""
    rng = np.random.default_rng(0)
    trials, epochs, runs, nodes = [], [], [], []
    for day, (run, times) in enumerate(slower.items(), 1):
        runs.append({"run_id": run, "suite": "one", "started_at": f"2026-01-0{day}", "attempts": []})
        nodes.append({"run_id": run, "node": "here", "hostname": "h", "cpu_model": "C", "gpu_names": None})
        for block in range(10):
            for setting in ("s", "t"):
                ids = {"run_id": run, "trial_id": f"{setting}{block}", "setting_id": setting, "arm": "default"}
                how = {"precision": "float32", "backend": run, "engine": "xla", "dispatch": "epoch", "neighbours": 1}
                where = {"node": "here", "cpus": 1.0, "gpus": 0.0, "seed": block, "block": block}
                trials.append({**ids, **how, **where, "status": "completed"})
                epochs.append({**ids, "epoch": 1, "warmup": False, "train_s": times * np.exp(rng.normal(0, 0.01))})
    return pd.DataFrame(trials), pd.DataFrame(epochs), runs, pd.DataFrame(nodes)


def test_each_run_is_held_against_the_first_to_begin() -> None:
    found = runs_apart(*recorded(zulu=1.0, alpha=1.0, beta=1.2)).set_index("run_id")
    assert found.index.tolist() == ["zulu", "alpha", "beta"]
    assert found["verdict"].tolist() == ["the first run", "no difference shown", "slower"]
    assert found["ratio"].tolist() == pytest.approx([np.nan, 1.0, 1.2], abs=0.02, nan_ok=True)
    assert found["settings"].tolist()[1:] == [2, 2]
    assert (found["low"] < found["ratio"])[1:].all()
    assert found["hardware"].unique().tolist() == ["C × 1 core"]


def test_runs_without_a_common_setting_are_not_compared() -> None:
    trials, epochs, runs, nodes = recorded(a=1.0, b=1.0)
    for frame in (trials, epochs):
        frame.loc[frame["run_id"] == "b", "setting_id"] += "2"
    verdict = runs_apart(trials, epochs, runs, nodes)["verdict"].tolist()[1]
    assert verdict.startswith("cannot be compared: A and B have no setting in common")
