"""States of trials in the folder of a run: the last one of each, whole, until the trial is recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from record.finished import INFO, finished

from harness.domain.errors import ResultsError
from harness.domain.state import StateError, pack
from harness.domain.trial import Trial
from harness.record.recorder import Recorder

TRIAL = finished(0).trial


def a_state(trial: Trial = TRIAL, *, epoch: int = 1) -> bytes:
    return pack(trial, {"epoch": epoch, "resumptions": 0, "epochs": []}, b"arrays")


def create(results: Path) -> Recorder:
    return Recorder.create(results, suite="suite", run_id="run", info=INFO)


def resume(results: Path, **options: bool) -> Recorder:
    return Recorder.resume(results / "suite" / "run", suite_sha256=INFO["suite_sha256"], **options)


def files(results: Path) -> list[str]:
    return sorted(path.name for path in (results / "suite" / "run" / "states").glob("*"))


def test_the_last_state_of_a_trial_is_kept_until_it_is_recorded(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        assert recorder.state_of(TRIAL) is None
        for epoch in (1, 2):
            assert recorder.save_state(TRIAL.key, 1, a_state(epoch=epoch)) is None
        assert len(files(tmp_path)) == 1
        assert recorder.state_of(TRIAL) == a_state(epoch=2)
        recorder.write(finished(0))
        recorder.save_state(TRIAL.key, 1, a_state(epoch=3))  # came with its record, or later
        assert recorder.folder.joinpath("states").exists()  # until the record is safe
        recorder.finish("completed")
    assert not recorder.folder.joinpath("states").exists()


def test_states_stay_when_the_run_ends_before_their_trials(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.save_state(TRIAL.key, 1, a_state())
        recorder.write(finished(1))
        recorder.finish("preempted")
    with resume(tmp_path) as recorder:
        assert recorder.state_of(TRIAL) == a_state()
        recorder.drop_state(TRIAL.key)
        assert recorder.state_of(TRIAL) is None
    assert files(tmp_path) == []


def test_a_state_of_an_earlier_attempt_comes_too_late(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.save_state(TRIAL.key, 2, a_state(epoch=2))
        recorder.save_state(TRIAL.key, 1, a_state(epoch=5))
        assert recorder.state_of(TRIAL) == a_state(epoch=2)
    with resume(tmp_path) as recorder:
        recorder.save_state(TRIAL.key, 1, a_state(epoch=3))  # the first attempt of another process
        assert recorder.state_of(TRIAL) == a_state(epoch=3)
    assert len(files(tmp_path)) == 1


def test_arms_of_one_setting_have_states_of_their_own(tmp_path: Path) -> None:
    other = replace(TRIAL, setting=TRIAL.setting.model_copy(update={"label": "../../$(odd)"}))
    with create(tmp_path) as recorder:
        for trial in (TRIAL, other):
            recorder.save_state(trial.key, 1, a_state(trial))
        assert recorder.state_of(TRIAL) == a_state()
        assert recorder.state_of(other) == a_state(other)
        assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("content", [b"", b"harness-state 1\n", a_state()[:-3], a_state(finished(1).trial)])
def test_a_file_that_is_no_whole_state_of_the_trial_is_told_once_and_removed(tmp_path: Path, content: bytes) -> None:
    with create(tmp_path) as recorder:
        recorder.save_state(TRIAL.key, 1, a_state())
        (name,) = files(tmp_path)
        (recorder.folder / "states" / name).write_bytes(content)
        with pytest.raises(StateError, match=name):
            recorder.state_of(TRIAL)
        assert recorder.state_of(TRIAL) is None


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.save_state(TRIAL.key, 1, a_state())
        (name,) = files(tmp_path)
        stem = name.removesuffix(".state").rsplit("-", 2)[0]
        (recorder.folder / "states" / f".{stem}.tmp").mkdir()  # stands in for a full disk
        problem = recorder.save_state(TRIAL.key, 1, a_state(epoch=2))
        assert "cannot be saved" in (problem or "")
        assert recorder.state_of(TRIAL) == a_state()
        (recorder.folder / "states" / f".{stem}.tmp").rmdir()


def test_what_else_lies_among_the_states_ends_no_run(tmp_path: Path) -> None:
    with create(tmp_path) as recorder:
        recorder.save_state(TRIAL.key, 1, a_state())
        (recorder.folder / "states" / "notes.txt").touch()
        recorder.write(finished(0))
        recorder.finish("completed")
        assert files(tmp_path) == ["notes.txt"]


def test_a_former_owner_saves_nothing_more(tmp_path: Path) -> None:
    with create(tmp_path) as former:
        former.save_state(TRIAL.key, 1, a_state())
        with resume(tmp_path, take_over=True) as recorder:
            with pytest.raises(ResultsError, match="now belongs to"):
                former.save_state(TRIAL.key, 1, a_state(epoch=9))
            assert recorder.state_of(TRIAL) == a_state()


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_state(tmp_path: Path) -> None:
    script = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
from pathlib import Path
from record.test_states import TRIAL, a_state, create
recorder = create(Path({str(tmp_path)!r}))
for epoch in range(10**9):
    recorder.save_state(TRIAL.key, 1, a_state(epoch=epoch))
    if epoch == 5: print("saving", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saving\n"
        os.kill(process.pid, signal.SIGKILL)
    with resume(tmp_path) as recorder:
        assert recorder.state_of(TRIAL) is not None
        recorder.write(finished(0))
        recorder.finish("completed")
    assert not (tmp_path / "suite" / "run" / "states").exists()
