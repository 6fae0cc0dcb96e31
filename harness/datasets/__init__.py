"""A dataset's name and options → arrays.

Importing this package costs milliseconds: `check` and `facts` need no data and no NumPy; `load` and
`rows`, which need both, are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.datasets.catalogue import Facts, check, facts

if TYPE_CHECKING:
    from harness.datasets.arrays import Arrays, load
    from harness.datasets.further import Rows, rows
    from harness.datasets.preparation import Preparation

__all__ = ["Arrays", "Facts", "Preparation", "Rows", "check", "facts", "load", "rows"]

_HOMES = {"Arrays": "arrays", "load": "arrays", "Preparation": "preparation", "Rows": "further", "rows": "further"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"harness.datasets.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
