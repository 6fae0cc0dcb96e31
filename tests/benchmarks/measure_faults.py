"""What is lost when processes are killed with -9: tables with counts.

    python tests/benchmarks/measure_faults.py workers    # a random worker every 2 s, over 200 trials of 0.2 s
    python tests/benchmarks/measure_faults.py training   # … every 20 s, over a TensorFlow suite
    python tests/benchmarks/measure_faults.py driver     # the driver at 20 random moments, each followed by a resume
    python tests/benchmarks/measure_faults.py daemons    # the node's agent and Ray's processes
    (each: --trials N --every S --kills N --seed N; several at once: workers driver)

The victims are found below the process of the command that was started here. What is then compared: the trials of the
plan with the rows of the tables, the log's records with those that were there before, and the epochs of each trial.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import harness
from harness.record import journal
from harness.record.log import scan
from harness.record.runs import FILE

SLEEPERS = '''
"""Trials that sleep, and import nothing."""
import time
from harness import Setting, Suite, function

def nap(trial, recorder):
    for epoch in recorder.epochs():
        with epoch.training():
            time.sleep({seconds} / trial.epochs)
        epoch.report(loss=1.0 / epoch.number)

suite = Suite(name="naps", base=Setting(workload=function(nap), epochs=2), repeats={trials})
'''
TRAINING = Path(__file__).parents[2] / "suites" / "batch_size.py"
PATIENCE_S = 600.0
NAP_S = 0.2
ENDING_S = 1.0  # the tables of a small run are written within so long
_CHILD = "harness.schedule.child"


@dataclass(kw_only=True)
class Told:
    """What became of one or several runs under fire."""

    name: str
    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    planned: int = 0
    once: int = 0
    again: int = 0  # attempts after the first
    lost: int = 0
    failed: int = 0
    twice: int = 0
    missing: int = 0
    changed: int = 0  # records that are not what they were when the driver was killed
    refused: Counter[str] = field(default_factory=Counter)  # last words of drivers that ended by themselves
    torn: int = 0  # trials whose epochs are not 1, 2, …, each once
    left: int = 0  # processes that were still there 5 s after a driver's end
    behind: Counter[str] = field(default_factory=Counter)  # files that were, in the temporary folder and /dev/shm
    wall_s: float = 0.0

    @property
    def well(self) -> bool:
        counted = (self.twice, self.missing, self.failed, self.lost, self.changed, self.torn, self.left)
        return self.once == self.planned and not any(counted) and not self.behind


def command(suite: Path, results: Path, *more: str) -> subprocess.Popen[bytes]:
    with (results / "out.txt").open("ab") as output:
        words = [sys.executable, "-m", "harness", "run", str(suite), "--results", str(results), *more]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def told(process: psutil.Process) -> str:
    """The name and the command line of a process; nothing of one that is gone."""
    try:
        return f"{process.name()} {' '.join(process.cmdline())}"
    except psutil.Error:
        return ""


def workers(pid: int) -> list[psutil.Process]:
    """The worker processes below a driver: what nurseries have forked."""
    there = below(pid)
    nurseries = {one.pid for one in there if _CHILD in told(one)}
    found = []
    for one in there:
        try:
            if one.pid in nurseries and one.ppid() in nurseries:
                found.append(one)
        except psutil.Error:
            continue
    return found


def kill(victim: psutil.Process) -> bool:
    try:
        victim.kill()  # psutil checks that the id was not given to another process
    except psutil.Error:
        return False
    return True


def folders(results: Path) -> list[Path]:
    return sorted(path.parent for path in results.glob(f"*/*/{FILE}"))


def records(folder: Path) -> dict[str, list[tuple[int, dict[str, object]]]]:
    """What the log of a run holds: by file, the place and head of each whole record of a trial."""
    found: dict[str, list[tuple[int, dict[str, object]]]] = {}
    for path in journal.log_files(folder):
        found[path.name] = [(one.offset, one.head) for one in scan(path) if one.head["kind"] == "trial"]
    return found


def count(folder: Path) -> int:
    return sum(map(len, records(folder).values()))


def judge(folder: Path, into: Told, before: dict[str, list[tuple[int, dict[str, object]]]]) -> None:
    """Add what a run that has ended holds."""
    plan = json.loads((folder / FILE).read_text())["trials"]
    results = harness.load(folder)
    rows = results.trials
    keys = Counter(zip(rows["trial_id"], rows["arm"], strict=True))
    statuses = Counter(rows["status"])
    into.runs += 1
    into.planned += plan
    into.once += sum(1 for number in keys.values() if number == 1)
    into.twice += sum(1 for number in keys.values() if number > 1)
    into.missing += plan - len(keys)
    into.lost += statuses["lost"]
    into.failed += sum(statuses.values()) - statuses["completed"] - statuses["lost"]
    into.again += int((rows["attempt"] - 1).sum())
    completed = Counter(
        (head["trial_id"], head["arm"])
        for heads in records(folder).values()
        for _, head in heads
        if head["status"] == "completed"
    )
    into.twice += sum(1 for number in completed.values() if number > 1)
    after = records(folder)
    into.changed += sum(after.get(name, [])[: len(heads)] != heads for name, heads in before.items())
    epochs = results.epochs.groupby(["trial_id", "arm"], observed=True)["epoch"].agg(list)
    for row in rows.itertuples():
        numbers = sorted(epochs.get((row.trial_id, row.arm), []))
        into.torn += row.status == "completed" and numbers != list(range(1, len(numbers) + 1) or [0])


def end(process: subprocess.Popen[bytes]) -> None:
    """See that a driver, and what it started, is gone when this program ends early."""
    for one in [*below(process.pid), psutil.Process(process.pid)] if process.poll() is None else []:
        kill(one)
    process.wait()


def of_workers(name: str, suite: Path, results: Path, *more: str, every_s: float, chance: random.Random) -> Told:
    """Run a suite and kill one of its workers every so often."""
    found = Told(name=name)
    began = time.monotonic()
    driver = command(suite, results, *more)
    try:
        due = time.monotonic() + every_s
        while driver.poll() is None and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.02)
            there = folders(results)
            if not there or not count(there[0]):  # the workers come first
                due = time.monotonic() + every_s
            elif time.monotonic() >= due:
                alive = workers(driver.pid)
                if alive and kill(chance.choice(alive)):
                    found.kills["worker"] += 1
                    due += every_s
        if driver.poll() is None:
            found.kills["HUNG"] += 1
    finally:
        end(driver)
    found.wall_s = time.monotonic() - began
    for folder in folders(results):
        judge(folder, found, {})
    return found


def of_driver(suite: Path, results: Path, *, kills: int, chance: random.Random) -> Told:
    """Kill the driver in its start, amid trials and at its end, three times a run; resume each time."""
    found = Told(name="driver")
    began, run = time.monotonic(), 0
    while sum(found.kills.values()) < kills:
        home, before, resume = results / str(run), {}, False
        home.mkdir()
        turns = iter([("start", "trials", "end"), ("trials", "start", "end")][run % 2])
        run += 1
        while True:
            when = next(turns, "never") if sum(found.kills.values()) < kills else "never"
            driver = command(suite, home, *(["--resume"] if resume else []))
            try:
                moment = _wait(driver, home, when, chance)
                tree = below(driver.pid)
                if moment and kill(psutil.Process(driver.pid)):
                    driver.wait()
                    found.kills[_seen(home, moment, resume=resume)] += 1
                driver.wait(PATIENCE_S)
                found.left += _left(tree)
            finally:
                end(driver)
            there = folders(home)
            resume = bool(there)
            if resume:
                before = records(there[0])
            if driver.returncode == 0:
                break
            if driver.returncode != -signal.SIGKILL:
                words = (home / "out.txt").read_text().strip().splitlines()[-1:]
                found.refused[f"exit code {driver.returncode}: {' '.join(words)}"] += 1
                if sum(found.refused.values()) > kills:
                    raise SystemExit(str(found.refused))
        judge(folders(home)[0], found, before)
    found.wall_s = time.monotonic() - began
    return found


def _wait(driver: subprocess.Popen[bytes], home: Path, when: str, chance: random.Random) -> str:
    """Return at a random moment of a part of a run; "" when it is over first, or is to end by itself."""
    known = sum(map(count, folders(home)))
    if when == "start":
        return when if _sleeps(driver, chance.uniform(0.0, 6.0), lambda: False) else ""
    if when == "trials":
        _sleeps(driver, PATIENCE_S, lambda: sum(map(count, folders(home))) > known)
        rest = max((_planned(one) - count(one) for one in folders(home)), default=0)
        return when if _sleeps(driver, chance.uniform(0.0, rest * NAP_S / (os.cpu_count() or 1)), lambda: False) else ""
    if when == "end":
        _sleeps(driver, PATIENCE_S, lambda: any(count(one) >= _planned(one) for one in folders(home)))
        return when if _sleeps(driver, chance.uniform(0.0, ENDING_S), lambda: False) else ""
    _sleeps(driver, PATIENCE_S, lambda: False)
    return ""


def _seen(home: Path, moment: str, *, resume: bool) -> str:
    """Return when a driver was killed, by what it has left in the run's folder."""
    if moment != "end":
        return f"{moment} of a resume" if resume and moment == "start" else moment
    folder = folders(home)[0]
    if json.loads((folder / FILE).read_text())["state"] != "running":
        return "end, all written"
    written = (folder / "trials.parquet").exists() or any(folder.glob(".*.tmp"))
    return "end, in the tables" if written else "end, before the tables"


def _planned(folder: Path) -> int:
    return int(json.loads((folder / FILE).read_text())["trials"])


def _sleeps(driver: subprocess.Popen[bytes], seconds: float, until: Callable[[], bool]) -> bool:
    """Wait for so long, or for something, while a driver runs; tell whether it still does."""
    due = time.monotonic() + seconds
    while time.monotonic() < due and driver.poll() is None and not until():
        time.sleep(0.01)
    return driver.poll() is None


def _left(tree: list[psutil.Process]) -> int:
    """Return how many of these processes are still there when they had time to end; end them."""
    _, alive = psutil.wait_procs(tree, timeout=5)
    return sum(kill(one) for one in alive)


def of_daemons(suite: Path, results: Path, *, kills: int, chance: random.Random) -> Told:
    """Kill the node's agent, Ray's daemon of the node and its head in turn; resume where the run ends by that."""
    found = Told(name="daemons")
    began = time.monotonic()
    for number in range(kills):
        part = ("AgentNode", "raylet", "gcs_server")[number % 3]
        home = results / str(number)
        home.mkdir()
        driver = command(suite, home)
        try:
            _sleeps(driver, PATIENCE_S, lambda home=home: sum(map(count, folders(home))) > 0)  # type: ignore[misc]
            _sleeps(driver, chance.uniform(0.0, 3.0), lambda: False)
            tree = below(driver.pid)
            victims = [one for one in tree if told(one).startswith((part, f"ray::{part}"))]
            hit = [kill(one) for one in victims]
            since = time.monotonic()
            driver.wait(PATIENCE_S)
            how = f"{part}: exit {driver.returncode} after {time.monotonic() - since:.0f} s"
            found.kills[how if any(hit) else f"{part}: missed"] += 1
            found.left += _left(tree)
            if driver.returncode not in (0, 1):
                again = command(suite, home, "--resume")
                try:
                    again.wait(PATIENCE_S)
                finally:
                    end(again)
        finally:
            end(driver)
        for folder in folders(home):
            judge(folder, found, {})
    found.wall_s = time.monotonic() - began
    return found


def started_with(temporary: Path) -> list[psutil.Process]:
    """Return the processes that use a temporary folder, this one left out."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.pid != os.getpid() and one.environ().get("TMPDIR") == str(temporary):
                found.append(one)
        except psutil.Error:
            continue
    return found


def left_behind(temporary: Path, shared: set[Path]) -> Counter[str]:
    """Return what was left in a temporary folder, and in the shared memory beside what was there."""
    found = Counter(f"{temporary.name}/{path.name.partition('-')[0]}" for path in temporary.iterdir())
    return found + Counter(map(str, shared_memory() - shared))


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").glob("*"))


def show(found: Told) -> None:
    kills = ", ".join(f"{number} × {part}" for part, number in sorted(found.kills.items()))
    numbers = [
        ("kills that hit", f"{sum(found.kills.values())} ({kills})"),
        ("runs", found.runs),
        ("trials of the plans", found.planned),
        ("recorded once", found.once),
        ("recorded twice", found.twice),
        ("missing", found.missing),
        ("failed", found.failed),
        ("lost", found.lost),
        ("run again after a kill", found.again),
        ("logs changed afterwards", found.changed),
        ("epochs not in order", found.torn),
        ("processes left behind", found.left),
        ("files left behind", ", ".join(f"{number} × {name}" for name, number in found.behind.items()) or 0),
        *(("ended with an error", f"{number} × {words}") for words, number in found.refused.items()),
        ("seconds", f"{found.wall_s:.0f}"),
    ]
    print(f"\n{found.name}: {'nothing lost, nothing twice' if found.well else 'NOT WELL'}")
    for name, value in numbers:
        print(f"  {name:26}{value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["workers", "training", "driver", "daemons"])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--every", type=float)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave the recorded runs where they are, and say where")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    chance = random.Random(asked.seed)
    well = True
    for what in asked.what:
        results = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
        temporary, shared = results / "t", shared_memory()
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)  # of what is started here, and of nothing else
        try:
            suite = results / "naps.py"
            suite.write_text(SLEEPERS.format(seconds=NAP_S, trials=asked.trials or 200))
            match what:
                case "workers":
                    found = of_workers(
                        "workers", suite, results, "--telemetry", "0", every_s=asked.every or 2.0, chance=chance
                    )
                case "training":
                    repeats = f"repeats={max(1, (asked.trials or 400) // 4)}"
                    more = ("--set", repeats, "--set", "epochs=100")
                    found = of_workers("training", TRAINING, results, *more, every_s=asked.every or 20.0, chance=chance)
                case "driver":
                    found = of_driver(suite, results, kills=asked.kills or 20, chance=chance)
                case _:
                    found = of_daemons(suite, results, kills=asked.kills or 6, chance=chance)
            found.left += _left(started_with(temporary))
            found.behind = left_behind(temporary, shared)
            show(found)
            well = well and found.well
        finally:
            if asked.keep:
                print(results)
            else:
                shutil.rmtree(results, ignore_errors=True)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
