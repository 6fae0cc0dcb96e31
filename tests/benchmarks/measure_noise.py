"""How often the comparison calls equal things different, and how often it finds a slow-down of 10 %, on real trials.

    python tests/benchmarks/measure_noise.py --results /tmp/noise            # measures the pools, then resamples them
    python tests/benchmarks/measure_noise.py --results /tmp/noise --reuse    # resamples the pools that are there

A pool is 200 trials of one small setting, run through the harness: with two workers, and with one. From it two arms are
drawn again and again, no trial twice: "in order", as `harness aa` runs them (neighbours in time are a pair, named at
random, a stretch of the run at a time), and "shuffled", which takes what the machine did meanwhile out of the pairs. A
planted slow-down multiplies the times of the second arm by 1.1. "auto" goes on until both arms are narrow enough, by
the rule and defaults of ``repeats="auto"``; "cap" is how often its cap ended it, which no design can make up for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from harness import load
from harness.analyse.compare import Comparison, Spread, compare, figures, half_width
from harness.domain.design import SLOW_DOWN
from harness.domain.repeats import Auto

SUITE = Path(__file__).with_name("one_setting.py")
AUTO = Auto()
FIXED = (5, 10, 20, 40)
ALARMS_AT_MOST, FOUND_AT_LEAST = 4.0, 90.0  # %

Arms = tuple[np.ndarray, np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="where the pools are, or are written")
    parser.add_argument("--reuse", action="store_true", help="measure nothing")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    met = True
    for workers in (2, 1):
        folder = asked.results / f"workers_{workers}"
        if not asked.reuse:
            measure(folder, workers=workers, trials=asked.trials)
        met &= report(f"{workers} worker{'s' * (workers > 1)}", pool(folder), asked.resamples)
    return 0 if met else 1


def measure(folder: Path, *, workers: int, trials: int) -> None:
    """Run the pool's trials; what they print goes to standard error."""
    command = [sys.executable, "-m", "harness", "run", SUITE, "--results", folder, "--workers", workers]
    words = [*map(str, command), "--set", f"repeats={trials}"]
    subprocess.run(words, check=True, stdout=sys.stderr)


def pool(folder: Path) -> np.ndarray:
    """Return the figure of each trial of the latest run in a folder, in the order in which they were started."""
    latest = sorted((folder / "one_setting").iterdir())[-1]
    results = load(latest)
    table = figures(results.trials, results.epochs).sort_values("position")
    return table["value"].to_numpy(dtype=float)


def report(name: str, values: np.ndarray, resamples: int) -> bool:
    """Print the table of one pool; return whether `auto` met both figures."""
    logs = np.log(values)
    lag = np.corrcoef(logs[:-1], logs[1:])[0, 1]
    print(f"\n{name}: {len(values)} trials, median {1000 * np.median(values):.1f} ms an epoch ", end="")
    print(f"({1000 * values.min():.1f} to {1000 * values.max():.1f}), ", end="")
    print(f"spread of a trial {100 * logs.std(ddof=1):.1f} %, autocorrelation {lag:+.2f}")
    print(f"  {'drawn':10}{'repeats':>22}{'A/A different':>16}{'10 % found':>13}{'cannot tell':>13}{'cap':>10}")
    met = True
    for how, draw in (("in order", in_order), ("shuffled", shuffled)):
        for count in (None, *FIXED):
            for with_floor in (False, True) if count is None else (False,):
                met &= row(how, draw, values, count, with_floor, resamples)
    return met


def row(
    how: str,
    draw: Callable[[np.ndarray, int, np.random.Generator], Arms],
    values: np.ndarray,
    count: int | None,
    with_floor: bool,
    resamples: int,
) -> bool:
    """Resample one case and print its line."""
    rng = np.random.default_rng(0)
    counts, alarms, found, unsure, capped = [], 0, 0, 0, 0
    for _ in range(resamples):
        noise = spread(*draw(values, 10, rng)) if with_floor else None
        first, second = draw(values, count or AUTO.at_most, rng)
        number = count or needed(first, second)
        first, second = first[:number], second[:number]
        counts.append(number)
        capped += count is None and max(half_width(np.log(first)), half_width(np.log(second))) > AUTO.half_width
        same = judged(first, second, noise)
        slower = judged(first, second * SLOW_DOWN, noise)
        alarms += same.different
        found += slower.verdict == "different: slower"
        unsure += slower.verdict == "cannot tell: too few repeats"
    told = str(count) if count is not None else f"auto{', floor' * with_floor}: {int(np.median(counts))}"
    shares = [100 * one / resamples for one in (alarms, found, unsure, capped)]
    cells = "".join(f"{share:>{width}.1f} %" for share, width in zip(shares, (14, 11, 11, 8), strict=True))
    print(f"  {how:10}{told:>22}{cells}", flush=True)
    return count is not None or (shares[0] <= ALARMS_AT_MOST and shares[1] >= FOUND_AT_LEAST)


def in_order(values: np.ndarray, count: int, rng: np.random.Generator) -> Arms:
    start = rng.integers(0, len(values) - 2 * count + 1)
    pairs = values[start : start + 2 * count].reshape(count, 2)
    which = rng.integers(0, 2, count)
    rows = np.arange(count)
    return pairs[rows, which], pairs[rows, 1 - which]


def shuffled(values: np.ndarray, count: int, rng: np.random.Generator) -> Arms:
    drawn = rng.choice(values, 2 * count, replace=False)
    return drawn[:count], drawn[count:]


def needed(first: np.ndarray, second: np.ndarray) -> int:
    """Return after how many repeats `auto` ends, both arms together."""
    for count in range(AUTO.at_least, AUTO.at_most):
        if max(half_width(np.log(first[:count])), half_width(np.log(second[:count]))) <= AUTO.half_width:
            return count
    return AUTO.at_most


def spread(first: np.ndarray, second: np.ndarray) -> Spread:
    """Return what `harness aa` with so many repeats would say of the node."""
    differences = np.log(first) - np.log(second)
    single = np.sqrt((np.log(first).var(ddof=1) + np.log(second).var(ddof=1)) / 2)
    return Spread(single=float(single), paired=float(differences.std(ddof=1)) / 2**0.5, freedom=len(first) - 1)


def judged(first: np.ndarray, second: np.ndarray, noise: Spread | None) -> Comparison:
    tables = [pd.DataFrame({"run_id": "r", "block": range(len(arm)), "value": arm}) for arm in (first, second)]
    return compare(*tables, noise=noise)


if __name__ == "__main__":
    sys.exit(main())
