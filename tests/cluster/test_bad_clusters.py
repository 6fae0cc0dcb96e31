"""What a run says of a cluster, or of one of its nodes, that cannot be used: at once, and with the way out."""

from __future__ import annotations

import sys

import pytest
from cluster.hosts import wait_for
from cluster.made import Made

LIMIT_S = 60  # 30 on a quiet machine; the tests share theirs


@pytest.mark.parametrize("token", ["cd" * 32, ""])
def test_a_wrong_token_and_none_are_refused(cluster: Made, token: str) -> None:
    run = cluster.run(RAY_AUTH_TOKEN=token, HOME=str(cluster.folder))
    run.ends(2, within_s=LIMIT_S)
    assert ("refuses the token" if token else "a cluster needs a token") in run.said
    assert "Traceback" not in run.said


def test_a_host_that_is_no_node_cannot_start_a_run(cluster: Made) -> None:
    cluster.hosts.add()
    run = cluster.run(on=3, RAY_gcs_server_request_timeout_seconds="3")
    run.ends(2, within_s=LIMIT_S)
    assert "this machine has no node of the cluster" in run.said


def test_a_node_that_others_hold_is_named_with_what_is_free_and_can_be_skipped(cluster: Made) -> None:
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
    run = cluster.run("--skip-bad-nodes", "--set", "repeats=4")
    run.ends(within_s=LIMIT_S)
    assert "is held by others: 1 of 2 CPUs are free" in run.said
    assert len(run.nodes()) == 2
    cluster.hosts[0].kill("hold.py")
    holder.wait(10)


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


def test_what_no_node_can_hold_is_refused_with_what_there_is(cluster: Made) -> None:
    run = cluster.run("--set", "gpus=1", "--skip-bad-nodes")
    run.ends(2, within_s=LIMIT_S)
    assert "no node can hold a trial that needs" in run.said
    assert "no GPU" in run.said
    assert "rack=host1" in run.said
