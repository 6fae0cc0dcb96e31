"""One node's side of a run: its worker processes and its sampler. Knows nothing of Ray."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import processes
from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.child import Prime
from harness.schedule.process import (
    BrokenWorkerError,
    Launch,
    Nursery,
    WorkerProcess,
    private_folder,
    start_nursery,
)
from harness.schedule.protocol import Calibrated, Checked, Done, Progress, Ready, Saved
from harness.telemetry.calibrate import calibrate_share
from harness.telemetry.energy import EnergyMeter
from harness.telemetry.environment import describe_node
from harness.telemetry.sampler import Sampler

_START_ATTEMPTS = 3


class Node:
    """The worker processes of one node. `run`, `ready` and `check` block and may be called from several threads,
    one a worker; everything else returns at once."""

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        telemetry_hz: float,
        folder: Path | None = None,
        roots: Sequence[int] | None = None,
    ) -> None:
        """Keep sockets and logs in `folder`, which must have a short path; None makes a new one.

        `roots` are the processes that with what is below them make up the harness on this node; by default this one.
        """
        self._folder = private_folder() if folder is None else folder
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sources = sources
        self._launches: dict[str, Launch] = {}
        self._workers: dict[str, WorkerProcess] = {}
        self._nurseries: dict[tuple[object, ...], Nursery] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._hz = telemetry_hz
        self._roots = roots
        self._anchor_s = time.time() - time.perf_counter()
        self._sampler: Sampler | None = None
        self._saved: dict[str, Saved] = {}  # by worker

    def describe(self) -> dict[str, Any]:
        """Return the node's row for the records."""
        return describe_node()

    def launch(self, launches: Sequence[Launch], nurseries: Sequence[Nursery] = ()) -> None:
        """Take note of the shares to serve and see that their nurseries are on the way; `nurseries` are already."""
        cores = [core for launch in launches for core in launch.cores]
        gpus = [uuid for launch in launches for uuid in launch.gpus]
        with self._lock:
            if self._sampler is None:
                self._sampler = Sampler(
                    rate_hz=self._hz, anchor_s=self._anchor_s, avoid_cores=cores, gpus=gpus, roots=self._roots
                )
                self._sampler.start()
            else:
                self._sampler.widen(avoid_cores=cores, gpus=gpus)
            self._nurseries.update({nursery.key: nursery for nursery in nurseries})
            self._launches.update({launch.name: launch for launch in launches})
        for launch in launches:
            self._nursery(launch)

    def ready(self, name: str) -> Ready:
        """Start a worker, in place of the one there was, and wait until it can take trials.

        Raises:
            SetupError: when it does not come up.
        """
        launch, before = self._launches[name], self._workers.get(name)
        problem = ""
        for _ in range(_START_ATTEMPTS):
            try:
                worker = WorkerProcess.fork(launch, self._nursery(launch), after=before.pid if before else None)
                worker.introduce(self._sources, self._anchor_s)
            except (BrokenWorkerError, OSError) as error:
                problem = str(error)
                continue
            with self._lock:
                self._workers[name] = worker
            if self._sampler is not None:
                self._sampler.watch(name, worker.pid)
            return Ready(worker=name, prepare_s=worker.prepare_s, pid=worker.pid)
        raise SetupError(problem)

    def check(self, name: str, trial: Trial) -> Checked:
        """Have a worker build what a trial declares."""
        try:
            return Checked(worker=name, error=self._workers[name].check(trial))
        except BrokenWorkerError:  # as the kernel does to what takes all memory: for the trial itself to find
            self.ready(name)
            return Checked(worker=name, error=None)

    def calibrate(self, name: str) -> Calibrated:
        """Measure what the cores of a worker's share can do, and then what its back end and device can."""
        values = calibrate_share(self._launches[name].cores)
        try:
            values |= self._workers[name].calibrate()
        except BrokenWorkerError:  # the trials will find what is wrong with it
            self.ready(name)
        return Calibrated(worker=name, values=values)

    def run(self, name: str, trial: Trial, attempt: int = 1, state: bytes | None = None) -> Done:
        """Run one trial on a worker; its process may end with it, and `ready` starts another."""
        worker = self._workers[name]

        def keep(state: bytes) -> None:
            with self._lock:
                self._saved[name] = Saved(key=trial.key, attempt=attempt, state=state)

        outcome: Outcome = worker.run(trial, state=state, on_state=keep)
        return Done(worker=name, outcome=outcome, alive=outcome.status != "lost" and worker.alive())

    def end(self, name: str) -> None:
        """End an idle worker's process; `ready` starts another."""
        worker = self._workers[name]
        worker.stop()
        worker.wait_gone()
        worker.kill()

    def progress(self) -> dict[str, Progress]:
        """Return how far each worker's present or last trial has come."""
        with self._lock:
            workers = list(self._workers.items())
        return {
            name: Progress(epochs=len(worker.epochs), last=worker.epochs[-1] if worker.epochs else None)
            for name, worker in workers
        }

    def saved(self) -> list[Saved]:
        """Return the states that trials have saved since the last call, of each worker the last one."""
        with self._lock:
            saved, self._saved = list(self._saved.values()), {}
        return saved

    def telemetry(self) -> list[dict[str, Any]]:
        """Return the readings since the last call."""
        return [] if self._sampler is None else self._sampler.drain()

    def stop(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """End every process; return the last readings, and what could not be read, with the reasons."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        rows: list[dict[str, Any]] = []
        notes: dict[str, Any] = {}
        if self._sampler is not None:  # first, lest it note that the workers have ended
            launches = self._launches.values()
            cores = {core for launch in launches for core in launch.cores}
            gpus = {uuid for launch in launches for uuid in launch.gpus}
            rows = self._sampler.stop()
            notes = sampling_notes(self._sampler, cores=cores, gpus=gpus)
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.wait_gone(0.5)
            worker.kill()
        end_nurseries(self._processes)
        shutil.rmtree(self._folder, ignore_errors=True)
        return rows, notes

    def _nursery(self, launch: Launch) -> Nursery:
        """Return a nursery that lives for this launch, starting one if there is none."""
        key = launch.nursery_key()
        with self._lock:
            found = self._nurseries.get(key)
            if found is None or not processes.alive(found.pid):
                found, process = start_nursery(launch, self._folder)
                self._nurseries[key] = found
                self._processes.append(process)
            return found


def sampling_notes(sampler: Sampler, *, cores: Collection[int], gpus: Collection[str] = ()) -> dict[str, Any]:
    """Return which metrics could not be read, and when nothing was, each with its reason.

    Workers read the energy counters of these cores and GPUs also where nothing is sampled; what they cannot read has
    its reason then too.
    """
    absent = sampler.absent()
    if "sampler" in absent:
        meter = EnergyMeter(gpus=sorted(gpus), cores=cores)
        absent |= meter.absent
        meter.close()
    return {"absent": absent, "gaps": [asdict(gap) for gap in sampler.gaps]}


def end_nurseries(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Close the lifeline of these nurseries and see that they end."""
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
    for process in processes:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:  # it is importing
            process.kill()
            process.wait()


class Prestarted:
    """The nurseries for some shares of this node, started before anything that will use them.

    The nth of `first` is the trial that the nth share will run first: its worker compiles for it meanwhile.
    """

    def __init__(
        self, launches: Sequence[Launch], first: Sequence[Trial] = (), sources: Mapping[str, Source] | None = None
    ) -> None:
        self.folder: Path = private_folder()
        self.nurseries: list[Nursery] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        primes: dict[tuple[object, ...], list[Prime]] = {launch.nursery_key(): [] for launch in launches}
        for launch, trial in zip(launches, first, strict=False):
            log = str(self.folder / f"{launch.name}.log")
            prime = Prime(name=launch.name, cores=launch.cores, log=log, trial=trial, sources=dict(sources or {}))
            primes[launch.nursery_key()].append(prime)
        for key, launch in {launch.nursery_key(): launch for launch in launches}.items():
            nursery, process = start_nursery(launch, self.folder, primes[key])
            self.nurseries.append(nursery)
            self._processes.append(process)

    def stop(self) -> None:
        """End what still runs."""
        end_nurseries(self._processes)
        shutil.rmtree(self.folder, ignore_errors=True)
