"""What a declaration may name: everything that Keras has, read from `catalogue.json`, and the harness's own few.

The file is generated from Keras (``python -m harness.workloads.training.catalogue``), so checking a
suite needs no TensorFlow. Names become canonical here, so that ``optimizer("SGD", learning_rate=0.1)`` and
``sgd(0.1)`` are one setting: optimizers in lower case (``adamw``); losses, metrics, activations, initialisers,
regularisers and constraints in snake case (``he_normal``); layers, schedules and applications by class
name (``Conv2D``).
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

from harness.domain.errors import SuiteError, a, known

FILE = Path(__file__).with_name("catalogue.json")

# The last word of an argument's name tells what a plain text, or a nested component, in it names.
_IMPLIED = {
    "activation": "activation",
    "cell": "layer",
    "cells": "layer",
    "constraint": "constraint",
    "initializer": "initializer",
    "layer": "layer",
    "layers": "layer",
    "optimizer": "optimizer",
    "output": "activation",
    "regularizer": "regularizer",
}
_NAMED_BY_TEXT = ("activation", "constraint", "initializer", "regularizer")

_NEEDED = object()  # the default of an argument that has none


def canonical(kind: str, name: str, args: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the canonical name and arguments of a component; `args` are plain JSON values.

    Raises:
        SuiteError: for an unknown name or argument, a missing argument, or a value of the wrong kind.
    """
    if kind == "dataset":
        return name, args  # checked by harness.datasets, which knows them
    if name == "function":
        return name, _own_function(kind, args)
    own = _OWN.get(kind, {})
    if name in own:
        return name, _check_own(kind, name, args)
    home = "application" if kind == "model" else kind
    canonical_name = _names(home).get(folded(name)) if home in _kinds() else None
    if canonical_name is None:
        raise SuiteError(_unknown(kind, name))
    letters: dict[str, str] = _kinds()[home][canonical_name]["args"]
    where = f"{kind} {canonical_name!r}"
    _check_names(where, args, letters, [key for key, letter in letters.items() if letter == "!"])
    return canonical_name, {key: _value(where, key, value, letters[key]) for key, value in args.items()}


def names(kind: str) -> list[str]:
    """Return the canonical names of this kind, the harness's own first."""
    home = "application" if kind == "model" else kind
    return [*sorted(_OWN.get(kind, {})), *sorted(_kinds().get(home, {}))]


def keras_name(kind: str, name: str) -> str:
    """Return the attribute of Keras's module for this kind that builds the component: ``"SGD"`` for ``"sgd"``."""
    return str(_kinds()["application" if kind == "model" else kind][name]["keras"])


def arguments(kind: str, name: str) -> list[str]:
    """Return the names of the arguments that this component takes; none for an unknown one."""
    if name in _OWN.get(kind, {}):
        return list(_OWN[kind][name])
    home = _kinds().get("application" if kind == "model" else kind, {})
    return list(home.get(name, {"args": {}})["args"])


@cache
def all_arguments(kind: str) -> frozenset[str]:
    """Return every argument that some component of this kind takes."""
    return frozenset(argument for name in names(kind) for argument in arguments(kind, name))


def folded(name: str) -> str:
    """Return `name` without case and underscores: what two spellings of one name share."""
    return name.lower().replace("_", "")


@cache
def _kinds() -> dict[str, dict[str, dict[str, Any]]]:
    kinds: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["kinds"]
    return kinds


@cache
def _names(kind: str) -> dict[str, str]:
    """Return every accepted spelling, folded, and the canonical name it stands for."""
    entries = _kinds()[kind]
    found = {folded(alias): name for name, entry in entries.items() for alias in entry.get("aliases", ())}
    return found | {folded(name): name for name in entries}


def _unknown(kind: str, name: str) -> str:
    right = names(kind)
    if not right:
        return f"unknown kind of component {kind!r}; known kinds: {known({*_OWN, *_kinds()})}"
    by_fold = _names("application" if kind == "model" else kind) if kind in _kinds() or kind == "model" else {}
    by_fold = {**by_fold, **{folded(key): key for key in _OWN.get(kind, {})}}
    close = list(dict.fromkeys(by_fold[key] for key in difflib.get_close_matches(folded(name), by_fold, n=3)))
    if close:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(map(repr, close))}?"
    return f"unknown {kind} {name!r}; known {kind} names: {', '.join(right)}"


def _check_names(where: str, args: dict[str, Any], right: Collection[str], needed: Collection[str]) -> None:
    for key in args:
        if key not in right:
            close = difflib.get_close_matches(key, right, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            takes = f"its arguments are: {', '.join(right)}" if right else "it takes none"
            raise SuiteError(f"{where} has no argument {key!r}; {hint}{takes}")
    missing = [key for key in needed if key not in args]
    if missing:
        raise SuiteError(f"{where} needs {' and '.join(missing)}")


def _value(where: str, key: str, value: Any, letter: str = "?") -> Any:
    """Return an argument's value with the names in it made canonical, if it is of a kind that Keras can take."""
    implied = "schedule" if key == "learning_rate" else _IMPLIED.get(key.rpartition("_")[2])
    if isinstance(value, dict):
        return _nested(where, key, value, implied)
    if isinstance(value, list):
        return [_value(where, key, item) if isinstance(item, dict | list) else item for item in value]
    if isinstance(value, str) and implied in _NAMED_BY_TEXT:
        return _within(where, key, canonical, implied, value, {})[0]
    if value is None:
        return value
    if implied in _NAMED_BY_TEXT:
        raise SuiteError(f"{where}, argument {key!r}: expected {a(implied)} by its name, got {value!r}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if letter == "b" and not isinstance(value, bool):
        raise SuiteError(f"{where}, argument {key!r}: expected true or false, got {value!r}")
    if letter == "n" and not number:
        raise SuiteError(f"{where}, argument {key!r}: expected a number, got {value!r}")
    if letter == "s" and number:
        raise SuiteError(f"{where}, argument {key!r}: expected a text, got {value!r}")
    if key in ("units", "filters") and not (number and value == int(value) and value >= 1):
        raise SuiteError(f"{where}, argument {key!r}: expected a whole number from 1, got {value!r}")
    return value


def _nested(where: str, key: str, value: dict[str, Any], implied: str | None) -> Any:
    """Return a component inside an argument, as canonical text where a name is all of it."""
    kind, name = value.get("kind", implied), value.get("name")
    if kind is None or not isinstance(name, str):
        return value  # an ordinary mapping
    if implied not in (None, kind) and kind not in ("function", "layer"):
        raise SuiteError(f"{where}, argument {key!r}: expected {a(implied)}, got the {kind} {name!r}")
    args = {other: item for other, item in value.items() if other not in ("kind", "name")}
    name, args = _within(where, key, canonical, kind, name, args)
    if implied in _NAMED_BY_TEXT and kind == implied and not args:
        return name
    return {"kind": kind, "name": name, **args}


def _within(where: str, key: str, check: Callable[..., Any], *values: Any) -> Any:
    try:
        return check(*values)
    except SuiteError as error:
        raise SuiteError(f"{where}, argument {key!r}: {error}") from None


def _own_function(kind: str, args: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(args.get("function"), str) or not isinstance(args.get("sha256"), str):
        raise SuiteError(f"{a(kind)} of one's own is given as the function itself or as function(it, ...)")
    return args


# The harness's own components: what each argument is, and its default. -------------------------------------


def _whole(low: int) -> Callable[[Any], str | None]:
    return lambda value: (
        None
        if isinstance(value, int) and not isinstance(value, bool) and value >= low
        else f"a whole number from {low}"
    )


def _optional(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda value: None if value is None else check(value)


def _between(low: float, high: float, *, closed: bool) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and low <= value < high and (closed or value > low):
            return None
        return f"a number {'from' if closed else 'above'} {low} and below {high}"

    return check


def _widths(value: Any) -> str | None:
    fits = isinstance(value, list) and all(_whole(1)(item) is None for item in value)
    return None if fits else "a whole number from 1, or a list of them"


def _one_of(*values: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in values else "one of " + ", ".join(map(repr, values))


def _layers(value: Any) -> str | None:
    fits = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    return None if fits else "one or more layers, such as layer('Dense', units=10)"


def _anything(value: Any) -> None:
    return None


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_from(low: float) -> Callable[[Any], str | None]:
    return lambda value: None if _is_number(value) and value >= low else f"a number from {low:g}"


def _numbers(value: Any) -> str | None:
    return None if isinstance(value, list) and value and all(map(_is_number, value)) else "a list of numbers"


def _bounds(value: Any) -> str | None:
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) and pair[0] < pair[1] for pair in value
    )
    return None if pairs else "a [low, high] for each coordinate"


def _words(value: Any) -> str | None:
    fits = isinstance(value, list) and value and all(isinstance(word, str) for word in value) and value[0].strip()
    return None if fits else "the words of a command, such as 'python train.py --batch {batch_size}'"


_Check = Callable[[Any], str | None]
_OWN: dict[str, dict[str, dict[str, tuple[Any, _Check]]]] = {
    "model": {
        "mlp": {
            "hidden": (_NEEDED, _widths),
            "activation": ("relu", _anything),
            "output": ("softmax", _anything),
            "dropout": (0, _between(0, 1, closed=True)),
            "kernel_initializer": ("glorot_uniform", _anything),
            "kernel_regularizer": (None, _anything),
        },
        "sequential": {"layers": (_NEEDED, _layers)},
    },
    "held_out": {
        "test": {"take": (None, _optional(_whole(1)))},
        "tail": {"fraction": (_NEEDED, _between(0, 1, closed=False))},
        "fold": {
            "k": (_NEEDED, _whole(0)),
            "of": (_NEEDED, _whole(2)),
            "how": ("contiguous", _one_of("contiguous", "shuffled", "stratified")),
            "seed": (None, _optional(_whole(0))),
        },
    },
    "early_stopping": {
        "early_stopping": {
            "metric": ("val_loss", _text),
            "patience": (0, _whole(0)),
            "min_delta": (0, _number_from(0)),
            "best_weights": (False, _flag),
        },
    },
    # On probabilities clipped to 1e-7 from 0 and 1; Keras's names stand for the logits behind a softmax or sigmoid.
    "loss": {
        "clipped_binary_crossentropy": {"label_smoothing": (0, _between(0, 1, closed=True))},
        "clipped_categorical_crossentropy": {"label_smoothing": (0, _between(0, 1, closed=True))},
        "clipped_sparse_categorical_crossentropy": {},
    },
    "workload": {
        "training": {},
        "program": {"command": (_NEEDED, _words), "sha256": (None, _optional(_text))},
        "minimise": {
            "problem": (_NEEDED, _one_of("beale", "himmelblau", "rastrigin", "rosenbrock")),
            "start": (_NEEDED, _numbers),
            "method": (None, _optional(_text)),
            "optimizer": (None, _anything),
            "bounds": (None, _optional(_bounds)),
        },
    },
}
_STATED = ("mlp", "early_stopping")  # states all its arguments, so that each is an axis and a column


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise SuiteError(f"program: {command!r} cannot be split into words: {error}") from None


def _completed(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with the short forms that some components take written out."""
    if name == "mlp" and not isinstance(args["hidden"], list):
        return args | {"hidden": [args["hidden"]]}
    if name == "sequential" and isinstance(args["layers"], list):
        layers = [{"kind": "layer", "name": item} if isinstance(item, str) else item for item in args["layers"]]
        return args | {"layers": layers}
    if name == "program" and isinstance(args["command"], list | str):
        words = args["command"] if isinstance(args["command"], list) else [args["command"]]
        return args | {"command": _split(words[0]) if len(words) == 1 and isinstance(words[0], str) else words}
    if name == "minimise" and args.get("optimizer") is None:
        return args | {"method": args.get("method") or "L-BFGS-B"}
    if name == "minimise" and isinstance(args["optimizer"], str):
        return args | {"optimizer": {"kind": "optimizer", "name": args["optimizer"]}}
    return args


def _check_own(kind: str, name: str, args: dict[str, Any]) -> dict[str, Any]:
    spec = _OWN[kind][name]
    where = f"{kind} {name!r}"
    _check_names(where, args, spec, [key for key, (default, _) in spec.items() if default is _NEEDED])
    args = _completed(name, args)
    for key, value in args.items():
        right = spec[key][1](value)
        if right is not None:
            raise SuiteError(f"{where}, argument {key!r}: expected {right}, got {value!r}")
    if name == "fold" and args["k"] >= args["of"]:
        raise SuiteError(f"{where}: k counts from 0 to {args['of'] - 1} when of={args['of']}, got {args['k']}")
    if name == "minimise" and args.get("method") is not None and args.get("optimizer") is not None:
        raise SuiteError(f"{where}: either method, one of SciPy's, or optimizer, one of Keras's; not both")
    if name == "fold" and args.get("how") == "shuffled" and args.get("seed") == 0:
        args = {key: value for key, value in args.items() if key != "seed"}  # what it shuffles by, unless told
    if kind == "held_out":
        args = {key: value for key, value in args.items() if value != spec[key][0]}
    stated = {key: default for key, (default, _) in spec.items()} if name in _STATED else {}
    return {key: _value(where, key, value) for key, value in (stated | args).items()}
