"""The state of a trial in its middle, as bytes: what it goes on from after whatever ran it was lost.

    harness-state 1 <LF> SHA-256 of all that follows, in hexadecimal <LF> a JSON object on one line <LF> arrays

The JSON says which trial and which version of the harness the state is of, and all of it that is numbers and text
(``epoch``: how many epochs were over; ``resumptions``: how often the trial had gone on from a state before). The arrays
are NumPy's npz, or nothing. No part is ever executed: there is no pickle in it. Whoever passes a state on need not
understand it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from harness.domain.errors import HarnessError
from harness.domain.trial import Trial

_MAGIC: Final = b"harness-state 1\n"
_DIGITS: Final = hashlib.sha256().digest_size * 2


class StateError(HarnessError):
    """A state that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A state, read: `head` is its JSON, `arrays` the bytes after it."""

    head: Mapping[str, Any]
    arrays: memoryview

    @property
    def epoch(self) -> int:
        """How many epochs were over."""
        return int(self.head["epoch"])

    @property
    def resumptions(self) -> int:
        """How often the trial had gone on from a state before."""
        return int(self.head["resumptions"])


def pack(trial: Trial, head: Mapping[str, Any], arrays: bytes) -> bytes:
    """Return the bytes of a state; `head` is JSON, and has at least ``epoch`` and ``resumptions``."""
    told = {"harness": _version(), "trial": list(trial.key), **head}
    line = json.dumps(told, default=lambda number: number.item()).encode() + b"\n"  # NumPy's scalars
    digest = hashlib.sha256(line)
    digest.update(arrays)
    return b"".join((_MAGIC, digest.hexdigest().encode(), b"\n", line, arrays))


def unpack(trial: Trial, data: bytes) -> State:
    """Return what a state holds.

    Raises:
        StateError: when it is cut off or damaged, or is of another trial or another version of the harness.
    """
    if not data.startswith(_MAGIC):
        raise StateError("it is no state, or one in the format of another version")
    view = memoryview(data)[len(_MAGIC) :]
    digest, content = bytes(view[:_DIGITS]), view[_DIGITS + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise StateError(f"it is cut off or damaged ({len(data):,} bytes)")
    head, arrays = _divided(data)
    if head["harness"] != _version():
        raise StateError(f"harness {head['harness']} has saved it, and this is {_version()}")
    if head["trial"] != list(trial.key):
        raise StateError(f"it is of another trial, {head['trial'][0]} (arm {head['trial'][1]})")
    return State(head=head, arrays=arrays)


def glance(data: bytes) -> State:
    """Return what a state that was used already holds, unchecked."""
    head, arrays = _divided(data)
    return State(head=head, arrays=arrays)


def _divided(data: bytes) -> tuple[dict[str, Any], memoryview]:
    start = len(_MAGIC) + _DIGITS + 1
    end = data.index(b"\n", start) + 1
    return json.loads(data[start:end]), memoryview(data)[end:]


@cache
def _version() -> str:
    try:
        return version("harness")
    except PackageNotFoundError:
        return "unknown"  # it runs from a folder that was never installed
