from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from export.recorded import EXAMPLE, diverged, hostile, record
from record.finished import finished

import harness
from harness.answer.export import export
from harness.domain.errors import SetupError


@pytest.fixture
def read(require: Callable[[object, str], None]) -> Callable[[Path], dict[str, Any]]:
    require(find_spec("tensorboard"), "tensorboard is not installed")

    def read(folder: Path) -> dict[str, Any]:
        program = Path(__file__).with_name("read_board.py")
        said = subprocess.run(
            [sys.executable, str(program), str(folder)], capture_output=True, text=True, check=True, timeout=240
        )
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    return read


def test_tensorboard_shows_every_epoch_and_hparams_every_trial(
    tmp_path: Path, read: Callable[[Path], dict[str, Any]]
) -> None:
    told = export([str(EXAMPLE)], to="tensorboard", output=tmp_path / "board")
    assert told.endswith(f"board/: 12 trials; tensorboard --logdir {tmp_path}/board")
    found = read(tmp_path / "board")
    assert found["hparams"] == {"batch_size": [16, 32, 64, 128], "seed": [0, 1, 2]}
    assert found["metrics"] == ["best_val_accuracy", "time_to_target_s", "reached"]
    assert len(found["trials"]) == 12
    assert len(found["curves"]) == 24

    results = harness.load(EXAMPLE)
    trial = results.trials[(results.trials["batch_size"] == 64) & (results.trials["seed"] == 1)].iloc[0]
    epochs = results.epochs[results.epochs["trial_id"] == trial["trial_id"]].sort_values("epoch")
    name = "batch_size=64,seed=1"
    assert found["trials"][name]["hparams"] == {"batch_size": 64, "seed": 1}
    assert found["trials"][name]["status"] == "STATUS_SUCCESS"
    assert found["trials"][name]["metrics"]["best_val_accuracy"] == pytest.approx(epochs["val_accuracy"].max())
    assert found["trials"][name]["metrics"]["reached"] == 1
    for column, tag in {"loss": "epoch_loss", "accuracy": "epoch_accuracy", "train_s": "train_s"}.items():
        steps, times, values = zip(*found["curves"][f"{name}/train"][tag], strict=True)
        assert list(steps) == list(range(1, 21))
        assert list(times) == pytest.approx([time.timestamp() for time in epochs["ended_at"]], abs=1e-3)
        assert list(values) == pytest.approx(epochs[column].tolist(), rel=1e-6)
    held_out = found["curves"][f"{name}/validation"]["epoch_accuracy"]
    expected = [trial["initial_val_accuracy"], *epochs["val_accuracy"]]
    assert [value for _, _, value in held_out] == pytest.approx(expected, rel=1e-6)
    assert [step for step, _, _ in held_out] == list(range(21))


def test_what_was_not_measured_has_no_point_and_what_is_no_number_has_one(
    tmp_path: Path, read: Callable[[Path], dict[str, Any]]
) -> None:
    export([str(diverged(tmp_path / "results"))], to="tensorboard", output=tmp_path / "board")
    found = read(tmp_path / "board")
    done, lost = "batch_size=32,seed=0", "batch_size=32,seed=1"
    assert found["trials"][done]["metrics"] == pytest.approx({"best_val_accuracy": 0.9, "reached": 0})
    assert found["trials"][lost] == {
        "status": "STATUS_FAILURE",
        "hparams": {"batch_size": 32, "seed": 1},
        "metrics": {"reached": 0},
    }
    assert set(found["curves"]) == {f"{done}/train", f"{done}/validation"}
    ((step, _, value),) = found["curves"][f"{done}/train"]["epoch_loss"]
    assert step == 1
    assert math.isnan(value)
    assert [value for _, _, value in found["curves"][f"{done}/train"]["epoch_f1"]] == [0.5, math.inf]
    assert [value for _, _, value in found["curves"][f"{done}/validation"]["epoch_f1"]] == [0.25]


def test_every_trial_has_a_folder_of_its_own_whatever_its_axes_hold(
    tmp_path: Path, read: Callable[[Path], dict[str, Any]]
) -> None:
    runs = [str(hostile(tmp_path / "results")), str(EXAMPLE)]
    export(runs, to="tensorboard", output=tmp_path / "board", target="0.9")
    found = read(tmp_path / "board")
    assert len(found["trials"]) == 12 + 13
    assert all(name.startswith(("suite/2026", "batch_size/2026")) for name in found["trials"])
    assert len({name.lower() for name in found["trials"]}) == 25
    assert '=HYPERLINK("http://example.org","x")' in {one["hparams"].get("note") for one in found["trials"].values()}


def test_arms_and_long_axes_have_folders_of_their_own_too(tmp_path: Path) -> None:
    long = [finished(seed, axes=(("note", "ä" * 300 + text),), batch_size=32 + seed) for seed, text in enumerate("ab")]
    same = [replace(one, trial=replace(one.trial, seed=0, repeat=0)) for one in long]
    export([str(record(tmp_path, *same, axes={"note": []}))], to="tensorboard", output=tmp_path / "board")
    names = [path.name for path in (tmp_path / "board").iterdir() if path.is_dir()]
    assert len(names) == 2
    assert all(one.trial.key[0] in " ".join(names) for one in same)
    assert max(len(name.encode()) for name in names) <= 255


def test_without_the_package_a_person_is_told_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"tensorboard: the package is not installed; pip install 'harness\[tens"):
        export([str(EXAMPLE)], to="tensorboard", output=tmp_path / "board")
