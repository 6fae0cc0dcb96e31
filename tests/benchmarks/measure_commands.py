"""Whole cold commands, timed from outside: the 12 trials by the harness and by each peer.

Every command gets the same two cores, the same quiet logs and a byte-compiled environment; nobody's threads
are set, so each library decides as it does for its ordinary users. joblib and Ray Tune come with the extra
`harness[peers]` (joblib, ray[tune]).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

BESIDE = Path(__file__).resolve().parent
PEERS = {"keras": "keras_script.py", "tune": "ray_tune.py", "joblib": "joblib_script.py"}
TITLES = {
    "harness": "harness run",
    "resident": "harness run, on resident workers",
    "keras": "one Keras script, in sequence",
    "tune": "Ray Tune, one CPU a trial",
    "joblib": "joblib, two processes",
}
NEEDED = {"tune": ("fsspec", "requests", "tensorboardX"), "joblib": ("joblib",)}  # what harness[peers] brings
LIMIT_S = 1800  # a command that takes longer is ended and counts as failed
SETTLE_S = 2.0  # before each command: lets the one before end, and shows who else uses the cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One command run once. `busy_before` is the share of all cores that others used just before it."""

    wall_s: float
    returncode: int
    busy_before: float
    output: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    @property
    def tail(self) -> str:
        """The last lines of what it printed."""
        return "\n".join(self.output.splitlines()[-20:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One round of one contender: its time and, by batch size, the last val_accuracy of each of its trials."""

    name: str
    timed: Timed
    accuracies: dict[int, list[float]] = field(default_factory=dict)
    folder: Path | None = None  # the harness's run folder


def cores() -> list[int]:
    """Return two CPUs that this process may use, on two physical cores where it has two.

    Raises:
        SystemExit: where there is only one CPU, since every figure is for two.
    """
    allowed = sorted(os.sched_getaffinity(0))
    by_core: dict[str, int] = {}
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            core = (topology / "physical_package_id").read_text() + (topology / "core_id").read_text()
        except OSError:
            core = str(cpu)
        by_core.setdefault(core, cpu)
    chosen = sorted(by_core.values())[:2] if len(by_core) >= 2 else allowed[:2]
    if len(chosen) < 2:
        raise SystemExit("side_by_side: this needs two CPUs, since its figures are for two; this process may use one")
    return chosen


def environment() -> dict[str, str]:
    """Return the environment of every command: quiet, on the CPU, Ray on loopback and without usage reports."""
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return inherited | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def timed(argv: list[str], *, env: dict[str, str]) -> Timed:
    """Run `argv` to its end and return its wall time; a command past `LIMIT_S` is killed with its children."""
    busy_before = psutil.cpu_percent(interval=SETTLE_S) / 100
    start_s = time.perf_counter()
    process = subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nended after {LIMIT_S} s"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Timed(
        wall_s=time.perf_counter() - start_s,
        returncode=process.returncode,
        busy_before=busy_before,
        output=output,
    )


def harness_command(*arguments: str) -> list[str]:
    """Return the argv of the `harness` that is installed beside this Python."""
    return [str(Path(sys.executable).with_name("harness")), *arguments]


def run_harness(work: Path, *, quick: bool) -> Run:
    """Run the suite `a2.py` as a cold command, with its results under `work`."""
    smaller = ["--set", "batch_size=128,64", "--set", "epochs=1"] if quick else []
    argv = harness_command("run", str(BESIDE / "a2.py"), "--no-resident", "--results", str(work), *smaller)
    return _recorded("harness", timed(argv, env=environment()), work)


def run_resident(work: Path, *, quick: bool) -> Run:
    """Run the suite `a2.py` on workers that `harness up` keeps, and that have run it once before."""
    smaller = ["--set", "batch_size=128,64", "--set", "epochs=1"] if quick else []
    env = environment() | {"XDG_RUNTIME_DIR": str(work)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "env": env, "check": True}
    run = harness_command("run", str(BESIDE / "a2.py"), *smaller, "--results")
    subprocess.run(harness_command("up", str(BESIDE / "a2.py")), **quiet)
    try:
        subprocess.run([*run, str(work / "before")], **quiet)
        return _recorded("resident", timed([*run, str(work / "measured")], env=env), work / "measured")
    finally:
        subprocess.run(harness_command("down", "--now"), **quiet)


def _recorded(name: str, result: Timed, results: Path) -> Run:
    if not result.ok:
        return Run(name=name, timed=result)
    folder = run_folder(results)
    return Run(name=name, timed=result, accuracies=recorded_accuracies(folder), folder=folder)


def run_peer(name: str, work: Path, *, quick: bool) -> Run:
    """Run one peer's script as a cold command."""
    out = work / "accuracies.json"
    smaller = ["--batch-sizes", "128", "64", "--epochs", "1"] if quick else []
    env = environment()
    if name == "tune":  # so that Ray does not write a token of its own under the user's home
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    result = timed([sys.executable, str(BESIDE / "peers" / PEERS[name]), "--out", str(out), *smaller], env=env)
    if not result.ok:
        return Run(name=name, timed=result)
    accuracies: dict[int, list[float]] = {}
    for trial in json.loads(out.read_text(encoding="utf-8")):
        accuracies.setdefault(trial["batch_size"], []).append(trial["val_accuracy"])
    return Run(name=name, timed=result, accuracies=accuracies)


def run_folder(results: Path) -> Path:
    """Return the one finished run under a results folder that was empty before."""
    found = [path.parent for path in results.glob("*/*/run.json")]
    if len(found) != 1:
        raise SystemExit(f"side_by_side: expected one run under {results}, found {len(found)}")
    return found[0]


def recorded_accuracies(folder: Path) -> dict[int, list[float]]:
    """Return, by batch size, the val_accuracy that each trial of the run had after its last epoch."""
    epochs = pd.read_parquet(folder / "epochs.parquet").sort_values("epoch").groupby("trial_id").last()
    trials = pd.read_parquet(folder / "trials.parquet").set_index("trial_id").join(epochs[["val_accuracy"]])
    found: dict[int, list[float]] = {}
    for batch, accuracy in zip(trials["batch_size"], trials["val_accuracy"], strict=True):
        found.setdefault(int(batch), []).append(float(accuracy))
    return found


def timings(folder: Path) -> dict[str, float]:
    """Return `timings` of run.json, among them `workers_ready_s` and `last_record_s`, since the command's start."""
    found: dict[str, float] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["timings"]
    return found


def warm_costs(folder: Path) -> pd.DataFrame:
    """Return one row a trial on a warm program (`program_reused`), in seconds.

    `inside_s`: its wall time less training and evaluation; `gap_s`: from the end of the trial before on its
    worker to its start (absent for a worker's first); `both_s`: their sum.
    """
    trials = pd.read_parquet(folder / "trials.parquet").sort_values("started_at")
    gap = trials["started_at"] - trials.groupby("worker")["ended_at"].shift()
    inside = trials["wall_s"] - trials["train_s"] - trials["eval_s"]
    costs = pd.DataFrame({"inside_s": inside, "gap_s": gap.dt.total_seconds()})
    costs["both_s"] = costs["inside_s"] + costs["gap_s"]
    return costs[trials["program_reused"].fillna(False).astype(bool)]


def missing_peers(names: list[str]) -> list[str]:
    """Return those of the peers `names` whose packages are not all installed."""
    return [name for name in names if any(importlib.util.find_spec(one) is None for one in NEEDED.get(name, ()))]


def not_byte_compiled() -> list[str]:
    """Return the packages without byte code: each of their imports would be paid anew by every command."""
    packages = {}
    for name in ("tensorflow", "keras", "ray", "harness"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            packages[name] = Path(importlib.util.cache_from_source(spec.origin))
    return [name for name, cached in packages.items() if not cached.exists()]


def machine() -> dict[str, Any]:
    """Return the facts without which the figures mean nothing."""
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in about if line.startswith("model name")), "unknown")
    versions = {}
    for package in ("tensorflow", "keras", "ray", "joblib", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"cpu": model, "cores": sorted(os.sched_getaffinity(0)), "python": sys.version.split()[0], **versions}
