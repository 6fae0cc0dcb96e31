"""Workers on several nodes that run a trial together, and what their answers say when they are put together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.domain.outcome import Outcome
from harness.schedule.losses import Cause
from harness.schedule.parts import Part
from harness.schedule.protocol import Checked, Done, Gone, Ready, Worker

PEER_GONE: Final = "another process of the trial is gone"  # what a process says that ends because one has


@dataclass(slots=True, kw_only=True)
class Gang:
    worker: Worker  # what the loop knows it by
    parts: tuple[Part, ...]
    generation: int = 0
    members: list[str] = field(default_factory=list)  # their workers' names, by rank
    ready: dict[str, Ready] = field(default_factory=dict)
    running: bool = False
    asked: tuple[tuple[str, str], int] = (("", ""), 0)  # the key of the trial that it was given last, and the attempt
    aside: bool = False  # one of its nodes is not to be used any more
    answers: dict[str, Checked | Done | Gone] = field(default_factory=dict)  # to what was asked last
    deadline_s: float | None = None  # for those that have not answered

    @property
    def name(self) -> str:
        return self.worker.name

    @property
    def up(self) -> bool:
        return len(self.ready) == len(self.parts)

    @property
    def answered(self) -> bool:
        """Whether all members have."""
        return len(self.answers) == len(self.members)

    def part(self, member: str) -> Part:
        """Return where a member is."""
        return self.parts[self.members.index(member)]

    def readiness(self) -> Ready:
        """Return that all are ready: the leader's process, and the time that the slowest took."""
        slowest_s = max(one.prepare_s for one in self.ready.values())
        return replace(self.ready[self.members[0]], worker=self.name, prepare_s=slowest_s)

    def checked(self) -> Checked:
        """Return what the first member that has answered found wrong, if any did."""
        wrong = [one.error for one in self.answers.values() if isinstance(one, Checked) and one.error]
        return Checked(worker=self.name, error=wrong[0] if wrong else None)

    def done(self) -> Done:
        """Return how the trial ended, by the members that have answered; they go on where they are still in step."""
        done = {name: one for name, one in self.answers.items() if isinstance(one, Done)}
        in_step = len(done) == len(self.members) and len({one.outcome.status for one in done.values()}) == 1
        key, attempt = self.asked
        lost = self._first_lost()
        return Done(
            worker=self.name,
            key=key,
            attempt=attempt,
            outcome=self._outcome(done, lost),
            alive=in_step and all(one.alive for one in done.values()) and not self.aside,
            cause=self._cause(),
            blamed=tuple(part.node for part, name in zip(self.parts, self.members, strict=True) if name in lost),
        )

    def told(self, member: str, reason: str) -> str:
        """Return a reason why a member could not go on, with where it is."""
        rank = self.members.index(member)
        node = f"node {self.parts[rank].node}"
        if reason.startswith(f"{node} was lost"):
            return reason
        return f"process {rank} of {len(self.parts)}, on {node}: {reason}"

    def _cause(self) -> Cause:
        """Return what ended a trial that was lost: a node, or else what ended the process of the first member that
        died."""
        if any(isinstance(one, Gone) for one in self.answers.values()):
            return "node"
        own = [
            one.cause
            for one in self.answers.values()
            if isinstance(one, Done) and one.outcome.status == "lost" and PEER_GONE not in (one.outcome.error or "")
        ]
        return own[0] if own else "outside"

    def _first_lost(self) -> dict[str, str]:
        """Return the members that were lost by themselves, not because another was, each with the reason."""
        gone = {name: one.reason for name, one in self.answers.items() if isinstance(one, Gone)}
        if gone:  # what the others then end by may look like a fault of their own: JAX aborts
            return gone
        lost = {
            name: one.outcome.error or "?"
            for name, one in self.answers.items()
            if isinstance(one, Done) and one.outcome.status == "lost"
        }
        if lost and all(PEER_GONE in reason for reason in lost.values()):
            silent = {name: "did not answer" for name in self.members if name not in self.answers}
            return silent or lost
        return {name: reason for name, reason in lost.items() if PEER_GONE not in reason}

    def _outcome(self, done: Mapping[str, Done], lost: Mapping[str, str]) -> Outcome:
        """Return the leader's outcome, or what the other members say of why there is none."""
        answered = [done[name].outcome for name in self.members if name in done]  # all measure the same epochs
        own = answered[0] if answered else Outcome(status="lost", ended_at=time.time())
        if lost:
            told = "; ".join(self.told(name, lost[name]) for name in self.members if name in lost)
            return replace(own, status="lost", error=told, files={})
        wrong = [name for name in self.members if name in done and done[name].outcome.status != "completed"]
        if not wrong or wrong[0] == self.members[0]:
            return own
        said = done[wrong[0]].outcome
        error = self.told(wrong[0], str(said.error))
        return replace(own, status=said.status, error=error, error_detail=said.error_detail, step=said.step, files={})
