"""The lines that what happens in a run makes: what comes together is one line, and a flood is counted, not told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from rich.markup import escape

from harness.domain.outcome import Finished
from harness.pipeline.standing import Standing, why_lost
from harness.schedule.notice import Notice
from harness.terminal.text import about, label, plural

_ALIKE: Final = 3  # trials or workers of one kind that are named
_MOST: Final = 200  # lines about single trials and workers; nodes always have theirs
_OWN: Final = frozenset(("opened", "ready", "calibrated", "started", "settled"))  # kinds that need no line


def named(finished: Finished, *, several: bool) -> str:
    """Return what a trial is called, with its node where there are `several` and that does not say it."""
    node, name = finished.placement.node, label(finished.trial)
    return name if not several or ("node", node) in finished.trial.axes else f"{name} on {node}"


class Lines:
    """Tells what went wrong, and what changed among the nodes. `flush` says what has been gathered."""

    def __init__(self, say: Callable[[str], None], standing: Standing) -> None:
        self._say = say
        self._standing = standing
        self._said = 0
        self._gone: dict[str, dict[str, str]] = {}  # by node: the workers, each with the reason
        self._again: dict[tuple[str, str], list[str]] = {}  # by node and reason: the trials
        self._joined: dict[str, int] = {}  # by node: how many workers
        self._known: set[str] = set()  # nodes
        self._silent: set[tuple[str, float]] = set()  # workers, and when what they run began

    def notice(self, notice: Notice) -> None:
        """Take in a notice that the standing knows of already."""
        what: str = notice.what
        node = self._standing.node_of(notice.worker)
        if what == "opened":
            self._opened((node,) if notice.share is None else notice.share.nodes)
        elif what == "gone":
            for name in notice.values.get("nodes", (node,)):
                self._gone.setdefault(name, {})[notice.worker] = notice.text
        elif what == "retried" and notice.trial is not None:
            self._again.setdefault((node, notice.text), []).append(label(notice.trial))
        elif what == "replaced":
            self._one(f"[yellow]replaced[/] worker {escape(notice.worker)}: {escape(notice.text)}")
        elif what == "set aside":
            name = str(notice.values.get("node") or node)
            self._say(f"[red]aside[/]    node {escape(name)} is used no more: {escape(notice.text)}")
        elif what == "state":
            whose = "" if notice.trial is None else f"{label(notice.trial)}: "
            self._one(f"state    {escape(whose + notice.text)}")
        elif what not in _OWN and notice.text:
            whose, tell = ("", self._say) if notice.trial is None else (f"{label(notice.trial)}: ", self._one)
            tell(f"{escape(what):8} {escape(whose + notice.text)}")

    def _opened(self, nodes: Iterable[str]) -> None:
        for name in nodes:
            if self._standing.began and (name in self._joined or name not in self._known):
                self._joined[name] = self._joined.get(name, 0) + 1
            self._known.add(name)

    def finished(self, finished: Finished) -> None:
        """Take in a trial that is done."""
        outcome = finished.outcome
        if outcome.status != "completed":
            whose = named(finished, several=self._standing.several)
            self._one(f"[red]{outcome.status:8}[/] {escape(whose)}: {escape(outcome.error or '')}")

    def flush(self) -> None:
        """Say what has been gathered since the last time."""
        joined, self._joined = self._joined, {}
        gone, self._gone = self._gone, {}
        again, self._again = self._again, {}
        for node, workers in joined.items():
            if self._standing.several:
                self._say(f"[green]joined[/]   node {escape(node)} with {plural(workers, 'worker')}")
        states = {one.node: one.state for one in self._standing.nodes()} if gone else {}
        for node, reasons in gone.items():
            if self._standing.several and states.get(node) == "lost":
                self._known.discard(node)
                trials = sum(len(again.pop(key)) for key in list(again) if key[0] == node)
                once_more = f"; {plural(trials, 'trial')} to run again" if trials else ""
                why = why_lost(node, next(iter(reasons.values())))
                what = f"node {node} with {plural(len(reasons), 'worker')}{once_more}: {why}"
                self._say(f"[red]lost[/]     {escape(what)}")
            else:
                self._gone_alone(node, reasons)
        for (node, reason), labels in again.items():
            where = f" of node {node}" if self._standing.several else ""
            first = "; ".join(labels[:_ALIKE]) + (f"; and {len(labels) - _ALIKE} more" if len(labels) > _ALIKE else "")
            self._one(f"[yellow]again[/]    {escape(first + where)}: {escape(reason)}")
        self._tell_silent()

    def _tell_silent(self) -> None:
        """Name, once, a trial that may hang."""
        for worker in list(self._standing.workers.values()):
            silent_s, key = self._standing.silent_s(worker), (worker.name, worker.since)
            if silent_s is None or worker.trial is None or key in self._silent:
                continue
            self._silent.add(key)
            what = f"{label(worker.trial)} on worker {worker.name}: nothing heard for {about(silent_s)}"
            took = f"no trial so far took longer than {about(self._standing.longest_s)}"
            self._one(f"[yellow]silent[/]   {escape(what)}, and {took}; a `timeout` in the suite ends such trials")

    def _gone_alone(self, node: str, reasons: Mapping[str, str]) -> None:
        for worker, reason in list(reasons.items())[:_ALIKE]:
            self._one(f"[red]gone[/]     worker {escape(worker)}: {escape(reason)}")
        if len(reasons) > _ALIKE:
            where = f" of node {node}" if self._standing.several else ""
            self._one(f"[red]gone[/]     {plural(len(reasons) - _ALIKE, 'more worker')}{escape(where)}")

    def _one(self, text: str) -> None:
        """Say something about a trial or a worker, of which there may be thousands."""
        self._said += 1
        if self._said <= _MOST:
            self._say(text)
        if self._said == _MOST:
            self._say("(what else happens to single trials and workers is counted only; the records have it all)")
