from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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
    assert found.conclusion.startswith("No change of one setting's epoch times was found from the start of a block")
    assert "nor between workers (1." in found.conclusion


def test_what_could_not_have_been_found_is_not_called_unchanged() -> None:
    trials, epochs = run()
    few = drift(trials[trials["block"] < 4], epochs)
    assert few is not None
    assert "too few repeats to look for one from the start of a block to its end or over the run" in few.conclusion


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


def correlated(phi: float, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A run of 20 settings in 10 blocks, each of whose trials takes up `phi` of what disturbed the one before."""
    trials, epochs = [], []
    order = [rng.permutation(20) for _ in range(10)]
    state = rng.normal()
    for position in range(200):
        block, place = divmod(position, 20)
        ids = {"run_id": "r", "trial_id": str(position), "setting_id": f"s{order[block][place]}", "arm": "default"}
        state = phi * state + np.sqrt(1 - phi**2) * rng.normal()
        trials.append({**ids, "status": "completed", "block": block, "position": position, "worker": "0"})
        epochs.append({**ids, "epoch": 1, "train_s": float(np.exp(0.05 * state)), "warmup": False})
    return pd.DataFrame(trials), pd.DataFrame(epochs)


@pytest.mark.parametrize("phi", [0.0, 0.63, 0.95])
def test_disturbances_that_last_are_not_taken_for_a_change_within_blocks(phi: float) -> None:
    rng = np.random.default_rng(3)
    found = [drift(*correlated(phi, rng)) for _ in range(60)]
    assert all(one is not None and one.within is not None for one in found)
    alarms = sum(one is not None and one.within is not None and one.within.found for one in found)
    assert alarms <= 3  # of 60 at 1 %: more in 3 of 1,000 such tests


def test_fewer_than_five_blocks_say_nothing_of_what_happens_within_them() -> None:
    trials, epochs = run(within=0.5)
    found = drift(trials[trials["block"] < 4], epochs)
    assert found is not None
    assert found.within is None
    assert found.sentence == ""


def test_a_drift_over_thousands_of_blocks_is_found_by_some_of_them() -> None:
    ids = [{"run_id": "r", "trial_id": str(block), "setting_id": "s", "arm": "default"} for block in range(3000)]
    trials = [one | {"status": "completed", "block": n, "position": n, "worker": "0"} for n, one in enumerate(ids)]
    epochs = [
        one | {"epoch": 1, "train_s": float(np.exp(0.1 * n / 2999)), "warmup": False} for n, one in enumerate(ids)
    ]
    found = drift(pd.DataFrame(trials), pd.DataFrame(epochs))
    assert found is not None
    assert found.over is not None
    assert found.over.percent == pytest.approx(100 * np.expm1(0.1))


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
