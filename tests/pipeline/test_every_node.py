"""A suite that runs on every node, those of a resumed run among them, on nodes that come and go between attempts."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.domain.errors import SetupError, SuiteError
from harness.domain.outcome import EpochRecord, Facts, Outcome, Stopwatches
from harness.domain.suite import load_suite
from harness.domain.trial import Trial
from harness.pipeline import EXIT_COMPLETED, EXIT_PREEMPTED, Report, Request, run
from harness.plan import on_nodes, parse_override, plan
from harness.schedule.demand import Demand
from harness.schedule.loop import Policy
from harness.schedule.notice import Notice
from harness.schedule.protocol import Checked, Done, Event, Progress, Ready, Saved, Worker
from harness.terminal.show import summary

SUITE = """
from harness import Setting, Suite, function, product

def work(trial, size=1): ...

suite = Suite(
    name="acceptance", base=Setting(workload=function(work)), grid=product(cpus=[1, 2]), repeats=3, every_node=True
)
"""


class Hosts:
    """Nodes with so many cores each, and a worker for what is asked of them; the trials take as long as told."""

    def __init__(self, cores: Mapping[str, int], epoch_s: Mapping[str, float] | None = None) -> None:
        self._cores = cores
        self._epoch_s = epoch_s or {}
        self._workers: dict[str, Worker] = {}
        self._attempt = 1
        self._events: list[Event] = []
        self.stopped = self.closed = 0

    def start(self, sources: Mapping[str, Any]) -> None: ...

    def node_names(self, demand: Demand) -> list[str]:
        names = [node for node, cores in self._cores.items() if cores >= demand.cpus and demand.node in ("", node)]
        if not names:
            raise SetupError(f"no node can hold a trial that needs {demand}")
        return names

    def open(self, demand: Demand) -> list[Worker]:
        found = []
        for node in self.node_names(demand):
            name = f"{node}.{demand.cpus}"
            if name not in self._workers:
                self._events.append(Ready(worker=name, prepare_s=0.1, pid=1))
            found.append(self._workers.setdefault(name, Worker(name=name, node=node, demand=demand)))
        return found

    def check(self, worker: str, trial: Trial) -> None:
        self._events.append(Checked(worker=worker, error=None))

    def submit(self, worker: str, trial: Trial, *, attempt: int = 1, state: bytes | None = None) -> None:
        train_s = self._epoch_s.get(self._workers[worker].node, 1.0) * (1 + 0.001 * trial.repeat)
        epoch = EpochRecord(
            epoch=1, train_s=train_s, eval_s=None, elapsed_train_s=train_s, samples=None, steps=None, chunks=1,
            loss=None, accuracy=None, val_loss=None, val_accuracy=None, user_cpu_s=0.0, system_cpu_s=0.0,
            started_at=1.0, ended_at=2.0,
        )  # fmt: skip
        outcome = Outcome(
            status="completed", epochs=(epoch,), watches=Stopwatches(train_s=train_s, wall_s=train_s),
            facts=Facts(), started_at=1.0, ended_at=2.0,
        )  # fmt: skip
        self._events.append(Done(worker=worker, key=trial.key, attempt=attempt, outcome=outcome, alive=True))

    def wait(self, timeout_s: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def calibrate(self, worker: str) -> None: ...

    def set_aside(self, node: str) -> None: ...

    def replace(self, worker: str) -> None: ...

    def progress(self) -> dict[str, Progress]:
        return {}

    def saved(self) -> list[Saved]:
        return []

    def save_now(self) -> None: ...

    def telemetry(self) -> list[dict[str, Any]]:
        return []

    def sampling(self) -> dict[str, dict[str, Any]]:
        return {}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"node": node} for node in self._cores]

    def stop(self) -> None:
        self.stopped += 1

    def close(self, *, leaving: bool) -> None:
        self.closed += 1


class Heard:
    """A display that keeps what is told of nodes that are not there."""

    def __init__(self) -> None:
        self.absent: list[str] = []

    def planned(self, *of: Any, **named: Any) -> None: ...

    def notice(self, notice: Notice) -> None:
        if notice.what == "absent":
            self.absent.append(notice.text)

    def finished(self, finished: Any) -> None: ...

    def tick(self) -> None: ...

    def ending(self, signal_name: str) -> None: ...

    def stopping(self, request: Any) -> None: ...


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "acceptance.py"
    path.write_text(SUITE)
    return path


def ran(suite: Path, hosts: Hosts, **asked: Any) -> tuple[Report, dict[str, Any], list[str]]:
    """Run the suite on some nodes; return the report, the run's run.json and what was told of absent nodes."""
    display = Heard()

    def make(trials: Sequence[Trial], seed: int) -> Hosts:
        return hosts

    request = Request(suite=suite, results=suite.parent / "results", policy=Policy(calibrate=False), **asked)
    report = run(request, make_executor=make, display=display)
    return report, json.loads((report.folder / "run.json").read_text()), display.absent


def test_each_trial_runs_once_on_every_node_that_can_hold_it(suite: Path) -> None:
    hosts = Hosts({"n1": 1, "n2": 2, "n3": 8})
    report, told, absent = ran(suite, hosts)
    assert (report.exit_code, report.counts, absent) == (EXIT_COMPLETED, {"completed": 15}, [])
    assert told["every_node"] == {"cpus=1": ["n1", "n2", "n3"], "cpus=2": ["n2", "n3"]}
    assert (told["trials"], told["axes"]["node"]) == (15, ["n1", "n2", "n3"])
    arms = {row["arm"] for row in summary(report.folder).records()}
    assert arms == {"node=n1", "node=n2", "node=n3", "cpus=2,node=n2", "cpus=2,node=n3"}
    assert (hosts.stopped, hosts.closed) == (1, 0)


def test_a_resumed_run_keeps_the_nodes_it_had_and_takes_in_new_ones(suite: Path) -> None:
    first, _, _ = ran(suite, Hosts({"n1": 2, "n2": 2}), overrides=("repeats=1",))
    assert first.counts == {"completed": 4}
    again = {"overrides": ("repeats=1",), "resume": True, "run": first.run_id}
    report, told, absent = ran(suite, Hosts({"n2": 2, "n3": 1}), **again)
    assert (report.exit_code, report.counts, absent) == (EXIT_COMPLETED, {"completed": 5}, [])
    assert told["every_node"] == {"cpus=1": ["n1", "n2", "n3"], "cpus=2": ["n1", "n2"]}
    assert told["trials"] == 5


def test_trials_of_a_node_that_is_gone_wait_for_it(suite: Path) -> None:
    one = {"overrides": ("repeats=1",)}
    hosts = Hosts({"n1": 2, "n2": 2})
    hosts.submit = _interrupting(hosts, node="n1")  # type: ignore[method-assign]
    report, told, _ = ran(suite, hosts, **one)
    assert (report.stopped, report.counts["completed"]) == ("SIGTERM", 2)
    again = {**one, "resume": True, "run": report.run_id}
    report, told, absent = ran(suite, Hosts({"n2": 2}), **again)
    assert absent == ["node n1 is not there: 2 trials left for a --resume when it is back"]
    assert (report.exit_code, report.pending, report.stopped, told["state"]) == (
        EXIT_PREEMPTED,
        2,
        "nodes",
        "preempted",
    )
    report, told, absent = ran(suite, Hosts({"n1": 2, "n2": 2}), **again)
    assert (report.exit_code, report.counts, absent) == (EXIT_COMPLETED, {"completed": 4}, [])


def _interrupting(hosts: Hosts, *, node: str) -> Any:
    """Have the trials of one node never end, and this process told to end once the other's have run."""
    real = hosts.submit
    elsewhere = []

    def submit(worker: str, trial: Trial, **named: Any) -> None:
        if not worker.startswith(node):
            elsewhere.append(trial)
            real(worker, trial, **named)
        if len(elsewhere) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    return submit


def test_a_run_that_is_told_to_end_before_its_nodes_are_known_can_be_resumed(suite: Path) -> None:
    hosts = Hosts({"n1": 2})
    over = threading.Event()

    def start(sources: Mapping[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        over.wait(5)

    hosts.start = start  # type: ignore[method-assign]
    report, told, _ = ran(suite, hosts)
    over.set()
    assert (report.exit_code, report.counts, told["every_node"]) == (EXIT_PREEMPTED, {}, {})
    report, told, _ = ran(suite, Hosts({"n1": 2}), resume=True, run=report.run_id)
    assert (report.exit_code, report.counts) == (EXIT_COMPLETED, {"completed": 6})
    assert (told["trials"], told["every_node"]) == (6, {"cpus=1": ["n1"], "cpus=2": ["n1"]})


def test_what_no_node_can_hold_leaves_no_run_behind_and_ends_the_executor(suite: Path) -> None:
    hosts = Hosts({"n1": 1})
    with pytest.raises(SetupError, match="no node can hold a trial that needs cpus=2"):
        ran(suite, hosts)
    assert not list(suite.parent.glob("results/*/*"))
    assert (hosts.stopped, hosts.closed) == (1, 1)


def test_show_names_the_slow_node(suite: Path) -> None:
    slow = Hosts(dict.fromkeys(("n1", "n2", "n3", "n4"), 2), epoch_s={"n3": 1.12})
    report, _, _ = ran(suite, slow)
    table = summary(report.folder)
    fleet = table.document()["fleet"]
    assert [node["node"] for node in fleet["nodes"] if node["verdict"] == "slower"] == ["n3"]
    assert fleet["told"] == ["n3 is 12 % slower than the fleet's median (98 % interval 12 to 12)"]


def test_trials_of_one_label_are_told_apart_by_their_nodes(suite: Path) -> None:
    asked = ("label=a,b", "cpus=1", "repeats=1")
    report, _, _ = ran(suite, Hosts({"n1": 1, "n2": 1}), overrides=asked)
    shown = {one.label for one in summary(report.folder).doubts.trials}
    assert shown == {f"label={label} node={node} seed=0" for label in "ab" for node in ("n1", "n2")}


def test_the_nodes_change_nothing_of_what_is_asked_for(suite: Path) -> None:
    loaded = load_suite(suite)
    made = plan(loaded)
    there = on_nodes(made, lambda trial: ["n1", "n2"] if trial.setting.cpus == 1 else ["n2"])
    assert there.sha256 == made.sha256
    assert [trial.arm for trial in there.trials[:2]] == ["node=n1", "node=n2"]
    assert len(there.trials) == 9
    assert {trial.trial_id for trial in there.trials} == {trial.trial_id for trial in made.trials}
    only = loaded.suite.model_copy(update={"every_node": False})
    assert plan(only, overrides=[parse_override("every_node=true")]).suite.every_node
    assert "every_node" not in only.plain()
    with pytest.raises(SuiteError, match="every_node: each trial runs on every node, and node='n1' names one"):
        plan(loaded, overrides=[parse_override("node=n1")])
