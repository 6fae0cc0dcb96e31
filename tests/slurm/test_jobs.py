"""Real jobs: a run on an allocation, requeued, cancelled, in an array, and what cannot be."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from slurm.daemons import Slurm
from slurm.submitted import SUITE, Submitted, harness, submit

ODD = 'it\'s "odd" $(touch evil) `touch evil` %j'


def left_behind() -> list[str]:
    """Return what jobs have left where they keep temporary files."""
    return [path.name for path in Path("/tmp").glob("h[0-9]*.[0-9]*")]


def test_a_run_uses_every_node_of_its_allocation_and_nothing_that_was_only_data_is_executed(
    slurm: Slurm, tmp_path: Path
) -> None:
    place = tmp_path / ODD
    place.mkdir()
    suite = place / "odd suite.py"
    suite.write_text(SUITE.read_text())
    words = ["submit", suite.name, "--nodes", "3", "--time", "10", "--results", f"r {ODD}", "--job-name", ODD]
    done = harness(slurm, *words, "--wait", "--no-calibrate", cwd=place)
    (folder,) = (place / f"r {ODD}" / "paced").glob("*")
    rows = json.loads(harness(slurm, "status", str(folder), "--json", cwd=place).stdout)
    assert rows["counts"] == {"completed": 12}
    assert rows["state"] == "completed"
    assert "COMPLETED" in json.dumps(rows["slurm"])
    run = Submitted(slurm, folder, "")
    trials = run.rows()
    assert set(trials["node"]) == {"n1", "n2", "n3"}
    assert sorted(trials["repeat"]) == list(range(12))
    assert set(run.rows("nodes")["node"]) == {"n1", "n2", "n3"}
    assert not list(tmp_path.rglob("evil"))
    assert not left_behind()
    assert "12 completed" in done.stdout


def test_a_job_that_is_told_to_end_requeues_itself_and_one_that_slurm_requeues_goes_on_too(
    slurm: Slurm, tmp_path: Path
) -> None:
    words = ["--cpus-per-node", "2", "--memory", "2000", "--set", "repeats=2", "--set", "epochs=60"]
    run = submit(slurm, *words, "--no-calibrate", cwd=tmp_path)

    def far(attempt: int) -> bool:
        live = run.folder / "live.json"
        told = json.loads(live.read_text()) if live.exists() else {"attempt": 0, "running": []}
        return told["attempt"] == attempt and any(one["epochs"] >= 15 * attempt for one in told["running"])

    run.waits(lambda: far(1))
    slurm.run("scancel", "--batch", "--signal=TERM", run.job)  # as the time limit does
    run.waits(lambda: slurm.state(run.job) == "PENDING")
    told = harness(slurm, "status", run.run_id, cwd=tmp_path).stdout
    assert "pending" in told.lower()
    assert "failed" not in told
    run.waits(lambda: far(2))
    slurm.run("scontrol", "requeue", run.job)
    run.ends()
    trials, rows = run.rows(), run.rows("epochs")
    assert sorted(trials["repeat"]) == [0, 1]
    assert set(trials["status"]) == {"completed"}
    assert [one["slurm_restart"] for one in run.content()["attempts"]] == [0, 1, 2]
    for _, of_one in rows.groupby("trial_id"):
        assert list(of_one["epoch"]) == list(range(1, 61))
        assert of_one["elapsed_train_s"].to_numpy() == pytest.approx(of_one["train_s"].cumsum().to_numpy())
    assert not left_behind()


def test_a_run_that_is_stopped_waits_for_nobody_and_can_be_submitted_again(slurm: Slurm, tmp_path: Path) -> None:
    hold = slurm.says("sbatch", "--parsable", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 60")
    run = submit(slurm, "--set", "repeats=3", "--no-calibrate", cwd=tmp_path)
    listed = harness(slurm, "status", cwd=tmp_path).stdout
    assert "submitted" in listed
    assert "pending" in listed
    told = harness(slurm, "stop", run.run_id, cwd=tmp_path).stdout
    assert "cancel" in told
    run.waits(lambda: slurm.state(run.job) == "CANCELLED")
    assert "harness submit --again" in harness(slurm, "status", run.run_id, cwd=tmp_path).stdout
    slurm.run("scancel", hold)
    harness(slurm, "submit", "--again", run.run_id, "--wait", cwd=tmp_path)
    assert len(run.rows()) == 3
    assert "nothing is left" in harness(slurm, "submit", "--again", run.run_id, cwd=tmp_path).stdout


def test_a_shard_that_was_killed_is_submitted_again_alone_and_all_are_merged(slurm: Slurm, tmp_path: Path) -> None:
    words = ["--array", "4", "--cpus-per-node", "1", "--memory", "1000", "--set", "epochs=20"]
    run = submit(slurm, *words, "--no-calibrate", cwd=tmp_path)
    shard = run.folder / "shards/0002"
    run.waits(lambda: (shard / "live.json").exists() and json.loads((shard / "live.json").read_text())["busy"])
    os.kill(json.loads((shard / "owner.json").read_text())["pid"], signal.SIGKILL)
    run.waits(lambda: not slurm.says("squeue", "-h", "-j", run.job))
    told = harness(slurm, "status", run.run_id, cwd=tmp_path).stdout
    assert "submit --again" in told
    again = json.loads(harness(slurm, "submit", "--again", run.run_id, "--json", cwd=tmp_path).stdout)
    assert again["array"] == "2"
    run.waits(lambda: (run.folder / "trials.parquet").exists())
    run.waits(lambda: run.content()["state"] == "completed")
    assert sorted(run.rows()["repeat"]) == list(range(12))
    assert run.rows("epochs").groupby("trial_id").size().eq(20).all()
