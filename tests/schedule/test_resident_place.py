"""Where resident workers are found, and how what keeps them ends where it does not by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.domain.errors import SetupError
from harness.schedule.resident import control, place
from harness.schedule.resident.likeness import differences, likeness
from harness.schedule.resident.messages import Asked


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def hung(runtime: Path) -> subprocess.Popen[bytes]:
    """Start a process that keeps the lock as a server does, and answers nobody."""
    held = place.claim()
    assert held is not None
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(held,))
    place.write_state({"pid": process.pid, "state": "idle", "address": None, "workers": None, "run": None})
    os.close(held)
    return process


def test_a_server_that_hangs_is_killed_and_leaves_nothing(runtime: Path) -> None:
    process = hung(runtime)
    state = place.state()
    assert state is not None
    assert state["pid"] == process.pid
    assert control.take_down(now=False) == state
    assert process.wait(60) == -9
    assert list(runtime.iterdir()) == []


def test_a_server_that_hangs_in_a_run_is_killed_only_when_asked_to(runtime: Path) -> None:
    process = hung(runtime)
    state = place.state()
    assert state is not None
    place.write_state(state | {"state": "running", "run": {"pid": os.getpid(), "command": "harness run mine.py"}})
    with pytest.raises(SetupError, match=r"harness run mine\.py\): `harness down --now` ends that run too"):
        control.take_down(now=False)
    assert process.poll() is None
    control.take_down(now=True)
    assert process.wait(60) == -9


def test_there_is_one_at_a_time(runtime: Path) -> None:
    process = hung(runtime)
    assert control.bring_up(Asked(address=None, workers=None, idle_s=1.0)) is None
    process.kill()
    process.wait()


def test_what_a_killed_server_left_is_no_server_and_is_cleaned_up(runtime: Path) -> None:
    process = hung(runtime)
    process.kill()
    process.wait()
    assert place.folder().exists()
    assert place.state() is None
    assert control.take_down(now=False) is None
    assert list(runtime.iterdir()) == []


def test_a_folder_that_others_can_write_to_is_not_used(runtime: Path) -> None:
    place.folder().mkdir()
    place.folder().chmod(0o777)
    (place.folder() / "state.json").write_text(json.dumps({"pid": 1, "state": "idle"}))
    assert place.state() is None
    with pytest.raises(SetupError, match="is not this user's alone"):
        place.claim()


def test_a_server_that_nobody_comes_to_ends_by_itself(runtime: Path) -> None:
    from harness.schedule.resident.server import Server

    assert place.claim() is not None
    began = time.monotonic()
    Server(Asked(address=None, workers=None, idle_s=0.2), os.environ).serve()
    assert 0.2 <= time.monotonic() - began < 60


def test_variables_that_change_results_are_named_where_they_differ() -> None:
    plain = {"PATH": "/bin"}
    there, here = likeness(plain | {"TF_XLA_FLAGS": "--a"}), likeness(plain | {"TF_XLA_FLAGS": "--b", "EDITOR": "vi"})
    assert differences(there, here) == "TF_XLA_FLAGS: --a there, --b here"
    assert differences(there, there) == ""


def test_another_file_of_the_harness_is_another_version() -> None:
    one = likeness({})
    assert differences(one, one | {"the harness's files": "12345678"}).endswith(" there, 12345678 here")
