"""An executor is started, which takes seconds, while signals are heard."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.domain import sources
from harness.pipeline.signals import Signals
from harness.schedule.protocol import Executor


def start(executor: Executor, signals: Signals, *, should_stop: Callable[[], bool]) -> bool:
    """Start an executor, which takes seconds; return False, with that unfinished, if the run is to end meanwhile.

    It happens in a thread beside this one, which can so hear signals, and where Ray cannot take SIGTERM for itself. The
    thread stays: Linux ends processes with the thread that started them, if they ask for that as Ray's do.
    """
    failures: list[BaseException] = []
    done = threading.Event()

    def begin() -> None:
        try:
            executor.start(sources.collected())
        except BaseException as error:
            failures.append(error)
        done.set()
        threading.Event().wait()

    threading.Thread(target=begin, name="harness-start", daemon=True).start()
    while not done.wait(0.05) and not should_stop():
        pass
    if failures:
        raise failures[0]
    signals.arm()
    return done.is_set()
