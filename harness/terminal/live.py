"""What a run shows while it goes on: Rich on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.domain.outcome import Finished
from harness.domain.repeats import Auto
from harness.domain.trial import Trial
from harness.pipeline.standing import Standing, WorkerNow, natural
from harness.plan import Plan
from harness.record.live import NodeNow
from harness.record.stop import StopRequest
from harness.schedule.notice import Notice
from harness.schedule.protocol import Progress
from harness.terminal.lines import Lines, named
from harness.terminal.text import about, label, plural, printable, seconds, significant, speed

_LINES_EVERY_S: Final = 10.0  # at first; a twentieth of a run's age later, up to:
_LINES_MOST_S: Final = 60.0
_FEW: Final = 8  # workers that have a line each in a log
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


class _Base:
    """What both displays keep."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._standing = Standing(())
        self._lines = Lines(self._say, self._standing)
        self._began = time.monotonic()

    def planned(
        self, made: Plan, pending: Sequence[Trial], *, folder: Path, standing: Standing, unneeded: int = 0
    ) -> None:
        self._standing = standing
        self._lines = Lines(self._say, standing)
        kept = f", {standing.done} recorded already" if standing.done else ""
        trials, settings = plural(len(made.trials) - unneeded, "trial"), plural(made.settings, "setting")
        repeats = made.suite.repeats
        most, auto = ("up to ", f", {repeats} each") if isinstance(repeats, Auto) else ("", "")
        shard = "" if made.shard is None else f"shard {made.shard[0]} of {made.shard[1]} (from 0): "
        self._say(f"{shard}{most}{trials} of {settings}{auto}{kept} → {escape(str(folder))}")

    def notice(self, notice: Notice) -> None:
        self._lines.notice(notice)

    def finished(self, finished: Finished) -> None:
        self._lines.finished(finished)

    def tick(self) -> None:
        self._lines.flush()

    def ending(self, signal_name: str) -> None:
        """Say at once that the signal was heard; called from its handler."""
        os.write(sys.stderr.fileno(), f"{signal_name}: {_ENDING}\n".encode())

    def stopping(self, request: StopRequest) -> None:
        what = "the trials that run are ended too" if request.now else "the trials that run end first"
        self._say(f"[yellow]stop[/]     asked for by process {request.pid} on {escape(request.host)}: {what}")

    def close(self) -> None:
        """End whatever is being drawn."""
        self._lines.flush()

    def _say(self, text: str) -> None:
        self._console.print("\n".join(map(printable, text.split("\n"))), highlight=False, soft_wrap=True)

    def _told(self, worker: WorkerNow) -> str:
        if worker.trial is None:
            return ""
        silent_s = self._standing.silent_s(worker)
        silent = "" if silent_s is None else f", silent for {about(silent_s)}"
        return describe_epoch(self._standing.progress_of(worker), worker.trial) + silent

    def _left(self) -> str:
        left_s = self._standing.left_s()
        unfinished = self._standing.done < self._standing.total and not self._standing.ending
        return f", about {about(left_s)} left" if left_s is not None and unfinished else ""

    def _running(self) -> list[WorkerNow]:
        """Return the workers that run a trial, by name."""
        busy = (worker for worker in self._standing.workers.values() if worker.trial is not None)
        return sorted(busy, key=lambda worker: natural(worker.name))


class PlainDisplay(_Base):
    """One line an event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spoke = time.monotonic()
        self._ready: dict[str, dict[str, str]] = {}  # by node: the workers, each with how long its imports took
        self._told_ready: set[str] = set()

    def notice(self, notice: Notice) -> None:
        super().notice(notice)
        if notice.what == "ready" and notice.worker not in self._told_ready:
            self._told_ready.add(notice.worker)
            self._ready.setdefault(self._standing.node_of(notice.worker), {})[notice.worker] = notice.text

    def finished(self, finished: Finished) -> None:
        super().finished(finished)
        standing = self._standing
        if finished.outcome.status == "completed" and (standing.total <= 200 or standing.done == standing.total):
            epochs = finished.outcome.epochs
            last = Progress(epochs=len(epochs), last=epochs[-1]) if epochs else None
            told = describe_epoch(last, finished.trial) if last is not None else "no epochs"
            spent = seconds(finished.outcome.watches.wall_s)
            whose = escape(named(finished, several=standing.several))
            self._say(f"{standing.done}/{standing.total}  {whose}: {told} in {spent}")
            self._spoke = time.monotonic()

    def tick(self) -> None:
        super().tick()
        self._say_ready(wait=True)
        now_s = time.monotonic()
        if now_s - self._spoke < min(max(_LINES_EVERY_S, (now_s - self._began) / 20), _LINES_MOST_S):
            return
        self._spoke = now_s
        self._say_ready(wait=False)
        standing, running = self._standing, self._running()
        many = len(running) > _FEW
        rate = standing.trials_per_min()
        told = [f"{standing.done}/{standing.total} done"]
        told += [f"{len(running)} of {plural(len(standing.workers), 'worker')} busy"] if many else []
        told += [f"{significant(rate)} trials/min"] if many and rate is not None else []
        told += [f"{standing.bad} not completed"] if standing.bad else []
        self._say(", ".join(told) + self._left())
        for worker in () if many else running:
            doing = f"{label(worker.trial)}, " if worker.trial is not None else ""
            self._say(f"         worker {escape(worker.name)}: {escape(doing)}{self._told(worker)}")

    def close(self) -> None:
        super().close()
        self._say_ready(wait=False)

    def _say_ready(self, *, wait: bool) -> None:
        """Say which workers have become ready, a line a node; with `wait` once all are that were started there."""
        starting = {worker.node for worker in self._standing.workers.values() if not worker.up} if wait else set()
        for node in [node for node in self._ready if node not in starting]:
            took = self._ready.pop(node)
            who = f"worker {next(iter(took))}" if len(took) == 1 else f"{len(took)} workers"
            where = f" on {node}" if self._standing.several else ""
            times = sorted(took.values(), key=lambda text: float(text.split()[0]))
            span = times[0] if len(took) == 1 or times[0] == times[-1] else f"{times[0]} to {times[-1]}"
            self._say(f"ready    {escape(who + where)} after {span} of imports")


class LiveDisplay(_Base):
    """A bar and a line a worker, or a node where there are several, redrawn in place; what happens scrolls above."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._ending = ""
        self._look()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def planned(
        self, made: Plan, pending: Sequence[Trial], *, folder: Path, standing: Standing, unneeded: int = 0
    ) -> None:
        super().planned(made, pending, folder=folder, standing=standing, unneeded=unneeded)
        self._look()
        if pending:
            self._live.start()

    def tick(self) -> None:
        super().tick()
        self._look()

    def ending(self, signal_name: str) -> None:
        self._ending = f"{signal_name}: {_ENDING}"

    def stopping(self, request: StopRequest) -> None:
        super().stopping(request)
        self._ending = "stopping" + ("" if request.now else ": no further trial starts")

    def close(self) -> None:
        super().close()
        self._live.stop()

    def _look(self) -> None:
        """Lay out what is to be drawn; in the thread that the standing changes in, which is not the one that draws."""
        standing = self._standing
        fitting = max(1, self._console.height - 5)
        self._table = self._by_node(fitting) if standing.several else self._by_worker(fitting)
        self._done = (standing.done, standing.total)
        bad = f", {standing.bad} not completed" if standing.bad else ""
        self._told_before, self._told_after = f"{standing.done}/{standing.total} trials{bad}", self._left()
        self._waiting = "" if standing.workers else "starting the workers"

    def _draw(self) -> RenderableType:
        done, total = self._done
        spent = about(time.monotonic() - self._began)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(1, total), completed=done, width=40),
            Text(f"{self._told_before}, {spent}{self._told_after}"),
        )
        last = self._ending or self._waiting
        return Group(self._table, bar, *([Text(last, style="dim")] if last else []))

    def _by_worker(self, fitting: int) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
        workers = sorted(self._standing.workers.values(), key=lambda worker: natural(worker.name))
        for worker in workers[:fitting]:
            doing = label(worker.trial) if worker.trial is not None else worker.state
            name = Text(f"worker {worker.name}", style="cyan")
            table.add_row(name, Text(doing), Text(self._told(worker), style="dim"))
        if len(workers) > fitting:
            table.add_row(Text(f"… and {len(workers) - fitting} more"))
        return table

    def _by_node(self, fitting: int) -> Table:
        nodes = self._standing.nodes()
        shown = nodes if len(nodes) < fitting else nodes[: max(1, fitting - 2)]
        with_bad = any(node.bad for node in nodes)
        columns = ["node", "state", "busy", "done", *(["not completed"] if with_bad else []), "speed", "runs"]
        table = Table.grid(padding=(0, 2))
        for heading in columns:
            left = heading in ("node", "state", "runs")
            table.add_column(no_wrap=True, overflow="ellipsis", justify="left" if left else "right")
        table.add_row(*(Text(heading, style="dim") for heading in columns))
        running: dict[str, list[WorkerNow]] = {}
        for worker in self._running():
            for name in worker.nodes:
                running.setdefault(name, []).append(worker)
        for node in shown:
            style = {"lost": "red", "set aside": "red", "starting": "yellow"}.get(node.state, "green")
            cells = [Text(node.node, style="cyan"), Text(node.state, style=style), Text(f"{node.busy}/{node.workers}")]
            cells += [
                Text(f"{node.done}"),
                *([Text(f"{node.bad}")] if with_bad else []),
                Text(speed(node.epoch_s, node.trials_per_min)),
            ]
            table.add_row(*cells, Text(self._doing(node, running.get(node.node, ())), style="dim"))
        if len(nodes) > len(shown):
            states = Counter(node.state for node in nodes[len(shown) :])
            told = ", ".join(f"{count} {state}" for state, count in states.items())
            table.add_row(Text(f"… and {len(nodes) - len(shown)} more"), Text(told))
        return table

    def _doing(self, node: NodeNow, running: Sequence[WorkerNow]) -> str:
        if node.why:
            return node.why
        if not running:
            return ""
        first = next((one for one in running if self._standing.silent_s(one) is not None), running[0])
        told = f"{label(first.trial) if first.trial is not None else ''}, {self._told(first)}"
        return told if len(running) == 1 else f"{len(running)} trials: {told}; …"


def make_display(*, quiet_stdout: bool) -> PlainDisplay | LiveDisplay:
    """Return the display for this terminal or log; with `quiet_stdout` everything goes to standard error."""
    console = Console(stderr=quiet_stdout, highlight=False)
    return LiveDisplay(console) if console.is_terminal and sys.stdin.isatty() else PlainDisplay(console)
