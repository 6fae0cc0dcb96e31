"""Three hosts: what a run says of a cluster that cannot be used, and runs over hosts some of which fail.

The tests follow one another on one cluster.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from cluster.hosts import wait_for
from cluster.made import Made, Running

ALL = ["host1", "host2", "host3"]
LIMIT_S = 120  # within which a run is refused: 30 on a quiet machine


# Clusters and nodes that cannot be used. ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beside_another(cluster: Made) -> Iterator[Running]:
    """Return a run for which a node has no room: it waits a while for another one to let go, as the first tests run."""
    script = (
        "import ray, sys, time\n"
        "ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "holds = ray.util.placement_group([{'CPU': 1}])\n"
        "ray.get(holds.ready())\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    (cluster.folder / "hold.py").write_text(script)
    log = cluster.folder / "hold.log"
    words = [sys.executable, str(cluster.folder / "hold.py"), cluster.address]
    environment = {**cluster.environment, "RAY_AUTH_MODE": "token"}
    holder = cluster.hosts[0].start(*words, environment=environment, log=log)
    assert wait_for(lambda: "held" in log.read_text()), log.read_text()
    yield cluster.run("--skip-bad-nodes", "--set", "repeats=4")
    holder.kill()
    holder.wait()


@pytest.mark.parametrize("token", ["cd" * 32, ""])
def test_a_wrong_token_and_none_are_refused(cluster: Made, beside_another: Running, token: str) -> None:
    run = cluster.run(RAY_AUTH_TOKEN=token, HOME=str(cluster.folder))
    run.ends(2, within_s=LIMIT_S)
    assert ("refuses the token" if token else "a cluster needs a token") in run.said
    assert "Traceback" not in run.said


def test_a_host_that_is_no_node_cannot_start_a_run(cluster: Made) -> None:
    cluster.hosts.add()
    run = cluster.run(on=3, RAY_gcs_server_request_timeout_seconds="3")
    run.ends(2, within_s=LIMIT_S)
    assert "this machine has no node of the cluster" in run.said


def test_a_node_that_others_hold_is_named_with_what_is_free_and_can_be_skipped(
    cluster: Made, beside_another: Running
) -> None:
    beside_another.ends(within_s=LIMIT_S)
    assert "is held by others: 1 of 2 CPUs are free" in beside_another.said
    assert len(beside_another.nodes()) == 2
    cluster.hosts[0].kill("hold.py")


def test_what_no_node_can_hold_is_refused_with_what_there_is(cluster: Made) -> None:
    run = cluster.run("--set", "gpus=1")
    run.ends(2, within_s=LIMIT_S)
    assert "no node can hold a trial that needs" in run.said
    assert "no GPU" in run.said
    assert "rack=host1" in run.said


# Hosts that fail, are back, and join late. ---------------------------------------------------------------------------


def test_a_suite_for_every_node_runs_on_each_which_are_held_against_one_another(cluster: Made) -> None:
    run = cluster.run("--set", "every_node=true", "--set", "repeats=1")
    run.ends()
    assert "against the median" in run.said
    records = run.records()
    assert sorted(records["node"]) == ALL
    assert (records["node"] == records["node_asked"]).all()


def test_a_host_that_joins_late_is_used_and_what_is_lost_with_one_runs_elsewhere_and_is_recorded_once(
    cluster: Made,
) -> None:
    lost, late = cluster.hosts[1], cluster.hosts[2]
    late.crash()
    gate = cluster.folder / "gate"
    run = cluster.run("--set", "repeats=24", "--set", f"workload.gate='{gate}'")
    run.says("8/24")  # 12 need no gate
    late.reboot()
    cluster.join(late)
    run.says("joined   node host3 with 2 workers", within_s=120)
    assert wait_for(lambda: late.name in run.busy()), run.said
    lost.pull_cable()
    run.says("lost     node host2")
    gate.touch()
    run.ends()
    records = run.records()
    assert run.nodes() == set(ALL)
    assert sorted(records["repeat"]) == list(range(24))
    assert set(records["status"]) == {"completed"}
    again = records[records["attempt"] > 1]
    assert len(again) == 2  # one of each worker there
    assert not set(again["node"]) & {"host2"}


def test_a_host_that_is_back_is_used_and_a_driver_that_is_killed_leaves_nothing_running_on_any_host(
    cluster: Made,
) -> None:
    back = cluster.hosts[1]
    back.plug_cable()
    back.node.wait(60)  # Ray's old node there ends by itself
    cluster.join(back)
    run = cluster.run("--set", "repeats=200")
    run.says(" on host2: ")
    cluster.interrupt(by=signal.SIGKILL)
    run.ends(-signal.SIGKILL)

    def left() -> list[int]:
        return [pid for host in cluster.hosts.hosts for pid in host.pids("harness.schedule.child")]

    assert wait_for(lambda: not left())


def test_a_head_that_is_started_anew_is_joined_again_and_nothing_is_lost(cluster: Made) -> None:
    head = cluster.hosts[0]
    run = cluster.run("--set", "repeats=200")
    run.says("6/200")
    head.kill("gcs_server")
    run.says("is gone; waiting for it to come back")
    head.node.wait(60)
    cluster.join(head)
    run.says("is back")
    run.says("20/200")
    cluster.interrupt(by=signal.SIGTERM)  # which Ray takes for itself each time that it connects
    run.ends(75)
    records = run.records()
    assert len(records) >= 20
    assert records["repeat"].is_unique
    assert set(records["status"]) == {"completed"}


def test_a_node_without_the_package_is_named(cluster: Made) -> None:
    host = cluster.hosts[2]
    host.crash()
    host.reboot()
    empty = cluster.folder / "empty"
    (empty / "harness").mkdir(parents=True)
    (empty / "harness" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'harness'\")\n")
    words = ["-P", "-m", "ray.scripts.scripts", "start", "--block", "--address", cluster.address]
    words += ["--node-ip-address", host.ip, "--num-cpus", "2"]
    environment = {**cluster.environment, "RAY_AUTH_MODE": "token", "PYTHONPATH": str(empty)}
    host.node = host.start(sys.executable, *words, environment=environment, log=cluster.folder / "bare.log")
    assert wait_for(lambda: bool(host.pids("raylet/raylet")))
    assert wait_for(lambda: "Ray runtime started" in (cluster.folder / "bare.log").read_text())
    run = cluster.run()
    run.ends(2, within_s=LIMIT_S)
    assert "node host3 has no `harness` package" in run.said
