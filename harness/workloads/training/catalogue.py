"""Write `harness/domain/catalogue.json` from the installed Keras: names, aliases and arguments of all it has.

Run as ``python -m harness.workloads.training.catalogue``. The declarations are checked against that file, so
that neither a suite nor ``harness plan`` needs to import Keras.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras
from keras.src.utils.naming import to_snake_case

from harness.domain.catalogue import FILE, folded

# What needs objects that no plain text stands for, or is not meant to be built.
_LEFT_OUT = frozenset(
    ("FlaxLayer", "JaxLayer", "MeanMetricWrapper", "MultiOptimizer", "TFSMLayer", "TorchModuleWrapper", "Wrapper")
)

# Arguments that the harness sets itself, by kind.
_OURS = {"application": {"weights", "input_shape", "input_tensor", "classes", "include_top"}}


def generate() -> str:
    """Return the catalogue as JSON text: ``{"keras": version, "kinds": {kind: {name: entry}}}``.

    An entry holds `keras` (the public name in Keras's module), `args` (argument to a letter: "!" required,
    "n" number, "b" true or false, "s" text, "?" anything) and, where there are any, `aliases`.
    """
    kinds = {
        "activation": dict(_activations()),
        "application": dict(_applications()),
        "constraint": dict(_classes(keras.constraints, keras.constraints.Constraint, name=to_snake_case)),
        "initializer": dict(_classes(keras.initializers, keras.initializers.Initializer, name=to_snake_case)),
        "layer": dict(_classes(keras.layers, keras.layers.Layer, name=str)),
        "loss": dict(_classes(keras.losses, keras.losses.Loss, name=to_snake_case)),
        "metric": dict(_classes(keras.metrics, keras.metrics.Metric, name=to_snake_case)),
        "optimizer": dict(_classes(keras.optimizers, keras.optimizers.Optimizer, name=str.lower)),
        "regularizer": dict(_classes(keras.regularizers, keras.regularizers.Regularizer, name=to_snake_case)),
        "schedule": dict(
            _classes(keras.optimizers.schedules, keras.optimizers.schedules.LearningRateSchedule, name=str)
        ),
    }
    return json.dumps({"keras": keras.__version__, "kinds": kinds}, indent=0) + "\n"


def _classes(module: Any, base: type, *, name: Callable[[str], str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the canonical name and the entry of each class of `module` that derives from `base`."""
    public = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    found = sorted(
        {value for value in public.values() if inspect.isclass(value) and issubclass(value, base)} - {base},
        key=lambda cls: cls.__name__,
    )
    for cls in found:
        if cls.__name__ in _LEFT_OUT:
            continue
        public_name = cls.__name__ if cls.__name__ in public else min(key for key in public if public[key] is cls)
        canonical = name(public_name)
        yield (
            canonical,
            _entry(
                keras=public_name,
                args=_arguments(cls),
                aliases=_aliases(module, base, canonical, {cls, public.get(canonical, cls)}, public),
            ),
        )


def _aliases(module: Any, base: type, canonical: str, objects: set[Any], public: dict[str, Any]) -> list[str]:
    """Return the other names that Keras has for `objects`, but for those that differ by case and underscores alone."""
    by_name = dict(public)
    home = sys.modules[base.__module__.rpartition(".")[0]]
    by_name.update(getattr(home, "ALL_OBJECTS_DICT", {}))  # the short names that keras.<module>.get() takes
    own = {key for key, value in by_name.items() if inspect.isroutine(value) or inspect.isclass(value)}
    names = {key for key in own if by_name[key] in objects and folded(key) != folded(canonical)}
    return sorted({key for key in names if key == min(k for k in names if folded(k) == folded(key))})


def _activations() -> Iterator[tuple[str, dict[str, Any]]]:
    from keras.src.activations import ALL_OBJECTS_DICT

    for function in sorted(set(ALL_OBJECTS_DICT.values()), key=lambda value: str(value.__name__)):
        aliases = [key for key, value in ALL_OBJECTS_DICT.items() if value is function and key != function.__name__]
        # A setting names an activation only; one with arguments is a layer, such as LeakyReLU.
        yield function.__name__, _entry(keras=function.__name__, args={}, aliases=sorted(aliases))


def _applications() -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in sorted(vars(keras.applications).items()):
        if inspect.isfunction(value):
            yield key, _entry(keras=key, args=_arguments(value, _OURS["application"]), aliases=[])


def _entry(*, keras: str, args: dict[str, str], aliases: list[str]) -> dict[str, Any]:
    return {"keras": keras, "args": args} | ({"aliases": aliases} if aliases else {})


def _arguments(callable_: Any, ours: Collection[str] = ()) -> dict[str, str]:
    """Return each argument's letter (see `generate`), those that a layer passes to its base included."""
    parameters = list(inspect.signature(callable_).parameters.values())
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if passes_on and inspect.isclass(callable_) and issubclass(callable_, keras.layers.Layer):
        own = {parameter.name for parameter in parameters}
        base = inspect.signature(keras.layers.Layer.__init__).parameters
        parameters += [base[name] for name in base if name not in own and name != "self"]
    return {
        parameter.name: _letter(parameter.default)
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name != "name"
        and parameter.name not in ours
    }


def _letter(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "!"
    for letter, types in (("b", bool), ("n", int | float), ("s", str)):
        if isinstance(default, types):
            return letter
    return "?"


if __name__ == "__main__":
    FILE.write_text(generate(), encoding="utf-8")
    print(f"wrote {FILE}: Keras {keras.__version__}")
