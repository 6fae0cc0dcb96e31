"""What was killed leaves nothing behind: a process apart ends what it had started, and removes its folder."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from harness import processes
from harness.schedule.agent import _start_reaper


def test_where_an_agent_is_gone_its_workers_are_ended_and_their_folder_is_removed_by_no_child_of_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "n"
    folder.mkdir()
    (folder / "a.log").write_text("printed")
    before = processes.children(os.getpid())
    reaper = _start_reaper(folder)
    assert processes.children(os.getpid()) == before  # Ray kills the children of an agent that it ends
    worker = subprocess.Popen(["sleep", "600"], env={**os.environ, "HARNESS_WORKER_FOLDER": str(folder)})
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "HARNESS_WORKER_FOLDER": str(tmp_path / "other")})
    assert reaper.stdin is not None
    reaper.stdin.close()
    assert worker.wait(60) == -9
    deadline = time.monotonic() + 60
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not folder.exists()
    assert other.poll() is None
    other.kill()
    other.wait()
