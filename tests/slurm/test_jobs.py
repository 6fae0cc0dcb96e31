"""Real jobs: a run on an allocation, requeued, cancelled, in an array.

Each test has a story, and all stories go on side by side: most of one is waiting.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from slurm.daemons import Slurm
from slurm.submitted import SUITE, Submitted, harness, submit

Story = Callable[[Slurm, Path], None]

EPOCHS = 600
ODD = 'it\'s "odd" $(touch evil) `touch evil` %j'


def long(folder: Path) -> list[str]:
    """Return what makes trials last for a minute, and for no time once a story has touched the file `hurry`."""
    return ["--set", f"epochs={EPOCHS}", "--set", f"workload.hurry={folder / 'hurry'}"]


def on_every_node(slurm: Slurm, folder: Path) -> None:
    place = folder / ODD
    place.mkdir()
    suite = place / "odd suite.py"
    suite.write_text(SUITE.read_text())
    words = ["submit", suite.name, "--nodes", "3", "--time", "10", "--results", f"r {ODD}", "--job-name", ODD]
    (folder / "meet").mkdir()  # so that no node is late for the last trial
    meets = ["--set", f"workload.meet={folder / 'meet'}", "--set", "workload.pause=0"]
    words += ["--cpus-per-node", "1", "--memory", "1000", "--set", "repeats=6", *meets]
    done = harness(slurm, *words, "--wait", "--no-calibrate", cwd=place)
    (found,) = (place / f"r {ODD}" / "paced").glob("*")
    rows = json.loads(harness(slurm, "status", str(found), "--json", cwd=place).stdout)
    assert rows["counts"] == {"completed": 6}
    assert rows["state"] == "completed"
    assert "COMPLETED" in json.dumps(rows["slurm"])
    run = Submitted(slurm, found, "")
    trials = run.rows()
    assert trials["node"].nunique() == 3
    assert set(trials["node"]) < {"n1", "n2", "n3", "n4"}
    assert sorted(trials["repeat"]) == list(range(6))
    assert set(run.rows("nodes")["node"]) == set(trials["node"])
    assert not list(folder.rglob("evil"))
    assert "6 completed" in done.stdout


def requeued_by_itself_and_by_slurm(slurm: Slurm, folder: Path) -> None:
    words = ["--cpus-per-node", "2", "--memory", "2000", "--set", "repeats=2", *long(folder)]
    run = submit(slurm, *words, "--no-calibrate", cwd=folder)

    def far(attempt: int) -> bool:
        live = run.folder / "live.json"
        told = json.loads(live.read_text()) if live.exists() else {"attempt": 0, "running": []}
        return told["attempt"] == attempt and any(one["epochs"] >= 15 * attempt for one in told["running"])

    run.waits(lambda: far(1))
    assert list(Path(slurm.environment["TMPDIR"]).glob(f"h{run.job}.0.*"))
    slurm.run("scancel", "--batch", "--signal=TERM", run.job)  # as the time limit does
    run.waits(lambda: slurm.state(run.job) == "PENDING")
    told = harness(slurm, "status", run.run_id, cwd=folder).stdout
    assert "pending" in told.lower()
    assert "failed" not in told
    run.waits(lambda: far(2))
    slurm.run("scontrol", "requeue", run.job)
    (folder / "hurry").touch()
    run.ends()
    trials, rows = run.rows(), run.rows("epochs")
    assert sorted(trials["repeat"]) == [0, 1]
    assert set(trials["status"]) == {"completed"}
    assert [one["slurm_restart"] for one in run.content()["attempts"]] == [0, 1, 2]
    for _, of_one in rows.groupby("trial_id"):
        assert list(of_one["epoch"]) == list(range(1, EPOCHS + 1))
        assert of_one["elapsed_train_s"].to_numpy() == pytest.approx(of_one["train_s"].cumsum().to_numpy())


def stopped_and_submitted_again(slurm: Slurm, folder: Path) -> None:
    hold = slurm.says("sbatch", "--parsable", "--mem=100", "--output=/dev/null", "--wrap=sleep 600")
    after = f"--sbatch=--dependency=afterany:{hold}"  # which keeps no other story waiting, as a job without room does
    run = submit(slurm, "--set", "repeats=3", after, "--no-calibrate", cwd=folder)
    listed = harness(slurm, "status", cwd=folder).stdout
    assert "submitted" in listed
    assert "pending" in listed
    told = harness(slurm, "stop", run.run_id, cwd=folder).stdout
    assert "cancel" in told
    run.waits(lambda: slurm.state(run.job) == "CANCELLED")
    assert "harness submit --again" in harness(slurm, "status", run.run_id, cwd=folder).stdout
    slurm.run("scancel", hold)
    harness(slurm, "submit", "--again", run.run_id, "--wait", cwd=folder)
    assert len(run.rows()) == 3
    assert "nothing is left" in harness(slurm, "submit", "--again", run.run_id, cwd=folder).stdout


def in_shards_of_which_one_is_killed(slurm: Slurm, folder: Path) -> None:
    words = ["--array", "3", "--cpus-per-node", "1", "--memory", "1000", "--set", "repeats=6", *long(folder)]
    run = submit(slurm, *words, "--no-calibrate", cwd=folder)
    shard = run.folder / "shards/0002"
    run.waits(lambda: (shard / "live.json").exists() and json.loads((shard / "live.json").read_text())["busy"])
    os.kill(json.loads((shard / "owner.json").read_text())["pid"], signal.SIGKILL)
    (folder / "hurry").touch()
    run.waits(lambda: not slurm.says("squeue", "-h", "-j", run.job))
    told = harness(slurm, "status", run.run_id, cwd=folder).stdout
    assert "submit --again" in told
    again = json.loads(harness(slurm, "submit", "--again", run.run_id, "--json", cwd=folder).stdout)
    assert again["array"] == "2"
    run.waits(lambda: (run.folder / "trials.parquet").exists())
    run.waits(lambda: run.content()["state"] == "completed")
    assert sorted(run.rows()["repeat"]) == list(range(6))
    assert run.rows("epochs").groupby("trial_id").size().eq(EPOCHS).all()


STORIES = (
    requeued_by_itself_and_by_slurm, in_shards_of_which_one_is_killed, stopped_and_submitted_again, on_every_node,
)  # fmt: skip


@pytest.fixture(scope="module")
def temporary(cluster: Slurm) -> Iterator[Path]:
    """Return where jobs keep temporary files: Ray's sockets need a short path."""
    with TemporaryDirectory(prefix="", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(cluster.environment, "TMPDIR", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def ended(cluster: Slurm, temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Return what waits for the end of these stories; a story that went wrong raises there."""
    with ThreadPoolExecutor(len(STORIES)) as pool:
        going = {story: pool.submit(story, cluster, tmp_path_factory.mktemp(story.__name__)) for story in STORIES}

        def ended(*stories: Story) -> None:
            wait([going[story] for story in stories])
            for story in stories:
                going[story].result()

        yield ended
    left = cluster.says("squeue", "-h", "-t", "PENDING,RUNNING,SUSPENDED", "-o", "%A").split()
    if left:
        cluster.says("scancel", *left)


def test_a_run_uses_every_node_of_its_allocation_and_nothing_that_was_only_data_is_executed(
    ended: Callable[..., None],
) -> None:
    ended(on_every_node)


def test_a_run_that_is_stopped_waits_for_nobody_and_can_be_submitted_again(ended: Callable[..., None]) -> None:
    ended(stopped_and_submitted_again)


def test_a_shard_that_was_killed_is_submitted_again_alone_and_all_are_merged(ended: Callable[..., None]) -> None:
    ended(in_shards_of_which_one_is_killed)


def test_a_job_that_is_told_to_end_requeues_itself_and_one_that_slurm_requeues_goes_on_too(
    ended: Callable[..., None],
) -> None:
    ended(requeued_by_itself_and_by_slurm)


def test_jobs_leave_nothing_where_they_keep_temporary_files(ended: Callable[..., None], temporary: Path) -> None:
    ended(*STORIES)
    assert [path.name for path in temporary.iterdir()] == []
