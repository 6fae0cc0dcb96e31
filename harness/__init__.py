"""A batch benchmark harness for training workloads: what a suite author and an analyst need.

Each name is loaded when it is first asked for, so that ``import harness`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.domain.component import function
    from harness.domain.errors import HarnessError, SuiteError
    from harness.domain.grid import cases, product, zipped
    from harness.domain.handy import (
        adam,
        alike,
        application,
        auto,
        data_file,
        dataset,
        direction,
        early_stopping,
        fold,
        initializer,
        layer,
        learning_rate,
        loss,
        metric,
        minimise,
        mlp,
        optimizer,
        program,
        reference,
        regularizer,
        rmsprop,
        sequential,
        sgd,
        tail,
        test,
    )
    from harness.domain.setting import Setting
    from harness.domain.suite import Suite, reach
    from harness.record.reading import load as load

__version__ = "0.1.0"

# `load` is left out: it brings PyArrow and pandas, which `from harness import *` in a suite has no use for.
__all__ = [
    "HarnessError",
    "Setting",
    "Suite",
    "SuiteError",
    "adam",
    "alike",
    "application",
    "auto",
    "cases",
    "data_file",
    "dataset",
    "direction",
    "early_stopping",
    "fold",
    "function",
    "initializer",
    "layer",
    "learning_rate",
    "loss",
    "metric",
    "minimise",
    "mlp",
    "optimizer",
    "product",
    "program",
    "reach",
    "reference",
    "regularizer",
    "rmsprop",
    "sequential",
    "sgd",
    "tail",
    "test",
    "zipped",
]

_HOMES = {
    "HarnessError": "harness.domain.errors",
    "Setting": "harness.domain.setting",
    "Suite": "harness.domain.suite",
    "SuiteError": "harness.domain.errors",
    "cases": "harness.domain.grid",
    "load": "harness.record.reading",
    "product": "harness.domain.grid",
    "reach": "harness.domain.suite",
    "zipped": "harness.domain.grid",
}  # the rest are the handy functions


def __getattr__(name: str) -> Any:
    if name not in __all__ and name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "harness.domain.handy")), name)
    globals()[name] = value
    return value
