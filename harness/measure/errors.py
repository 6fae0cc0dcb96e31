"""What a trial raised, in one line and at length."""

from __future__ import annotations

import re
import traceback
from typing import Final

from harness.domain.errors import HarnessError, SetupError
from harness.domain.trial import Trial

_MESSAGE_LIMIT: Final = 400  # characters of a trial's one-line error
_DETAIL_LIMIT: Final = 8000  # characters of its traceback, the end of it kept
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_NOISE: Final = re.compile(r"\x1b\[[0-9;]*m|\{\{[^}]*\}\} ?| ?\[Op:[^]]*\].*")  # colours, and names within TensorFlow


def one_line(error: Exception | SystemExit, trial: Trial) -> str:
    """Return type and message of an error on one line; the harness's own errors speak for themselves."""
    message = _gist(str(error))
    if out_of_memory(error):
        told, setting = f" ({message})" if message else "", trial.setting
        if setting.workload.name != "training":
            return f"out of memory{told}"[:_MESSAGE_LIMIT]
        advice = f"out of memory at batch_size={setting.batch_size}: use a smaller batch or a smaller model"
        return f"{advice}{told}"[:_MESSAGE_LIMIT]
    if isinstance(error, HarnessError | TimeoutError) and message:
        return message[:_MESSAGE_LIMIT]
    return f"{type(error).__name__}: {message}"[:_MESSAGE_LIMIT] if message else type(error).__name__


def traceback_of(error: Exception | SystemExit) -> str | None:
    """Return the end of an error's traceback; what is not set up on a node needs none."""
    if isinstance(error, SetupError):
        return None
    return _COLOURS.sub("", "".join(traceback.format_exception(error)))[-_DETAIL_LIMIT:]


def _gist(message: str) -> str:
    """Return the line of a message that says what is wrong; Keras and TensorFlow begin theirs with where it was."""
    lines = [line for part in _NOISE.sub("", message).splitlines() if (line := part.strip())]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling "):
        return f"{lines[1]} (in {lines[0].removeprefix('Exception encountered when calling ').rstrip('.')})"
    if len(lines) > 1 and lines[0].startswith("Graph execution error"):
        lines = [line for line in lines if not line.startswith("[[")][-1:]
    return lines[0] if lines else ""


def out_of_memory(error: Exception | SystemExit) -> bool:
    """Whether an error of Python or of a back end says so; back ends are known by name, for want of an import."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError")
        or "RESOURCE_EXHAUSTED" in str(error)
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )
