from __future__ import annotations

import numpy as np
import pandas as pd

from harness.analyse.drift import drift

SETTINGS, BLOCKS = 4, 8


def run(
    *, within: float = 0.0, over: float = 0.0, worker: float = 0.0, noise: float = 0.01, settings: int = SETTINGS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A run in shuffled blocks, its times changed (in logs) from start to end of a block, of the run, by worker 1."""
    rng = np.random.default_rng(1)
    trials, epochs = [], []
    for block in range(BLOCKS):
        for place, setting in enumerate(rng.permutation(settings)):
            ids = {"run_id": "r", "trial_id": f"{setting}.{block}", "setting_id": f"s{setting}", "arm": "default"}
            on = int(rng.integers(2))
            position = block * settings + place
            log = 0.3 * setting + rng.normal(0, noise) + worker * on
            log += within * place / max(1, settings - 1) + over * block / (BLOCKS - 1)
            trials.append({**ids, "status": "completed", "block": block, "position": position, "worker": str(on)})
            epochs += [{**ids, "epoch": 1, "train_s": float(np.exp(log)), "warmup": False}]
    return pd.DataFrame(trials), pd.DataFrame(epochs)


def test_a_steady_machine_gives_no_sentence() -> None:
    found = drift(*run())
    assert found is not None
    assert found.within is not None
    assert abs(found.within.percent) < 1
    assert found.sentence == ""


def test_a_slow_down_within_each_block_is_found() -> None:
    found = drift(*run(within=0.05))
    assert found is not None
    assert found.within is not None
    assert 3 < found.within.percent < 7
    assert "from the start of a block to its end" in found.sentence


def test_a_drift_over_the_run_is_found_and_not_taken_for_one_within_blocks() -> None:
    found = drift(*run(over=0.2))
    assert found is not None
    assert found.over is not None
    assert found.within is not None
    assert 15 < found.over.percent < 28
    assert not found.within.found
    assert "from the first block to the last" in found.sentence


def test_a_slower_worker_is_found() -> None:
    found = drift(*run(worker=0.06))
    assert found is not None
    assert set(found.workers) == {"0", "1"}
    assert "from worker 0 to worker 1" in found.sentence


def test_a_change_below_one_percent_is_not_worth_a_sentence() -> None:
    found = drift(*run(within=0.004, noise=0.0001))
    assert found is not None
    assert found.sentence == ""


def test_the_same_tables_give_the_same_answer() -> None:
    tables = run(within=0.02)
    assert drift(*tables) == drift(*tables)


def test_one_setting_has_no_place_within_its_blocks_but_a_place_in_the_run() -> None:
    found = drift(*run(settings=1, over=0.2))
    assert found is not None
    assert found.within is None
    assert found.over is not None


def test_without_repeats_there_is_nothing_to_test() -> None:
    trials, epochs = run()
    assert drift(trials[trials["block"] == 0], epochs) is None


def test_failed_trials_and_equal_times_do_no_harm() -> None:
    trials, epochs = run(noise=0.0)
    trials.loc[trials["block"] == 3, "status"] = "failed"
    found = drift(trials, epochs)
    assert found is not None
    assert found.trials == SETTINGS * (BLOCKS - 1)
    assert found.sentence == ""
