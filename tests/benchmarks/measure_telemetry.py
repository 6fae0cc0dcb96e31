"""What telemetry costs, and whether a stopwatch outside the process agrees with the reported epoch times.

    HARNESS_DATA_DIR=... python tests/benchmarks/measure_telemetry.py [--rounds 40]

*Cost*: two workers, each pinned to a core of its own, train at the same time, again and again, without telemetry, with
5 Hz and with 50 Hz, in an order that changes with each round. The readings are drained and recorded as in a run. Each
figure is the median over rounds and workers of the ratio of the median epoch times within one round, with its 95 %
interval by bootstrap. *Stopwatch*: one worker trains epochs of over 0.5 s with few held-out samples; what this process
sees pass between the records of two epochs is set against what they report. Needs two quiet cores.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from scipy.stats import bootstrap

from harness import Setting, dataset, mlp, sgd, tail
from harness.domain.outcome import EpochRecord, Outcome
from harness.domain.trial import Trial
from harness.record.recorder import Recorder
from harness.schedule.demand import Demand
from harness.schedule.node import Node
from harness.schedule.process import WorkerProcess
from harness.schedule.shares import share_out
from harness.telemetry.sampler import Sampler

RATES_HZ = (0.0, 5.0, 50.0)


def trial(*, take: int, held_out: float, batch_size: int, epochs: int, seed: int = 0) -> Trial:
    setting = Setting(
        dataset=dataset("mnist", take=take, scale="none", held_out=tail(held_out)),
        model=mlp(128, activation="sigmoid"),
        optimizer=sgd(0.01),
        batch_size=batch_size,
        epochs=epochs,
    )
    return Trial(setting=setting, seed=seed, repeat=0)


@contextmanager
def sampled(rate_hz: float, node: Node, workers: dict[str, WorkerProcess], recorder: Recorder) -> Iterator[None]:
    """Sample as a run does, and drain and record every second."""
    cores = [core for worker in workers.values() for core in worker.launch.cores]
    sampler = Sampler(rate_hz=rate_hz, avoid_cores=cores, gpus=[])
    over = threading.Event()

    def drain() -> None:
        while not over.wait(1.0):
            recorder.add_telemetry(sampler.drain())

    thread = threading.Thread(target=drain)
    sampler.start()
    for name, worker in workers.items():
        sampler.watch(name, worker.pid)
    thread.start()
    time.sleep(0.6)  # its start is over
    try:
        yield
    finally:
        over.set()
        thread.join()
        recorder.add_telemetry(sampler.stop())


def cost(rounds: int, folder: Path, say: Callable[[str], None]) -> None:
    node = Node(sources={}, telemetry_hz=0.0)
    launches = share_out(Demand(backend="tensorflow", cpus=1, gpus=0.0, exclusive=False), body="harness.measure:Body")
    node.launch(launches)
    names = [launch.name for launch in launches]
    recorder = Recorder.create(folder, suite="cost", info={})
    one = trial(take=20_000, held_out=0.2, batch_size=128, epochs=9)
    found: dict[float, list[list[float]]] = {rate: [] for rate in RATES_HZ}  # a list a round of a median a worker
    scores: set[tuple[float | None, ...]] = set()
    worst = 0.0
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(node.ready, names))
        workers = dict(node._workers)

        def run(name: str) -> Outcome:
            return node.run(name, one).outcome

        list(pool.map(run, names))  # compiles
        for number in range(rounds):
            say(f"cost: round {number + 1} of {rounds}")
            shift = number % len(RATES_HZ)
            for rate in RATES_HZ[shift:] + RATES_HZ[:shift]:
                with sampled(rate, node, workers, recorder):
                    outcomes = list(pool.map(run, names))
                assert all(outcome.status == "completed" for outcome in outcomes)
                found[rate].append([median(epoch.train_s for epoch in one.epochs[1:]) for one in outcomes])
                scores |= {tuple(epoch.val_accuracy for epoch in one.epochs) for one in outcomes}
                for outcome in outcomes:
                    watches = outcome.watches
                    worst = max(worst, watches.unattributed_s / max(0.01 * watches.wall_s, 0.002))
    node.stop()
    recorder.finish("completed")
    base = np.array(found[0.0])
    print(f"epochs of {1e3 * np.median(base):.1f} ms on {len(names)} workers, {rounds} rounds")
    for rate in RATES_HZ[1:]:
        ratios = (np.array(found[rate]) / base).ravel()
        spread = bootstrap((ratios,), np.median, confidence_level=0.95, rng=0).confidence_interval
        percent = [f"{100 * (value - 1):+.2f} %" for value in (np.median(ratios), spread.low, spread.high)]
        print(f"telemetry at {rate:g} Hz: epochs take {percent[0]} (95 %: {percent[1]} to {percent[2]})")
    print(f"accuracies the same to the last bit with and without: {len(scores) == 1}")
    print(f"largest unattributed_s: {worst:.2f} of its bound (the larger of 1 % and 2 ms)")


def stopwatch(epochs: int) -> None:
    node = Node(sources={}, telemetry_hz=5.0)
    launches = share_out(Demand(backend="tensorflow", cpus=1, gpus=0.0, exclusive=True), body="harness.measure:Body")
    node.launch(launches)
    name = launches[0].name
    node.ready(name)
    worker = node._workers[name]
    one = trial(take=60_000, held_out=0.005, batch_size=8, epochs=epochs)
    node.run(name, one)
    worker.connection.send(("run", one))
    seen: list[tuple[float, EpochRecord]] = []
    while True:
        what, value = worker.connection.recv()
        if what == "done":
            break
        seen.append((time.perf_counter(), value))
    node.stop()
    off = []
    for (before_s, _), (after_s, epoch) in pairwise(seen):
        off.append(100 * ((epoch.train_s + (epoch.eval_s or 0.0)) / (after_s - before_s) - 1))
    print(
        f"epochs of {median(epoch.train_s for _, epoch in seen):.2f} s: train_s + eval_s against a stopwatch outside: "
        f"median {median(off):+.3f} %, largest {max(off, key=abs):+.3f} % over {len(off)} epochs"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20, help="of the stopwatch's trial")
    given = parser.parse_args()
    stopwatch(given.epochs)
    with tempfile.TemporaryDirectory() as place:
        cost(given.rounds, Path(place), lambda text: print(text, end="\r", flush=True))
