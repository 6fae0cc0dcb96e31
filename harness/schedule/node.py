"""One node's side of a run: its shares, its worker processes and its sampler. Knows nothing of Ray."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.domain.errors import SetupError
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.order import Demand
from harness.schedule.process import BrokenWorkerError, Launch, Started, WorkerProcess, private_folder, spawn
from harness.schedule.protocol import Checked, Done, Progress, Ready
from harness.telemetry.cores import shares
from harness.telemetry.environment import describe_node
from harness.telemetry.nvidia import describe_gpus
from harness.telemetry.sampler import Sampler

_START_ATTEMPTS = 3


def share_out(demand: Demand, *, body: str, most: int | None = None, prefix: str = "") -> list[Launch]:
    """Return the disjoint shares of this node that serve `demand`, at most `most` of them.

    Raises:
        SetupError: when the node cannot hold even one.
    """
    cores = shares(demand.cpus)
    gpus: list[tuple[str, ...]] = [()] * len(cores)
    if demand.gpus:
        present = _gpu_uuids()
        if 0 < demand.gpus < 1:
            packed = int(1 / demand.gpus)
            gpus = [(uuid,) for _ in range(packed) for uuid in present]
        else:
            each = int(demand.gpus)
            gpus = [tuple(present[i : i + each]) for i in range(0, len(present) - each + 1, each)]
        if not gpus:
            raise SetupError(f"gpus={demand.gpus:g} asks for more GPUs than this node shows ({len(present)})")
    count = 1 if demand.exclusive else min(len(cores), len(gpus), most or len(cores))
    kind = (
        "" if (demand.cpus, demand.gpus) == (1, 0) else f"c{demand.cpus}" + (f"g{demand.gpus:g}" if demand.gpus else "")
    )
    return [
        Launch(
            name=f"{prefix}{kind}{'.' if kind else ''}{number}",
            body=body, backend=demand.backend, cores=cores[number], gpus=gpus[number],
        )
        for number in range(count)
    ]  # fmt: skip


def _gpu_uuids() -> list[str]:
    found = describe_gpus()
    return [] if found is None else [gpu.uuid for gpu in found.devices]


class Node:
    """The worker processes of one node. `run`, `ready` and `check` block and may be called from several threads,
    one a worker; everything else returns at once."""

    def __init__(self, *, sources: Mapping[str, Source], telemetry_hz: float, folder: Path | None = None) -> None:
        """Keep sockets and logs in `folder`, which must have a short path; None makes a new one."""
        self._folder = private_folder() if folder is None else folder
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sources = sources
        self._workers: dict[str, WorkerProcess] = {}
        self._lock = threading.Lock()
        self._hz = telemetry_hz
        self._sampler: Sampler | None = None

    def describe(self) -> dict[str, Any]:
        """Return the node's row for the records."""
        return describe_node()

    def launch(self, launches: Sequence[Launch], adopted: Sequence[Started] = ()) -> None:
        """Start the processes for these shares; those in `adopted` run already."""
        if self._sampler is None:
            cores = [core for launch in launches for core in launch.cores]
            gpus = [uuid for launch in launches for uuid in launch.gpus]
            self._sampler = Sampler(rate_hz=self._hz, avoid_cores=cores, gpus=gpus)
            self._sampler.start()
        there = {started.launch.name: started for started in adopted}
        for launch in launches:
            if launch.name in there:
                self._put(WorkerProcess(started=there[launch.name], process=None))
            else:
                self._spawn(launch)

    def ready(self, name: str) -> Ready:
        """Wait until a worker can take trials, starting it anew should it end before.

        Raises:
            SetupError: when it does not come up.
        """
        problem = ""
        for _ in range(_START_ATTEMPTS):
            worker = self._workers[name]
            try:
                prepare_s = worker.connect()
                worker.send_sources(self._sources)
                return Ready(worker=name, prepare_s=prepare_s, pid=worker.started.pid)
            except (BrokenWorkerError, OSError) as error:
                problem = f"{error}\n{worker.log_tail()}".strip()
                self._spawn(worker.started.launch)
        raise SetupError(problem)

    def check(self, name: str, trial: Trial) -> Checked:
        """Have a worker build what a trial declares."""
        try:
            return Checked(worker=name, error=self._workers[name].check(trial))
        except BrokenWorkerError as error:
            self._spawn(self._workers[name].started.launch)
            self.ready(name)
            return Checked(worker=name, error=str(error))

    def run(self, name: str, trial: Trial) -> Done:
        """Run one trial on a worker; when its process ends with it, start a new one."""
        worker = self._workers[name]
        outcome: Outcome = worker.run(trial)
        alive = outcome.status not in ("timeout", "lost")
        if not alive:
            self._spawn(worker.started.launch)
        return Done(worker=name, outcome=outcome, alive=alive)

    def replace(self, name: str) -> None:
        """End an idle worker's process and start a new one."""
        worker = self._workers[name]
        worker.stop()
        worker.wait_gone()
        if worker.alive():
            worker.kill()
        self._spawn(worker.started.launch)

    def progress(self) -> dict[str, Progress]:
        """Return how far each worker's present or last trial has come."""
        with self._lock:
            workers = list(self._workers.items())
        return {
            name: Progress(epochs=len(worker.epochs), last=worker.epochs[-1] if worker.epochs else None)
            for name, worker in workers
        }

    def telemetry(self) -> list[dict[str, Any]]:
        """Return the readings since the last call."""
        return [] if self._sampler is None else self._sampler.drain()

    def stop(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """End every process; return the last readings, and what could not be read, with the reasons."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.stop()
        rows: list[dict[str, Any]] = []
        notes: dict[str, Any] = {}
        if self._sampler is not None:
            rows, notes = self._sampler.stop(), sampling_notes(self._sampler)
        for worker in workers:
            worker.wait_gone(0.5)
            worker.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        return rows, notes

    def _spawn(self, launch: Launch) -> None:
        started, process = spawn(launch, self._folder)
        self._put(WorkerProcess(started=started, process=process))

    def _put(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._workers[worker.name] = worker
        if self._sampler is not None:
            self._sampler.watch(worker.name, worker.started.pid)


def sampling_notes(sampler: Sampler) -> dict[str, Any]:
    """Return which metrics could not be read, and when nothing was, each with its reason."""
    return {"absent": sampler.absent(), "gaps": [asdict(gap) for gap in sampler.gaps]}


class Prestarted:
    """Worker processes of this node that were started before anything that will use them."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.folder: Path = private_folder()
        self.started: list[Started] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        for launch in launches:
            started, process = spawn(launch, self.folder)
            self.started.append(started)
            self._processes.append(process)

    def stop(self) -> None:
        """End what still runs."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()  # the lifeline: the process ends itself
        for process in self._processes:
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
