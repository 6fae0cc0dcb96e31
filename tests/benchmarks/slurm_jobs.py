"""Jobs on a Slurm of their own (four node daemons on this machine): until the first epoch, requeued, in arrays.

    python tests/benchmarks/slurm_jobs.py first-epoch [--rounds 3] [--suite suites/batch_size.py]
    python tests/benchmarks/slurm_jobs.py requeued
    python tests/benchmarks/slurm_jobs.py array [--shards 100]

`first-epoch` holds `harness submit --nodes 3` against a bare job that starts Ray on 3 nodes and runs a task on each, in
turn. Needs Debian's slurm-wlm and munge, or their like.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from slurm.daemons import Slurm, why_not
from slurm.submitted import SUITE, Submitted, submit

_BARE = r"""#!/bin/bash
#SBATCH --nodes=3 --ntasks-per-node=1 --exclusive --mem=0 --time=10 --no-kill
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') RAY_USAGE_STATS_ENABLED=0
export RAY_USAGE_STATS_REPORT_URL=http://127.0.0.1:9/ RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
address() { scontrol show node -o $1 | grep -oP 'NodeAddr=\K\S+'; }
export -f address
export HEAD=$(address $SLURMD_NODENAME) PORT=$((20000 + SLURM_JOB_ID % 10000))
srun --no-kill --whole --mem=0 bash -c '
    options="--node-ip-address $(address $SLURMD_NODENAME) --num-cpus 4 --object-store-memory 100000000 --block
        --temp-dir /tmp/b$SLURM_JOB_ID-$SLURM_NODEID --min-worker-port 0 --max-worker-port 0"
    if [ $SLURM_NODEID = 0 ]; then exec RAY start --head --port $PORT --include-dashboard=false $options; fi
    until (exec 3<>/dev/tcp/$HEAD/$PORT) 2>/dev/null; do sleep 0.2; done
    exec RAY start --address $HEAD:$PORT $options' >/dev/null 2>&1 & nodes=$!
until (exec 3<>/dev/tcp/$HEAD/$PORT) 2>/dev/null; do sleep 0.2; done
PYTHON - <<'END'
import os, time, ray
ray.init(address=f"{os.environ['HEAD']}:{os.environ['PORT']}", log_to_driver=False)
while len([node for node in ray.nodes() if node["Alive"]]) < 3:
    time.sleep(0.1)
work = ray.remote(num_cpus=4)(lambda: time.time())
print("first", min(ray.get([work.remote() for _ in range(3)])), flush=True)
END
kill $nodes; wait $nodes; rm -rf /tmp/b$SLURM_JOB_ID-*
"""


def bare(slurm: Slurm, folder: Path) -> float:
    """Return the seconds from sbatch to the first task of a job with Ray alone."""
    log, script = folder / "bare.log", folder / "bare.sh"
    log.unlink(missing_ok=True)
    python = Path(sys.executable)
    script.write_text(_BARE.replace("RAY start", f"{python.with_name('ray')} start").replace("PYTHON", str(python)))
    began_s = time.time()
    subprocess.run(["sbatch", "--wait", f"--output={log}", str(script)], env=slurm.environment, check=True, timeout=200)
    return float(log.read_text().split("first")[1].split()[0]) - began_s


def submitted(slurm: Slurm, folder: Path, suite: Path, words: Sequence[str]) -> tuple[float, Submitted]:
    """Return the seconds from `harness submit` to the start of the first epoch, and the run."""
    began_s = time.time()
    run = submit(slurm, "--nodes", "3", *words, suite=suite, cwd=folder)
    run.ends()
    return (run.rows("epochs")["started_at"].min() - pd.Timestamp(began_s, unit="s", tz="UTC")).total_seconds(), run


def first_epoch(slurm: Slurm, folder: Path, options: Any) -> None:
    rows = []
    for number in range(options.rounds):
        floor_s = bare(slurm, folder)
        ours_s, run = submitted(slurm, folder, options.suite.absolute(), ["--small"] if options.small else [])
        rows.append((floor_s, ours_s))
        print(f"round {number + 1}: Slurm and Ray alone {floor_s:.1f} s, harness submit {ours_s:.1f} s", flush=True)
    print(json.dumps(run.content()["timings"]))
    over_s = statistics.median(ours_s - floor_s for floor_s, ours_s in rows)
    print(f"median: {over_s:.1f} s over what Slurm and Ray take alone")


def requeued(slurm: Slurm, folder: Path, options: Any) -> None:
    words = ["--set", "repeats=6", "--set", "epochs=150", "--no-calibrate", "--nodes", "3"]
    run = submit(slurm, *words, cwd=folder)
    for attempt, least in ((1, 30), (2, 80)):
        run.waits(lambda attempt=attempt, least=least: _far(run, attempt, least))
        print(f"scontrol requeue {run.job}: {slurm.run('scontrol', 'requeue', run.job).returncode}", flush=True)
    run.ends()
    trials, epochs = run.rows(), run.rows("epochs")
    print(trials[["repeat", "node", "attempt", "status", "train_s"]].sort_values("repeat").to_string(index=False))
    off_s = (epochs["elapsed_train_s"] - epochs.groupby("trial_id")["train_s"].cumsum()).abs().max()
    print(
        f"epochs a trial: {sorted(set(epochs.groupby('trial_id').size()))}; the clock is off by {off_s:.2g} s at most"
    )
    print(json.dumps([{key: one[key] for key in ("attempt", "slurm_restart")} for one in run.content()["attempts"]]))


def _far(run: Submitted, attempt: int, least: int) -> bool:
    live = run.folder / "live.json"
    told = json.loads(live.read_text()) if live.exists() else {"attempt": 0, "running": []}
    return told["attempt"] == attempt and any(one["epochs"] >= least for one in told["running"])


def array(slurm: Slurm, folder: Path, options: Any) -> None:
    count = str(options.shards)
    words = ["--array", f"{count}%4", "--cpus-per-node", "2", "--memory", "1500", "--set", f"repeats={count}"]
    began_s = time.monotonic()
    run = submit(slurm, *words, "--no-calibrate", cwd=folder)
    run.waits(lambda: (run.folder / "trials.parquet").exists(), within_s=3600)
    trials = run.rows()
    print(
        f"{count} shards: {time.monotonic() - began_s:.0f} s, {len(trials)} rows, {trials['trial_id'].nunique()} trials"
    )
    print(f"statuses {dict(trials['status'].value_counts())}, nodes {dict(trials['node'].value_counts())}")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("what", choices=("first-epoch", "requeued", "array"))
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--shards", type=int, default=100)
    asked.add_argument("--suite", type=Path, default=SUITE)
    asked.add_argument("--small", action="store_true")
    options = asked.parse_args()
    if why_not():
        sys.exit(why_not())
    with tempfile.TemporaryDirectory(prefix="hs", dir="/tmp") as name, Slurm(4) as slurm:
        {"first-epoch": first_epoch, "requeued": requeued, "array": array}[options.what](slurm, Path(name), options)


if __name__ == "__main__":
    main()
