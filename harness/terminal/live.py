"""What a run shows while it goes on: Rich on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.domain.outcome import Finished
from harness.domain.repeats import Auto
from harness.domain.trial import Trial
from harness.plan import Plan
from harness.schedule.loop import Notice
from harness.schedule.protocol import Progress
from harness.terminal.text import about, label, plural, seconds

_LINES_EVERY_S = 10.0
_ENDING = "ending, what has finished is kept (a second Ctrl-C leaves at once)"


def describe_epoch(progress: Progress | None, trial: Trial) -> str:
    """Return how far a trial is: ``3/20 epochs, val_accuracy 0.912``."""
    if progress is None or progress.last is None:
        return "starting"
    last, told = progress.last, ""
    if last.val_accuracy is not None:
        told = f", val_accuracy {last.val_accuracy:.4f}"
    elif last.val_loss is not None:
        told = f", val_loss {last.val_loss:.4g}"
    return f"{progress.epochs}/{trial.setting.epochs} epochs{told}"


class Estimate:
    """The time left, from the wall time of the trials that ended: per setting where one did, else the mean."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[float, int]] = {}
        self._waiting: dict[str, int] = {}

    def planned(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._waiting[trial.setting_id] = self._waiting.get(trial.setting_id, 0) + 1

    def finished(self, finished: Finished) -> None:
        setting = finished.trial.setting_id
        total_s, count = self._spent.get(setting, (0.0, 0))
        self._spent[setting] = (total_s + finished.outcome.watches.wall_s, count + 1)
        self._waiting[setting] = max(0, self._waiting.get(setting, 0) - 1)

    def settled(self, setting_id: str, fewer: int) -> None:
        self._waiting[setting_id] = max(0, self._waiting.get(setting_id, 0) - fewer)

    def left_s(self, workers: int) -> float | None:
        """Return the seconds left on so many workers, or None before the first trial has ended."""
        if not self._spent:
            return None
        mean_s = sum(total for total, _ in self._spent.values()) / sum(count for _, count in self._spent.values())
        left_s = 0.0
        for setting, count in self._waiting.items():
            total_s, ended = self._spent.get(setting, (mean_s, 1))
            left_s += count * total_s / ended
        return left_s / max(1, workers)


class _Base:
    """What both displays keep."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Mapping[str, Progress] = {}
        self._before: dict[str, Progress | None] = {}  # what a worker's last trial left, until its next one says more
        self._estimate = Estimate()
        self._total = self._done = self._bad = 0
        self._started = False  # whether any trial has
        self._began = time.monotonic()
        self._workers: dict[str, str] = {}

    def planned(self, made: Plan, pending: Sequence[Trial], *, folder: Path, unneeded: int = 0) -> None:
        self._total = len(made.trials) - unneeded
        self._done = self._total - len(pending)
        self._estimate.planned(pending)
        kept = f", {self._done} recorded already" if self._done else ""
        trials, settings = plural(self._total, "trial"), plural(made.settings, "setting")
        repeats = made.suite.repeats
        most, auto = ("up to ", f", {repeats} each") if isinstance(repeats, Auto) else ("", "")
        self._say(f"{most}{trials} of {settings}{auto}{kept} → {escape(str(folder))}")

    def notice(self, notice: Notice) -> None:
        if notice.what == "opened":
            self._workers[notice.worker] = "starting"
        elif notice.what == "ready":
            self._workers[notice.worker] = "idle" if self._started else "checking what the suite declares"
        elif notice.what == "started" and notice.trial is not None:
            self._started = True
            self._workers[notice.worker] = label(notice.trial)
            self._before[notice.worker] = self._progress.get(notice.worker)
        elif notice.what == "retried" and notice.trial is not None:
            self._say(f"[yellow]again[/]    {escape(label(notice.trial))}: {escape(notice.text)}")
        elif notice.what == "replaced":
            self._workers[notice.worker] = "starting anew"
            self._say(f"[yellow]replaced[/] worker {notice.worker}: {escape(notice.text)}")
        elif notice.what == "settled":
            self._total -= notice.values["fewer"]
            self._estimate.settled(notice.values["setting_id"], notice.values["fewer"])
        elif notice.what == "gone":
            self._workers.pop(notice.worker, None)
            self._say(f"[red]gone[/]     worker {notice.worker}: {escape(notice.text)}")

    def finished(self, finished: Finished) -> None:
        self._done += 1
        self._estimate.finished(finished)
        self._workers[finished.placement.worker] = "idle"
        if finished.outcome.status != "completed":
            self._bad += 1
            why = escape(finished.outcome.error or "")
            self._say(f"[red]{finished.outcome.status:8}[/] {escape(label(finished.trial))}: {why}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _told(self, worker: str, trial: Trial) -> str:
        progress = self._progress.get(worker)
        return describe_epoch(None if progress == self._before.get(worker) else progress, trial)

    def _left(self) -> str:
        left_s = self._estimate.left_s(len(self._workers))
        return f", about {about(left_s)} left" if left_s is not None and self._done < self._total else ""

    def ending(self, signal_name: str) -> None:
        """Say at once that the signal was heard; called from its handler."""
        os.write(sys.stderr.fileno(), f"{signal_name}: {_ENDING}\n".encode())

    def close(self) -> None:
        """End whatever is being drawn."""


class PlainDisplay(_Base):
    """One line an event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spoke = time.monotonic()

    def notice(self, notice: Notice) -> None:
        super().notice(notice)
        if notice.what == "ready":
            self._say(f"ready    worker {notice.worker} after {notice.text} of imports")

    def finished(self, finished: Finished) -> None:
        super().finished(finished)
        if finished.outcome.status == "completed" and (self._total <= 200 or self._done == self._total):
            epochs = finished.outcome.epochs
            last = Progress(epochs=len(epochs), last=epochs[-1]) if epochs else None
            told = describe_epoch(last, finished.trial) if last is not None else "no epochs"
            spent = seconds(finished.outcome.watches.wall_s)
            self._say(f"{self._done}/{self._total}  {escape(label(finished.trial))}: {told} in {spent}")
            self._spoke = time.monotonic()

    def tick(self, running: Mapping[str, Trial], progress: Mapping[str, Progress]) -> None:
        self._progress = progress
        if time.monotonic() - self._spoke < _LINES_EVERY_S:
            return
        self._spoke = time.monotonic()
        self._say(f"{self._done}/{self._total} done{self._left()}")
        for worker, trial in running.items():
            self._say(f"         worker {worker}: {escape(label(trial))}, {self._told(worker, trial)}")


class LiveDisplay(_Base):
    """A line a worker and a bar, redrawn in place; failures scroll above it at once."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._running: Mapping[str, Trial] = {}
        self._ending = ""
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def planned(self, made: Plan, pending: Sequence[Trial], *, folder: Path, unneeded: int = 0) -> None:
        super().planned(made, pending, folder=folder, unneeded=unneeded)
        if pending:
            self._live.start()

    def tick(self, running: Mapping[str, Trial], progress: Mapping[str, Progress]) -> None:
        self._running, self._progress = dict(running), dict(progress)

    def ending(self, signal_name: str) -> None:
        self._ending = f"{signal_name}: {_ENDING}"

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
        workers = sorted(self._workers.items())
        fitting = max(1, self._console.height - 5)
        for worker, state in workers[:fitting]:
            trial = self._running.get(worker)
            told = self._told(worker, trial) if trial is not None else ""
            doing = label(trial) if trial is not None else state
            table.add_row(Text(f"worker {worker}", style="cyan"), Text(doing), Text(told, style="dim"))
        if len(workers) > fitting:
            table.add_row(Text(f"… and {len(workers) - fitting} more"))
        spent = about(time.monotonic() - self._began)
        bad = f", {self._bad} not completed" if self._bad else ""
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(1, self._total), completed=self._done, width=40),
            Text(f"{self._done}/{self._total} trials{bad}, {spent}{self._left()}"),
        )
        last = self._ending or ("" if workers else "starting the workers")
        return Group(table, bar, *([Text(last, style="dim")] if last else []))


def make_display(*, quiet_stdout: bool) -> PlainDisplay | LiveDisplay:
    """Return the display for this terminal or log; with `quiet_stdout` everything goes to standard error."""
    console = Console(stderr=quiet_stdout, highlight=False)
    return LiveDisplay(console) if console.is_terminal and sys.stdin.isatty() else PlainDisplay(console)
