"""What a person sees while a run goes on, drawn into a text instead of a terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness import Setting, Suite, product
from harness.domain.outcome import EpochRecord, Finished, Outcome, Placement, Stopwatches
from harness.domain.trial import Trial
from harness.pipeline.standing import Standing
from harness.plan import Plan, plan
from harness.record.stop import StopRequest
from harness.schedule.demand import Demand
from harness.schedule.notice import Notice
from harness.schedule.protocol import Progress, Worker
from harness.terminal.live import LiveDisplay, PlainDisplay
from harness.terminal.text import about, print_table, seconds, significant

DEMAND = Demand(backend="none", cpus=1, gpus=0, exclusive=False)


@pytest.fixture
def made() -> Plan:
    def nothing(job: Any) -> None:
        """Do nothing."""

    base = Setting(dataset="mnist5k", model="ResNet50", epochs=20)
    return plan(Suite(name="x", base=base, grid=product(batch_size=[16, 32]), repeats=2))


def epoch(number: int, val_accuracy: float = 0.5) -> EpochRecord:
    return EpochRecord(
        epoch=number, train_s=1.0, eval_s=None, elapsed_train_s=1.0, samples=1, steps=1, chunks=1, loss=1.0,
        accuracy=0.5, val_loss=1.0, val_accuracy=val_accuracy, user_cpu_s=0.0, system_cpu_s=0.0, started_at=0.0,
        ended_at=float(number),
    )  # fmt: skip


def ended(
    trial: Trial, *, wall_s: float = 2.0, error: str | None = None, worker: str = "0", node: str = ""
) -> Finished:
    outcome = Outcome(
        status="completed" if error is None else "failed", error=error, epochs=(epoch(20, 0.91),),
        watches=Stopwatches(wall_s=wall_s),
    )  # fmt: skip
    placement = Placement(worker=worker, node=node, position=0, block=0, attempt=1, neighbours=0)
    return Finished(trial=trial, outcome=outcome, placement=placement)


def console(*, width: int = 100, height: int = 24, terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None)


def drawn(display: LiveDisplay) -> list[str]:
    """Return the lines that are redrawn in place."""
    display.tick()
    paper = console(width=display._console.width)
    paper.print(display._draw())
    return [line.rstrip() for line in paper.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def said(display: Any) -> list[str]:
    """Return the lines that were said so far."""
    display.tick()
    return list(display._console.file.getvalue().splitlines())


class Run:
    """What the pipeline tells a display, and the standing before it."""

    def __init__(self, display: Any, made: Plan, *, nodes: int = 1, workers: int = 2) -> None:
        self.display, self.trials = display, made.trials
        self.standing = Standing(made.trials)
        display.planned(made, made.trials, folder=Path("results/x/1"), standing=self.standing)
        for number in range(nodes):
            self.join(f"n{number}" if nodes > 1 else "", workers)

    def join(self, node: str, workers: int) -> None:
        for number in range(workers):
            name = f"{node}.{number}" if node else str(number)
            share = Worker(name=name, node=node, demand=DEMAND)
            self.tell("opened", name, share=share)

    def tell(self, what: Any, worker: str, *, progress: dict[str, Progress] | None = None, **told: Any) -> None:
        notice = Notice(what=what, worker=worker, **told)
        self.standing.notice(notice, progress or {})
        self.display.notice(notice)

    def finish(self, one: Finished) -> None:
        self.standing.finished(one)
        self.display.finished(one)

    def tick(self, progress: dict[str, Progress]) -> None:
        self.standing.tick(progress)
        self.display.tick()


def test_every_worker_has_a_line_with_its_trial_and_how_far_it_is(made: Plan) -> None:
    display = LiveDisplay(console())
    run = Run(display, made)
    run.tell("ready", "1", text="4.0 s")
    run.tell("started", "0", trial=made.trials[0])
    run.tick({"0": Progress(epochs=3, last=epoch(3, 0.8125))})
    lines = drawn(display)
    display.close()
    assert lines[0].split() == ["worker", "0", "batch_size=16", "seed=0", "3/20", "epochs,", "val_accuracy", "0.8125"]
    assert lines[1] == "worker 1  checking what the suite declares"
    assert lines[2].endswith("0/4 trials, 0 s")


def test_a_worker_does_not_show_the_last_trials_progress_for_the_next(made: Plan) -> None:
    display = LiveDisplay(console())
    run = Run(display, made)
    old = Progress(epochs=20, last=epoch(20))
    run.tell("started", "0", trial=made.trials[0])
    run.tick({"0": old})
    run.tell("started", "0", trial=made.trials[1], progress={"0": old})
    run.tick({"0": old})
    assert drawn(display)[0].endswith("starting")
    run.tick({"0": Progress(epochs=1, last=epoch(1))})
    assert "1/20 epochs" in drawn(display)[0]
    display.close()


def test_until_there_is_a_worker_it_says_what_is_waited_for(made: Plan) -> None:
    display = LiveDisplay(console())
    Run(display, made, workers=0)
    assert drawn(display)[-1] == "starting the workers"
    display.close()


def test_more_workers_than_lines_leave_the_bar_in_sight(made: Plan) -> None:
    display = LiveDisplay(console(height=10))
    Run(display, made, workers=64)
    lines = drawn(display)
    display.close()
    assert len(lines) < 10
    assert "… and 59 more" in lines
    assert "0/4 trials" in lines[-1]


def test_a_long_trial_is_cut_rather_than_folded(made: Plan) -> None:
    display = LiveDisplay(console(width=40))
    run = Run(display, made)
    run.tell("started", "0", trial=made.trials[0])
    assert len(drawn(display)) == 3  # two workers, and the bar with the count
    display.close()


def test_a_signal_is_answered_at_once(made: Plan) -> None:
    display = LiveDisplay(console())
    Run(display, made)
    display.ending("SIGINT")
    assert drawn(display)[-1].startswith("SIGINT: ending, what has finished is kept")
    display.close()


def test_several_nodes_have_a_line_each_the_lost_ones_first(made: Plan) -> None:
    display = LiveDisplay(console())
    run = Run(display, made, nodes=3)
    for worker in ("n0.0", "n0.1", "n2.0"):
        run.tell("ready", worker, text="1.0 s")
        run.tell("started", worker, trial=made.trials[0])
    run.finish(ended(made.trials[0], worker="n0.0", node="n0"))
    for worker in ("n1.0", "n1.1"):
        run.tell("gone", worker, text="node n1 was lost: its network is down")
    rows = [line.split() for line in drawn(display)]
    display.close()
    assert rows[0] == ["node", "state", "busy", "done", "speed", "runs"]
    assert rows[1] == ["n1", "lost", "0/0", "0", "its", "network", "is", "down"]
    assert rows[2][:6] == ["n0", "ok", "1/2", "1", "1.00", "s/epoch"]
    assert rows[3] == ["n2", "ok", "1/2", "0", "batch_size=16", "seed=0,", "starting"]


def test_a_hundred_nodes_fit_the_terminal_and_the_rest_is_counted(made: Plan) -> None:
    display = LiveDisplay(console(height=20))
    run = Run(display, made, nodes=100, workers=1)
    run.tell("ready", "n99.0", text="1.0 s")
    run.tell("set aside", "n40.0", text="3 trials were lost on it", values={"node": "n40"})
    lines = drawn(display)
    display.close()
    assert len(lines) < 20
    assert lines[1].startswith("n40")
    assert lines[2].split()[0] == "n0"
    assert "… and 87 more" in lines[-2]
    assert "86 starting, 1 ok" in lines[-2]


def test_a_log_has_a_line_a_trial_and_names_what_failed(made: Plan) -> None:
    display = PlainDisplay(console(terminal=False, width=60))
    run = Run(display, made)
    run.finish(ended(made.trials[0]))
    run.finish(ended(made.trials[1], error="out of memory " + "x" * 80))
    lines = said(display)
    assert lines[0] == "4 trials of 2 settings → results/x/1"
    assert lines[1] == "1/4  batch_size=16 seed=0: 1/20 epochs, val_accuracy 0.9100 in 2.00 s"
    assert lines[2] == "failed   batch_size=16 seed=1: out of memory " + "x" * 80


def test_a_trial_that_may_hang_is_named_once_with_the_way_out(made: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    display = PlainDisplay(console(terminal=False, width=60))
    run = Run(display, made)
    run.finish(ended(made.trials[0]))
    run.tell("started", "1", trial=made.trials[1])
    monkeypatch.setattr(run.standing, "silent_s", lambda worker: 300.0)
    told = "batch_size=16 seed=1 on worker 1: nothing heard for 5 min 00 s, and no trial so far took longer than 2 s"
    assert said(display)[2:] == [f"silent   {told}; a `timeout` in the suite ends such trials"]
    assert len(said(display)) == 3
    assert display._told(run.standing.workers["1"]) == "starting, silent for 5 min 00 s"


def test_a_log_tells_of_nodes_and_not_of_each_of_their_workers(made: Plan) -> None:
    display = PlainDisplay(console(terminal=False))
    run = Run(display, made, nodes=2, workers=50)
    for number in range(50):
        for node in ("n0", "n1"):
            run.tell("ready", f"{node}.{number}", text=f"{3 + number / 100:.1f} s")
        run.tell("started", f"n1.{number}", trial=made.trials[number % 4])
    assert said(display)[1:] == [
        "ready    50 workers on n0 after 3.0 s to 3.5 s of imports",
        "ready    50 workers on n1 after 3.0 s to 3.5 s of imports",
    ]
    for number in range(50):
        run.tell("retried", f"n1.{number}", trial=made.trials[number % 4], text="node n1 was lost: cut off")
        run.tell("gone", f"n1.{number}", text="node n1 was lost: cut off")
    run.join("n2", 8)
    run.tell("set aside", "n0.3", text="5 of its last 5 trials were lost", values={"node": "n0"})
    run.tell("retried", "n0.3", trial=made.trials[1], text="the worker was killed")
    lines = said(display)
    assert sorted(lines[3:]) == sorted([
        "aside    node n0 is used no more: 5 of its last 5 trials were lost",
        "joined   node n2 with 8 workers",
        "lost     node n1 with 50 workers; 50 trials to run again: cut off",
        "again    batch_size=16 seed=1 of node n0: the worker was killed",
    ])  # fmt: skip
    assert run.standing.troubles()["lost_nodes"][0]["node"] == "n1"
    assert run.standing.troubles()["set_aside"][0]["why"] == "5 of its last 5 trials were lost"


def test_thousands_of_failures_do_not_flood_a_log(made: Plan) -> None:
    display = PlainDisplay(console(terminal=False))
    run = Run(display, made)
    for number in range(2000):
        run.tell("retried", "0", trial=made.trials[0], text=f"worker died {number}")
        run.finish(ended(made.trials[0], error=f"no {number}"))
        display.tick()
    lines = said(display)
    assert len(lines) < 220
    assert lines[-1].startswith("(what else happens to single trials and workers is counted only")


def test_a_notice_of_a_kind_that_is_not_known_is_told_as_it_is(made: Plan) -> None:
    display = PlainDisplay(console(terminal=False))
    Run(display, made).tell("waiting", "", text="for a node with 2 GPUs")
    assert said(display)[-1] == "waiting  for a node with 2 GPUs"


def test_a_request_to_stop_is_told_with_who_asked(made: Plan) -> None:
    display = PlainDisplay(console(terminal=False))
    Run(display, made)
    display.stopping(StopRequest(attempt=1, now=False, host="laptop", pid=7))
    assert said(display)[-1] == "stop     asked for by process 7 on laptop: the trials that run end first"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "–"), (math.inf, "never"), (0.0, "0 s"), (0.000123, "0.000123 s"), (0.3214, "0.321 s"),
        (9.876, "9.88 s"), (12.34, "12.3 s"), (185, "3 min 05 s"), (8045, "2 h 14 min"),
    ],
)  # fmt: skip
def test_durations_are_said_as_people_do(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_estimates_are_said_roughly() -> None:
    assert (about(0.4), about(12.34), about(185)) == ("0 s", "12 s", "3 min 05 s")
    assert (significant(0.05814), significant(1.5), significant(123.4), significant(9.999)) == (
        "0.0581",
        "1.50",
        "123",
        "10.0",
    )


def test_a_table_in_a_pipe_has_a_line_a_row_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("a.b", "left"), ("n", "right")], [["x" * 300, "1"], ["y", "20"]], title="T")
    assert capsys.readouterr().out.splitlines() == ["T", f"{'a.b':300}   n", f"{'x' * 300}   1", f"{'y':300}  20"]
