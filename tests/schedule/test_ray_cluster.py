"""Real worker processes on a real Ray, shared by all tests here; what they run follows a script."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from scripted import trial

from harness.domain.errors import SetupError
from harness.domain.outcome import Finished
from harness.domain.trial import Trial
from harness.schedule import ray_environment
from harness.schedule.agent import Run
from harness.schedule.demand import Demand
from harness.schedule.loop import Loop, Policy
from harness.schedule.nursery import Prestarted
from harness.schedule.protocol import Gone, Worker
from harness.schedule.shares import share_out

BODY = "scripted:ScriptedBody"


@pytest.fixture(scope="module")
def executor() -> Iterator[Any]:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    ray_environment.prepare(None)
    from harness.schedule.ray_cluster import RayExecutor

    prestarted = Prestarted(share_out(Demand.of(trial()), body=BODY))
    made = RayExecutor(body=BODY, prestarted=prestarted, telemetry_hz=5.0)
    made.start({})
    yield made
    made.stop()
    made.close(leaving=False)
    del os.environ["PYTHONPATH"]


def run(executor: Any, trials: list[Trial], **policy: Any) -> list[Finished]:
    executor.start({})
    return list(Loop(trials, executor, seed=1, policy=Policy(calibrate=False, **policy)))


def test_workers_sit_on_disjoint_cores_with_pools_of_that_size(executor: Any) -> None:
    finished = run(executor, [trial("sleep 0.2", seed=seed) for seed in range(8)])
    cores = {one.placement.worker: one.outcome.facts.cores for one in finished}
    used = [core for share in cores.values() for core in share or ()]
    assert len(used) == len(set(used))
    assert all(one.outcome.facts.threads == len(one.outcome.facts.cores or ()) for one in finished)


def test_workers_are_warm_and_count_the_trials_before(executor: Any) -> None:
    finished = run(executor, [trial("ok", seed=seed) for seed in range(10)])
    assert max(one.outcome.facts.worker_trials_before or 0 for one in finished) > 1
    assert len({one.outcome.facts.pid for one in finished}) <= len({one.placement.worker for one in finished})


def test_a_worker_that_dies_is_replaced_and_its_trial_runs_again(executor: Any, tmp_path: Path) -> None:
    (finished,) = run(executor, [trial(f"die once {tmp_path / 'died'}")])
    assert finished.outcome.status == "completed"
    assert finished.placement.attempt == 2


def test_a_trial_that_always_kills_its_worker_is_lost_with_its_epochs_and_the_reason(executor: Any) -> None:
    finished = run(executor, [trial("die"), trial("ok", seed=1)])
    lost = next(one for one in finished if one.trial.setting.label == "die")
    assert lost.outcome.status == "lost"
    assert "SIGKILL" in (lost.outcome.error or "")
    assert len(lost.outcome.epochs) == 1
    assert "about to die" in (lost.outcome.error_detail or "")
    assert {one.outcome.status for one in finished} == {"lost", "completed"}


def test_a_trial_past_its_timeout_is_ended_with_what_it_had_measured(executor: Any) -> None:
    began = time.monotonic()
    (finished,) = run(executor, [trial("hang", timeout_s=0.5)])
    assert finished.outcome.status == "timeout"
    assert finished.outcome.error == "timed out after 0.5 s"
    assert len(finished.outcome.epochs) == 1
    assert time.monotonic() - began < 60


def test_a_worker_that_leaks_is_replaced(executor: Any) -> None:
    label = f"grow {6 << 30}"
    first = run(executor, [trial(label, seed=seed, repeat=seed) for seed in range(6)])
    pids = {one.outcome.facts.pid for one in first}
    assert len(pids) > len({one.placement.worker for one in first})


def test_fresh_workers_never_run_two_trials(executor: Any) -> None:
    finished = run(executor, [trial("ok", seed=seed) for seed in range(4)], fresh_workers=True)
    assert len({one.outcome.facts.pid for one in finished[1:]}) == len(finished) - 1


def _title(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:  # it has ended meanwhile
        return ""


def _agent() -> psutil.Process:
    (found,) = [one for one in psutil.Process().children(recursive=True) if "AgentNode" in _title(one)]
    return found


def test_an_agent_that_is_killed_costs_its_trials_one_attempt(executor: Any) -> None:
    executor.start({})
    loop = Loop([trial("sleep 1.5", seed=seed) for seed in range(2)], executor, seed=1, policy=Policy())
    finished, killed = [], False
    loop_iterator = iter(loop)
    agent = _agent()

    def kill() -> None:
        nonlocal killed
        if not killed and len(loop.running) == 2:
            agent.kill()
            killed = True

    loop._tick = kill
    finished = list(loop_iterator)
    assert killed
    assert [one.outcome.status for one in finished] == ["completed", "completed"]
    assert all(one.placement.attempt == 2 for one in finished)


def test_an_agent_that_dies_between_two_runs_is_started_anew(executor: Any) -> None:
    executor.rest()
    agent = _agent()
    agent.kill()
    agent.wait(60)
    executor.renew()
    executor.next_run(Run(sources={}, telemetry_hz=5.0))
    (finished,) = run(executor, [trial()])
    executor.next_run(None)
    assert (finished.outcome.status, finished.placement.attempt) == ("completed", 1)


def test_what_this_machine_cannot_hold_is_refused_before_the_first_trial(executor: Any) -> None:
    for seed in range(3):
        executor.start({})
        seen: list[str] = []
        trials = [trial(seed=number, cpus=cpus) for number in range(2) for cpus in (1, 4096)]
        loop = Loop(
            trials, executor, seed=seed, policy=Policy(), notify=lambda notice, seen=seen: seen.append(notice.what)
        )  # type: ignore[misc]
        with pytest.raises(SetupError, match=r"cpus=4096 asks for more physical cores(.|\n)*there is:"):
            list(loop)
        assert "started" not in seen


def test_what_is_asked_of_a_worker_that_was_lost_a_moment_ago_is_left_and_its_loss_is_told() -> None:
    from ray.exceptions import RayError

    from harness.schedule.ray_cluster import RayExecutor

    def known() -> dict[str, Any]:
        raise RayError("it is gone")

    made = RayExecutor(body=BODY, address="10.0.0.1:6379")
    agent: Any = SimpleNamespace(host="there", node_id="0", local=False, aside=False, known=known)
    made._nodes.agents, made._nodes.connected = {"0": agent}, True  # to a head that does not answer
    worker = Worker(name="there.0", node="there", demand=Demand.of(trial()))
    made._workers[worker.name] = (worker, agent)
    assert made.open(Demand.of(trial(cpus=2))) == []  # in which it turns out that the node is lost
    made.submit(worker.name, trial())
    assert made.wait(0) == [Gone(worker="there.0", reason="node there was lost: it is gone")]


def test_shares_of_another_size_follow_in_a_phase_of_their_own(executor: Any) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two cores")
    finished = run(executor, [trial("ok", seed=0), trial("ok", seed=1), trial("ok", cpus=2, seed=2)])
    assert {len(one.outcome.facts.cores or ()) for one in finished} == {1, 2}


def test_everything_listens_on_loopback_alone(executor: Any) -> None:
    ours = {process.pid for process in psutil.Process().children(recursive=True)} | {os.getpid()}
    listening = [one for one in psutil.net_connections("inet") if one.status == "LISTEN" and one.pid in ours]
    assert listening
    off = [one for one in listening if one.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
    assert not off


def test_workers_are_not_niced(executor: Any) -> None:
    finished = run(executor, [trial("ok", seed=seed) for seed in range(4)])
    for pid in {one.outcome.facts.pid for one in finished}:
        assert psutil.Process(pid).nice() == psutil.Process().nice()


def test_readings_of_the_host_and_of_each_worker_arrive(executor: Any) -> None:
    run(executor, [trial(seed=seed) for seed in range(2)])
    executor.telemetry()  # of the tests before
    rows: list[dict[str, Any]] = []
    deadline = time.monotonic() + 60
    while not {"host", "worker"} <= {row["device"].partition(":")[0] for row in rows} and time.monotonic() < deadline:
        executor.wait(0.1)
        rows += executor.telemetry()
    assert {"host", "worker"} <= {row["device"].partition(":")[0] for row in rows}
    assert {row["node"] for row in rows} == {node["node"] for node in executor.nodes()}


def test_what_agents_have_told_already_is_kept_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.schedule import ray_cluster

    def readings(second: float) -> list[dict[str, Any]]:
        return [{"time": second, "device": "host", "metric": "load1", "value": 0.0}]

    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_cluster.ray, "wait", lambda refs, num_returns, timeout: (refs, []))
    monkeypatch.setattr(ray_cluster.ray, "get", lambda ref, timeout=None: (readings(2.0), {"absent": {}, "gaps": []}))
    made = ray_cluster.RayExecutor(body=BODY)
    heard = ray_cluster.News(readings=readings(1.0))
    agent = SimpleNamespace(host="there", call=lambda method: method, listen=lambda: "news", heard=lambda: heard)
    made._nodes.agents = {"0": agent}  # type: ignore[dict-item]
    made.stop()
    assert [(row["node"], row["time"]) for row in made.telemetry()] == [("there", 1.0), ("there", 2.0)]
    assert made.sampling() == {"there": {"absent": {}, "gaps": []}}


SCRIPT = """
import os, sys
from scripted import trial
from harness.schedule import ray_environment
from harness.schedule.nursery import Prestarted
from harness.schedule.shares import share_out
from harness.schedule.demand import Demand
from harness.schedule.loop import Loop, Policy
ray_environment.prepare(None)
prestarted = Prestarted(share_out(Demand.of(trial()), body="scripted:ScriptedBody"))
from harness.schedule.ray_cluster import RayExecutor
executor = RayExecutor(body="scripted:ScriptedBody", prestarted=prestarted)
executor.start({})
def tick():
    if loop.running:
        print("running", flush=True)
loop = Loop([trial("hang")], executor, seed=1, policy=Policy(), tick=tick)
list(loop)
"""


def test_a_driver_that_is_killed_leaves_no_process_behind() -> None:
    import sys

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, env=environment, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "running\n"
    children = psutil.Process(driver.pid).children(recursive=True)
    assert len(children) > 4
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
