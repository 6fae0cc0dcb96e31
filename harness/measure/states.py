"""A trial's state, saved from time to time, and taken up again in another process: see docs/decisions/states.md.

All of it happens off the training clock, under the stopwatch of "record". What counts afterwards is what the state
holds: time that was spent after it was saved, by a process that is lost, is in no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, replace
from typing import Any, Final

from harness.domain.outcome import EpochRecord, Facts
from harness.domain.state import StateError, pack, unpack
from harness.domain.trial import Trial
from harness.measure.epochs import MeasuredEpochs, both, energy_of
from harness.measure.process import Edge, with_process
from harness.measure.worker import WorkerState
from harness.workloads.protocol import Kept, Session, Span, Stopwatch

_ADDED: Final = ("user_cpu_s", "system_cpu_s", "clock_step_s", "major_faults", "involuntary_switches")
_TAKEN_OVER: Final = ("initial_val_loss", "initial_val_accuracy")


class States:
    """The states of one trial. `own` is what a workload that leads by itself has kept."""

    def __init__(
        self,
        trial: Trial,
        worker: WorkerState,
        watch: Stopwatch,
        epochs: MeasuredEpochs,
        *,
        state: bytes | None,
        on_state: Callable[[bytes], None] | None,
        now: Callable[[], float],
    ) -> None:
        """Begin with a trial; `state` is what to go on from, None to begin anew."""
        self._edge = Edge.read(worker)
        self._start_s = self._saved_s = now()
        self._used = watch.reading()
        self._trial, self._worker, self._watch, self._epochs, self._now = trial, worker, watch, epochs, now
        self._state = state
        self._on_state = on_state
        self._resumptions = 0
        self._earlier: Mapping[str, Any] | None = None  # the head of the state that was taken up
        self.own: Kept | None = None
        self.remark: str | None = None  # why a state was not
        worker.save_asked = False
        epochs.states = self

    @property
    def due(self) -> bool:
        """Whether it is time to save the state."""
        every_s = self._trial.checkpoint_s
        if self._on_state is None or every_s is None:
            return False
        return self._worker.save_asked or self._now() - self._saved_s >= every_s

    @property
    def wall_s(self) -> float:
        """How long the trial has taken, so far as it counts."""
        earlier_s = 0.0 if self._earlier is None else self._earlier["wall_s"]
        return float(earlier_s + self._now() - self._start_s)

    def facts(self, facts: Facts, *, others: bool = False) -> Facts:
        """Return the facts with those of the process added; `others`: the trial ran in processes below this one."""
        used = self._watch.reading() - self._used
        facts = with_process(facts, self._worker.trials_run, used, others=others)
        facts = self._edge.told(facts, self._worker, others=others)
        earlier = self._earlier
        if earlier is None:
            return replace(facts, resumptions=0)
        before = earlier["facts"]
        changed: dict[str, Any] = {name: _sum(getattr(facts, name), before[name]) for name in _ADDED}
        changed |= {name: before[name] for name in _TAKEN_OVER if before[name] is not None}
        energy = energy_of(before["energy"])
        return replace(
            facts,
            **changed,
            peak_rss_bytes=max(facts.peak_rss_bytes or 0, before["peak_rss_bytes"] or 0) or None,
            energy=None if facts.energy is None or energy is None else both(facts.energy, energy),
            resumptions=self._resumptions,
            resumed_after_epoch=earlier["epoch"],
        )

    def save(self, kept: Kept, best: list[Any] | None = None) -> None:
        """Hand over the state of this moment; `best` are the best weights so far by early stopping."""
        if self._on_state is None:
            return
        from harness.workloads.states import to_bytes  # which brings NumPy

        epochs, stopping = self._epochs, self._epochs.stopping
        facts = self.facts(epochs.facts)
        head = {
            "epoch": epochs.count,
            "resumptions": self._resumptions,
            "engine": facts.engine,
            "versions": facts.versions,
            "epochs": [asdict(record) for record in epochs.records],
            "part": epochs.part(),
            "stopping": None if stopping is None else stopping.plain(),
            "best": None if best is None else len(best),
            "spans": {step: astuple(span) for step, span in self._watch.spans().items()},
            "wall_s": self.wall_s,
            "facts": {
                **{name: getattr(facts, name) for name in (*_ADDED, *_TAKEN_OVER, "peak_rss_bytes")},
                "energy": None if facts.energy is None else asdict(facts.energy),
            },
            "kept": dict(kept.plain),
        }
        arrays = {f"kept/{name}": value for name, value in kept.arrays.items()}
        arrays |= {f"best/{number}": value for number, value in enumerate(best or ())}
        self._on_state(pack(self._trial, head, to_bytes(arrays)))
        self._worker.save_asked = False
        self._saved_s = self._now()

    def take_up(self, session: Session | None) -> list[Any] | None:
        """Go on from the state, if there is one that fits; return the best weights that it holds.

        A workload that leads by itself (None) finds its part in `own`.
        """
        if self._state is None:
            return None
        try:
            with self._watch.measuring("record"):
                return self._taken_up(self._state, session)
        except StateError as error:
            self.remark = f"begun anew, as its saved state cannot be used: {error}"
            return None
        finally:
            self._state = None  # it may be large

    @property
    def resumed(self) -> bool:
        """Whether the trial goes on from a state."""
        return self._earlier is not None

    def _taken_up(self, data: bytes, session: Session | None) -> list[Any] | None:
        from harness.workloads.states import from_bytes

        state = unpack(self._trial, data)
        head, arrays = state.head, from_bytes(state.arrays)
        here = Facts() if session is None else session.facts
        for name in ("engine", "versions"):
            if head[name] != getattr(here, name):
                raise StateError(f"it is of {head[name]}, and what runs here is {getattr(here, name)}")
        kept = Kept(plain=head["kept"], arrays=_below("kept/", arrays))
        if session is None:
            self.own = kept
        else:
            session.resume(kept)
        self._earlier, self._resumptions = head, state.resumptions + 1
        self._watch.carry({step: Span(*span) for step, span in head["spans"].items()})
        records = [EpochRecord(**{**plain, "energy": energy_of(plain["energy"])}) for plain in head["epochs"]]
        self._epochs.resume(records, head["part"])
        if self._epochs.stopping is not None and head["stopping"] is not None:
            self._epochs.stopping.resume(head["stopping"])
        best = _below("best/", arrays)
        return None if head["best"] is None else [best[str(number)] for number in range(head["best"])]


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
