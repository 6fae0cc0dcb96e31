"""A suite and what a request changes in it → the trials to run, in order.

What a request changes comes first: `small`, then each ``--set``, before the grid's conditions and computed axes
are evaluated. ``--where`` filters what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.domain.errors import SuiteError
from harness.domain.expression import Expression
from harness.domain.grid import MOST_TRIALS, Excluded, check_names, show
from harness.domain.paths import MISSING, Field, Point, Resolver, value_key
from harness.domain.repeats import Auto
from harness.domain.suite import LoadedSuite, Suite, Target, located
from harness.domain.trial import Trial
from harness.plan.checks import Checks, check_told_apart, check_unlike
from harness.plan.overrides import Override
from harness.plan.points import axes_of, points_of, requested


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The trials of one request, in order: setting by setting, seed by seed."""

    suite: Suite  # as asked for: `small`, and overrides of its own fields (`OWN_PATHS`), are in it
    trials: tuple[Trial, ...]
    settings: int  # distinct settings
    axes: Mapping[str, tuple[Any, ...]]  # path -> its distinct values, as they stand in `Trial.axes`
    excluded: tuple[Excluded, ...]
    sha256: str  # of what was asked: the suite's declaration and the request's changes
    shard: tuple[int, int] | None = None  # which of how many, from 0, where these are the trials of one alone

    @property
    def target(self) -> Target | None:
        return self.suite.target


def plan(
    suite: Suite | LoadedSuite,
    *,
    overrides: Sequence[Override] = (),
    where: Sequence[str] = (),
    small: bool = False,
) -> Plan:
    """Return the trials that are asked for.

    An override replaces a path: every point of the grid loses it, points that then coincide are merged, and the
    rest is multiplied by the values given. The suite's own fields (`OWN_PATHS`) can be overridden as well.
    A condition of `where` sees the whole setting and its `seed`.

    Raises:
        SuiteError: naming the suite's file, the path and the value, for whatever cannot be right.
    """
    path = suite.path if isinstance(suite, LoadedSuite) else None
    declared = suite.suite if isinstance(suite, LoadedSuite) else suite
    with located(path):
        return _plan(declared, overrides, [Expression(condition) for condition in where], small)


def _plan(declared: Suite, overrides: Sequence[Override], where: Sequence[Expression], small: bool) -> Plan:
    suite, changes = requested(declared, overrides, small)
    resolver = Resolver(suite.base)
    points, excluded = points_of(suite, resolver, changes)
    if len(points) * len(suite.all_seeds) > MOST_TRIALS:
        total = f"{len(points):,} settings with {len(suite.all_seeds):,} seeds each"
        raise SuiteError(f"{total} are more than {MOST_TRIALS:,} trials; thin the grid out, or lower repeats")
    settings = [resolver.fields(point) for point in points]
    check_unlike(points, settings, resolver)
    for condition in where:
        check_names(condition, resolver, settings, besides=["seed"])
    axes = axes_of(suite, changes)
    checks = Checks(resolver, suite)
    trials: list[Trial] = []
    count = 0
    for point, fields in zip(points, settings, strict=True):
        kept, left_out = _seeds(suite, where, resolver, fields, point)
        excluded += left_out
        if not kept:
            continue
        count += 1
        setting = resolver.setting(fields)
        checks.check(setting, fields, point)
        shown = tuple((path, resolver.shown(path, value)) for path, value in point.items() if path in axes)
        for repeat, seed in kept:
            trials.append(
                Trial(
                    setting=setting, seed=seed, repeat=repeat, axes=shown, timeout_s=suite.timeout,
                    checkpoint_s=suite.checkpoint,
                )
            )  # fmt: skip
    if not trials:
        reasons = dict.fromkeys(item.reason for item in excluded)
        raise SuiteError(f"no trial is left: all {len(excluded)} were left out by {'; '.join(reasons)}")
    check_told_apart(trials, axes)
    asked = {  # how often states are saved changes nothing of what is measured
        "overrides": [[path, list(values)] for path, values in overrides if path != "checkpoint"],
        "where": [str(condition) for condition in where],
        "small": small,
    }
    return Plan(
        suite=suite,
        trials=tuple(trials),
        settings=count,
        axes=values_of(trials),
        excluded=tuple(excluded),
        sha256=declared.sha256(asked),
    )


def _seeds(
    suite: Suite, where: Sequence[Expression], resolver: Resolver, fields: Mapping[str, Field], point: Point
) -> tuple[list[tuple[int, int]], list[Excluded]]:
    """Return the repeats of a point with their seeds, and those that a condition leaves out."""
    kept: list[tuple[int, int]] = []
    left_out: list[Excluded] = []
    for repeat, seed in enumerate(suite.all_seeds):
        failed = _failed(where, resolver, fields, seed)
        if failed is None:
            kept.append((repeat, seed))
        else:
            left_out.append(Excluded({**point, "seed": seed}, f"--where {failed}"))
    if isinstance(suite.repeats, Auto) and 0 < len(kept) < suite.repeats.at_least:
        raise SuiteError(
            f"repeats: auto makes at least {suite.repeats.at_least} repeats, and --where leaves {len(kept)} of "
            f"{show(point)}; leave seed out of --where, or say how many with --set repeats=N"
        )
    return kept, left_out


def _failed(
    where: Sequence[Expression], resolver: Resolver, fields: Mapping[str, Field], seed: int
) -> Expression | None:
    """Return the first condition that the setting with this seed does not meet."""

    def lookup(path: str) -> Any:
        value = seed if path == "seed" else resolver.read(fields, path)
        return None if value is MISSING else value

    return next((condition for condition in where if not condition.holds(lookup)), None)


def in_full(suite: Suite | LoadedSuite) -> tuple[Trial, ...]:
    """Return the trials of a suite as it is declared, whatever a request changes. Its data need not be here."""
    path = suite.path if isinstance(suite, LoadedSuite) else None
    declared = suite.suite if isinstance(suite, LoadedSuite) else suite
    with located(path):
        resolver = Resolver(declared.base)
        settings = [resolver.setting(resolver.fields(point)) for point in points_of(declared, resolver, [])[0]]
    seeds = list(enumerate(declared.all_seeds))
    return tuple(Trial(setting=setting, seed=seed, repeat=repeat) for setting in settings for repeat, seed in seeds)


def values_of(trials: Sequence[Trial]) -> dict[str, tuple[Any, ...]]:
    """Return the distinct values of each axis, in the order in which they first stand in trials."""
    found: dict[str, dict[Any, Any]] = {}
    for trial in trials:
        for path, value in trial.axes:
            found.setdefault(path, {}).setdefault(value_key(value), value)
    return {path: tuple(values.values()) for path, values in found.items()}
