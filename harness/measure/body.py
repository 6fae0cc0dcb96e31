"""What runs inside a worker process."""

from __future__ import annotations

import importlib
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from harness.domain.grid import show
from harness.domain.outcome import EpochRecord, Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.measure.errors import one_line, out_of_memory
from harness.measure.trial import run_trial
from harness.measure.worker import WorkerState, backend_of, own_cores, own_gpus
from harness.telemetry.energy import EnergyMeter
from harness.workloads.protocol import Stopwatch, Tick

if TYPE_CHECKING:
    from harness.workloads.training.engine import Backend

_INSTALL: Final = {"jax": "pip install 'harness[jax]'", "torch": "pip install 'harness[torch]'"}
_INSTALL_ALL: Final = "pip install harness"


class Body:
    """What runs inside a worker: prepares the process, then checks and runs the trials it is given."""

    def __init__(self) -> None:
        self._state = WorkerState()
        self._backend: Backend | None = None

    def preload(self, backend: str) -> None:
        """Import what the back end needs, but start no thread and touch no device; "none" needs nothing.

        One that is not installed fails the trials that need it, and nothing else.
        """
        if backend == "none":
            return
        try:
            with _hidden("pandas", "sklearn", *({"jax", "tensorflow", "torch"} - {backend})):
                backend_of(backend)
                importlib.import_module("harness.workloads.training.workload")
        except ImportError as error:
            what = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be imported"
            self._state.missing[backend] = (
                f"the back end {backend!r} {what} on node {platform.node()}: "
                f"{_INSTALL.get(backend, _INSTALL_ALL)} ({error})"
            )

    def prepare(self, backend: str) -> None:
        """Touch the devices, so that no trial pays for it; the process may have been forked after `preload`."""
        if backend != "none" and backend not in self._state.missing:
            self._backend = backend_of(backend)
            self._backend.prepare_process()
        self._state.meter = EnergyMeter(gpus=own_gpus() or (), cores=own_cores() or ())

    def sources(self, sources: Mapping[str, Source]) -> None:
        """Take the text of the files whose functions the trials name."""
        self._state.sources.update(sources)

    def clock(self, anchor_s: float) -> None:
        """Take Unix times as `anchor_s` plus the steady clock from now on, as all of this node do."""
        self._state.anchor_s = anchor_s

    def calibrate(self) -> dict[str, Any]:
        """Return what the back end and its device can do, as columns of `nodes`; nothing where there is none, or where
        it fails: the trials will find what is wrong with it."""
        try:
            return {} if self._backend is None else dict(self._backend.calibrate())
        except Exception:
            return {}

    def check(self, trial: Trial) -> str | None:
        """Build what the setting declares; return what is wrong with it, and at which point of the grid, or None.

        Memory that runs out is nothing wrong, and neither is a back end that is not installed here: it is a result,
        of the trials that will find the same.
        """
        if trial.setting.needs in self._state.missing:
            return None
        try:
            self._state.workload(trial).check(trial, self._state.sources)
        except (Exception, SystemExit) as error:
            if out_of_memory(error):
                return None
            return f"{show(dict(trial.axes))}: {one_line(error, trial)}"
        return None

    def prime(self, trial: Trial) -> None:
        """Compile what a trial needs, ahead of it. What is wrong with the trial is for `check` to say."""
        watch = Stopwatch(time.perf_counter)
        with (
            suppress(Exception, SystemExit),
            closing(self._state.workload(trial).open(trial, self._state.sources, watch)),
        ):
            self._state.compiled_ahead_s[trial.program_key] = watch["compile"].wall_s

    def run(
        self,
        trial: Trial,
        on_epoch: Callable[[EpochRecord], None],
        on_progress: Tick | None = None,
        *,
        state: bytes | None = None,
        on_state: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run one trial; `on_epoch` after each epoch, `on_progress` at least every few seconds."""
        return run_trial(trial, self._state, on_epoch, on_progress, state=state, on_state=on_state)

    def save_now(self) -> None:
        """Have the trial that is running save its state as soon as it can; called from its `on_progress`."""
        self._state.save_asked = True


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Let imports find these packages missing: Keras imports them where it can, which costs seconds and starts
    threads, and uses them for nothing that a trial does. Own functions may import them afterwards."""
    hidden = [name for name in packages if name not in sys.modules]
    if threading.active_count() > 1:
        hidden = []  # another thread may be importing them
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
