"""Grids: which settings a suite asks for, declared first and evaluated against a base later.

An axis is the dotted path of any field of a setting. Keywords serve for plain names, a mapping for dotted ones::

    product({"optimizer.learning_rate": [0.1, 0.01]}, batch_size=[16, 32]).where("batch_size >= 32 or epochs > 5")

A condition, and the expression of a computed axis, sees the whole setting: the base with the point's values in
place, as far as the grid that it is written on goes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.domain.component import Declaration, plain_value, text
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression, unknown_path
from harness.domain.paths import MISSING, Field, Point, Resolver, elsewhere

MOST_TRIALS = 1_000_000  # of one run: enough for years of training, and planned in a minute


@dataclass(frozen=True, slots=True)
class Excluded:
    """A point that a condition left out. It holds the axes known where the condition stands."""

    point: Point
    reason: str  # the condition, as `where batch_size >= 32` or `exclude batch_size < 32`


@dataclass(frozen=True, slots=True)
class Points:
    """What a grid comes to, in order."""

    kept: list[dict[str, Any]]
    excluded: list[Excluded] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Context:
    """What a grid is evaluated against. The paths of `fixed` replace whatever the grid says of them."""

    resolver: Resolver
    fixed: Point = field(default_factory=dict)

    def fields(self, point: Point) -> Mapping[str, Field]:
        return self.resolver.fields({**point, **self.fixed} if self.fixed else point)

    def lookups(self, points: Sequence[Point], expression: Expression) -> Iterator[Callable[[str], Any]]:
        """Yield, for each point, what reads its setting; a path that only other settings have is None.

        Raises:
            SuiteError: for a path of the expression that no setting has.
        """
        settings = [self.fields(point) for point in points]
        check_names(expression, self.resolver, settings)
        for fields in settings:
            yield partial(self._read, fields)

    def _read(self, fields: Mapping[str, Field], path: str) -> Any:
        value = self.resolver.read(fields, path)
        return None if value is MISSING else value


def check_names(
    expression: Expression,
    resolver: Resolver,
    settings: Sequence[Mapping[str, Field]],
    besides: Sequence[str] = (),
) -> None:
    """Raise for a name in `expression` that is in no setting, nor in `besides`."""
    for path in expression.names:
        found = path in besides or any(resolver.read(fields, path) is not MISSING for fields in settings or [{}])
        if not found and path not in elsewhere(path):
            right = [*besides, *resolver.paths(settings[0] if settings else None)]
            raise SuiteError(f"expression {str(expression)!r}: {unknown_path(path, right, elsewhere(path))}")


class Grid:
    """A declared set of points; the classes below are its forms."""

    __slots__ = ()

    def __mul__(self, other: Grid) -> Grid:
        return Times(self, _grid(other, "*"))

    def __add__(self, other: Grid) -> Grid:
        return Plus(self, _grid(other, "+"))

    def where(self, condition: str | Expression) -> Grid:
        """Keep the points whose setting meets the condition."""
        return Where(self, _expression(condition), keep=True)

    def exclude(self, condition: str | Expression) -> Grid:
        """Leave out the points whose setting meets the condition."""
        return Where(self, _expression(condition), keep=False)

    def compute(self, mapping: Mapping[str, str] | None = None, /, **axes: str) -> Grid:
        """Add axes computed from the rest of the setting, such as ``epochs="1280 // batch_size"``."""
        given = _axes("compute", mapping, axes)
        return Compute(self, tuple((path, _expression(expression)) for path, expression in given.items()))

    def points(self, context: Context) -> Points:
        """Return the grid's points over the context's base.

        Raises:
            SuiteError: for an axis said twice, an unknown path, or a value of the wrong kind.
        """
        raise NotImplementedError

    def paths(self) -> set[str]:
        """Return the axes that some point has."""
        raise NotImplementedError

    def plain(self) -> Any:
        """Return the declaration as plain JSON, for hashing and showing."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Product(Grid):
    """Every combination of the axes' values, the last axis fastest."""

    axes: tuple[tuple[str, tuple[Any, ...]], ...]

    def points(self, context: Context) -> Points:
        axes = [(path, values) for path, values in self.axes if path not in context.fixed]
        paths = [path for path, _ in axes]
        count = math.prod(len(values) for _, values in axes)
        if count > MOST_TRIALS:
            raise SuiteError(
                f"product({', '.join(paths)}) has {count:,} points, more than {MOST_TRIALS:,}; thin it out"
            )
        rows = itertools.product(*(values for _, values in axes))
        return Points([dict(zip(paths, row, strict=True)) for row in rows])

    def paths(self) -> set[str]:
        return {path for path, _ in self.axes}

    def plain(self) -> Any:
        return {"product": {path: list(values) for path, values in self.axes}}


@dataclass(frozen=True, slots=True)
class Cases(Grid):
    """Points given one by one."""

    cases: tuple[dict[str, Any], ...]

    def points(self, context: Context) -> Points:
        fixed = context.fixed
        return Points([{path: value for path, value in case.items() if path not in fixed} for case in self.cases])

    def paths(self) -> set[str]:
        return {path for case in self.cases for path in case}

    def plain(self) -> Any:
        return {"cases": list(self.cases)}


@dataclass(frozen=True, slots=True)
class Times(Grid):
    """Every point of one grid with every point of the other."""

    left: Grid
    right: Grid

    def points(self, context: Context) -> Points:
        left, right = self.left.points(context), self.right.points(context)
        seen = {path for point in left.kept for path in point}
        for point in right.kept:
            for path in point:
                if path in seen:
                    raise SuiteError(f"the axis {path!r} is declared twice, on both sides of `*`")
        kept = [{**first, **second} for first in left.kept for second in right.kept]
        return Points(kept, left.excluded + right.excluded)

    def paths(self) -> set[str]:
        return self.left.paths() | self.right.paths()

    def plain(self) -> Any:
        return {"times": [self.left.plain(), self.right.plain()]}


@dataclass(frozen=True, slots=True)
class Plus(Grid):
    """The points of one grid, then those of the other."""

    left: Grid
    right: Grid

    def points(self, context: Context) -> Points:
        left, right = self.left.points(context), self.right.points(context)
        return Points(left.kept + right.kept, left.excluded + right.excluded)

    def paths(self) -> set[str]:
        return self.left.paths() | self.right.paths()

    def plain(self) -> Any:
        return {"plus": [self.left.plain(), self.right.plain()]}


@dataclass(frozen=True, slots=True)
class Where(Grid):
    """The points whose setting meets a condition, or (`keep` false) those whose setting does not."""

    grid: Grid
    condition: Expression
    keep: bool

    def points(self, context: Context) -> Points:
        inner = self.grid.points(context)
        kept, excluded = [], list(inner.excluded)
        reason = f"{'where' if self.keep else 'exclude'} {self.condition}"
        for point, lookup in zip(inner.kept, context.lookups(inner.kept, self.condition), strict=True):
            if self.condition.holds(lookup) is self.keep:
                kept.append(point)
            else:
                excluded.append(Excluded({**point, **context.fixed}, reason))
        return Points(kept, excluded)

    def paths(self) -> set[str]:
        return self.grid.paths()

    def plain(self) -> Any:
        return {"where" if self.keep else "exclude": [self.grid.plain(), str(self.condition)]}


@dataclass(frozen=True, slots=True)
class Compute(Grid):
    """The points with further axes, each computed from the setting so far."""

    grid: Grid
    axes: tuple[tuple[str, Expression], ...]

    def points(self, context: Context) -> Points:
        inner = self.grid.points(context)
        points = inner.kept
        for path, expression in self.axes:
            if path not in context.fixed:
                points = [
                    self._with(point, path, expression, lookup)
                    for point, lookup in zip(points, context.lookups(points, expression), strict=True)
                ]
        return Points(points, inner.excluded)

    def _with(self, point: Point, path: str, expression: Expression, lookup: Callable[[str], Any]) -> dict[str, Any]:
        if path in point:
            raise SuiteError(f"the axis {path!r} is declared twice: by its values, and as {str(expression)!r}")
        value = expression.evaluate(lookup)
        if value is None:
            raise SuiteError(f"the computed axis {path} = {expression} has no value at {show(point)}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 1280 / 32 counts as 40
        return {**point, path: plain_value(value, f"the computed axis {path!r}")}

    def paths(self) -> set[str]:
        return self.grid.paths() | {path for path, _ in self.axes}

    def plain(self) -> Any:
        return {"compute": [self.grid.plain(), {path: str(expression) for path, expression in self.axes}]}


def product(mapping: Mapping[str, Iterable[Any]] | None = None, /, **axes: Iterable[Any]) -> Grid:
    """Return the grid of every combination of the axes' values, the last axis fastest."""
    return Product(tuple((path, _values(path, values)) for path, values in _axes("product", mapping, axes).items()))


def zipped(mapping: Mapping[str, Iterable[Any]] | None = None, /, **axes: Iterable[Any]) -> Grid:
    """Return the grid of axes that move together: the first values, the second values, and so on."""
    given = {path: _values(path, values, repeated=True) for path, values in _axes("zipped", mapping, axes).items()}
    if len({len(values) for values in given.values()}) > 1:
        lengths = ", ".join(f"{path} has {len(values)}" for path, values in given.items())
        raise SuiteError(f"the axes of zipped(...) must have as many values each, but {lengths}")
    return Cases(tuple(dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)))


def cases(*points: Mapping[str, Any]) -> Grid:
    """Return the grid of the points given, each a mapping of paths to values."""
    for point in points:
        if not isinstance(point, Mapping):
            raise SuiteError(f"cases(...) takes mappings such as {{'batch_size': 32}}, got {point!r}")
    if not points:
        raise SuiteError("cases() is empty; give at least one mapping such as {'batch_size': 32}")
    return Cases(
        tuple(
            {_path(path): plain_value(value, f"case {number}, {path!r}") for path, value in point.items()}
            for number, point in enumerate(points, 1)
        )
    )


def show(point: Point) -> str:
    """Return a point as a person reads it: ``batch_size=32, optimizer=sgd(learning_rate=0.1)``."""
    return ", ".join(f"{path}={text(value)}" for path, value in point.items()) or "the base itself"


def _grid(value: Any, operator: str) -> Grid:
    if not isinstance(value, Grid):
        raise SuiteError(f"a grid can be joined by `{operator}` to another grid alone, got {value!r}")
    return value


def _expression(value: str | Expression) -> Expression:
    return value if isinstance(value, Expression) else Expression(value)


def _path(path: Any) -> str:
    if not isinstance(path, str) or not all(part.isidentifier() or part.isdigit() for part in path.split(".")):
        raise SuiteError(f"{path!r} is no path; a path is a text such as 'optimizer.learning_rate'")
    return path


def _axes(name: str, mapping: Mapping[str, Any] | None, axes: Mapping[str, Any]) -> dict[str, Any]:
    if mapping is not None and not isinstance(mapping, Mapping):
        raise SuiteError(f"{name}(...) takes axes by keyword, or a mapping for dotted paths, got {mapping!r}")
    for path in axes:
        if path in (mapping or {}):
            raise SuiteError(f"the axis {path!r} is declared twice in {name}(...)")
    given = {_path(path): values for path, values in {**(mapping or {}), **axes}.items()}
    if not given:
        raise SuiteError(f"{name}() is empty; give at least one axis, such as batch_size=...")
    return given


def _values(path: str, values: Any, *, repeated: bool = False) -> tuple[Any, ...]:
    unordered = isinstance(values, str | Mapping | set | frozenset | Declaration)
    if unordered or not isinstance(values, Iterable):
        raise SuiteError(f"the axis {path!r} needs a list of values, got {values!r}")
    found = tuple(plain_value(value, f"the axis {path!r}") for value in values)
    if not found:
        raise SuiteError(f"the axis {path!r} is empty; give it at least one value")
    seen: set[str] = set()
    for value in map(repr, found):
        if value in seen and not repeated:
            raise SuiteError(f"the axis {path!r} has the value {value} twice")
        seen.add(value)
    return found
