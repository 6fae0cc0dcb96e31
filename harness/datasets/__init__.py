"""A dataset's name and options → arrays.

Importing this package costs milliseconds: `check` and `facts` need no data and no NumPy, and `load`, which needs
both, is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.datasets.catalogue import Facts, check, facts

if TYPE_CHECKING:
    from harness.datasets.arrays import Arrays, load

__all__ = ["Arrays", "Facts", "check", "facts", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Arrays", "load"):
        from harness.datasets import arrays

        return getattr(arrays, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
