"""A `Body` whose trials are sent SIGTERM, as a batch system does to every process of a job that is to end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from typing import Any

from scripted import ScriptedBody

from harness.domain.outcome import Outcome
from harness.domain.trial import Trial


class TerminatedBody(ScriptedBody):
    """Follows the script after that. "ok own" is sent none, and fails unless a trial can end what it starts by it."""

    def run(self, trial: Trial, *arguments: Any, **options: Any) -> Outcome:
        if trial.setting.label == "ok own":
            assert (_ended_process("fork"), _ended_process("spawn")) == (-signal.SIGTERM, -signal.SIGTERM)
            with subprocess.Popen(["sleep", "600"]) as child:
                child.terminate()
            assert child.returncode == -signal.SIGTERM
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().run(trial, *arguments, **options)


def _ended_process(how: str) -> int | None:
    """Return how a process ended that was told to as soon as it was started."""
    made = multiprocessing.get_context(how).Process(target=signal.pause)  # type: ignore[attr-defined]
    made.start()
    made.terminate()
    made.join(60)
    code: int | None = made.exitcode
    made.kill()
    return code
