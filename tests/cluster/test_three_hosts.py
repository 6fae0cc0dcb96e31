"""Runs over three hosts, some of which fail; the tests follow one another on one cluster."""

from __future__ import annotations

import signal
import time

from cluster.hosts import wait_for
from cluster.made import Made

ALL = ["host1", "host2", "host3"]


def test_a_suite_for_every_node_runs_on_each_which_are_held_against_one_another(cluster: Made) -> None:
    run = cluster.run("--set", "every_node=true", "--set", "repeats=1")
    run.ends()
    assert "against the median" in run.said
    records = run.records()
    assert sorted(records["node"]) == ALL
    assert (records["node"] == records["node_asked"]).all()


def test_a_run_uses_every_host_and_what_is_lost_with_one_runs_elsewhere_and_is_recorded_once(cluster: Made) -> None:
    run = cluster.run("--set", "repeats=24")
    run.says("6/24")
    cluster.hosts[1].pull_cable()
    run.says("lost     node host2")
    run.ends()
    records = run.records()
    assert run.nodes() == set(ALL)
    assert sorted(records["repeat"]) == list(range(24))
    assert set(records["status"]) == {"completed"}
    again = records[records["attempt"] > 1]
    assert len(again) == 2  # one of each worker there
    assert not set(again["node"]) & {"host2"}


def test_a_host_that_is_back_and_one_that_joins_late_are_used(cluster: Made) -> None:
    host, cut = cluster.hosts[2], cluster.hosts[1]
    cut.pull_cable()
    time.sleep(4)  # until Ray has given it up, where it was not already
    cut.plug_cable()
    cut.node.wait(30)  # Ray's old node there ends by itself
    cluster.join(cut)
    host.crash()
    run = cluster.run("--set", "repeats=200", "--set", "epochs=6")
    run.says("2/200")
    host.reboot()
    cluster.join(host)
    run.says("joined   node host3 with 2 workers", within_s=120)
    run.says(" on host3: ")
    cluster.interrupt()
    run.ends(130)
    assert run.nodes() == set(ALL)
    assert set(run.records()["status"]) == {"completed"}


def test_a_driver_that_is_killed_leaves_nothing_running_on_any_host(cluster: Made) -> None:
    run = cluster.run("--set", "repeats=200")
    run.says("6/200")
    cluster.interrupt(by=signal.SIGKILL)
    run.ends(-signal.SIGKILL)

    def left() -> list[int]:
        return [pid for host in cluster.hosts.hosts for pid in host.pids("harness.schedule.child")]

    assert wait_for(lambda: not left(), within_s=15)


def test_a_head_that_is_started_anew_is_joined_again_and_nothing_is_lost(cluster: Made) -> None:
    head = cluster.hosts[0]
    run = cluster.run("--set", "repeats=200")
    run.says("12/200")
    head.kill("gcs_server")
    run.says("is gone; waiting for it to come back")
    head.node.wait(30)
    cluster.join(head)
    run.says("is back")
    run.says("30/200")
    cluster.interrupt(by=signal.SIGTERM)  # which Ray takes for itself each time that it connects
    run.ends(75)
    records = run.records()
    assert len(records) >= 30
    assert records["repeat"].is_unique
    assert set(records["status"]) == {"completed"}
