"""Recorded rows → tables: pure functions of data frames with the columns of docs/results.md.

What an analyst calls, as ``from harness.analyse import time_to_accuracy``; each is loaded when it is first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analyse.compare import compare, figures
    from harness.analyse.conclude import conclude
    from harness.analyse.curves import curves
    from harness.analyse.described import described, select
    from harness.analyse.discard import discard
    from harness.analyse.drift import drift
    from harness.analyse.effects import effects, levels
    from harness.analyse.energy import energy
    from harness.analyse.front import epoch_front, front
    from harness.analyse.gap import gaps, generalisation_gap
    from harness.analyse.hardware import epoch_seconds
    from harness.analyse.label import label
    from harness.analyse.match import match
    from harness.analyse.profiles import performance_profile, profile_scores, solver_costs
    from harness.analyse.runs import runs_apart
    from harness.analyse.scaling import node_scaling, scaling
    from harness.analyse.summarise import summarise
    from harness.analyse.target import time_to_accuracy, time_to_target
    from harness.analyse.throughput import throughput

_HOMES = {
    "summarise": "summarise",
    "time_to_target": "target",
    "time_to_accuracy": "target",
    "curves": "curves",
    "front": "front",
    "epoch_front": "front",
    "epoch_seconds": "hardware",
    "throughput": "throughput",
    "gaps": "gap",
    "generalisation_gap": "gap",
    "energy": "energy",
    "effects": "effects",
    "levels": "effects",
    "scaling": "scaling",
    "node_scaling": "scaling",
    "performance_profile": "profiles",
    "profile_scores": "profiles",
    "solver_costs": "profiles",
    "figures": "compare",
    "compare": "compare",
    "match": "match",
    "runs_apart": "runs",
    "conclude": "conclude",
    "drift": "drift",
    "described": "described",
    "select": "described",
    "discard": "discard",
    "label": "label",
}

__all__ = [
    "summarise",
    "time_to_target",
    "time_to_accuracy",
    "curves",
    "front",
    "epoch_front",
    "epoch_seconds",
    "throughput",
    "gaps",
    "generalisation_gap",
    "energy",
    "effects",
    "levels",
    "scaling",
    "node_scaling",
    "performance_profile",
    "profile_scores",
    "solver_costs",
    "figures",
    "compare",
    "match",
    "runs_apart",
    "conclude",
    "drift",
    "described",
    "select",
    "discard",
    "label",
]


class _Package(ModuleType):
    """A package in which a function stands before the module of the same name that it lives in.

    Python sets a module as an attribute of its package once it is loaded, so that without this ``front`` would be the
    function or the module, whichever was asked for first. ``from harness.analyse.front import …`` finds the module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(value, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
