"""What many trials, many workers and many epochs cost the driver: `python tests/benchmarks/measure_scale.py [PART]…`.

Parts, all of them by default (some eight minutes on an idle machine):

    empty      10,000 trials that do nothing: how many a second, and how the driver's memory grows meanwhile
    sleeping   2,000 trials of 1 s on 16 packed slots: how far from the 125 s that they must take
    messages   100 packed workers that end an epoch each 0.2 s, through one driver
    constants  the driver's processor time as a·trials + b·workers + c·epochs, fitted to a few runs
    order      the queue alone: 10,000 trials, for 100 nodes with a demand each, and 100 demands on each of 100 nodes

Each run but those of `order` is a cold `harness run`, watched from outside. `--quick` runs a tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

BESIDE = Path(__file__).resolve().parent
PARTS = ("empty", "sleeping", "messages", "constants", "order")
EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A run, and what its driver used: (seconds since the command began, resident bytes) each half second."""

    trials: int
    workers: int
    epochs: int
    running_s: float  # from workers ready to last record
    cpu_s: float
    memory: Sequence[tuple[float, int]]
    ready_s: float
    files: int
    bytes_written: int

    @property
    def grown_bytes(self) -> int:
        """How much more the driver held at the end than when the workers were ready."""
        before = [rss for at_s, rss in self.memory if at_s <= self.ready_s] or [self.memory[0][1]]
        return max(rss for _, rss in self.memory) - before[-1]


def watch(*, trials: int, cpus: float = 1.0, epochs: int = 1, epoch_s: float = 0.0) -> Watched:
    """Run so many trials and watch the driver.

    Raises:
        SystemExit: when the run does not complete.
    """
    with tempfile.TemporaryDirectory(prefix="scale-") as results:
        values = {"TRIALS": trials, "CPUS": cpus, "EPOCHS": epochs, "EPOCH_S": epoch_s}
        env = {**os.environ, **{f"SCALE_{name}": f"{value:g}" for name, value in values.items()}}
        argv = [sys.executable, "-m", "harness", "run", str(BESIDE / "scale_suite.py"), "--results", results]
        began_s = time.monotonic()
        log = Path(results, "log.txt")
        with log.open("wb") as output:
            driver = psutil.Popen([*argv, "--no-resident", "--no-calibrate"], env=env, stdout=output, stderr=output)
        memory: list[tuple[float, int]] = []
        cpu_s = 0.0
        while driver.poll() is None:
            try:
                with driver.oneshot():
                    memory.append((time.monotonic() - began_s, driver.memory_info().rss))
                    cpu_s = sum(driver.cpu_times()[:2])
            except psutil.Error:
                break
            time.sleep(EVERY_S)
        if driver.wait() != 0:
            raise SystemExit(f"measure_scale: the run failed:\n{log.read_text(errors='replace')[-2000:]}")
        folder = next(Path(results).glob("*/*/run.json")).parent
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        timings = content["timings"]
        files = [path for path in folder.rglob("*") if path.is_file()]
        return Watched(
            trials=trials,
            workers=round((psutil.cpu_count(logical=False) or 1) / cpus),
            epochs=trials * epochs,
            running_s=timings["last_record_s"] - timings["workers_ready_s"],
            cpu_s=cpu_s,
            memory=memory,
            ready_s=timings["workers_ready_s"],
            files=len(files),
            bytes_written=sum(path.stat().st_size for path in files),
        )


def empty(share: float) -> None:
    found = watch(trials=int(10_000 * share))
    print(f"\nempty: {found.trials:,} trials in {found.running_s:.1f} s: {found.trials / found.running_s:.0f} a second")
    print(f"  the driver's memory grew by {found.grown_bytes / 1e6:.0f} MB; its processor time was {found.cpu_s:.1f} s")
    print(f"  {found.files} files, {found.bytes_written / 1e6:.1f} MB")
    for at_s, rss in found.memory[:: max(1, len(found.memory) // 12)]:
        print(f"  {at_s:6.1f} s  {rss / 1e6:5.0f} MB")


def sleeping(share: float) -> None:
    trials = int(2_000 * share)
    found = watch(trials=trials, cpus=0.125, epoch_s=1.0)
    floor_s = -(-trials // found.workers) * 1.0
    over = found.running_s / floor_s - 1
    print(f"\nsleeping: {trials:,} trials of 1 s on {found.workers} slots: {found.running_s:.1f} s, {over:+.1%} over")


def messages(share: float) -> None:
    found = watch(trials=100, cpus=0.02, epochs=int(500 * share), epoch_s=0.2)
    rate = found.epochs / found.running_s
    print(
        f"\nmessages: {found.workers} workers, {found.epochs:,} epochs in {found.running_s:.1f} s: {rate:.0f} a second"
    )
    print(f"  the driver's memory grew by {found.grown_bytes / 1e6:.0f} MB; its processor time was {found.cpu_s:.1f} s")


def constants(share: float) -> None:
    shapes = (
        {"trials": 200},
        {"trials": int(4_000 * share)},
        {"trials": 200, "cpus": 0.05},
        {"trials": 200, "cpus": 0.02},
        {"trials": 200, "epochs": int(200 * share), "epoch_s": 0.002},
        {"trials": 200, "cpus": 0.05, "epochs": int(1_000 * share), "epoch_s": 0.02},
    )
    runs = [watch(**shape) for shape in shapes]
    for run in runs:
        print(f"  {run.trials:6,} trials, {run.workers:4} workers, {run.epochs:8,} epochs: {run.cpu_s:6.2f} s")
    rows = np.array([[1, run.trials, run.workers, run.epochs] for run in runs], dtype=float)
    fitted, *_ = np.linalg.lstsq(rows, np.array([run.cpu_s for run in runs]), rcond=None)
    once_s, trial_s, worker_s, epoch_s = fitted
    print(
        f"\nconstants: the driver's processor time is {once_s:.2f} s + {trial_s * 1e3:.2f} ms a trial "
        f"+ {worker_s * 1e3:.1f} ms a worker + {epoch_s * 1e6:.0f} µs an epoch"
    )


def order(share: float) -> None:
    from harness.domain.setting import Setting
    from harness.domain.trial import Trial
    from harness.schedule.order import Queue

    repeats = max(1, int(100 * share))
    names = [f"n{number}" for number in range(100)]
    own = [Setting(node=name) for name in names]
    packed = [Setting(cpus=1 + number) for number in range(100)]
    for title, settings in (("100 nodes, a demand each", own), ("100 demands on each of 100 nodes", packed)):
        trials = [
            Trial(setting=setting, seed=repeat, repeat=repeat) for setting in settings for repeat in range(repeats)
        ]
        began_s = time.perf_counter()
        queue = Queue(trials, seed=1)
        for demand in queue.demands:
            for name in names if not demand.node else [demand.node]:
                queue.join(f"{name}.{demand.cpus:g}", demand, (name,))
        made_s = time.perf_counter() - began_s
        taken = 0
        while len(queue):
            for name in names:
                due = queue.due(name)
                if due is not None and queue.take(f"{name}.{due.cpus:g}") is not None:
                    queue.ended(f"{name}.{due.cpus:g}")
                    taken += 1
        took_s = time.perf_counter() - began_s - made_s
        print(f"order: {title}: {taken:,} trials, made in {made_s:.2f} s, {took_s / taken * 1e6:.0f} µs each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        {"empty": empty, "sleeping": sleeping, "messages": messages, "constants": constants, "order": order}[part](
            0.1 if arguments.quick else 1.0
        )


if __name__ == "__main__":
    main()
