"""A run over three hosts (network namespaces), one of them cut off in the middle: its log, its records, its times.

    python tests/benchmarks/three_hosts.py [--settings production] [--crash] [--repeats 40] [--pause 1.0]

Needs root, iproute2 and util-linux. With `--settings production` nodes are given up as late as a user's would be.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))
from hosts import FAST, HARNESS, PORT, Hosts, start_cluster, wait_for, why_not

SUITE = Path(__file__).parents[1] / "cluster" / "paced.py"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--settings", choices=("fast", "production"), default="fast")
    asked.add_argument("--crash", action="store_true", help="end everything on the host instead of its network alone")
    asked.add_argument("--repeats", type=int, default=40)
    asked.add_argument("--pause", type=float, default=1.0, help="seconds an epoch takes, of which a trial has three")
    options = asked.parse_args()
    if why_not():
        sys.exit(why_not())
    environment = {"RAY_AUTH_TOKEN": "5a" * 32, **(FAST if options.settings == "fast" else {})}
    with tempfile.TemporaryDirectory(prefix="th", dir="/tmp") as name, Hosts(3) as hosts:
        folder = Path(name)
        start_cluster(hosts.hosts, environment=environment, folder=folder, cpus=2)
        wait_for(lambda: all(host.pids("raylet/raylet") for host in hosts.hosts))
        time.sleep(2)
        words = [HARNESS, "run", str(SUITE), "--address", f"{hosts[0].ip}:{PORT}", "--results", str(folder / "results")]
        words += ["--set", f"repeats={options.repeats}", "--set", f"workload.pause={options.pause}", "--no-calibrate"]
        run = hosts[0].start(*words, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = _follow(run, lambda: _cut(hosts[1], crash=options.crash))
        code = run.wait()
        print(f"\nexit code {code}\n")
        if code == 0:
            _records(folder / "results", lines)


def _cut(host: Any, *, crash: bool) -> None:
    host.crash() if crash else host.pull_cable()


def _follow(run: Any, cut: Any) -> list[tuple[float, str]]:
    """Print what a run says; cut a host off after the sixth trial. Return the lines with Unix times."""
    began_s, lines, done = time.time(), [], False
    for line in run.stdout:
        now_s = time.time()
        lines.append((now_s, line.rstrip()))
        print(f"{now_s - began_s:6.1f} s  {line.rstrip()}", flush=True)
        if not done and re.match(r"6/\d+ ", line):
            cut()
            done = True
            lines.append((time.time(), "CUT"))
            print(f"{time.time() - began_s:6.1f} s  ---- host2 is cut off", flush=True)
    return lines


def _records(results: Path, lines: list[tuple[float, str]]) -> None:
    """Print the records, and what the cut cost."""
    import pandas as pd

    table = pd.concat(pd.read_parquet(path) for path in sorted(results.glob("*/*/trials.parquet")))
    told = table.sort_values("started_at")[["trial_id", "repeat", "node", "worker", "attempt", "status", "started_at"]]
    print(told.to_string(index=False))
    print(f"\n{len(table)} records of {table[['trial_id', 'arm']].drop_duplicates().shape[0]} trials")
    cut_s = next((when for when, line in lines if line == "CUT"), None)
    noticed_s = next((when for when, line in lines if "was lost" in line or "lost " in line), None)
    again = table[table["attempt"] > 1]
    if cut_s is None or noticed_s is None or again.empty:
        print("the run ended before the cut was noticed")
        return
    print(f"from the cut to the notice:                       {noticed_s - cut_s:6.1f} s")
    began_s = again["started_at"].max()
    began_s = began_s.timestamp() if hasattr(began_s, "timestamp") else float(began_s)
    print(f"from the notice to the last of its trials' start: {began_s - noticed_s:6.1f} s")


if __name__ == "__main__":
    main()
