"""Trials in this very process, one after another, without Ray: for debuggers and for looking closely.

A timeout is checked between the chunks of a trial only, since nothing can end this process from outside.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from harness.domain.errors import SetupError
from harness.domain.outcome import EpochRecord
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.demand import Demand
from harness.schedule.eligible import refusal
from harness.schedule.node import sampling_notes
from harness.schedule.protocol import Body, Calibrated, Checked, Done, Event, Progress, Ready, Saved, Worker
from harness.telemetry.calibrate import calibrate_share
from harness.telemetry.environment import describe_node
from harness.telemetry.sampler import Sampler


class InlineExecutor:
    """An `Executor` whose one worker is the calling process."""

    def __init__(self, body: Body, *, telemetry_hz: float) -> None:
        self._body = body
        self._events: list[Event] = []
        self._workers: dict[str, Worker] = {}
        self._progress: dict[str, Progress] = {}
        self._waiting: list[tuple[str, Trial, int, bytes | None]] = []
        self._saved: dict[tuple[str, str], Saved] = {}
        self._last_rows: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._anchor_s = time.time() - time.perf_counter()
        self._sampler: Sampler | None = Sampler(rate_hz=telemetry_hz, anchor_s=self._anchor_s, gpus=[])

    def start(self, sources: Mapping[str, Source]) -> None:
        if self._sampler is not None:
            self._sampler.start()
            self._sampler.watch("inline", os.getpid())
        self._body.sources(sources)
        self._body.clock(self._anchor_s)

    def open(self, demand: Demand) -> list[Worker]:
        if demand.gpus:
            raise SetupError("the inline executor gives out no GPUs; leave --inline away")
        if demand.devices * demand.nodes > 1:
            raise SetupError("the inline executor splits no batch over devices or nodes; leave --inline away")
        self.node_names(demand)
        # One process, and one name of readings: see `harness.telemetry.probe.process_name`.
        name = "inline" if not self._workers else f"inline@{demand.backend}.{demand.cpus}"
        worker = next((one for one in self._workers.values() if one.demand == demand), None)
        if worker is None:
            cores = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
            worker = Worker(name=name, node=socket.gethostname(), demand=demand, cores=cores)
            self._workers[name] = worker
            began = time.perf_counter()
            self._body.preload(demand.backend)
            self._body.prepare(demand.backend)
            self._events.append(Ready(worker=name, prepare_s=time.perf_counter() - began, pid=os.getpid()))
        return [worker]

    def node_names(self, demand: Demand) -> list[str]:
        here: dict[str, Any] = {"node": socket.gethostname(), "labels": {}, "accelerators": [], "gpu_names": []}
        why = refusal(here, demand)
        if why is not None:
            raise SetupError(
                f"no node can hold a trial that needs {demand}: {here['node']}, where --inline runs it, {why}"
            )
        return [here["node"]]

    def check(self, worker: str, trial: Trial) -> None:
        self._events.append(Checked(worker=worker, error=self._body.check(trial)))

    def calibrate(self, worker: str) -> None:
        values = calibrate_share(self._workers[worker].cores)
        self._events.append(Calibrated(worker=worker, values=values | self._body.calibrate()))

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        self._waiting.append((worker, trial, attempt, state))

    def set_aside(self, node: str) -> None:
        raise SetupError(f"{node} is the only node there is")

    def replace(self, worker: str) -> None:
        raise SetupError("--fresh-workers needs worker processes; leave --inline away")

    def wait(self, timeout_s: float) -> list[Event]:
        while self._waiting:
            worker, trial, attempt, state = self._waiting.pop(0)
            epochs: list[EpochRecord] = []

            def on_epoch(epoch: EpochRecord, worker: str = worker, epochs: list[EpochRecord] = epochs) -> None:
                epochs.append(epoch)
                self._progress[worker] = Progress(epochs=len(epochs), last=epoch)

            deadline = None if trial.timeout_s is None else time.monotonic() + trial.timeout_s

            def on_progress(deadline: float | None = deadline, trial: Trial = trial) -> None:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"timed out after {trial.timeout_s:g} s")

            def on_state(state: bytes, trial: Trial = trial, attempt: int = attempt) -> None:
                self._saved[trial.key] = Saved(key=trial.key, attempt=attempt, state=state)

            outcome = self._body.run(trial, on_epoch, on_progress, state=state, on_state=on_state)
            self._events.append(Done(worker=worker, key=trial.key, attempt=attempt, outcome=outcome, alive=True))
        events, self._events = self._events, []
        return events

    def progress(self) -> dict[str, Progress]:
        return dict(self._progress)

    def saved(self) -> list[Saved]:
        saved, self._saved = list(self._saved.values()), {}
        return saved

    def save_now(self) -> None:
        """Nothing runs while this is called."""

    def telemetry(self) -> list[dict[str, Any]]:
        rows, self._last_rows = self._last_rows, []
        return rows if self._sampler is None else rows + self._sampler.drain()

    def sampling(self) -> dict[str, dict[str, Any]]:
        return self._notes

    def nodes(self) -> list[dict[str, Any]]:
        return [describe_node()]

    def stop(self) -> None:
        if self._sampler is not None:
            self._last_rows = self._sampler.stop()
            cores = {core for worker in self._workers.values() for core in worker.cores}
            self._notes = {socket.gethostname(): sampling_notes(self._sampler, cores=cores)}
            self._sampler = None

    def close(self, *, leaving: bool) -> None:
        """Nothing is left to end."""
