"""The signals that end a run, collected."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Signals:
    """Collects the names of SIGINT, SIGTERM and SIGHUP instead of dying of them; a second SIGINT interrupts at once.

    Ray takes SIGTERM for itself when it starts, and dumps its stack: `arm` takes it back.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.caught: list[str] = []
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
            # What was ignored before, as nohup does with SIGHUP, stays so.
            self._before = {one: signal.getsignal(one) for one in wanted if signal.getsignal(one) != signal.SIG_IGN}
            self.arm()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arm(self) -> None:
        """Make the handlers be the ones in force."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == "SIGINT" and "SIGINT" in self.caught:
            raise KeyboardInterrupt
        self.caught.append(name)
        self._tell(name)
