"""One node's side of a run: its worker processes and its sampler. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
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
from harness.domain.outcome import EpochRecord, Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.schedule.endings import cause_of
from harness.schedule.launch import Launch, Surroundings
from harness.schedule.nursery import BrokenWorkerError, Nursery, end_nurseries, private_folder, start_nursery
from harness.schedule.process import WorkerProcess
from harness.schedule.protocol import Calibrated, Checked, Done, Progress, Ready, Saved
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
        """Keep sockets and logs in a folder made in `folder`, which must have a short path; None: where it is.

        `roots` are the processes that with what is below them make up the harness on this node; by default this one.
        """
        self._within = folder
        self._folder: Path | None = None  # made for the first nursery, which removes it should this process be killed
        self._sources = sources
        self._launches: dict[str, Launch] = {}
        self._workers: dict[str, WorkerProcess] = {}
        self._nurseries: dict[tuple[object, ...], Nursery] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._spent: dict[tuple[object, ...], list[int]] = {}  # processes that were discarded, by nursery
        self._hz = telemetry_hz
        self._roots = roots
        self._anchor_s = time.time() - time.perf_counter()
        self._sampler: Sampler | None = None
        self._saved: dict[str, Saved] = {}  # by worker
        self._told: dict[str, tuple[list[EpochRecord], int]] = {}  # by worker: whose progress is known, and how far
        self._surroundings: Surroundings | None = None
        self._introduced: set[str] = set()  # workers that know of the present run
        self._warm: dict[str, set[str]] = {}  # the program keys that each worker's process has run
        self._perishable: set[str] = set()  # workers that hold what another run must not find

    def describe(self) -> dict[str, Any]:
        """Return the node's row for the records."""
        return describe_node()

    def begin(
        self,
        *,
        sources: Mapping[str, Source],
        telemetry_hz: float,
        roots: Sequence[int] | None,
        surroundings: Surroundings | None,
    ) -> None:
        """Get ready for another run: with a clock and a sampler of its own, on the workers that are there."""
        launches = list(self._launches.values())
        with self._lock:
            self._sources, self._surroundings, self._introduced = sources, surroundings, set()
            self._hz, self._roots = telemetry_hz, roots
            self._anchor_s = time.time() - time.perf_counter()
            self._saved = {}
            for worker in self._workers.values():
                worker.epochs = []
        if launches:
            self._sample(launches)

    def rest(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """End a run, but keep what is idle; return the last readings, and what could not be read, with the reasons."""
        return self._end_sampling()

    def launch(self, launches: Sequence[Launch], nurseries: Sequence[Nursery] = ()) -> None:
        """Take note of the shares to serve and see that their nurseries are on the way; `nurseries` are already."""
        self._sample(launches)
        with self._lock:
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
        if launch.group is not None and before is not None:
            raise SetupError("it is one of several processes, which can only be started together")
        problem = ""
        for _ in range(_START_ATTEMPTS if launch.group is None else 1):
            try:
                after = before.pid if before is not None else self._take_spent(launch)
                worker = WorkerProcess.fork(launch, self._nursery(launch), after=after)
                self._introduce(worker)
            except (BrokenWorkerError, OSError) as error:
                problem = str(error)
                continue
            with self._lock:
                wanted = name in self._launches
                if wanted:
                    self._workers[name] = worker
                    self._warm[name] = set()
                    self._perishable.discard(name)
            if not wanted:  # it was discarded meanwhile
                self._discard(worker)
                raise SetupError("it is not wanted any more")
            return Ready(worker=name, prepare_s=worker.prepare_s, pid=worker.pid)
        raise SetupError(problem)

    def _discard(self, worker: WorkerProcess) -> None:
        """End a worker that is not wanted any more; its nursery waits for it when the next one is forked."""
        worker.kill()
        with self._lock:
            self._spent.setdefault(worker.launch.nursery_key(), []).append(worker.pid)

    def _take_spent(self, launch: Launch) -> int | None:
        with self._lock:
            spent = self._spent.get(launch.nursery_key())
            return spent.pop() if spent else None

    def check(self, name: str, trial: Trial) -> Checked:
        """Have a worker build what a trial declares."""
        try:
            return Checked(worker=name, error=self._known(name, trial).check(trial))
        except BrokenWorkerError:  # as the kernel does to what takes all memory: for the trial itself to find
            self.ready(name)
            return Checked(worker=name, error=None)

    def calibrate(self, name: str) -> Calibrated:
        """Have a worker measure what its share can do."""
        try:
            return Calibrated(worker=name, values=self._known(name).calibrate())
        except BrokenWorkerError:  # the trials will find what is wrong with it
            self.ready(name)
            return Calibrated(worker=name, values={})

    def run(self, name: str, trial: Trial, attempt: int = 1, state: bytes | None = None) -> Done:
        """Run one trial on a worker; its process may end with it, and `ready` starts another."""
        if not self._workers[name].alive() and self._launches[name].group is None:
            self.ready(name)  # it was ended while it had nothing to do, which is no trial's loss
        worker = self._known(name, trial)

        def keep(state: bytes) -> None:
            with self._lock:
                self._saved[name] = Saved(key=trial.key, attempt=attempt, state=state)

        outcome: Outcome = worker.run(trial, state=state, on_state=keep)
        if outcome.status == "completed":
            self._warm[name].add(trial.program_key)
        lost = outcome.status == "lost"
        cause = cause_of(worker.exit_code(), out_of_memory=bool(worker.out_of_memory())) if lost else "outside"
        alive = not lost and worker.alive()
        return Done(worker=name, key=trial.key, attempt=attempt, outcome=outcome, alive=alive, cause=cause)

    def end(self, name: str) -> None:
        """End an idle worker's process; `ready` starts another."""
        worker = self._workers[name]
        worker.stop()
        worker.wait_gone()
        worker.kill()

    def progress(self) -> dict[str, Progress]:
        """Return how far each worker's present or last trial has come, where that is not as it was at the last call."""
        with self._lock:
            workers = list(self._workers.items())
        found = {}
        for name, worker in workers:
            epochs = worker.epochs  # another list for each trial
            now = (epochs, len(epochs))
            told = self._told.get(name)
            if told is None or told[0] is not epochs or told[1] != now[1]:
                self._told[name] = now
                found[name] = Progress(epochs=now[1], last=epochs[now[1] - 1] if now[1] else None)
        return found

    def saved(self) -> list[Saved]:
        """Return the states that trials have saved since the last call, of each worker the last one."""
        with self._lock:
            saved, self._saved = list(self._saved.values()), {}
        return saved

    def save_now(self) -> None:
        """Have the trials that are running save their states as soon as they can."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.save_now()

    def telemetry(self) -> list[dict[str, Any]]:
        """Return the readings since the last call."""
        return [] if self._sampler is None else self._sampler.drain()

    def stop(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """End every process; return the last readings, and what could not be read, with the reasons."""
        rows, notes = self._end_sampling()  # first, lest it note that the workers have ended
        with self._lock:
            workers, self._workers, self._launches = list(self._workers.values()), {}, {}  # none is started any more
        for worker in workers:
            worker.stop()
        end_s = time.monotonic() + 0.5
        for worker in workers:
            worker.wait_gone(max(0.0, end_s - time.monotonic()))
            worker.kill()
        end_nurseries(self._processes)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return rows, notes

    def _known(self, name: str, trial: Trial | None = None) -> WorkerProcess:
        """Return a worker that is about to do something for this run, perhaps with a trial."""
        worker = self._workers[name]
        if name not in self._introduced:
            with contextlib.suppress(OSError):  # whoever asks it next finds that it is gone
                self._introduce(worker)
        if trial is not None and (self._sources or reads_what_may_change(trial)):
            self._perishable.add(name)
        return worker

    def _introduce(self, worker: WorkerProcess) -> None:
        worker.introduce(self._sources, self._anchor_s, self._surroundings)
        self._introduced.add(worker.name)
        if self._sampler is not None:
            self._sampler.watch(worker.name, worker.pid)

    def _sample(self, launches: Sequence[Launch]) -> None:
        """See that what these launches hold is sampled."""
        cores = [core for launch in launches for core in launch.cores]
        gpus = [uuid for launch in launches for uuid in launch.gpus]
        with self._lock:
            if self._sampler is not None:
                self._sampler.widen(avoid_cores=cores, gpus=gpus)
                return
            self._sampler = Sampler(
                rate_hz=self._hz, anchor_s=self._anchor_s, avoid_cores=cores, gpus=gpus, roots=self._roots
            )
            self._sampler.start()

    def _end_sampling(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        with self._lock:
            sampler, self._sampler = self._sampler, None
        if sampler is None:
            return [], {}
        launches = self._launches.values()
        cores = {core for launch in launches for core in launch.cores}
        gpus = {uuid for launch in launches for uuid in launch.gpus}
        return sampler.stop(), sampling_notes(sampler, cores=cores, gpus=gpus)

    def _nursery(self, launch: Launch) -> Nursery:
        """Return a nursery that lives for this launch, starting one if there is none."""
        key = launch.nursery_key()
        with self._lock:
            found = self._nurseries.get(key)
            if found is None or not processes.alive(found.pid):
                if self._folder is None:
                    self._folder = private_folder(self._within)
                found, process = start_nursery(launch, self._folder)
                self._nurseries[key] = found
                self._processes.append(process)
            return found


def reads_what_may_change(trial: Trial) -> bool:
    """Whether a trial's data are known by a name alone; those of all others by their content, own functions aside."""
    dataset = trial.setting.dataset
    return dataset is not None and dataset.name == "products"


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
