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
from harness.plan import Plan, plan
from harness.schedule.loop import Notice
from harness.schedule.protocol import Progress
from harness.terminal.live import Estimate, LiveDisplay, PlainDisplay
from harness.terminal.text import about, print_table, seconds, significant


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


def ended(trial: Trial, *, wall_s: float = 2.0, error: str | None = None) -> Finished:
    outcome = Outcome(
        status="completed" if error is None else "failed", error=error, epochs=(epoch(20, 0.91),),
        watches=Stopwatches(wall_s=wall_s),
    )  # fmt: skip
    placement = Placement(worker="0", node="here", position=0, block=0, attempt=1, neighbours=0)
    return Finished(trial=trial, outcome=outcome, placement=placement)


def console(*, width: int = 100, height: int = 24, terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None)


def drawn(display: LiveDisplay) -> list[str]:
    """Return the lines that are redrawn in place."""
    paper = console(width=display._console.width)
    paper.print(display._draw())
    return [line.rstrip() for line in paper.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def begin(display: Any, made: Plan, workers: int = 2) -> None:
    display.planned(made, made.trials, folder=Path("results/x/1"))
    for number in range(workers):
        display.notice(Notice(what="opened", worker=str(number)))


def test_every_worker_has_a_line_with_its_trial_and_how_far_it_is(made: Plan) -> None:
    display = LiveDisplay(console())
    begin(display, made)
    display.notice(Notice(what="ready", worker="1", text="4.0 s"))
    display.notice(Notice(what="started", worker="0", trial=made.trials[0]))
    display.tick({"0": made.trials[0]}, {"0": Progress(epochs=3, last=epoch(3, 0.8125))})
    lines = drawn(display)
    display.close()
    assert lines[0].split() == ["worker", "0", "batch_size=16", "seed=0", "3/20", "epochs,", "val_accuracy", "0.8125"]
    assert lines[1] == "worker 1  checking what the suite declares"
    assert lines[2].endswith("0/4 trials, 0 s")


def test_a_worker_does_not_show_the_last_trials_progress_for_the_next(made: Plan) -> None:
    display = LiveDisplay(console())
    begin(display, made)
    old = Progress(epochs=20, last=epoch(20))
    display.tick({"0": made.trials[0]}, {"0": old})
    display.notice(Notice(what="started", worker="0", trial=made.trials[1]))
    display.tick({"0": made.trials[1]}, {"0": old})
    assert drawn(display)[0].endswith("starting")
    display.tick({"0": made.trials[1]}, {"0": Progress(epochs=1, last=epoch(1))})
    assert "1/20 epochs" in drawn(display)[0]
    display.close()


def test_until_there_is_a_worker_it_says_what_is_waited_for(made: Plan) -> None:
    display = LiveDisplay(console())
    display.planned(made, made.trials, folder=Path("results/x/1"))
    assert drawn(display)[-1] == "starting the workers"
    display.close()


def test_more_workers_than_lines_leave_the_bar_in_sight(made: Plan) -> None:
    display = LiveDisplay(console(height=10))
    begin(display, made, workers=64)
    lines = drawn(display)
    display.close()
    assert len(lines) < 10
    assert "… and 59 more" in lines
    assert "0/4 trials" in lines[-1]


def test_a_long_trial_is_cut_rather_than_folded(made: Plan) -> None:
    display = LiveDisplay(console(width=40))
    begin(display, made)
    display.tick({"0": made.trials[0]}, {})
    assert len(drawn(display)) == 3  # two workers, and the bar with the count
    display.close()


def test_a_signal_is_answered_at_once(made: Plan) -> None:
    display = LiveDisplay(console())
    begin(display, made)
    display.ending("SIGINT")
    assert drawn(display)[-1].startswith("SIGINT: ending, what has finished is kept")
    display.close()


def test_a_log_has_a_line_a_trial_and_names_what_failed(made: Plan) -> None:
    display = PlainDisplay(console(terminal=False, width=60))
    begin(display, made)
    display.finished(ended(made.trials[0]))
    display.finished(ended(made.trials[1], error="out of memory " + "x" * 80))
    said = display._console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == "4 trials of 2 settings → results/x/1"
    assert said[1] == "1/4  batch_size=16 seed=0: 1/20 epochs, val_accuracy 0.9100 in 2.00 s"
    assert said[2] == "failed   batch_size=16 seed=1: out of memory " + "x" * 80


def test_the_time_left_goes_by_setting_and_by_what_is_still_to_run(made: Plan) -> None:
    estimate = Estimate()
    estimate.planned(made.trials[1:])  # one of four was recorded by an earlier attempt
    assert estimate.left_s(2) is None
    estimate.finished(ended(made.trials[1], wall_s=4.0))
    assert estimate.left_s(2) == 4.0  # two of the other setting, taken to be alike
    estimate.finished(ended(made.trials[2], wall_s=10.0))
    assert estimate.left_s(2) == 5.0


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
