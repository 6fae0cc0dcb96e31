"""A suite that runs on every node: which ones there are is known once the executor has started, before the records."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.domain.naming import plural
from harness.domain.trial import Trial
from harness.plan import Plan, on_nodes
from harness.schedule.demand import Demand
from harness.schedule.notice import Notice
from harness.schedule.protocol import Executor

Names = Mapping[str, Sequence[str]]  # of nodes, by what is asked of them: `every_node` of run.json


@dataclass(kw_only=True)
class Begun:
    """What is known before the records are opened."""

    made: Plan
    nodes: Names | None = None  # that the run is for, those of its earlier attempts among them; None: any
    there: frozenset[str] = frozenset()  # those of them that are there now
    executor: Executor | None = None  # that has started
    _taken: bool = field(default=False, init=False)

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds of it, anew with each attempt."""
        if self.nodes is None:
            return {}
        axes = {path: list(values) for path, values in self.made.axes.items()}
        return {"every_node": {asked: list(names) for asked, names in self.nodes.items()}, "axes": axes,
                "trials": len(self.made.trials)}  # fmt: skip

    def take(self) -> Executor | None:
        """Return the executor, which is the caller's to end from now on."""
        self._taken = True
        return self.executor

    def close(self) -> None:
        """End the executor if nobody took it."""
        if self.executor is not None and not self._taken:
            self.executor.stop()
            self.executor.close(leaving=False)

    def reachable(self, pending: Sequence[Trial]) -> list[Trial]:
        """Return those of the trials whose node is there."""
        return [trial for trial in pending if self.nodes is None or trial.setting.node in self.there]

    def absent(self, pending: Sequence[Trial]) -> list[Notice]:
        """Return what is to be told of the nodes that are not there any more, and of the trials that wait for them."""
        if self.executor is None or self.nodes is None:
            return []
        waiting = Counter(str(trial.setting.node) for trial in pending if trial.setting.node not in self.there)
        return [
            Notice(
                what="absent", worker="",
                text=f"node {node} is not there: {plural(count, 'trial')} left for a --resume when it is back",
            )
            for node, count in sorted(waiting.items())
        ]  # fmt: skip


@contextlib.contextmanager
def begin(
    made: Plan,
    recorded: Names,
    *,
    make_executor: Callable[[Sequence[Trial]], Executor],
    start: Callable[[Executor], bool],
) -> Iterator[Begun]:
    """Start the executor for a suite with `every_node`, and have its trials on each node; other suites are left alone.

    `recorded` are the nodes of the run's earlier attempts. Until it is known better, this host is taken to be the only
    node, so that its workers can start at once. Where `start` returns False, the run is to end: there is no executor.
    """
    if not made.suite.every_node:
        yield Begun(made=made)
        return

    def earlier(trial: Trial) -> Sequence[str]:
        return recorded.get(_asked(trial), ())

    executor = make_executor(on_nodes(made, lambda trial: [socket.gethostname()]).trials)
    if not start(executor):
        yield Begun(made=on_nodes(made, earlier) if recorded else made, nodes=recorded)
        return
    begun = Begun(made=made, executor=executor)
    try:
        here = {_asked(trial): executor.node_names(Demand.of(trial)) for trial in made.trials}
        nodes = {asked: list(dict.fromkeys([*recorded.get(asked, ()), *names])) for asked, names in here.items()}
        begun.nodes, begun.made = nodes, on_nodes(made, lambda trial: nodes[_asked(trial)])
        begun.there = frozenset(name for names in here.values() for name in names)
        yield begun
    except BaseException:
        begun.close()
        raise


def _asked(trial: Trial) -> str:
    """Return what a trial asks of its node, the node itself left out."""
    return str(Demand.of(trial))
