"""Waiting for the nodes that a cluster is to have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.domain.errors import SetupError
from harness.schedule.expected import Expected, wait_for


class Cluster:
    """Shows other nodes at each look, the last ones for ever; its clock runs by the sleeps."""

    def __init__(self, *looks: Sequence[str] | None) -> None:
        self._looks: Iterator[Sequence[str] | None] = iter(looks)
        self._last: Sequence[str] | None = None
        self.now_s = 0.0
        self.said: list[str] = []

    def look(self) -> Sequence[str] | None:
        self._last = next(self._looks, self._last)
        return self._last

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, log: Path | None = None, *, skip_bad: bool = False, nodes: int = 3) -> None:
        wait_for(
            Expected(nodes=nodes, within_s=60.0, log=log), self.look, address="10.0.0.1:6379", skip_bad=skip_bad,
            say=self.said.append, sleep=self.sleep, now=lambda: self.now_s,
        )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What nodes have said, of which the second and the third have failed."""
    path = tmp_path / "nodes.log"
    path.write_text(
        "0: node n1: kept to 4 of 8 hardware threads\n"
        " 1: harness: node n2: port 6379, where the others would join, cannot be had\n"
        "srun: error: n2: task 1: Exited with exit code 2\n"
        "2: harness: node n3: there is no harness\n"
    )
    return path


def test_a_cluster_is_used_as_soon_as_all_nodes_are_there() -> None:
    cluster = Cluster(None, None, [], ["n1"], ["n1", "n3"], ["n1", "n2", "n3"])
    cluster.wait()
    assert cluster.now_s == 2.5
    assert cluster.said == []


def test_nodes_that_fail_are_not_waited_for_and_their_reasons_are_told(log: Path) -> None:
    cluster = Cluster(None, ["n1"])
    with pytest.raises(SetupError) as refused:
        cluster.wait(log)
    told = str(refused.value)
    assert told.startswith("1 of 3 nodes have joined the cluster at 10.0.0.1:6379 (n1); node n2: port 6379")
    assert "; node n3: there is no harness; " in told
    assert str(log) in told
    assert told.endswith("--skip-bad-nodes goes on without the others")
    assert cluster.now_s < 2.0


def test_the_others_are_still_waited_for_where_one_has_failed(log: Path) -> None:
    log.write_text("2: harness: node n3: there is no harness\n")
    cluster = Cluster(None, ["n1"], ["n1"], ["n1"], ["n1", "n2"])
    cluster.wait(log, skip_bad=True)
    assert cluster.now_s == 2.0
    assert cluster.said[0].startswith("2 of 3 nodes have joined")
    assert cluster.said[0].endswith("going on without the others")


def test_nodes_that_say_nothing_are_given_up_when_the_time_is_over() -> None:
    cluster = Cluster(["n1"])
    with pytest.raises(SetupError, match=r"1 of 3 .* \(n1\) within 60 s; 2 have said nothing .*--expect-within"):
        cluster.wait()
    assert cluster.now_s == 60.0


def test_a_cluster_that_never_answers_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"0 of 1 nodes .*no Ray answers there; 1 has said nothing") as refused:
        Cluster(None).wait(tmp_path / "none.log", skip_bad=True, nodes=1)
    assert "--skip-bad-nodes" not in str(refused.value)


def test_where_no_node_is_left_the_run_ends_though_bad_ones_are_to_be_skipped(log: Path) -> None:
    log.write_text(log.read_text() + "0: harness: node n1: its Ray ended with exit code 1\n")
    cluster = Cluster(None)
    with pytest.raises(SetupError, match=r"0 of 3 .*node n1: its Ray ended"):
        cluster.wait(log, skip_bad=True)
    assert cluster.now_s == 0.0
