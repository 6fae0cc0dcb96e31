"""Finding, counting and ending the processes below one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import processes


@pytest.fixture(params=["as the kernel lists them", "by looking at all"], autouse=True)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by looking at all":
        monkeypatch.setattr(processes, "_LISTS_CHILDREN", False)


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child and two grandchildren."""
    with subprocess.Popen(["sh", "-c", "sh -c 'sleep 60 & sleep 60 & wait' & wait"], start_new_session=True) as root:
        while len(processes.below(root.pid)) < 3:
            time.sleep(0.005)
        yield root
        processes.end(root.pid)


def test_every_descendant_is_found_but_for_those_that_are_spared(family: subprocess.Popen[bytes]) -> None:
    (child,) = processes.children(family.pid)
    assert set(processes.below(family.pid)) == {child, *processes.children(child)}
    assert processes.below(family.pid, spare=[child]) == []
    assert set(processes.below(child)) == set(processes.children(child))
    assert family.pid in processes.below(os.getpid())


def test_a_table_follows_what_begins_and_ends_and_stops_at_another_root(family: subprocess.Popen[bytes]) -> None:
    table = processes.Table()
    (child,) = processes.children(family.pid)
    grandchildren = set(processes.children(child))
    assert set(table.look([family.pid])[family.pid]) == {child, *grandchildren}
    below = table.look([family.pid, child, 2**22 + 1])
    assert (below[family.pid], set(below[child]), len(below)) == ([], grandchildren, 2)
    with subprocess.Popen(["sleep", "60"]) as late:
        assert late.pid not in table.look([family.pid])[family.pid]
        assert late.pid in table.look([os.getpid()])[os.getpid()]
        late.kill()
    assert late.pid not in table.look([os.getpid()])[os.getpid()]


def test_a_tree_has_the_orphans_too_that_this_process_adopts(family: subprocess.Popen[bytes]) -> None:
    processes.adopt_orphans()
    others = [pid for pid in processes.children(os.getpid()) if pid != family.pid]
    (child,) = processes.children(family.pid)
    grandchildren = processes.children(child)
    tree = processes.Tree(family.pid, spare=others)
    assert set(tree.pids()) == {family.pid, child, *grandchildren}
    processes.send(child, signal.SIGKILL)
    while processes.alive(child) or set(processes.children(os.getpid())).isdisjoint(grandchildren):
        time.sleep(0.005)
    assert set(processes.Tree(family.pid, spare=others).pids()) >= set(grandchildren)
    processes.end_below(os.getpid(), spare=others)
    processes.reap(others)


def test_what_processes_use_is_added_up(family: subprocess.Popen[bytes]) -> None:
    used = processes.usage(processes.below(family.pid))
    assert used.threads == 3
    assert used.rss_bytes > 0
    assert processes.peak_rss_bytes(family.pid) > 0
    assert processes.usage([2**22 + 1]) == processes.Usage()


def test_a_process_is_ended_with_all_below_it(family: subprocess.Popen[bytes]) -> None:
    pids = [family.pid, *processes.below(family.pid)]
    processes.end(family.pid)
    family.wait(60)
    assert [pid for pid in pids if processes.alive(pid)] == []


def test_processes_that_multiply_are_ended_too() -> None:
    script = "while :; do sleep 60 & sh -c 'sleep 60 & wait' & sleep 0.002; done"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True, stderr=subprocess.DEVNULL) as root:
        time.sleep(0.2)
        processes.end(root.pid)
        root.wait(60)
        assert processes.below(root.pid) == []


def test_an_orphan_is_adopted_and_waited_for() -> None:
    processes.adopt_orphans()
    before = set(processes.children(os.getpid()))
    subprocess.run(["sh", "-c", "sleep 60 &"], stdout=subprocess.DEVNULL, check=True)
    (orphan,) = set(processes.children(os.getpid())) - before
    processes.end_below(os.getpid(), spare=before)
    assert not processes.alive(orphan)
    processes.reap(before)
    assert not os.path.exists(f"/proc/{orphan}")  # noqa: PTH110


def test_a_file_in_the_working_directory_does_not_stand_in_for_a_module_of_pythons(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this is not the json that was asked for')")
    asked = json.dumps({"cores": sorted(os.sched_getaffinity(0))[:1], "size": 24 << 10})
    words = [*processes.command("harness.telemetry.rates"), asked]
    told = json.loads(subprocess.check_output(words, cwd=tmp_path, text=True))
    assert told.keys() == {"flops_per_s", "bandwidth_bytes_per_s", "foreign_percent"}
