"""Named things with arguments: models, layers, optimizers, losses, schedules, initialisers, regularisers.

In a setting's plain form a component is one flat mapping, ``{"kind": "optimizer", "name": "sgd",
"learning_rate": 0.1}``, so that ``optimizer.learning_rate`` is at once its path in the grid, its name on
the command line and its column in the results.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.domain import catalogue, sources
from harness.domain.errors import SuiteError, a


class Declaration(BaseModel):
    """A frozen value of a suite, checked at birth; what is wrong with it is one SuiteError."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)
    called: ClassVar[str] = ""  # in messages, where that is not the name of the class

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SuiteError(_explain(error, type(self))) from None

    def plain(self) -> dict[str, Any]:
        """Return this declaration as plain JSON."""
        return {name: plain_value(getattr(self, name), name) for name in type(self).model_fields}


class Component(Declaration):
    """One named thing with its arguments, all of them plain JSON values."""

    kind: str
    name: str
    args: dict[str, Any] = {}

    @classmethod
    def of(cls, kind: str, value: Any) -> Component:
        """Return the component that a suite author meant by a name, a function, a mapping or a component.

        Raises:
            SuiteError: for an unknown name or argument, or a value of the wrong kind.
        """
        if isinstance(value, Component):
            if value.kind == "function":
                return cls(kind=kind, name=value.name, args=value.args)
            if value.kind != kind:
                raise SuiteError(f"expected {a(kind)}, got the {value.kind} {value.name!r}")
            return value
        if isinstance(value, str):
            return make(kind, value)
        if isinstance(value, Mapping):
            args = dict(value)
            stated = args.pop("kind", kind)
            if stated not in (kind, "function"):
                raise SuiteError(f"expected {a(kind)}, got {a(stated)}: {dict(value)!r}")
            name = args.pop("name", None)
            if not isinstance(name, str):
                raise SuiteError(f"{a(kind)} needs a name, got {dict(value)!r}")
            return make(kind, name, args)
        if callable(value):
            return function(value, kind=kind)
        raise SuiteError(f"expected {a(kind)} (a name, a function or e.g. {kind}(...)), got {value!r}")

    def plain(self) -> dict[str, Any]:
        """Return the flat mapping that stands for this component in files and on the command line."""
        return {"kind": self.kind, "name": self.name, **self.args}

    def __str__(self) -> str:
        return text(self.plain())


def make(kind: str, name: str, args: Mapping[str, Any] | None = None) -> Component:
    """Return the component `name`, its name and arguments checked against the catalogue and made canonical."""
    values = {key: plain_value(value, f"{kind} {name!r}, argument {key!r}") for key, value in (args or {}).items()}
    for reserved in ("kind", "name", "args"):
        if reserved in values:
            raise SuiteError(f"{kind} {name!r}: {reserved!r} is set by the harness and cannot be an argument")
    canonical, values = catalogue.canonical(kind, name, values)
    return Component(kind=kind, name=canonical, args=values)


def function(callable_: Any, *, kind: str = "function", **args: Any) -> Component:
    """Return a component that calls one's own Python function with `args`; each argument is an axis.

    It takes on the kind of the place it is put in: model, dataset, workload or an argument.
    """
    if not callable(callable_):
        raise SuiteError(f"function(...) takes a Python function, got {callable_!r}")
    values = {key: plain_value(value, f"function, argument {key!r}") for key, value in args.items()}
    return Component(kind=kind, name="function", args={**sources.describe(callable_), **values})


def plain_value(value: Any, where: str) -> Any:
    """Return `value` as plain JSON: components flattened, integral floats kept, tuples as lists.

    Raises:
        SuiteError: naming `where`, for what JSON cannot hold (and so no id could cover).
    """
    if isinstance(value, Declaration):
        return value.plain()
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SuiteError(f"{where}: {value!r} is not a finite number")
        return float(value)  # NumPy's are floats too, and print otherwise
    if isinstance(value, list | tuple):
        return [plain_value(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain_value(item, where) for key, item in value.items()}
    if hasattr(value, "item") and hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        return plain_value(value.item(), where)  # a NumPy scalar
    if callable(value):
        return function(value, kind="function").plain()
    raise SuiteError(f"{where}: {a(type(value).__name__)} cannot be part of a setting: {value!r}")


def text(value: Any) -> str:
    """Return a plain value as a person reads it: ``sgd(learning_rate=0.1)``, ``[128, 64]``, ``true``."""
    if isinstance(value, Declaration):
        value = value.plain()
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        args = {key: item for key, item in value.items() if key not in ("kind", "name")}
        name = value["name"]
        if name == "function" and "function" in args:
            name = args.pop("function")
        args = {key: item for key, item in args.items() if not key.endswith("sha256")}
        if name == "file" and isinstance(args.get("path"), str):
            args["path"] = args["path"].rpartition("/")[2]
        if name == "sequential" and isinstance(args.get("layers"), list):
            return f"sequential({', '.join(map(text, args['layers']))})"
        return f"{name}({', '.join(f'{key}={text(item)}' for key, item in args.items())})" if args else name
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """Return ``" did you mean 'x'?"`` for the closest of the right names, or nothing."""
    close = difflib.get_close_matches(wrong, list(right), n=1)
    return f" did you mean {close[0]!r}?" if close else ""


_RIGHT = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "string_pattern_mismatch": "made of letters, digits, dots, dashes and underscores",
    "is_instance_of": "a grid, such as product(batch_size=[16, 32])",
    "tuple_type": "a list",
}


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}


def _explain(error: ValidationError, model: type[Declaration]) -> str:
    """Return what is wrong as one line: each path with its value, and what would be right."""
    found = []
    for problem in error.errors(include_url=False):
        path = ".".join(map(str, problem["loc"]))
        kind, context = problem["type"], problem.get("ctx", {})
        if kind == "extra_forbidden":
            fields = list(model.model_fields)
            hint = did_you_mean(path, fields)
            found.append(f"unknown field {path!r};{hint} the fields are: {', '.join(fields)}")
            continue
        if kind == "missing":
            found.append(f"{path} is missing")
            continue
        if kind == "value_error":
            right = str(context["error"])
        elif kind in _BOUNDS:
            words, bound = _BOUNDS[kind]
            right = f"must be {words} {context[bound]:,}"
        elif kind == "literal_error":
            right = f"must be {context['expected']}"
        elif kind == "model_type":
            expected = context["class_name"]
            right = "must be named, or e.g. sgd(0.1)" if expected == "Component" else f"must be a {expected}"
        elif kind in _RIGHT:
            right = f"must be {_RIGHT[kind]}"
        else:
            right = problem["msg"]
        found.append(f"{path} {right}, got {problem['input']!r}")
    return f"{model.called or model.__name__}: " + "; ".join(dict.fromkeys(found))
