"""Which trials of a plan are recorded, which are to run, and which are not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.domain.repeats import Auto
from harness.domain.trial import Trial
from harness.plan import Plan
from harness.record.recorder import Recorder
from harness.schedule.loop import Policy

if TYPE_CHECKING:
    from harness.analyse.repeats import Repeats


def to_run(made: Plan, recorder: Recorder, policy: Policy) -> tuple[list[Trial], Repeats | None]:
    """Return the trials to run, and what decides which of them are needed; None where all are."""
    pending = [trial for trial in made.trials if not _done(recorder, trial, policy)]
    if not isinstance(made.suite.repeats, Auto):
        return pending, None
    from harness.analyse.repeats import Repeats

    target = made.target.plain() if made.target is not None else None
    repeats = Repeats(made.suite.repeats, made.trials, target=target)
    if recorder.done:
        from harness.record.reading import load

        recorded = load(recorder.folder)
        repeats.resume(recorded.trials, recorded.epochs, again=[trial.key for trial in pending])
    return [trial for trial in pending if repeats.needs(trial)], repeats


def unneeded_of(recorder: Recorder, made: Plan, repeats: Repeats | None) -> int:
    """Return how many trials have not run and are not needed."""
    if repeats is None:
        return 0
    return sum(trial.key not in recorder.done and not repeats.needs(trial) for trial in made.trials)


def counted(recorder: Recorder, made: Plan, *, but: Sequence[Trial] = ()) -> dict[str, int]:
    """Return how many trials of the plan are recorded, by status; all `but` these, which are to run again."""
    again = {trial.key for trial in but}
    done = recorder.done
    return dict(Counter(done[one.key] for one in made.trials if one.key in done and one.key not in again))


def _done(recorder: Recorder, trial: Trial, policy: Policy) -> bool:
    status = recorder.done.get(trial.key)
    return status is not None and status not in policy.retry
