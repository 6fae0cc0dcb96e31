"""An epoch of the harness against `model.fit` and against its floor: one core, one contender at a time, in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).resolve().parent / "epoch_worker.py"
CONTENDERS = ("harness", "fit", "floor")
BATCH_SIZES = (128, 32, 16)
ROUNDS = 3  # seeds 0, 1, 2
EPOCHS = 5  # the first of each training is left out of the medians
ONE_THREAD = {  # as the harness sets them for a worker with one core
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


class WorkerError(Exception):
    """A contender's process ended before it answered."""


@dataclass(slots=True, kw_only=True)
class Epochs:
    """All that one contender measured at one batch size: one list of epochs a round."""

    epoch_s: list[list[float]] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)  # after the last epoch; empty for the floor

    @property
    def median_s(self) -> float:
        """The median over every epoch but the first of each round."""
        return statistics.median(second for one in self.epoch_s for second in one[1:])


class Worker:
    """A contender in a process of its own, pinned to one core; see `epoch_worker.py`."""

    def __init__(self, name: str, core: int, env: dict[str, str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), name, str(core)],
            env=env | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._answer()  # "ready": imports and data are done

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def train(self, *, batch_size: int, seed: int, epochs: int) -> dict[str, Any]:
        """Return the answer to one request."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a worker that has ended is noticed by its missing answer
            print(json.dumps({"batch_size": batch_size, "seed": seed, "epochs": epochs}), file=self._process.stdin)
            self._process.stdin.flush()
        answer: dict[str, Any] = self._answer()
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            last = "".join(self._log.readlines()[-20:])
            raise WorkerError(f"the epoch worker {self.name!r} ended; its last lines:\n{last}")
        return json.loads(line)


def measure(core: int, *, env: dict[str, str], quick: bool, say: Callable[[str], None]) -> dict[str, dict[int, Epochs]]:
    """Return what each contender measured, by batch size; contenders take turns, in another order each round.

    Raises:
        WorkerError: when a contender cannot do what it is asked.
    """
    found = {name: {batch: Epochs() for batch in BATCH_SIZES} for name in CONTENDERS}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, core, env)) for name in CONTENDERS]
        for turn in range(1 if quick else ROUNDS):
            for batch in BATCH_SIZES:
                for worker in workers[turn:] + workers[:turn]:
                    say(f"epochs: round {turn + 1}, batch {batch}, {worker.name}")
                    answer = worker.train(batch_size=batch, seed=turn, epochs=2 if quick else EPOCHS)
                    found[worker.name][batch].epoch_s.append(answer["epoch_s"])
                    if answer["val_accuracy"] is not None:
                        found[worker.name][batch].val_accuracy.append(answer["val_accuracy"])
    return found
