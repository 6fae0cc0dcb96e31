"""Measure the harness side by side with its peers, one after the other on the same two cores.

    python tests/benchmarks/side_by_side.py [--only PART,...] [--rounds N] [--epochs-only] [--json FILE] [--quick]

Parts: the whole cold commands `harness`, `keras`, `tune` and `joblib` (12 trials each, see `a2.py`), `resident` (the
harness's again, on workers that `harness up` keeps and that have run it before), `epochs` (one worker alone on one
core, in turn with `model.fit` and with the bare matrix products) and `figures` (the command line and trials that do
nothing). All of them take about 10 minutes a round on two cores; nothing else should run meanwhile, and how busy the
cores were before each command is printed. Linux only.

It needs the full MNIST through HARNESS_DATA_DIR, and for `tune` and `joblib` the extra `harness[peers]`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure_commands
import measure_epochs
import measure_figures
import pandas as pd
from measure_commands import TITLES, Run
from measure_epochs import Epochs
from measure_figures import Figure
from rich import box
from rich.console import Console
from rich.table import Table

COMMANDS = ("harness", "resident", *measure_commands.PEERS)
PARTS = (*COMMANDS, "epochs", "figures")
FASTER_THAN = {  # the peer's time over the harness's, at least: as one cold command, and on resident workers
    "harness": {"keras": 7.0, "tune": 9.0, "joblib": 5.0},
    "resident": {"keras": 18.0, "tune": 24.0, "joblib": 13.0},
}
AFTER_READY_S = 9.0
WARM_TRIAL_S = 0.050
FASTER_EPOCH = {128: 4.5, 32: 10.0, 16: 10.0}  # model.fit's epoch over the harness's, at least
ABOVE_FLOOR = 1.5  # the harness's epoch over its matrix products', at most


def main() -> int:
    """Measure what was asked for, print it, and return 0 unless a command failed."""
    asked = arguments()
    console = Console(width=120, highlight=False, markup=False)
    data = check_data()
    os.sched_setaffinity(0, measure_commands.cores())  # inherited by every command
    console.print(f"{machine_line()}\nMNIST: {data}\n", soft_wrap=True)
    for name in measure_commands.not_byte_compiled():
        console.print(f"warning: {name} is not byte-compiled, so each command compiles it anew while it imports it")
    say = partial(Console(stderr=True, highlight=False, markup=False).print, soft_wrap=True)

    report: dict[str, Any] = {"machine": measure_commands.machine(), "quick": asked.quick}
    failed = False
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as scratch:
        chosen = [name for name in COMMANDS if name in asked.only]
        if chosen:
            runs = run_commands(chosen, Path(scratch), rounds=asked.rounds, quick=asked.quick, say=say)
            failed |= any(not run.timed.ok for run in runs)
            report["commands"] = show_commands(runs, console)
        if "epochs" in asked.only:
            core = max(os.sched_getaffinity(0))
            env = measure_commands.environment()
            try:
                epochs = measure_epochs.measure(core, env=env, quick=asked.quick, say=say)
                report["epochs"] = show_epochs(epochs, console)
            except measure_epochs.WorkerError as error:
                failed = True
                console.print(f"epochs: {error}")
        if "figures" in asked.only:
            figures = measure_figures.measure(Path(scratch) / "figures", say=say)
            failed |= any(figure.seconds is None for figure in figures)
            report["figures"] = show_figures(figures, console)
    if asked.quick:
        console.print("--quick: far less work than the figures are defined for; the ratios mean nothing")
    if asked.json is not None:
        asked.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        console.print(f"all of this as JSON: {asked.json}", soft_wrap=True)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """Return the command line's wishes: `only` (parts), `rounds`, `json`, `quick`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"comma-separated parts: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=1, help="how often the whole commands run, in turn (medians)")
    parser.add_argument("--epochs-only", action="store_true", help="the same as --only epochs")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--quick", action="store_true", help="6 trials of one epoch: tries the script itself")
    asked = parser.parse_args()
    asked.only = ["epochs"] if asked.epochs_only else asked.only.split(",")
    unknown = [part for part in asked.only if part not in PARTS]
    if unknown:
        parser.error(f"--only: unknown part {', '.join(unknown)}; known parts: {', '.join(PARTS)}")
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {asked.rounds}")
    missing = measure_commands.missing_peers(asked.only)
    if missing:
        parser.error(f"{', '.join(missing)} is not installed here: install harness[peers], or leave it out of --only")
    command = Path(measure_commands.harness_command()[0])
    if {"harness", "resident", "figures"} & set(asked.only) and not command.exists():
        parser.error(f"no {command}: install the harness into the environment of this Python")
    return asked


def check_data() -> Path:
    """Return the file with the full MNIST, or end with the way to get it."""
    folder = os.environ.get("HARNESS_DATA_DIR")
    if not folder:
        raise SystemExit(
            "side_by_side: HARNESS_DATA_DIR is not set; it must name the folder that holds the full MNIST "
            "as mnist.npz (`harness data fetch mnist` gets it)"
        )
    path = Path(folder) / "mnist.npz"
    if not path.is_file():
        raise SystemExit(f"side_by_side: no {path}; HARNESS_DATA_DIR must name a folder that holds mnist.npz")
    return path


def run_commands(names: list[str], scratch: Path, *, rounds: int, quick: bool, say: Callable[[str], None]) -> list[Run]:
    """Run every command once a round, each round beginning with another one."""
    say("reading what the commands will import into memory, so that the first does not pay for the disk")
    subprocess.run(
        [sys.executable, "-c", "import keras, ray"], env=measure_commands.environment(), stderr=subprocess.DEVNULL
    )
    runs = []
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            say(f"commands: round {turn + 1} of {rounds}, {TITLES[name]}")
            work = scratch / f"{name}-{turn}"
            work.mkdir()
            if name == "harness":
                run = measure_commands.run_harness(work, quick=quick)
            elif name == "resident":
                run = measure_commands.run_resident(work, quick=quick)
            else:
                run = measure_commands.run_peer(name, work, quick=quick)
            if not run.timed.ok:
                say(f"{name} failed with exit code {run.timed.returncode}; its last lines:")
                say(run.timed.tail)
            runs.append(run)
    return runs


def show_commands(runs: list[Run], console: Console) -> dict[str, Any]:
    """Print wall times, ratios and accuracies of the whole commands, and return them as plain values."""
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    names = [name for name in COMMANDS if name in by_name]
    walls = {name: [run.timed.wall_s for run in by_name[name] if run.timed.ok] for name in names}
    median = {name: statistics.median(walls[name]) for name in names if walls[name]}

    table = Table(title="whole command, cold", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("command", "wall s", "median s", "others' load before"):
        table.add_column(heading, justify="left" if heading == "command" else "right")
    for name in names:
        table.add_row(
            TITLES[name],
            " ".join(f"{run.timed.wall_s:.1f}" if run.timed.ok else "failed" for run in by_name[name]),
            f"{median[name]:.1f}" if name in median else "-",
            " ".join(f"{run.timed.busy_before:.0%}" for run in by_name[name]),
        )
    console.print(table)
    ratios = show_ratios(median, console)

    accuracies = {name: merged(by_name[name]) for name in names}
    batches = sorted({batch for found in accuracies.values() for batch in found}, reverse=True)
    table = Table(title="mean val_accuracy after the last epoch", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("command")
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right")
    table.add_column("trials", justify="right")
    for name in names:
        found = accuracies[name]
        means = [f"{statistics.mean(found[batch]):.4f}" if batch in found else "-" for batch in batches]
        table.add_row(TITLES[name], *means, str(sum(len(values) for values in found.values())))
    console.print(table)

    report: dict[str, Any] = {
        name: {
            "wall_s": [run.timed.wall_s if run.timed.ok else None for run in by_name[name]],
            "busy_before": [run.timed.busy_before for run in by_name[name]],
            "over": {ours: ratio for (ours, peer), ratio in ratios.items() if peer == name},
            "target": {ours: targets[name] for ours, targets in FASTER_THAN.items() if name in targets},
            "val_accuracy": accuracies[name],
        }
        for name in names
    }
    finished = [run for run in by_name.get("harness", []) if run.folder is not None]
    if finished:
        report["harness"] |= show_harness(finished, console)
    return report


def show_ratios(median: dict[str, float], console: Console) -> dict[tuple[str, str], float]:
    """Print the peers' times over the harness's, and return them by the harness's command and the peer."""
    table = Table(title="how many times faster", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("command", "than", "ratio", "target", "met"):
        table.add_column(heading, justify="left" if heading in ("command", "than") else "right")
    found: dict[tuple[str, str], float] = {}
    for ours, targets in FASTER_THAN.items():
        for peer, target in targets.items():
            if ours in median and peer in median:
                ratio = found[ours, peer] = median[peer] / median[ours]
                met = verdict(ratio >= target)
                table.add_row(TITLES[ours], TITLES[peer], f"{ratio:.2f} x", f"≥ {target:g} x", met)
    if found:
        console.print(table)
    return found


def show_harness(runs: list[Run], console: Console) -> dict[str, Any]:
    """Print where the harness's own command spent its time (medians over rounds), and return it."""
    table = Table(title="inside harness run", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("what", "seconds", "target", "met"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    at = [measure_commands.timings(run.folder) for run in runs if run.folder is not None]
    ready_s = statistics.median(one["workers_ready_s"] for one in at)
    record_s = statistics.median(one["last_record_s"] - one["workers_ready_s"] for one in at)
    end_s = statistics.median(run.timed.wall_s - one["workers_ready_s"] for run, one in zip(runs, at, strict=True))
    table.add_row("command's start to workers ready", f"{ready_s:.2f}", "", "")
    table.add_row("workers ready to last record", f"{record_s:.2f}", "", "")
    table.add_row(
        "workers ready to the command's end, seen from outside",
        f"{end_s:.2f}",
        f"≤ {AFTER_READY_S:g}",
        verdict(end_s <= AFTER_READY_S),
    )
    report: dict[str, Any] = {"timings": at, "ready_to_record_s": record_s, "ready_to_end_s": end_s}
    costs = pd.concat([measure_commands.warm_costs(run.folder) for run in runs if run.folder is not None])
    report["warm_trials"] = len(costs)
    labels = {
        "inside_s": "warm trial: wall less training and evaluation",
        "gap_s": "warm trial: since the trial before on its worker",
        "both_s": "warm trial: both, all that is not training or evaluation",
    }
    for column, label in labels.items():
        values = costs[column].dropna()
        if values.empty:
            continue
        middle, most = float(values.median()), float(values.max())
        report[f"warm_{column}"] = {"median": middle, "max": most}
        judged = column == "both_s"
        table.add_row(
            f"{label} (median of {len(values)}; most {most:.3f})",
            f"{middle:.3f}",
            f"≤ {WARM_TRIAL_S:g}" if judged else "",
            verdict(middle <= WARM_TRIAL_S) if judged else "",
        )
    console.print(table)
    return report


def show_epochs(found: dict[str, dict[int, Epochs]], console: Console) -> dict[str, Any]:
    """Print the median epoch of each contender and the two ratios, and return all that was measured."""
    table = Table(
        title="an epoch (16,000 images), one worker alone on one core: medians of all but each training's first",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for heading in ("batch", "harness s", "model.fit s", "floor s", "fit / harness", "target", "met"):
        table.add_column(heading, justify="right")
    for heading in ("harness / floor", "target", "met"):
        table.add_column(heading, justify="right")
    accuracy = Table(title="val_accuracy of those trainings, by seed", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("batch", "harness", "model.fit"):
        accuracy.add_column(heading, justify="right")
    report: dict[str, Any] = {}
    for batch in measure_epochs.BATCH_SIZES:
        ours, fit, floor = (found[name][batch] for name in measure_epochs.CONTENDERS)
        faster, above = fit.median_s / ours.median_s, ours.median_s / floor.median_s
        table.add_row(
            str(batch),
            f"{ours.median_s:.4f}",
            f"{fit.median_s:.4f}",
            f"{floor.median_s:.4f}",
            f"{faster:.2f} x",
            f"≥ {FASTER_EPOCH[batch]:g} x",
            verdict(faster >= FASTER_EPOCH[batch]),
            f"{above:.2f} x",
            f"≤ {ABOVE_FLOOR:g} x",
            verdict(above <= ABOVE_FLOOR),
        )
        accuracy.add_row(str(batch), *(" ".join(f"{one:.4f}" for one in who.val_accuracy) for who in (ours, fit)))
        report[str(batch)] = {
            "fit_over_harness": faster,
            "harness_over_floor": above,
            **{name: dataclasses.asdict(found[name][batch]) for name in measure_epochs.CONTENDERS},
        }
    console.print(table)
    console.print(accuracy)
    return report


def show_figures(figures: list[Figure], console: Console) -> list[dict[str, Any]]:
    """Print the further figures and return them as plain values."""
    table = Table(title="further figures", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("what", "seconds", "target", "met", "note"):
        table.add_column(heading, justify="left" if heading in ("what", "note") else "right")
    for figure in figures:
        table.add_row(
            figure.what,
            "failed" if figure.seconds is None else f"{figure.seconds:.2f}",
            f"≤ {figure.target_s:g}",
            verdict(figure.seconds is not None and figure.seconds <= figure.target_s),
            figure.note,
        )
    console.print(table)
    return [dataclasses.asdict(figure) for figure in figures]


def merged(runs: list[Run]) -> dict[int, list[float]]:
    """Return the accuracies of all rounds together, by batch size."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for batch, values in run.accuracies.items():
            found.setdefault(batch, []).extend(values)
    return found


def verdict(met: bool) -> str:
    return "yes" if met else "NO"


def machine_line() -> str:
    facts = measure_commands.machine()
    return ", ".join(f"{name} {value}" for name, value in facts.items())


if __name__ == "__main__":
    sys.exit(main())
