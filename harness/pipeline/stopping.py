"""Whether somebody wants the run to end by `harness stop`: looked up once a second, and told once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from harness.pipeline.standing import Standing
from harness.record import stop
from harness.record.stop import StopRequest

_LOOK_EVERY_S: Final = 1.0


class Stopping:
    """The requests to end one attempt of the run in `folder`; a context manager, which forgets them at the end."""

    def __init__(
        self,
        folder: Path,
        *,
        attempt: int,
        standing: Standing,
        tell: Callable[[StopRequest], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        self._standing = standing
        self._tell = tell
        self._clock = clock
        self._looked_s = float("-inf")
        self._request: StopRequest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if stop.asked(self._folder, attempt=self._attempt) is not None:  # one that came too late among them
            stop.forget(self._folder)

    def asked(self) -> bool:
        """Tell whether the run is to end, at least after the trials that run."""
        now_s = self._clock()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            found = stop.asked(self._folder, attempt=self._attempt)
            if found is not None and (self._request is None or found.now > self._request.now):
                self._request = found
                self._standing.ending = self._standing.ending or "finishing"
                self._tell(found)
        return self._request is not None

    def at_once(self) -> bool:
        """Tell whether the run is to end without waiting for the trials that run."""
        return self.asked() and self._request is not None and self._request.now
