"""A run watched from another process, and ended by `harness stop`: nothing is lost, and `--resume` does the rest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from record.finished import INFO, finished

import harness as api
from harness import pipeline
from harness.domain.outcome import Finished
from harness.record import live, owner, stop
from harness.record.live import Live, NodeNow, TrialNow
from harness.record.recorder import Recorder
from harness.record.runs import list_runs
from harness.record.stop import StopRequest
from harness.schedule.loop import Policy
from harness.terminal.live import make_display

Say = Callable[..., Any]

FUNCTIONS = Path(__file__).with_name("functions.py")
TRIALS = 14


def live_run(results: Path, *, now: Live | None = None, **info: Any) -> Path:
    """Return the folder of a run that this very process owns: it goes on for as long as the test does."""
    recorder = Recorder.create(results, suite="s", run_id="r", info=INFO | info)
    recorder.write(finished(0))
    recorder.flush()
    if now is not None:
        (recorder.folder / live.FILE).write_text(json.dumps(asdict(now)))
    return recorder.folder


def moment(**differing: Any) -> Live:
    trial = TrialNow(
        worker="n2.0", node="n2", trial_id="t", arm="a", label="batch_size=32\x1b[31m seed=1", epochs=3, of_epochs=20,
        val_accuracy=0.75, since=time.time() - 30,
    )  # fmt: skip
    nodes = (
        NodeNow(node="n1", state="lost", why="its network is down", done=7),
        NodeNow(node="n2", state="ok", workers=2, busy=1, done=5, bad=1, epoch_s=0.5, trials_per_min=12.0),
    )
    told = Live(
        attempt=1, written_at=time.time() - 2, doing="running", total=100, counts={"completed": 11, "failed": 1},
        workers=2, busy=1, trials_per_min=24.0, left_s=300.0, nodes=nodes, running=(trial,),
    )  # fmt: skip
    return replace(told, **differing)


# Looking. -----------------------------------------------------------------------------------------------------


def test_status_of_a_run_says_what_each_node_does_and_what_runs_where(tmp_path: Path, say: Say) -> None:
    folder = live_run(tmp_path, now=moment())
    shown = say("status", "r", "--results", tmp_path)
    assert (shown.code, shown.err) == (0, "")
    assert f"s  r: running, process {os.getpid()} on " in shown.out
    assert "12/100 trials (11 completed, 1 failed), 1 of 2 workers busy, 24.0 trials/min, about " in shown.out
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["n1", "lost", "0/0", "7", "its", "network", "is", "down"] in rows
    assert ["n2", "ok", "1/2", "5", "1", "0.500", "s/epoch"] in rows
    assert "n2    n2.0    batch_size=32?[31m seed=1  3/20, val_accuracy 0.7500  3" in shown.out
    document = json.loads(say("status", folder, "--json").out)
    assert document["state"] == "running"
    assert document["stale"] is False
    assert document["live"]["nodes"][0]["why"] == "its network is down"
    assert document["live"]["running"][0]["epochs"] == 3


def test_status_names_a_trial_that_may_hang(tmp_path: Path, say: Say) -> None:
    now = moment()
    (trial,) = now.running
    live_run(tmp_path, now=replace(now, running=(replace(trial, silent_since=time.time() - 3000),)))
    shown = say("status", "r", "--results", tmp_path)
    assert "val_accuracy 0.7500, silent for 50 min" in shown.out
    assert "a `timeout` in the suite ends such trials" in shown.out


def test_status_says_when_the_driver_is_gone(tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = live_run(tmp_path, now=moment(written_at=time.time() - 500, doing="finishing"))
    mine = json.loads((folder / owner.FILE).read_text())
    (folder / owner.FILE).write_text(json.dumps(mine | {"host": "another"}))
    shown = say("status", "r", "--results", tmp_path).out
    assert "Nothing was heard of it for 8 min 20 s: its driver hangs, or is gone with its host." in shown
    (folder / owner.FILE).write_text(json.dumps(mine | {"process_start": "1"}))
    shown = say("status", "r", "--results", tmp_path).out
    assert shown.startswith("s  r: dead, process")
    assert "Nothing was heard of it for 8 min 20 s. What it did then:\nfinishing the trials that run, and no" in shown
    assert "Go on:  harness run 'suites/odd name.py' --run r --resume" in shown
    assert json.loads(say("status", "r", "--results", tmp_path, "--json").out)["stale"] is True


def test_status_of_a_run_that_has_ended_names_the_nodes_that_it_lost(tmp_path: Path, say: Say) -> None:
    told = {
        "lost_nodes": [{"node": "n1", "why": "cut off", "at": None}, {"node": "n2", "why": "cut off", "at": None}],
        "set_aside": [{"node": "n3", "why": "4 trials were lost on it", "at": None}],
    }
    with Recorder.create(tmp_path, suite="s", run_id="r", info=INFO) as recorder:
        recorder.write(finished(0))
        recorder.finish("completed", told)
    for command in ("status", "show"):
        shown = say(command, recorder.folder).out
        assert "Lost: 2 nodes: n1 (cut off); n2 (cut off)" in shown
        assert "Set aside: 1 node: n3 (4 trials were lost on it)" in shown
    assert json.loads(say("status", "s", "--results", tmp_path, "--json").out)["lost_nodes"] == told["lost_nodes"]


def test_a_thousand_runs_are_listed_without_a_look_into_any(tmp_path: Path, say: Say) -> None:
    folder = live_run(tmp_path)
    (folder / live.FILE).write_bytes(os.urandom(1000))
    assert "running  1/3" in say("status", "--results", tmp_path).out
    assert say("status", "r", "--results", tmp_path).code == 0


# Asking. ------------------------------------------------------------------------------------------------------


def test_stop_asks_the_driver_of_that_attempt_and_twice_means_now(tmp_path: Path, say: Say) -> None:
    folder = live_run(tmp_path, now=moment())
    for asked in (False, True):
        told = say("stop", "r", "--results", tmp_path, "--no-wait")
        assert (told.code, told.err) == (0, "")
        request = stop.asked(folder, attempt=1)
        assert request is not None
        assert request.now is asked
        end = "are ended too" if asked else "end first"
        assert f"no further trial starts, {'the trials that' if asked else 'those that'} run (1 trial at" in told.out
        assert told.out.splitlines()[0].endswith(end)


def test_stop_of_what_does_not_run_is_refused_with_the_way_on(tmp_path: Path, say: Say) -> None:
    with Recorder.create(tmp_path, suite="s", run_id="killed", info=INFO) as recorder:
        recorder.write(finished(0))
    told = say("stop", "killed", "--results", tmp_path)
    assert told.code == 2
    assert "its driver was killed: there is nothing to stop; go on with: harness run" in told.err
    with Recorder.create(tmp_path, suite="s", run_id="done", info=INFO) as recorder:
        recorder.finish("completed")
    told = say("stop", recorder.folder)
    assert told.code == 2
    assert told.err.rstrip().endswith("this run has ended already: it is completed")
    assert not (recorder.folder / stop.FILE).exists()
    for name in ("$(touch x)", "../nothing", "-", "a\nb"):
        told = say("stop", "--results", tmp_path, "--", name)
        assert told.code == 2
        assert "there is no run or suite" in told.err
    assert say("stop", "--results", tmp_path).code == 2


# Ending. ------------------------------------------------------------------------------------------------------


class Asks:
    """A display that asks its own run to stop once so many trials have ended."""

    def __init__(self, results: Path, *, after: int, now: bool) -> None:
        self._shown = make_display(quiet_stdout=True)
        self._results = results
        self._left = after
        self._now = now
        self.told: list[StopRequest] = []

    def finished(self, finished: Finished) -> None:
        self._left -= 1
        if not self._left:
            (run,) = list_runs(self._results)
            stop.ask(run.folder, StopRequest(attempt=1, now=self._now, host="here", pid=1))
            time.sleep(1.1)  # it is looked for once a second

    def stopping(self, request: StopRequest) -> None:
        self.told.append(request)
        self._shown.stopping(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)


@pytest.mark.parametrize("now", [False, True])
def test_a_run_asked_to_stop_starts_nothing_more_and_can_be_resumed(tmp_path: Path, now: bool) -> None:
    from harness.measure import Body
    from harness.schedule.inline import InlineExecutor

    display = Asks(tmp_path, after=2, now=now)
    request = pipeline.Request(
        suite=FUNCTIONS, results=tmp_path, overrides=("workload.mode=ok", "repeats=6"), policy=Policy(calibrate=False)
    )
    report = pipeline.run(
        request, make_executor=lambda trials, seed: InlineExecutor(Body(), telemetry_hz=0), display=display
    )
    assert (report.exit_code, report.stopped, report.counts, report.pending) == (75, "stop", {"completed": 2}, 4)
    content = json.loads((report.folder / "run.json").read_text())
    assert (content["state"], content["stopped"]) == ("preempted", "stop")
    assert [request.now for request in display.told] == [now]
    assert not (report.folder / stop.FILE).exists()
    assert not (report.folder / live.FILE).exists()
    again = pipeline.run(
        replace(request, resume=True),
        make_executor=lambda trials, seed: InlineExecutor(Body(), telemetry_hz=0),
        display=make_display(quiet_stdout=True),
    )
    assert (again.exit_code, again.counts) == (0, {"completed": 6})
    assert api.load(report.folder).trials["trial_id"].nunique() == 6


def test_a_run_over_workers_is_watched_and_stopped_from_other_processes(harness: Any, say: Say) -> None:
    gate = harness.folder / "gate"
    many = ("--set", f"repeats={TRIALS}", "--set", "timeout=600", "--no-calibrate", "--results", "watched")
    driver = harness.start("run", FUNCTIONS, "--set", f"workload.mode='gate {gate}'", *many)
    results = harness.folder / "watched"
    harness.wait(driver, lambda: _recorded(results) >= 4)
    (run,) = list_runs(results)
    harness.wait(driver, lambda: (seen := live.read(run.folder)) is not None and seen.done == 4 and seen.busy > 0)
    seen = json.loads(say("status", "functions", "--results", results, "--json").out)
    assert seen["live"]["counts"] == {"completed": 4}
    assert all(one["label"].startswith("workload.mode=gate") for one in seen["live"]["running"])
    assert len(api.load(run.folder).trials) == 4
    shown = say("show", "--results", results).out
    assert "Trials: 4 completed, 10 left (running)\nThese are partial results: the run goes on." in shown
    asking = harness.start("stop", run.run_id, "--results", "watched")
    harness.wait(driver, lambda: (now := live.read(run.folder)) is not None and now.doing == "finishing")
    busy = len(live.read(run.folder).running)  # from now on none begins, and before there is a gate none ends
    assert asking.poll() is None
    gate.touch()
    out, err = driver.communicate(timeout=60)
    said, wrong = asking.communicate(timeout=60)
    assert (driver.returncode, asking.returncode, err, wrong) == (75, 0, "", "")
    assert "stop     asked for by process" in out
    assert "Ended early: `harness stop` asked for it." in out
    assert f"ended as preempted: {4 + busy} completed, {TRIALS - 4 - busy} not run; go on with: " in said
    assert _recorded(results) == 4 + busy
    assert harness.left() == []
    assert say("stop", run.run_id, "--results", results).code == 2


def _recorded(results: Path) -> int:
    return sum(sum(run.counts.values()) for run in list_runs(results))
