"""The driver's handle to one node of a Ray cluster: a reservation of all it has, and the agent that supervises it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.domain.sources import Source
from harness.schedule import join
from harness.schedule.agent import AgentNode, News, Request, Run, capacity
from harness.schedule.ray_link import Seen, first_line

_LISTEN_S: Final = 0.25  # a call that has nothing to tell returns after so long, with the progress,
_LISTEN_EACH_S: Final = 0.005  # or after so long for each node, so that many are no more than 200 answers a second
_ANSWER_S: Final = 10.0
_SILENT_S: Final = 5.0  # later than promised, and the node may be cut off: Ray notices that after some 20 s


class Agent:
    """What supervises a node for this driver.

    The node is reserved whole, its GPUs too, as a placement group of one bundle that is bound to it by its label: Ray
    starts the agent once nobody else holds any of that, and gives all back when the group is removed or the driver
    ends.
    """

    def __init__(
        self,
        node: Seen,
        *,
        host: str,
        sources: Mapping[str, Source],
        hz: float,
        folder: Path | None,
        driver: int | None,
    ) -> None:
        """`host` is what the node is called; the others are as for `AgentNode`."""
        self.node = node
        self.node_id = node.node_id
        self.host = host
        self.address = node.address
        self.local = folder is not None
        self.aside = False
        self.began_s = time.monotonic()
        self.told_busy = False
        self._driver = driver
        self._known: dict[str, Any] | None = None
        self._group = placement_group([node.bundle], bundle_label_selector=[{"ray.io/node-id": node.node_id}])
        place = PlacementGroupSchedulingStrategy(self._group)
        remote = ray.remote(num_cpus=0, max_restarts=0, concurrency_groups={"listen": 1})(AgentNode)
        self._actor = remote.options(scheduling_strategy=place).remote(
            sources=dict(sources), telemetry_hz=hz, folder=folder, driver=driver, started_in=str(Path.cwd())
        )
        self.ready = self.call("about")  # the promise of its first answer
        self._about = self.ready
        self._listening: Any = None
        self._due_s = 0.0  # when what is listened for was to be there
        self._requests: list[Request] = []
        self._number = 0
        self._sent: list[Any] = []  # promises that requests have arrived

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._actor, method).remote(*arguments)

    def begin(self, run: Run) -> None:
        """Have the node begin another run, on the workers that are there."""
        self.aside = False
        driver = None if self._driver is None else run.driver
        there = run.surroundings
        if there is not None and not self.local:  # a cluster's nodes have variables of their own
            there = replace(there, environment={"HARNESS_STARTED_IN": there.folder})
        self._about, self._known = self.call("begin_run", replace(run, driver=driver, surroundings=there)), None

    # Whether the node can be used. ------------------------------------------------------------------------------------

    def examine(self) -> tuple[str | None, str | None]:
        """Return what is wrong with a node that is `ready`, so that it cannot be used, and what is odd about it."""
        try:
            about = dict(self.about(_ANSWER_S))
            asked_at = time.time()
            about["unix_s"] = ray.get(self.call("clock"), timeout=_ANSWER_S)
            answered_at = time.time()
        except RayError as error:
            return _why_dead(error), None
        wrong = join.problem(about, asked_at=asked_at, answered_at=answered_at)
        if wrong is not None:  # of another version: nothing else that it says is sure to mean what it does here
            return wrong, None
        return None, join.doubt(about, asked_at=asked_at, answered_at=answered_at)

    def held(self) -> bool:
        """Whether the node is not this driver's yet: somebody else has some of it."""
        return bool(placement_group_table(self._group).get("state") == "PENDING")

    def about(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Return what the node says of itself."""
        if self._known is None:
            self._known = dict(ray.get(self._about, timeout=timeout_s))
        return self._known

    def known(self) -> dict[str, Any]:
        """Return what `harness.schedule.eligible` asks for.

        Raises:
            RayError: when the node is lost.
        """
        told = capacity() if self.local else self.about()  # the former is there before the agent is
        return {**told, "node": self.host, "labels": self.node.labels, "accelerators": self.node.accelerators}

    def described(self) -> dict[str, Any]:
        """Return the node's row for the records."""
        return {**self.about()["description"], "node": self.host}

    # What it is asked, and what it tells. -----------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Have a worker do something, once `send` is called."""
        self._requests.append(request)

    def send(self) -> None:
        """Send what was asked since the last time, in one message: now, or else with the next `listen`."""
        if self._requests and self._listening is not None:
            self._sent.append(self.call("ask", *self._numbered()))

    def listen(self, nodes: int = 1) -> Any:
        """Return the promise of the next news, of one among so many nodes: of one call, until they are heard."""
        if self._listening is None:
            wait_s = max(_LISTEN_S, nodes * _LISTEN_EACH_S)
            asked = self._numbered() if self._requests else ()  # which saves a call for each trial
            self._listening = self._actor.listen.options(concurrency_group="listen").remote(wait_s, *asked)
            self._due_s = time.monotonic() + wait_s
        return self._listening

    @property
    def silent(self) -> bool:
        """Whether the agent has owed its news for long."""
        if self._listening is None or time.monotonic() - self._due_s < _SILENT_S:
            return False
        return not ray.wait([self._listening], timeout=0)[0]  # else nobody has taken them yet

    def answer(self, promise: Any, timeout_s: float) -> Any:
        """Return what was promised.

        Raises:
            RayError: when the agent is gone, is silent, or has not answered within `timeout_s`.
        """
        self.listen()
        end_s = time.monotonic() + timeout_s
        while not ray.wait([promise], timeout=0.5)[0]:
            if self.silent or time.monotonic() > end_s:
                raise GetTimeoutError("it does not answer")
        return ray.get(promise, timeout=timeout_s)

    def _numbered(self) -> tuple[int, list[Request]]:
        numbered = (self._number, self._requests)
        self._requests, self._number = [], self._number + 1
        return numbered

    def heard(self, timeout_s: float = 30.0) -> News:
        """Return the news that were listened for.

        Raises:
            RayError: when the agent is gone, or has not answered within `timeout_s`.
        """
        ref, self._listening = self.listen(), None
        news: News = ray.get(ref, timeout=timeout_s)
        return news

    def expect_arrived(self) -> None:
        """Raise if requests have not reached the agent, which then waits for them in vain.

        Raises:
            RayError: with why.
        """
        if self._sent:
            told, self._sent = ray.wait(self._sent, num_returns=len(self._sent), timeout=0)
            ray.get(told, timeout=_ANSWER_S)

    def give_back(self) -> None:
        """Let go of the node: Ray ends the agent, if it still lives, and with it its workers. The head must be there,
        or this blocks."""
        remove_placement_group(self._group)


def _why_dead(error: RayError) -> str:
    """Return why an agent did not start, in words."""
    if isinstance(error, GetTimeoutError):
        return "does not answer"
    told = str(error)
    if "No module named 'harness'" in told:
        return "has no `harness` package where its Ray runs; install the same version there"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    says = next((line for line in reversed(lines) if "Error" in line), first_line(error))
    return f"cannot run the harness's agent: {says}"
