"""A suite, and what a request changes in it → the points of its grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.domain.component import text
from harness.domain.errors import SuiteError
from harness.domain.grid import Context, Excluded
from harness.domain.paths import Point, Resolver, value_key
from harness.domain.suite import OWN_PATHS, Suite
from harness.plan.overrides import Override


def requested(suite: Suite, overrides: Sequence[Override], small: bool) -> tuple[Suite, list[Override]]:
    """Return the suite with the changes of its own fields, and those of the setting's paths; later ones win."""
    if small and suite.small is None:
        raise SuiteError(f"the suite {suite.name!r} has no small variant; give it one as small={{'epochs': 2}}")
    changes = {path: (value,) for path, value in suite.small.items()} if small and suite.small else {}
    for path, values in overrides:
        changes.pop(path, None)  # so that the last one stands last
        changes[path] = values
    own = {path: changes.pop(path) for path in (*OWN_PATHS, "grid") if path in changes}
    return _with_own(suite, own), list(changes.items())


def _with_own(suite: Suite, changes: Mapping[str, tuple[Any, ...]]) -> Suite:
    """Return the suite, checked again, with these changes of its own fields."""
    if not changes:
        return suite
    own: dict[str, Any] = {}
    for path, values in changes.items():
        if path == "repeats" and values == (None,):
            raise SuiteError('repeats must be a whole number, "auto" or auto(...), got null')
        if path == "seeds" and not isinstance(values[0], list):
            own[path] = list(values)
        elif len(values) == 1:
            own[path] = values[0]
        else:
            raise SuiteError(f"{path} takes one value, got {', '.join(map(text, values))}")
    if "seeds" in own:
        own.setdefault("repeats", None)
    return Suite(**{name: getattr(suite, name) for name in Suite.model_fields} | own)


def points_of(suite: Suite, resolver: Resolver, changes: Sequence[Override]) -> tuple[list[Point], list[Excluded]]:
    """Return the grid's points and what it excluded, with the changes in place."""
    if suite.grid is None and not changes:
        return [{}], []
    points: list[Point] = []
    excluded: list[Excluded] = []
    for values in itertools.product(*(values for _, values in changes)):
        fixed = dict(zip((path for path, _ in changes), values, strict=True))
        if suite.grid is None:
            points.append(fixed)
            continue
        found = suite.grid.points(Context(resolver, fixed))
        points += [{**point, **fixed} for point in found.kept] if fixed else found.kept
        excluded += found.excluded
    if changes:
        points = list({_point_key(point): point for point in reversed(points)}.values())[::-1]
        excluded = list({(_point_key(item.point), item.reason): item for item in excluded}.values())
    if not points:
        reasons = dict.fromkeys(item.reason for item in excluded)
        raise SuiteError(f"the grid is empty: all {len(excluded)} of its points are left out by {'; '.join(reasons)}")
    return points, excluded


def _point_key(point: Point) -> Any:
    return tuple(sorted((path, repr(value_key(value))) for path, value in point.items()))


def axes_of(suite: Suite, changes: Sequence[Override]) -> set[str]:
    """Return the paths that are axes: those of the grid, and those that a change gives several values."""
    declared = suite.grid.paths() if suite.grid is not None else set()
    return declared | {path for path, values in changes if len(values) > 1}
