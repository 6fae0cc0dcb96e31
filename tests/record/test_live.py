"""What a run tells other processes while it goes on, and what they ask of it: files in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from record.finished import INFO, finished

import harness as api
from harness.domain.errors import ResultsError
from harness.record import live, stop
from harness.record.live import Live, LiveFile, NodeNow, TrialNow
from harness.record.recorder import Recorder
from harness.record.runs import read_run
from harness.record.shards import merged_sampling
from harness.record.stop import StopRequest

NOW = Live(
    attempt=1, written_at=1_700_000_000.0, doing="running", total=10, counts={"completed": 3}, workers=2, busy=1,
    trials_per_min=30.0, left_s=14.0,
    nodes=(NodeNow(node="n1", state="lost", why="cut off"),),
    running=(TrialNow(worker="0", node="n0", trial_id="t", arm="a", label="x=1", epochs=1, of_epochs=5, since=1.0),),
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    with LiveFile(tmp_path, attempt=1) as file:
        file.write(lambda: NOW)
        assert live.read(tmp_path) == NOW
        assert [path.name for path in tmp_path.iterdir()] == ["live.json"]
    assert live.read(tmp_path) is None
    assert NOW.done == 3
    document = json.loads(json.dumps(NOW.document()))
    assert document["written_at"] == "2023-11-14T22:13:20+00:00"
    assert document["nodes"][0]["why"] == "cut off"


def test_it_is_written_once_a_second_at_most_and_only_if_something_changed(tmp_path: Path) -> None:
    clock = Clock()
    looked: list[float] = []
    written: set[float] = set()

    def look() -> Live:
        looked.append(clock.now_s)
        return replace(NOW, busy=min(3, int(clock.now_s)), written_at=clock.now_s)

    with LiveFile(tmp_path, attempt=1, clock=clock) as file:
        for tenth in range(200):
            clock.now_s = tenth / 10
            file.write(look)
            seen = live.read(tmp_path)
            assert seen is not None
            written.add(seen.written_at)
    assert looked == [float(second) for second in range(20)]
    # The last change is at 3, and after ten more it says that it lives.
    assert sorted(written) == [0.0, 1.0, 2.0, 3.0, 13.0]


def test_a_driver_that_was_fenced_leaves_the_file_of_the_next_one(tmp_path: Path) -> None:
    with LiveFile(tmp_path, attempt=1) as file:
        file.write(lambda: NOW)
        LiveFile(tmp_path, attempt=2).write(lambda: replace(NOW, attempt=2))
    assert live.read(tmp_path) == replace(NOW, attempt=2)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempt": 1}', json.dumps(asdict(NOW) | {"nodes": 7}), "\0"])
def test_a_file_that_is_no_good_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / live.FILE).write_text(text)
    (tmp_path / stop.FILE).write_text(text)
    assert live.read(tmp_path) is None
    assert stop.asked(tmp_path, attempt=1) is None


def test_a_full_disk_does_not_end_a_run(tmp_path: Path) -> None:
    with LiveFile(tmp_path / "gone", attempt=1) as file:
        file.write(lambda: NOW)


def test_an_instant_that_no_calendar_has_is_absent() -> None:
    assert live.instant(1e300) is None
    assert live.instant(float("nan")) is None


def test_a_request_reaches_the_attempt_that_it_is_addressed_to_and_no_other(tmp_path: Path) -> None:
    request = StopRequest(attempt=2, now=False, host="laptop", pid=7)
    stop.ask(tmp_path, request)
    assert stop.asked(tmp_path, attempt=2) == request
    assert stop.asked(tmp_path, attempt=3) is None
    stop.forget(tmp_path)
    stop.forget(tmp_path)
    assert stop.asked(tmp_path, attempt=2) is None


def test_a_request_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="the request to stop cannot be written there"):
        stop.ask(tmp_path / "gone", StopRequest(attempt=1, now=False, host="here", pid=1))


def test_a_run_whose_driver_was_killed_is_dead_and_not_running(tmp_path: Path) -> None:
    with Recorder.create(tmp_path, suite="s", info=INFO) as recorder:
        recorder.write(finished(0))
        recorder.flush()
        assert api.load(recorder.folder).runs[0]["state"] == "running"
    assert read_run(recorder.folder)["state"] == "dead"
    loaded = api.load(tmp_path, runs="state == 'dead'")
    assert loaded.runs[0]["state"] == "dead"
    assert len(loaded.trials) == 1


def test_what_one_attempt_could_not_read_on_a_node_stays_known_after_another() -> None:
    gap = {"started_at": 1.0, "ended_at": 2.0, "reason": "slow"}
    first = {
        "a": {"absent": {"gpu/power_w": "no GPU", "rapl": "hidden"}, "gaps": [gap]},
        "b": {"absent": {}, "gaps": []},
    }
    second = {"a": {"absent": {"rapl": "no right"}, "gaps": [gap]}, "c": {"absent": {"x": "y"}, "gaps": []}}
    assert merged_sampling(first, second) == {
        "a": {"absent": {"gpu/power_w": "no GPU", "rapl": "no right"}, "gaps": [gap, gap]},
        "b": {"absent": {}, "gaps": []},
        "c": {"absent": {"x": "y"}, "gaps": []},
    }
