"""How long recorded runs take to answer: 10 million epochs to the time to accuracy, and the commands on many runs.

python tests/benchmarks/measure_results.py                  # writes its runs to a temporary folder: 1 GB
python tests/benchmarks/measure_results.py --keep DIR       # or to this one, where they are found again
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from large_run import TARGET, run_file, write_run
from measure_commands import environment, harness_command, timed
from measure_figures import Figure

RUNS = 1_000
TRIALS, EPOCHS = 100_000, 100  # of the large run
PEAK_GIB = 2.0

# What an analyst writes; then the seconds since the first import of harness, and the peak of the memory held.
ANSWER = """
import resource, sys, time
began_s = time.perf_counter()
import harness
from harness.analyse.target import time_to_accuracy
columns = ["run_id", "trial_id", "setting_id", "arm", "epoch", "elapsed_train_s", "val_accuracy"]
found = harness.load(sys.argv[1], columns={"epochs": columns})
table = time_to_accuracy(found.trials, found.epochs, at_least=float(sys.argv[2]))
assert len(table) and table["median_s"].notna().all()
taken_s = time.perf_counter() - began_s
print(len(found.epochs), len(table), taken_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="where the runs are written, or are already")
    asked = parser.parse_args()
    work = asked.keep or Path(tempfile.mkdtemp(prefix="harness-results-"))
    met = True
    try:
        for figure, well in [of_large(work), *of_status(work), *of_show(work)]:
            met &= well
            told = "failed" if figure.seconds is None else f"{figure.seconds:.2f} s"
            print(f"{figure.what}: {told}  (at most {figure.target_s:g} s; {figure.note})", flush=True)
    finally:
        if asked.keep is None:
            shutil.rmtree(work)
    return 0 if met else 1


def of_large(work: Path) -> tuple[Figure, bool]:
    """Measure reading the large run and the time to accuracy of its settings, in a process of its own."""
    folder = written(work / "large", trials=TRIALS, epochs=EPOCHS)
    argv = [sys.executable, "-c", ANSWER, str(folder), str(TARGET["at_least"])]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment()).stdout.split()
    rows, groups, taken_s, peak = int(said[0]), int(said[1]), float(said[2]), float(said[3])
    note = f"{groups:,} settings; at most {peak:.2f} GiB held, {PEAK_GIB:g} allowed"
    figure = Figure(what=f"load and time to accuracy of {rows:,} epochs", seconds=taken_s, target_s=5.0, note=note)
    return figure, taken_s <= figure.target_s and peak <= PEAK_GIB


def of_status(work: Path) -> list[tuple[Figure, bool]]:
    """Measure `harness status` of many runs that ended, and of many that were killed."""
    found = []
    for state in ("completed", "running"):
        folder = work / f"many_{state}"
        if not folder.exists():
            write_many(folder, state)
        what = "that ended" if state == "completed" else "that were killed, 12 trials in the log of each"
        found.append(of_command(f"harness status of {RUNS:,} runs {what}", 1.0, "status", "--results", str(folder)))
    return found


def of_show(work: Path) -> list[tuple[Figure, bool]]:
    found = []
    for trials, epochs in ((12, 20), (2_000, 50)):
        folder = written(work / f"of_{trials}", trials=trials, epochs=epochs)
        what = f"harness show of {trials:,} trials of {epochs} epochs"
        found.append(of_command(what, 1.0, "show", str(folder)))
    return found


def of_command(what: str, target_s: float, *words: str, times: int = 5) -> tuple[Figure, bool]:
    """Return the median wall time of a whole cold command, and whether it is quick enough."""
    ran = [timed(harness_command(*words), env=environment()) for _ in range(times)]
    if not all(one.ok for one in ran):
        return Figure(what=what, seconds=None, target_s=target_s, note=ran[-1].tail), False
    middle = sorted(one.wall_s for one in ran)[times // 2]
    busy = max(one.busy_before for one in ran)
    note = f"median of {times} cold commands; others used up to {100 * busy:.0f} % of the cores before them"
    return Figure(what=what, seconds=middle, target_s=target_s, note=note), middle <= target_s


def written(results: Path, *, trials: int, epochs: int) -> Path:
    """Return the folder of a run, which is written where it is not there yet."""
    there = sorted(results.glob("*/*/run.json"))
    return there[0].parent if there else write_run(results, trials=trials, epochs=epochs)


def write_many(results: Path, state: str) -> None:
    """Write `RUNS` runs of ten suites without their tables; those that were killed have a log of 12 trials."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from record.finished import INFO, finished

    from harness.record.recorder import Recorder

    with Recorder.create(results / ".log", suite="s", run_id="r", info=INFO) as recorder:
        for seed in range(12):
            recorder.write(finished(seed, epochs=20))
    for number in range(RUNS):
        folder = results / f"suite_{number % 10}" / f"20261121-{number:06d}-7f3a"
        if state == "running":
            shutil.copytree(recorder.folder, folder)
        else:
            folder.mkdir(parents=True)
        content = run_file(folder.name, trials=12, state=state) | {"suite": folder.parent.name}
        (folder / "run.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    shutil.rmtree(results / ".log")


if __name__ == "__main__":
    sys.exit(main())
