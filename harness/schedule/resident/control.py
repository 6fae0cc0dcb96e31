"""Starting and ending the process that keeps resident workers."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final

from harness import processes
from harness.domain.errors import SetupError
from harness.schedule.resident import place
from harness.schedule.resident.client import ask
from harness.schedule.resident.messages import Asked

_START_S: Final = 180.0  # importing a back end from a slow network disk takes this long at worst
_END_S: Final = 10.0  # for the process to end what it has started
_LEFT_S: Final = 20.0  # and for what cleans up after it
_LOOK_S: Final = 0.05


def bring_up(asked: Asked) -> dict[str, Any] | None:
    """Start the process, wait until its workers are ready, and return its state; None where one is there already.

    Raises:
        SetupError: when it does not come up, with the reason.
    """
    lock = place.claim()
    if lock is None:
        return None
    log = place.folder() / "log"
    try:
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb") as output:
            process = subprocess.Popen(
                [*processes.command("harness.schedule.resident.server"), "--lock", str(lock)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,
                cwd="/",  # no folder is kept in use
            )
    finally:
        os.close(lock)
    try:
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(pickle.dumps(asked))
        return _ready(process)
    except BaseException:
        process.terminate()
        _wait_for(lambda: process.poll() is not None, _END_S)
        process.kill()
        place.clear()
        raise


def _ready(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        found = place.state()
        if found is not None and found["state"] not in ("starting", "ending"):
            return found
        time.sleep(_LOOK_S)
    try:
        problem = (place.folder() / "problem").read_text(encoding="utf-8")
    except OSError:
        lines = (place.folder() / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        problem = lines[-1] if lines else "it printed nothing"
    raise SetupError(f"the resident workers did not come up: {problem}")


def take_down(*, now: bool) -> dict[str, Any] | None:
    """End the process and everything it has started, and return what its state was; None where there was none.

    One that does not answer is killed. `now`: although a run goes on.

    Raises:
        SetupError: when a run goes on, with who uses it; also where it does not answer.
    """
    found = place.state()
    if found is None:
        place.clear()
        return None
    pid, patience_s, refused = found["pid"], _END_S, None
    try:
        connection, answer = ask("down", now=now)
        connection.close()
        refused = answer.get("refused")
    except SetupError as error:  # it hangs, or has not come so far
        patience_s, user = 0.0, found["run"]
        if user is not None and processes.alive(user["pid"]) and not now:
            used = f"they are used by process {user['pid']} ({user['command']})"
            raise SetupError(f"{error}; {used}: `harness down --now` ends that run too") from None
    if refused is not None:
        raise SetupError(refused)
    if not _wait_for(lambda: place.state() is None, patience_s):
        if pid is None:
            raise SetupError("the resident workers are being started; wait for that `harness up`")
        processes.send(pid, signal.SIGKILL)
        _wait_for(lambda: place.state() is None, _END_S)
    reaper = found.get("reaper")
    if reaper is not None:
        _wait_for(lambda: not processes.alive(reaper), _LEFT_S)
    place.clear()
    return found


def _wait_for(done: Callable[[], bool], limit_s: float) -> bool:
    """Return whether something came true within so many seconds."""
    deadline = time.monotonic() + limit_s
    while not (true := done()) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return true
