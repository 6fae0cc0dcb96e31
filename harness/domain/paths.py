"""Dotted paths into a setting: reading, listing and assigning, quick enough for ten thousand points.

A *point* is a mapping of paths to plain values, such as ``{"batch_size": 32, "optimizer.learning_rate": 0.1}``.
The shorter of its paths are assigned first, so that a point may replace an optimizer and then set its rate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.domain import catalogue
from harness.domain.component import Component, did_you_mean, text
from harness.domain.errors import SuiteError
from harness.domain.expression import unknown_path
from harness.domain.setting import Alone, Dataset, Setting, canonical_numbers

Point = Mapping[str, Any]
MISSING: Any = object()

# Fields that have to fit one another.
_RELATED = frozenset((
    "backend", "batch_size", "cpus", "devices", "early_stopping", "engine", "exclusive", "gpus", "metrics", "node",
    "nodes", "workload",
))  # fmt: skip
_COMPONENTS = ("early_stopping", "loss", "model", "optimizer", "workload")


def read(plain: Any, path: str) -> Any:
    """Return the value at `path` of a plain mapping, or `MISSING`."""
    for part in path.split(".") if path else ():
        if isinstance(plain, dict) and part in plain:
            plain = plain[part]
        elif isinstance(plain, list) and part.isdigit() and int(part) < len(plain):
            plain = plain[int(part)]
        else:
            return MISSING
    return plain


def leaves(plain: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every path of a plain mapping that leads to no further mapping."""
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif not (prefix and key == "kind") or prefix == "node_labels.":
            yield f"{prefix}{key}"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a setting: its checked value, the same as plain JSON, and as text that identifies it."""

    value: Any
    plain: Any
    identity: str


class Resolver:
    """Turns points into checked settings over one base; each distinct value of a field is checked once."""

    def __init__(self, base: Setting) -> None:
        self.base = base
        self._plain = base.plain()
        self._values = {name: getattr(base, name) for name in self._plain}
        self._fields: dict[Any, Field] = {}
        self._base_fields = {name: _field(self._values[name], value) for name, value in self._plain.items()}
        self._roots: dict[str, str] = {}
        self._shown: dict[Any, Any] = {}

    def fields(self, point: Point) -> dict[str, Field]:
        """Return the fields that `point` assigns, by name.

        Raises:
            SuiteError: for an unknown path, or a value of the wrong kind, naming both and what would be right.
        """
        by_root: dict[str, list[tuple[str, Any]]] = {}
        for path, value in point.items():
            root = self._roots.get(path) or self._root(path)
            by_root.setdefault(root, []).append((path, value))
        found = {}
        for root, assigned in by_root.items():
            key = (root, *((path, value_key(value)) for path, value in assigned))
            field = self._fields.get(key)
            if field is None:
                field = self._fields[key] = self._assign(root, dict(assigned))
            found[root] = field
        return found

    def setting(self, fields: Mapping[str, Field]) -> Setting:
        """Return the base with these fields in place of its own."""
        setting = self.base.model_copy(update={name: field.value for name, field in fields.items()})
        if not _RELATED.isdisjoint(fields):
            setting.check()
        return setting

    def identity(self, fields: Mapping[str, Field], names: tuple[str, ...]) -> tuple[str, ...]:
        """Return what tells settings apart that differ in the fields of these names alone."""
        return tuple((fields.get(name) or self._base_fields[name]).identity for name in names)

    def read(self, fields: Mapping[str, Field], path: str) -> Any:
        """Return the value of `path` in the setting with these fields, or `MISSING`."""
        root, _, rest = path.partition(".")
        field = fields.get(root) or self._base_fields.get(root)
        if field is None:
            return MISSING
        return read(field.plain, rest) if rest else field.plain

    def paths(self, fields: Mapping[str, Field] | None = None) -> list[str]:
        """Return the paths of the setting with these fields."""
        return list(leaves(self._plain | {name: field.plain for name, field in (fields or {}).items()}))

    def shown(self, path: str, value: Any) -> Any:
        """Return an axis's value as it stands in tables: a number, a text, true, false or None.

        Components and lists are texts: ``"sgd(learning_rate=0.1)"``, ``"[128, 64]"``.
        """
        if not isinstance(value, str | dict | list):
            return value
        key = (path, value_key(value))
        if key not in self._shown:
            if path in _COMPONENTS:
                value = Component.of(path, value).plain()
            elif path == "dataset" and isinstance(value, dict):
                options = {"name", "kind"} | {name for name in value if value[name] != _DATASET.get(name, MISSING)}
                value = {name: item for name, item in value.items() if name in options}
            self._shown[key] = value if isinstance(value, str) else text(value)
        return self._shown[key]

    def _root(self, path: str) -> str:
        root, _, rest = path.partition(".")
        if root not in self._plain:
            if root in ("seed", "seeds"):
                raise SuiteError(f"{path!r} is no path of a setting; say repeats=N or seeds=[...] in the suite")
            raise SuiteError(unknown_path(path, self.paths()))
        if rest and root not in (*_COMPONENTS, "dataset", "node_labels"):
            raise SuiteError(f"unknown path {path!r}; {root!r} has no parts")
        self._roots[path] = root
        return root

    def _assign(self, root: str, assigned: Point) -> Field:
        plain = self._plain[root]
        by_depth = sorted(assigned.items(), key=lambda item: item[0].count("."))
        try:
            for path, value in by_depth:
                rest = path.partition(".")[2]
                if rest:
                    plain = _assigned(plain, rest.split("."), value, path, root)
                elif value is not None and root == "dataset":
                    plain = Dataset.of(_dataset(plain, value)).plain()
                elif value is not None and root in _COMPONENTS:
                    plain = Component.of(root, value).plain()
                else:
                    plain = value
            checked = getattr(Alone(**(self._values | {root: plain})), root)
        except SuiteError as error:
            values = ", ".join(f"{path} = {text(value)}" for path, value in by_depth)
            raise SuiteError(f"{values}: {str(error).removeprefix('Setting: ')}") from None
        return _field(checked, checked.plain() if isinstance(checked, Component | Dataset) else checked)


def elsewhere(path: str) -> list[str]:
    """Return the paths that some other component at the root of `path` has, such as `optimizer.momentum`."""
    root = path.partition(".")[0]
    return [f"{root}.{argument}" for argument in catalogue.all_arguments(root)] if root in _COMPONENTS else []


_DATASET = Dataset(name="-").plain()


def _field(value: Any, plain: Any) -> Field:
    identity = json.dumps(canonical_numbers(plain), sort_keys=True) if isinstance(plain, dict) else repr(plain)
    return Field(value, plain, identity)


def value_key(value: Any) -> Any:
    """Return what a plain value is told apart by: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else (value.__class__, value)


def _dataset(plain: Any, value: Any) -> Any:
    """Return the plain dataset that assigning `value` gives: a name or an own function keeps the options."""
    own_function = isinstance(value, dict) and value.get("name") == "function" and "held_out" not in value
    if plain is None or not (isinstance(value, str) or own_function):
        return value
    if isinstance(value, str) and plain["name"] != "function":
        return plain | {"name": value}
    options = {key: plain[key] for key in ("take", "scale", "held_out")}
    return options | ({"name": value} if isinstance(value, str) else value)


def _assigned(plain: Any, parts: list[str], value: Any, path: str, at: str) -> Any:
    """Return a copy of `plain` with `value` at the place that `parts` lead to; `at` is the path so far."""
    part, rest = parts[0], parts[1:]
    if isinstance(plain, list):
        if not part.isdigit() or int(part) >= len(plain):
            raise SuiteError(f"unknown path {path!r}; {at} has the parts 0 to {len(plain) - 1}")
        new = plain[int(part)]
        new = _assigned(new, rest, value, path, f"{at}.{part}") if rest else value
        return [*plain[: int(part)], new, *plain[int(part) + 1 :]]
    if not isinstance(plain, dict):
        has = "nothing" if plain is None else text(plain)
        raise SuiteError(f"unknown path {path!r}; {at} is {has}, which has no parts")
    if part == "kind" and at != "node_labels":  # whose names are the user's
        raise SuiteError(f"{path!r} cannot be an axis; it is what {at} is")
    if not rest:
        return plain | {part: value}
    if part not in plain:
        hint = did_you_mean(part, plain)
        raise SuiteError(f"unknown path {path!r};{hint} {at} has: {', '.join(key for key in plain if key != 'kind')}")
    return plain | {part: _assigned(plain[part], rest, value, path, f"{at}.{part}")}
