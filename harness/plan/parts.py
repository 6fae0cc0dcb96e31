"""A plan → a part of it, or all of it on each of several nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from harness.domain.errors import SuiteError
from harness.domain.naming import plural
from harness.domain.repeats import Auto
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.plan.trials import Plan, values_of


def shard(made: Plan, number: int, of: int) -> Plan:
    """Return the plan with the trials of one shard alone: every `of`-th, from `number` on, which counts from 0.

    Raises:
        SuiteError: for a suite whose trials cannot be told apart from one another's, or too few of them.
    """
    suite, count = made.suite, len(made.trials)
    if isinstance(suite.repeats, Auto):
        raise SuiteError(
            'repeats: how many are needed is decided over all trials, so that a run with repeats="auto" cannot be in '
            "shards; say how many with --set repeats=N"
        )
    if suite.every_node:
        raise SuiteError("every_node: such a run is of one cluster and cannot be in shards; run it as one")
    nodes = max(trial.setting.nodes for trial in made.trials)
    if nodes > 1:
        raise SuiteError(
            f"nodes={nodes}: a shard has one node, so that trials on several cannot be in shards; run them as one, or "
            "leave them out by --where 'nodes == 1'"
        )
    if not 1 <= of <= count:
        raise SuiteError(f"{of:,} shards of {plural(count, 'trial')}: each needs a trial; ask for at most {count:,}")
    if not 0 <= number < of:
        raise SuiteError(f"shard {number} of {of}: there are 0 to {of - 1}")
    trials_of_it = made.trials[number::of]
    settings = len({(trial.setting_id, trial.arm) for trial in trials_of_it})
    return replace(made, trials=trials_of_it, settings=settings, shard=(number, of))


def on_nodes(made: Plan, names: Callable[[Trial], Iterable[str]]) -> Plan:
    """Return the plan of an `every_node` suite with each of its trials on every node that `names` has for it."""
    settings: dict[tuple[int, str], Setting] = {}
    trials = []
    for trial in made.trials:
        for name in names(trial):
            key = (id(trial.setting), name)  # a setting's trials share it, on each node too
            if key not in settings:
                settings[key] = trial.setting.model_copy(update={"node": name})
            trials.append(replace(trial, setting=settings[key], axes=(*trial.axes, ("node", name))))
    return replace(made, trials=tuple(trials), axes=values_of(trials))
