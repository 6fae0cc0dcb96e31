"""One node's worker processes, without Ray: how they are forked, primed and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from scripted import trial

from harness.domain.errors import SetupError
from harness.processes import alive
from harness.schedule import process
from harness.schedule.demand import Demand
from harness.schedule.node import Node
from harness.schedule.nursery import Prestarted
from harness.schedule.shares import share_out
from harness.telemetry.energy import EnergyMeter

BODY = "scripted:ScriptedBody"


@pytest.fixture(autouse=True)
def _workers_find_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node(sources={}, telemetry_hz=0.0)
    yield made
    made.stop()


def test_each_share_gets_the_worker_that_was_primed_for_its_first_trial(node: Node) -> None:
    launches = share_out(Demand.of(trial()), body=BODY)
    first = [trial(seed=number) for number in range(len(launches))]
    prestarted = Prestarted(launches, first)
    try:
        node.launch(launches, prestarted.nurseries)
        for launch, one in zip(launches, first, strict=True):
            node.ready(launch.name)
            facts = node.run(launch.name, one).outcome.facts
            assert facts.compile_ahead_s == 1.0
            assert facts.cores == launch.cores
    finally:
        node.stop()
        prestarted.stop()


def test_a_replaced_worker_is_forked_from_the_same_nursery(node: Node) -> None:
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([launch])
    before = node.ready(launch.name)
    node.end(launch.name)
    after = node.ready(launch.name)
    assert before.pid != after.pid
    assert psutil.Process(after.pid).ppid() == next(iter(node._nurseries.values())).pid


def test_a_nursery_that_was_killed_is_started_anew(node: Node) -> None:
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([launch])
    node.ready(launch.name)
    nursery = next(iter(node._nurseries.values()))
    os.kill(nursery.pid, signal.SIGKILL)
    while alive(nursery.pid):
        time.sleep(0.01)
    node.end(launch.name)
    node.ready(launch.name)
    assert node.run(launch.name, trial()).outcome.status == "completed"


def test_what_calibrating_computes_counts_as_the_workers_own_and_not_as_foreign_load(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CALIBRATE_TIMEOUT_S", 60.0)
    (launch, *_) = share_out(Demand.of(trial()), body="scripted:PatientBody")
    node.launch([launch])
    worker = psutil.Process(node.ready(launch.name).pid)
    values = node.calibrate(launch.name).values
    assert {"core_flops_per_s", "share_foreign_percent"} <= values.keys()
    assert worker.cpu_times().children_user > 0.05


def test_a_folder_is_removed_although_what_made_it_was_killed() -> None:
    program = """
import os, sys
from scripted import trial
from harness.schedule.nursery import Prestarted
from harness.schedule.demand import Demand
from harness.schedule.shares import share_out
made = Prestarted(share_out(Demand.of(trial()), body="scripted:ScriptedBody"))
print(made.folder, flush=True)
os.kill(os.getpid(), 9)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    folder = Path(told.stdout.strip())
    assert folder.name.startswith("hns-"), told.stderr
    deadline = time.monotonic() + 60
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not folder.exists()


def test_where_memory_runs_out_the_kernel_ends_a_trial_before_what_supervises_it(node: Node) -> None:
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([launch])
    worker = node.ready(launch.name).pid
    (nursery,) = node._nurseries.values()
    willing = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (worker, nursery.pid)]
    assert willing == [1000, int(Path("/proc/self/oom_score_adj").read_text())]


def test_a_back_end_that_cannot_be_imported_says_why(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_DIES_AT_START", "1")
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([launch])
    with pytest.raises(SetupError, match="this back end cannot be imported"):
        node.ready(launch.name)


def test_a_file_in_the_working_directory_is_no_module_of_a_workers(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not the module that was asked for')")
    monkeypatch.chdir(tmp_path)
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([launch])
    node.ready(launch.name)
    assert node.run(launch.name, trial()).outcome.status == "completed"


def test_what_keeps_energy_from_being_counted_is_told_although_nothing_is_sampled(node: Node) -> None:
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([replace(launch, gpus=("GPU-none",))])
    meter = EnergyMeter(cores=launch.cores, gpus=["GPU-none"])
    _, notes = node.stop()
    assert meter.absent
    assert notes["absent"] == {"sampler": "switched off (0 Hz)", **meter.absent}


def test_stopping_leaves_no_process_and_no_folder(node: Node) -> None:
    launches = share_out(Demand.of(trial()), body=BODY)
    node.launch(launches)
    pids = [node.ready(launch.name).pid for launch in launches] + [one.pid for one in node._nurseries.values()]
    node.stop()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if alive(pid)]
    assert node._folder is not None
    assert not node._folder.exists()


def test_the_gpus_and_cores_of_every_share_are_known_to_the_sampler(node: Node) -> None:
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    node.launch([launch])
    node.launch([replace(launch, name="other", cores=(launch.cores[0], 99), gpus=("GPU-1",))])
    assert node._sampler is not None
    assert node._sampler._gpus == ("GPU-1",)
    assert node._sampler._avoid_cores == {*launch.cores, 99}


def test_a_trial_that_is_cut_short_names_its_gpus(node: Node) -> None:
    (launch, *_) = share_out(Demand.of(trial()), body=BODY)
    launch = replace(launch, gpus=("GPU-1",))
    node.launch([launch])
    node.ready(launch.name)
    outcome = node.run(launch.name, trial("hang", timeout_s=0.1)).outcome
    assert outcome.status == "timeout"
    assert outcome.facts.gpus == ("GPU-1",)


def test_workers_that_end_with_the_run_are_no_readings_that_could_not_be_had() -> None:
    node = Node(sources={}, telemetry_hz=20.0)
    launches = share_out(Demand.of(trial()), body=BODY)
    node.launch(launches)
    for launch in launches:
        node.ready(launch.name)
    rows = node.telemetry()
    deadline = time.monotonic() + 60
    while not any(row["device"].startswith("worker:") for row in rows) and time.monotonic() < deadline:
        time.sleep(0.01)
        rows += node.telemetry()
    last, notes = node.stop()
    assert {row["device"] for row in last} >= {f"worker:{launch.name}" for launch in launches}
    assert not [key for key in notes["absent"] if key.startswith("worker:")]
